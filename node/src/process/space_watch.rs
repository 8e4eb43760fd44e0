//! Looks at the space on the disk once a second: corrects the size of the reserve file, tells the driver, updates the
//! metrics, and logs for the person on call what changed. Decides nothing: the driver decides what is refused, and this
//! module logs it once.

use crate::disk::reserve::Space;
use crate::handle::Node;
use crate::raft_node::Input;
use raftkv_core::driver::{DriverStatus, Event, Role};
use raftkv_core::space::{Level, OwnSpace, mib};
use tokio::task::JoinHandle;

/// What was logged last.
pub struct SpaceWatch {
    level: Level,
    refuses: bool,
    not_known: bool,
    /// The newest attempt to make another voter lead, while there is a reason for one.
    attempt: Option<JoinHandle<()>>,
}

impl SpaceWatch {
    /// Nothing was logged yet; there is plenty of space until the first look.
    pub fn new() -> SpaceWatch {
        SpaceWatch { level: Level::Plenty, refuses: false, not_known: false, attempt: None }
    }

    /// Looks at the space and reports it.
    pub async fn look(&mut self, node: &Node) {
        let published = node.shared().published();
        let is_member = published.driver.is_some();
        let shared = node.shared().clone();
        // This may block: where the file system cannot promise space, the reserve file is written.
        let looked = tokio::task::spawn_blocking(move || shared.space.look(is_member)).await;
        match looked.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(space) => {
                self.not_known = false;
                self.tell_level(space);
            }
            Err(error) if !self.not_known => {
                self.not_known = true;
                tracing::warn!(%error, dir = %node.config().data_dir.display(), "the space on the disk is not known");
            }
            Err(_) => {}
        }
        let own = own_space(node);
        keep_metrics(node, &own);
        self.hand_over(node, published.driver.as_ref());
        node.shared().send(Input::Event(Event::Space { own }));
        self.tell_refusals(published.driver.as_ref());
    }

    fn tell_level(&mut self, Space { free_bytes, room, .. }: Space) {
        let level = room.level();
        let before = std::mem::replace(&mut self.level, level);
        if level == before {
            return;
        }
        let (free, reserve_file) = (mib(free_bytes), mib(room.headroom_bytes - free_bytes));
        match level {
            Level::Plenty => tracing::info!(free, reserve_file, "there is space again"),
            Level::NoPuts | Level::Nothing => {
                tracing::error!(free, reserve_file, "this node is short of space: {}; enlarge it", room.words());
            }
        }
    }

    /// Logs when this node, as the leader, begins or stops refusing puts for the whole cluster.
    fn tell_refusals(&mut self, driver: Option<&DriverStatus>) {
        let why = driver.filter(|driver| driver.role == Role::Leader).and_then(|driver| driver.no_space.as_ref());
        if why.is_some() != self.refuses {
            self.refuses = why.is_some();
            match why {
                Some(why) => tracing::error!(why, "this leader refuses puts (507 no_space)"),
                None => tracing::info!("this node refuses no puts for lack of space"),
            }
        }
    }

    /// A leader that cannot write, or refuses puts for which a quorum has room, hands over to a voter that can. Only
    /// the first attempt is logged if it fails.
    fn hand_over(&mut self, node: &Node, driver: Option<&DriverStatus>) {
        if !driver.is_some_and(|driver| driver.should_hand_over) {
            self.attempt = None;
            return;
        }
        if self.attempt.as_ref().is_some_and(|attempt| !attempt.is_finished()) {
            return;
        }
        let is_first = self.attempt.is_none();
        let node = node.clone();
        self.attempt = Some(tokio::spawn(async move {
            match node.transfer(None).await {
                Ok(leader) => tracing::info!(leader, "leadership handed over: this node is short of space"),
                Err(e) if is_first => {
                    tracing::warn!(error = %e, "this leader is short of space, and no other voter takes over yet");
                }
                Err(_) => {}
            }
        }));
    }
}

impl Default for SpaceWatch {
    fn default() -> SpaceWatch {
        SpaceWatch::new()
    }
}

fn own_space(node: &Node) -> OwnSpace {
    let quota = node.config().quota_bytes;
    let db_bytes = node.shared().view().map_or(0, |view| view.disk_bytes() + view.index_bytes());
    let over_quota = (db_bytes > quota)
        .then(|| format!("the database has {db_bytes} bytes, over --quota {quota}; deletes and compaction still work"));
    OwnSpace { room: node.shared().space.seen().room, over_quota, stuck: node.shared().space.who_waits() }
}

fn keep_metrics(node: &Node, own: &OwnSpace) {
    let metrics = &node.shared().metrics;
    metrics.volume_free_bytes.set(node.shared().space.seen().free_bytes as i64);
    metrics.volume_headroom_bytes.set(own.room.headroom_bytes as i64);
    metrics.volume_reserve_bytes.set(own.room.reserve_bytes as i64);
    metrics.full_disk.set(i64::from(own.stuck.is_some()));
}

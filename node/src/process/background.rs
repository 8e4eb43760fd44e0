//! What a node does once a second: it reports to its peers, looks at its space, reads linearizably, updates metrics,
//! and proposes compactions of old revisions while it leads. After news (a new leader, another membership, a proved
//! store) it reports and reads at once, so that nobody who waits for this node to be ready has to wait for the next
//! round.

use crate::handle::{Node, judged};
use crate::process::space_watch::SpaceWatch;
use crate::transport::Transport;
use raftkv_core::driver::Role;
use raftkv_core::kvstore::Command;
use raftkv_core::refusal::Refusal;
use raftkv_core::types::Revision;
use raftkv_core::wire::{Frame, Report};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Time between two rounds.
const ROUND_MS: u64 = 1_000;
/// Shortest time between two reactions to news, so that elections in a row do not cause more traffic than this.
const NEWS_PAUSE_MS: u64 = 20;
/// Shortest time between two compactions; this much more history than the retention may be kept.
const COMPACT_EVERY: Duration = Duration::from_secs(10);

/// Runs for ever.
pub async fn run(node: Node, transport: Transport) {
    let mut rounds = interval(Duration::from_millis(ROUND_MS));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut history = History::default();
    let mut misplaced = None;
    let mut space = SpaceWatch::new();
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = node.shared().news() => {
                report(&node, &transport);
                read(&node);
                tokio::time::sleep(Duration::from_millis(NEWS_PAUSE_MS)).await;
                continue;
            }
        }
        space.look(&node).await;
        report(&node, &transport);
        keep_metrics(&node);
        read(&node);
        tell_misplaced(&node, &mut misplaced);
        if let Some(revision) = history.due(&node) {
            compact(&node, revision).await;
        }
    }
}

/// Reads in a task of its own: without a leader the read waits for its timeout, and the round must go on.
fn read(node: &Node) {
    let reader = node.clone();
    tokio::spawn(async move {
        if reader.read_barrier().await.is_ok() {
            reader.shared().read_succeeded();
        }
    });
}

/// Logs each thing that is wrong once.
fn tell_misplaced(node: &Node, told: &mut Option<String>) {
    let now = node.misplaced();
    if let Some(why) = now.as_ref().filter(|_| now != *told) {
        tracing::error!(why, "this node was started with another name or URL than the members know");
    }
    *told = now;
}

fn report(node: &Node, transport: &Transport) {
    let published = node.shared().published();
    let Some(driver) = &published.driver else { return };
    let (seen, waits_for_space) = (node.shared().space.seen(), node.shared().space.who_waits().is_some());
    let report = Report {
        applied: node.shared().view().map_or(0, |view| view.applied()),
        durable_conf_index: driver.durable_conf_index,
        commit: driver.commit,
        free_bytes: seen.free_bytes,
        // A node that is about to end, or cannot write, must not be handed leadership.
        can_lead: driver.can_lead && !node.shared().stopping.load(Ordering::Relaxed) && !waits_for_space,
        headroom_bytes: seen.room.headroom_bytes,
        reserve_bytes: seen.room.reserve_bytes,
        stalled_ms: driver.sync_ms,
        volume_bytes: seen.volume_bytes,
    };
    for id in driver.membership.members.keys().filter(|id| **id != driver.id) {
        // After a lost report the next one follows in a second.
        let _lost = transport.send(*id, Frame::Report(report));
    }
}

fn keep_metrics(node: &Node) {
    let (shared, metrics) = (node.shared(), &node.shared().metrics);
    let status = node.status();
    metrics.set_state(status.state);
    metrics.has_leader.set(i64::from(status.leader_id.is_some()));
    metrics.is_leader.set(i64::from(status.leader_id.is_some() && status.leader_id == status.member_id));
    let judgement = judged(&status);
    metrics.can_write.set(i64::from(judgement.can_write.is_yes()));
    metrics.can_read.set(i64::from(judgement.can_read.is_yes()));
    metrics.proposals_committed_total.set(status.commit as i64);
    metrics.proposals_applied_total.set(status.applied as i64);
    metrics.proposals_pending.set(shared.proposals.count() as i64);
    metrics.log_sync_running_milliseconds.set(shared.log_sync_ms() as i64);
    metrics.db_total_size_bytes.set(status.db_bytes as i64);
    metrics.revision.set(status.revision as i64);
    metrics.compacted_revision.set(status.compacted_revision as i64);
    metrics.snapshot_index.set(status.snapshot_index as i64);
    if let Some(view) = shared.view() {
        metrics.db_index_bytes.set(view.index_bytes() as i64);
        metrics.keys.set(view.keys() as i64);
    }
}

/// Revisions by the time at which they were the newest, so that the leader knows which are old enough.
#[derive(Default)]
struct History {
    samples: VecDeque<(Instant, Revision)>,
    last: Option<Instant>,
}

impl History {
    /// The revision to compact, if the retention asks for it and this node leads.
    fn due(&mut self, node: &Node) -> Option<Revision> {
        let retention = node.config().compact_retention?;
        let now = Instant::now();
        let view = node.shared().view()?;
        self.samples.push_back((now, view.revision()));
        let recently = self.last.is_some_and(|last| now - last < COMPACT_EVERY.min(retention));
        let leads = node.shared().published().driver.as_ref().is_some_and(|driver| driver.role == Role::Leader);
        let mut old = None;
        while let Some((_, revision)) = self.samples.pop_front_if(|(at, _)| now - *at >= retention) {
            old = Some(revision);
        }
        let revision = old.filter(|revision| *revision > view.compacted())?;
        if recently || !leads {
            // Put back for the next round.
            self.samples.push_front((now.checked_sub(retention)?, revision));
            return None;
        }
        self.last = Some(now);
        Some(revision)
    }
}

async fn compact(node: &Node, revision: Revision) {
    match node.propose(Command::Compact { revision }).await {
        Ok(_) => tracing::info!(revision, "compacted"),
        // A cluster that is still forming is no reason for a warning every few seconds.
        Err(Refusal::Forming { .. }) => tracing::debug!(revision, "a compaction waits for the cluster to form"),
        Err(e) => tracing::warn!(revision, error = %e, "a compaction failed; it will be tried again"),
    }
}

//! From a directory to a running member: the opening order of rule N8, and the steps of init and join (rule N7).
//!
//! Enters: an identity and a data directory. Leaves: a driver and what the apply thread has to do first, or an
//! [`OpenError`]. It must never set aside a kv db that is ahead of the log, since this proves that the log lost data.
//!
//! Shared by the process and the simulator: everything is reached through [`LogDisk`] and [`KvHome`].

use crate::driver::{Driver, DriverConfig, Start};
use crate::identity::{self, Identity};
use crate::kvstore::{self, Claim, Store, StoreError};
use crate::log::{self, Batch, Log, LogConfig, LogError, Mark, Replayed};
use crate::membership::{Member, Membership};
use crate::ports::KvHome;
use crate::ports::LogDisk;
use crate::snapshot::{self, SnapshotMeta};
use crate::space;
use crate::types::{Index, MemberIdentity};
use raft::prelude::HardState;
use std::io;
use std::sync::Arc;

/// The file that names the kv db in use; replaced by rename.
pub const CURRENT: &str = "CURRENT";
const CURRENT_TMP: &str = "CURRENT.tmp";

/// Why a member cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node lives on as Quarantined (rules N2, N8): it serves admin and health calls only.
    #[error("quarantined: {0}")]
    Quarantined(String),
    /// The kv db must be set aside by a new process, since a thread of this one still uses its path.
    #[error("{0}")]
    KvStuck(String),
    /// The process must stop; the message says what to do.
    #[error("{0}")]
    Stop(String),
    /// The log is damaged, of a newer format, or could not be read: raft must not start.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The disk failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A snapshot could not be read.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What the apply thread has to do before it may apply.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug, PartialEq)]
pub enum KvPlan {
    /// Open the database of this name, prove it, and check that it still claims this applied index, from which the
    /// driver starts. If that fails, set it aside and restart the process.
    Prove { name: String, applied: Index },
    /// Build a new database from this snapshot, then switch CURRENT to it.
    Rebuild { meta: Box<SnapshotMeta> },
    /// There is nothing to apply before a leader's snapshot is installed.
    Absent,
}

/// A member, ready to run.
pub struct Opened {
    /// The driver, with its log.
    pub driver: Driver,
    /// What the apply thread starts with.
    pub kv: KvPlan,
    /// Applied index that the driver starts from.
    pub applied: Index,
}

/// Sizes and the pinned election timeouts.
#[derive(Clone, Debug)]
pub struct OpenConfig {
    /// The log's sizes.
    pub log: LogConfig,
    /// The driver's settings.
    pub driver: DriverConfig,
}

/// Rule N8: newest valid snapshot -> WAL replay -> the kv db's claim -> N2's checks -> the driver. `progress` gets a
/// text for people, and how much is done and in all: "reading the log", done, total.
pub fn open_member(
    identity: &MemberIdentity,
    disk: Arc<dyn LogDisk>,
    home: &dyn KvHome,
    config: &OpenConfig,
    logger: &slog::Logger,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Opened, OpenError> {
    let (files, corrupt) = snapshot::list(&*disk, identity)?;
    for file in &corrupt {
        tracing::error!(
            file,
            "this snapshot does not validate and is not used; an older one, or a member's, replaces it"
        );
    }
    let mut on_log = |done, total| progress("reading the log", done, total);
    let Some(replayed) = Log::replay(config.log, disk.clone(), &mut on_log)? else {
        return Err(OpenError::Quarantined(
            "the identity file names a member, but there is no log (wal-*)".to_string(),
        ));
    };
    let Replayed { mut log, hard_state, identity: in_log, repairs, .. } = replayed;
    if in_log != *identity {
        return Err(OpenError::Quarantined(format!("identity says {identity:?}, the log says {in_log:?}")));
    }
    // Nothing is changed before the log is read to its end: what another raftkv wrote is left as it is.
    snapshot::remove_temporary(&*disk)?;
    // What replay accepted may be in the page cache only, but raft counts all of it as persisted (rule N2).
    log::execute(&*disk, &repairs)?;
    let files = keep_files_of_this_log(&*disk, &log, files)?;
    check_log(&log, &hard_state, &files, &corrupt)?;
    forget_below_older(&mut log, &files, &*disk)?;
    let current = read_current(&*disk)?;
    let claim = match &current {
        Some(name) => read_claim(home, name)?,
        None => None,
    };
    let (applied, membership, kv) = choose_kv(&log, &files, current, claim)?;
    let hard_state = HardState { commit: hard_state.commit.max(applied), ..hard_state };
    let start = Start { identity: *identity, log, hard_state, applied, membership, snapshots: files };
    let driver = Driver::new(config.driver.clone(), start, logger).map_err(OpenError::Stop)?;
    Ok(Opened { driver, kv, applied })
}

/// Rule N14: a file that the log does not know was never installed; one below the log's base cannot be continued.
fn keep_files_of_this_log(
    disk: &dyn LogDisk,
    log: &Log,
    files: Vec<SnapshotMeta>,
) -> Result<Vec<SnapshotMeta>, OpenError> {
    let (keep, drop): (Vec<_>, Vec<_>) = files.into_iter().partition(|meta| log.term(meta.index) == Some(meta.term));
    for meta in &drop {
        tracing::info!(file = meta.file_name(), "removing a snapshot that the log does not know");
        disk.remove(&meta.file_name())?;
    }
    if !drop.is_empty() {
        disk.sync_dir()?;
    }
    Ok(keep)
}

/// Rule N2: the log holds everything that was ever acknowledged from it, or it cannot be trusted.
fn check_log(log: &Log, hard_state: &HardState, files: &[SnapshotMeta], corrupt: &[String]) -> Result<(), OpenError> {
    let (base, last) = (log.base().index, log.last_index());
    if hard_state.commit > last {
        return Err(OpenError::Quarantined(format!(
            "the log ends at {last}, but its commit index is {}: acknowledged entries are lost",
            hard_state.commit
        )));
    }
    if base > 0 && files.is_empty() {
        return Err(OpenError::Quarantined(format!(
            "the log begins behind index {base} and no valid snapshot covers it (not valid: {corrupt:?})"
        )));
    }
    Ok(())
}

/// The point of compaction is not written down: after a restart it is the older kept snapshot again.
fn forget_below_older(log: &mut Log, files: &[SnapshotMeta], disk: &dyn LogDisk) -> Result<(), OpenError> {
    if let Some(oldest) = files.get(1)
        && oldest.index > log.base().index
    {
        let ops = log.compact(Mark { index: oldest.index, term: oldest.term });
        log::execute(disk, &ops)?;
    }
    Ok(())
}

fn read_claim(home: &dyn KvHome, name: &str) -> Result<Option<Claim>, OpenError> {
    match home.open(name).and_then(|disk| kvstore::claim(&*disk)) {
        Ok(claim) => Ok(claim),
        // Opening a kv db takes space, and a new one would take more: this one is not at fault (rule N11).
        Err(e) if space::is_full(&e) => Err(e.into()),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(OpenError::KvStuck(e.to_string())),
        Err(e) => {
            // The kv db is a survivor, not a witness: what it cannot tell is in the snapshot and the log.
            tracing::warn!(kv = name, error = %e, "the kv db does not open; setting it aside");
            home.set_aside(name)?;
            Ok(None)
        }
    }
}

/// Applied index and membership to start from: the kv db's claim if the log holds it, else the newest snapshot's.
fn choose_kv(
    log: &Log,
    files: &[SnapshotMeta],
    current: Option<String>,
    claim: Option<Claim>,
) -> Result<(Index, Membership, KvPlan), OpenError> {
    let newest = files.first();
    let snapshot_index = newest.map_or(0, |meta| meta.index);
    if let (Some(claim), Some(name)) = (claim, current)
        && claim.applied >= snapshot_index
    {
        match log.term(claim.applied) {
            Some(term) if term == claim.term => {
                return Ok((claim.applied, claim.membership, KvPlan::Prove { name, applied: claim.applied }));
            }
            // sled ahead of the log is proof that the log lost data, never a reason to set sled aside.
            in_log => {
                return Err(OpenError::Quarantined(format!(
                    "the kv db has applied index {} of term {}, but the log ends at {} and has term {in_log:?} there: \
                     the log has lost acknowledged entries",
                    claim.applied,
                    claim.term,
                    log.last_index()
                )));
            }
        }
    }
    Ok(match newest {
        Some(meta) => (meta.index, meta.membership.clone(), KvPlan::Rebuild { meta: Box::new(meta.clone()) }),
        None => (0, Membership::default(), KvPlan::Absent),
    })
}

/// Carries out a [`KvPlan`], or the installation of a snapshot. Returns a proved store, or `None` for
/// [`KvPlan::Absent`]. After an error of `Prove`, set that database aside and start again.
pub fn open_kv(
    plan: &KvPlan,
    disk: &dyn LogDisk,
    home: &dyn KvHome,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Option<Store>, StoreError> {
    match plan {
        KvPlan::Absent => Ok(None),
        KvPlan::Prove { name, applied } => {
            let store = Store::open(home.open(name)?, &mut |done, total| progress("proving the kv db", done, total))?;
            let found = store.view().applied();
            if found != *applied {
                let what = format!("{name} claimed applied index {applied}, opened once more it has {found}");
                return Err(StoreError::Unproved(what));
            }
            remove_others(disk, home, name);
            Ok(Some(store))
        }
        KvPlan::Rebuild { meta } => {
            let name = format!("kv-{}", meta.index);
            let old = read_current(disk)?;
            home.remove(&name)?;
            let kv = home.open(&name)?;
            let installed =
                snapshot::install(disk, meta, kv, &mut |done, total| progress("rebuilding the kv db", done, total));
            let store = installed.inspect_err(|_| {
                // What was filled is of no use, and may hold the last space of the disk (rule N11). The first error
                // says more.
                let _stays = home.remove(&name);
            })?;
            write_current(disk, &name)?;
            match old {
                Some(old) if old != name => home.remove(&old)?,
                _ => {}
            }
            remove_others(disk, home, &name);
            Ok(Some(store))
        }
    }
}

/// Removes what an installation that was cut short before or after the switch of CURRENT left: nothing names it. What
/// cannot be removed costs only space, and is tried again at the next opening.
fn remove_others(disk: &dyn LogDisk, home: &dyn KvHome, in_use: &str) {
    let removed = disk.list().and_then(|names| {
        names.iter().filter(|name| *name != in_use && is_kv_name(name)).try_for_each(|name| home.remove(name))
    });
    if let Err(e) = removed {
        tracing::warn!(error = %e, "an old kv db can't be removed");
    }
}

/// Rule N8: moves a kv db that is not what it claims out of the way, so that the next start rebuilds it. A member that
/// has none yet was filling its first one, which the next start fills again.
pub fn set_kv_aside(disk: &dyn LogDisk, home: &dyn KvHome) -> io::Result<()> {
    match read_current(disk)? {
        Some(name) => home.set_aside(&name),
        None => Ok(()),
    }
}

fn is_kv_name(name: &str) -> bool {
    name.strip_prefix("kv-").is_some_and(|rest| rest.parse::<u64>().is_ok())
}

fn read_current(disk: &dyn LogDisk) -> io::Result<Option<String>> {
    if !disk.list()?.iter().any(|name| name == CURRENT) {
        return Ok(None);
    }
    let len = disk.len(CURRENT)?.min(64);
    let mut bytes = vec![0; len as usize];
    let read = disk.read(CURRENT, 0, &mut bytes)?;
    bytes.truncate(read);
    let name = String::from_utf8(bytes).ok();
    // Anything else was torn: then there is no claim, and the member starts from the snapshot.
    Ok(name.filter(|name| is_kv_name(name)))
}

fn write_current(disk: &dyn LogDisk, name: &str) -> io::Result<()> {
    disk.create(CURRENT_TMP, 0)?;
    disk.write(CURRENT_TMP, 0, name.as_bytes())?;
    disk.sync(CURRENT_TMP)?;
    disk.rename(CURRENT_TMP, CURRENT)?;
    disk.sync_dir()
}

/// Init, up to the identity: segment 1 with its header, snapshot 1-1, the mark batch, then identity Member; all
/// durable.
pub fn init(
    identity: &MemberIdentity,
    first: Member,
    min_voters: u32,
    disk: &Arc<dyn LogDisk>,
    config: LogConfig,
) -> Result<(), OpenError> {
    let (mut log, ops) = Log::create(config, *identity, disk.clone());
    log::execute(&**disk, &ops)?;
    snapshot::write_initial(&**disk, identity, &Membership::first(first, min_voters))?;
    let hard_state = HardState { term: 1, commit: 1, ..HardState::default() };
    let mark = Some(Mark { index: 1, term: 1 });
    let ops = log.append(Batch { mark, hard_state: Some(hard_state), ..Batch::default() });
    log::execute(&**disk, &ops)?;
    identity::write(&**disk, &Identity::Member(*identity))?;
    Ok(())
}

/// Join: segment 1 with its header durable, then identity Member; the first frame is answered after that.
pub fn join(identity: &MemberIdentity, disk: &Arc<dyn LogDisk>, config: LogConfig) -> Result<(), OpenError> {
    let (_log, ops) = Log::create(config, *identity, disk.clone());
    log::execute(&**disk, &ops)?;
    identity::write(&**disk, &Identity::Member(*identity))?;
    Ok(())
}

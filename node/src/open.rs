//! From a directory to a running member: the opening order of rule N8, and the steps of init and join (rule N7).
//!
//! Shared by the process and the simulator: everything is reached through [`LogDisk`] and [`KvHome`].

use crate::disk::LogDisk;
use crate::driver::{Driver, DriverConfig};
use crate::kvstore::{KvHome, Store, StoreError};
use crate::log::{LogConfig, LogError};
use crate::membership::Member;
use crate::snapshot::SnapshotMeta;
use crate::types::{Index, MemberIdentity};
use std::io;
use std::sync::Arc;

/// Why a member cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node lives on as Quarantined (rules N2, N8): admin and health only.
    #[error("quarantined: {0}")]
    Quarantined(String),
    /// The process must stop; the message says what to do.
    #[error("{0}")]
    Stop(String),
    /// The log is damaged: the process must stop.
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
#[derive(Clone, Debug, PartialEq)]
pub enum KvPlan {
    /// Open and prove the database of this name; failing that, set it aside and restart the process.
    Prove { name: String },
    /// Build a new database from this snapshot, then switch CURRENT to it.
    Rebuild { meta: Box<SnapshotMeta> },
}

/// A member, ready to run.
pub struct Opened {
    /// The brain, with its log.
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

/// Rule N8: newest valid snapshot -> WAL replay -> the kv db's claim -> N2's checks -> the driver.
/// `progress` gets words for people: "reading the log", done, total.
pub fn open_member(
    _identity: &MemberIdentity,
    _disk: Arc<dyn LogDisk>,
    _home: &dyn KvHome,
    _config: &OpenConfig,
    _logger: &slog::Logger,
    _progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Opened, OpenError> {
    todo!()
}

/// Carries out a [`KvPlan`], or the installation of a snapshot: a proved store. An error of `Prove` means: set aside.
pub fn open_kv(
    _plan: &KvPlan,
    _disk: &dyn LogDisk,
    _home: &dyn KvHome,
    _progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Store, StoreError> {
    todo!()
}

/// Init, up to the identity: segment 1 with its header, snapshot 1-1, the mark batch, then identity Member; all durable.
pub fn init(
    _identity: &MemberIdentity,
    _first: Member,
    _min_voters: u32,
    _disk: &Arc<dyn LogDisk>,
    _log: LogConfig,
) -> Result<(), OpenError> {
    todo!()
}

/// Join: segment 1 with its header durable, then identity Member; the first frame is answered after that.
pub fn join(_identity: &MemberIdentity, _disk: &Arc<dyn LogDisk>, _log: LogConfig) -> Result<(), OpenError> {
    todo!()
}

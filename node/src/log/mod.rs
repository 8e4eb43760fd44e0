//! The replicated log on disk and in memory (the words "WAL" and "storage" of raftexample).
//!
//! PURE but for reads below the in-memory window: [`Log::append`] decides where every byte goes and returns
//! [`LogOp`]s; whoever owns the disk executes them in order ([`execute`]) and reports when they are durable.

use crate::disk::LogDisk;
use crate::types::{Index, MemberIdentity, Term};
use bytes::Bytes;
use raft::prelude::{Entry, HardState};
use std::io;
use std::sync::Arc;

/// Sizes; the simulator uses small ones.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Largest batch.
    pub batch_bytes_max: usize,
    /// Newest bytes of entries kept in memory.
    pub cache_bytes_max: usize,
    /// Spare segments kept ready.
    pub spare_segments: usize,
}

/// The log restarts behind a snapshot: its index and term. Written by init and by the installation of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Index of the snapshot.
    pub index: Index,
    /// Term of that index.
    pub term: Term,
}

/// What one Ready makes durable, in one write and one fdatasync (rule N2).
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// When present, everything before is discarded and the log restarts at `mark.index + 1`.
    pub mark: Option<Mark>,
    /// Appended, or replacing a suffix: the first may be at most last_index + 1.
    pub entries: Vec<Entry>,
    /// Written after the entries.
    pub hard_state: Option<HardState>,
    /// The last batch of a clean stop: nothing after it is ambiguous.
    pub closing: bool,
}

/// One step on the disk. Steps are executed in order; [`LogOp::Sync`] and [`LogOp::SyncDir`] are the barriers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// Makes a zero-filled file.
    Create { file: String, len: u64 },
    /// Overwrites bytes.
    Write { file: String, offset: u64, bytes: Bytes },
    /// fdatasync.
    Sync { file: String },
    /// Atomic rename.
    Rename { from: String, to: String },
    /// Removes a file.
    Remove { file: String },
    /// fsync of the directory.
    SyncDir,
}

/// Executes `ops` in order and stops at the first error.
pub fn execute(_disk: &dyn LogDisk, _ops: &[LogOp]) -> io::Result<()> {
    todo!()
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
    /// Bytes that were acknowledged do not validate, or contradict each other.
    #[error("{file} at offset {offset}: {what}")]
    Corrupt { file: String, offset: u64, what: String },
}

/// A replayed log and what it said.
pub struct Replayed {
    /// Ready for appends, once `repairs` are executed.
    pub log: Log,
    /// The newest HardState; default when there is none.
    pub hard_state: HardState,
    /// What the segment headers say.
    pub identity: MemberIdentity,
    /// True when the log ends with a closing batch.
    pub clean_stop: bool,
    /// Batches seen.
    pub batches: u64,
    /// Zeroing of a cut tail and the fdatasync of everything accepted; to be executed before the log is used.
    pub repairs: Vec<LogOp>,
}

/// The log of one member.
pub struct Log {}

#[allow(unused_variables)]
impl Log {
    /// A new log: segment 1 with its header, and one batch with `mark` and `hard_state` if given (init), none for a join.
    /// `disk` is for reads only.
    pub fn create(config: LogConfig, identity: MemberIdentity, disk: Arc<dyn LogDisk>) -> (Log, Vec<LogOp>) {
        todo!()
    }
    /// Reads all segments. `progress` gets (bytes read, bytes in all). `Ok(None)`: there is no segment.
    pub fn replay(
        config: LogConfig,
        disk: Arc<dyn LogDisk>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Replayed>, LogError> {
        todo!()
    }
    /// Plans one batch; its entries are readable at once.
    ///
    /// # Panics
    /// When the batch would leave a gap, or exceeds the batch limit.
    pub fn append(&mut self, batch: Batch) -> Vec<LogOp> {
        todo!()
    }
    /// Index before the first readable entry, with its term: a snapshot's or the compaction point.
    pub fn base(&self) -> Mark {
        todo!()
    }
    /// base().index + 1.
    pub fn first_index(&self) -> Index {
        todo!()
    }
    /// base().index when empty.
    pub fn last_index(&self) -> Index {
        todo!()
    }
    /// Term of `index` in base..=last; `None` outside.
    pub fn term(&self, index: Index) -> Option<Term> {
        todo!()
    }
    /// Entries in low..high, at least one, at most about `bytes_max`; reads below the window from disk.
    pub fn entries(&self, low: Index, high: Index, bytes_max: u64) -> Result<Vec<Entry>, LogError> {
        todo!()
    }
    /// Bytes appended since the log position of `index`: drives cuts.
    pub fn bytes_since(&self, index: Index) -> u64 {
        todo!()
    }
    /// Forgets entries <= `mark.index` (an older kept snapshot) and recycles segments by rule N21.
    pub fn compact(&mut self, mark: Mark) -> Vec<LogOp> {
        todo!()
    }
    /// The next missing spare segment, if any is missing and none is being made: its name and the steps that make it.
    /// Slow (it writes zeros), to be executed off the write path; then call [`Log::spare_made`].
    pub fn make_spare(&mut self) -> Option<(String, Vec<LogOp>)> {
        todo!()
    }
    /// The spare is durable and may become a segment.
    pub fn spare_made(&mut self, name: &str) {
        todo!()
    }
}

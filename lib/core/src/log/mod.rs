//! The replicated log on disk and in memory ("WAL" and "storage" in raftexample).
//!
//! PURE except for reads below the in-memory window: [`Log::append`] decides where every byte goes and returns
//! [`LogOp`]s; whoever owns the disk executes them in order ([`execute`]) and reports when they are durable. A disk
//! error ends the process, and nothing here is tried twice, except a step that found the disk full ([`may_try_again`]).
//!
//! `codec` has the bytes, `segment` the files, `state` the rules that every record obeys, `table` what is in memory,
//! `replay` the way back from the disk, `read` the entries below the window, `storage` what raft sees.
//!
//! # Caveats
//! A compaction is not written down: after a replay the base may be lower than it was, never higher, and the node
//! compacts again once it knows its snapshots. A start zeroes the rest of the last segment if it is not zero yet, which
//! writes up to one segment.

mod codec;
mod read;
mod replay;
mod segment;
mod slots;
mod state;
mod storage;
mod table;
mod window;

use crate::mutant::{self, Mutant};
use crate::other_format::OtherFormat;
use crate::ports::LogDisk;
use crate::space;
use crate::types::{Index, MemberIdentity, Term};
use bytes::Bytes;
use codec::{Encoder, SegmentHeader};
use raft::prelude::{Entry, HardState};
use segment::Segments;
use slots::Slot;
use state::State;
use std::io;
use std::sync::Arc;

pub use codec::entry_bytes;
pub use read::{ReadFailed, ReadPlan};
pub(crate) use replay::{Content, content, read_header, segment_seqs};
pub(crate) use segment::{FileKind, segment_name};
pub use storage::Storage;

/// Sizes; the simulator uses small ones.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Largest batch.
    pub batch_bytes_max: usize,
    /// Bytes of the newest entries kept in memory.
    pub cache_bytes_max: usize,
    /// Spare segments kept ready.
    pub spare_segments: usize,
}

/// Index and term of a snapshot after which the log restarts. Written by init and by the installation of a snapshot.
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
    Create {
        /// Its name.
        file: String,
        /// Its bytes.
        len: u64,
    },
    /// Overwrites bytes.
    Write {
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
        /// The new bytes.
        bytes: Bytes,
    },
    /// fdatasync.
    Sync {
        /// The file.
        file: String,
    },
    /// Atomic rename.
    Rename {
        /// The present name.
        from: String,
        /// The new name; a file that has it is replaced.
        to: String,
    },
    /// Removes a file.
    Remove {
        /// The file.
        file: String,
    },
    /// fsync of the directory.
    SyncDir,
}

/// Executes `ops` in order and stops at the first error.
pub fn execute(disk: &dyn LogDisk, ops: &[LogOp]) -> io::Result<()> {
    execute_from(disk, ops, &mut 0)
}

/// The same, after the `done` steps that were executed before; counts each further step in `done`.
pub fn execute_from(disk: &dyn LogDisk, ops: &[LogOp], done: &mut usize) -> io::Result<()> {
    for op in &ops[*done..] {
        let (file, result) = match op {
            LogOp::Create { file, len } => (file.as_str(), disk.create(file, *len)),
            LogOp::Write { file, offset, bytes } => (file.as_str(), disk.write(file, *offset, bytes)),
            LogOp::Sync { file } if mutant::is(Mutant::NoSync) => (file.as_str(), Ok(())),
            LogOp::Sync { file } => (file.as_str(), disk.sync(file)),
            LogOp::Rename { from, to } => (from.as_str(), disk.rename(from, to)),
            LogOp::Remove { file } => (file.as_str(), disk.remove(file)),
            LogOp::SyncDir => (".", disk.sync_dir()),
        };
        result.map_err(|e| io::Error::new(e.kind(), format!("{file}: {e}")))?;
        *done += 1;
    }
    Ok(())
}

/// Whether a step that failed with this error may be executed once more when there is space (rule N11). A sync never
/// may, whatever its error: what it should have made durable may be gone.
///
/// What a full disk left of the step needs no cleaning: the same step writes the same bytes to the same place, a file
/// that is created is emptied first, and no later step of the log is executed before it. Nothing of it was reported, so
/// a crash in between leaves the ordinary torn end, which replay cuts and zeroes (rule N1).
pub fn may_try_again(op: &LogOp, error: &io::Error) -> bool {
    let is_sync = match op {
        LogOp::Sync { .. } | LogOp::SyncDir => true,
        LogOp::Create { .. } | LogOp::Write { .. } | LogOp::Rename { .. } | LogOp::Remove { .. } => false,
    };
    !is_sync && space::is_full(error)
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("{file}: {source}")]
    Io {
        /// The file; `.` is the directory.
        file: String,
        /// The disk's error.
        source: io::Error,
    },
    /// Bytes that were acknowledged do not validate, or contradict each other.
    #[error("{file} at offset {offset}: {what}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong and what to do.
        what: String,
    },
    /// Another raftkv wrote it. Nothing is wrong with the data, and the process stops.
    #[error(transparent)]
    Format(#[from] OtherFormat),
}

/// What to do about a damaged log.
const WHAT_TO_DO: &str = "this log cannot be trusted: leave its files as they are, and replace this member by a new \
                          one while the others are well (raftkvctl reset, then it joins again)";

impl LogError {
    /// `what` is wrong at this place; the message says what to do.
    fn corrupt(file: &str, offset: u64, what: impl std::fmt::Display) -> LogError {
        LogError::Corrupt { file: file.to_string(), offset, what: format!("{what}; {WHAT_TO_DO}") }
    }

    /// The record at this place, whose checksum is right, is of a kind that a newer build writes.
    fn newer_record(file: &str, offset: u64, kind: u8) -> LogError {
        let newest = codec::KIND_MAX;
        let what = format!(
            "the record at offset {offset} is of kind {kind}, and {newest} is the newest that this raftkv knows"
        );
        LogError::Format(OtherFormat::Newer { file: file.to_string(), what })
    }

    fn io(file: &str) -> impl FnOnce(io::Error) -> LogError {
        move |source| LogError::Io { file: file.to_string(), source }
    }
}

/// A replayed log and what it says.
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
pub struct Log {
    config: LogConfig,
    identity: MemberIdentity,
    state: State,
    segments: Segments,
    disk: Arc<dyn LogDisk>,
}

impl Log {
    /// A new log: segment 1 with its header, and no batch. Init then appends its mark and HardState; a join appends
    /// nothing. `disk` is for reads only.
    pub fn create(config: LogConfig, identity: MemberIdentity, disk: Arc<dyn LogDisk>) -> (Log, Vec<LogOp>) {
        let header = SegmentHeader {
            identity,
            segment_seq: 1,
            segment_bytes: config.segment_bytes,
            first_batch_no: 1,
            last: Mark::default(),
            base: Mark::default(),
            hard_state: HardState::default(),
        };
        let state = State::at_header(&header, config.cache_bytes_max).expect("an empty log contradicts nothing");
        let mut segments = Segments::new(config);
        let mut ops = Vec::new();
        segments.begin(header, &mut ops);
        (Log { config, identity, state, segments, disk }, ops)
    }

    /// Reads all segments. `progress` gets (bytes read, bytes in all). `Ok(None)`: there is no segment.
    pub fn replay(
        config: LogConfig,
        disk: Arc<dyn LogDisk>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Replayed>, LogError> {
        let Some(recovered) = replay::recover(config, &*disk, progress)? else { return Ok(None) };
        let replay::Recovered { mut state, segments, identity, clean_stop, batches, entries: _, repairs } = recovered;
        let (low, high) = (state.table.window_wanted(), state.table.last_index() + 1);
        let window = ReadPlan::new(&state.table, low, high).read(&*disk)?;
        state.table.fill_window(window);
        let hard_state = state.hard_state.clone();
        let log = Log { config, identity, state, segments, disk };
        Ok(Some(Replayed { log, hard_state, identity, clean_stop, batches, repairs }))
    }

    /// Plans one batch; its entries are readable at once. Its steps must be executed before the next batch is planned:
    /// until then its entries, and only those, are kept in memory whatever the window's bound is.
    ///
    /// # Panics
    /// When the batch would leave a gap, replace what is committed, let the term fall, or exceed the batch limit.
    pub fn append(&mut self, batch: Batch) -> Vec<LogOp> {
        let Batch { mark, entries, hard_state, closing } = batch;
        let entries_bytes = entries.iter().map(entry_bytes).sum();
        let bytes = codec::batch_bytes(entries_bytes, mark.is_some(), hard_state.is_some(), closing);
        assert!(
            bytes <= self.config.batch_bytes_max,
            "a batch of {bytes} bytes, at most {}",
            self.config.batch_bytes_max
        );
        let mut ops = Vec::new();
        if !self.segments.fits(bytes) {
            self.segments.begin(self.header(), &mut ops);
        }
        let (segment_seq, offset) = (self.segments.current(), self.segments.end());
        let mut encoder = Encoder::new(segment_seq, offset, self.state.next_batch_no, bytes);
        let refused = |what: String| -> ! { panic!("a batch that the log cannot take: {what}") };
        if let Some(mark) = mark {
            encoder.mark(mark);
            self.state.mark(mark).unwrap_or_else(|what| refused(what));
        }
        let first = entries.first().map_or(self.last_index() + 1, |entry| entry.index);
        for entry in entries {
            let previous = entry.index.checked_sub(1).and_then(|index| self.state.table.term(index));
            let Some(previous_term) = previous else { refused(format!("a gap before entry {}", entry.index)) };
            let (offset, bytes) = (encoder.position() as u32, entry_bytes(&entry) as u32);
            encoder.entry(&entry, previous_term);
            let slot = Slot { segment_seq, offset, bytes, term: entry.term };
            self.state.entry(entry, previous_term, slot).unwrap_or_else(|what| refused(what));
        }
        if let Some(hard_state) = hard_state {
            encoder.hard_state(&hard_state);
            self.state.hard_state(hard_state).unwrap_or_else(|what| refused(what));
        }
        if closing {
            encoder.closing();
        }
        self.state.next_batch_no += 1;
        self.state.table.shrink_window(first);
        self.segments.advance(bytes);
        let file = segment_name(segment_seq);
        ops.extend([LogOp::Write { file: file.clone(), offset, bytes: encoder.end() }, LogOp::Sync { file }]);
        ops
    }

    /// The newest HardState that was planned or replayed.
    pub fn hard_state(&self) -> &HardState {
        &self.state.hard_state
    }

    /// Largest batch that [`Log::append`] takes.
    pub fn batch_bytes_max(&self) -> usize {
        self.config.batch_bytes_max
    }
    /// Index before the first readable entry, with its term: a snapshot's or the compaction point.
    pub fn base(&self) -> Mark {
        self.state.table.base()
    }

    /// First index of the log: base().index + 1.
    pub fn first_index(&self) -> Index {
        self.base().index + 1
    }

    /// Last index of the log; base().index when it is empty.
    pub fn last_index(&self) -> Index {
        self.state.table.last_index()
    }

    /// Term of `index` in base..=last; `None` outside.
    pub fn term(&self, index: Index) -> Option<Term> {
        self.state.table.term(index)
    }

    /// Entries in low..high: at least one, at most about `bytes_max` bytes. Reads those below the window from the disk.
    ///
    /// # Panics
    /// When low..high is empty or not within first_index..=last_index.
    pub fn entries(&self, low: Index, high: Index, bytes_max: u64) -> Result<Vec<Entry>, LogError> {
        let table = &self.state.table;
        let high = self.fitting(low, high, bytes_max);
        let mut entries = ReadPlan::new(table, low, high.min(table.window_first())).read(&*self.disk)?;
        entries.extend((low.max(table.window_first())..high).filter_map(|index| table.windowed(index).cloned()));
        Ok(entries)
    }

    /// The end of the entries in low..high that fit into about `bytes_max` bytes; the first always does.
    fn fitting(&self, low: Index, high: Index, bytes_max: u64) -> Index {
        assert!(low >= self.first_index(), "entry {low} is before the first, {}", self.first_index());
        assert!(low < high, "no entry in {low}..{high}");
        assert!(high <= self.last_index() + 1, "entry {} is behind the last, {}", high - 1, self.last_index());
        let mut bytes = 0u64;
        let fits = |index: &Index| {
            bytes += self.state.table.slot(*index).map_or(0, |slot| u64::from(slot.bytes));
            *index == low || bytes <= bytes_max
        };
        low + (low..high).take_while(fits).count() as u64
    }

    /// Whether this entry of the log is on the disk alone.
    pub fn is_below_window(&self, index: Index) -> bool {
        index < self.state.table.window_first()
    }

    /// Plans to read entries below the window, from `low` on: at least one, at most about `bytes_max` bytes.
    ///
    /// # Panics
    /// When `low` is not below the window, or before the first index.
    pub fn plan_read(&self, low: Index, bytes_max: u64) -> ReadPlan {
        let high = self.fitting(low, self.state.table.window_first(), bytes_max);
        ReadPlan::new(&self.state.table, low, high)
    }

    /// Bytes that the log's entries in low..high take, with what stands between them.
    pub fn bytes_between(&self, low: Index, high: Index) -> u64 {
        let first = low.max(self.first_index());
        if first >= high { 0 } else { self.bytes_since(first - 1).saturating_sub(self.bytes_since(high - 1)) }
    }

    /// Bytes appended since the log position of `index`; they decide when a snapshot is cut.
    pub fn bytes_since(&self, index: Index) -> u64 {
        let next = index.max(self.base().index) + 1;
        self.state.table.slot(next).map_or(0, |slot| {
            self.segments.position() - self.segments.position_of(slot.segment_seq, u64::from(slot.offset))
        })
    }

    /// Forgets entries <= `mark.index` (an older kept snapshot) and recycles segments by rule N21. A mark at or below
    /// the base forgets nothing, but releases segments that a batch with a mark left unused.
    ///
    /// # Panics
    /// When the log does not hold the mark's index with the mark's term.
    pub fn compact(&mut self, mark: Mark) -> Vec<LogOp> {
        if mark.index > self.base().index {
            self.state.compact(mark);
        }
        let current = self.segments.current();
        self.segments.recycle(self.state.table.oldest_segment().unwrap_or(current))
    }

    /// The next missing spare segment, if any is missing and none is being made: its name and the steps that make it.
    /// The steps are slow (they write zeros): execute them off the write path, then call [`Log::spare_made`].
    pub fn make_spare(&mut self) -> Option<(String, Vec<LogOp>)> {
        self.segments.make_spare()
    }

    /// The spare is durable and may become a segment.
    pub fn spare_made(&mut self, name: &str) {
        self.segments.spare_made(name);
    }

    /// The header of a segment that begins here; the segments fill in its number and size.
    fn header(&self) -> SegmentHeader {
        SegmentHeader {
            identity: self.identity,
            segment_seq: 0,
            segment_bytes: 0,
            first_batch_no: self.state.next_batch_no,
            last: self.state.table.last(),
            base: self.base(),
            hard_state: self.state.hard_state.clone(),
        }
    }
}

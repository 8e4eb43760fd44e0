//! `raft::Storage` over the log: the entries that raft reads, and the newest snapshot that it may offer.
//!
//! `snapshot` does no work: when the newest file is too old, it records a wish, which the driver turns into an effect
//! after the step (rule N12). Followers that keep up never need entries below the log's in-memory window. For those that
//! don't, `entries` records what is to be read, too, and the driver has it read elsewhere: raft never waits for the disk.

use crate::log::Log;
use crate::snapshot::SnapshotMeta;
use crate::types::{Index, MemberId};
use raft::prelude::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, StorageError};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// What raft reads.
pub struct Storage {
    /// The log, appended to by the driver.
    pub log: Log,
    /// HardState and ConfState at opening; raft asks once.
    initial: RaftState,
    /// The newest valid snapshot file.
    pub newest: Option<SnapshotMeta>,
    /// Index at which each present member was added; a snapshot below it does not know that member.
    pub added_at: BTreeMap<MemberId, Index>,
    /// Whether raft wanted a snapshot that does not exist yet.
    wish: Cell<bool>,
    /// What raft wanted to send from below the window, by the first index, each with raft's own note of what it is for.
    asked: RefCell<Vec<(Index, GetEntriesContext)>>,
    /// Entries that were read for that; here only while raft is told of them.
    pub fetched: Vec<Entry>,
}

impl Storage {
    /// `initial` is what opening found (rule N8).
    pub fn new(log: Log, hard_state: HardState, conf_state: ConfState) -> Storage {
        Storage {
            log,
            initial: RaftState { hard_state, conf_state },
            newest: None,
            added_at: BTreeMap::new(),
            wish: Cell::new(false),
            asked: RefCell::default(),
            fetched: Vec::new(),
        }
    }

    /// What raft wanted to send from below the window since the last call.
    pub fn take_asked(&self) -> Vec<(Index, GetEntriesContext)> {
        self.asked.take()
    }

    /// Whether there is a wish for a snapshot, which this takes away.
    pub fn take_wish(&self) -> bool {
        self.wish.replace(false)
    }
}

impl raft::Storage for Storage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.log.first_index() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.log.last_index() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        if context.can_async() && self.log.is_below_window(low) {
            if self.fetched.first().is_some_and(|first| first.index == low) {
                return Ok(self.fetched.iter().take_while(|entry| entry.index < high).cloned().collect());
            }
            self.asked.borrow_mut().push((low, context));
            return Err(raft::Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        self.log.entries(low, high, bytes_max).map_err(|e| raft::Error::Store(StorageError::Other(Box::new(e))))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.log.term(index) {
            Some(term) => Ok(term),
            None if index < self.log.first_index() => Err(raft::Error::Store(StorageError::Compacted)),
            None => Err(raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last_index())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let needed = request_index.max(self.added_at.get(&to).copied().unwrap_or(0));
        match &self.newest {
            Some(meta) if meta.index >= needed => Ok(meta.to_raft()),
            _ => {
                self.wish.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

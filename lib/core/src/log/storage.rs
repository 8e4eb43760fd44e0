//! `raft::Storage` over the log: the entries that raft reads, and the newest snapshot that it may offer.
//!
//! `snapshot` does no work: when the newest file is too old, it records a wish, which the driver turns into an effect
//! after the step (rule N12). Reads below the log's in-memory window go to the disk; followers that keep up never need
//! them.

use crate::log::Log;
use crate::snapshot::SnapshotMeta;
use crate::types::{Index, MemberId};
use raft::prelude::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, StorageError};
use std::cell::Cell;
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
        }
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
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.log.first_index() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.log.last_index() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
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

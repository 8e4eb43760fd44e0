//! The key-value store: MVCC data in a [`KvDisk`], its key index in memory, applied by committed entries. Apply is PURE.

pub mod command;
pub mod disk;

pub use command::{Command, Condition, Outcome};
pub use disk::{KvDisk, KvHome};

use crate::membership::Membership;
use crate::snapshot::SnapshotMeta;
use crate::types::{Index, RequestId, Revision, Term};
use bytes::Bytes;
use raftkv_api::{Hex128, StateHash};
use std::io;
use std::sync::Arc;

/// One committed entry, as the driver hands it to apply.
#[derive(Clone, Debug)]
pub enum Committed {
    /// A command of a client; `request` is `None` for raft's own empty entries, whose `data` is empty.
    Normal { index: Index, term: Term, request: Option<RequestId>, data: Bytes },
    /// A membership change (also a refused one): `membership` is the state that results, stored in the batch that ends
    /// exactly at this index.
    Conf { index: Index, term: Term, membership: Arc<Membership> },
}

/// What became of one committed entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its index.
    pub index: Index,
    /// Whose it was.
    pub request: Option<RequestId>,
    /// What it did; `None` for empty entries and membership changes.
    pub outcome: Option<Outcome>,
}

/// What the meta record of a kv db claims, before the proof (rule N8).
#[derive(Clone, Debug)]
pub struct Claim {
    /// Applied index.
    pub applied: Index,
    /// Its term.
    pub term: Term,
    /// Membership at that index.
    pub membership: Membership,
}

/// Why a kv db cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or a snapshot file failed to read or write.
    #[error("kv db: {0}")]
    Io(#[from] io::Error),
    /// The scan does not give the stored hash, or a record is malformed: set aside and rebuild.
    #[error("kv db is not what its hash says: {0}")]
    Unproved(String),
}

/// Reads the meta record only. `Ok(None)`: no valid record, hence no claim.
pub fn claim(_disk: &dyn KvDisk) -> io::Result<Option<Claim>> {
    todo!()
}

/// The writer's side; owned by the apply thread.
pub struct Store {}

/// A frozen cut (rule N16): what the scan needs, independent of later writes.
pub struct Cut {}

#[allow(unused_variables)]
impl Store {
    /// An empty store at `meta` (a new cluster: index 1, revision 1): writes its meta record.
    pub fn create(
        disk: Arc<dyn KvDisk>,
        index: Index,
        term: Term,
        membership: &Membership,
    ) -> Result<Store, StoreError> {
        todo!()
    }
    /// Scans every record, builds the key index and proves `disk_hash`. `progress` gets records scanned so far and in all.
    pub fn open(disk: Arc<dyn KvDisk>, progress: &mut dyn FnMut(u64, u64)) -> Result<Store, StoreError> {
        todo!()
    }
    /// For reader threads.
    pub fn view(&self) -> Arc<View> {
        todo!()
    }
    /// Applies committed entries with one atomic disk batch (split where a conf change ends one), publishes, and returns
    /// what became of each. The caller answers waiters, then calls [`Store::flush`].
    pub fn apply(&mut self, committed: &[Committed]) -> Result<Vec<Applied>, StoreError> {
        todo!()
    }
    /// After the waiters are answered, before the next batch (rule N23).
    pub fn flush(&mut self) -> Result<(), StoreError> {
        todo!()
    }
    /// One step of physical compaction if any is due; true when there is more to do. Does nothing during a cut.
    pub fn compact_step(&mut self) -> Result<bool, StoreError> {
        todo!()
    }
    /// Freezes a cut at the present applied index and pauses physical compaction until [`Store::cut_done`].
    pub fn freeze(&mut self) -> Cut {
        todo!()
    }
    /// The cut ended, well or not.
    pub fn cut_done(&mut self) {
        todo!()
    }
}

/// The readers' side; every method may be called from any thread while writes go on.
pub struct View {}

/// One key at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// Revision that created the key.
    pub create_revision: Revision,
    /// Revision of this value.
    pub mod_revision: Revision,
    /// Writes since creation.
    pub version: u64,
}

/// Which keys, at which revision.
#[derive(Clone, Debug, Default)]
pub struct RangeQuery {
    /// First key, inclusive.
    pub start: Bytes,
    /// End, exclusive; `None` is no end.
    pub end: Option<Bytes>,
    /// Start behind this key instead.
    pub after: Option<Bytes>,
    /// Most keys to return.
    pub limit: usize,
    /// Most bytes of keys and values to return; at least one key is returned.
    pub bytes_max: usize,
    /// Leave values out.
    pub keys_only: bool,
    /// Return no keys.
    pub count_only: bool,
    /// 0 is the newest.
    pub revision: Revision,
}

/// Answer to a [`RangeQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The revision that was read.
    pub revision: Revision,
    /// Ascending by key.
    pub records: Vec<KeyRecord>,
    /// Keys in start..end at this revision.
    pub count: u64,
    /// Whether keys remain behind the last one returned.
    pub more: bool,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Above the store's revision.
    #[error("revision {asked} is above the store's revision {current}")]
    Future { asked: Revision, current: Revision },
    /// At or below the compacted revision.
    #[error("revision {asked} was compacted; the oldest readable is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    /// The disk failed.
    #[error("kv db: {0}")]
    Io(#[from] io::Error),
}

#[allow(unused_variables)]
impl View {
    /// The key at `revision` (0: the newest), with the revision that was read; `None` when it does not exist there.
    pub fn get(&self, key: &[u8], revision: Revision) -> Result<(Revision, Option<KeyRecord>), ReadError> {
        todo!()
    }
    /// A range at one revision.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeAnswer, ReadError> {
        todo!()
    }
    /// Published applied index: everything up to it can be read.
    pub fn applied(&self) -> Index {
        todo!()
    }
    /// Published revision.
    pub fn revision(&self) -> Revision {
        todo!()
    }
    /// Revisions at or below it cannot be read (0: none).
    pub fn compacted(&self) -> Revision {
        todo!()
    }
    /// The state hash and its applied index, of one instant.
    pub fn state_hash(&self) -> StateHash {
        todo!()
    }
    /// State hashes at the last multiples of 1024, ascending.
    pub fn state_hashes(&self) -> Vec<StateHash> {
        todo!()
    }
    /// Bytes of the in-memory key index.
    pub fn index_bytes(&self) -> u64 {
        todo!()
    }
    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        todo!()
    }
    /// Keys that exist at the newest revision.
    pub fn keys(&self) -> u64 {
        todo!()
    }
}

/// Identity of the state in a snapshot, for logs.
pub fn describe(meta: &SnapshotMeta) -> String {
    format!("snapshot {} at term {}", meta.index, meta.term)
}

/// Unused hash placeholder so that the stub compiles.
pub type Hash128 = Hex128;

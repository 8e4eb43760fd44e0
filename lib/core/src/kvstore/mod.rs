//! The key-value store: MVCC data in a [`KvDisk`], its key index in memory, applied by committed entries.
//!
//! ```text
//! Committed ─► apply ─► one atomic batch ─► KvDisk        index ◄─ prove ◄─ KvDisk, when it is opened
//!                └────► published: key index, numbers ◄── View: any thread, at any readable revision
//! ```
//!
//! The rules are etcd's: the revision starts at 1 and grows by one with each write that changes something; a key has
//! the revision that created it, that of its last write, and a count of writes; history is readable down to the
//! compacted revision. Nothing here needs to be durable: what a kv db claims is proved when it is opened, and a db that
//! fails the proof is rebuilt from the newest snapshot and the log (design section 5). Apply is PURE except for the
//! batch it writes.

mod apply;
pub(crate) mod claim;
pub mod command;
mod compact;
mod cut;
pub mod hash;
mod history;
mod index;
pub(crate) mod keys;
mod leaf;
mod members;
mod memory;
mod meta;
pub(crate) mod moment;
pub mod on_segments;
mod place;
mod prove;
pub(crate) mod set;
pub(crate) mod small;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod versions;
mod view;
pub(crate) mod window;
pub mod write_behind;

pub use command::{BadCommand, Command, Condition, Outcome};
pub use cut::Cut;
pub(crate) use cut::Frozen;
pub(crate) use members::{decode as decode_members, encode as encode_members};
pub use store::Store;
pub(crate) use store::require_empty;
pub use view::{KeyRecord, RangeAnswer, RangeQuery, ReadError, View};

use crate::membership::Membership;
use crate::ports::KvDisk;
use crate::types::{Index, RequestId, Term};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// One committed entry, as the driver hands it to apply.
#[derive(Clone, Debug)]
pub enum Committed {
    /// A command of a client; `request` is `None` for raft's own empty entries, whose `data` is empty.
    Normal {
        /// Its index.
        index: Index,
        /// Its term.
        term: Term,
        /// The id of its request.
        request: Option<RequestId>,
        /// The encoded [`Command`].
        data: Bytes,
    },
    /// A membership change (also a refused one): `membership` is the state that results, stored in the batch that ends
    /// exactly at this index.
    Conf {
        /// Its index.
        index: Index,
        /// Its term.
        term: Term,
        /// The membership from here on.
        membership: Arc<Membership>,
    },
}

/// What became of one committed entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its index.
    pub index: Index,
    /// The id of its request.
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
    /// The scan does not give the stored hash, or a record is malformed: set the db aside and rebuild it.
    #[error("kv db is not what its hash says: {0}")]
    Unproved(String),
    /// A newer raftkv wrote it, and nothing is wrong with the data: the process stops, and leaves everything as it is.
    #[error("{0}: a newer raftkv than {version} wrote it; start that one again, the data are as they were", version = env!("CARGO_PKG_VERSION"))]
    Newer(String),
}

/// Reads the meta record and the membership only. `Ok(None)`: no valid pair of them, hence no claim.
pub fn claim(disk: &dyn KvDisk) -> io::Result<Option<Claim>> {
    let state = disk.get(keys::STATE_KEY)?.and_then(|record| meta::decode(&record));
    let (Some(numbers), Some(members)) = (state, disk.get(keys::MEMBERS_KEY)?) else { return Ok(None) };
    let membership = members::decode(&members).filter(|_| members::crc(&members) == numbers.members_crc);
    Ok(membership.map(|membership| Claim { applied: numbers.applied, term: numbers.term, membership }))
}

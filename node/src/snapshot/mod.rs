//! Snapshot files: the whole store at a log index. The very file that a cut writes is streamed to members and kept.
//!
//! Layout: an 8-byte magic, a JSON header with its crc, length-prefixed records with a crc per block, and an end record
//! with the count and the sums. Written to a temporary name, fsynced, renamed, directory fsynced.

use crate::disk::LogDisk;
use crate::kvstore::{Cut, KvDisk, Store, StoreError};
use crate::membership::Membership;
use crate::types::{Index, MemberIdentity, Revision, Term};
use raft::prelude::Snapshot;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The header of a snapshot file, and what a MsgSnapshot carries in its `data` (as JSON).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Log index.
    pub index: Index,
    /// Term of that index.
    pub term: Term,
    /// Membership at that index, ConfState included.
    pub membership: Membership,
    /// Revision of the store.
    pub revision: Revision,
    /// Compacted revision.
    pub compacted: Revision,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

impl SnapshotMeta {
    /// `snapshot-<term>-<index>`, both 20 digits.
    pub fn file_name(&self) -> String {
        todo!()
    }
    /// As raft wants it: metadata, and this struct as JSON in `data`; the body has its own connection (rule N13).
    pub fn to_raft(&self) -> Snapshot {
        todo!()
    }
    /// From a MsgSnapshot.
    pub fn from_raft(_snapshot: &Snapshot) -> Result<SnapshotMeta, String> {
        todo!()
    }
}

/// Writes the first snapshot of a cluster (index 1, no keys), durably.
pub fn write_initial(
    _disk: &dyn LogDisk,
    _identity: &MemberIdentity,
    _membership: &Membership,
) -> Result<SnapshotMeta, StoreError> {
    todo!()
}

/// Scans the frozen cut and writes its file, durably. `progress` gets records written and in all.
/// Fails with `Unproved` when the sum of what was written is not the frozen one.
pub fn write(
    _disk: &dyn LogDisk,
    _identity: &MemberIdentity,
    _cut: &Cut,
    _progress: &mut dyn FnMut(u64, u64),
) -> Result<SnapshotMeta, StoreError> {
    todo!()
}

/// Opens and verifies every block of the file called `name`, without loading it.
pub fn verify(_disk: &dyn LogDisk, _name: &str) -> Result<SnapshotMeta, StoreError> {
    todo!()
}

/// All files of that name pattern that verify, newest first, and the names of those that do not.
pub fn list(_disk: &dyn LogDisk) -> Result<(Vec<SnapshotMeta>, Vec<String>), StoreError> {
    todo!()
}

/// Fills an empty kv db from a file in bounded batches and returns the opened store, proved. `progress` as in `write`.
pub fn install(
    _disk: &dyn LogDisk,
    _meta: &SnapshotMeta,
    _into: Arc<dyn KvDisk>,
    _progress: &mut dyn FnMut(u64, u64),
) -> Result<Store, StoreError> {
    todo!()
}

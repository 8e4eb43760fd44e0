//! Snapshot files: the whole store at a log index. The file that a cut writes is the one that is kept and streamed to
//! members.
//!
//! ```text
//! magic, 8 bytes | frame: header, JSON | frame: records ... | frame: end {records u64, sum u128}
//! frame:  length u32 | crc32c u32 | kind u8 | payload
//! record: key length u32 | value length u32 | key | value
//! ```
//!
//! A frame's crc covers its offset in the file too, so frames cannot change places; integers are big-endian. A file is
//! written under a temporary name, fsynced and renamed, and the directory is fsynced: under its final name it is whole.
//! It is written and read in blocks, never held in memory.

mod clock;
mod format;
pub mod manifest;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use clock::RetentionClock;
pub use read::{install, verify, verify_ours};
pub use write::{write, write_initial};

use crate::kvstore::StoreError;
use crate::limits::{FRAME_BYTES_MAX, NUMBER_MAX};
use crate::membership::Membership;
use crate::ports::LogDisk;
use crate::types::{Index, MemberIdentity, Revision, Term};
use raft::prelude::Snapshot;
use serde::{Deserialize, Serialize};

/// What describes a snapshot file: a MsgSnapshot carries it in its `data`, as JSON.
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
        file_name(self.term, self.index)
    }

    /// The snapshot for raft: metadata, and this struct as JSON in `data`; the body has its own connection (rule N13).
    pub fn to_raft(&self) -> Snapshot {
        let data = serde_json::to_vec(self).expect("it has string keys and no failing serializer").into();
        let mut snapshot = Snapshot { data, ..Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index;
        metadata.term = self.term;
        metadata.set_conf_state(self.membership.conf_state());
        snapshot
    }

    /// Reads it from a MsgSnapshot, whose sender is not trusted to have written it correctly.
    pub fn from_raft(snapshot: &Snapshot) -> Result<SnapshotMeta, String> {
        if snapshot.data.len() > FRAME_BYTES_MAX {
            return Err(format!("a snapshot header of {} bytes", snapshot.data.len()));
        }
        let meta: SnapshotMeta = serde_json::from_slice(&snapshot.data)
            .map_err(|error| format!("a snapshot header that is none: {error}"))?;
        let metadata = snapshot.get_metadata();
        if (metadata.index, metadata.term) != (meta.index, meta.term) {
            let (index, term) = (metadata.index, metadata.term);
            return Err(format!(
                "raft's index {index}, term {term} differ from the header's {}, {}",
                meta.index, meta.term
            ));
        }
        if *metadata.get_conf_state() != meta.membership.conf_state() {
            return Err("raft's configuration differs from the header's membership".into());
        }
        meta.check()?;
        Ok(meta)
    }

    fn check(&self) -> Result<(), String> {
        if self.index == 0 || self.term == 0 || self.membership.voters.is_empty() {
            return Err(format!("index {}, term {}, {} voters", self.index, self.term, self.membership.voters.len()));
        }
        if [self.index, self.term, self.revision].iter().any(|number| *number > NUMBER_MAX) {
            let (index, term, revision) = (self.index, self.term, self.revision);
            return Err(format!("index {index}, term {term} or revision {revision} is too large"));
        }
        self.membership.check()?;
        if self.revision == 0 || self.compacted > self.revision {
            return Err(format!("revision {}, compacted {}", self.revision, self.compacted));
        }
        if self.size < format::FILE_BYTES_MIN || self.size > format::FILE_BYTES_MAX {
            return Err(format!("a file of {} bytes", self.size));
        }
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if self.sha256.len() != 64 || !self.sha256.bytes().all(hex) {
            return Err(format!("sha256 '{}'", self.sha256.escape_debug()));
        }
        Ok(())
    }
}

/// All snapshot files that verify and belong to this member's cluster, newest first; and the names of the other ones.
pub fn list(disk: &dyn LogDisk, identity: &MemberIdentity) -> Result<(Vec<SnapshotMeta>, Vec<String>), StoreError> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for name in disk.list()?.into_iter().filter(|name| parse_name(name).is_some()) {
        match verify_ours(disk, &name, identity) {
            Ok(meta) if meta.file_name() == name => good.push(meta),
            Ok(_) | Err(StoreError::Unproved(_)) => bad.push(name),
            Err(error @ (StoreError::Io(_) | StoreError::Newer(_))) => return Err(error),
        }
    }
    good.sort_by_key(|meta| std::cmp::Reverse((meta.index, meta.term)));
    bad.sort();
    Ok((good, bad))
}

/// Removes snapshot files with an index below `below`, durably.
pub fn drop_below(disk: &dyn LogDisk, below: Index) -> std::io::Result<()> {
    let old: Vec<String> =
        disk.list()?.into_iter().filter(|name| parse_name(name).is_some_and(|(_, index)| index < below)).collect();
    for name in &old {
        disk.remove(name)?;
    }
    if old.is_empty() { Ok(()) } else { disk.sync_dir() }
}

/// Removes what writers that were cut short left behind; called when a data directory is opened, before anything
/// writes.
pub fn remove_temporary(disk: &dyn LogDisk) -> Result<(), StoreError> {
    let temporary = |name: &String| name.strip_suffix(TEMPORARY).is_some_and(|name| parse_name(name).is_some());
    for name in disk.list()?.into_iter().filter(temporary) {
        disk.remove(&name)?;
    }
    Ok(())
}

pub(crate) const TEMPORARY: &str = ".tmp";

/// The name of the file of the snapshot at (`term`, `index`).
pub fn file_name(term: Term, index: Index) -> String {
    format!("snapshot-{term:020}-{index:020}")
}

pub(crate) fn parse_name(name: &str) -> Option<(Term, Index)> {
    let (term, index) = name.strip_prefix("snapshot-")?.split_once('-')?;
    let digits = |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(term) || !digits(index) {
        return None;
    }
    Some((term.parse().ok()?, index.parse().ok()?))
}

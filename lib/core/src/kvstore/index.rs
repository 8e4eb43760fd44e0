//! The key index: for each key its versions since the compacted revision, in memory as in etcd. PURE.
//!
//! Records in the tree are sorted by revision, so this is the only way from a key to its records. It is rebuilt from a
//! scan when the kv db is opened. A key whose newest version is a tombstone stays until compaction has removed it. The
//! newest version is here in full, since the next write builds on it. Older ones have only their revision here, since a
//! read of one reads its record anyway: history costs 8 bytes a write.

use crate::types::Revision;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What one write did to a key; its value is in the tree under `mod_revision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// Revision of this write.
    pub mod_revision: Revision,
    /// Revision that created the key; 0 for a tombstone.
    pub create_revision: Revision,
    /// Writes since creation; 0 for a tombstone.
    pub version: u64,
    /// Whether this write deleted the key.
    pub tombstone: bool,
}

/// An older version: its revision, and in the lowest bit whether it is a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Older(u64);

impl Older {
    fn of(version: &KeyVersion) -> Older {
        assert!(version.mod_revision <= u64::MAX / 2, "a revision takes 63 bits");
        Older(version.mod_revision << 1 | u64::from(version.tombstone))
    }

    fn mod_revision(self) -> Revision {
        self.0 >> 1
    }

    fn tombstone(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The versions of one key.
#[derive(Debug)]
pub struct Versions {
    newest: KeyVersion,
    /// Ascending, all before `newest`.
    older: Vec<Older>,
}

/// A version that a read sees, which is no tombstone.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// The newest one, with all that is known about it.
    Newest(KeyVersion),
    /// An older one; its record holds the rest.
    Older(Revision),
}

impl Visible {
    /// Revision of the write.
    pub fn mod_revision(self) -> Revision {
        match self {
            Visible::Newest(version) => version.mod_revision,
            Visible::Older(mod_revision) => mod_revision,
        }
    }
}

impl Versions {
    /// The version that a read at `revision` sees.
    pub fn visible(&self, revision: Revision) -> Option<Visible> {
        if self.newest.mod_revision <= revision {
            return (!self.newest.tombstone).then_some(Visible::Newest(self.newest));
        }
        let seen = self.older.partition_point(|older| older.mod_revision() <= revision);
        let older = self.older[..seen].last()?;
        (!older.tombstone()).then_some(Visible::Older(older.mod_revision()))
    }

    /// The versions that no read at `compacted` or above sees: all up to there except the last, and the last too if it
    /// is a tombstone. They ascend, and must be removed in this order: removing a tombstone before what it hides would
    /// bring that back.
    pub fn dead(&self, compacted: Revision) -> Vec<Revision> {
        let upto = self.older.partition_point(|older| older.mod_revision() <= compacted);
        let mut old: Vec<Older> = self.older[..upto].to_vec();
        if self.newest.mod_revision <= compacted {
            old.push(Older::of(&self.newest));
        }
        if old.last().is_some_and(|last| !last.tombstone()) {
            old.pop();
        }
        old.into_iter().map(Older::mod_revision).collect()
    }
}

/// Keys and their versions.
#[derive(Debug, Default)]
pub struct KeyIndex {
    keys: BTreeMap<Bytes, Versions>,
    live: u64,
    bytes: u64,
}

/// What a key costs besides its bytes: the map's slot at its usual fill, with the newest version in it, and two heap
/// blocks.
const KEY_OVERHEAD_BYTES: u64 = 160;
const OLDER_BYTES: u64 = size_of::<Older>() as u64;

impl KeyIndex {
    /// The newest version of `key`, which may be a tombstone.
    pub fn newest(&self, key: &[u8]) -> Option<KeyVersion> {
        self.keys.get(key).map(|versions| versions.newest)
    }

    /// The version of `key` that a read at `revision` sees; `None` when the key does not exist there.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<Visible> {
        self.keys.get(key)?.visible(revision)
    }

    /// Keys in a range, ascending, each with all its versions.
    pub fn walk(&self, from: Bound<&[u8]>, end: Option<&[u8]>) -> impl Iterator<Item = (&Bytes, &Versions)> {
        let empty = match (from, end) {
            (Bound::Included(start) | Bound::Excluded(start), Some(end)) => start >= end,
            (Bound::Unbounded, _) | (_, None) => false,
        };
        // `BTreeMap::range` panics on a range whose end is before its start.
        let bounds = match (empty, end) {
            (true, _) => (Bound::Included(&b""[..]), Bound::Excluded(&b""[..])),
            (false, Some(end)) => (from, Bound::Excluded(end)),
            (false, None) => (from, Bound::Unbounded),
        };
        self.keys.range::<[u8], _>(bounds)
    }

    /// Adds the newest version of `key`.
    pub fn push(&mut self, key: &[u8], version: KeyVersion) {
        let was_live = match self.keys.get_mut(key) {
            Some(Versions { newest, older }) => {
                assert!(newest.mod_revision < version.mod_revision, "versions are pushed in the order of revisions");
                let was_live = !newest.tombstone;
                older.push(Older::of(newest));
                *newest = version;
                self.bytes += OLDER_BYTES;
                was_live
            }
            None => {
                // Copied, so that the index does not keep alive the whole entry in which the key came, value included.
                self.keys.insert(Bytes::copy_from_slice(key), Versions { newest: version, older: Vec::new() });
                self.bytes += KEY_OVERHEAD_BYTES + key.len() as u64;
                false
            }
        };
        self.live = self.live + u64::from(!version.tombstone) - u64::from(was_live);
    }

    /// Forgets the oldest `count` versions of a key, which no read at or above the compacted revision sees.
    pub fn forget_oldest(&mut self, key: &[u8], count: usize) {
        let Versions { newest: _, older } = self.keys.get_mut(key).expect("only versions of the index are forgotten");
        let forgotten = count.min(older.len());
        older.drain(..forgotten);
        if older.len() < older.capacity() / 2 {
            older.shrink_to_fit();
        }
        self.bytes -= OLDER_BYTES * forgotten as u64;
        if forgotten < count {
            self.keys.remove(key);
            self.bytes -= KEY_OVERHEAD_BYTES + key.len() as u64;
        }
    }

    /// Keys that exist at the newest revision.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Memory of the index, estimated.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(mod_revision: Revision) -> KeyVersion {
        KeyVersion { mod_revision, create_revision: 2, version: 1, tombstone: false }
    }

    fn tombstone(mod_revision: Revision) -> KeyVersion {
        KeyVersion { mod_revision, create_revision: 0, version: 0, tombstone: true }
    }

    fn versions() -> KeyIndex {
        let mut index = KeyIndex::default();
        [value(2), value(4), tombstone(6), value(8)].into_iter().for_each(|version| index.push(b"k", version));
        index
    }

    #[test]
    fn a_read_sees_the_newest_version_up_to_its_revision() {
        let index = versions();
        let seen = |revision| index.at(b"k", revision).map(Visible::mod_revision);
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7, 8, 9].map(seen),
            [None, Some(2), Some(2), Some(4), Some(4), None, None, Some(8), Some(8)]
        );
        assert_eq!(index.at(b"k", 8), Some(Visible::Newest(value(8))));
        assert_eq!(index.at(b"k", 5), Some(Visible::Older(4)));
    }

    #[test]
    fn dead_is_what_no_read_at_the_compacted_revision_needs() {
        let index = versions();
        let dead = |compacted| index.keys[&b"k"[..]].dead(compacted);
        assert!(dead(1).is_empty());
        assert!(dead(2).is_empty());
        assert_eq!(dead(5), [2]);
        assert_eq!(dead(6), [2, 4, 6]);
        assert_eq!(dead(9), [2, 4, 6]);
        let mut gone = versions();
        gone.push(b"k", tombstone(9));
        assert_eq!(gone.keys[&b"k"[..]].dead(9), [2, 4, 6, 8, 9], "nothing stays of a key that is gone");
    }

    #[test]
    fn live_keys_and_bytes_follow_pushes_and_removals() {
        let mut index = KeyIndex::default();
        index.push(b"a", value(2));
        index.push(b"b", value(3));
        index.push(b"a", tombstone(4));
        assert_eq!(index.live(), 1);
        assert_eq!(index.newest(b"a"), Some(tombstone(4)));
        assert_eq!(index.at(b"a", 3), Some(Visible::Older(2)));
        index.forget_oldest(b"a", 1);
        assert_eq!(index.newest(b"a"), Some(tombstone(4)));
        index.forget_oldest(b"a", 1);
        assert_eq!(index.newest(b"a"), None);
        assert_eq!(index.live(), 1);
        assert_eq!(index.bytes(), KEY_OVERHEAD_BYTES + 1);
    }

    #[test]
    fn ranges_that_hold_nothing_do_not_panic() {
        let mut index = KeyIndex::default();
        index.push(b"b", value(2));
        let keys = |from, end| index.walk(from, end).count();
        assert_eq!(keys(Bound::Included(b"c"), Some(b"a")), 0);
        assert_eq!(keys(Bound::Excluded(b"b"), Some(b"b")), 0);
        assert_eq!(keys(Bound::Included(b"b"), Some(b"b")), 0);
        assert_eq!(keys(Bound::Included(b""), None), 1);
        assert_eq!(keys(Bound::Excluded(b"a"), Some(b"c")), 1);
    }
}

//! The key index: for each key its versions since the compacted revision, in memory as in etcd. PURE.
//!
//! Records in the tree are sorted by revision, so this is the only way from a key to its records. It is rebuilt from a
//! scan when the kv db is opened. A key whose newest version is a tombstone stays until compaction has removed it.

use crate::types::Revision;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What one write made of a key; its value is in the tree under `mod_revision`.
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

/// Keys and their versions, ascending by mod_revision.
#[derive(Debug, Default)]
pub struct KeyIndex {
    keys: BTreeMap<Bytes, Vec<KeyVersion>>,
    live: u64,
    bytes: u64,
}

/// What a key costs besides its bytes and versions: the map's slot at its usual fill, and two heap blocks.
const KEY_OVERHEAD_BYTES: u64 = 112;
const VERSION_BYTES: u64 = size_of::<KeyVersion>() as u64;

impl KeyIndex {
    /// The newest version of `key`, which may be a tombstone.
    pub fn newest(&self, key: &[u8]) -> Option<KeyVersion> {
        self.keys.get(key).and_then(|versions| versions.last()).copied()
    }

    /// The version of `key` that a read at `revision` sees; `None` when the key does not exist there.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<KeyVersion> {
        visible(self.keys.get(key)?, revision)
    }

    /// Keys in a range, ascending, each with all its versions.
    pub fn walk(&self, from: Bound<&[u8]>, end: Option<&[u8]>) -> impl Iterator<Item = (&Bytes, &[KeyVersion])> {
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
        self.keys.range::<[u8], _>(bounds).map(|(key, versions)| (key, versions.as_slice()))
    }

    /// Adds the newest version of `key`.
    pub fn push(&mut self, key: &[u8], version: KeyVersion) {
        let was_live = match self.keys.get_mut(key) {
            Some(versions) => {
                let newest = versions.last().expect("a key without versions is removed");
                assert!(newest.mod_revision < version.mod_revision, "versions are pushed in the order of revisions");
                let was_live = !newest.tombstone;
                versions.push(version);
                was_live
            }
            None => {
                // Copied, so that the index does not keep the entry alive that the key came in, value included.
                self.keys.insert(Bytes::copy_from_slice(key), vec![version]);
                self.bytes += KEY_OVERHEAD_BYTES + key.len() as u64;
                false
            }
        };
        self.bytes += VERSION_BYTES;
        self.live = self.live + u64::from(!version.tombstone) - u64::from(was_live);
    }

    /// Forgets the oldest `count` versions of a key, which no read at or above the compacted revision sees.
    pub fn forget_oldest(&mut self, key: &[u8], count: usize) {
        let versions = self.keys.get_mut(key).expect("only versions of the index are forgotten");
        versions.drain(..count);
        if versions.len() < versions.capacity() / 2 {
            versions.shrink_to_fit();
        }
        self.bytes -= VERSION_BYTES * count as u64;
        if versions.is_empty() {
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

/// Of the versions of one key the one that a read at `revision` sees.
pub fn visible(versions: &[KeyVersion], revision: Revision) -> Option<KeyVersion> {
    let seen = versions.partition_point(|version| version.mod_revision <= revision);
    let newest = versions[..seen].last()?;
    (!newest.tombstone).then_some(*newest)
}

/// Of the versions of one key those that no read at `compacted` or above sees: all up to there but the last, and the
/// last too if it is a tombstone. Ascending, and they must be removed in this order: a tombstone that went before what
/// it hides would bring that back.
pub fn dead(versions: &[KeyVersion], compacted: Revision) -> &[KeyVersion] {
    let old = &versions[..versions.partition_point(|version| version.mod_revision <= compacted)];
    match old.split_last() {
        Some((newest, _)) if newest.tombstone => old,
        Some((_, rest)) => rest,
        None => old,
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

    #[test]
    fn a_read_sees_the_newest_version_up_to_its_revision() {
        let versions = [value(2), value(4), tombstone(6), value(8)];
        let seen = |revision| visible(&versions, revision).map(|version| version.mod_revision);
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7, 8, 9].map(seen),
            [None, Some(2), Some(2), Some(4), Some(4), None, None, Some(8), Some(8)]
        );
    }

    #[test]
    fn dead_is_what_no_read_at_the_compacted_revision_needs() {
        let versions = [value(2), value(4), tombstone(6), value(8)];
        let dead = |compacted| dead(&versions, compacted).iter().map(|v| v.mod_revision).collect::<Vec<_>>();
        assert!(dead(1).is_empty());
        assert!(dead(2).is_empty());
        assert_eq!(dead(5), [2]);
        assert_eq!(dead(6), [2, 4, 6]);
        assert_eq!(dead(9), [2, 4, 6]);
    }

    #[test]
    fn live_keys_and_bytes_follow_pushes_and_removals() {
        let mut index = KeyIndex::default();
        index.push(b"a", value(2));
        index.push(b"b", value(3));
        index.push(b"a", tombstone(4));
        assert_eq!(index.live(), 1);
        assert_eq!(index.newest(b"a"), Some(tombstone(4)));
        assert_eq!(index.at(b"a", 3), Some(value(2)));
        index.forget_oldest(b"a", 1);
        assert_eq!(index.newest(b"a"), Some(tombstone(4)));
        index.forget_oldest(b"a", 1);
        assert_eq!(index.newest(b"a"), None);
        assert_eq!(index.live(), 1);
        assert_eq!(index.bytes(), KEY_OVERHEAD_BYTES + 1 + VERSION_BYTES);
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

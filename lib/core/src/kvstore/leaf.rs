//! A leaf of the key index: up to [`KEYS_MAX`] neighbouring keys with their versions. PURE.
//!
//! ```text
//! hashes    a byte for each key      one or two cache lines tell where a key may be: it is found without halving
//! entries   the versions of each     ascending by key
//! keys      all keys in one block    in the order in which they came; one that went leaves a hole
//! ```
//!
//! All three grow in small steps, and are cut to size when much of them is unused, so that memory follows the keys.
//!
//! # Caveats
//!
//! Somebody who chooses keys whose hashes are equal makes a search compare with every key of a leaf. These are so few
//! that it costs microseconds.

use super::history::Older;
use super::memory::capacity_for;
use super::place::{Place, RecordAt};
use super::versions::{KeyVersion, Swept, Versions};
use crate::types::Revision;
use std::ops::Bound;

/// Most keys in a leaf.
pub(super) const KEYS_MAX: usize = 128;
/// Unused room for so many keys is no reason to make a leaf smaller.
const SPARE_KEYS: usize = 16;

/// The leaf has no room for another key.
#[derive(Debug)]
pub(super) struct Full;

/// Neighbouring keys and their versions.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    hashes: Vec<u8>,
    entries: Vec<Versions>,
    keys: Vec<u8>,
    /// Bytes of `keys` that belong to no key.
    unused: usize,
    /// Memory of all older versions.
    older_bytes: usize,
    /// Whether a compaction might find something to remove.
    has_history: bool,
}

/// How far a leaf was swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SweptLeaf {
    /// Whether it was swept to its end.
    pub(super) to_the_end: bool,
    /// Whether keys have gone.
    pub(super) lost_keys: bool,
}

/// Spreads keys over 256 values. Only this process sees them.
fn hash_of(key: &[u8]) -> u8 {
    crc32c::crc32c(key) as u8
}

impl Leaf {
    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn key(&self, at: usize) -> &[u8] {
        self.entries[at].key(&self.keys)
    }

    /// The first key; a leaf of the index has one.
    pub(super) fn first_key(&self) -> Option<&[u8]> {
        self.entries.first().map(|versions| versions.key(&self.keys))
    }

    /// Whether all keys are below `key`.
    pub(super) fn ends_before(&self, key: &[u8]) -> bool {
        self.entries.last().is_none_or(|versions| versions.key(&self.keys) < key)
    }

    /// The versions of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Versions> {
        self.find(key, hash_of(key)).map(|at| &self.entries[at])
    }

    fn find(&self, key: &[u8], hash: u8) -> Option<usize> {
        let mut from = 0;
        while let Some(next) = self.hashes[from..].iter().position(|other| *other == hash) {
            let at = from + next;
            if self.key(at) == key {
                return Some(at);
            }
            from = at + 1;
        }
        None
    }

    /// Number of keys before the start of a range.
    pub(super) fn before(&self, from: Bound<&[u8]>) -> usize {
        self.entries.partition_point(|versions| match from {
            Bound::Included(start) => versions.key(&self.keys) < start,
            Bound::Excluded(start) => versions.key(&self.keys) <= start,
            Bound::Unbounded => false,
        })
    }

    /// All keys, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Versions)> {
        self.entries.iter().map(|versions| (versions.key(&self.keys), versions))
    }

    /// Adds the newest version of a key, and returns the one before it.
    pub(super) fn push(&mut self, key: &[u8], version: KeyVersion) -> Result<Option<KeyVersion>, Full> {
        let hash = hash_of(key);
        if let Some(at) = self.find(key, hash) {
            let versions = &mut self.entries[at];
            let (before, older_bytes) = (versions.newest(), versions.older_bytes());
            versions.push(version);
            self.has_history = true;
            self.older_bytes += versions.older_bytes() - older_bytes;
            return Ok(Some(before));
        }
        if self.len() == KEYS_MAX {
            return Err(Full);
        }
        let at = self.before(Bound::Included(key));
        self.has_history |= version.tombstone;
        self.grow_for(key.len());
        self.entries.insert(at, Versions::new(self.keys.len(), key.len(), version));
        self.hashes.insert(at, hash);
        self.keys.extend_from_slice(key);
        Ok(None)
    }

    /// Adds the newest version of the last key, or of one behind it, and returns the one before it.
    pub(super) fn append(&mut self, key: &[u8], version: KeyVersion) -> Result<Option<KeyVersion>, Full> {
        let is_last = self.entries.last().is_some_and(|versions| versions.key(&self.keys) == key);
        if is_last || self.len() == KEYS_MAX {
            return if is_last { self.push(key, version) } else { Err(Full) };
        }
        debug_assert!(self.ends_before(key), "keys are appended in order");
        self.has_history |= version.tombstone;
        self.grow_for(key.len());
        self.entries.push(Versions::new(self.keys.len(), key.len(), version));
        self.hashes.push(hash_of(key));
        self.keys.extend_from_slice(key);
        Ok(None)
    }

    /// Notes values of a key that are no versions any more; false when the key is not here.
    pub(super) fn add_garbage(&mut self, key: &[u8], count: usize) -> bool {
        let found = self.find(key, hash_of(key));
        if let Some(at) = found {
            self.entries[at].add_garbage(count);
        }
        found.is_some()
    }

    fn grow_for(&mut self, key_bytes: usize) {
        if self.entries.len() == self.entries.capacity() {
            let capacity = capacity_for(self.len() + 1, size_of::<Versions>()).min(KEYS_MAX);
            self.entries.reserve_exact(capacity - self.len());
            self.hashes.reserve_exact(capacity - self.len());
        }
        let keys = self.keys.len();
        if self.keys.capacity() - keys < key_bytes {
            self.keys.reserve_exact(capacity_for(keys + key_bytes, 1) - keys);
        }
    }

    /// Forgets the oldest versions of a key, which must be here; true when the key has gone with them.
    pub(super) fn forget_oldest(&mut self, key: &[u8], count: usize) -> bool {
        let at = self.find(key, hash_of(key)).expect("only versions of the index are forgotten");
        let versions = &mut self.entries[at];
        let before = versions.older_bytes();
        let gone = versions.forget_oldest(count);
        self.older_bytes = self.older_bytes - before + versions.older_bytes();
        if gone {
            self.remove(at);
        }
        gone
    }

    /// Removes a key.
    fn remove(&mut self, at: usize) {
        let versions = self.entries.remove(at);
        self.hashes.remove(at);
        self.unused += versions.key_len();
        if self.unused * 3 > self.keys.len() || self.len() * 2 + SPARE_KEYS < self.entries.capacity() {
            let keys = std::mem::take(&mut self.keys);
            self.cut_to_size(&keys);
        }
    }

    /// Changes the versions of a key; `None` when it is not here. It goes when nothing is left of it.
    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Versions) -> Swept) -> Option<Swept> {
        let at = self.find(key, hash_of(key))?;
        let versions = &mut self.entries[at];
        let before = versions.older_bytes();
        let swept = change(versions);
        self.older_bytes = self.older_bytes - before + versions.older_bytes();
        if swept == Swept::Gone {
            self.remove(at);
        }
        Some(swept)
    }

    /// Drops versions that nobody needs from `compacted` on (see [`Versions::sweep`]), `most` of them at most, which it
    /// counts down.
    pub(super) fn sweep(&mut self, compacted: Revision, most: &mut usize, dropped: &mut dyn FnMut(Older)) -> SweptLeaf {
        let mut swept = SweptLeaf { to_the_end: true, lost_keys: false };
        let mut has_history = false;
        let mut at = 0;
        while self.has_history && at < self.len() {
            let versions = &mut self.entries[at];
            let before = versions.older_bytes();
            let limit = *most;
            let key = versions.sweep(compacted, limit, &mut |version| {
                *most = most.saturating_sub(1);
                dropped(version);
            });
            self.older_bytes = self.older_bytes - before + versions.older_bytes();
            match key {
                Swept::Kept => {
                    has_history |= versions.has_history();
                    at += 1;
                }
                Swept::More => return SweptLeaf { to_the_end: false, ..swept },
                Swept::Gone => {
                    self.remove(at);
                    swept.lost_keys = true;
                }
            }
        }
        self.has_history = has_history;
        swept
    }

    /// Puts the record of a version at another place; false when no version has it.
    pub(super) fn relocate(&mut self, key: &[u8], at: RecordAt, place: Place) -> bool {
        let found = self.find(key, hash_of(key));
        found.is_some_and(|found| self.entries[found].relocate(at, place))
    }

    /// Notes that values of a key have gone from the segments; `None` when the key is not here.
    pub(super) fn remove_garbage(
        &mut self,
        key: &[u8],
        count: u32,
        compacted: Revision,
        dropped: &mut dyn FnMut(Older),
    ) -> Option<Swept> {
        self.change(key, |versions| versions.remove_garbage(count, compacted, dropped))
    }

    /// Gives everything just the memory that it needs; the keys are in `keys`.
    fn cut_to_size(&mut self, keys: &[u8]) {
        let used = self.entries.iter().map(Versions::key_len).sum();
        let mut own = Vec::with_capacity(capacity_for(used, 1));
        for versions in &mut self.entries {
            let key_at = own.len();
            own.extend_from_slice(versions.key(keys));
            versions.set_key_at(key_at);
        }
        (self.keys, self.unused) = (own, 0);
        let capacity = capacity_for(self.len(), size_of::<Versions>()).min(KEYS_MAX);
        self.entries.shrink_to(capacity);
        self.hashes.shrink_to(capacity);
    }

    /// Takes the upper half of the keys out.
    pub(super) fn split(&mut self) -> Leaf {
        let half = self.len() / 2;
        let (hashes, entries) = (self.hashes.split_off(half), self.entries.split_off(half));
        let older_bytes = entries.iter().map(Versions::older_bytes).sum();
        let has_history = self.has_history;
        let mut upper = Leaf { hashes, entries, keys: Vec::new(), unused: 0, older_bytes, has_history };
        self.older_bytes -= older_bytes;
        let keys = std::mem::take(&mut self.keys);
        self.cut_to_size(&keys);
        upper.cut_to_size(&keys);
        upper
    }

    /// Takes in the leaf that follows.
    pub(super) fn absorb(&mut self, next: Leaf) {
        let Leaf { hashes, entries, keys: theirs, unused: _, older_bytes, has_history } = next;
        let mut keys = std::mem::take(&mut self.keys);
        let shift = keys.len();
        keys.extend_from_slice(&theirs);
        self.hashes.extend(hashes);
        self.entries.extend(entries.into_iter().map(|versions| versions.with_key_behind(shift)));
        self.older_bytes += older_bytes;
        self.has_history |= has_history;
        self.cut_to_size(&keys);
    }

    /// Memory that it takes, besides itself.
    pub(super) fn bytes(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Versions>();
        self.hashes.capacity() + entries + self.keys.capacity() + self.older_bytes
    }

    /// Whether everything in it is as it must be.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!((1..=KEYS_MAX).contains(&self.len()), "{} keys", self.len());
        assert!(self.entries.capacity() <= KEYS_MAX && self.entries.capacity() <= 2 * self.len() + SPARE_KEYS);
        assert!(self.iter().map(|(key, _)| key).is_sorted_by(|a, b| a < b), "keys ascend");
        assert!(self.iter().map(|(key, _)| hash_of(key)).eq(self.hashes.iter().copied()));
        let used: usize = self.entries.iter().map(Versions::key_len).sum();
        assert!(self.has_history || self.entries.iter().all(|versions| !versions.has_history()));
        assert_eq!(self.keys.len(), used + self.unused);
        assert!(self.unused * 3 <= self.keys.len(), "{} of {} bytes unused", self.unused, self.keys.len());
        assert_eq!(self.older_bytes, self.entries.iter().map(Versions::older_bytes).sum::<usize>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(revision: u64) -> KeyVersion {
        KeyVersion { at: RecordAt::new(revision, 0), create_revision: 2, version: 1, tombstone: false }
    }

    fn tombstone(revision: u64) -> KeyVersion {
        KeyVersion { at: RecordAt::new(revision, 0), create_revision: 0, version: 0, tombstone: true }
    }

    fn key(nth: usize) -> Vec<u8> {
        format!("key-{nth:05}").into_bytes()
    }

    /// Tombstones, so that they can be forgotten.
    fn leaf(keys: impl IntoIterator<Item = usize>) -> Leaf {
        let mut leaf = Leaf::default();
        for nth in keys {
            leaf.push(&key(nth), tombstone(2)).unwrap();
            leaf.check();
        }
        leaf
    }

    fn keys(leaf: &Leaf) -> Vec<Vec<u8>> {
        leaf.iter().map(|(key, _)| key.to_vec()).collect()
    }

    #[test]
    fn a_full_leaf_takes_new_versions_and_no_new_key() {
        // 37 and 128 have no common factor: every number comes once, in another order.
        let mut leaf = leaf((0..KEYS_MAX).map(|nth| nth * 37 % KEYS_MAX));
        assert_eq!(keys(&leaf), (0..KEYS_MAX).map(key).collect::<Vec<_>>());
        assert!(matches!(leaf.push(&key(KEYS_MAX), value(3)), Err(Full)));
        assert!(matches!(leaf.push(&key(7), value(3)), Ok(Some(before)) if before == tombstone(2)));
        assert_eq!(leaf.get(&key(7)).map(Versions::newest), Some(value(3)));
        assert!(leaf.get(&key(KEYS_MAX)).is_none());
        leaf.check();
    }

    #[test]
    fn keys_with_the_same_hash_are_told_apart() {
        let same: Vec<usize> = (0..).filter(|nth| hash_of(&key(*nth)) == 7).take(6).collect();
        let leaf = leaf(same[..5].iter().copied());
        for nth in &same[..5] {
            assert_eq!(leaf.get(&key(*nth)).map(|versions| versions.key(&leaf.keys)), Some(&key(*nth)[..]));
        }
        assert!(leaf.get(&key(same[5])).is_none());
    }

    #[test]
    fn the_empty_key_and_the_longest_are_keys_like_others() {
        let longest = vec![0xff; crate::limits::KEY_BYTES_MAX];
        let mut leaf = Leaf::default();
        for key in [&longest[..], b"", b"\0", &longest[1..]] {
            leaf.push(key, tombstone(2)).unwrap();
        }
        leaf.check();
        assert_eq!(keys(&leaf), [&b""[..], b"\0", &longest[1..], &longest[..]]);
        assert!(leaf.forget_oldest(&longest, 1));
        leaf.check();
        assert_eq!(leaf.unused, 0, "half of the block was unused");
        assert_eq!(keys(&leaf), [&b""[..], b"\0", &longest[1..]]);
    }

    #[test]
    fn the_start_of_a_range_is_found_between_keys_too() {
        let leaf = leaf([1, 3, 5]);
        let before = |nth| (leaf.before(Bound::Included(&key(nth))), leaf.before(Bound::Excluded(&key(nth))));
        assert_eq!([0, 1, 2, 3, 5, 6].map(before), [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3), (3, 3)]);
        assert_eq!(leaf.before(Bound::Unbounded), 0);
    }

    #[test]
    fn a_split_halves_and_absorbing_undoes_it() {
        let mut lower = leaf(0..KEYS_MAX);
        lower.push(&key(3), value(3)).unwrap();
        lower.push(&key(100), value(4)).unwrap();
        let whole = lower.bytes();
        let mut upper = lower.split();
        upper.check();
        lower.check();
        assert_eq!((lower.len(), upper.len()), (KEYS_MAX / 2, KEYS_MAX / 2));
        assert_eq!(keys(&lower), (0..KEYS_MAX / 2).map(key).collect::<Vec<_>>());
        assert!(lower.ends_before(&key(64)) && !lower.ends_before(&key(63)));
        assert_eq!(upper.first_key(), Some(&key(64)[..]));
        upper.push(b"last", value(5)).unwrap();
        assert!(upper.forget_oldest(&key(64), 1));
        lower.absorb(upper);
        lower.check();
        let expected = (0..KEYS_MAX).filter(|nth| *nth != 64).map(key).chain([b"last".to_vec()]);
        assert_eq!(keys(&lower), expected.collect::<Vec<_>>());
        assert_eq!(lower.get(&key(100)).map(Versions::newest), Some(value(4)));
        assert!(lower.bytes() <= whole, "no more than what it needs");
    }

    #[test]
    fn memory_follows_the_keys_down() {
        let mut leaf = leaf(0..KEYS_MAX);
        for nth in 0..KEYS_MAX - 1 {
            assert!(leaf.forget_oldest(&key(nth), 1));
            leaf.check();
        }
        assert!(leaf.bytes() <= (SPARE_KEYS + 2) * (size_of::<Versions>() + 1) + 2 * key(0).len(), "{}", leaf.bytes());
    }
}

//! The key index: for each key its versions since the compacted revision, in memory as in etcd. PURE.
//!
//! ```text
//! KeyIndex ── ordered map from the first key of a leaf ──► Leaf ── up to 128 keys ──► Versions ──► History
//! ```
//!
//! Records in the tree are sorted by revision, so this is the only way from a key to its records. It is rebuilt from a
//! scan when the kv db is opened. A key whose newest version is a tombstone stays until compaction has removed it. Keys
//! are kept in leaves, and not each in a map of its own, because memory is what bounds how many keys a member can have:
//! a leaf takes 57 bytes a key besides the key, and what little it can't fill.

use super::history::Older;
use super::leaf::{Full, KEYS_MAX, Leaf};
use super::place::{Place, RecordAt};
use super::versions::{KeyVersion, Swept, Versions, Visible};
use crate::types::Revision;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Keys and their versions.
#[derive(Debug, Default)]
pub struct KeyIndex {
    /// By a key that is at or below all keys of the leaf, and above all keys of the leaf before it.
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    live: u64,
    bytes: usize,
}

/// What a leaf costs in the map, whose nodes are filled to about two thirds.
const SLOT_BYTES: usize = (size_of::<Box<[u8]>>() + size_of::<Leaf>()) * 3 / 2;

impl KeyIndex {
    /// The newest version of `key`, which may be a tombstone.
    pub fn newest(&self, key: &[u8]) -> Option<KeyVersion> {
        self.get(key).map(Versions::newest)
    }

    /// The version of `key` that a read at `revision` sees; `None` when the key does not exist there.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<Visible> {
        self.get(key)?.visible(revision)
    }

    fn get(&self, key: &[u8]) -> Option<&Versions> {
        let (_, leaf) = self.leaves.range::<[u8], _>(upto(key)).next_back()?;
        leaf.get(key)
    }

    /// Keys in a range, ascending, each with all its versions.
    pub fn walk(&self, from: Bound<&[u8]>, end: Option<&[u8]>) -> impl Iterator<Item = (&[u8], &Versions)> {
        let start = match from {
            Bound::Included(start) | Bound::Excluded(start) => start,
            Bound::Unbounded => b"",
        };
        let (first, before) = match self.leaves.range::<[u8], _>(upto(start)).next_back() {
            Some((bound, leaf)) => (Bound::Included(&**bound), leaf.before(from)),
            None => (Bound::Unbounded, 0),
        };
        let leaves = self.leaves.range::<[u8], _>((first, Bound::Unbounded));
        let keys = leaves.flat_map(|(_, leaf)| leaf.iter()).skip(before);
        keys.take_while(move |(key, _)| end.is_none_or(|end| *key < end))
    }

    /// Adds the newest version of `key`.
    pub fn push(&mut self, key: &[u8], version: KeyVersion) {
        let pushed = match self.change(key, |leaf| leaf.push(key, version)) {
            Some(Ok(before)) => before,
            None | Some(Err(Full)) => {
                self.make_room(key);
                let pushed = self.change(key, |leaf| leaf.push(key, version));
                pushed.and_then(Result::ok).expect("room was made for it")
            }
        };
        let was_live = pushed.is_some_and(|before| !before.tombstone);
        self.live = self.live + u64::from(!version.tombstone) - u64::from(was_live);
    }

    /// Adds the newest version of a key that is not below any other: nothing is looked up.
    pub fn append(&mut self, key: &[u8], version: KeyVersion) {
        let appended = self.leaves.last_entry().map(|mut last| {
            let leaf = last.get_mut();
            let before = leaf.bytes();
            let appended = leaf.append(key, version);
            self.bytes = self.bytes - before + leaf.bytes();
            appended
        });
        let before = match appended {
            Some(Ok(before)) => before,
            None | Some(Err(Full)) => {
                let mut leaf = Leaf::default();
                let before = leaf.append(key, version).expect("an empty leaf has room");
                let bound = if self.leaves.is_empty() { Box::default() } else { key.into() };
                self.insert(bound, leaf);
                before
            }
        };
        let was_live = before.is_some_and(|before| !before.tombstone);
        self.live = self.live + u64::from(!version.tombstone) - u64::from(was_live);
    }

    /// Notes that so many more values of a key, which are no versions of it any more, still stand in some segment.
    pub fn add_garbage(&mut self, key: &[u8], count: usize) {
        let known = self.change(key, |leaf| leaf.add_garbage(key, count));
        assert_eq!(known, Some(true), "only keys of the index have garbage");
    }

    /// Forgets the oldest `count` versions of a key, which nobody needs any more (see [`Versions::dead`]).
    pub fn forget_oldest(&mut self, key: &[u8], count: usize) {
        let gone = self.change(key, |leaf| leaf.forget_oldest(key, count));
        if gone.expect("only versions of the index are forgotten") {
            self.merge(key);
        }
    }

    /// Whether a version of `key` has this record.
    pub fn has(&self, key: &[u8], at: RecordAt) -> bool {
        self.get(key).is_some_and(|versions| versions.has(at))
    }

    /// Puts the record of a version at another place; false when no version of the key has it.
    pub fn relocate(&mut self, key: &[u8], at: RecordAt, place: Place) -> bool {
        self.change(key, |leaf| leaf.relocate(key, at, place)) == Some(true)
    }

    /// Drops versions that nobody needs who reads or watches from `compacted` on (see [`Versions::sweep`]), beginning
    /// with the leaf of `from`; `dropped` gets each. Ends after so many leaves, or so many versions. Returns where to go
    /// on; `None` at the end of the index.
    pub(super) fn sweep(
        &mut self,
        from: &[u8],
        compacted: Revision,
        (leaves, mut most): (usize, usize),
        dropped: &mut dyn FnMut(Older),
    ) -> Option<Box<[u8]>> {
        let leaf = self.leaves.range::<[u8], _>(upto(from)).next_back().or_else(|| self.leaves.first_key_value());
        let mut from: Box<[u8]> = leaf?.0.clone();
        for _ in 0..leaves {
            let swept = self.change(&from, |leaf| leaf.sweep(compacted, &mut most, dropped))?;
            if !swept.to_the_end {
                return Some(from);
            }
            let next = self.leaves.range::<[u8], _>((Bound::Excluded(&*from), Bound::Unbounded)).next();
            let next = next.map(|(bound, _)| bound.clone());
            if swept.lost_keys {
                self.merge(&from);
            }
            from = next?;
        }
        Some(from)
    }

    /// Notes that `count` values of a key, which are no versions of it any more, have gone from the segments. The
    /// tombstone that hid them goes with the last of them, if it is below `compacted`.
    pub(super) fn remove_garbage(
        &mut self,
        key: &[u8],
        count: u32,
        compacted: Revision,
        dropped: &mut dyn FnMut(Older),
    ) {
        let swept = self.change(key, |leaf| leaf.remove_garbage(key, count, compacted, dropped));
        if swept.flatten() == Some(Swept::Gone) {
            self.merge(key);
        }
    }

    /// Keys that exist at the newest revision.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Memory of the index.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Changes the leaf that a key belongs to; `None` when there is none.
    fn change<T>(&mut self, key: &[u8], change: impl FnOnce(&mut Leaf) -> T) -> Option<T> {
        let (_, leaf) = self.leaves.range_mut::<[u8], _>(upto(key)).next_back()?;
        let before = leaf.bytes();
        let result = change(leaf);
        self.bytes = self.bytes - before + leaf.bytes();
        Some(result)
    }

    /// Makes room for a key that is not here, where its leaf is full or there is none.
    fn make_room(&mut self, key: &[u8]) {
        let is_last = self.leaves.last_key_value().is_some_and(|(bound, _)| **bound <= *key);
        let split = self.change(key, |leaf| {
            // Keys that come in order leave full leaves behind.
            let appends = is_last && leaf.ends_before(key);
            (!appends).then(|| leaf.split())
        });
        match split {
            Some(Some(upper)) => {
                let first = upper.first_key().expect("half of a full leaf is not empty").into();
                self.insert(first, upper);
            }
            Some(None) => self.insert(key.into(), Leaf::default()),
            None => self.insert(Box::default(), Leaf::default()),
        }
    }

    /// After a key has gone: drops its leaf if that is empty, or makes it one with a neighbour if both are far from full.
    /// So memory follows the keys wherever some of them stay.
    fn merge(&mut self, key: &[u8]) {
        let mut upto = self.leaves.range::<[u8], _>(upto(key));
        let Some((this, leaf)) = upto.next_back() else { return };
        let before = upto.next_back();
        let after = self.leaves.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).next();
        let fits = |other: &Leaf| leaf.len() + other.len() <= KEYS_MAX / 2;
        let (into, from) = match (before, after) {
            _ if leaf.len() == 0 => {
                let this = this.clone();
                self.remove(&this);
                return;
            }
            (Some((before, other)), _) if fits(other) => (before.clone(), this.clone()),
            (_, Some((after, other))) if fits(other) => (this.clone(), after.clone()),
            (_, _) => return,
        };
        let (mut lower, upper) = (self.remove(&into), self.remove(&from));
        lower.absorb(upper);
        self.insert(into, lower);
    }

    fn insert(&mut self, bound: Box<[u8]>, leaf: Leaf) {
        self.bytes += SLOT_BYTES + bound.len() + leaf.bytes();
        self.leaves.insert(bound, leaf);
    }

    fn remove(&mut self, bound: &[u8]) -> Leaf {
        let leaf = self.leaves.remove(bound).expect("it was found in the map");
        self.bytes -= SLOT_BYTES + bound.len() + leaf.bytes();
        leaf
    }
}

/// The range of leaves whose last one is that of the key.
fn upto(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

#[cfg(test)]
impl KeyIndex {
    /// Whether everything in it is as it must be.
    fn check(&self) {
        let mut bytes = 0;
        let mut last: Option<&[u8]> = None;
        for (bound, leaf) in &self.leaves {
            leaf.check();
            assert!(last.is_none_or(|last| *last < **bound), "a leaf begins where the one before it has ended");
            assert!(leaf.iter().all(|(key, _)| *key >= **bound), "no key is below the beginning of its leaf");
            last = leaf.iter().last().map(|(key, _)| key);
            bytes += SLOT_BYTES + bound.len() + leaf.bytes();
        }
        assert_eq!(self.bytes, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(revision: Revision) -> KeyVersion {
        KeyVersion { at: RecordAt::new(revision, 0), create_revision: 2, version: 1, tombstone: false }
    }

    fn tombstone(revision: Revision) -> KeyVersion {
        KeyVersion { at: RecordAt::new(revision, 0), create_revision: 0, version: 0, tombstone: true }
    }

    fn key(nth: usize) -> Vec<u8> {
        format!("key-{nth:08}").into_bytes()
    }

    fn index(keys: impl IntoIterator<Item = usize>) -> KeyIndex {
        let mut index = KeyIndex::default();
        keys.into_iter().for_each(|nth| index.push(&key(nth), tombstone(2)));
        index.check();
        index
    }

    #[test]
    fn live_keys_follow_pushes_and_removals() {
        let mut index = KeyIndex::default();
        index.push(b"a", value(2));
        index.push(b"b", value(3));
        index.push(b"a", tombstone(4));
        assert_eq!(index.live(), 1);
        assert_eq!(index.newest(b"a"), Some(tombstone(4)));
        assert_eq!(index.at(b"a", 3), Some(Visible::Older(RecordAt::new(2, 0))));
        assert_eq!(index.at(b"a", 4), None);
        index.forget_oldest(b"a", 1);
        assert_eq!(index.newest(b"a"), Some(tombstone(4)));
        index.forget_oldest(b"a", 1);
        assert_eq!(index.newest(b"a"), None);
        assert_eq!(index.live(), 1);
        index.check();
    }

    #[test]
    fn ranges_that_hold_nothing_do_not_panic() {
        let mut index = KeyIndex::default();
        assert_eq!(index.walk(Bound::Unbounded, None).count(), 0);
        index.push(b"b", value(2));
        let keys = |from, end| index.walk(from, end).count();
        assert_eq!(keys(Bound::Included(b"c"), Some(b"a")), 0);
        assert_eq!(keys(Bound::Excluded(b"b"), Some(b"b")), 0);
        assert_eq!(keys(Bound::Included(b"b"), Some(b"b")), 0);
        assert_eq!(keys(Bound::Included(b""), None), 1);
        assert_eq!(keys(Bound::Unbounded, None), 1);
        assert_eq!(keys(Bound::Excluded(b"a"), Some(b"c")), 1);
    }

    #[test]
    fn keys_that_come_in_order_leave_full_leaves_behind() {
        let index = index(0..10 * KEYS_MAX + 1);
        let lens: Vec<usize> = index.leaves.values().map(Leaf::len).collect();
        assert_eq!(lens, [vec![KEYS_MAX; 10], vec![1]].concat());
    }

    #[test]
    fn what_is_appended_is_what_is_pushed() {
        let (mut appended, mut pushed) = (KeyIndex::default(), KeyIndex::default());
        for nth in 0..5 * KEYS_MAX + 3 {
            for revision in 2..3 + nth as u64 % 3 {
                let version = if nth % 7 == 0 { tombstone(revision) } else { value(revision) };
                appended.append(&key(nth), version);
                pushed.push(&key(nth), version);
            }
        }
        appended.check();
        let all = |index: &KeyIndex| {
            let walked = index.walk(Bound::Unbounded, None);
            walked.map(|(key, versions)| (key.to_vec(), versions.records().collect())).collect::<Vec<(_, Vec<_>)>>()
        };
        assert_eq!((all(&appended), appended.live()), (all(&pushed), pushed.live()));
        assert!(appended.leaves.values().rev().skip(1).all(|leaf| leaf.len() == KEYS_MAX));
    }

    #[test]
    fn keys_in_another_order_leave_half_full_leaves_at_least() {
        // Downwards, and from both sides of a middle.
        for order in [|nth: usize| 10_000 - nth, |nth| if nth % 2 == 0 { 10_000 + nth } else { 10_000 - nth }] {
            let index = index((0..2000).map(order));
            assert!(index.leaves.values().filter(|leaf| leaf.len() < KEYS_MAX / 2).count() <= 1);
        }
    }

    #[test]
    fn leaves_that_lose_most_of_their_keys_become_one() {
        for from_the_end in [false, true] {
            let mut index = index(0..100 * KEYS_MAX);
            let mut order: Vec<usize> = (0..100 * KEYS_MAX).collect();
            if from_the_end {
                order.reverse();
            }
            for nth in order.into_iter().filter(|nth| nth % KEYS_MAX != 0) {
                index.forget_oldest(&key(nth), 1);
            }
            index.check();
            assert!(
                index
                    .walk(Bound::Unbounded, None)
                    .map(|(key, _)| key.to_vec())
                    .eq((0..100).map(|nth| key(nth * KEYS_MAX)))
            );
            assert!(index.leaves.len() <= 100 / (KEYS_MAX / 4), "{} leaves for 100 keys", index.leaves.len());
        }
    }

    #[test]
    fn an_emptied_index_takes_no_memory_and_keys_again() {
        let mut index = index(1..1000);
        (1..1000).for_each(|nth| index.forget_oldest(&key(nth), 1));
        assert_eq!((index.bytes(), index.leaves.len(), index.live()), (0, 0, 0));
        index.push(&key(500), value(3));
        index.push(&key(0), value(4));
        index.check();
        assert_eq!(index.live(), 2);
    }

    #[test]
    fn a_key_below_all_leaves_is_taken_and_found() {
        let mut index = index(0..3 * KEYS_MAX);
        (0..KEYS_MAX + 5).for_each(|nth| index.forget_oldest(&key(nth), 1));
        for nth in [7, 3, KEYS_MAX + 1] {
            index.push(&key(nth), value(3));
            index.check();
            assert_eq!(index.newest(&key(nth)), Some(value(3)));
        }
        let first: Vec<_> = index.walk(Bound::Unbounded, None).take(4).map(|(key, _)| key.to_vec()).collect();
        assert_eq!(first, [3, 7, KEYS_MAX + 1, KEYS_MAX + 5].map(key));
    }

    /// The model: every version in a list, and the rules word by word.
    #[derive(Default)]
    struct Model {
        keys: BTreeMap<Vec<u8>, Vec<KeyVersion>>,
        revision: Revision,
    }

    impl Model {
        fn visible(versions: &[KeyVersion], revision: Revision) -> Option<Visible> {
            let seen = versions.iter().rposition(|version| version.at.revision <= revision)?;
            let version = versions[seen];
            let is_newest = seen + 1 == versions.len();
            (!version.tombstone).then_some(if is_newest {
                Visible::Newest(version)
            } else {
                Visible::Older(version.at)
            })
        }

        /// All up to `compacted` but the last; the last, too, if it is a tombstone below `compacted`.
        fn dead(versions: &[KeyVersion], compacted: Revision) -> usize {
            let upto: Vec<_> = versions.iter().filter(|version| version.at.revision <= compacted).collect();
            match upto.last() {
                Some(last) if last.tombstone && last.at.revision < compacted => upto.len(),
                Some(_) => upto.len() - 1,
                None => 0,
            }
        }

        fn check(&self, index: &KeyIndex, revisions: &[Revision]) {
            index.check();
            let walked = index.walk(Bound::Unbounded, None);
            assert!(walked.map(|(key, _)| key).eq(self.keys.keys().map(|key| &key[..])));
            let live = self.keys.values().filter(|versions| !versions.last().unwrap().tombstone).count();
            assert_eq!(index.live(), live as u64);
            for (key, versions) in &self.keys {
                let found = index.get(key).unwrap();
                assert_eq!(index.newest(key), versions.last().copied());
                assert!(found.records().eq(versions.iter().map(|version| version.at)));
                for revision in revisions.iter().map(|revision| revision % (self.revision + 2)) {
                    assert_eq!(index.at(key, revision), Model::visible(versions, revision));
                    assert_eq!(found.dead(revision), Model::dead(versions, revision));
                }
            }
        }

        fn check_walk(&self, index: &KeyIndex, from: Bound<Vec<u8>>, end: Option<Vec<u8>>) {
            let from = from.as_ref().map(|key| &key[..]);
            let inside = |key: &Vec<u8>| {
                let behind = match from {
                    Bound::Included(start) => &key[..] >= start,
                    Bound::Excluded(start) => &key[..] > start,
                    Bound::Unbounded => true,
                };
                behind && end.as_ref().is_none_or(|end| key < end)
            };
            let walked = index.walk(from, end.as_deref()).map(|(key, versions)| (key, versions.newest()));
            let expected = self.keys.iter().filter(|(key, _)| inside(key));
            assert!(walked.eq(expected.map(|(key, versions)| (&key[..], *versions.last().unwrap()))));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Writes of these keys, some of them tombstones, so many in a revision.
        Write(Vec<(u16, bool)>, u32),
        /// Writes of so many keys, each above all before.
        Append(u16),
        /// So many writes of one key.
        Hot(u16, u16),
        /// Compacts at this part of all revisions, in thousandths; forgets at most so many versions of a key.
        Compact(u64, usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let per_revision = || prop_oneof![Just(1u32), 2u32..5, Just(1000)];
        let write = |keys| (proptest::collection::vec((keys, any::<bool>()), 1..200), per_revision());
        prop_oneof![
            4 => write(0u16..2000).prop_map(|(keys, per_revision)| Step::Write(keys, per_revision)),
            2 => write(0u16..12).prop_map(|(keys, per_revision)| Step::Write(keys, per_revision)),
            2 => (1u16..400).prop_map(Step::Append),
            1 => (0u16..3, 1u16..5000).prop_map(|(key, count)| Step::Hot(key, count)),
            3 => (0u64..=1000, prop_oneof![Just(usize::MAX), 1usize..4]).prop_map(|(part, most)| Step::Compact(part, most)),
        ]
    }

    /// Keys of 1 to 4096 bytes whose order is not that of their numbers.
    fn any_key(nth: u16) -> Vec<u8> {
        let len = match nth % 50 {
            0 => crate::limits::KEY_BYTES_MAX,
            1 => 700,
            2 => 1,
            rest => 2 + usize::from(rest),
        };
        let mut key = nth.wrapping_mul(40_503).to_be_bytes().to_vec();
        key.resize(len, b'x');
        key
    }

    fn write(model: &mut Model, index: &mut KeyIndex, key: &[u8], at: RecordAt, tombstone: bool) {
        let version = KeyVersion { at, create_revision: at.revision / 2, version: u64::from(at.sub()), tombstone };
        index.push(key, version);
        model.keys.entry(key.to_vec()).or_default().push(version);
        model.revision = at.revision;
    }

    fn compact(model: &mut Model, index: &mut KeyIndex, compacted: Revision, most: usize) {
        for (key, versions) in &mut model.keys {
            let count = Model::dead(versions, compacted).min(most);
            if count > 0 {
                index.forget_oldest(key, count);
                versions.drain(..count);
            }
        }
        model.keys.retain(|_, versions| !versions.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_index_does_what_the_model_does(
            steps in proptest::collection::vec(any_step(), 1..16),
            revisions in proptest::collection::vec(any::<u64>(), 3),
            walks in proptest::collection::vec((0u16..2000, 0u16..2000, 0u8..3, any::<bool>()), 4),
        ) {
            let (mut model, mut index) = (Model { revision: 1, ..Model::default() }, KeyIndex::default());
            let mut appended = 0;
            for step in steps {
                let first = model.revision + 1;
                match step {
                    Step::Write(keys, per_revision) => {
                        for (nth, (key, tombstone)) in (0u32..).zip(keys) {
                            let at = RecordAt::new(first + u64::from(nth / per_revision), nth % per_revision);
                            write(&mut model, &mut index, &any_key(key), at, tombstone);
                        }
                    }
                    Step::Append(count) => {
                        for nth in 0..u64::from(count) {
                            let key = [b"\xff\xff\xff", format!("{appended:08}").as_bytes()].concat();
                            appended += 1;
                            write(&mut model, &mut index, &key, RecordAt::new(first + nth, 0), nth % 2 == 0);
                        }
                    }
                    Step::Hot(key, count) => {
                        for nth in 0..u32::from(count) {
                            let at = RecordAt::new(first + u64::from(nth / 3), nth % 3);
                            write(&mut model, &mut index, &any_key(key), at, nth % 7 == 0);
                        }
                    }
                    Step::Compact(part, most) => {
                        let compacted = model.revision * part / 1000;
                        compact(&mut model, &mut index, compacted, most);
                    }
                }
                model.check(&index, &revisions);
                for (from, end, bound, has_end) in &walks {
                    let from = match bound {
                        0 => Bound::Unbounded,
                        1 => Bound::Included(any_key(*from)),
                        _ => Bound::Excluded(any_key(*from)),
                    };
                    model.check_walk(&index, from, has_end.then(|| any_key(*end)));
                }
            }
        }
    }
}

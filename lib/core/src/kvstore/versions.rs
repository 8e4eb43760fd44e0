//! The versions of one key, as an entry of the index. PURE.
//!
//! The newest version is here in full, since the next write builds on it. Older ones are in a [`History`], which most
//! keys don't have. Versions stand in the order of their writes: a key that is written several times in one revision
//! has several versions of that revision, and a read of it sees the last.

use super::history::{History, Older};
use super::place::{Place, RecordAt};
use crate::mutant::{self, Mutant};
use crate::types::Revision;

/// What one write did to a key; its value is in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// The record of this write.
    pub at: RecordAt,
    /// Revision that created the key; 0 for a tombstone.
    pub create_revision: Revision,
    /// Writes since creation; 0 for a tombstone.
    pub version: u64,
    /// Whether this write deleted the key.
    pub tombstone: bool,
}

/// A version that a read sees, which is no tombstone.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// The newest one, with all that is known about it.
    Newest(KeyVersion),
    /// An older one; its record holds the rest.
    Older(RecordAt),
}

impl Visible {
    /// The record of the write.
    pub fn at(self) -> RecordAt {
        match self {
            Visible::Newest(version) => version.at,
            Visible::Older(at) => at,
        }
    }
}

/// What is left of a key that was swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// Versions that somebody may need.
    Kept,
    /// And some that nobody needs.
    More,
    /// Nothing.
    Gone,
}

/// The versions of one key. The fields lie flat, so that an entry takes 56 bytes.
#[derive(Debug)]
pub struct Versions {
    revision: Revision,
    create_revision: Revision,
    version: u64,
    older: Option<Box<History>>,
    place: Place,
    /// How many values of this key that are no versions any more still stand in some segment.
    garbage: u32,
    /// Where the key begins in its leaf's block.
    key_at: u32,
    key_len: u16,
    tombstone: bool,
}

const BLOCK_FITS: &str = "the keys of a leaf take less than a MiB";
const _: () = assert!(size_of::<Versions>() == 56, "there are as many of these as keys");

impl Versions {
    /// A key with one version; the key is in its leaf's block.
    pub(super) fn new(key_at: usize, key_len: usize, newest: KeyVersion) -> Versions {
        let KeyVersion { at: RecordAt { revision, place }, create_revision, version, tombstone } = newest;
        let key_at = u32::try_from(key_at).expect(BLOCK_FITS);
        let key_len = u16::try_from(key_len).expect("what is no key is refused before it gets here");
        Versions { revision, create_revision, version, older: None, place, garbage: 0, key_at, key_len, tombstone }
    }

    /// The key, which is in this block.
    pub(super) fn key<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.key_at as usize..][..self.key_len()]
    }

    pub(super) fn key_len(&self) -> usize {
        usize::from(self.key_len)
    }

    pub(super) fn set_key_at(&mut self, key_at: usize) {
        self.key_at = u32::try_from(key_at).expect(BLOCK_FITS);
    }

    /// The same in a block in which so many bytes precede the one that it came from.
    pub(super) fn with_key_behind(mut self, bytes: usize) -> Versions {
        self.set_key_at(self.key_at as usize + bytes);
        self
    }

    /// The newest version, which may be a tombstone.
    pub fn newest(&self) -> KeyVersion {
        let at = RecordAt { revision: self.revision, place: self.place };
        KeyVersion { at, create_revision: self.create_revision, version: self.version, tombstone: self.tombstone }
    }

    /// The version that a read at `revision` sees.
    pub fn visible(&self, revision: Revision) -> Option<Visible> {
        if self.revision <= revision {
            return (!self.tombstone).then_some(Visible::Newest(self.newest()));
        }
        let history = self.older.as_ref()?;
        let seen = history.get(history.upto(revision).checked_sub(1)?);
        (!seen.tombstone()).then_some(Visible::Older(seen.at()))
    }

    /// How many of the oldest versions nobody needs who reads or watches from `compacted` on: all up to there except
    /// the last, and the last, too, if it is a tombstone *below* `compacted`. One of `compacted` itself is what a watch
    /// from there begins with. They must be removed oldest first: removing a tombstone before what it hides would bring
    /// that back.
    pub fn dead(&self, compacted: Revision) -> usize {
        let older = self.older.as_ref().map_or(0, |history| history.upto(compacted));
        let (upto, last) = match (&self.older, self.revision <= compacted) {
            (_, true) => (older + 1, Older::new(self.newest().at, self.tombstone)),
            (Some(history), false) if older > 0 => (older, history.get(older - 1)),
            (_, false) => return 0,
        };
        let last_goes = last.tombstone() && last.revision() < compacted;
        if last_goes { upto } else { upto - 1 }
    }

    /// The records of all versions, oldest first.
    pub fn records(&self) -> impl Iterator<Item = RecordAt> {
        let older = self.older.iter().flat_map(|history| history.iter()).map(Older::at);
        older.chain([self.newest().at])
    }

    /// Adds a version after all others.
    pub(super) fn push(&mut self, newest: KeyVersion) {
        let before = self.newest();
        let (old, new) = (before.at, newest.at);
        assert!(old.revision <= new.revision && old != new, "versions are pushed in the order of their writes");
        self.older.get_or_insert_default().push(Older::new(before.at, before.tombstone));
        let KeyVersion { at: RecordAt { revision, place }, create_revision, version, tombstone } = newest;
        (self.revision, self.place, self.tombstone) = (revision, place, tombstone);
        (self.create_revision, self.version) = (create_revision, version);
    }

    /// Whether one of the versions has this record.
    pub fn has(&self, at: RecordAt) -> bool {
        let is_newest = RecordAt { revision: self.revision, place: self.place } == at;
        is_newest || self.older.as_ref().is_some_and(|older| older.has(at))
    }

    /// Puts the record of a version at another place; false when no version has it.
    pub(super) fn relocate(&mut self, at: RecordAt, place: Place) -> bool {
        if (RecordAt { revision: self.revision, place: self.place }) == at {
            self.place = place;
            return true;
        }
        self.older.as_mut().is_some_and(|older| older.relocate(at, place))
    }

    /// Whether there is anything that a compaction could ever remove.
    pub(super) fn has_history(&self) -> bool {
        self.tombstone || self.older.is_some()
    }

    /// Drops versions that nobody needs who reads or watches from `compacted` on, at most `most` of them, the oldest
    /// first; `dropped` gets each. Their records stay where they are, so each value among them counts as garbage. The last
    /// version up to there, if it is a tombstone *below* `compacted`, is dropped only when there is no garbage: until then
    /// it hides values that an opening would find (rule D6).
    pub(super) fn sweep(&mut self, compacted: Revision, most: usize, dropped: &mut dyn FnMut(Older)) -> Swept {
        let upto = match (self.revision <= compacted, &self.older) {
            (true, older) => 1 + older.as_ref().map_or(0, |older| older.len()),
            (false, Some(older)) => older.upto(compacted),
            (false, None) => 0,
        };
        let Some(hidden) = upto.checked_sub(1) else { return Swept::Kept };
        let drops = hidden.min(most);
        if let Some(older) = self.older.as_ref().filter(|_| drops > 0) {
            let values = (0..drops).map(|nth| older.get(nth)).inspect(|version| dropped(*version));
            let values = values.filter(|version| !version.tombstone()).count();
            self.add_garbage(values);
            self.forget_oldest(drops);
        }
        if drops < hidden {
            return Swept::More;
        }
        self.drop_tombstone(compacted, dropped)
    }

    /// Drops the oldest version if it is a tombstone below `compacted` that hides nothing any more.
    fn drop_tombstone(&mut self, compacted: Revision, dropped: &mut dyn FnMut(Older)) -> Swept {
        let oldest = match &self.older {
            Some(older) => older.get(0),
            None => Older::new(self.newest().at, self.tombstone),
        };
        let hides = self.garbage > 0 && !mutant::is(Mutant::TombstoneFirst) && !mutant::is(Mutant::SumNotCompared);
        if hides || !oldest.tombstone() || oldest.revision() >= compacted {
            return Swept::Kept;
        }
        dropped(oldest);
        if self.forget_oldest(1) { Swept::Gone } else { Swept::Kept }
    }

    /// Notes that so many values which are no versions any more have gone from the segments. The last of them takes the
    /// tombstone that hid them along.
    pub(super) fn remove_garbage(&mut self, count: u32, compacted: Revision, dropped: &mut dyn FnMut(Older)) -> Swept {
        self.garbage = self.garbage.checked_sub(count).expect("garbage is counted when it becomes that");
        if self.garbage > 0 { Swept::Kept } else { self.drop_tombstone(compacted, dropped) }
    }

    /// Notes values that are no versions any more, but still stand in some segment.
    pub(super) fn add_garbage(&mut self, count: usize) {
        let count = u32::try_from(count).expect("a key has fewer versions");
        self.garbage = self.garbage.checked_add(count).expect("a key has fewer versions");
    }

    /// Forgets the oldest versions; true when nothing is left, which needs the newest one to be a tombstone.
    pub(super) fn forget_oldest(&mut self, count: usize) -> bool {
        let older = self.older.as_ref().map_or(0, |history| history.len());
        if count > older {
            assert!(count == older + 1, "no more versions than there are can be forgotten");
            assert!(self.tombstone, "a key that exists is not forgotten");
        }
        match &mut self.older {
            Some(history) if count < older => history.forget_oldest(count),
            Some(_) | None => self.older = None,
        }
        count > older
    }

    /// Memory that the older versions take.
    pub(super) fn older_bytes(&self) -> usize {
        self.older.as_ref().map_or(0, |history| history.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(revision: Revision, sub: u32) -> KeyVersion {
        KeyVersion { at: RecordAt::new(revision, sub), create_revision: 2, version: 1, tombstone: false }
    }

    fn tombstone(revision: Revision, sub: u32) -> KeyVersion {
        KeyVersion { at: RecordAt::new(revision, sub), create_revision: 0, version: 0, tombstone: true }
    }

    fn versions(all: &[KeyVersion]) -> Versions {
        let mut versions = Versions::new(0, 1, all[0]);
        all[1..].iter().for_each(|version| versions.push(*version));
        versions
    }

    #[test]
    fn a_read_sees_the_newest_version_up_to_its_revision() {
        let versions = versions(&[value(2, 0), value(4, 0), tombstone(6, 0), value(8, 0)]);
        let seen = |revision| versions.visible(revision).map(|seen| seen.at().revision);
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7, 8, 9].map(seen),
            [None, Some(2), Some(2), Some(4), Some(4), None, None, Some(8), Some(8)]
        );
        assert_eq!(versions.visible(8), Some(Visible::Newest(value(8, 0))));
        assert_eq!(versions.visible(5), Some(Visible::Older(RecordAt::new(4, 0))));
    }

    #[test]
    fn a_read_of_a_revision_sees_its_last_write_of_the_key() {
        let older = [value(2, 0), value(4, 1), tombstone(4, 5), value(4, 6), value(7, 0), tombstone(7, 9)];
        let versions = versions(&older);
        assert_eq!(versions.visible(3), Some(Visible::Older(RecordAt::new(2, 0))));
        assert_eq!(versions.visible(4), Some(Visible::Older(RecordAt::new(4, 6))));
        assert_eq!(versions.visible(6), Some(Visible::Older(RecordAt::new(4, 6))));
        assert_eq!(versions.visible(7), None);
        assert_eq!(versions.records().collect::<Vec<_>>(), older.map(|version| version.at));
    }

    #[test]
    fn dead_is_what_nobody_needs_who_begins_at_the_compacted_revision() {
        let mut all = vec![value(2, 0), value(4, 0), tombstone(6, 0), value(8, 0)];
        let dead = |all: &[KeyVersion], compacted| versions(all).dead(compacted);
        assert_eq!([1, 2, 3, 4, 5].map(|compacted| dead(&all, compacted)), [0, 0, 0, 1, 1]);
        assert_eq!(dead(&all, 6), 2, "a watch from 6 begins with the tombstone");
        assert_eq!([7, 8, 9].map(|compacted| dead(&all, compacted)), [3, 3, 3]);
        all.push(tombstone(9, 0));
        assert_eq!([8, 9, 10].map(|compacted| dead(&all, compacted)), [3, 4, 5], "at last nothing stays of the key");
    }

    #[test]
    fn of_several_writes_in_the_compacted_revision_the_last_stays() {
        let put_last = [value(2, 0), tombstone(4, 1), value(4, 2), value(9, 0)];
        assert_eq!([3, 4, 5].map(|compacted| versions(&put_last).dead(compacted)), [0, 2, 2]);
        let delete_last = [value(2, 0), value(4, 1), tombstone(4, 2)];
        assert_eq!([3, 4, 5].map(|compacted| versions(&delete_last).dead(compacted)), [0, 2, 3]);
    }

    #[test]
    fn what_is_forgotten_is_the_oldest() {
        let mut versions = versions(&[value(2, 0), value(4, 0), tombstone(6, 0)]);
        assert!(!versions.forget_oldest(1));
        assert_eq!(versions.records().collect::<Vec<_>>(), [RecordAt::new(4, 0), RecordAt::new(6, 0)]);
        assert_eq!((versions.visible(3), versions.visible(5)), (None, Some(Visible::Older(RecordAt::new(4, 0)))));
        assert!(!versions.forget_oldest(1));
        assert_eq!(versions.older_bytes(), 0);
        assert!(versions.forget_oldest(1));
    }

    #[test]
    #[should_panic(expected = "in the order of their writes")]
    fn the_same_write_is_not_pushed_twice() {
        versions(&[value(2, 1), value(2, 1)]);
    }

    #[test]
    #[should_panic(expected = "a key that exists is not forgotten")]
    fn a_key_that_exists_is_not_forgotten() {
        versions(&[value(2, 0)]).forget_oldest(1);
    }
}

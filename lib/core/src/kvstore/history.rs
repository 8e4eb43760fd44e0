//! The older versions of one key: of each, its revision, its place and whether it is a tombstone. PURE.
//!
//! A key that is written all the time has millions of them, so they lie in blocks. Growing copies one block at most, and
//! the oldest ones go block by block: what stays is left where it is.

use super::memory::capacity_for;
use super::place::{Place, RecordAt};
use crate::types::Revision;
use std::collections::VecDeque;

/// Most versions in a block.
const BLOCK_VERSIONS: usize = 4096;

/// An older version. A read of one reads its record anyway, so the rest of what is known about it is only there.
// Packed, so that it takes no more than its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(super) struct Older {
    /// Its revision, and in the lowest bit whether it is a tombstone.
    word: u64,
    place: Place,
}

impl Older {
    pub(super) fn new(at: RecordAt, tombstone: bool) -> Older {
        assert!(at.revision <= u64::MAX / 2, "a revision takes 63 bits");
        Older { word: at.revision << 1 | u64::from(tombstone), place: at.place }
    }

    pub(super) fn at(self) -> RecordAt {
        RecordAt { revision: self.revision(), place: self.place }
    }

    pub(super) fn revision(self) -> Revision {
        self.word >> 1
    }

    pub(super) fn tombstone(self) -> bool {
        self.word & 1 == 1
    }
}

/// Older versions of a key, ascending, numbered from 0 at the oldest one that is kept.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The blocks before `last`; most keys have none.
    full: Option<Box<Full>>,
    /// The block that grows.
    last: Vec<Older>,
}

/// Full blocks; there is at least one.
#[derive(Debug, Default)]
struct Full {
    blocks: VecDeque<Box<[Older]>>,
    /// This many versions of the first block are forgotten; fewer than it has.
    forgotten: usize,
}

impl Full {
    fn len(&self) -> usize {
        self.blocks.len() * BLOCK_VERSIONS - self.forgotten
    }

    fn get(&self, nth: usize) -> Older {
        let at = self.forgotten + nth;
        self.blocks[at / BLOCK_VERSIONS][at % BLOCK_VERSIONS]
    }

    fn upto(&self, revision: Revision) -> usize {
        let begun = self.blocks.partition_point(|block| block[0].revision() <= revision);
        let Some(before) = begun.checked_sub(1) else { return 0 };
        let seen = before * BLOCK_VERSIONS + upto(&self.blocks[before], revision);
        // Forgotten versions may be among them.
        seen.saturating_sub(self.forgotten)
    }
}

fn upto(versions: &[Older], revision: Revision) -> usize {
    versions.partition_point(|version| version.revision() <= revision)
}

impl History {
    /// Number of versions.
    pub(super) fn len(&self) -> usize {
        self.full_len() + self.last.len()
    }

    fn full_len(&self) -> usize {
        self.full.as_ref().map_or(0, |full| full.len())
    }

    /// The version with this number, which must be there.
    pub(super) fn get(&self, nth: usize) -> Older {
        match &self.full {
            Some(full) if nth < full.len() => full.get(nth),
            Some(full) => self.last[nth - full.len()],
            None => self.last[nth],
        }
    }

    /// Number of versions up to a revision, those of the revision itself included.
    pub(super) fn upto(&self, revision: Revision) -> usize {
        let of_full = self.full.as_ref().map_or(0, |full| full.upto(revision));
        of_full + upto(&self.last, revision)
    }

    /// All versions, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = Older> {
        (0..self.len()).map(|nth| self.get(nth))
    }

    /// Puts the record of version `nth` at another place.
    fn set_place(&mut self, nth: usize, place: Place) {
        match &mut self.full {
            Some(full) if nth < full.len() => {
                let at = full.forgotten + nth;
                full.blocks[at / BLOCK_VERSIONS][at % BLOCK_VERSIONS].place = place;
            }
            Some(full) => {
                let nth = nth - full.len();
                self.last[nth].place = place;
            }
            None => self.last[nth].place = place,
        }
    }

    /// The number of the version with this record.
    fn find(&self, at: RecordAt) -> Option<usize> {
        let of_revision = self.upto(at.revision.checked_sub(1)?)..self.upto(at.revision);
        of_revision.into_iter().find(|nth| self.get(*nth).at() == at)
    }

    /// Whether one of the versions has this record.
    pub(super) fn has(&self, at: RecordAt) -> bool {
        self.find(at).is_some()
    }

    /// Puts the record of a version at another place; false when no version has it.
    pub(super) fn relocate(&mut self, at: RecordAt, place: Place) -> bool {
        let found = self.find(at);
        if let Some(nth) = found {
            self.set_place(nth, place);
        }
        found.is_some()
    }

    /// Adds a version after all others.
    pub(super) fn push(&mut self, version: Older) {
        if self.last.len() == BLOCK_VERSIONS {
            let block = std::mem::take(&mut self.last).into_boxed_slice();
            self.full.get_or_insert_default().blocks.push_back(block);
        }
        let len = self.last.len();
        if len == self.last.capacity() {
            let capacity = capacity_for(len + 1, size_of::<Older>()).min(BLOCK_VERSIONS);
            self.last.reserve_exact(capacity - len);
        }
        self.last.push(version);
    }

    /// Forgets the oldest versions, of which there must be so many. Moves no more than one block.
    pub(super) fn forget_oldest(&mut self, count: usize) {
        let of_full = count.min(self.full_len());
        if let Some(full) = &mut self.full {
            full.forgotten += of_full;
            while full.forgotten >= BLOCK_VERSIONS {
                full.blocks.pop_front();
                full.forgotten -= BLOCK_VERSIONS;
            }
            if full.blocks.is_empty() {
                self.full = None;
            }
        }
        self.last.drain(..count - of_full);
        if self.last.len() < self.last.capacity() / 2 {
            self.last.shrink_to(capacity_for(self.last.len(), size_of::<Older>()));
        }
    }

    /// Memory that it takes, itself included.
    pub(super) fn bytes(&self) -> usize {
        const BLOCK_BYTES: usize = size_of::<Box<[Older]>>() + BLOCK_VERSIONS * size_of::<Older>();
        let full = self.full.as_ref().map_or(0, |full| size_of::<Full>() + full.blocks.len() * BLOCK_BYTES);
        size_of::<History>() + full + self.last.capacity() * size_of::<Older>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn older(nth: u64) -> Older {
        // Three writes in each revision; every fifth is a tombstone.
        Older::new(RecordAt::new(2 + nth / 3, (nth % 3) as u32), nth.is_multiple_of(5))
    }

    fn history(count: u64) -> History {
        let mut history = History::default();
        (0..count).for_each(|nth| history.push(older(nth)));
        history
    }

    /// Compares everything with the plain list of the versions from `first` to `end`.
    fn check(history: &History, first: u64, end: u64) {
        let all: Vec<Older> = (first..end).map(older).collect();
        assert_eq!(history.iter().collect::<Vec<_>>(), all, "{first}..{end}");
        for revision in [0, 1, 2, 3, 2 + first / 3, 1367, 1368, 2000, 2733, end / 6, 1 + end / 3, 2 + end / 3] {
            let upto = all.iter().filter(|version| version.revision() <= revision).count();
            assert_eq!(history.upto(revision), upto, "{first}..{end} up to {revision}");
        }
    }

    #[test]
    fn an_older_version_takes_its_fields_and_no_more() {
        let version = Older::new(RecordAt::new(u64::MAX / 2, u32::MAX), true);
        assert_eq!((version.at(), version.tombstone()), (RecordAt::new(u64::MAX / 2, u32::MAX), true));
        assert_eq!(size_of::<Older>(), 20);
    }

    #[test]
    fn versions_are_found_in_every_block_however_many_are_forgotten() {
        let block = BLOCK_VERSIONS as u64;
        for count in [1, block - 1, block, block + 1, 3 * block + 7] {
            let steps = [1, 2, block - 1, block, block + 1, 2 * block];
            for step in steps.into_iter().filter(|step| *step <= count) {
                let mut history = history(count);
                let mut forgotten = 0;
                while forgotten + step <= count {
                    check(&history, forgotten, count);
                    history.forget_oldest(step as usize);
                    forgotten += step;
                    if step < 3 && forgotten > 10 && forgotten + 10 < count {
                        // In small steps only the ends are of interest.
                        history.forget_oldest((count - 10 - forgotten) as usize);
                        forgotten = count - 10;
                    }
                }
                check(&history, forgotten, count);
                history.push(older(count));
                check(&history, forgotten, count + 1);
            }
        }
    }

    #[test]
    fn what_stays_is_not_moved_when_whole_blocks_go() {
        let mut history = history(5 * BLOCK_VERSIONS as u64);
        let kept = |history: &History| {
            let blocks = &history.full.as_ref().unwrap().blocks;
            (blocks.back().unwrap().as_ptr(), history.last.as_ptr())
        };
        let before = kept(&history);
        history.forget_oldest(2 * BLOCK_VERSIONS + 5);
        assert_eq!(kept(&history), before);
        assert_eq!(history.full.as_ref().unwrap().blocks.len(), 2, "the forgotten blocks are gone");
    }

    #[test]
    fn its_bytes_follow_its_length_up_and_down() {
        let of_versions = |count: usize| count * size_of::<Older>();
        let mut history = history(2 * BLOCK_VERSIONS as u64 + 10);
        let full = history.bytes();
        assert!(full >= of_versions(2 * BLOCK_VERSIONS + 10) && full < of_versions(2 * BLOCK_VERSIONS + 10) * 11 / 10);
        history.forget_oldest(2 * BLOCK_VERSIONS + 9);
        assert_eq!(history.bytes(), size_of::<History>() + of_versions(1));
    }
}

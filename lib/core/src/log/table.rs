//! The log in memory: where every entry stands, and the newest entries themselves ("storage" in raftexample).
//!
//! Indexes base+1..=last each have a [`Slot`]; the newest few also have their entry in the window (rule N17). Enters:
//! what the log writes or replays. Leaves: terms, places, entries of the window. PURE.

use super::Mark;
use super::codec::entry_bytes;
use super::slots::{Slot, Slots};
use crate::types::{Index, Term};
use raft::prelude::Entry;
use std::collections::VecDeque;

/// The table of slots and the window of entries, both contiguous and ending at the last index.
pub struct Table {
    base: Mark,
    slots: Slots,
    window: VecDeque<Entry>,
    window_bytes: usize,
    window_bytes_max: usize,
}

impl Table {
    /// An empty log that begins after `base`.
    pub fn new(base: Mark, window_bytes_max: usize) -> Table {
        let slots = Slots::new(base.index + 1);
        Table { base, slots, window: VecDeque::new(), window_bytes: 0, window_bytes_max }
    }

    /// Index before the first entry, with its term.
    pub fn base(&self) -> Mark {
        self.base
    }

    /// Index of the last entry, or the base's.
    pub fn last_index(&self) -> Index {
        self.base.index + self.slots.len() as u64
    }

    /// The last index with its term.
    pub fn last(&self) -> Mark {
        Mark { index: self.last_index(), term: self.slots.back().map_or(self.base.term, |slot| slot.term) }
    }

    /// Term of an index in base..=last.
    pub fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.slot(index).map(|slot| slot.term)
    }

    /// Slot of an index in base+1..=last.
    pub fn slot(&self, index: Index) -> Option<Slot> {
        self.slots.get(index)
    }

    /// The oldest segment that holds an entry of the log. Slots ascend by segment, since replacing an entry drops all
    /// after it.
    pub fn oldest_segment(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.segment_seq)
    }

    /// First index of the window; last + 1 when it is empty.
    pub fn window_first(&self) -> Index {
        self.last_index() + 1 - self.window.len() as u64
    }

    /// An entry of the window.
    pub fn windowed(&self, index: Index) -> Option<&Entry> {
        let position = index.checked_sub(self.window_first())?;
        self.window.get(usize::try_from(position).ok()?)
    }

    /// Forgets everything; the log goes on after `base`.
    pub fn restart(&mut self, base: Mark) {
        *self = Table::new(base, self.window_bytes_max);
    }

    /// Forgets `index` and everything after it.
    pub fn truncate(&mut self, index: Index) {
        assert!(index > self.base.index, "cannot cut at {index}, the base is {}", self.base.index);
        while self.last_index() >= index {
            self.slots.pop_back();
            if let Some(entry) = self.window.pop_back() {
                self.window_bytes -= entry_bytes(&entry);
            }
        }
    }

    /// Appends an entry's place without the entry. The window has to be empty, since it would get a gap.
    pub fn push_slot(&mut self, slot: Slot) {
        debug_assert!(self.window.is_empty(), "a slot without its entry behind the window");
        self.slots.push(slot);
    }

    /// Appends an entry.
    pub fn push(&mut self, slot: Slot, entry: Entry) {
        assert_eq!(entry.index, self.last_index() + 1, "entries are contiguous");
        self.slots.push(slot);
        self.window_bytes += entry_bytes(&entry);
        self.window.push_back(entry);
    }

    /// Drops the oldest entries of the window until it is within its bound. Entries from `pinned` on stay: they may not
    /// have reached the disk yet.
    pub fn shrink_window(&mut self, pinned: Index) {
        while self.window_bytes > self.window_bytes_max && self.window_first() < pinned {
            let Some(entry) = self.window.pop_front() else { return };
            self.window_bytes -= entry_bytes(&entry);
        }
    }

    /// Fills the empty window with the newest entries, `entries` being those from [`Table::window_wanted`] on.
    pub fn fill_window(&mut self, entries: Vec<Entry>) {
        self.window_bytes = entries.iter().map(entry_bytes).sum();
        self.window = entries.into();
    }

    /// First index of what fits into the window.
    pub fn window_wanted(&self) -> Index {
        let mut bytes = 0;
        let fitting = self.slots.sizes_from_newest().take_while(|size| {
            bytes += size;
            bytes <= self.window_bytes_max
        });
        self.last_index() + 1 - fitting.count() as u64
    }

    /// Forgets entries up to `base.index`.
    pub fn compact(&mut self, base: Mark) {
        assert!(
            base.index <= self.last_index(),
            "compaction at {} behind the last index {}",
            base.index,
            self.last_index()
        );
        assert_eq!(self.term(base.index), Some(base.term), "term at the compaction point {}", base.index);
        let forgotten = (base.index - self.base.index) as usize;
        while self.window_first() <= base.index {
            let Some(entry) = self.window.pop_front() else { break };
            self.window_bytes -= entry_bytes(&entry);
        }
        self.slots.forget(forgotten);
        self.base = base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_keeps_the_newest_and_never_less_than_what_is_pinned() {
        let mut table = filled(10, 3 * entry_bytes(&entry(1)));
        table.shrink_window(6);
        assert_eq!(table.window_first(), 6, "five are over the bound, but pinned");
        table.shrink_window(11);
        assert_eq!(table.window_first(), 8);
        assert!(table.windowed(7).is_none());
        assert_eq!(table.windowed(8), Some(&entry(8)));
        assert_eq!(table.window_wanted(), 8);
    }

    #[test]
    fn truncation_and_compaction_keep_slots_and_window_in_step() {
        let mut table = filled(10, usize::MAX);
        table.truncate(8);
        assert_eq!((table.last_index(), table.window_first()), (7, 1));
        table.push(slot(8), entry(8));
        table.compact(Mark { index: 5, term: 1 });
        assert_eq!((table.base().index, table.window_first(), table.last_index()), (5, 6, 8));
        assert_eq!((table.term(4), table.term(5), table.term(8), table.term(9)), (None, Some(1), Some(1), None));
        table.compact(Mark { index: 8, term: 1 });
        assert_eq!((table.last(), table.window_bytes), (Mark { index: 8, term: 1 }, 0));
        table.restart(Mark { index: 20, term: 3 });
        assert_eq!((table.last_index(), table.term(20)), (20, Some(3)));
    }

    #[test]
    fn compaction_behind_a_shrunken_window_leaves_it_alone() {
        let mut table = filled(10, 3 * entry_bytes(&entry(1)));
        table.shrink_window(11);
        table.compact(Mark { index: 4, term: 1 });
        assert_eq!((table.window_first(), table.windowed(8)), (8, Some(&entry(8))));
    }

    fn filled(count: u64, window_bytes_max: usize) -> Table {
        let mut table = Table::new(Mark::default(), window_bytes_max);
        (1..=count).for_each(|index| table.push(slot(index), entry(index)));
        table
    }

    fn slot(index: u64) -> Slot {
        Slot { segment_seq: 1, offset: index as u32 * 48, bytes: 48, term: 1 }
    }

    fn entry(index: u64) -> Entry {
        Entry { index, term: 1, ..Entry::default() }
    }
}

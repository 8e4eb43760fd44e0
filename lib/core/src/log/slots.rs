//! Where the entries of the log stand: for each its offset and size, and for runs of them their segment and term. PURE.
//!
//! Tens of thousands of entries in a row share one segment and one term, so an entry costs 8 bytes here.

use crate::types::{Index, Term};
use std::collections::VecDeque;

/// Where an entry's record stands, and its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its segment.
    pub segment_seq: u64,
    /// Its offset there.
    pub offset: u32,
    /// Bytes of the record.
    pub bytes: u32,
    /// The entry's term.
    pub term: Term,
}

impl Slot {
    /// Offset after the record.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }
}

struct Place {
    offset: u32,
    bytes: u32,
}

/// Segment and term of the entries from `first` up to the `first` of the next run.
struct Run {
    first: Index,
    segment_seq: u64,
    term: Term,
}

/// The slots of contiguous indexes.
pub struct Slots {
    first: Index,
    places: VecDeque<Place>,
    runs: VecDeque<Run>,
}

impl Slots {
    /// No slots; the first one to be pushed is that of `first`.
    pub fn new(first: Index) -> Slots {
        Slots { first, places: VecDeque::new(), runs: VecDeque::new() }
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The slot of one index.
    pub fn get(&self, index: Index) -> Option<Slot> {
        let place = self.places.get(usize::try_from(index.checked_sub(self.first)?).ok()?)?;
        let run = self.runs.partition_point(|run| run.first <= index).checked_sub(1)?;
        let Run { first: _, segment_seq, term } = self.runs[run];
        Some(Slot { segment_seq, offset: place.offset, bytes: place.bytes, term })
    }

    /// The slot of the first index.
    pub fn front(&self) -> Option<Slot> {
        self.get(self.first)
    }

    /// The slot of the last index.
    pub fn back(&self) -> Option<Slot> {
        self.get(self.behind() - 1)
    }

    fn behind(&self) -> Index {
        self.first + self.places.len() as u64
    }

    /// Adds the next index.
    pub fn push(&mut self, slot: Slot) {
        let Slot { segment_seq, offset, bytes, term } = slot;
        if self.runs.back().is_none_or(|run| (run.segment_seq, run.term) != (segment_seq, term)) {
            self.runs.push_back(Run { first: self.behind(), segment_seq, term });
        }
        self.places.push_back(Place { offset, bytes });
    }

    /// Forgets the last index.
    pub fn pop_back(&mut self) {
        self.places.pop_back();
        if self.runs.back().is_some_and(|run| run.first >= self.behind()) {
            self.runs.pop_back();
        }
    }

    /// Forgets the first `count` indexes.
    pub fn forget(&mut self, count: usize) {
        self.places.drain(..count);
        self.first += count as u64;
        let used = self.runs.partition_point(|run| run.first <= self.first).saturating_sub(1);
        self.runs.drain(..used);
        if self.places.is_empty() {
            self.runs.clear();
        }
        // The capacity grows to what a burst needed; this call is rare enough to give that back.
        self.places.shrink_to(2 * self.places.len());
    }

    /// Bytes of the records, the newest first.
    pub fn sizes_from_newest(&self) -> impl Iterator<Item = usize> {
        self.places.iter().rev().map(|place| place.bytes as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push { segment: bool, term: bool },
        Pop,
        Forget(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let push = any::<(bool, bool)>().prop_map(|(segment, term)| Step::Push { segment, term });
        let step = prop_oneof![6 => push, 2 => Just(Step::Pop), 1 => (0..4usize).prop_map(Step::Forget)];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn they_are_what_was_pushed(steps in steps()) {
            let (mut slots, mut model, mut first) = (Slots::new(10), VecDeque::new(), 10);
            let (mut segment_seq, mut term) = (1, 1);
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push { segment, term: next_term } => {
                        segment_seq += u64::from(segment);
                        term += u64::from(next_term);
                        let slot = Slot { segment_seq, offset: at as u32, bytes: 8, term };
                        slots.push(slot);
                        model.push_back(slot);
                    }
                    Step::Pop => {
                        if model.pop_back().is_some() {
                            slots.pop_back();
                        }
                    }
                    Step::Forget(count) => {
                        let count = count.min(model.len());
                        model.drain(..count);
                        slots.forget(count);
                        first += count as u64;
                    }
                }
                prop_assert_eq!(slots.len(), model.len());
                prop_assert_eq!((slots.front(), slots.back()), (model.front().copied(), model.back().copied()));
                for index in first - 1..=first + model.len() as u64 {
                    let wanted = index.checked_sub(first).and_then(|at| model.get(at as usize)).copied();
                    prop_assert_eq!(slots.get(index), wanted);
                }
            }
        }
    }
}

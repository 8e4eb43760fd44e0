//! What a record does to the log, and which records cannot be right: the same for an append and for a replay.
//!
//! Enters: marks, entries, hard states in the order of the log. Leaves: the table, the HardState in force, or a
//! sentence saying which rule (N1) a record breaks. An append that breaks one is our bug and panics; a replay that
//! meets one stops the node. PURE.

use super::Mark;
use super::codec::{EntryView, SegmentHeader};
use super::slots::Slot;
use super::table::Table;
use crate::types::{Index, Term};
use raft::prelude::{Entry, HardState};

/// The log between two records.
pub struct State {
    /// Places, terms and the newest entries.
    pub table: Table,
    /// The HardState in force.
    pub hard_state: HardState,
    /// Number of the next batch.
    pub next_batch_no: u64,
    /// No entry up to here is ever replaced: the highest commit index or snapshot index seen.
    floor: Index,
    /// Whether the base is only where the oldest segment that is left begins. A lower base was in force when its
    /// entries were written, so an entry may still replace what stood below.
    base_floats: bool,
}

/// What is checked about an entry before it is taken.
#[derive(Clone, Copy)]
struct Link {
    index: Index,
    term: Term,
    previous_term: Term,
}

impl State {
    /// The state at the beginning of the oldest segment.
    pub fn at_header(header: &SegmentHeader, window_bytes_max: usize) -> Result<State, String> {
        let SegmentHeader { last, base, hard_state, first_batch_no, identity: _, segment_seq: _, segment_bytes: _ } =
            header;
        if last.index < base.index {
            return Err(format!("its last index {} is below its snapshot's index {}", last.index, base.index));
        }
        Ok(State {
            table: Table::new(*last, window_bytes_max),
            hard_state: hard_state.clone(),
            next_batch_no: *first_batch_no,
            floor: base.index.max(hard_state.commit),
            base_floats: true,
        })
    }

    /// A later segment begins: its header must agree with the log up to here.
    pub fn follow_header(&mut self, header: &SegmentHeader) -> Result<(), String> {
        let SegmentHeader { last, base, hard_state, first_batch_no, identity: _, segment_seq: _, segment_bytes: _ } =
            header;
        if *first_batch_no != self.next_batch_no {
            return Err(format!(
                "it begins with batch {first_batch_no}, the one before ends before {}",
                self.next_batch_no
            ));
        }
        if *last != self.table.last() {
            return Err(format!("it begins behind {last:?}, the one before ends with {:?}", self.table.last()));
        }
        if *hard_state != self.hard_state {
            return Err(format!("it begins with {hard_state:?}, the one before ends with {:?}", self.hard_state));
        }
        if base.index > self.table.base().index {
            if self.table.term(base.index) != Some(base.term) {
                return Err(format!("its snapshot {base:?} is not in the log before it"));
            }
            self.table.compact(*base);
        }
        self.floor = self.floor.max(base.index);
        Ok(())
    }

    /// The log restarts after a snapshot.
    pub fn mark(&mut self, mark: Mark) -> Result<(), String> {
        if mark.index < self.floor {
            return Err(format!("a snapshot at {} behind the commit index {}", mark.index, self.floor));
        }
        self.table.restart(mark);
        self.floor = mark.index;
        self.base_floats = false;
        Ok(())
    }

    /// Takes an entry that is being written.
    pub fn entry(&mut self, entry: Entry, previous_term: Term, slot: Slot) -> Result<(), String> {
        self.link(Link { index: entry.index, term: entry.term, previous_term })?;
        self.table.push(slot, entry);
        Ok(())
    }

    /// Takes an entry that is being replayed; the window is filled afterwards.
    pub fn replayed_entry(&mut self, view: &EntryView<'_>, slot: Slot) -> Result<(), String> {
        self.link(Link { index: view.index, term: view.term, previous_term: view.previous_term })?;
        self.table.push_slot(slot);
        Ok(())
    }

    /// Makes `index` the next one; if it exists, it and everything after it is dropped.
    fn link(&mut self, Link { index, term, previous_term }: Link) -> Result<(), String> {
        let last_index = self.table.last_index();
        if index == 0 || index > last_index + 1 {
            return Err(format!("entry {index} leaves a gap behind {last_index}"));
        }
        if index <= self.floor {
            return Err(format!("entry {index} replaces what is committed up to {}", self.floor));
        }
        if term < previous_term {
            return Err(format!("entry {index} of term {term} follows one of term {previous_term}"));
        }
        if index > self.table.base().index {
            let before = self.table.term(index - 1);
            if before != Some(previous_term) {
                return Err(format!(
                    "entry {index} follows one of term {previous_term}, but the log has {before:?} there"
                ));
            }
            self.table.truncate(index);
        } else if self.base_floats {
            self.table.restart(Mark { index: index - 1, term: previous_term });
        } else {
            return Err(format!("entry {index} is not above the snapshot's index {}", self.table.base().index));
        }
        Ok(())
    }

    /// Takes a new HardState.
    pub fn hard_state(&mut self, hard_state: HardState) -> Result<(), String> {
        if hard_state.term < self.hard_state.term {
            return Err(format!("the term falls from {} to {}", self.hard_state.term, hard_state.term));
        }
        if hard_state.commit < self.hard_state.commit {
            return Err(format!("the commit index falls from {} to {}", self.hard_state.commit, hard_state.commit));
        }
        self.floor = self.floor.max(hard_state.commit);
        self.hard_state = hard_state;
        Ok(())
    }

    /// Forgets entries up to `base.index`.
    pub fn compact(&mut self, base: Mark) {
        self.table.compact(base);
        self.floor = self.floor.max(base.index);
        self.base_floats = false;
    }
}

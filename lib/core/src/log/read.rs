//! Reads entries that lie below the window from segments (rule N17): for slow followers, and to refill the apply queue.
//!
//! Enters: the table's slots. Leaves: entries that validated, their data sharing one buffer per read.

use super::LogError;
use super::codec::{self, Body};
use super::segment::segment_name;
use super::slots::Slot;
use super::table::Table;
use crate::ports::LogDisk;
use crate::types::Index;
use bytes::Bytes;
use raft::prelude::Entry;

/// Slots are read together while the bytes between two of them (ends of batches, hard states) are not above this.
const GAP_BYTES_MAX: u64 = 4096;
/// Most bytes of one read, unless one record is larger.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// Entries to be read from segments: planned by the table, read by whoever has the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    first: Index,
    slots: Vec<Slot>,
}

/// Why planned entries could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailed {
    /// What was there is not what was written, as opposed to a disk that failed.
    pub damaged: bool,
    /// For people.
    pub why: String,
}

impl From<LogError> for ReadFailed {
    fn from(error: LogError) -> ReadFailed {
        ReadFailed { damaged: matches!(error, LogError::Corrupt { .. }), why: error.to_string() }
    }
}

impl ReadPlan {
    /// The entries low..high, whose slots the table has.
    pub(super) fn new(table: &Table, low: Index, high: Index) -> ReadPlan {
        let slot = |index| table.slot(index).expect("the caller asks for indexes of the log");
        ReadPlan { first: low, slots: (low..high).map(slot).collect() }
    }

    /// Index of the first entry.
    pub fn first(&self) -> Index {
        self.first
    }

    /// Bytes of the entries on the disk.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.bytes)).sum()
    }

    /// Reads and checks the entries.
    pub fn read(&self, disk: &dyn LogDisk) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::with_capacity(self.slots.len());
        let mut rest = &self.slots[..];
        while !rest.is_empty() {
            let (run, behind) = rest.split_at(run_length(rest));
            read_run(disk, self.first + entries.len() as u64, run, &mut entries)?;
            rest = behind;
        }
        Ok(entries)
    }
}

/// How many of the slots are read together.
fn run_length(slots: &[Slot]) -> usize {
    let first = slots[0];
    let near = |pair: &&[Slot]| {
        let [previous, next] = pair else { return false };
        next.segment_seq == first.segment_seq
            && u64::from(next.offset) - previous.end() <= GAP_BYTES_MAX
            && next.end() - u64::from(first.offset) <= READ_BYTES_MAX
    };
    1 + slots.windows(2).take_while(near).count()
}

fn read_run(disk: &dyn LogDisk, from: Index, slots: &[Slot], entries: &mut Vec<Entry>) -> Result<(), LogError> {
    let (first, last) = (slots[0], slots[slots.len() - 1]);
    let (name, start) = (segment_name(first.segment_seq), u64::from(first.offset));
    let mut bytes = vec![0; (last.end() - start) as usize];
    let count = disk.read(&name, start, &mut bytes).map_err(LogError::io(&name))?;
    bytes.truncate(count);
    let bytes = Bytes::from(bytes);
    for (index, slot) in (from..).zip(slots) {
        let offset = u64::from(slot.offset);
        let record = bytes.get((offset - start) as usize..).and_then(|at| codec::parse(at, slot.segment_seq, offset));
        match record.map(|record| record.body()) {
            Some(Ok(Body::Entry(view))) if view.index == index && view.term == slot.term => {
                entries.push(view.to_entry(&bytes));
            }
            Some(_) | None => {
                let what =
                    format!("entry {index} of term {} does not validate any more; replace this member", slot.term);
                return Err(LogError::Corrupt { file: name, offset, what });
            }
        }
    }
    Ok(())
}

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

/// Appends the entries low..high, whose slots the table has, to `entries`.
pub fn read_entries(
    disk: &dyn LogDisk,
    table: &Table,
    low: Index,
    high: Index,
    entries: &mut Vec<Entry>,
) -> Result<(), LogError> {
    let mut from = low;
    while from < high {
        let behind = run_end(table, from, high);
        read_run(disk, table, from, behind, entries)?;
        from = behind;
    }
    Ok(())
}

/// First index that is not read together with `from`.
fn run_end(table: &Table, from: Index, high: Index) -> Index {
    let first = slot(table, from);
    let mut previous = first;
    let mut index = from + 1;
    while index < high {
        let next = slot(table, index);
        let near = next.segment_seq == first.segment_seq && u64::from(next.offset) - previous.end() <= GAP_BYTES_MAX;
        if !near || next.end() - u64::from(first.offset) > READ_BYTES_MAX {
            break;
        }
        previous = next;
        index += 1;
    }
    index
}

fn read_run(
    disk: &dyn LogDisk,
    table: &Table,
    from: Index,
    behind: Index,
    entries: &mut Vec<Entry>,
) -> Result<(), LogError> {
    let (first, last) = (slot(table, from), slot(table, behind - 1));
    let (name, start) = (segment_name(first.segment_seq), u64::from(first.offset));
    let mut bytes = vec![0; (last.end() - start) as usize];
    let count = disk.read(&name, start, &mut bytes).map_err(LogError::io(&name))?;
    bytes.truncate(count);
    let bytes = Bytes::from(bytes);
    for index in from..behind {
        let slot = slot(table, index);
        let offset = u64::from(slot.offset);
        let record = bytes.get((offset - start) as usize..).and_then(|at| codec::parse(at, slot.segment_seq, offset));
        match record.and_then(|record| record.body()) {
            Some(Body::Entry(view)) if view.index == index && view.term == slot.term => {
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

fn slot(table: &Table, index: Index) -> Slot {
    table.slot(index).expect("the caller asks for indexes of the log")
}

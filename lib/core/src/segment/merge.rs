//! Merges the tables of many segments by (key, main, sub), with a little of each in memory.
//!
//! So the versions of a key come one behind the other, and an index is built from them without looking anything up.

use super::file::{SegmentError, file_name};
use super::foot::Foot;
use super::seal::Sealed;
use super::table::Line;
use super::table_reader::{Step, TableReader};
use crate::limits::TABLE_READ_BYTES;
use crate::ports::LogDisk;

/// A table to be merged.
pub struct Source {
    reader: TableReader,
    from: From,
}

enum From {
    /// The file with this number.
    File(u64),
    /// Bytes that were pushed already.
    Memory,
}

impl Source {
    /// The table of a file.
    pub fn file(n: u64, foot: &Foot) -> Source {
        Source { reader: TableReader::new(foot), from: From::File(n) }
    }

    /// The table of records that were just sealed.
    pub fn memory(sealed: &Sealed) -> Source {
        let mut reader = TableReader::new(&sealed.foot);
        reader.push(&sealed.table);
        Source { reader, from: From::Memory }
    }

    /// Goes to the next line; false at the end of the table, which is whole then.
    fn step(&mut self, disk: &dyn LogDisk, buffer: &mut [u8]) -> Result<bool, SegmentError> {
        loop {
            let step = self.reader.step().map_err(|why| self.damaged(&why.to_string()))?;
            match step {
                Step::Line => return Ok(true),
                Step::End => return Ok(false),
                Step::More => {
                    let From::File(n) = self.from else { return Err(self.damaged("it is not whole")) };
                    let missing = self.reader.missing();
                    let len = buffer.len().min((missing.end - missing.start) as usize);
                    if disk.read(&file_name(n), missing.start, &mut buffer[..len])? < len {
                        return Err(self.damaged("the file ends within it"));
                    }
                    self.reader.push(&buffer[..len]);
                }
            }
        }
    }

    fn damaged(&self, why: &str) -> SegmentError {
        match self.from {
            From::File(n) => SegmentError::Damaged(format!("the table of {}: {why}", file_name(n))),
            From::Memory => SegmentError::Damaged(format!("a table in memory: {why}")),
        }
    }

    fn line(&self) -> Line<'_> {
        self.reader.line().expect("a source that is merged has a line")
    }
}

/// What went wrong, and with which source.
#[derive(Debug)]
pub struct Broken {
    /// Its place among the sources.
    pub source: usize,
    /// What it is.
    pub error: SegmentError,
}

/// Visits all lines of all tables, ascending by (key, main, sub), each with the number of its source. The lines are
/// believed when it has returned.
pub fn merge(
    disk: &dyn LogDisk,
    sources: &mut [Source],
    visit: &mut dyn FnMut(usize, &Line<'_>),
) -> Result<(), Broken> {
    let mut buffer = vec![0; TABLE_READ_BYTES];
    let mut heap = Vec::with_capacity(sources.len());
    for (source, table) in sources.iter_mut().enumerate() {
        if table.step(disk, &mut buffer).map_err(|error| Broken { source, error })? {
            heap.push(source);
        }
    }
    for at in (0..heap.len() / 2).rev() {
        sift_down(&mut heap, at, sources);
    }
    while let Some(&source) = heap.first() {
        visit(source, &sources[source].line());
        if !sources[source].step(disk, &mut buffer).map_err(|error| Broken { source, error })? {
            heap.swap_remove(0);
        }
        sift_down(&mut heap, 0, sources);
    }
    Ok(())
}

/// Restores the order of a heap whose element `at` may be too large: the least stands first.
fn sift_down(heap: &mut [usize], mut at: usize, sources: &[Source]) {
    let precedes = |a: usize, b: usize| {
        let (a, b) = (sources[a].line(), sources[b].line());
        (a.key, a.stamp.at) < (b.key, b.stamp.at)
    };
    loop {
        let mut least = at;
        for child in [2 * at + 1, 2 * at + 2] {
            if child < heap.len() && precedes(heap[child], heap[least]) {
                least = child;
            }
        }
        if least == at {
            return;
        }
        heap.swap(at, least);
        at = least;
    }
}

//! Reads a table piece by piece, so that the tables of all segments can be merged with a little of each in memory. PURE.
//!
//! ```text
//! push(piece) ──► step() ──► Line: line() has it     once more, until it says
//!                     ├────► More: push the next piece
//!                     └────► End: the whole table is what the foot says
//! ```
//!
//! Each line is checked as it is read: it comes behind the one before, its numbers are in their shortest form, and its
//! record lies among the records. Count, lengths and crc can be checked at the end only, so what was read is believed
//! when `End` has come. A table that is refused is made again from the records.
//!
//! # Caveats
//! A table that belongs to no records and has its crc in a good foot can't be made by damage, and is not looked for: two
//! lines may have one position or share bytes of the file. Who seals the records again finds that.

use super::foot::Foot;
use super::input::{Input, Stop};
use super::stamp::Stamp;
use super::table::{Line, RawLine};
use std::ops::Range;

/// Reads the table of one segment.
pub struct TableReader {
    foot: Foot,
    /// Bytes of the table that were not pushed yet.
    missing: usize,
    /// The sum of those that were.
    crc: u32,
    /// Pushed bytes; those before `at` were read.
    bytes: Vec<u8>,
    at: usize,
    /// Lines that were read, and the lengths of their records.
    lines: u32,
    records_bytes: u64,
    /// The last one of them.
    key: Vec<u8>,
    last: Option<Last>,
}

/// A line besides its key.
#[derive(Clone, Copy)]
struct Last {
    stamp: Stamp,
    offset: u32,
    len: u32,
}

/// What [`TableReader::step`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A line, which [`TableReader::line`] shows until the next step.
    Line,
    /// The end of what was pushed.
    More,
    /// The end of the table, which is whole.
    End,
}

/// Why a table is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTable {
    /// A line is damaged, or does not come behind the one before it.
    #[error("line {line} of a segment's table is damaged")]
    Line {
        /// Counts from 0.
        line: u32,
    },
    /// It has lines of more or fewer records than there are.
    #[error("a segment's table has {lines} lines of {bytes} bytes of records, which are not all its records")]
    Totals {
        /// Its lines.
        lines: u32,
        /// The lengths of their records.
        bytes: u64,
    },
    /// Its sum is another one.
    #[error("a segment's table has a wrong sum")]
    Sum,
}

impl TableReader {
    /// A reader of the table of the segment with this foot.
    pub fn new(foot: &Foot) -> TableReader {
        TableReader {
            foot: *foot,
            missing: foot.table_bytes as usize,
            crc: 0,
            bytes: Vec::new(),
            at: 0,
            lines: 0,
            records_bytes: 0,
            key: Vec::new(),
            last: None,
        }
    }

    /// Where in the file the bytes stand that were not pushed yet; the next piece is the beginning of them.
    pub fn missing(&self) -> Range<u64> {
        let end = self.foot.marks_offset();
        end - self.missing as u64..end
    }

    /// Adds the next piece, which must not be longer than what is missing.
    pub fn push(&mut self, piece: &[u8]) {
        assert!(piece.len() <= self.missing, "{} bytes of a table that lacks {}", piece.len(), self.missing);
        self.missing -= piece.len();
        self.crc = crc32c::crc32c_append(self.crc, piece);
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// Reads the next line of what was pushed.
    pub fn step(&mut self) -> Result<Step, BadTable> {
        let mut input = Input(&self.bytes[self.at..]);
        let had = input.0.len();
        if had == 0 && self.missing == 0 {
            return self.end();
        }
        let bad = BadTable::Line { line: self.lines };
        let raw = match RawLine::take(&mut input, self.foot.first.main) {
            Ok(raw) => raw,
            Err(Stop::Cut) if self.missing > 0 => return Ok(Step::More),
            Err(Stop::Cut | Stop::Bad) => return Err(bad),
        };
        if !lies_in(&raw, &self.foot) || !follows(&raw, &self.key, self.last.as_ref()) {
            return Err(bad);
        }
        self.key.truncate(raw.shared);
        self.key.extend_from_slice(raw.rest);
        self.last = Some(Last { stamp: raw.stamp, offset: raw.offset, len: raw.len });
        self.at += had - input.0.len();
        self.lines += 1;
        self.records_bytes += u64::from(raw.len);
        Ok(Step::Line)
    }

    /// The line that was read last; `None` before the first.
    pub fn line(&self) -> Option<Line<'_>> {
        self.last.map(|Last { stamp, offset, len }| Line { key: &self.key, stamp, offset, len })
    }

    fn end(&self) -> Result<Step, BadTable> {
        if (self.lines, self.records_bytes) != (self.foot.records, self.foot.records_bytes) {
            return Err(BadTable::Totals { lines: self.lines, bytes: self.records_bytes });
        }
        if self.crc != self.foot.table_crc {
            return Err(BadTable::Sum);
        }
        Ok(Step::End)
    }
}

/// Whether a line's record lies among those of the file.
fn lies_in(raw: &RawLine<'_>, foot: &Foot) -> bool {
    (foot.first..=foot.last).contains(&raw.stamp.at) && u64::from(raw.offset) + u64::from(raw.len) <= foot.records_bytes
}

/// Whether a line comes behind the last one, whose key is `key`, and says of its key what is new and no more.
fn follows(raw: &RawLine<'_>, key: &[u8], last: Option<&Last>) -> bool {
    match (key.get(raw.shared..), raw.rest) {
        (None, _) => false,
        (Some([]), []) => last.is_none_or(|last| last.stamp.at < raw.stamp.at),
        (Some([]), [_, ..]) => true,
        (Some([_, ..]), []) => false,
        (Some([old, ..]), [new, ..]) => old < new,
    }
}

#[cfg(test)]
mod tests {
    use super::super::stamp::Position;
    use super::super::table::put_line;
    use super::*;
    use std::num::NonZeroI64;

    const RECORDS_BYTES: u64 = 205;

    fn stamp(main: u64, sub: u32) -> Stamp {
        Stamp { at: Position { main, sub }, create: main, version: 1, lease: None, tombstone: false }
    }

    /// The lines of four records: a has two versions and a tombstone, ab one with a lease.
    fn lines() -> [Line<'static>; 4] {
        let leased = Stamp { lease: NonZeroI64::new(5), ..stamp(12, 0) };
        let tombstone = Stamp { create: 0, version: 0, tombstone: true, ..stamp(12, 1) };
        [
            Line { key: b"a", stamp: stamp(10, 3), offset: 0, len: 50 },
            Line { key: b"a", stamp: stamp(11, 0), offset: 50, len: 60 },
            Line { key: b"a", stamp: tombstone, offset: 165, len: 40 },
            Line { key: b"ab", stamp: leased, offset: 110, len: 55 },
        ]
    }

    fn encoded(lines: &[Line<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before: &[u8] = &[];
        for line in lines {
            put_line(&mut out, before, 10, line);
            before = line.key;
        }
        out
    }

    fn foot(table_bytes: usize, table_crc: u32) -> Foot {
        Foot {
            records_bytes: RECORDS_BYTES,
            table_bytes: table_bytes as u32,
            marks: 1,
            first: Position { main: 10, sub: 3 },
            last: Position { main: 12, sub: 1 },
            records: 4,
            table_crc,
            marks_crc: 0,
            hash: 0,
        }
    }

    /// Reads a table under a right crc; what it gave besides the end.
    fn read(table: &[u8]) -> Result<usize, BadTable> {
        let foot = foot(table.len(), crc32c::crc32c(table));
        let mut reader = TableReader::new(&foot);
        assert_eq!(reader.line(), None);
        assert_eq!(reader.missing(), RECORDS_BYTES..RECORDS_BYTES + table.len() as u64);
        reader.push(table);
        let mut given = 0;
        while reader.step()? == Step::Line {
            given += 1;
        }
        Ok(given)
    }

    /// What reading says of the lines with `change` made to the one at `nth`.
    fn with(nth: usize, change: impl FnOnce(&mut Line<'static>)) -> Result<usize, BadTable> {
        let mut lines = lines();
        change(&mut lines[nth]);
        read(&encoded(&lines))
    }

    #[test]
    fn a_table_is_read_to_its_end() {
        assert_eq!(read(&encoded(&lines())), Ok(4));
    }

    #[test]
    fn lines_in_a_wrong_order_are_refused() {
        for (one, other, line) in [(0, 1, 1), (1, 2, 2), (2, 3, 3), (0, 3, 1)] {
            let mut swapped = lines();
            swapped.swap(one, other);
            assert_eq!(read(&encoded(&swapped)), Err(BadTable::Line { line }), "{one} and {other}");
        }
        assert_eq!(with(1, |line| line.stamp = stamp(10, 3)), Err(BadTable::Line { line: 1 }), "one position, twice");
        assert_eq!(with(0, |line| line.key = b"b"), Err(BadTable::Line { line: 1 }), "a key after a greater one");
        assert_eq!(with(3, |line| line.key = b"b"), Ok(4));
    }

    #[test]
    fn lines_of_records_that_are_not_in_the_file_are_refused() {
        assert_eq!(with(0, |line| line.stamp = stamp(10, 2)), Err(BadTable::Line { line: 0 }), "before the first");
        assert_eq!(with(2, |line| line.stamp.at.sub = 2), Err(BadTable::Line { line: 2 }), "behind the last");
        assert_eq!(with(2, |line| line.stamp.at.main = 13), Err(BadTable::Line { line: 2 }), "behind the last");
        assert_eq!(with(2, |line| line.offset += 1), Err(BadTable::Line { line: 2 }), "ends behind the records");
        assert_eq!(with(0, |line| line.offset = u32::MAX), Err(BadTable::Line { line: 0 }), "no overflow");
        assert_eq!(with(2, |line| line.len -= 1), Err(BadTable::Line { line: 2 }), "too short for its key");
        assert_eq!(with(1, |line| line.len = 39), Err(BadTable::Line { line: 1 }), "too short for its key");
        assert_eq!(with(3, |line| line.len = 48), Err(BadTable::Line { line: 3 }), "too short for its lease");
        assert_eq!(with(3, |line| line.stamp.version = 0), Err(BadTable::Line { line: 3 }), "a value without version");
    }

    #[test]
    fn a_table_of_other_records_than_there_are_is_refused() {
        let all = lines();
        assert_eq!(read(&encoded(&all[..3])), Err(BadTable::Totals { lines: 3, bytes: 150 }));
        assert_eq!(with(0, |line| line.len -= 1), Err(BadTable::Totals { lines: 4, bytes: RECORDS_BYTES - 1 }));
        assert_eq!(read(&[]), Err(BadTable::Totals { lines: 0, bytes: 0 }));
    }

    #[test]
    fn a_line_in_another_form_is_refused() {
        let table = encoded(&lines());
        // The second line: shared 1, rest 0, main - first 1, sub 0, offset 50, age 0, version 1, flags 0, len 60.
        let second = [1, 0, 1, 0, 50, 0, 1, 0, 60];
        let at = 10;
        assert_eq!(table[at..at + second.len()], second);
        let put = |range: std::ops::Range<usize>, bytes: &[u8]| {
            let mut table = table.clone();
            table.splice(at + range.start..at + range.end, bytes.iter().copied());
            read(&table)
        };
        let bad = Err(BadTable::Line { line: 1 });
        assert_eq!(put(0..2, &[0, 1, b'a']), bad, "shares less than it could");
        assert_eq!(put(0..1, &[2]), bad, "shares more than there is");
        assert_eq!(put(0..1, &[0]), bad, "a key that is cut comes before");
        for nth in [0, 1, 2, 3, 4, 5, 6, 8] {
            assert_eq!(put(nth..nth + 1, &[second[nth] | 0x80, 0]), bad, "number {nth} in a longer form");
        }
        assert_eq!(put(1..2, &[0xff, 0xff, 0x04]), bad, "a key that is too long");
        assert_eq!(put(0..2, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1]), bad, "and far too long");
        assert_eq!(put(5..6, &[0x0b]), bad, "created before the first revision");
        for flags in [1, 4, 0x80] {
            assert_eq!(put(7..8, &[flags]), bad, "flags {flags}");
        }
        assert_eq!(put(7..8, &[2, 0, 0, 0, 0, 0, 0, 0, 0]), bad, "lease 0");
        assert_eq!(put(7..8, &[2, 1, 0, 0, 0, 0, 0, 0, 0]), Ok(4), "lease 1");
        assert_eq!(read(&table[..table.len() - 1]), Err(BadTable::Line { line: 3 }), "cut");
    }

    #[test]
    fn a_tombstone_has_no_life() {
        let table = encoded(&lines());
        // Shared 1, rest 0, main - first 2, sub 1, offset 165, age 0, version 0, flags 1, len 40.
        let at = 19;
        assert_eq!(table[at..at + 10], [1, 0, 2, 1, 0xa5, 1, 0, 0, 1, 40]);
        for (nth, number) in [(6, 1), (7, 1), (8, 3)] {
            let mut table = table.clone();
            table[at + nth] = number;
            assert_eq!(read(&table), Err(BadTable::Line { line: 2 }), "byte {nth}");
        }
    }

    #[test]
    fn nobody_waits_for_the_end_of_a_key_that_is_too_long() {
        let first_step = |piece: &[u8]| {
            let mut reader = TableReader::new(&foot(1 << 20, 0));
            reader.push(piece);
            reader.step()
        };
        assert_eq!(first_step(&[0, 0xff, 0xff, 0x03, b'k']), Ok(Step::More), "65,535 bytes");
        assert_eq!(first_step(&[0, 0x80, 0x80, 0x04, b'k']), Err(BadTable::Line { line: 0 }), "65,536 bytes");
        assert_eq!(first_step(&[1, 0xff, 0xff, 0x03, b'k']), Err(BadTable::Line { line: 0 }), "with those it shares");
    }

    #[test]
    #[should_panic(expected = "1 bytes of a table that lacks 0")]
    fn more_than_the_table_is_not_taken() {
        TableReader::new(&foot(0, 0)).push(&[0]);
    }
}

//! The marks: where a scan from a position begins, without an index. PURE.
//!
//! A mark, `main u64 | sub u32 | offset u32`, is the first record that begins in a stretch of 256 KiB; a stretch within
//! one large record has none. Records ascend by position, so a scan reads at most one stretch, and the record that
//! goes over its end, before what it looks for.

use super::foot::Foot;
use super::input::{Input, Stop};
use super::stamp::Position;
use bytes::BufMut;

/// Bytes of the stretch of records for which there is one mark.
pub const MARK_EVERY_BYTES: u64 = 256 * 1024;
/// Bytes of a mark.
pub const MARK_BYTES: usize = Position::BYTES + 4;

/// The first record that begins in its stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    at: Position,
    offset: u32,
}

impl Mark {
    fn stretch(&self) -> u64 {
        u64::from(self.offset) / MARK_EVERY_BYTES
    }
}

/// The marks of one segment, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<Mark>);

/// The marks are damaged: they are made again from the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged marks of a segment")]
pub struct BadMarks;

impl Marks {
    /// Takes note of a record, which stands behind all that were noted.
    pub fn note(&mut self, at: Position, offset: u32) {
        let mark = Mark { at, offset };
        if self.0.last().is_none_or(|last| last.stretch() < mark.stretch()) {
            self.0.push(mark);
        }
    }

    /// Where a scan for the records at `from` and behind it begins: no record before this offset is one of them.
    pub fn offset_for(&self, from: Position) -> u32 {
        let behind = self.0.partition_point(|mark| mark.at <= from);
        behind.checked_sub(1).map_or(0, |nth| self.0[nth].offset)
    }

    /// Their number.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.len()).expect("one for each 256 KiB of a file whose offsets have 32 bits")
    }

    /// The bytes between table and foot.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * MARK_BYTES);
        for Mark { at, offset } in &self.0 {
            out.put_u64_le(at.main);
            out.put_u32_le(at.sub);
            out.put_u32_le(*offset);
        }
        out
    }

    /// The marks of the segment with this foot.
    pub fn decode(foot: &Foot, bytes: &[u8]) -> Result<Marks, BadMarks> {
        if bytes.len() != foot.marks_bytes() || crc32c::crc32c(bytes) != foot.marks_crc {
            return Err(BadMarks);
        }
        let marks = Marks::parse(bytes).map_err(|_| BadMarks)?;
        if marks.fit(foot) { Ok(marks) } else { Err(BadMarks) }
    }

    fn parse(bytes: &[u8]) -> Result<Marks, Stop> {
        let mark = |bytes: &[u8]| {
            let mut input = Input(bytes);
            let at = Position { main: input.u64()?, sub: input.u32()? };
            Ok(Mark { at, offset: input.u32()? })
        };
        bytes.chunks_exact(MARK_BYTES).map(mark).collect::<Result<_, _>>().map(Marks)
    }

    /// Whether they ascend from the first record, with one for each stretch at most, and stay among the records.
    fn fit(&self, foot: &Foot) -> bool {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else { return false };
        *first == Mark { at: foot.first, offset: 0 }
            && last.at <= foot.last
            && u64::from(last.offset) < foot.records_bytes
            && self.0.is_sorted_by(|one, next| one.at < next.at && one.stretch() < next.stretch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Positions and offsets of records in order, and the bytes of all of them.
    fn records() -> impl Strategy<Value = (Vec<Mark>, u64)> {
        let steps = proptest::collection::vec((1u32..400_000, 0u64..3, 1u32..4), 1..60);
        steps.prop_map(|steps| {
            let (mut at, mut offset) = (Position { main: 2, sub: 0 }, 0);
            let mut records = Vec::new();
            for (len, mains, subs) in steps {
                records.push(Mark { at, offset });
                offset += len;
                at = match mains {
                    0 => Position { sub: at.sub + subs, ..at },
                    more => Position { main: at.main + more, sub: subs },
                };
            }
            (records, u64::from(offset))
        })
    }

    fn marks_of(records: &[Mark]) -> Marks {
        let mut marks = Marks::default();
        records.iter().for_each(|record| marks.note(record.at, record.offset));
        marks
    }

    /// The foot of a file of such records; what marks do not look at is made up.
    fn foot_of(records: &[Mark], records_bytes: u64) -> Foot {
        let marks = marks_of(records);
        Foot {
            records_bytes,
            table_bytes: 0,
            marks: marks.count(),
            first: records[0].at,
            last: records[records.len() - 1].at,
            records: records.len() as u32,
            table_crc: 0,
            marks_crc: crc32c::crc32c(&marks.encode()),
            hash: 0,
        }
    }

    /// The same by walking over all records: the last that begins a stretch and is not behind `from`.
    fn offset_by_walking(records: &[Mark], from: Position) -> u32 {
        let mut found = 0;
        for (nth, record) in records.iter().enumerate() {
            let begins = nth == 0 || records[nth - 1].stretch() != record.stretch();
            if begins && record.at <= from {
                found = record.offset;
            }
        }
        found
    }

    #[test]
    fn a_scan_begins_at_the_last_mark_that_is_not_behind() {
        let at = |main, sub| Position { main, sub };
        let mut marks = Marks::default();
        assert_eq!(marks.offset_for(at(1, 0)), 0);
        for (position, offset) in [(at(5, 1), 0), (at(6, 0), 262_143), (at(6, 2), 262_144), (at(9, 0), 1_048_576)] {
            marks.note(position, offset);
        }
        assert_eq!(marks.count(), 3, "the second record begins in the first stretch");
        for (from, offset) in [
            (at(1, 0), 0),
            (at(5, 1), 0),
            (at(6, 1), 0),
            (at(6, 2), 262_144),
            (at(8, 7), 262_144),
            (at(9, 0), 1_048_576),
            (at(99, 0), 1_048_576),
        ] {
            assert_eq!(marks.offset_for(from), offset, "{from:?}");
        }
    }

    #[test]
    fn marks_that_belong_to_no_records_are_refused_under_a_right_crc() {
        let mark = |main, offset| Mark { at: Position { main, sub: 0 }, offset };
        let foot = foot_of(&[mark(2, 0), mark(3, 300_000), mark(4, 600_000)], 700_000);
        let decode = |marks: [Mark; 3]| {
            let bytes = Marks(marks.into()).encode();
            Marks::decode(&Foot { marks_crc: crc32c::crc32c(&bytes), ..foot }, &bytes).map(|_| ())
        };
        assert_eq!(decode([mark(2, 0), mark(3, 300_000), mark(4, 600_000)]), Ok(()));
        for wrong in [
            [mark(1, 0), mark(3, 300_000), mark(4, 600_000)],
            [mark(2, 1), mark(3, 300_000), mark(4, 600_000)],
            [mark(2, 0), mark(2, 300_000), mark(4, 600_000)],
            [mark(2, 0), mark(3, 200_000), mark(4, 600_000)],
            [mark(2, 0), mark(3, 300_000), mark(4, 400_000)],
            [mark(2, 0), mark(3, 600_000), mark(4, 300_000)],
            [mark(2, 0), mark(3, 300_000), mark(5, 600_000)],
            [mark(2, 0), mark(3, 300_000), mark(4, 700_000)],
        ] {
            assert_eq!(decode(wrong), Err(BadMarks), "{wrong:?}");
        }
        assert_eq!(Marks::decode(&Foot { marks: 0, marks_crc: 0, ..foot }, &[]), Err(BadMarks), "none at all");
    }

    proptest! {
        #[test]
        fn marks_are_what_a_walk_finds((records, _) in records(), main in 0u64..200, sub in 0u32..8) {
            let marks = marks_of(&records);
            let wanted = records.iter().map(|record| record.at).chain([Position { main, sub }]);
            for from in wanted {
                prop_assert_eq!(marks.offset_for(from), offset_by_walking(&records, from), "{:?}", from);
            }
        }

        #[test]
        fn marks_round_trip_and_no_flip_or_cut_is_missed(
            (records, bytes) in records(),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let (marks, foot) = (marks_of(&records), foot_of(&records, bytes));
            let mut bytes = marks.encode();
            prop_assert_eq!(Marks::decode(&foot, &bytes), Ok(marks));
            prop_assert_eq!(Marks::decode(&foot, &bytes[..at.index(bytes.len())]), Err(BadMarks));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Marks::decode(&foot, &bytes), Err(BadMarks));
        }
    }
}

//! Whole segments: what is made of records, what of a file is believed, and the bytes of format 2.

use super::testing::{Owned, OwnedLine, any_records, file_of, owned, records_bytes};
use super::*;
use crate::limits::NUMBER_MAX;
use proptest::prelude::*;
use std::num::NonZeroI64;

/// Why a file is not believed.
#[derive(Debug, PartialEq)]
enum Bad {
    Foot(BadFoot),
    Records(BadRecords),
    Table(BadTable),
    Marks(BadMarks),
    /// The records are others than the foot says.
    Disagreement,
}

fn foot_of(file: &[u8]) -> Result<Foot, BadFoot> {
    let end = &file[file.len().saturating_sub(FOOT_BYTES)..];
    Foot::decode(file.len() as u64, end)
}

/// Reads the lines of a table in pieces of `piece_bytes`.
fn lines(foot: &Foot, file: &[u8], piece_bytes: usize) -> Result<Vec<OwnedLine>, BadTable> {
    let mut reader = TableReader::new(foot);
    let mut lines = Vec::new();
    loop {
        match reader.step()? {
            Step::Line => lines.push(owned(reader.line().expect("a line was read"))),
            Step::End => return Ok(lines),
            Step::More => {
                let missing = reader.missing();
                let (from, end) = (missing.start as usize, missing.end as usize);
                reader.push(&file[from..end.min(from + piece_bytes)]);
            }
        }
    }
}

/// Looks at all of a file.
fn proved(file: &[u8]) -> Result<Vec<OwnedLine>, Bad> {
    let foot = foot_of(file).map_err(Bad::Foot)?;
    let marks_at = foot.marks_offset() as usize;
    let marks = Marks::decode(&foot, &file[marks_at..marks_at + foot.marks_bytes()]).map_err(Bad::Marks)?;
    let lines = lines(&foot, file, 64 * 1024).map_err(Bad::Table)?;
    let sealed = seal([&file[..foot.table_offset() as usize]]).map_err(Bad::Records)?;
    if sealed.foot != foot {
        return Err(Bad::Disagreement);
    }
    assert_eq!(sealed.marks, marks);
    Ok(lines)
}

fn at(main: u64, sub: u32) -> Position {
    Position { main, sub }
}

fn value(at: Position, key: &str, value: &str) -> Owned {
    let stamp = Stamp { at, create: at.main, version: 1, lease: None, tombstone: false };
    Owned { stamp, key: key.into(), value: value.into() }
}

/// A key that was created, written with a lease and deleted, one with an empty value, and one that begins like it.
fn small() -> Vec<Owned> {
    let mut records = vec![
        value(at(1000, 0), "key", "first"),
        value(at(1002, 0), "key/b", ""),
        value(at(1002, 1), "key", "second"),
        value(at(70_000, 5), "a", "other"),
        value(at(70_001, 0), "key", ""),
    ];
    records[2].stamp = Stamp { create: 1000, version: 2, lease: NonZeroI64::new(-2), ..records[2].stamp };
    records[3].stamp = Stamp { create: 3, version: 900, ..records[3].stamp };
    records[4].stamp = Stamp { create: 0, version: 0, tombstone: true, ..records[4].stamp };
    records
}

/// The bytes of format 2. When this fails, segments that exist are unreadable: write another format, and read both.
#[test]
fn format_2_stays_what_it_is() {
    let hex: String = file_of(&small()).iter().map(|byte| format!("{byte:02x}")).collect();
    let golden: String = GOLDEN.split_whitespace().collect();
    assert_eq!(hex, golden);
}

/// Five records, the table, one mark, the foot.
const GOLDEN: &str = "
    1df302a9 2f000000 00 0300 e803000000000000 00000000 e803000000000000 0100000000000000 6b6579 6669727374
    424ec844 2c000000 00 0500 ea03000000000000 00000000 ea03000000000000 0100000000000000 6b65792f62
    9a4cfb55 38000000 02 0300 ea03000000000000 01000000 e803000000000000 0200000000000000 feffffffffffffff
        6b6579 7365636f6e64
    2a7a111f 2d000000 00 0100 7011010000000000 05000000 0300000000000000 8403000000000000 61 6f74686572
    1f943c51 2a000000 01 0300 7111010000000000 00000000 0000000000000000 0000000000000000 6b6579

    00 01 61 889b04 05 9301 eda204 8407 00 2d
    00 03 6b6579 00 00 00 00 01 00 2f
    03 00 02 01 5b 02 02 02 feffffffffffffff 38
    03 00 899b04 00 c001 00 00 01 2a
    03 02 2f62 02 00 2f 00 01 00 2c

    e803000000000000 00000000 00000000

    726b767365673032 ea00000000000000 44000000 01000000 e803000000000000 00000000 7111010000000000 00000000
    05000000 3898050b b404e3a6 51e648376c0effdaa3960a03cdea8d28 460ea416";

#[test]
fn a_file_that_is_cut_anywhere_is_not_believed() {
    let file = file_of(&small());
    assert!(proved(&file).is_ok());
    for len in 0..file.len() {
        assert_eq!(proved(&file[..len]), Err(Bad::Foot(BadFoot::Damaged)), "{len} bytes");
    }
    let longer = [&file[..], &[0]].concat();
    assert_eq!(proved(&longer), Err(Bad::Foot(BadFoot::Damaged)));
}

#[test]
fn one_flipped_bit_is_found_in_the_part_where_it_is() {
    let file = file_of(&small());
    let foot = foot_of(&file).expect("we made it");
    let (table_at, marks_at) = (foot.table_offset() as usize, foot.marks_offset() as usize);
    let foot_at = file.len() - FOOT_BYTES;
    for bit in 0..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        let found = proved(&file).expect_err("a bit is flipped");
        let right = match bit / 8 {
            byte if byte < table_at => matches!(found, Bad::Records(BadRecords::Record { .. })),
            byte if byte < marks_at => matches!(found, Bad::Table(_)),
            byte if byte < foot_at => found == Bad::Marks(BadMarks),
            _ => found == Bad::Foot(BadFoot::Damaged),
        };
        assert!(right, "bit {bit} is found as {found:?}");
    }
}

#[test]
fn records_of_another_file_do_not_agree_with_the_foot() {
    let (file, mut others) = (file_of(&small()), small());
    others[0].value[0] ^= 1;
    let (mut other, _) = records_bytes(&others);
    other.extend_from_slice(&file[other.len()..]);
    assert_eq!(proved(&other), Err(Bad::Disagreement));
}

#[test]
fn records_that_do_not_ascend_are_refused() {
    let refused = |records: &[Owned]| seal([&records_bytes(records).0[..]]).expect_err("they do not ascend");
    let offset = 39 + 2;
    for next in [at(5, 1), at(5, 0), at(4, 7)] {
        let records = [value(at(5, 1), "k", "v"), value(next, "l", "v")];
        assert_eq!(refused(&records), BadRecords::Order { offset }, "{next:?}");
    }
    let records = [value(at(5, 1), "k", "v"), value(at(5, 2), "k", "v"), value(at(6, 0), "k", "v")];
    let sealed = seal([&records_bytes(&records).0[..]]).expect("they ascend");
    assert_eq!((sealed.foot.first, sealed.foot.last, sealed.foot.records), (at(5, 1), at(6, 0), 3));
}

#[test]
fn what_is_no_segment_is_not_sealed() {
    assert_eq!(seal([]), Err(BadRecords::Empty));
    assert_eq!(seal([&[][..], &[]]), Err(BadRecords::Empty));
    let (bytes, offsets) = records_bytes(&small());
    for cut in 1..bytes.len() {
        let whole = offsets.iter().rposition(|offset| *offset as usize <= cut).expect("the first is at 0");
        let offset = offsets[whole];
        match seal([&bytes[..cut]]) {
            Ok(sealed) => assert_eq!((sealed.foot.records_bytes, offset), (cut as u64, cut as u32)),
            Err(BadRecords::Record { offset: found, why: BadRecord::Cut { .. } }) => assert_eq!(found, offset),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The flag stands under a right crc, in the middle of records that are read in pieces.
#[test]
fn a_record_of_a_newer_build_is_newer_however_its_bytes_come() {
    let (mut bytes, offsets) = records_bytes(&small());
    let (from, end) = (offsets[2], offsets[3] as usize);
    let record = &mut bytes[from as usize..end];
    record[8] |= 0x40;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&from.to_le_bytes()), &record[4..]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    for piece_bytes in [1, 7, 50, 1000] {
        let why = BadRecord::Newer { flags: 0x42 };
        assert_eq!(seal(bytes.chunks(piece_bytes)), Err(BadRecords::Record { offset: from, why }));
    }
}

/// Values of which some are larger than what one mark stands for.
#[test]
fn a_scan_that_begins_by_the_marks_meets_the_records_it_looks_for() {
    let lens = [90_000, 90_000, 90_000, 600_000, 10, 250_000, 300_000, 1, 1, 100_000, 200_000];
    let records: Vec<Owned> =
        lens.iter().zip(2..).map(|(len, nth)| value(at(nth / 2, nth as u32 % 2), "k", &"v".repeat(*len))).collect();
    let file = file_of(&records);
    assert!(proved(&file).is_ok());
    let (bytes, offsets) = records_bytes(&records);
    let marks = seal([&bytes[..]]).expect("they ascend").marks;
    assert_eq!(marks.count(), 5, "nothing begins in the third stretch, and six stretches have begun");
    for (record, offset) in records.iter().zip(&offsets) {
        let from = marks.offset_for(record.stamp.at);
        assert!(offsets.contains(&from), "a scan begins at a record");
        assert!(from <= *offset, "the record stands before the scan begins");
        let skipped = u64::from(offset - from);
        assert!(skipped < MARK_EVERY_BYTES, "{skipped} bytes are read in vain");
    }
    assert_eq!(marks.offset_for(at(NUMBER_MAX, 0)), offsets[7], "where the last stretch begins");
}

proptest! {
    #[test]
    fn the_table_is_a_sort_of_the_records(records in any_records(1..40), piece_bytes in 1usize..400) {
        let file = file_of(&records);
        let (_, offsets) = records_bytes(&records);
        let mut expected: Vec<OwnedLine> = records
            .iter()
            .zip(offsets)
            .map(|(record, offset)| (record.key.clone(), record.stamp, offset, record.view().bytes() as u32))
            .collect();
        expected.sort_by_key(|(key, stamp, ..)| (key.clone(), stamp.at));
        let foot = foot_of(&file).expect("we made it");
        prop_assert_eq!(&lines(&foot, &file, piece_bytes).expect("we made it"), &expected);
        prop_assert_eq!(proved(&file), Ok(expected));
    }

    #[test]
    fn what_is_sealed_does_not_depend_on_where_pieces_end(
        records in any_records(1..12),
        ends in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (bytes, _) = records_bytes(&records);
        let mut ends: Vec<usize> = ends.iter().map(|end| end.index(bytes.len())).chain([bytes.len()]).collect();
        ends.sort_unstable();
        let mut from = 0;
        let pieces = ends.into_iter().map(|end| &bytes[std::mem::replace(&mut from, end)..end]);
        let whole = seal([&bytes[..]]).expect("they ascend");
        prop_assert_eq!(&seal(pieces).expect("they ascend"), &whole);
        prop_assert_eq!(&seal(bytes.chunks(1)).expect("they ascend"), &whole);
        let hash = twox_hash::xxhash3_128::Hasher::oneshot(&bytes);
        prop_assert_eq!(whole.foot.hash, hash);
    }

    #[test]
    fn records_with_one_flipped_bit_are_refused_at_the_record_where_it_is(
        records in any_records(1..8),
        place in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (mut bytes, offsets) = records_bytes(&records);
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let hit = *offsets.iter().rfind(|offset| **offset as usize <= place).expect("the first is at 0");
        match seal([&bytes[..]]) {
            Err(BadRecords::Record { offset, why: BadRecord::Damaged | BadRecord::Cut { .. } }) => {
                prop_assert_eq!(offset, hit);
            }
            other => prop_assert!(false, "{:?}", other.map(|sealed| sealed.foot)),
        }
    }
}

//! Sealed segments: records in a row, a table with its foot, and whole files.

use raftkv_core::segment::{
    self, BadFoot, BadRecord, BadTable, FOOT_BYTES, Foot, Line, Marks, Position, RECORD_BYTES_MAX, Record, Sealed,
    Stamp, Step, TableBuilder, TableReader,
};
use std::num::NonZeroI64;

/// Decodes records in a row, from the beginning of a file.
pub fn record(bytes: &[u8]) -> bool {
    let sealed = segment::seal([bytes]);
    assert_eq!(segment::seal(bytes.chunks(7)), sealed, "pieces make a difference");
    let mut at = 0;
    while at < bytes.len() {
        let offset = u32::try_from(at).expect("inputs are small");
        match Record::decode(offset, &bytes[at..]) {
            Ok((record, len)) => {
                let mut again = Vec::new();
                record.encode(offset, &mut again);
                assert_eq!(again, bytes[at..at + len], "{record:?}");
                at += len;
            }
            Err(bad) => {
                if let BadRecord::Cut { needed } = bad {
                    assert!((bytes.len() - at + 1..=RECORD_BYTES_MAX).contains(&needed), "{needed} bytes are needed");
                }
                assert!(sealed.is_err(), "records were sealed of which one is {bad}");
                return false;
            }
        }
    }
    at > 0
}

/// Reads a table that stands before the foot of its file.
pub fn table(bytes: &[u8]) -> bool {
    let Some((table, end)) = bytes.split_last_chunk::<FOOT_BYTES>() else { return false };
    let Some(foot) = foot_of_some_file(end).filter(|foot| foot.table_bytes as usize == table.len()) else {
        return false;
    };
    let lines = lines(&foot, table, 64 * 1024);
    assert_eq!(self::lines(&foot, table, 5), lines, "pieces make a difference");
    let Ok(mut lines) = lines else { return false };
    assert_eq!(lines.len(), foot.records as usize);
    lines.sort_by_key(|line| line.stamp.at);
    let ascend = lines.is_sorted_by(|one, next| one.offset < next.offset);
    // Sums alone tell a table that belongs to no records.
    if ascend && lines.first().is_some_and(|line| line.stamp.at == foot.first) {
        let mut again = TableBuilder::default();
        for OwnedLine { key, stamp, offset, len } in &lines {
            again.push(Line { key, stamp: *stamp, offset: *offset, len: *len });
        }
        assert_eq!(again.encode(), table, "{lines:?}");
    }
    true
}

/// The foot of a file that has the length which the foot says.
fn foot_of_some_file(end: &[u8; FOOT_BYTES]) -> Option<Foot> {
    let u64_at = |at: usize| u64::from_le_bytes(end[at..at + 8].try_into().expect("8 bytes"));
    let (records, table, marks) = (u64_at(8), u64_at(16) & 0xffff_ffff, u64_at(16) >> 32);
    let behind = table + marks * 16 + FOOT_BYTES as u64;
    let foot = Foot::decode(records.wrapping_add(behind), end).ok()?;
    assert_eq!(foot.encode(), *end, "{foot:?}");
    Some(foot)
}

/// A line that owns its key.
#[derive(Clone, Debug, PartialEq)]
struct OwnedLine {
    key: Vec<u8>,
    stamp: Stamp,
    offset: u32,
    len: u32,
}

fn lines(foot: &Foot, mut table: &[u8], piece_bytes: usize) -> Result<Vec<OwnedLine>, BadTable> {
    let mut reader = TableReader::new(foot);
    let mut lines: Vec<OwnedLine> = Vec::new();
    loop {
        match reader.step()? {
            Step::Line => {
                let Line { key, stamp, offset, len } = reader.line().expect("a line was read");
                let behind = lines.last().is_none_or(|last| (&last.key[..], last.stamp.at) < (key, stamp.at));
                assert!(behind, "lines do not ascend");
                assert!(u64::from(offset) + u64::from(len) <= foot.records_bytes, "a record behind the records");
                lines.push(OwnedLine { key: key.to_vec(), stamp, offset, len });
            }
            Step::More => {
                let (piece, rest) = table.split_at(piece_bytes.min(table.len()));
                reader.push(piece);
                table = rest;
            }
            Step::End => return Ok(lines),
        }
    }
}

/// Looks at a whole file; what is accepted is what sealing its records gives.
pub fn segment(bytes: &[u8]) -> bool {
    let end = &bytes[bytes.len().saturating_sub(FOOT_BYTES)..];
    let foot = match Foot::decode(bytes.len() as u64, end) {
        Ok(foot) => foot,
        Err(BadFoot::Damaged | BadFoot::Newer { .. }) => return false,
    };
    let (records, tail) = bytes.split_at(foot.records_bytes as usize);
    let (table, behind) = tail.split_at(foot.table_bytes as usize);
    let marks = Marks::decode(&foot, &behind[..foot.marks_bytes()]);
    let lines = lines(&foot, table, 64 * 1024);
    let sealed = segment::seal([records]);
    let (Ok(sealed), Ok(marks), Ok(lines)) = (sealed, marks, lines) else { return false };
    if sealed.foot != foot {
        return false;
    }
    assert_eq!(sealed.tail(), tail);
    assert_eq!(sealed.marks, marks);
    check_lines(records, &lines);
    true
}

/// Each line is that of the record where it says.
fn check_lines(records: &[u8], lines: &[OwnedLine]) {
    for line in lines {
        let (record, len) = Record::decode(line.offset, &records[line.offset as usize..]).expect("it was sealed");
        assert_eq!((record.key, record.stamp, len), (&line.key[..], line.stamp, line.len as usize));
    }
}

/// Two keys with several versions each, a lease, a tombstone, an empty value; several records of one main.
fn encoded() -> Vec<Vec<u8>> {
    let value = |main, sub, create, version, lease| Stamp {
        at: Position { main, sub },
        create,
        version,
        lease: NonZeroI64::new(lease),
        tombstone: false,
    };
    let tombstone = Stamp { create: 0, version: 0, tombstone: true, ..value(300, 1, 0, 0, 0) };
    let records: [(Stamp, &str, &str); 6] = [
        (value(2, 0, 2, 1, 0), "/registry/a", "one"),
        (value(3, 0, 3, 1, 9), "/registry/b", "a longer value, of which many bytes may change"),
        (value(3, 1, 2, 2, 0), "/registry/a", ""),
        (value(300, 0, 3, 2, -1), "/registry/b", "two"),
        (tombstone, "/registry/a", ""),
        (value(1 << 40, 0, 1 << 40, 1, 0), "b", "three"),
    ];
    let mut offset = 0;
    let encode = |(stamp, key, value): &(Stamp, &str, &str)| {
        let mut bytes = Vec::new();
        let record = Record { stamp: *stamp, key: key.as_bytes(), value: value.as_bytes() };
        record.encode(offset, &mut bytes);
        offset += u32::try_from(bytes.len()).expect("small");
        bytes
    };
    records.iter().map(encode).collect()
}

fn sealed(records: &[Vec<u8>]) -> Sealed {
    segment::seal(records.iter().map(Vec::as_slice)).expect("they ascend")
}

/// One record, and several in a row.
pub fn records() -> Vec<Vec<u8>> {
    let encoded = encoded();
    vec![encoded[0].clone(), encoded[..2].concat(), encoded.concat()]
}

/// The tables of these records, each with its foot.
pub fn tables() -> Vec<Vec<u8>> {
    let encoded = encoded();
    let table = |records: &[Vec<u8>]| {
        let Sealed { table, marks: _, foot } = sealed(records);
        [&table[..], &foot.encode()].concat()
    };
    vec![table(&encoded[..1]), table(&encoded[..3]), table(&encoded)]
}

/// Whole files.
pub fn seeds() -> Vec<Vec<u8>> {
    let encoded = encoded();
    let file = |records: &[Vec<u8>]| [records.concat(), sealed(records).tail()].concat();
    vec![file(&encoded[..1]), file(&encoded)]
}

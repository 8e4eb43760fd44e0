//! The table: what an index needs of each record of a segment, by key, so that no record is read to make one. PURE.
//!
//! ```text
//! shared | rest | its bytes | main - first | sub | offset | main - create | version, varints | flags u8 | lease i64, if flagged | len varint
//! ```
//!
//! Lines ascend by (key, main, sub). `shared` is how many bytes the key has in common with that of the line before,
//! `rest` how many follow; `first` is the main of the file's first record. A tombstone's create is 0, which would make
//! `main - create` as long as its main: it has 0 there, and 0 as its version. Flags are the record's, `len` is the length of
//! the whole record.

use super::input::{Input, Stop, put_varint};
use super::record::RECORD_FIXED_BYTES;
use super::stamp::{self, Position, Stamp};
use crate::types::Revision;
use bytes::BufMut;
use std::num::NonZeroI64;

/// Bytes of the shortest line: a version of the same key, all numbers in one byte.
pub(super) const LINE_BYTES_MIN: usize = 9;

/// What the table has of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What the record says of it.
    pub stamp: Stamp,
    /// Where the record begins.
    pub offset: u32,
    /// Bytes of the record.
    pub len: u32,
}

/// Gathers the records of a segment, and writes the table when all are there.
#[derive(Default)]
pub struct TableBuilder {
    /// The keys, one behind the other.
    keys: Vec<u8>,
    rows: Vec<Row>,
}

/// A line whose key stands among the builder's.
struct Row {
    key_at: u32,
    key_len: u16,
    stamp: Stamp,
    offset: u32,
    len: u32,
}

impl TableBuilder {
    /// Adds a record, which stands behind all that were added.
    pub fn push(&mut self, line: Line<'_>) {
        let Line { key, stamp, offset, len } = line;
        assert!(self.rows.last().is_none_or(|last| last.offset < offset), "records are added in their order");
        let key_at = u32::try_from(self.keys.len()).expect("keys are a part of records with offsets of 32 bits");
        let key_len = u16::try_from(key.len()).expect("a record's key has a length of 16 bits");
        self.keys.extend_from_slice(key);
        self.rows.push(Row { key_at, key_len, stamp, offset, len });
    }

    /// The table; empty without records.
    pub fn encode(&self) -> Vec<u8> {
        let first = self.rows.first().map_or(0, |row| row.stamp.at.main);
        let mut out = Vec::with_capacity(self.keys.len() / 2 + self.rows.len() * 2 * LINE_BYTES_MIN);
        let mut before: &[u8] = &[];
        for nth in self.by_key() {
            let row = &self.rows[nth as usize];
            let Row { key_at: _, key_len: _, stamp, offset, len } = *row;
            let key = self.key_of(row);
            put_line(&mut out, before, first, &Line { key, stamp, offset, len });
            before = key;
        }
        out
    }

    /// The numbers of the rows in the order of the table.
    fn by_key(&self) -> Vec<u32> {
        let shared = self.shared_by_all();
        // Most keys differ in their first eight bytes behind that, and a number beside the row's is compared without a
        // look at the keys.
        let begin = |row: &Row| {
            let rest = &self.key_of(row)[shared..];
            let mut bytes = [0; 8];
            let len = rest.len().min(bytes.len());
            bytes[..len].copy_from_slice(&rest[..len]);
            u64::from_be_bytes(bytes)
        };
        let mut order: Vec<(u64, u32)> = self.rows.iter().zip(0..).map(|(row, nth)| (begin(row), nth)).collect();
        let key = |nth: u32| self.key_of(&self.rows[nth as usize]);
        // Rows came ascending by (main, sub), and their numbers keep those of one key so.
        order.sort_unstable_by(|(begin, nth), (other, other_nth)| {
            begin.cmp(other).then_with(|| key(*nth).cmp(key(*other_nth))).then(nth.cmp(other_nth))
        });
        order.into_iter().map(|(_, nth)| nth).collect()
    }

    /// With how many bytes all keys begin alike.
    fn shared_by_all(&self) -> usize {
        let Some(first) = self.rows.first() else { return 0 };
        let first = self.key_of(first);
        self.rows.iter().fold(first.len(), |shared, row| shared_bytes(&first[..shared], self.key_of(row)))
    }

    fn key_of(&self, row: &Row) -> &[u8] {
        &self.keys[row.key_at as usize..][..usize::from(row.key_len)]
    }
}

/// Bytes with which both begin.
fn shared_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Appends a line that follows one of the key `before`; `first` is the main of the file's first record.
pub(super) fn put_line(out: &mut Vec<u8>, before: &[u8], first: Revision, line: &Line<'_>) {
    let Line { key, stamp, offset, len } = *line;
    let Stamp { at, create, version, lease, tombstone } = stamp;
    let shared = shared_bytes(before, key);
    put_varint(out, shared as u64);
    put_varint(out, (key.len() - shared) as u64);
    out.extend_from_slice(&key[shared..]);
    put_varint(out, at.main - first);
    put_varint(out, u64::from(at.sub));
    put_varint(out, u64::from(offset));
    put_varint(out, if tombstone { 0 } else { at.main - create });
    put_varint(out, version);
    out.push(stamp.flags());
    if let Some(lease) = lease {
        out.put_i64_le(lease.get());
    }
    put_varint(out, u64::from(len));
}

/// A line as its bytes say it; its key needs the one before.
pub(super) struct RawLine<'a> {
    pub(super) shared: usize,
    pub(super) rest: &'a [u8],
    pub(super) stamp: Stamp,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl<'a> RawLine<'a> {
    /// Takes a line off the front; `first` is the main of the file's first record.
    ///
    /// An unknown flag is refused like damage: the crc comes at the table's end only. Who then makes the table again
    /// from the records finds the flag under a record's crc, which tells.
    pub(super) fn take(input: &mut Input<'a>, first: Revision) -> Result<RawLine<'a>, Stop> {
        let (shared, rest_len) = (input.varint()?, input.varint()?);
        if shared.saturating_add(rest_len) > u64::from(u16::MAX) {
            return Err(Stop::Bad);
        }
        let rest = input.take(rest_len as usize)?;
        let main = first.checked_add(input.varint()?).ok_or(Stop::Bad)?;
        let (sub, offset) = (input.varint_u32()?, input.varint_u32()?);
        let (age, version, flags) = (input.varint()?, input.varint()?, input.u8()?);
        if stamp::is_newer(flags) {
            return Err(Stop::Bad);
        }
        let lease = match stamp::has_lease(flags) {
            true => Some(NonZeroI64::new(input.i64()?).ok_or(Stop::Bad)?),
            false => None,
        };
        let tombstone = stamp::is_tombstone(flags);
        let create = match (tombstone, age) {
            (false, age) => main.checked_sub(age).ok_or(Stop::Bad)?,
            (true, 0) => 0,
            (true, _) => return Err(Stop::Bad),
        };
        let stamp = Stamp { at: Position { main, sub }, create, version, lease, tombstone };
        let raw = RawLine { shared: shared as usize, rest, stamp, offset, len: input.varint_u32()? };
        if raw.fits_its_record() { Ok(raw) } else { Err(Stop::Bad) }
    }

    /// Whether a record can have this stamp, and this length with this key.
    fn fits_its_record(&self) -> bool {
        let least = RECORD_FIXED_BYTES + self.stamp.lease_bytes() + self.shared + self.rest.len();
        let len = self.len as usize;
        self.stamp.is_sound() && if self.stamp.tombstone { len == least } else { len >= least }
    }
}

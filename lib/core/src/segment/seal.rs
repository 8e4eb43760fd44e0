//! Makes what stands behind the records of a segment, from their bytes alone. PURE.
//!
//! Whoever has records makes table, marks and foot: who fills a window, who rewrites segments, who fetches one. The same
//! records give the same bytes. So sealing is the proof, too: a file is whole when its records, sealed again, give the
//! foot that it has, since the foot has the sums of all else.

use super::foot::{Foot, RECORDS_BYTES_MAX};
use super::marks::Marks;
use super::record::{BadRecord, Record};
use super::stamp::Position;
use super::table::{Line, TableBuilder};
use twox_hash::xxhash3_128::Hasher;

/// Takes the bytes of records in order, in pieces that may end anywhere.
#[derive(Default)]
pub struct Sealer {
    hasher: Hasher,
    table: TableBuilder,
    marks: Marks,
    records: u32,
    /// Positions of the first and the last record.
    ends: Option<(Position, Position)>,
    /// Where the next record begins.
    offset: u32,
    /// The bytes of a record whose end has not come yet.
    begun: Vec<u8>,
}

/// What stands behind the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The bytes of the table.
    pub table: Vec<u8>,
    /// The marks.
    pub marks: Marks,
    /// The foot.
    pub foot: Foot,
}

/// Why bytes are not the records of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecords {
    /// What stands at `offset` is no record.
    #[error("at offset {offset}: {why}")]
    Record {
        /// Where.
        offset: u32,
        /// What it is; [`BadRecord::Cut`] when the bytes end within it.
        #[source]
        why: BadRecord,
    },
    /// The record at `offset` does not come behind the one before it.
    #[error("the record at offset {offset} does not come behind the one before it")]
    Order {
        /// Where.
        offset: u32,
    },
    /// A segment has a record.
    #[error("a segment without records")]
    Empty,
    /// The record at `offset` ends behind [`RECORDS_BYTES_MAX`].
    #[error("a segment that goes on at offset {offset}")]
    Long {
        /// Where.
        offset: u32,
    },
}

impl Sealer {
    /// Adds the next bytes. After an error there is nothing to seal.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BadRecords> {
        self.hasher.write(piece);
        let mut rest = self.end_what_began(piece)?;
        while !rest.is_empty() {
            match Record::decode(self.offset, rest) {
                Ok((record, len)) => {
                    self.take(&record, len)?;
                    rest = &rest[len..];
                }
                Err(BadRecord::Cut { .. }) => {
                    self.begun.extend_from_slice(rest);
                    rest = &[];
                }
                Err(why) => return Err(self.refused(why)),
            }
        }
        Ok(())
    }

    /// Takes from `piece` what the record lacks that an earlier piece began, and returns what is left.
    fn end_what_began<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], BadRecords> {
        let mut begun = std::mem::take(&mut self.begun);
        while !begun.is_empty() {
            match Record::decode(self.offset, &begun) {
                Ok((record, len)) => {
                    self.take(&record, len)?;
                    begun.clear();
                }
                Err(BadRecord::Cut { .. }) if piece.is_empty() => break,
                Err(BadRecord::Cut { needed }) => {
                    let (lacking, rest) = piece.split_at(piece.len().min(needed - begun.len()));
                    begun.extend_from_slice(lacking);
                    piece = rest;
                }
                Err(why) => return Err(self.refused(why)),
            }
        }
        self.begun = begun;
        Ok(piece)
    }

    /// Takes note of a whole record.
    fn take(&mut self, record: &Record<'_>, len: usize) -> Result<(), BadRecords> {
        let (offset, at) = (self.offset, record.stamp.at);
        let len = u32::try_from(len).map_err(|_| BadRecords::Long { offset })?;
        let end = offset.checked_add(len).filter(|end| u64::from(*end) <= RECORDS_BYTES_MAX);
        let end = end.ok_or(BadRecords::Long { offset })?;
        let first = match self.ends {
            Some((_, last)) if last >= at => return Err(BadRecords::Order { offset }),
            Some((first, _)) => first,
            None => at,
        };
        self.ends = Some((first, at));
        self.marks.note(at, offset);
        self.table.push(Line { key: record.key, stamp: record.stamp, offset, len });
        self.records += 1;
        self.offset = end;
        Ok(())
    }

    fn refused(&self, why: BadRecord) -> BadRecords {
        BadRecords::Record { offset: self.offset, why }
    }

    /// What stands behind these records.
    pub fn seal(self) -> Result<Sealed, BadRecords> {
        if !self.begun.is_empty() {
            let cut = Record::decode(self.offset, &self.begun).err();
            return Err(self.refused(cut.unwrap_or(BadRecord::Damaged)));
        }
        let (first, last) = self.ends.ok_or(BadRecords::Empty)?;
        let (table, marks) = (self.table.encode(), self.marks);
        let foot = Foot {
            records_bytes: u64::from(self.offset),
            table_bytes: u32::try_from(table.len()).expect("a table is no larger than twice its records"),
            marks: marks.count(),
            first,
            last,
            records: self.records,
            table_crc: crc32c::crc32c(&table),
            marks_crc: crc32c::crc32c(&marks.encode()),
            hash: self.hasher.finish_128(),
        };
        Ok(Sealed { table, marks, foot })
    }
}

/// Seals records whose bytes lie in several pieces.
pub fn seal<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Sealed, BadRecords> {
    let mut sealer = Sealer::default();
    for piece in pieces {
        sealer.push(piece)?;
    }
    sealer.seal()
}

impl Sealed {
    /// All that stands behind the records: table, marks, foot.
    pub fn tail(&self) -> Vec<u8> {
        [&self.table[..], &self.marks.encode(), &self.foot.encode()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stamp::Stamp;
    use super::*;

    #[test]
    fn a_record_that_ends_behind_the_bound_is_refused() {
        let stamp = Stamp { at: Position { main: 2, sub: 0 }, create: 2, version: 1, lease: None, tombstone: false };
        let record = Record { stamp, key: b"key", value: b"value" };
        let ends_at = |end: u64| {
            let offset = u32::try_from(end).expect("an offset") - record.bytes() as u32;
            let mut bytes = Vec::new();
            record.encode(offset, &mut bytes);
            let mut sealer = Sealer { offset, ..Sealer::default() };
            (offset, sealer.push(&bytes))
        };
        assert_eq!(ends_at(RECORDS_BYTES_MAX).1, Ok(()));
        let (offset, refused) = ends_at(RECORDS_BYTES_MAX + 1);
        assert_eq!(refused, Err(BadRecords::Long { offset }));
    }
}

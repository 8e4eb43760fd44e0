//! The foot: the last bytes of a segment, which say where everything is, and by which sums it is known. PURE.
//!
//! ```text
//! "rkvseg02" | records bytes u64 | table bytes u32 | marks u32 | first (u64, u32) | last (u64, u32) | records u32
//!            | crc of the table u32 | crc of the marks u32 | hash of the records u128 | crc of the foot u32
//! ```
//!
//! The digits of the magic are the format. A later one keeps its magic at this place, so that it is told from damage:
//! whoever meets it must stop, and leave the file as it is.

use super::input::{Input, Stop};
use super::marks::{MARK_BYTES, MARK_EVERY_BYTES};
use super::record::RECORD_FIXED_BYTES;
use super::stamp::Position;
use super::table::LINE_BYTES_MIN;
use bytes::BufMut;

/// Bytes of the foot.
pub const FOOT_BYTES: usize = MAGIC.len() + 8 + 2 * 4 + 2 * Position::BYTES + 3 * 4 + 16 + CRC_BYTES;
/// Most bytes of the records of one file, far above what a segment has: a larger number is garbage. Offsets and the
/// lengths behind the records keep within 32 bits.
pub const RECORDS_BYTES_MAX: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"rkvseg02";
/// How the magic of every format begins; two digits follow.
const MAGIC_OF_ALL: &[u8] = b"rkvseg";
const FORMAT: u8 = 2;
const CRC_BYTES: usize = 4;

/// What stands at the end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foot {
    /// Bytes of the records, which begin with the file.
    pub records_bytes: u64,
    /// Bytes of the table, which follows.
    pub table_bytes: u32,
    /// Number of marks, which follow the table.
    pub marks: u32,
    /// Position of the first record.
    pub first: Position,
    /// Position of the last record.
    pub last: Position,
    /// Number of records.
    pub records: u32,
    /// crc32c of the table.
    pub table_crc: u32,
    /// crc32c of the marks.
    pub marks_crc: u32,
    /// XXH3-128 of the bytes of the records: the name by which members and manifests know this segment.
    pub hash: u128,
}

/// Why a file's end is no foot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFoot {
    /// It is damaged, or belongs to a file of another length: all but the records is made again from the records.
    #[error("no foot of a segment, or a damaged one")]
    Damaged,
    /// A newer build wrote the file: the process must stop, and leave everything as it is.
    #[error("a segment of format {format}, which a newer version wrote")]
    Newer {
        /// Its format.
        format: u8,
    },
}

impl Foot {
    /// Where the table begins.
    pub fn table_offset(&self) -> u64 {
        self.records_bytes
    }

    /// Where the marks begin.
    pub fn marks_offset(&self) -> u64 {
        self.records_bytes + u64::from(self.table_bytes)
    }

    /// Bytes of the marks.
    pub fn marks_bytes(&self) -> usize {
        self.marks as usize * MARK_BYTES
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.marks_offset() + self.marks_bytes() as u64 + FOOT_BYTES as u64
    }

    /// The last bytes of the file.
    pub fn encode(&self) -> [u8; FOOT_BYTES] {
        assert!(self.is_sound(), "no segment is {self:?}");
        let Foot { records_bytes, table_bytes, marks, first, last, records, table_crc, marks_crc, hash } = *self;
        let mut foot = [0; FOOT_BYTES];
        let mut out = &mut foot[..];
        out.put_slice(MAGIC);
        out.put_u64_le(records_bytes);
        out.put_u32_le(table_bytes);
        out.put_u32_le(marks);
        for position in [first, last] {
            out.put_u64_le(position.main);
            out.put_u32_le(position.sub);
        }
        out.put_u32_le(records);
        out.put_u32_le(table_crc);
        out.put_u32_le(marks_crc);
        out.put_u128_le(hash);
        let crc = crc32c::crc32c(&foot[..FOOT_BYTES - CRC_BYTES]);
        foot[FOOT_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        foot
    }

    /// The foot of a file of `file_bytes` that ends in `end`: at least [`FOOT_BYTES`] of it, or all there is.
    pub fn decode(file_bytes: u64, end: &[u8]) -> Result<Foot, BadFoot> {
        let foot: &[u8; FOOT_BYTES] = end.last_chunk().ok_or(BadFoot::Damaged)?;
        let (magic, behind) = foot.split_first_chunk::<{ MAGIC.len() }>().ok_or(BadFoot::Damaged)?;
        let (body, crc) = behind.split_last_chunk::<CRC_BYTES>().ok_or(BadFoot::Damaged)?;
        let ours = u32::from_le_bytes(*crc) == crc32c::crc32c_append(crc32c::crc32c(MAGIC), body);
        if magic != MAGIC {
            // Under our own crc it is our own magic, with a digit flipped.
            return match newer_format(magic) {
                Some(format) if !ours => Err(BadFoot::Newer { format }),
                Some(_) | None => Err(BadFoot::Damaged),
            };
        }
        let foot = if ours { Foot::parse(body).ok() } else { None };
        foot.filter(|foot| foot.is_sound() && foot.file_bytes() == file_bytes).ok_or(BadFoot::Damaged)
    }

    fn parse(body: &[u8]) -> Result<Foot, Stop> {
        let mut input = Input(body);
        Ok(Foot {
            records_bytes: input.u64()?,
            table_bytes: input.u32()?,
            marks: input.u32()?,
            first: Position { main: input.u64()?, sub: input.u32()? },
            last: Position { main: input.u64()?, sub: input.u32()? },
            records: input.u32()?,
            table_crc: input.u32()?,
            marks_crc: input.u32()?,
            hash: input.u128()?,
        })
    }

    /// Whether the numbers can be those of one file: no length exceeds its bound, and each record has room for its bytes
    /// and its line.
    fn is_sound(&self) -> bool {
        let records = u64::from(self.records);
        let ends = match self.records {
            0 => false,
            1 => self.first == self.last,
            _ => self.first < self.last,
        };
        ends && self.first.is_sound()
            && self.last.is_sound()
            && (records * RECORD_FIXED_BYTES as u64..=RECORDS_BYTES_MAX).contains(&self.records_bytes)
            && records * LINE_BYTES_MIN as u64 <= u64::from(self.table_bytes)
            && (1..=self.records_bytes.div_ceil(MARK_EVERY_BYTES)).contains(&u64::from(self.marks))
    }
}

/// The format in the magic of a newer build.
fn newer_format(magic: &[u8]) -> Option<u8> {
    let digits = magic.strip_prefix(MAGIC_OF_ALL)?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|format| *format > FORMAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::NUMBER_MAX;
    use proptest::prelude::*;

    const FOOT: Foot = Foot {
        records_bytes: 300_000,
        table_bytes: 4000,
        marks: 2,
        first: Position { main: 2, sub: 0 },
        last: Position { main: 9, sub: 3 },
        records: 400,
        table_crc: 0x1234_5678,
        marks_crc: 0x9abc_def0,
        hash: 0x0123_4567_89ab_cdef_0fed_cba9_8765_4321,
    };

    /// The foot with another magic, and the crc that a build of that format would write.
    fn of_format(magic: &[u8; 8]) -> [u8; FOOT_BYTES] {
        let mut foot = FOOT.encode();
        foot[..8].copy_from_slice(magic);
        let crc = crc32c::crc32c(&foot[..FOOT_BYTES - CRC_BYTES]);
        foot[FOOT_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        foot
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let decode = |foot: &[u8]| Foot::decode(FOOT.file_bytes(), foot);
        assert_eq!(decode(&of_format(MAGIC)), Ok(FOOT));
        assert_eq!(decode(&of_format(b"rkvseg03")), Err(BadFoot::Newer { format: 3 }));
        assert_eq!(decode(&of_format(b"rkvseg99")), Err(BadFoot::Newer { format: 99 }));
        for none in [b"rkvseg01", b"rkvseg00", b"rkvseg+3", b"rkvsegxx", b"rkvset03", b"\0\0\0\0\0\0\0\0"] {
            assert_eq!(decode(&of_format(none)), Err(BadFoot::Damaged), "{none:?}");
        }
        let mut flipped = FOOT.encode();
        flipped[7] ^= 1;
        assert_eq!(&flipped[..8], b"rkvseg03");
        assert_eq!(decode(&flipped), Err(BadFoot::Damaged), "one bit of our own magic is no newer build");
    }

    #[test]
    fn the_longest_end_there_is_is_looked_at_from_behind() {
        let file_bytes = FOOT.file_bytes();
        let foot = FOOT.encode();
        assert_eq!(Foot::decode(file_bytes, &[&[1; 100], &foot[..]].concat()), Ok(FOOT));
        assert_eq!(Foot::decode(file_bytes, &foot[1..]), Err(BadFoot::Damaged));
        assert_eq!(Foot::decode(file_bytes - 1, &foot), Err(BadFoot::Damaged), "a file of another length");
        assert_eq!(Foot::decode(file_bytes + 1, &foot), Err(BadFoot::Damaged), "a file of another length");
    }

    #[test]
    fn numbers_that_are_no_files_are_refused_under_a_right_crc() {
        let (first, last) = (FOOT.first, FOOT.last);
        for foot in [
            Foot { records: 0, ..FOOT },
            Foot { records: 1, ..FOOT },
            Foot { records: 2, last: first, ..FOOT },
            Foot { first: last, last: first, ..FOOT },
            Foot { first: Position { main: 0, sub: 0 }, ..FOOT },
            Foot { last: Position { main: NUMBER_MAX + 1, sub: 0 }, ..FOOT },
            Foot { records_bytes: 400 * RECORD_FIXED_BYTES as u64 - 1, marks: 1, ..FOOT },
            Foot { records_bytes: RECORDS_BYTES_MAX + 1, ..FOOT },
            Foot { records_bytes: u64::MAX, ..FOOT },
            Foot { table_bytes: 400 * LINE_BYTES_MIN as u32 - 1, ..FOOT },
            Foot { marks: 0, ..FOOT },
            Foot { marks: 3, ..FOOT },
        ] {
            assert!(!foot.is_sound(), "{foot:?}");
        }
        for foot in [
            FOOT,
            Foot { records: 1, last: first, ..FOOT },
            Foot { records_bytes: 400 * RECORD_FIXED_BYTES as u64, marks: 1, ..FOOT },
            Foot { records_bytes: RECORDS_BYTES_MAX, ..FOOT },
        ] {
            assert_eq!(Foot::decode(foot.file_bytes(), &foot.encode()), Ok(foot));
        }
        // What refuses an unsound foot is not the crc alone.
        let mut foot = FOOT.encode();
        foot[20..24].copy_from_slice(&0u32.to_le_bytes());
        let crc = crc32c::crc32c(&foot[..FOOT_BYTES - CRC_BYTES]);
        foot[FOOT_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Foot::decode(Foot { marks: 0, ..FOOT }.file_bytes(), &foot), Err(BadFoot::Damaged));
    }

    #[test]
    fn one_flipped_bit_is_damage_wherever_it_is() {
        for bit in 0..FOOT_BYTES * 8 {
            let mut foot = FOOT.encode();
            foot[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Foot::decode(FOOT.file_bytes(), &foot), Err(BadFoot::Damaged), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn feet_round_trip(
            records in 2u32..100_000,
            (room, marks) in (0u64..100_000, any::<prop::sample::Index>()),
            (main, mains, sub, last_sub) in (1u64..1 << 40, 1u64..1 << 40, any::<u32>(), any::<u32>()),
            (table_crc, marks_crc, hash) in any::<(u32, u32, u128)>(),
        ) {
            let records_bytes = u64::from(records) * RECORD_FIXED_BYTES as u64 + room;
            let table_bytes = records * LINE_BYTES_MIN as u32 + room as u32;
            let marks = 1 + marks.index(records_bytes.div_ceil(MARK_EVERY_BYTES) as usize) as u32;
            let (first, last) = (Position { main, sub }, Position { main: main + mains, sub: last_sub });
            let foot =
                Foot { records_bytes, table_bytes, marks, first, last, records, table_crc, marks_crc, hash };
            prop_assert_eq!(Foot::decode(foot.file_bytes(), &foot.encode()), Ok(foot));
        }
    }
}

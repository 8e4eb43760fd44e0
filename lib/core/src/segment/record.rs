//! A record: one write of one key, with a checksum that also covers where it stands. PURE.
//!
//! ```text
//! crc u32 | len u32 | flags u8 | key len u16 | main u64 | sub u32 | create u64 | version u64 | lease i64, if flagged | key | value
//! ```
//!
//! `len` counts the whole record, so the value is what is left behind the key. The crc is crc32c over the record's offset
//! in its file (u32) and all that stands behind the crc: a record that was moved, or is of another use of the place, is
//! no record. Flags: 1 tombstone, 2 lease.
//!
//! Only the bytes that [`Record::encode`] writes are decoded. A flag that this build does not know is told from damage,
//! but only when the crc is right: a newer build wrote it, and whoever meets it must stop.

use super::input::{Input, Stop};
use super::stamp::{self, Position, Stamp};
use crate::limits::BATCH_BYTES_MAX;
use bytes::BufMut;
use std::num::NonZeroI64;

/// Bytes of a record besides key, value and lease.
pub const RECORD_FIXED_BYTES: usize = 39;
/// The largest record. A write is a part of one entry, and an entry fits a batch of the log; a larger length is damage,
/// for whose end nobody should wait.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

const _: () = assert!(RECORD_BYTES_MAX >= BATCH_BYTES_MAX);

/// Bytes of `crc | len`: what is needed to know how long a record is.
const HEAD_BYTES: usize = 8;
const CRC_BYTES: usize = 4;
const FLAGS_AT: usize = HEAD_BYTES;

/// One write of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it says of the key.
    pub stamp: Stamp,
    /// The key.
    pub key: &'a [u8],
    /// Its value; empty for a tombstone.
    pub value: &'a [u8],
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The bytes end too early: as far as can be seen, this many are needed, from the record's first one on.
    #[error("a record that ends before its {needed} bytes")]
    Cut {
        /// At most [`RECORD_BYTES_MAX`].
        needed: usize,
    },
    /// What stands there was never written there.
    #[error("no record, or a damaged one")]
    Damaged,
    /// A newer build wrote it: the process must stop, and leave everything as it is.
    #[error("a record with flags {flags:#x}, which a newer version wrote")]
    Newer {
        /// All its flags.
        flags: u8,
    },
}

impl<'a> Record<'a> {
    /// Bytes of the encoding.
    pub fn bytes(&self) -> usize {
        RECORD_FIXED_BYTES + self.stamp.lease_bytes() + self.key.len() + self.value.len()
    }

    /// Appends the record as it stands at `offset` of its file.
    pub fn encode(&self, offset: u32, out: &mut Vec<u8>) {
        let len = self.bytes();
        assert!(len <= RECORD_BYTES_MAX, "a record of {len} bytes");
        assert!(self.stamp.is_sound(), "no write says {:?}", self.stamp);
        assert!(!self.stamp.tombstone || self.value.is_empty(), "a tombstone has no value");
        let Stamp { at, create, version, lease, tombstone: _ } = self.stamp;
        let start = out.len();
        out.reserve(len);
        out.put_bytes(0, CRC_BYTES);
        out.put_u32_le(u32::try_from(len).expect("the length was checked"));
        out.put_u8(self.stamp.flags());
        out.put_u16_le(u16::try_from(self.key.len()).expect("requests with keys of 64 KiB are refused"));
        out.put_u64_le(at.main);
        out.put_u32_le(at.sub);
        out.put_u64_le(create);
        out.put_u64_le(version);
        if let Some(lease) = lease {
            out.put_i64_le(lease.get());
        }
        out.put_slice(self.key);
        out.put_slice(self.value);
        let crc = crc_at(offset, &out[start + CRC_BYTES..]);
        out[start..start + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// The record at the beginning of `bytes`, which stand at `offset` of a file, and how long it is.
    pub fn decode(offset: u32, bytes: &'a [u8]) -> Result<(Record<'a>, usize), BadRecord> {
        let mut head = Input(bytes);
        let (Ok(crc), Ok(len)) = (head.u32(), head.u32()) else {
            return Err(BadRecord::Cut { needed: HEAD_BYTES });
        };
        let len = len as usize;
        if !(RECORD_FIXED_BYTES..=RECORD_BYTES_MAX).contains(&len) {
            return Err(BadRecord::Damaged);
        }
        let whole = bytes.get(..len).ok_or(BadRecord::Cut { needed: len })?;
        if crc != crc_at(offset, &whole[CRC_BYTES..]) {
            return Err(BadRecord::Damaged);
        }
        let flags = whole[FLAGS_AT];
        if stamp::is_newer(flags) {
            return Err(BadRecord::Newer { flags });
        }
        let record = Record::parse(&whole[FLAGS_AT..]).map_err(|_| BadRecord::Damaged)?;
        Ok((record, len))
    }

    /// A record from its flags on, to its end.
    fn parse(bytes: &'a [u8]) -> Result<Record<'a>, Stop> {
        let mut input = Input(bytes);
        let (flags, key_len) = (input.u8()?, input.u16()?);
        let at = Position { main: input.u64()?, sub: input.u32()? };
        let (create, version) = (input.u64()?, input.u64()?);
        let lease = match stamp::has_lease(flags) {
            true => Some(NonZeroI64::new(input.i64()?).ok_or(Stop::Bad)?),
            false => None,
        };
        let stamp = Stamp { at, create, version, lease, tombstone: stamp::is_tombstone(flags) };
        let key = input.take(usize::from(key_len))?;
        let value = input.0;
        if !stamp.is_sound() || (stamp.tombstone && !value.is_empty()) {
            return Err(Stop::Bad);
        }
        Ok(Record { stamp, key, value })
    }
}

fn crc_at(offset: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), bytes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::any_record;
    use super::*;
    use crate::limits::NUMBER_MAX;
    use proptest::prelude::*;

    const VALUE: Stamp =
        Stamp { at: Position { main: 5, sub: 1 }, create: 4, version: 2, lease: NonZeroI64::new(-7), tombstone: false };
    const TOMBSTONE: Stamp = Stamp { create: 0, version: 0, lease: None, tombstone: true, ..VALUE };

    /// The encoding, with `change` made and the crc right again.
    fn changed(record: &Record<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(64, &mut bytes);
        change(&mut bytes);
        let crc = crc_at(64, &bytes[CRC_BYTES..]);
        bytes[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn an_unknown_flag_is_newer_only_under_a_right_crc() {
        let record = Record { stamp: VALUE, key: b"k", value: b"v" };
        for bit in 2..8 {
            let bytes = changed(&record, |bytes| bytes[FLAGS_AT] |= 1 << bit);
            assert_eq!(Record::decode(64, &bytes), Err(BadRecord::Newer { flags: 2 | 1 << bit }));
            assert_eq!(Record::decode(65, &bytes), Err(BadRecord::Damaged), "the crc is that of another place");
        }
    }

    #[test]
    fn what_no_write_says_is_refused_under_a_right_crc() {
        let value = Record { stamp: VALUE, key: b"key", value: b"value" };
        let tombstone = Record { stamp: TOMBSTONE, key: b"key", value: b"" };
        let (main_at, create_at, version_at, lease_at) = (11, 23, 31, 39);
        let u64_at = |record: &Record<'_>, at: usize, number: u64| {
            let bytes = changed(record, |bytes| bytes[at..at + 8].copy_from_slice(&number.to_le_bytes()));
            Record::decode(64, &bytes).map(|(_, len)| len)
        };
        assert_eq!(u64_at(&value, create_at, 5), Ok(value.bytes()), "created by this write");
        for (at, number) in [
            (main_at, 0),
            (main_at, 3),
            (main_at, NUMBER_MAX + 1),
            (create_at, 0),
            (create_at, 6),
            (version_at, 0),
            (version_at, NUMBER_MAX + 1),
            (lease_at, 0),
        ] {
            assert_eq!(u64_at(&value, at, number), Err(BadRecord::Damaged), "{number} at {at} of a value");
        }
        for (at, number) in [(main_at, 0), (main_at, NUMBER_MAX + 1), (create_at, 1), (version_at, 1)] {
            assert_eq!(u64_at(&tombstone, at, number), Err(BadRecord::Damaged), "{number} at {at} of a tombstone");
        }
        let leased = changed(&value, |bytes| bytes[FLAGS_AT] |= 1);
        assert_eq!(Record::decode(64, &leased), Err(BadRecord::Damaged), "a tombstone with a life");
        let valued = changed(&tombstone, |bytes| bytes[9] = 2);
        assert_eq!(Record::decode(64, &valued), Err(BadRecord::Damaged), "a tombstone with a value");
        let long = changed(&tombstone, |bytes| bytes[9] = 4);
        assert_eq!(Record::decode(64, &long), Err(BadRecord::Damaged), "a key behind the record's end");
    }

    #[test]
    fn a_length_is_not_believed_beyond_its_bounds() {
        let with_len = |len: u32| [&[0; 4], &len.to_le_bytes()[..], &[0; 100]].concat();
        let decode = |len| Record::decode(0, &with_len(len)).expect_err("no crc is right");
        assert_eq!(decode(0), BadRecord::Damaged, "zeros are no record");
        assert_eq!(decode(RECORD_FIXED_BYTES as u32 - 1), BadRecord::Damaged);
        assert_eq!(decode(RECORD_FIXED_BYTES as u32), BadRecord::Damaged);
        assert_eq!(decode(RECORD_BYTES_MAX as u32), BadRecord::Cut { needed: RECORD_BYTES_MAX });
        assert_eq!(decode(RECORD_BYTES_MAX as u32 + 1), BadRecord::Damaged);
    }

    proptest! {
        #[test]
        fn records_round_trip_at_their_place_and_nowhere_else(
            record in any_record(),
            offset in any::<u32>(),
            before in 0usize..3,
            behind in proptest::collection::vec(any::<u8>(), 0..3),
        ) {
            let mut bytes = vec![9; before];
            let record = record.view();
            record.encode(offset, &mut bytes);
            let mut bytes = bytes.split_off(before);
            prop_assert_eq!(bytes.len(), record.bytes());
            bytes.extend(behind);
            prop_assert_eq!(Record::decode(offset, &bytes), Ok((record, record.bytes())));
            prop_assert_eq!(Record::decode(offset ^ 1, &bytes), Err(BadRecord::Damaged));
            for cut in 0..record.bytes() {
                let needed = if cut < HEAD_BYTES { HEAD_BYTES } else { record.bytes() };
                prop_assert_eq!(Record::decode(offset, &bytes[..cut]), Err(BadRecord::Cut { needed }));
            }
        }

        #[test]
        fn one_flipped_bit_is_seen_wherever_it_is(record in any_record(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let record = record.view();
            let mut bytes = Vec::new();
            record.encode(7, &mut bytes);
            bytes[at.index(record.bytes())] ^= 1 << bit;
            // With a longer length it is cut at first; when the bytes have come, the crc is wrong.
            if let Err(BadRecord::Cut { needed }) = Record::decode(7, &bytes) {
                bytes.resize(needed, 0);
            }
            prop_assert_eq!(Record::decode(7, &bytes), Err(BadRecord::Damaged));
        }

        #[test]
        fn what_is_decoded_is_encoded_the_same(mut bytes in proptest::collection::vec(0u8..3, 39..120), flags in 0u8..5) {
            let len = bytes.len() as u32;
            bytes[4..8].copy_from_slice(&len.to_le_bytes());
            bytes[FLAGS_AT] = flags;
            // Main, create, version and the key's length become small, so that some of them are sound.
            bytes[12..19].fill(0);
            bytes[24..31].fill(0);
            bytes[32..39].fill(0);
            bytes[10] = 0;
            let crc = crc_at(0, &bytes[CRC_BYTES..]);
            bytes[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
            if let Ok((record, len)) = Record::decode(0, &bytes) {
                let mut again = Vec::new();
                record.encode(0, &mut again);
                prop_assert_eq!(&again[..], &bytes[..len]);
            }
        }
    }
}

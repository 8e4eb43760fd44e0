//! The keys and records of the kv db: one tree, two spaces. PURE.
//!
//! ```text
//! m/state                                    applied index, sums ... (see meta.rs)
//! m/members                                  membership at the applied index (see members.rs)
//! m/hashes                                   state hashes at multiples of HASH_EVERY
//! r | revision u64 | sub u32 | chunk u16     a revision record: what one write did to one key
//! ```
//!
//! Chunk 0 of a revision record is `kind u8 | create_revision u64 | version u64 | key length u32 | value length u32 |
//! key | first part of the value`; later chunks are the rest of the value in parts of [`VALUE_CHUNK_BYTES`]. Key and
//! value bytes of chunk 0 together stay within that size where the key allows it, since sled moves pages of large
//! values to side files. `sub` numbers the writes of one revision from 0. Integers are big-endian, so that records sort
//! in the order of their writes and an append is always at the end of the tree.

use crate::limits::{NUMBER_MAX, VALUE_CHUNK_BYTES};
use crate::types::Revision;

/// First byte of a key in the tree.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// What is known about the data: [`STATE_KEY`], [`MEMBERS_KEY`] and [`HASHES_KEY`].
    Meta = b'm',
    /// Revision records.
    Revisions = b'r',
}

/// The meta record.
pub const STATE_KEY: &[u8] = b"m/state";
/// The membership.
pub const MEMBERS_KEY: &[u8] = b"m/members";
/// The kept state hashes.
pub const HASHES_KEY: &[u8] = b"m/hashes";

const _: () = assert!(STATE_KEY[0] == Space::Meta as u8);
const _: () = assert!(MEMBERS_KEY[0] == Space::Meta as u8 && HASHES_KEY[0] == Space::Meta as u8);

/// What chunk 0 records.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The key got a value.
    Value = 1,
    /// The key was deleted.
    Tombstone = 2,
}

/// Key of one chunk of a revision record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey {
    /// The write's revision.
    pub revision: Revision,
    /// Which write of that revision.
    pub sub: u32,
    /// Which part of its record.
    pub chunk: u16,
}

impl RecordKey {
    /// Bytes of the encoding.
    pub const BYTES: usize = 15;

    /// Chunk 0 of the first write of `revision`.
    pub fn first(revision: Revision) -> RecordKey {
        RecordKey { revision, sub: 0, chunk: 0 }
    }

    /// The key in the tree.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0] = Space::Revisions as u8;
        out[1..9].copy_from_slice(&self.revision.to_be_bytes());
        out[9..13].copy_from_slice(&self.sub.to_be_bytes());
        out[13..].copy_from_slice(&self.chunk.to_be_bytes());
        out
    }

    /// The first key after every chunk of this write and of all earlier ones.
    pub fn end_of_write(&self) -> Vec<u8> {
        match self.sub.checked_add(1) {
            Some(sub) => RecordKey { revision: self.revision, sub, chunk: 0 }.encode().to_vec(),
            None => end_of_revision(self.revision),
        }
    }

    /// Reverses [`RecordKey::encode`]; `None` for any other key.
    pub fn decode(key: &[u8]) -> Option<RecordKey> {
        let key: &[u8; Self::BYTES] = key.try_into().ok()?;
        (key[0] == Space::Revisions as u8).then(|| RecordKey {
            revision: u64::from_be_bytes(key[1..9].try_into().expect("8 bytes of 15")),
            sub: u32::from_be_bytes(key[9..13].try_into().expect("4 bytes of 15")),
            chunk: u16::from_be_bytes([key[13], key[14]]),
        })
    }
}

/// The first key after every record of `revision` and of all earlier ones.
pub fn end_of_revision(revision: Revision) -> Vec<u8> {
    match revision.checked_add(1) {
        Some(next) => RecordKey::first(next).encode().to_vec(),
        None => vec![Space::Revisions as u8 + 1],
    }
}

/// What one write did to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Value or tombstone; a tombstone has create_revision 0, version 0 and no value.
    pub kind: RecordKind,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// Writes since then.
    pub version: u64,
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// Chunk 0, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Value or tombstone.
    pub kind: RecordKind,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// Writes since then.
    pub version: u64,
    /// The key.
    pub key: &'a [u8],
    /// Length of the whole value.
    pub value_len: usize,
    /// The part of the value in this chunk.
    pub part: &'a [u8],
}

const HEAD_FIXED_BYTES: usize = 25;

/// Bytes of a value that stand in chunk 0, after the key.
fn first_part_len(key_len: usize, value_len: usize) -> usize {
    value_len.min(VALUE_CHUNK_BYTES.saturating_sub(key_len))
}

/// Number of chunks of a record.
pub fn chunks(key_len: usize, value_len: usize) -> usize {
    1 + (value_len - first_part_len(key_len, value_len)).div_ceil(VALUE_CHUNK_BYTES)
}

impl Record<'_> {
    /// The chunks as they go into the tree, in order; chunk 0 is at `first`.
    pub fn encode(&self, first: RecordKey) -> Vec<(Vec<u8>, Vec<u8>)> {
        let fits = "request limits keep keys and values far below 256 MiB";
        let (part, rest) = self.value.split_at(first_part_len(self.key.len(), self.value.len()));
        let mut head = Vec::with_capacity(HEAD_FIXED_BYTES + self.key.len() + part.len());
        head.push(self.kind as u8);
        head.extend_from_slice(&self.create_revision.to_be_bytes());
        head.extend_from_slice(&self.version.to_be_bytes());
        head.extend_from_slice(&u32::try_from(self.key.len()).expect(fits).to_be_bytes());
        head.extend_from_slice(&u32::try_from(self.value.len()).expect(fits).to_be_bytes());
        head.extend_from_slice(self.key);
        head.extend_from_slice(part);

        let mut chunks = vec![(first.encode().to_vec(), head)];
        for (i, part) in rest.chunks(VALUE_CHUNK_BYTES).enumerate() {
            let key = RecordKey { chunk: u16::try_from(i + 1).expect(fits), ..first };
            chunks.push((key.encode().to_vec(), part.to_vec()));
        }
        chunks
    }
}

impl<'a> Head<'a> {
    /// Decodes chunk 0; `None` when it is malformed.
    pub fn decode(bytes: &'a [u8]) -> Option<Head<'a>> {
        let (fixed, rest) = bytes.split_at_checked(HEAD_FIXED_BYTES)?;
        let kind = [RecordKind::Value, RecordKind::Tombstone].into_iter().find(|kind| *kind as u8 == fixed[0])?;
        let word = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().expect("8 of 25 bytes"));
        let len = |at: usize| u32::from_be_bytes(fixed[at..at + 4].try_into().expect("4 of 25 bytes")) as usize;
        let (key_len, value_len) = (len(17), len(21));
        let (key, part) = rest.split_at_checked(key_len)?;
        let head = Head { kind, create_revision: word(1), version: word(9), key, value_len, part };
        let whole = part.len() == first_part_len(key_len, value_len);
        let fits = chunks(key_len, value_len) <= 1 + u16::MAX as usize;
        (whole && fits && head.create_revision <= NUMBER_MAX && head.version <= NUMBER_MAX).then_some(head)
    }

    /// Number of chunks of this record.
    pub fn chunks(&self) -> usize {
        chunks(self.key.len(), self.value_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn join(chunks: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let head = Head::decode(&chunks[0].1).expect("we encoded it");
        chunks[1..].iter().fold(head.part.to_vec(), |mut value, (_, part)| {
            value.extend_from_slice(part);
            value
        })
    }

    proptest! {
        #[test]
        fn record_keys_round_trip_and_sort_as_their_numbers(a in any::<(u64, u32, u16)>(), b in any::<(u64, u32, u16)>()) {
            let key = |(revision, sub, chunk)| RecordKey { revision, sub, chunk };
            prop_assert_eq!(RecordKey::decode(&key(a).encode()), Some(key(a)));
            prop_assert_eq!(key(a).encode().cmp(&key(b).encode()), a.cmp(&b));
            prop_assert!(key(a).encode().to_vec() < end_of_revision(a.0));
            // The end of a write lies between it and whatever follows it.
            let end = key(a).end_of_write();
            prop_assert_eq!(key(b).encode().to_vec() < end, (b.0, b.1) <= (a.0, a.1));
        }

        #[test]
        fn records_round_trip(
            key in proptest::collection::vec(any::<u8>(), 0..5000),
            value_len in 0usize..20_000,
            (revision, sub) in (0..=NUMBER_MAX, any::<u32>()),
            (create_revision, version) in (0..=NUMBER_MAX, 0..=NUMBER_MAX),
        ) {
            let value: Vec<u8> = (0..value_len).map(|i| i as u8).collect();
            let record = Record { kind: RecordKind::Value, create_revision, version, key: &key, value: &value };
            let chunks = record.encode(RecordKey { revision, sub, chunk: 0 });
            let head = Head::decode(&chunks[0].1).expect("we encoded it");
            prop_assert_eq!((head.kind, head.create_revision, head.version), (record.kind, create_revision, version));
            prop_assert_eq!((head.key, head.value_len, head.chunks()), (&key[..], value_len, chunks.len()));
            prop_assert_eq!(join(&chunks), value);
            for (i, (at, part)) in chunks.iter().enumerate() {
                prop_assert_eq!(RecordKey::decode(at), Some(RecordKey { revision, sub, chunk: i as u16 }));
                prop_assert!(part.len() <= HEAD_FIXED_BYTES + VALUE_CHUNK_BYTES.max(key.len()));
            }
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Head::decode(&bytes).map(|head| head.chunks());
            let _ = RecordKey::decode(&bytes);
        }
    }

    #[test]
    fn the_layout_is_frozen() {
        assert_eq!(RecordKey { revision: 2, sub: 3, chunk: 4 }.encode(), *b"r\0\0\0\0\0\0\0\x02\0\0\0\x03\0\x04");
        let record = Record { kind: RecordKind::Value, create_revision: 2, version: 1, key: b"k", value: b"v" };
        let head = b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01kv";
        assert_eq!(record.encode(RecordKey::first(2)), vec![(RecordKey::first(2).encode().to_vec(), head.to_vec())]);
        assert_eq!(end_of_revision(u64::MAX), b"s");
        assert_eq!(RecordKey { revision: u64::MAX, sub: u32::MAX, chunk: 0 }.end_of_write(), b"s");
    }
}

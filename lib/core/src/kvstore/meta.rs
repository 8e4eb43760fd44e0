//! The meta record: everything that must be atomic with the data, written in the batch that changes it. PURE.
//!
//! ```text
//! crc32c u32 | format u8 | applied u64 | term u64 | revision u64 | compacted u64 | swept u64 | records u64 |
//! records_sum u128 | disk_hash u128 | log_hash u128 | members_crc u32
//! ```
//!
//! The first crc covers all that follows it, the last one is that of the membership record. Both are there because what
//! these two records claim is believed before the proof (rule N8). All other records, and the membership's, are proved
//! by `disk_hash`, which this record holds and which therefore does not cover it. A record of another format claims
//! nothing: the kv db is rebuilt.

use super::hash::Sum;
use crate::limits::{HASHES_KEPT, NUMBER_MAX};
use crate::types::{Index, Revision, Term};
use raftkv_api::{Hex128, StateHash};

const FORMAT: u8 = 3;
const BYTES: usize = 4 + 1 + 6 * 8 + 3 * Sum::BYTES + 4;

/// The numbers of the meta record; small, so that each batch starts from a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Index of the last applied entry.
    pub applied: Index,
    /// Its term.
    pub term: Term,
    /// The store's revision.
    pub revision: Revision,
    /// Revisions below it cannot be read.
    pub compacted: Revision,
    /// The compaction whose physical removal has been completed; another one is due while this is below `compacted`.
    pub swept: Revision,
    /// Chunks of revision records in the tree.
    pub records: u64,
    /// Sum over these chunks only.
    pub records_sum: Sum,
    /// Sum over every record of the tree except the meta record (rule N15).
    pub disk_hash: Sum,
    /// Sum over every revision record ever applied (rule N15).
    pub log_hash: Sum,
    /// crc32c of the membership record.
    pub members_crc: u32,
}

/// Encodes the meta record.
pub fn encode(numbers: &Numbers) -> Vec<u8> {
    let Numbers { applied, term, revision, compacted, swept, records, records_sum, disk_hash, log_hash, members_crc } =
        *numbers;
    let mut out = Vec::with_capacity(BYTES);
    out.extend_from_slice(&[0; 4]);
    out.push(FORMAT);
    for word in [applied, term, revision, compacted, swept, records] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for sum in [records_sum, disk_hash, log_hash] {
        out.extend_from_slice(&sum.to_bytes());
    }
    out.extend_from_slice(&members_crc.to_be_bytes());
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Reverses [`encode`]; `None` when the crc or anything after it is wrong.
pub fn decode(bytes: &[u8]) -> Option<Numbers> {
    let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
    let crc = |at: usize| u32::from_be_bytes(bytes[at..][..4].try_into().expect("4 bytes"));
    if crc(0) != crc32c::crc32c(&bytes[4..]) || bytes[4] != FORMAT {
        return None;
    }
    let word = |i: usize| u64::from_be_bytes(bytes[5 + 8 * i..][..8].try_into().expect("8 bytes"));
    let sum = |i: usize| Sum::from_bytes(bytes[53 + Sum::BYTES * i..][..Sum::BYTES].try_into().expect("16 bytes"));
    let numbers = Numbers {
        applied: word(0),
        term: word(1),
        revision: word(2),
        compacted: word(3),
        swept: word(4),
        records: word(5),
        records_sum: sum(0),
        disk_hash: sum(1),
        log_hash: sum(2),
        members_crc: crc(BYTES - 4),
    };
    let ordered = numbers.swept <= numbers.compacted && numbers.compacted <= numbers.revision && numbers.revision >= 1;
    let sane = [numbers.applied, numbers.term, numbers.revision].iter().all(|number| *number <= NUMBER_MAX);
    (ordered && sane).then_some(numbers)
}

const HASH_BYTES: usize = 8 + Sum::BYTES;

/// Encodes the kept state hashes.
pub fn encode_hashes(hashes: &[StateHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.applied.to_be_bytes().into_iter().chain(hash.log_hash.0)).collect()
}

/// Reverses [`encode_hashes`]; `None` when it is malformed.
pub fn decode_hashes(bytes: &[u8]) -> Option<Vec<StateHash>> {
    let hash = |bytes: &[u8]| StateHash {
        applied: u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes")),
        log_hash: Hex128(bytes[8..].try_into().expect("16 bytes")),
    };
    let whole = bytes.len().is_multiple_of(HASH_BYTES) && bytes.len() / HASH_BYTES <= HASHES_KEPT;
    whole.then(|| bytes.chunks_exact(HASH_BYTES).map(hash).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_numbers() -> impl Strategy<Value = Numbers> {
        (prop::array::uniform6(0..=NUMBER_MAX), any::<[u128; 3]>(), any::<u32>()).prop_map(
            |(mut words, sums, members_crc)| {
                words[2..5].sort_unstable();
                let sum = |i: usize| Sum::from_bytes(sums[i].to_be_bytes());
                Numbers {
                    applied: words[0],
                    term: words[1],
                    revision: words[4].max(1),
                    compacted: words[3],
                    swept: words[2],
                    records: words[5],
                    records_sum: sum(0),
                    disk_hash: sum(1),
                    log_hash: sum(2),
                    members_crc,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn the_meta_record_round_trips_and_a_flipped_bit_is_seen(numbers in any_numbers(), at in any::<prop::sample::Index>()) {
            let mut bytes = encode(&numbers);
            prop_assert_eq!(decode(&bytes), Some(numbers));
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn kept_hashes_round_trip(hashes in proptest::collection::vec(any::<(u64, [u8; 16])>(), 0..HASHES_KEPT)) {
            let hashes: Vec<StateHash> =
                hashes.into_iter().map(|(applied, hash)| StateHash { applied, log_hash: Hex128(hash) }).collect();
            prop_assert_eq!(decode_hashes(&encode_hashes(&hashes)), Some(hashes));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&bytes), None);
            let _ = decode_hashes(&bytes);
        }
    }

    #[test]
    fn one_byte_too_few_or_too_many_is_refused() {
        let mut bytes = encode(&Numbers { revision: 1, ..Numbers::default() });
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
    }
}

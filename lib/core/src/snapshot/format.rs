//! The parts of a snapshot file as bytes: its limits, frames, records and end. PURE.
//!
//! The header of `snapshot` shows the layout. What does not decode gives `None`, never a panic, since files come from
//! peers.

use crate::kvstore::Frozen;
use crate::limits::FRAME_BYTES_MAX;
use crate::types::MemberIdentity;
use raftkv_api::Hex128;
use serde::{Deserialize, Serialize};

/// First bytes of every file; the digit is the format.
pub(super) const MAGIC: &[u8; 8] = b"rkvsnap1";
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEAD_BYTES: usize = 9;
/// A frame of records is written when it has grown to this.
pub(super) const BLOCK_BYTES: usize = 1024 * 1024;
/// No payload is larger: a block ends with the record that filled it, and a header is a membership.
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// The smallest file: magic, an empty header's frame, the end frame.
pub(super) const FILE_BYTES_MIN: u64 = (MAGIC.len() + 2 * FRAME_HEAD_BYTES + END_BYTES) as u64;
/// The largest file, 16 TiB: a size above it is garbage.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 44;
/// Bytes of the end frame's payload.
pub(super) const END_BYTES: usize = 24;

/// What a frame holds.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// [`Header`], the first frame.
    Header = 1,
    /// Records, ascending by key.
    Records = 2,
    /// Count and sum of all records, the last frame; the file ends after it.
    End = 3,
}

/// The first frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) cluster_id: Hex128,
    pub(super) genesis: Hex128,
    pub(super) generation: u64,
    pub(super) state: Frozen,
}

impl Header {
    pub(super) fn new(identity: &MemberIdentity, state: &Frozen) -> Header {
        let MemberIdentity { cluster_id, genesis, generation, member_id: _, incarnation: _ } = *identity;
        Header { cluster_id, genesis, generation, state: state.clone() }
    }
}

/// The bytes before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: FrameKind,
    pub(super) payload_len: usize,
    crc: u32,
}

/// The bytes of a frame that stands at `offset` of the file.
pub(super) fn frame(offset: u64, kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a payload is a block or a membership");
    let mut out = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc(offset, kind, payload).to_be_bytes());
    out.push(kind as u8);
    out.extend_from_slice(payload);
    out
}

fn crc(offset: u64, kind: FrameKind, payload: &[u8]) -> u32 {
    let place = crc32c::crc32c(&offset.to_be_bytes());
    let head = crc32c::crc32c_append(place, &[kind as u8]);
    crc32c::crc32c_append(head, payload)
}

impl FrameHead {
    /// Decodes a head; `None` when it is not the head of any frame.
    pub(super) fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Option<FrameHead> {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 of 9 bytes"));
        let kinds = [FrameKind::Header, FrameKind::Records, FrameKind::End];
        let kind = kinds.into_iter().find(|kind| *kind as u8 == bytes[8])?;
        let payload_len = word(0) as usize;
        (payload_len <= PAYLOAD_BYTES_MAX).then(|| FrameHead { kind, payload_len, crc: word(4) })
    }

    /// Whether `payload` belongs to this frame at this place.
    pub(super) fn fits(&self, offset: u64, payload: &[u8]) -> bool {
        payload.len() == self.payload_len && self.crc == crc(offset, self.kind, payload)
    }
}

/// Appends a record to a block.
pub(super) fn push_record(block: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("records are chunks of 4 KiB").to_be_bytes();
    block.extend_from_slice(&len(key));
    block.extend_from_slice(&len(value));
    block.extend_from_slice(key);
    block.extend_from_slice(value);
}

/// The first record of a block and the rest; `None` when it is malformed.
pub(super) fn split_record(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lens, rest) = block.split_at_checked(8)?;
    let len = |at: usize| u32::from_be_bytes(lens[at..at + 4].try_into().expect("4 of 8 bytes")) as usize;
    let (key, rest) = rest.split_at_checked(len(0))?;
    let (value, rest) = rest.split_at_checked(len(4))?;
    Some((key, value, rest))
}

/// Payload of the end frame.
pub(super) fn end(records: u64, sum: Hex128) -> [u8; END_BYTES] {
    let mut out = [0; END_BYTES];
    out[..8].copy_from_slice(&records.to_be_bytes());
    out[8..].copy_from_slice(&sum.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_round_trip_and_fit_only_their_place(
            offset in any::<u64>(),
            payload in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let bytes = frame(offset, FrameKind::Records, &payload);
            let (head, rest) = bytes.split_at(FRAME_HEAD_BYTES);
            let head = FrameHead::decode(head.try_into().expect("9 bytes")).expect("we encoded it");
            prop_assert_eq!((head.kind, rest), (FrameKind::Records, &payload[..]));
            prop_assert!(head.fits(offset, rest));
            prop_assert!(!head.fits(offset ^ 1, rest));
        }

        #[test]
        fn records_round_trip(records in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..8)) {
            let mut block = Vec::new();
            for (key, value) in &records {
                push_record(&mut block, key, value);
            }
            let mut rest = &block[..];
            for (key, value) in &records {
                let (found_key, found_value, behind) = split_record(rest).expect("we encoded it");
                prop_assert_eq!((found_key, found_value), (&key[..], &value[..]));
                rest = behind;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in any::<[u8; FRAME_HEAD_BYTES]>(), block in any::<Vec<u8>>()) {
            let _ = FrameHead::decode(&bytes);
            let _ = split_record(&block);
        }
    }
}

//! Types that several modules share: ids, request ids and a member's identity.
//!
//! Plain data. The encoding of a request id is in the log and in frames between members, so it never changes.

use raftkv_api::Hex128;
use serde::{Deserialize, Serialize};

/// A member's id: from 1, never reused; 0 is nobody, as in raft.
pub type MemberId = u64;
/// A position in the replicated log.
pub type Index = u64;
/// A raft term.
pub type Term = u64;
/// A revision of the store (etcd's meaning: starts at 1, +1 per change).
pub type Revision = u64;

/// Names one request, uniquely and forever: the member that took it from a client, the run of that process, and its
/// number in that run. It is the entry's context, so that waiters are found by it and never by index (rule N5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The member that took the request.
    pub origin: MemberId,
    /// Random per process start.
    pub nonce: u64,
    /// Counts up from 1.
    pub seq: u64,
}

impl RequestId {
    /// Length of the encoding in bytes.
    pub const BYTES: usize = 24;

    /// Big-endian origin, nonce, seq.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.origin.to_be_bytes());
        out[8..16].copy_from_slice(&self.nonce.to_be_bytes());
        out[16..].copy_from_slice(&self.seq.to_be_bytes());
        out
    }

    /// Reverses [`RequestId::encode`]; `None` when `bytes` has another length.
    pub fn decode(bytes: &[u8]) -> Option<RequestId> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let word = |i: usize| u64::from_be_bytes(bytes[i..i + 8].try_into().expect("8 bytes of 24"));
        Some(RequestId { origin: word(0), nonce: word(8), seq: word(16) })
    }
}

/// Takes 16 bytes off the front.
pub(crate) fn hex128(input: &mut &[u8]) -> Option<Hex128> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(Hex128(*bytes))
}

/// A member's identity; durable in the identity file and in every segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberIdentity {
    /// The cluster.
    pub cluster_id: Hex128,
    /// Drawn at init; distinguishes two clusters with the same cluster_id (rule N19).
    pub genesis: Hex128,
    /// Raised by forced recovery only, which does not exist yet: 0.
    pub generation: u64,
    /// The member's id.
    pub member_id: MemberId,
    /// The member's data directory.
    pub incarnation: Hex128,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_round_trips_and_other_lengths_are_refused() {
        let id = RequestId { origin: 7, nonce: u64::MAX, seq: 1 };
        assert_eq!(RequestId::decode(&id.encode()), Some(id));
        assert_eq!(RequestId::decode(&id.encode()[1..]), None);
    }
}

//! The membership record: the membership at the applied index, written with membership changes only (rule N3). PURE.
//!
//! ```text
//! voters | outgoing | learners | learners_next: each count u32, ids u64 | auto_leave u8 | formed u8 | min_voters u32 |
//! next_member_id u64 | conf_index u64 |
//! members: count u32, {id u64, added_at u64, incarnation, name, peer} |
//! removed: count u32, {id u64, index u64, term u64, incarnation, name}
//! name, peer (`host:port`): length u32, bytes         incarnation: 16 bytes
//! ```
//!
//! Integers are big-endian, ids ascend. What decodes encodes to the same bytes again.

use crate::host_port::HostPort;
use crate::membership::{Member, Membership, Removed};
use crate::types::hex128;
use bytes::{Buf, BufMut};
use std::collections::{BTreeMap, BTreeSet};

/// crc32c of an encoded record, which the meta record holds.
pub fn crc(record: &[u8]) -> u32 {
    crc32c::crc32c(record)
}

/// Encodes a membership.
pub fn encode(membership: &Membership) -> Vec<u8> {
    let Membership {
        voters,
        outgoing,
        learners,
        learners_next,
        auto_leave,
        members,
        removed,
        next_member_id,
        conf_index,
        added_at,
        min_voters,
        formed,
    } = membership;
    let mut out = Vec::new();
    for ids in [voters, outgoing, learners, learners_next] {
        put_count(&mut out, ids.len());
        ids.iter().for_each(|id| out.put_u64(*id));
    }
    out.put_u8(u8::from(*auto_leave));
    out.put_u8(u8::from(*formed));
    out.put_u32(*min_voters);
    out.put_u64(*next_member_id);
    out.put_u64(*conf_index);
    put_count(&mut out, members.len());
    for (id, Member { name, peer, incarnation }) in members {
        out.put_u64(*id);
        out.put_u64(added_at.get(id).copied().unwrap_or_default());
        out.put_slice(&incarnation.0);
        put_text(&mut out, name);
        put_text(&mut out, peer.as_str());
    }
    put_count(&mut out, removed.len());
    for (id, Removed { name, incarnation, index, term }) in removed {
        out.put_u64(*id);
        out.put_u64(*index);
        out.put_u64(*term);
        out.put_slice(&incarnation.0);
        put_text(&mut out, name);
    }
    out
}

/// Reverses [`encode`]; `None` when the bytes are no membership, or one that contradicts itself.
pub fn decode(record: &[u8]) -> Option<Membership> {
    let mut input = record;
    let membership = read(&mut input)?;
    (input.is_empty() && membership.check().is_ok() && encode(&membership) == record).then_some(membership)
}

fn read(input: &mut &[u8]) -> Option<Membership> {
    let mut read = Membership {
        voters: ids(input)?,
        outgoing: ids(input)?,
        learners: ids(input)?,
        learners_next: ids(input)?,
        auto_leave: input.try_get_u8().ok()? == 1,
        formed: input.try_get_u8().ok()? == 1,
        min_voters: input.try_get_u32().ok()?,
        next_member_id: input.try_get_u64().ok()?,
        conf_index: input.try_get_u64().ok()?,
        members: BTreeMap::new(),
        removed: BTreeMap::new(),
        added_at: BTreeMap::new(),
    };
    for _ in 0..input.try_get_u32().ok()? {
        let id = input.try_get_u64().ok()?;
        read.added_at.insert(id, input.try_get_u64().ok()?);
        let incarnation = hex128(input)?;
        let (name, peer) = (text(input)?, HostPort::stored(text(input)?));
        read.members.insert(id, Member { name, peer, incarnation });
    }
    for _ in 0..input.try_get_u32().ok()? {
        let id = input.try_get_u64().ok()?;
        let (index, term) = (input.try_get_u64().ok()?, input.try_get_u64().ok()?);
        read.removed.insert(id, Removed { index, term, incarnation: hex128(input)?, name: text(input)? });
    }
    Some(read)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u32(u32::try_from(count).expect("a membership is no longer than what was sent in frames"));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.put_slice(text.as_bytes());
}

fn ids(input: &mut &[u8]) -> Option<BTreeSet<u64>> {
    let count = input.try_get_u32().ok()?;
    (0..count).map(|_| input.try_get_u64().ok()).collect()
}

fn text(input: &mut &[u8]) -> Option<String> {
    let length = input.try_get_u32().ok()?;
    let (bytes, rest) = input.split_at_checked(length as usize)?;
    *input = rest;
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvstore::testing::membership;
    use crate::membership::Change;
    use proptest::prelude::*;
    use raftkv_api::Hex128;

    /// `count` learners came and went; two members stay.
    fn after_replacements(count: u64) -> Membership {
        let mut now = membership(2);
        for turn in 0..count {
            let id = now.next_member_id;
            let add = Change::AddLearner {
                id,
                name: "demo-2".into(),
                peer: HostPort::stored("demo-2.demo-peers:2380".into()),
                incarnation: Hex128(u128::from(id).to_be_bytes()),
            };
            let without = now.conf_state();
            let mut with = without.clone();
            with.learners.push(id);
            now = now.applied(Some(&add), &with, 10 + 2 * turn, 1);
            now = now.applied(Some(&Change::Remove { id }), &without, 11 + 2 * turn, 1);
        }
        now
    }

    #[test]
    fn finding_a6_a_membership_does_not_grow_with_those_who_left() {
        let (hundred, thousands) = (after_replacements(100), after_replacements(5_000));
        assert_eq!(encode(&hundred).len(), encode(&thousands).len());
        assert!(encode(&thousands).len() < 6_000, "{} bytes", encode(&thousands).len());
        for id in [3, 2_000, 5_002] {
            assert!(thousands.is_removed(id) && !thousands.is_removed(5_003), "{id}");
            let (index, _) = thousands.removal(id).expect("it left");
            assert!(index >= 11 + 2 * (id - 3), "a proof must cover the removal of {id}, but names {index}");
        }
        assert_eq!(
            thousands.removal(5_002),
            Some((11 + 2 * 4_999, 1)),
            "its own removal, as long as there is a record"
        );
        assert_eq!(thousands.removal(1), None);
    }

    /// It stands on disks: what was written is read for ever.
    #[test]
    fn the_record_stays_what_it_is() {
        let peer = HostPort::parse("http://n1:2380").expect("an address");
        let first = Member { name: "one".into(), peer, incarnation: Hex128([7; 16]) };
        let expected = [
            &b"\0\0\0\x01\0\0\0\0\0\0\0\x01"[..],    // voters
            &[0; 12],                                // outgoing, learners, learners_next
            b"\0\x01\0\0\0\x01",                     // auto_leave, formed, min_voters
            b"\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01", // next_member_id, conf_index
            b"\0\0\0\x01",                           // members
            b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01", // id, added_at
            &[7; 16],
            b"\0\0\0\x03one\0\0\0\x07n1:2380",
            &[0; 4], // removed
        ]
        .concat();
        assert_eq!(encode(&Membership::first(first, 1)), expected);
    }

    proptest! {
        #[test]
        fn a_membership_round_trips(members in 1u64..5, replaced in 0u64..70, voters in 1u64..5, formed in any::<bool>()) {
            let mut now = after_replacements(replaced);
            for id in 1..=2.min(members) {
                now.learners.remove(&id);
                now.voters.insert(id);
            }
            now.min_voters = voters as u32;
            now.formed = formed;
            prop_assert_eq!(decode(&encode(&now)), Some(now));
        }

        #[test]
        fn a_changed_byte_is_no_membership_or_another_one(replaced in 0u64..3, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let now = after_replacements(replaced);
            let mut record = encode(&now);
            let at = at.index(record.len());
            let same = record[at] == byte;
            record[at] = byte;
            prop_assert_eq!(decode(&record) == Some(now), same);
            prop_assert_eq!(decode(&record[..at]), None, "cut short");
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}

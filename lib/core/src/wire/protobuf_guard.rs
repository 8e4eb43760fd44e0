//! Checks an encoded raft message before protobuf parses it. PURE.
//!
//! protobuf 2.28 skips a group of an unknown field by recursion without a bound (RUSTSEC-2024-0437), so a few hundred
//! KiB of "start group" overflow the stack and end the process. raft's messages have no groups, so any group is refused
//! here, on every level that protobuf would parse. The levels are known, so this code's own depth is bounded by
//! [`Shape`].

/// Why a payload is not given to protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It ends in the middle of a field.
    #[error("the message ends in the middle of a field")]
    Short,
    /// A varint of more than 10 bytes, or a tag beyond 32 bits.
    #[error("the message has a number that is too large")]
    Number,
    /// Wire types 3 and 4 are groups; 6 and 7 do not exist.
    #[error("the message has a field of wire type {0}")]
    WireType(u8),
}

/// The messages that `eraftpb.Message` is made of; everything else in it is a number or bytes.
#[derive(Clone, Copy)]
enum Shape {
    Message,
    Snapshot,
    Metadata,
    /// `Entry` and `ConfState`: nothing nested.
    Leaf,
}

impl Shape {
    fn child(self, field: u32) -> Option<Shape> {
        const ENTRIES: u32 = 7;
        const SNAPSHOT: u32 = 9;
        const METADATA: u32 = 2;
        const CONF_STATE: u32 = 1;
        match (self, field) {
            (Shape::Message, ENTRIES) => Some(Shape::Leaf),
            (Shape::Message, SNAPSHOT) => Some(Shape::Snapshot),
            (Shape::Snapshot, METADATA) => Some(Shape::Metadata),
            (Shape::Metadata, CONF_STATE) => Some(Shape::Leaf),
            (Shape::Message | Shape::Snapshot | Shape::Metadata | Shape::Leaf, _) => None,
        }
    }
}

/// Whether an encoded `eraftpb.Message` is safe to parse.
pub(super) fn check_raft_message(bytes: &[u8]) -> Result<(), Malformed> {
    check(bytes, Shape::Message)
}

fn check(mut bytes: &[u8], shape: Shape) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let tag = u32::try_from(varint(&mut bytes)?).map_err(|_| Malformed::Number)?;
        match (tag & 7) as u8 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => {
                take(&mut bytes, 8)?;
            }
            2 => {
                let len = varint(&mut bytes)?;
                let field = take(&mut bytes, len)?;
                if let Some(child) = shape.child(tag >> 3) {
                    check(field, child)?;
                }
            }
            5 => {
                take(&mut bytes, 4)?;
            }
            wire_type => return Err(Malformed::WireType(wire_type)),
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8], Malformed> {
    let len = usize::try_from(len).map_err(|_| Malformed::Number)?;
    let (head, tail) = bytes.split_at_checked(len).ok_or(Malformed::Short)?;
    *bytes = tail;
    Ok(head)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed::Short)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protobuf::Message as _;
    use raft::prelude::{ConfState, Entry, Message, Snapshot};

    /// A length-delimited field.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, content.len() as u8];
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn groups_are_refused_on_every_level_that_protobuf_parses() {
        let group = vec![0xf3, 0x01, 0xf4, 0x01]; // field 30: start group, end group
        let metadata = field(9, &field(2, &field(1, &group)));
        for bytes in [group.clone(), field(7, &group), field(9, &group), field(9, &field(2, &group)), metadata] {
            assert_eq!(check_raft_message(&bytes), Err(Malformed::WireType(3)), "{bytes:?}");
        }
    }

    #[test]
    fn a_deep_nest_of_groups_is_refused_without_recursion() {
        assert_eq!(check_raft_message(&vec![0xf3; 1 << 20]), Err(Malformed::Number));
        assert_eq!(check_raft_message(&[0xf3, 0x01].repeat(1 << 19)), Err(Malformed::WireType(3)));
    }

    #[test]
    fn bytes_that_look_like_groups_are_data() {
        let mut entry = Entry { data: vec![0xf3; 64].into(), context: vec![0x0b; 24].into(), ..Entry::default() };
        entry.index = 7;
        let mut snapshot = Snapshot { data: vec![0x0b; 64].into(), ..Snapshot::default() };
        snapshot.mut_metadata().set_conf_state(ConfState { voters: vec![1, 2, 3], ..ConfState::default() });
        let mut message = Message { context: vec![0x0b; 16].into(), ..Message::default() };
        message.entries.push(entry);
        message.set_snapshot(snapshot);
        let bytes = message.write_to_bytes().unwrap();
        assert_eq!(check_raft_message(&bytes), Ok(()));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if check_raft_message(&bytes).is_ok() {
                let _ = Message::parse_from_bytes(&bytes); // may be refused, must return
            }
        }
    }
}

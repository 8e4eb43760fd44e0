//! The commands that are replicated for clients, and their outcomes. The encoding is part of the log format. PURE.
//!
//! ```text
//! put      1 | condition | key length u32 | key | value
//! delete   2 | condition | key
//! compact  3 | revision u64
//! condition: 0 none | 1 mod_revision u64 | 2 exists | 3 absent
//! ```
//!
//! Integers are big-endian. A number that was used keeps its meaning forever, since old logs hold it. Decoding is
//! strict: a command is accepted only if encoding it again gives the same bytes.

use crate::limits::KEY_BYTES_MAX;
use crate::types::Revision;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// When a write takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// `If-Match: "<rev>"`: the key exists with this mod_revision.
    ModRevision(Revision),
    /// `If-Match: *`: the key exists.
    Exists,
    /// `If-None-Match: *`: the key does not exist.
    Absent,
}

/// A replicated command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes a value.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When the write takes effect.
        condition: Condition,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
        /// When the removal takes effect.
        condition: Condition,
    },
    /// Makes revisions below this unreadable; the leader proposes it, so that all members agree (rule N15).
    Compact {
        /// The oldest revision that stays readable.
        revision: Revision,
    },
}

/// What a command did, decided at apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value was written.
    Put {
        /// The revision that the write made.
        revision: Revision,
        /// Writes of this key since it was created.
        version: u64,
    },
    /// `deleted` is false when there was no such key; then the revision did not change.
    Deleted {
        /// The store's revision after the command.
        revision: Revision,
        /// Whether there was such a key.
        deleted: bool,
    },
    /// The condition did not hold; `current` is the key's mod_revision, `None` when it does not exist.
    ConditionFailed {
        /// The store's revision.
        revision: Revision,
        /// The key's mod_revision.
        current: Option<Revision>,
    },
    /// The compacted revision after the command.
    Compacted {
        /// That revision.
        revision: Revision,
    },
}

/// The bytes are not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// The bytes end inside a field.
    #[error("the command ends too early")]
    Short,
    /// Bytes follow the last field.
    #[error("{0} bytes follow the command")]
    Trailing(usize),
    /// A key that no door lets through, and that the key index has no place for.
    #[error("a key of {0} bytes")]
    LongKey(usize),
    /// A number of a newer format, or garbage.
    #[error("there is no command {0}")]
    UnknownCommand(u8),
    /// A number of a newer format, or garbage.
    #[error("there is no condition {0}")]
    UnknownCondition(u8),
}

/// First byte of a command.
#[repr(u8)]
#[derive(Clone, Copy)]
enum CommandKind {
    /// [`Command::Put`].
    Put = 1,
    /// [`Command::Delete`].
    Delete = 2,
    /// [`Command::Compact`].
    Compact = 3,
}

/// First byte of a condition.
#[repr(u8)]
#[derive(Clone, Copy)]
enum ConditionKind {
    /// [`Condition::None`].
    None = 0,
    /// [`Condition::ModRevision`], followed by the revision.
    ModRevision = 1,
    /// [`Condition::Exists`].
    Exists = 2,
    /// [`Condition::Absent`].
    Absent = 3,
}

impl Command {
    /// The bytes that are replicated.
    pub fn encode(&self) -> Bytes {
        match self {
            Command::Put { key, value, condition } => {
                let mut out = BytesMut::with_capacity(14 + key.len() + value.len());
                out.put_u8(CommandKind::Put as u8);
                condition.encode(&mut out);
                out.put_u32(u32::try_from(key.len()).expect("request limits are far below 4 GiB"));
                out.put_slice(key);
                out.put_slice(value);
                out.freeze()
            }
            Command::Delete { key, condition } => {
                let mut out = BytesMut::with_capacity(10 + key.len());
                out.put_u8(CommandKind::Delete as u8);
                condition.encode(&mut out);
                out.put_slice(key);
                out.freeze()
            }
            Command::Compact { revision } => {
                let mut out = BytesMut::with_capacity(9);
                out.put_u8(CommandKind::Compact as u8);
                out.put_u64(*revision);
                out.freeze()
            }
        }
    }

    /// Whether the encoded command needs space: only a put does. Bytes that are no command are refused elsewhere.
    pub fn grows(data: &Bytes) -> bool {
        matches!(Command::decode(data), Ok(Command::Put { .. }))
    }

    /// Reverses [`Command::encode`]; key and value share memory with `data`.
    pub fn decode(data: &Bytes) -> Result<Command, BadCommand> {
        let mut rest = data.clone();
        match CommandKind::from_byte(take_u8(&mut rest)?)? {
            CommandKind::Put => {
                let condition = Condition::decode(&mut rest)?;
                let key_len = rest.try_get_u32().map_err(|_| BadCommand::Short)? as usize;
                if rest.len() < key_len {
                    return Err(BadCommand::Short);
                }
                Ok(Command::Put { key: short(rest.split_to(key_len))?, value: rest, condition })
            }
            CommandKind::Delete => {
                let condition = Condition::decode(&mut rest)?;
                Ok(Command::Delete { key: short(rest)?, condition })
            }
            CommandKind::Compact => {
                let revision = rest.try_get_u64().map_err(|_| BadCommand::Short)?;
                if rest.is_empty() { Ok(Command::Compact { revision }) } else { Err(BadCommand::Trailing(rest.len())) }
            }
        }
    }
}

impl Condition {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Condition::None => out.put_u8(ConditionKind::None as u8),
            Condition::ModRevision(revision) => {
                out.put_u8(ConditionKind::ModRevision as u8);
                out.put_u64(*revision);
            }
            Condition::Exists => out.put_u8(ConditionKind::Exists as u8),
            Condition::Absent => out.put_u8(ConditionKind::Absent as u8),
        }
    }

    fn decode(rest: &mut Bytes) -> Result<Condition, BadCommand> {
        match ConditionKind::from_byte(take_u8(rest)?)? {
            ConditionKind::None => Ok(Condition::None),
            ConditionKind::ModRevision => rest.try_get_u64().map(Condition::ModRevision).map_err(|_| BadCommand::Short),
            ConditionKind::Exists => Ok(Condition::Exists),
            ConditionKind::Absent => Ok(Condition::Absent),
        }
    }

    /// Whether a key whose newest mod_revision is `current` (`None`: it does not exist) may be written.
    pub fn holds(&self, current: Option<Revision>) -> bool {
        match self {
            Condition::None => true,
            Condition::ModRevision(revision) => current == Some(*revision),
            Condition::Exists => current.is_some(),
            Condition::Absent => current.is_none(),
        }
    }
}

impl CommandKind {
    fn from_byte(byte: u8) -> Result<CommandKind, BadCommand> {
        [CommandKind::Put, CommandKind::Delete, CommandKind::Compact]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(BadCommand::UnknownCommand(byte))
    }
}

impl ConditionKind {
    fn from_byte(byte: u8) -> Result<ConditionKind, BadCommand> {
        [ConditionKind::None, ConditionKind::ModRevision, ConditionKind::Exists, ConditionKind::Absent]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(BadCommand::UnknownCondition(byte))
    }
}

fn short(key: Bytes) -> Result<Bytes, BadCommand> {
    if key.len() <= KEY_BYTES_MAX { Ok(key) } else { Err(BadCommand::LongKey(key.len())) }
}

fn take_u8(rest: &mut Bytes) -> Result<u8, BadCommand> {
    rest.try_get_u8().map_err(|_| BadCommand::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_condition() -> impl Strategy<Value = Condition> {
        prop_oneof![
            Just(Condition::None),
            any::<u64>().prop_map(Condition::ModRevision),
            Just(Condition::Exists),
            Just(Condition::Absent),
        ]
    }

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn any_command() -> impl Strategy<Value = Command> {
        prop_oneof![
            (any_bytes(), any_bytes(), any_condition()).prop_map(|(key, value, condition)| Command::Put {
                key,
                value,
                condition
            }),
            (any_bytes(), any_condition()).prop_map(|(key, condition)| Command::Delete { key, condition }),
            any::<u64>().prop_map(|revision| Command::Compact { revision }),
        ]
    }

    proptest! {
        #[test]
        fn commands_round_trip(command in any_command()) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }

        #[test]
        fn any_bytes_decode_to_themselves_or_not_at_all(data in any_bytes()) {
            if let Ok(command) = Command::decode(&data) {
                prop_assert_eq!(command.encode(), data);
            }
        }
    }

    #[test]
    fn the_encoding_is_frozen() {
        let put = Command::Put {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            condition: Condition::ModRevision(258),
        };
        assert_eq!(put.encode().as_ref(), [1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, b'k', b'v']);
        let delete = Command::Delete { key: Bytes::from_static(b"k"), condition: Condition::Absent };
        assert_eq!(delete.encode().as_ref(), [2, 3, b'k']);
        assert_eq!(Command::Compact { revision: 5 }.encode().as_ref(), [3, 0, 0, 0, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn what_is_no_command_is_refused_by_name() {
        let decode = |bytes: &'static [u8]| Command::decode(&Bytes::from_static(bytes));
        assert_eq!(decode(&[]), Err(BadCommand::Short));
        assert_eq!(decode(&[9]), Err(BadCommand::UnknownCommand(9)));
        assert_eq!(decode(&[1, 7]), Err(BadCommand::UnknownCondition(7)));
        assert_eq!(decode(&[1, 0, 0, 0, 0, 9, b'k']), Err(BadCommand::Short));
        assert_eq!(decode(&[3, 0, 0, 0, 0, 0, 0, 0, 5, 6]), Err(BadCommand::Trailing(1)));
    }

    #[test]
    fn a_key_that_is_too_long_is_refused() {
        for (len, fits) in [(KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false), (1 << 16, false)] {
            let key = Bytes::from(vec![b'k'; len]);
            let put = Command::Put { key: key.clone(), value: Bytes::new(), condition: Condition::None };
            for command in [put, Command::Delete { key, condition: Condition::None }] {
                let expected = if fits { Ok(command.clone()) } else { Err(BadCommand::LongKey(len)) };
                assert_eq!(Command::decode(&command.encode()), expected);
            }
        }
    }
}

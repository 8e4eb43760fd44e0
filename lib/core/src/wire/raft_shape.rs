//! Refuses raft messages that our raft never sends, before raft sees them. PURE.
//!
//! raft-rs trusts its peers: an entry after a gap, a position without a term, a read request without its context or a
//! message without a term make it panic, and with it the process. A peer that holds the token may be buggy, or newer
//! than we are; that may cost its stream, but never this node.

use crate::kvstore::{BadCommand, Command};
use crate::limits::{MESSAGE_ENTRY_BYTES_MAX, NUMBER_MAX};
use crate::log;
use raft::prelude::{EntryType, Message, MessageType};

/// Why a message is not given to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misshapen {
    /// Only requests that a follower passes on carry no term; any other message without one would count as this node's
    /// own.
    #[error("the message has no term")]
    NoTerm,
    /// An index or term above [`NUMBER_MAX`].
    #[error("the message has a number that is too large")]
    Number,
    /// A read request is one entry that holds its context.
    #[error("the read request has {0} entries, not one")]
    ReadIndex(usize),
    /// Index 0 has term 0, and no other index has.
    #[error("the append follows index {index} of term {term}")]
    Position {
        /// The entry before the first.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// Indexes ascend by one, terms do not fall and are not above the leader's.
    #[error("the append's entry {index} of term {term} cannot follow the one before it")]
    Entry {
        /// Index of the first such entry.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// Once appended it could never be applied, by no version: it is a command of a kind that is known, and malformed.
    #[error("the append's entry {0} is no command: {1}")]
    Command(u64, BadCommand),
    /// More than a batch of the log takes.
    #[error("the append's entries take {0} bytes of the log")]
    TooLarge(usize),
}

/// Whether raft can take a message without harm; what it says may still be wrong, which is raft's business.
pub(super) fn check(message: &Message) -> Result<(), Misshapen> {
    let kind = message.get_msg_type();
    if message.term == 0 && !matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex) {
        return Err(Misshapen::NoTerm);
    }
    let numbers =
        [message.term, message.log_term, message.index, message.commit, message.commit_term, message.reject_hint];
    if numbers.into_iter().any(|number| number > NUMBER_MAX) {
        return Err(Misshapen::Number);
    }
    match kind {
        MessageType::MsgReadIndex if message.entries.len() != 1 => Err(Misshapen::ReadIndex(message.entries.len())),
        MessageType::MsgAppend => check_append(message),
        _ => Ok(()),
    }
}

fn check_append(message: &Message) -> Result<(), Misshapen> {
    let (mut index, mut term) = (message.index, message.log_term);
    if (index == 0) != (term == 0) || term > message.term {
        return Err(Misshapen::Position { index, term });
    }
    let mut bytes = 0;
    for entry in &message.entries {
        if entry.index != index + 1 || entry.term < term.max(1) || entry.term > message.term {
            return Err(Misshapen::Entry { index: entry.index, term: entry.term });
        }
        (index, term) = (entry.index, entry.term);
        bytes += log::entry_bytes(entry);
        if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
            match Command::decode(&entry.data) {
                // A newer leader's: it is appended, and apply stops the process with words where it cannot go on.
                Ok(_) | Err(BadCommand::UnknownCommand(_)) => {}
                Err(why) => return Err(Misshapen::Command(index, why)),
            }
        }
    }
    if bytes > MESSAGE_ENTRY_BYTES_MAX { Err(Misshapen::TooLarge(bytes)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::prelude::Entry;

    fn message(kind: MessageType) -> Message {
        let mut message = Message { from: 2, to: 1, term: 5, ..Message::default() };
        message.set_msg_type(kind);
        message
    }

    fn append(index: u64, log_term: u64, entries: &[(u64, u64)]) -> Message {
        let entry = |(index, term): &(u64, u64)| Entry { index: *index, term: *term, ..Entry::default() };
        let mut message = Message { index, log_term, ..message(MessageType::MsgAppend) };
        message.set_entries(entries.iter().map(entry).collect::<Vec<_>>().into());
        message
    }

    #[test]
    fn what_raft_sends_passes() {
        for good in [
            append(0, 0, &[(1, 1), (2, 1), (3, 5)]),
            append(7, 4, &[]),
            message(MessageType::MsgHeartbeat),
            Message { term: 0, ..message(MessageType::MsgPropose) },
        ] {
            assert_eq!(check(&good), Ok(()), "{good:?}");
        }
        let mut read = Message { term: 0, ..message(MessageType::MsgReadIndex) };
        read.mut_entries().push(Entry::default());
        assert_eq!(check(&read), Ok(()));
    }

    #[test]
    fn an_append_that_raft_or_the_log_would_panic_at_is_refused() {
        let entry = |index, term| Err(Misshapen::Entry { index, term });
        assert_eq!(check(&append(3, 2, &[(4, 2), (6, 2)])), entry(6, 2), "a gap");
        assert_eq!(check(&append(3, 2, &[(5, 2)])), entry(5, 2), "a gap at the beginning");
        assert_eq!(check(&append(3, 2, &[(4, 3), (5, 2)])), entry(5, 2), "the term falls");
        assert_eq!(check(&append(3, 2, &[(4, 6)])), entry(4, 6), "a term above the leader's");
        assert_eq!(check(&append(0, 0, &[(1, 0)])), entry(1, 0));
        // For raft, an index after its last one has term 0, so this would match and leave a gap.
        assert_eq!(check(&append(9, 0, &[])), Err(Misshapen::Position { index: 9, term: 0 }));
        assert_eq!(check(&append(0, 1, &[])), Err(Misshapen::Position { index: 0, term: 1 }));
    }

    #[test]
    fn many_small_entries_do_not_become_a_batch_that_the_log_refuses() {
        let count = MESSAGE_ENTRY_BYTES_MAX / log::entry_bytes(&Entry::default()) + 1;
        let entries: Vec<_> = (1..=count as u64).map(|index| (index, 1)).collect();
        assert!(matches!(check(&append(0, 0, &entries)), Err(Misshapen::TooLarge(_))));
        assert_eq!(check(&append(0, 0, &entries[1..].iter().map(|(i, t)| (i - 1, *t)).collect::<Vec<_>>())), Ok(()));
    }

    #[test]
    fn an_entry_that_no_version_could_apply_is_refused() {
        let mut entries = append(3, 2, &[(4, 2), (5, 2)]);
        entries.mut_entries()[1].data = vec![1].into();
        assert_eq!(check(&entries), Err(Misshapen::Command(5, BadCommand::Short)));
        entries.mut_entries()[1].set_entry_type(EntryType::EntryConfChangeV2);
        assert_eq!(check(&entries), Ok(()), "what a change is, the driver says when it is committed");
        entries.mut_entries()[1].set_entry_type(EntryType::EntryNormal);
        entries.mut_entries()[1].data = vec![9].into();
        assert_eq!(check(&entries), Ok(()), "a newer leader may know more commands, and apply says so");
    }

    #[test]
    fn requests_without_what_raft_takes_for_granted_are_refused() {
        assert_eq!(check(&message(MessageType::MsgReadIndex)), Err(Misshapen::ReadIndex(0)));
        for kind in [MessageType::MsgHeartbeat, MessageType::MsgAppend, MessageType::MsgRequestVote] {
            assert_eq!(check(&Message { term: 0, ..message(kind) }), Err(Misshapen::NoTerm), "{kind:?}");
        }
        let answer = Message { index: u64::MAX, ..message(MessageType::MsgAppendResponse) };
        assert_eq!(check(&answer), Err(Misshapen::Number));
    }
}

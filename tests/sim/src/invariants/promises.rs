//! Promises: a vote or an acknowledgement leaves only when what it promises is durable.

use super::witness::Witness;
use super::{Check, broken};
use raft::prelude::{Message, MessageType};

/// A message leaves.
pub fn check(message: &Message, witness: &Witness) -> Check {
    let kind = message.get_msg_type();
    let term_must_be_durable = match kind {
        MessageType::MsgRequestVoteResponse => !message.reject,
        MessageType::MsgRequestVote | MessageType::MsgAppendResponse => true,
        // A leader's word: its term was won by votes, its own among them.
        MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot => true,
        _ => false,
    };
    if term_must_be_durable && message.term > witness.term {
        let what = format!(
            "member {} sends {kind:?} of term {}, but only term {} is on its disk",
            message.from, message.term, witness.term
        );
        return broken("promises", what);
    }
    if kind == MessageType::MsgAppendResponse && !message.reject && message.index > witness.last() {
        let what = format!(
            "member {} acknowledges index {}, but its disk ends at {}",
            message.from,
            message.index,
            witness.last()
        );
        return broken("promises", what);
    }
    Ok(())
}

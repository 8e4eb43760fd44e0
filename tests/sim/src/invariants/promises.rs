//! Promises: a vote or an acknowledgement leaves only when what it promises is durable.

use super::witness::Witness;
use super::{Check, broken};
use raft::prelude::{Message, MessageType};

/// Checks a message that leaves.
pub fn check(message: &Message, witness: &Witness) -> Check {
    let kind = message.get_msg_type();
    let term_must_be_durable = match kind {
        MessageType::MsgRequestVoteResponse => !message.reject,
        MessageType::MsgRequestVote | MessageType::MsgAppendResponse => true,
        // A leader's word: its term was won by votes, and its own is one of them.
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
    // This does not hold for an acknowledgement of an older term: if a new leader's append follows in the same batch,
    // the entries may be replaced before they are written. That leader was elected without them, so no quorum of the
    // older term holds them, and none ever will: whoever voted rejects that term. `commit_on_quorum` checks what such
    // acknowledgements lead to.
    let is_of_this_term = message.term == witness.term;
    let acknowledges = kind == MessageType::MsgAppendResponse && !message.reject;
    if acknowledges && is_of_this_term && message.index > witness.last() {
        let what = format!(
            "member {} acknowledges index {} in term {}, but its disk ends at {}",
            message.from,
            message.index,
            message.term,
            witness.last()
        );
        return broken("promises", what);
    }
    Ok(())
}

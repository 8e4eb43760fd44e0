//! One vote: a member votes for at most one candidate in a term, whatever happens to its process.

use super::{Check, broken};
use raft::prelude::{Message, MessageType};
use raftkv_core::types::{MemberId, Term};
use std::collections::BTreeMap;

/// Who voted for whom.
#[derive(Debug, Default)]
pub struct Votes {
    votes: BTreeMap<(MemberId, Term), MemberId>,
}

impl Votes {
    /// Whom a member voted for in a term.
    pub fn given(&self, id: MemberId, term: Term) -> Option<MemberId> {
        self.votes.get(&(id, term)).copied()
    }

    /// Checks a message that leaves; a member that asks for votes votes for itself.
    pub fn check(&mut self, message: &Message) -> Check {
        let candidate = match message.get_msg_type() {
            MessageType::MsgRequestVote => message.from,
            MessageType::MsgRequestVoteResponse if !message.reject => message.to,
            _ => return Ok(()),
        };
        let voted = *self.votes.entry((message.from, message.term)).or_insert(candidate);
        if voted == candidate {
            return Ok(());
        }
        let what = format!("member {} votes for {voted} and {candidate} in term {}", message.from, message.term);
        broken("one_vote", what)
    }
}

//! Starts the ReadIndex rounds of [`super::reads`] in raft, and takes raft's answers (rule N18). PURE.
//!
//! Enters: raft's answers. Leaves: reads that may be served or that failed, and answers to followers. It must never
//! start a round that raft would drop.

use super::reads::Asked;
use super::{Driver, Effect};
use crate::refusal::Refusal;
use crate::types::Index;
use raft::prelude::{Entry, Message, MessageType};

impl Driver {
    pub(super) fn start_read_round(&mut self) {
        // What followers asked of this member as leader is void if it follows another leader by now.
        self.notice_leader();
        if !self.reads.wants_round() {
            return;
        }
        if let Some(why) = self.read_refusal() {
            let reads = self.reads.fail_all();
            if !reads.is_empty() {
                self.emit(Effect::ReadFailed { reads, why });
            }
            // What followers asked remains, even if this leader has no vote.
            if !self.reads.wants_round() {
                return;
            }
        }
        let raft = &self.node.raft;
        let (term, leader) = (raft.term, raft.leader_id);
        // raft silently drops a ReadIndex when there is no leader, or when a leader has not committed in its term.
        let answerable = leader != 0 && (!self.is_leader() || raft.commit_to_current_term());
        if answerable {
            let context = self.reads.start(term, leader);
            self.node.read_index(context);
        }
    }

    fn read_refusal(&self) -> Option<Refusal> {
        if self.removed.is_some() {
            return Some(Refusal::Removed);
        }
        (!self.membership.votes(self.identity.member_id)).then_some(Refusal::NotAVoter)
    }

    pub(super) fn read_answered(&mut self, context: &[u8], index: Index) {
        let (term, leader) = (self.node.raft.term, self.node.raft.leader_id);
        let mut confirmed = self.reads.answered(context, term, leader);
        let asked = std::mem::take(&mut confirmed.asked);
        self.reads.hold(confirmed, index, term);
        for Asked { by, context } in asked {
            let mut answer = Message { to: by, from: self.identity.member_id, term, index, ..Message::default() };
            answer.set_msg_type(MessageType::MsgReadIndexResp);
            answer.mut_entries().push(Entry { data: context, ..Entry::default() });
            self.emit(Effect::Send(Box::new(answer)));
        }
    }
}

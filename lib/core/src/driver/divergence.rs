//! A leader whose log contradicts what is committed here (rule N20). PURE.
//!
//! Enters: appends, snapshots and read indexes. Leaves: nothing, or what differs, with both sides. raft-rs 0.7 does not
//! see a divergence: it answers an append below its commit index with that index, an acknowledgement that the leader
//! counts for entries which this member does not have. So it is looked for in front of raft, and what differs is not
//! stepped. Nothing is truncated here: this log may be the only one that has what it says.

use super::{Driver, Effect};
use crate::identity::Finding;
use crate::mutant::{self, Mutant};
use crate::types::{Index, Term};
use raft::prelude::{Message, MessageType};

impl Driver {
    /// Ends the member phase if an append or a snapshot contradicts what is committed here; true if it did.
    pub(super) fn ends_diverged(&mut self, message: &Message) -> bool {
        if message.term < self.node.raft.term || mutant::is(Mutant::DivergenceNotSeen) {
            return false;
        }
        let Some((index, theirs)) = self.first_difference(message) else { return false };
        let (own, log) = (self.identity.member_id, &self.node.raft.raft_log);
        let ours = self.committed_term(index);
        let why = format!(
            "member {} leads term {} and has an entry of term {theirs} at index {index}, but on this member, {own}, \
             everything up to index {} is committed and that entry is of term {ours}: one of the two data directories has \
             lost acknowledged writes, as after an older copy was put back; keep both",
            message.from, message.term, log.committed
        );
        self.halt(Effect::Quarantine { finding: Finding::divergence(why) });
        true
    }

    /// Index and the leader's term of the first entry of a message that is not the one that is committed here.
    fn first_difference(&self, message: &Message) -> Option<(Index, Term)> {
        let snapshot = message.get_snapshot().get_metadata();
        let before = match message.get_msg_type() {
            MessageType::MsgSnapshot => (snapshot.index, snapshot.term),
            _ => (message.index, message.log_term),
        };
        let entries = message.entries.iter().map(|entry| (entry.index, entry.term));
        std::iter::once(before).chain(entries).find(|(index, term)| self.differs(*index, *term))
    }

    /// Whether an entry cannot be the one that is committed here at its index. Below the log's base only a term that is
    /// higher than the base's shows that.
    fn differs(&self, index: Index, term: Term) -> bool {
        let log = &self.node.raft.raft_log;
        if index > log.committed {
            return false;
        }
        let ours = self.committed_term(index);
        if index < log.first_index() - 1 { term > ours } else { term != ours }
    }

    /// Term of the committed entry at an index; below the log's base that of the base.
    fn committed_term(&self, index: Index) -> Term {
        let log = &self.node.raft.raft_log;
        log.term(index.max(log.first_index() - 1)).expect("the log knows the terms from its base to its end")
    }

    /// Serves the linearizable reads whose index is committed here, if its entry has the term that confirmed it: raft
    /// answers only with an index of its own term. With a leader that shows itself by heartbeats alone the entry is
    /// another one; those reads join the next round, and fail in the end if no other leader answers.
    pub(super) fn release_reads(&mut self) {
        while let Some(held) = self.reads.take_committed(self.node.raft.raft_log.committed) {
            match self.committed_term(held.index) == held.term || mutant::is(Mutant::DivergenceNotSeen) {
                true => self.emit(Effect::ReadReady { index: held.index, reads: held.into_reads() }),
                false => self.reads.again(held),
            }
        }
    }
}

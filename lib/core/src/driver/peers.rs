//! What a leader knows about the others: who is active, who is caught up (rule O6), what they acknowledged (rule N20).
//! PURE.
//!
//! Enters: messages before they are stepped, reports, hellos. Leaves: answers to these questions; nothing is sent or
//! decided here.

use super::hang::HANG_TICKS;
use crate::limits::{CAUGHT_UP_ENTRIES, ELECTION_TICKS, TICK_MS};
use crate::types::{Index, MemberId, Term};
use crate::wire::Report;
use raft::ProgressState;
use raft::prelude::{Message, MessageType};
use std::collections::{BTreeMap, VecDeque};

/// What is remembered about one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// Tick of its last response in the leader's own term; kept here, since raft clears its own mark at each check of
    /// the quorum.
    responded_at: Option<u64>,
    /// Highest term of an acknowledgement.
    acked_term: Term,
    /// Its last report about itself.
    report: Report,
    /// Tick at which it last said that its sync hangs (rule N26).
    hung_at: Option<u64>,
}

/// Number of runs of one member's process whose hello is remembered; beyond that the oldest is forgotten.
const BOOTS_KEPT: usize = 16;

/// All peers.
#[derive(Debug, Default)]
pub struct Peers {
    peers: BTreeMap<MemberId, Peer>,
    /// Tick at which the leader changed last.
    leader_changed_at: u64,
    boots: BTreeMap<MemberId, VecDeque<u64>>,
}

impl Peers {
    /// Notes a message that is about to be stepped in term `own_term`.
    pub fn received(&mut self, message: &Message, own_term: Term, now_tick: u64) {
        let is_response = match message.get_msg_type() {
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse => true,
            MessageType::MsgRequestVoteResponse => false,
            _ => return,
        };
        let peer = self.peers.entry(message.from).or_default();
        if !message.reject {
            peer.acked_term = peer.acked_term.max(message.term);
        }
        if is_response && message.term == own_term {
            peer.responded_at = Some(now_tick);
        }
    }

    /// Leadership changed: nobody has answered the new leader yet, except by a vote.
    pub fn leader_changed(&mut self, now_tick: u64) {
        self.leader_changed_at = now_tick;
        for peer in self.peers.values_mut() {
            peer.responded_at = None;
        }
    }

    /// Takes the member's report about itself.
    pub fn reported(&mut self, from: MemberId, report: Report, now_tick: u64) {
        let peer = self.peers.entry(from).or_default();
        peer.report = report;
        if report.stalled_ms >= HANG_TICKS * TICK_MS {
            peer.hung_at = Some(now_tick);
        }
    }

    /// Tick at which the member last said that its sync hangs.
    pub fn hung_at(&self, id: MemberId) -> Option<u64> {
        self.peers.get(&id)?.hung_at
    }

    /// Its last report.
    pub fn report(&self, id: MemberId) -> Report {
        self.peers.get(&id).map(|peer| peer.report).unwrap_or_default()
    }

    /// Highest term in which the member acknowledged something to us.
    pub fn acked_term(&self, id: MemberId) -> Term {
        self.peers.get(&id).map_or(0, |peer| peer.acked_term)
    }

    /// Whether this run of the member's process said hello before.
    pub fn knows_boot(&self, id: MemberId, boot: u64) -> bool {
        self.boots.get(&id).is_some_and(|boots| boots.contains(&boot))
    }

    /// Remembers that this run of the member's process said hello and was accepted.
    pub fn remember_boot(&mut self, id: MemberId, boot: u64) {
        let boots = self.boots.entry(id).or_default();
        boots.push_back(boot);
        if boots.len() > BOOTS_KEPT {
            boots.pop_front();
        }
    }

    /// Rule O6: whether the member answered within the last election timeout.
    pub fn is_active(&self, id: MemberId, now_tick: u64) -> bool {
        let responded_at = self.peers.get(&id).and_then(|peer| peer.responded_at);
        responded_at.is_some_and(|tick| now_tick - tick <= ELECTION_TICKS as u64)
    }

    /// Ticks since the member last answered this leader, or since this leader won its election: a quorum answered then.
    pub fn silent_ticks(&self, id: MemberId, now_tick: u64) -> u64 {
        let responded_at = self.peers.get(&id).and_then(|peer| peer.responded_at).unwrap_or_default();
        now_tick - responded_at.max(self.leader_changed_at)
    }

    /// Forgets every peer that is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(MemberId) -> bool) {
        self.peers.retain(|id, _| keep(*id));
        self.boots.retain(|id, _| keep(*id));
    }
}

/// Rule O6: active, replicating, and at most 1000 entries behind.
pub fn is_caught_up(active: bool, state: ProgressState, matched: Index, last_index: Index) -> bool {
    active && state == ProgressState::Replicate && matched + CAUGHT_UP_ENTRIES >= last_index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_is_an_answer_in_the_own_term_within_an_election_timeout() {
        let mut peers = Peers::default();
        let mut message = Message { from: 2, term: 4, ..Message::default() };
        message.set_msg_type(MessageType::MsgHeartbeatResponse);
        peers.received(&message, 5, 100);
        assert!(!peers.is_active(2, 100), "an answer of an old term says nothing");
        message.term = 5;
        peers.received(&message, 5, 100);
        assert!(peers.is_active(2, 100 + ELECTION_TICKS as u64));
        assert!(!peers.is_active(2, 101 + ELECTION_TICKS as u64));
        peers.leader_changed(100);
        assert!(!peers.is_active(2, 100));
    }

    #[test]
    fn caught_up_needs_all_three() {
        assert!(is_caught_up(true, ProgressState::Replicate, 10, 10 + CAUGHT_UP_ENTRIES));
        assert!(!is_caught_up(true, ProgressState::Replicate, 9, 10 + CAUGHT_UP_ENTRIES));
        assert!(!is_caught_up(false, ProgressState::Replicate, 10, 10));
        assert!(!is_caught_up(true, ProgressState::Probe, 10, 10));
    }
}

//! What a leader knows about the others: who is active, who is caught up (rule O6), what they acknowledged (rule N20).
//! PURE.
//!
//! Enters: messages before they are stepped, reports, hellos. Leaves: answers to these questions; nothing is sent or
//! decided here.

use super::hang::HANG_TICKS;
use crate::limits::{CAUGHT_UP_ENTRIES, ELECTION_TICKS, TICK_MS};
use crate::mutant::{self, Mutant};
use crate::types::{Index, MemberId, Term};
use crate::wire::Report;
use raft::ProgressState;
use raft::prelude::{Message, MessageType};
use std::collections::{BTreeMap, VecDeque};

/// What a member has shown of its data directory, over changes of leader: its disk must keep that for ever (rule N20).
/// An id has one directory, since no id is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Highest term in which it acknowledged something, voted, asked for a vote, or led.
    pub term: Term,
    /// Highest index that it acknowledged in that term, or, as its leader, called durable on its own disk.
    pub index: Index,
    /// Highest index of these that was committed here while that term was ours too. What was shown and not committed may
    /// have been replaced in a later term.
    pub committed: Index,
}

impl Shown {
    fn in_term(&mut self, term: Term, index: Index) {
        if term > self.term {
            (self.term, self.index) = (term, 0);
        }
        if term == self.term {
            self.index = self.index.max(index);
        }
    }

    fn settle(&mut self, own_term: Term, commit: Index) {
        if self.term == own_term {
            self.committed = self.committed.max(self.index.min(commit));
        }
    }

    /// What a directory with this term and last index has lost, in words; `None` if it may have kept everything.
    pub fn lost(&self, term: Term, last_index: Index) -> Option<String> {
        if term < self.term {
            return Some(format!("showed term {} to this node, but its disk says {term}", self.term));
        }
        if term == self.term && last_index < self.index {
            let (index, term) = (self.index, self.term);
            return Some(format!("acknowledged index {index} in term {term}, but its log ends at {last_index}"));
        }
        (last_index < self.committed).then(|| {
            format!("acknowledged index {}, which is committed, but its log ends at {last_index}", self.committed)
        })
    }
}

/// What is remembered about one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// Tick of its last response in the leader's own term; kept here, since raft clears its own mark at each check of
    /// the quorum.
    responded_at: Option<u64>,
    /// What its data directory must keep.
    shown: Shown,
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
    /// Own term and commit index at the last look at what each member has shown.
    settled: (Term, Index),
}

impl Peers {
    /// Notes a message that arrives in term `own_term`.
    pub fn received(&mut self, message: &Message, own_term: Term, now_tick: u64) {
        let kind = message.get_msg_type();
        if message.term == own_term
            && matches!(kind, MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse)
        {
            self.peers.entry(message.from).or_default().responded_at = Some(now_tick);
        }
        if let Some(index) = shown_by(message) {
            let (own_term, commit) = self.settled;
            let shown = &mut self.peers.entry(message.from).or_default().shown;
            shown.in_term(message.term, index);
            shown.settle(own_term, commit);
        }
    }

    /// Own term and commit index, as they are before anything changes them: what a member has shown by then, and is
    /// committed, it must keep in every later term.
    pub fn settle(&mut self, own_term: Term, commit: Index) {
        if self.settled != (own_term, commit) {
            self.settled = (own_term, commit);
            self.peers.values_mut().for_each(|peer| peer.shown.settle(own_term, commit));
        }
    }

    /// What a member has shown of its data directory.
    pub fn shown(&self, id: MemberId) -> Shown {
        self.peers.get(&id).map(|peer| peer.shown).unwrap_or_default()
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

/// The index that a message proves to be on its sender's disk, 0 if it proves only that its term is; `None` if it
/// proves nothing. A leader sends entries before they are on its own disk, and its commit index runs ahead of that disk,
/// too; so it says apart what is durable there.
fn shown_by(message: &Message) -> Option<Index> {
    match message.get_msg_type() {
        MessageType::MsgAppendResponse => (!message.reject).then_some(message.index),
        MessageType::MsgHeartbeatResponse | MessageType::MsgRequestVoteResponse => (!message.reject).then_some(0),
        MessageType::MsgRequestVote => Some(0),
        MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot => {
            (!mutant::is(Mutant::LeaderNotRemembered)).then_some(message.reject_hint)
        }
        _ => None,
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

    fn message(kind: MessageType, term: Term, index: Index) -> Message {
        let mut message = Message { from: 2, term, ..Message::default() };
        message.set_msg_type(kind);
        match kind {
            MessageType::MsgAppend => message.reject_hint = index,
            _ => message.index = index,
        }
        message
    }

    #[test]
    fn what_a_member_showed_in_any_role_counts_against_a_directory_that_has_less() {
        let roles = [
            (MessageType::MsgAppendResponse, 9),
            (MessageType::MsgAppend, 9),
            (MessageType::MsgRequestVote, 0),
            (MessageType::MsgRequestVoteResponse, 0),
        ];
        for (kind, index) in roles {
            let mut peers = Peers::default();
            peers.received(&message(kind, 4, 9), 4, 1);
            let shown = peers.shown(2);
            assert_eq!((shown.term, shown.index), (4, index), "{kind:?}");
            assert!(shown.lost(3, 100).is_some(), "{kind:?}: a lower term");
            assert_eq!(shown.lost(4, 8).is_some(), index > 0, "{kind:?}: a shorter log of the same term");
            assert_eq!(shown.lost(4, 9), None, "{kind:?}");
            assert_eq!(shown.lost(5, 8), None, "{kind:?}: the tail may have been replaced in a later term");
        }
        let mut peers = Peers::default();
        peers.received(&message(MessageType::MsgRequestPreVote, 9, 9), 4, 1);
        peers.received(&message(MessageType::MsgRequestPreVoteResponse, 9, 9), 4, 1);
        assert_eq!(peers.shown(2), Shown::default(), "a pre-vote is of a term that nobody has");
    }

    #[test]
    fn what_was_shown_and_committed_in_our_own_term_is_kept_in_every_later_term() {
        let mut peers = Peers::default();
        peers.settle(4, 5);
        peers.received(&message(MessageType::MsgAppendResponse, 4, 9), 4, 1);
        peers.settle(4, 7);
        // Committed in a later term, it may be another entry than the one that was shown.
        peers.settle(5, 9);
        assert_eq!(peers.shown(2), Shown { term: 4, index: 9, committed: 7 });
        assert!(peers.shown(2).lost(6, 6).is_some());
        assert_eq!(peers.shown(2).lost(6, 7), None);
    }

    #[test]
    fn caught_up_needs_all_three() {
        assert!(is_caught_up(true, ProgressState::Replicate, 10, 10 + CAUGHT_UP_ENTRIES));
        assert!(!is_caught_up(true, ProgressState::Replicate, 9, 10 + CAUGHT_UP_ENTRIES));
        assert!(!is_caught_up(false, ProgressState::Replicate, 10, 10));
        assert!(!is_caught_up(true, ProgressState::Probe, 10, 10));
    }
}

//! Messages from peers on their way into raft, and the guards in front of raft (rules N9, N12, N20, N23). PURE.
//!
//! Enters: raft messages. Leaves: steps of raft, and effects. It must never step an append or a snapshot while a batch
//! is being synced.

use super::reads::Asked;
use super::{Driver, Effect};
use crate::identity::Finding;
use crate::limits;
use crate::log;
use crate::mutant::{self, Mutant};
use raft::prelude::{Message, MessageType};
use raft::{ProgressState, StateRole};

impl Driver {
    pub(super) fn message(&mut self, message: Message) {
        if message.to != self.identity.member_id || (self.removed.is_some() && mutant::is(Mutant::RemovedIsSilent)) {
            return;
        }
        // Whatever becomes of the message here, it shows what its sender has on its disk (rule N20).
        self.peers.received(&message, self.node.raft.term, self.now_tick);
        // One that still sends messages does not know of its removal: the notice was lost (rule N4).
        self.tell_if_removed(message.from);
        match message.get_msg_type() {
            // It carries no term, so a late or duplicated one would append twice (rule N5).
            MessageType::MsgPropose => {}
            MessageType::MsgReadIndex => self.asked_to_read(message),
            // raft-rs would let a follower pass on a transfer that no leader asked for.
            MessageType::MsgTransferLeader => {}
            MessageType::MsgTimeoutNow => {
                let wins_at_once = self.is_only_voter();
                if self.may_campaign() && self.removed.is_none() && (!wins_at_once || self.is_all_durable()) {
                    self.step_raft(message);
                }
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => self.vote_requested(message),
            MessageType::MsgRequestPreVoteResponse => self.pre_vote_answered(message),
            MessageType::MsgHeartbeat => self.heartbeat(message),
            MessageType::MsgAppend => self.defer(message),
            MessageType::MsgSnapshot => self.snapshot_offered(message),
            _ => self.step_raft(message),
        }
    }

    /// A follower asks for a read index. A member that does not lead has none, and the follower asks the next leader.
    fn asked_to_read(&mut self, mut message: Message) {
        let by = message.from;
        let is_member = self.node.raft.prs().get(by).is_some();
        if let (true, true, Some(entry)) = (self.is_leader(), is_member, message.mut_entries().first_mut()) {
            self.reads.ask(Asked { by, context: entry.take_data() });
        }
    }

    /// A leader counts on entries only if this member acknowledged them; if its log does not hold them, it has lost
    /// them (rule N20).
    fn heartbeat(&mut self, message: Message) {
        let (last_index, term) = (self.node.raft.raft_log.last_index(), self.node.raft.term);
        if message.term >= term && message.commit > last_index {
            let why = format!(
                "member {} leads term {} and counts on index {}, which this member acknowledged, but its log ends at \
                 {last_index}: the data directory was rolled back",
                message.from, message.term, message.commit
            );
            return self.halt(Effect::Quarantine { finding: Finding::new(why) });
        }
        self.step_raft(message);
    }

    /// Who refuses a pre-vote says what is committed, and that may be its own removal, without which nobody can lead. It
    /// answers with its own term, and raft-rs drops what comes from an older one: so a member that was about to campaign
    /// when it crashed would ask for ever. A commit is true in every term, and a refusal can't help anybody to win.
    fn pre_vote_answered(&mut self, mut message: Message) {
        let raft = &self.node.raft;
        let tells = message.commit > raft.raft_log.committed;
        if message.reject && message.term < raft.term && tells {
            message.term = raft.term;
        }
        self.step_raft(message);
    }

    /// Steps an append or snapshot when no batch is being synced, and keeps it otherwise. Beyond the bound it is
    /// dropped, which raft repairs.
    pub(super) fn defer(&mut self, message: Message) {
        if self.deferred.is_empty() && self.syncing.is_none() && self.may_step_entries() {
            return self.step_entries(message);
        }
        let bytes = bytes_of(&message);
        let full = self.deferred.len() >= limits::INFLIGHT_MESSAGES_MAX
            || self.deferred_bytes + bytes > limits::INFLIGHT_BYTES_MAX;
        if !full || self.deferred.is_empty() {
            self.deferred_bytes += bytes;
            self.deferred.push_back(message);
        }
    }

    pub(super) fn step_deferred(&mut self) {
        while !self.halted
            && self.may_step_entries()
            && let Some(message) = self.deferred.pop_front()
        {
            self.deferred_bytes -= bytes_of(&message);
            self.step_entries(message);
        }
    }

    fn step_entries(&mut self, message: Message) {
        if self.ends_diverged(&message) {
            return;
        }
        self.unstable_bytes += bytes_of(&message);
        self.step_raft(message);
    }

    pub(super) fn step_raft(&mut self, message: Message) {
        let kind = message.get_msg_type();
        let own_term = self.node.raft.term;
        let from_leader = matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot);
        if from_leader && message.term >= own_term {
            self.leader_heard_at = Some(self.now_tick);
        }
        self.settle_shown();
        let from = message.from;
        let accepted = (!message.reject && message.term == own_term).then_some(message.index);
        let vote_refused = kind == MessageType::MsgRequestVoteResponse && message.reject && message.term == own_term;
        // Errors (an unknown peer's answer, a dropped transfer) need no action: raft has done what there is to do.
        let _refused = self.node.step(message);
        if kind == MessageType::MsgAppendResponse && self.is_leader() {
            self.mend_progress(from, accepted);
        }
        if kind == MessageType::MsgHeartbeatResponse && self.is_leader() {
            self.mend_idle_probe(from);
        }
        if vote_refused {
            self.hasten_next_campaign();
        }
    }

    /// A vote was refused to this member although it won the pre-vote: another candidate, which campaigned at the same
    /// moment, got that vote. With the old leader dead, neither may reach a majority, and waiting a whole timeout would
    /// be the longest part of the outage. So each tries again after a delay of its own. Timeouts are for progress only:
    /// nobody holds a lease while no leader is known.
    fn hasten_next_campaign(&mut self) {
        let own = self.identity.member_id;
        let before = self.membership.members.keys().filter(|id| **id < own && self.membership.votes(**id)).count();
        let wait_ticks = limits::SPLIT_VOTE_TICKS + before * limits::SPLIT_VOTE_TICKS_APART;
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Candidate {
            let due = raft.randomized_election_timeout().saturating_sub(wait_ticks);
            raft.election_elapsed = raft.election_elapsed.max(due);
        }
    }

    /// Two things that raft-rs 0.7 leaves undone after a MsgAppendResponse.
    fn mend_progress(&mut self, id: u64, accepted: Option<u64>) {
        let Some(progress) = self.node.raft.mut_prs().get_mut(id) else { return };
        // next_idx may have fallen to matched or below after a stale rejection (raft-rs #555).
        if progress.state != ProgressState::Snapshot && progress.next_idx <= progress.matched {
            progress.next_idx = progress.matched + 1;
        }
        // An answer that brings nothing new leaves a member in Probe: forever, if no write follows a snapshot (etcd's
        // raft takes it out of Probe since v3.6).
        if progress.state == ProgressState::Probe && accepted == Some(progress.matched) {
            progress.become_replicate();
        }
    }

    /// A member that was away but has everything is sent nothing that it could answer. It would stay in Probe until the
    /// next write, and not count as caught up (etcd's raft sends it an empty append since v3.6).
    fn mend_idle_probe(&mut self, id: u64) {
        let last_index = self.node.raft.raft_log.last_index();
        let Some(progress) = self.node.raft.mut_prs().get_mut(id) else { return };
        if progress.state == ProgressState::Probe && progress.matched == last_index {
            progress.become_replicate();
        }
    }
}

fn bytes_of(message: &Message) -> usize {
    message.entries.iter().map(log::entry_bytes).sum()
}

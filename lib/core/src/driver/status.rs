//! What the driver shows about itself, as plain data. PURE.
//!
//! Leaves: a status for answers and invariants, and the headline of it that is published at once.

use super::Driver;
use super::peers::is_caught_up;
use crate::limits;
use crate::membership::Membership;
use crate::types::{Index, MemberId, Term};
use crate::wire::Report;
use raft::StateRole;
use raftkv_api::Writes;
use std::sync::Arc;

/// Role, for people and invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks for votes or pre-votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What the driver shows about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverStatus {
    /// This member's id.
    pub id: MemberId,
    /// Role in raft.
    pub role: Role,
    /// Raft term (maybe not durable yet).
    pub term: Term,
    /// The leader; 0 when unknown.
    pub leader: MemberId,
    /// Commit index.
    pub commit: Index,
    /// Applied index, as reported by the apply thread.
    pub applied: Index,
    /// Last index that was handed out to the apply queue: what raft calls applied.
    pub handed_out: Index,
    /// Last index in the log, maybe not durable yet.
    pub last_index: Index,
    /// Term of the last entry; 0 when there is none.
    pub last_log_term: Term,
    /// First index in the log.
    pub first_index: Index,
    /// Last index that is durable here.
    pub durable_index: Index,
    /// Term that is durable here.
    pub durable_term: Term,
    /// Index of the newest snapshot.
    pub snapshot_index: Index,
    /// Index of the newest conf change whose application is durable.
    pub durable_conf_index: Index,
    /// Removals up to this index are safe: whoever left by them may be told so, and forgotten (rule N4).
    pub removals_safe: Index,
    /// Whether this member may lead: its kv db is proved, its disk works, and it does not wait for answers to its hello.
    pub can_lead: bool,
    /// For how many milliseconds the log has been syncing a batch; 0 while it is not (rule N26).
    pub sync_ms: u64,
    /// What a put would get here; `None` where another member leads, which knows.
    pub writes: Option<Writes>,
    /// On the leader, ticks since a quorum was last heard.
    pub quorum_contact_ticks: Option<u64>,
    /// Whether this member has applied its own removal.
    pub removed: bool,
    /// Why puts, or more, are refused for lack of space.
    pub no_space: Option<String>,
    /// Whether this member leads but another voter should, because space is short here.
    pub should_hand_over: bool,
    /// Number of proposals that wait.
    pub proposals_waiting: usize,
    /// Ticks since a leader was heard of; `None` if never.
    pub leader_contact_ticks: Option<u64>,
    /// Membership.
    pub membership: Arc<Membership>,
    /// Every other member, on the leader; empty elsewhere.
    pub peers: Vec<PeerStatus>,
}

/// What other members, and whoever waits for this node, need to know without delay.
#[allow(missing_docs, reason = "the names are those of DriverStatus and Membership")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headline {
    pub term: Term,
    pub leader: MemberId,
    pub conf_index: Index,
    pub durable_conf_index: Index,
    pub can_lead: bool,
    pub hangs: bool,
}

/// What the leader knows about a member.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// The member.
    pub id: MemberId,
    /// Whether it is active, as rule O6 means it.
    pub active: bool,
    /// Whether it is caught up, as rule O6 means it.
    pub caught_up: bool,
    /// Highest index known to be durable there.
    pub matched: Index,
    /// Its last report.
    pub report: Report,
}

impl Driver {
    /// The whole status.
    pub fn status(&self) -> DriverStatus {
        let raft = &self.node.raft;
        DriverStatus {
            id: self.identity.member_id,
            role: self.role(),
            term: raft.term,
            leader: raft.leader_id,
            commit: raft.raft_log.committed,
            applied: self.apply.applied,
            handed_out: self.apply.handed_out,
            last_index: raft.raft_log.last_index(),
            last_log_term: raft.raft_log.term(raft.raft_log.last_index()).unwrap_or_default(),
            first_index: self.log().first_index(),
            durable_index: self.durable.index,
            durable_term: self.durable.term,
            snapshot_index: self.snapshots.newest().map_or(0, |meta| meta.index),
            durable_conf_index: self.durable.conf_index,
            removals_safe: self.removals_safe,
            can_lead: self.may_lead(),
            sync_ms: self.sync_ticks() * limits::TICK_MS,
            writes: self.writes(),
            quorum_contact_ticks: self.quorum_contact_ticks(),
            removed: self.removed.is_some(),
            no_space: self.no_space.as_ref().map(|no_space| no_space.why.clone()),
            should_hand_over: self.should_hand_over(),
            proposals_waiting: self.proposals.waiting(),
            leader_contact_ticks: self.leader_contact_ticks(),
            membership: self.membership.clone(),
            peers: self.peer_statuses(),
        }
    }

    /// The part of the status that is published as soon as it changes.
    pub fn headline(&self) -> Headline {
        Headline {
            term: self.node.raft.term,
            leader: self.node.raft.leader_id,
            conf_index: self.membership.conf_index,
            durable_conf_index: self.durable.conf_index,
            can_lead: self.may_lead(),
            hangs: self.hangs(),
        }
    }

    /// Whether leadership may be handed to this member.
    pub(super) fn may_lead(&self) -> bool {
        self.can_lead && !self.hangs() && !self.waits_at_start()
    }

    /// Role in raft.
    pub fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    fn leader_contact_ticks(&self) -> Option<u64> {
        match self.role() {
            Role::Leader => Some(0),
            Role::Follower | Role::Candidate => self.leader_heard_at.map(|tick| self.now_tick - tick),
        }
    }

    /// Every other member, on the leader; empty elsewhere.
    fn peer_statuses(&self) -> Vec<PeerStatus> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let others = self.membership.members.keys().filter(|id| **id != self.identity.member_id);
        others.map(|id| self.peer_status(*id)).collect()
    }

    /// The leader's view of one other member.
    pub(super) fn peer_status(&self, id: MemberId) -> PeerStatus {
        let last_index = self.node.raft.raft_log.last_index();
        let active = self.peers.is_active(id, self.now_tick);
        let progress = self.node.raft.prs().get(id);
        let (matched, caught_up) = progress.map_or((0, false), |progress| {
            (progress.matched, is_caught_up(active, progress.state, progress.matched, last_index))
        });
        PeerStatus { id, active, caught_up, matched, report: self.peers.report(id) }
    }
}

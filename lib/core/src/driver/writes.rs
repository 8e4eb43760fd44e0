//! What a put would get at this member, before anybody sends one. PURE.
//!
//! Enters: what this member knows of itself and, as the leader, of the others. Leaves: one word for the status. It
//! decides nothing: what refuses or delays a put is elsewhere, and this must say the same beforehand.

use super::hang::STEP_DOWN_TICKS;
use super::{Driver, Role};
use crate::limits::{ELECTION_TICKS, TICK_MS};
use crate::types::MemberId;
use raftkv_api::Writes;
use std::collections::BTreeSet;

impl Driver {
    /// What a put would get here; `None` where another member leads, which knows, and on a removed member.
    pub(super) fn writes(&self) -> Option<Writes> {
        if self.removed.is_some() {
            return None;
        }
        if !self.membership.formed {
            return Some(Writes::Forming);
        }
        match (self.role(), self.node.raft.leader_id) {
            (Role::Leader, _) => Some(self.writes_here()),
            (Role::Follower | Role::Candidate, 0) => Some(Writes::NoLeader),
            (Role::Follower | Role::Candidate, _) => None,
        }
    }

    fn writes_here(&self) -> Writes {
        if self.quorum_contact_ticks().is_none_or(|ticks| ticks > ELECTION_TICKS as u64) {
            return Writes::NoLeader;
        }
        if let Some(no_space) = &self.no_space {
            return if no_space.over_quota { Writes::Quota } else { Writes::NoSpace };
        }
        // This member answers once it has applied the entry, and hands out only what is durable here.
        let own = self.identity.member_id;
        if self.syncs(own) && self.membership.is_quorum(|id| self.syncs(id)) { Writes::Ok } else { Writes::Stalled }
    }

    /// Whether what is appended there becomes durable before long. Disks that take a second or two are slow, and work.
    fn syncs(&self, id: MemberId) -> bool {
        if id == self.identity.member_id {
            return self.sync_ticks() < STEP_DOWN_TICKS;
        }
        self.is_heard(id) && self.peers.report(id).stalled_ms < STEP_DOWN_TICKS * TICK_MS
    }

    fn is_heard(&self, id: MemberId) -> bool {
        self.peers.silent_ticks(id, self.now_tick) <= ELECTION_TICKS as u64
    }

    /// On the leader, ticks since a quorum, of both halves if joint, was last heard; its election counts.
    pub(super) fn quorum_contact_ticks(&self) -> Option<u64> {
        if self.role() != Role::Leader {
            return None;
        }
        let halves = [&self.membership.voters, &self.membership.outgoing];
        halves.into_iter().filter_map(|half| self.half_contact_ticks(half)).max()
    }

    fn half_contact_ticks(&self, voters: &BTreeSet<MemberId>) -> Option<u64> {
        let own = self.identity.member_id;
        let silent = |id: &MemberId| if *id == own { 0 } else { self.peers.silent_ticks(*id, self.now_tick) };
        let mut ticks: Vec<u64> = voters.iter().map(silent).collect();
        ticks.sort_unstable();
        ticks.get(voters.len() / 2).copied()
    }
}

//! Leadership: when this member may campaign, what ends when the leader changes, and how leadership moves to another
//! voter (rules N6, N10, N23). PURE.

use super::ready::Syncing;
use super::{Answer, Driver, Role};
use crate::limits;
use crate::refusal::Refusal;
use crate::types::{MemberId, RequestId};
use raft::StateRole;
use std::cmp::Reverse;

/// Why leadership is being moved.
#[derive(Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A call asked for it.
    Transfer,
    /// The leader was asked to remove itself (rule N10).
    BeforeRemoval,
}

/// A transfer in flight.
#[derive(Debug)]
pub struct PendingTransfer {
    request: RequestId,
    to: MemberId,
    since_tick: u64,
    purpose: Purpose,
}

impl Driver {
    /// Whether this member would win a campaign at once. Then nothing may make it campaign while a batch is not durable
    /// (rule N6).
    pub(super) fn is_only_voter(&self) -> bool {
        self.node.raft.prs().is_singleton() && self.node.raft.promotable()
    }

    /// Rule N23: a member without a proved kv db does not campaign; nor does one that was started a moment ago (rule N20).
    /// Nor does one whose log is being restarted after a
    /// snapshot, until that is durable: before raft campaigns, it looks through the entries between the applied index
    /// and the commit index. Those are gone from the log already, but raft counts them as applied only once the restart
    /// is durable.
    pub(super) fn may_campaign(&self) -> bool {
        self.may_lead() && !self.syncing.as_ref().is_some_and(Syncing::restarts_log)
    }

    /// Whether raft must not see this tick, because it would start an election of a member that may not campaign, or of
    /// an only voter while a batch is not durable (rule N6). The vote lease has ended by then, since the shortest
    /// timeout is longer.
    pub(super) fn holds_tick(&self) -> bool {
        let raft = &self.node.raft;
        let held = !self.may_campaign() || (self.is_only_voter() && !self.is_all_durable());
        held && !self.is_leader() && raft.election_elapsed + 1 >= raft.randomized_election_timeout()
    }

    pub(super) fn kv_ready(&mut self) {
        self.stores_opening = self.stores_opening.saturating_sub(1);
        if self.stores_opening > 0 {
            // An install replaces the store that is ready; the install's own event counts.
            return;
        }
        self.can_lead = true;
        let idle = self.is_all_durable() && !self.is_leader();
        if idle && self.is_only_voter() && self.removed.is_none() {
            // Nobody else can lead, so waiting for a timeout would help no one.
            // raft's refusal proves nothing (rule N7): a later tick tries again.
            let _refused = self.node.campaign();
        }
    }

    /// Checks whether raft's leader or term changed, and ends what the change voids.
    pub(super) fn notice_leader(&mut self) {
        let (term, leader) = (self.node.raft.term, self.node.raft.leader_id);
        let old = std::mem::replace(&mut self.seen_leader, (term, leader));
        if old == (term, leader) {
            return;
        }
        // A member that led until now has not heard of another leader, but is not stale because of that.
        let led = old.1 == self.identity.member_id;
        if led || (leader != 0 && self.node.raft.state != StateRole::Leader) {
            self.leader_heard_at = Some(self.now_tick);
        }
        self.peers.leader_changed(self.now_tick);
        self.reads.leader_changed(term, leader);
        for request in self.proposals.leader_changed() {
            self.refuse(request, Refusal::Unknown("leadership moved before the leader answered".to_string()));
        }
        self.transfer_noticed(leader);
        self.change_noticed();
        if self.role() != Role::Leader {
            self.snapshots.stop_sending();
        }
    }

    pub(super) fn transfer(&mut self, request: RequestId, to: Option<MemberId>) {
        if to == Some(self.identity.member_id) && self.is_leader() {
            return self.answer(request, Answer::Transferred(self.identity.member_id));
        }
        if let Err(refusal) = self.start_transfer(request, to, Purpose::Transfer) {
            self.refuse(request, refusal);
        }
    }

    pub(super) fn start_transfer(
        &mut self,
        request: RequestId,
        to: Option<MemberId>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        if !self.is_leader() {
            return Err(Refusal::NotLeader);
        }
        if self.transfer.is_some() {
            return Err(Refusal::TransferFailed("another transfer is in flight".to_string()));
        }
        let to = match to {
            Some(to) if !self.membership.members.contains_key(&to) => return Err(Refusal::MemberNotFound(to)),
            Some(to) if self.can_take_over(to) => to,
            Some(to) => {
                let why = format!("member {to} is no voter, is not caught up, or is opening its data");
                return Err(Refusal::TransferFailed(why));
            }
            None => self.best_successor().ok_or_else(|| {
                let why = "no other voter is caught up and has its data open".to_string();
                if purpose == Purpose::Transfer { Refusal::TransferFailed(why) } else { Refusal::LeaderRemoval(why) }
            })?,
        };
        self.node.transfer_leader(to);
        self.transfer = Some(PendingTransfer { request, to, since_tick: self.now_tick, purpose });
        Ok(())
    }

    fn can_take_over(&self, id: MemberId) -> bool {
        let peer = self.peer_status(id);
        self.membership.voters.contains(&id) && peer.caught_up && peer.report.can_lead
    }

    /// Stops leading in this term, without a successor.
    pub(super) fn step_down(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.notice_leader();
    }

    /// The voter with the best level of room, and among equals the most caught-up one.
    pub(super) fn best_successor(&self) -> Option<MemberId> {
        self.best_successor_of(|_| true)
    }

    /// The same among those of which this holds.
    pub(super) fn best_successor_of(&self, holds: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        let others = self.membership.voters.iter().copied().filter(|id| *id != self.identity.member_id && holds(*id));
        others
            .filter(|id| self.can_take_over(*id))
            .max_by_key(|id| (Reverse(self.room_of(*id).level()), self.peer_status(*id).matched))
    }

    pub(super) fn transfer_noticed(&mut self, leader: MemberId) {
        if leader == 0 || leader == self.identity.member_id {
            return;
        }
        let Some(done) = self.transfer.take() else { return };
        let answer = match done.purpose {
            Purpose::BeforeRemoval => Answer::Refused(Refusal::NotLeader),
            Purpose::Transfer if leader == done.to => Answer::Transferred(leader),
            Purpose::Transfer => Answer::Refused(Refusal::TransferFailed(format!("member {leader} leads instead"))),
        };
        self.answer(done.request, answer);
    }

    pub(super) fn tick_transfer(&mut self) {
        let timeout_ticks = limits::TRANSFER_TIMEOUT_MS / limits::TICK_MS;
        let now_tick = self.now_tick;
        if let Some(late) = self.transfer.take_if(|transfer| now_tick - transfer.since_tick > timeout_ticks) {
            let why = format!("member {} did not take over within {} ms", late.to, limits::TRANSFER_TIMEOUT_MS);
            let refusal = match late.purpose {
                Purpose::Transfer => Refusal::TransferFailed(why),
                Purpose::BeforeRemoval => Refusal::LeaderRemoval(why),
            };
            self.refuse(late.request, refusal);
        }
    }
}

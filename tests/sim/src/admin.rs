//! The person or operator who changes the membership: makes one call at a time, to whoever leads, as the wishes change.

use crate::invariants::Violation;
use crate::net::Slot;
use crate::node::{Life, SimNode};
use crate::rng::Rng;
use crate::world::{SLOTS_MAX, World};
use raftkv_core::driver::MembershipCall;
use raftkv_core::driver::{Answer, DriverStatus, Event};
use raftkv_core::membership::Member;
use raftkv_core::types::{MemberId, RequestId};
use std::collections::BTreeMap;

/// Steps after which the caller gives up waiting for an answer.
const PATIENCE_STEPS: u64 = 4_000;

/// The caller and its wishes.
#[derive(Debug)]
pub struct Admin {
    /// Number of voters wanted.
    wanted: usize,
    /// The call in flight: its id, the node asked, and the step at which it was made.
    pending: Option<(RequestId, Slot, u64)>,
    grown: bool,
    /// Whether there is a wish to fulfil.
    awake: bool,
    /// Whether the wishes have ended: nothing more is asked for.
    resting: bool,
    /// Whether somebody else makes the calls: then this one only keeps the wishes.
    silent: bool,
    /// Calls made by somebody else, with their answers once these arrive.
    pub(crate) outside: BTreeMap<RequestId, Asked>,
}

/// What became of a call made by somebody else.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// The node in this slot has not answered yet.
    Waits(Slot),
    /// The node answered.
    Answered(Answer),
    /// The process that was asked has ended.
    Lost,
}

impl Admin {
    /// A caller that wants this many voters.
    pub fn new(wanted: usize) -> Admin {
        Admin {
            wanted,
            pending: None,
            grown: false,
            awake: true,
            resting: false,
            silent: false,
            outside: BTreeMap::new(),
        }
    }

    /// A caller that only keeps the wishes; somebody else makes the calls.
    pub fn silent(wanted: usize) -> Admin {
        Admin { silent: true, ..Admin::new(wanted) }
    }

    /// Number of voters that are wanted.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Records that the cluster reached its first size.
    pub fn grew(&mut self) {
        self.grown = true;
    }

    /// Whether the cluster reached its first size.
    pub fn has_grown(&self) -> bool {
        self.grown
    }

    /// Whether the wishes have ended.
    pub fn is_resting(&self) -> bool {
        self.resting
    }

    /// Ends all wishes.
    pub fn rests(&mut self) {
        self.resting = true;
    }

    /// Wakes the caller, sometimes with another number of voters.
    pub fn wakes(&mut self, rng: &mut Rng, (low, high): (u64, u64)) {
        self.awake = true;
        if rng.chance(300) {
            self.wanted = rng.between(low, high) as usize;
        }
    }

    /// Takes an answer; false when the call was not made here.
    pub fn answered(&mut self, request: RequestId, answer: &Answer) -> bool {
        if let Some(asked) = self.outside.get_mut(&request) {
            *asked = Asked::Answered(answer.clone());
            return true;
        }
        self.pending.take_if(|(pending, _, _)| *pending == request).is_some()
    }

    /// Takes note that a process ended: its calls get no answer.
    pub fn disconnected(&mut self, slot: Slot) {
        self.outside.values_mut().filter(|asked| **asked == Asked::Waits(slot)).for_each(|asked| *asked = Asked::Lost);
        self.pending.take_if(|(_, at, _)| *at == slot);
    }
}

impl World {
    /// Asks for the next change, if there is something to wish for and somebody to ask.
    pub(crate) fn admin_turn(&mut self) -> Result<(), Violation> {
        let now = self.now;
        self.admin.pending.take_if(|(_, _, since)| now - *since > PATIENCE_STEPS);
        if self.admin.silent || self.admin.resting || self.admin.pending.is_some() || !self.rng.chance(100) {
            return Ok(());
        }
        let Some((slot, status)) = self.leader() else { return Ok(()) };
        if !self.admin.grown && status.membership.voters.len() >= self.admin.wanted {
            self.admin.grown = true;
            self.admin.awake = false;
        }
        if !self.admin.awake {
            return Ok(());
        }
        let Some(call) = self.draw_call(&status) else {
            self.admin.awake = false;
            return Ok(());
        };
        let stale = u64::from(self.rng.chance(50));
        let if_match = status.membership.conf_index - stale;
        self.ask_change(slot, call, if_match)
    }

    fn ask_change(&mut self, slot: Slot, call: MembershipCall, if_match: u64) -> Result<(), Violation> {
        let Some(running) = self.nodes[slot].running_mut() else { return Ok(()) };
        let request = running.next_request();
        self.admin.pending = Some((request, slot, self.now));
        self.trace.line(self.now, &format!("{} asked for {call:?}", self.nodes[slot].name));
        self.step_node(slot, Event::Change { request, call, if_match })
    }

    fn draw_call(&mut self, leader: &DriverStatus) -> Option<MembershipCall> {
        let membership = &leader.membership;
        let learners: Vec<MemberId> = membership.learners.iter().copied().collect();
        let voters: Vec<MemberId> = membership.voters.iter().copied().collect();
        let is_lost = |id: &MemberId| self.nodes.iter().any(|node| node.member_id() == Some(*id) && node.is_lost());
        let lost: Vec<MemberId> = voters.iter().copied().filter(is_lost).collect();
        let lost_learner = learners.iter().copied().find(is_lost);
        let too_few = voters.len() < self.admin.wanted;
        let too_many = voters.len() > self.admin.wanted;
        if let Some(id) = lost_learner {
            return Some(MembershipCall::Remove { id });
        }
        if let Some(id) = learners.first().copied() {
            let replaces = match self.rng.below(10) {
                _ if !lost.is_empty() => lost.first().copied(),
                0..3 if self.admin.grown => self.rng.pick(&voters).copied(),
                _ => None,
            };
            return Some(match self.rng.below(20) {
                0 if self.admin.grown => MembershipCall::Remove { id },
                _ if too_few || replaces.is_some() => MembershipCall::Promote { id, replaces },
                _ if self.admin.grown => MembershipCall::Remove { id },
                _ => MembershipCall::Promote { id, replaces: None },
            });
        }
        if too_few || !lost.is_empty() || self.rng.chance(200) {
            return self.call_to_add();
        }
        let id = self.rng.pick(&voters).copied()?;
        too_many.then_some(MembershipCall::Remove { id })
    }

    fn call_to_add(&mut self) -> Option<MembershipCall> {
        let blank = |node: &SimNode| matches!(node.life, Life::Blank);
        if !self.nodes.iter().any(blank) && self.nodes.len() < SLOTS_MAX {
            let number = self.nodes.len() as u64 + 1;
            self.nodes.push(self.swarm.blank(number));
        }
        let node = self.nodes.iter().find(|node| blank(node))?;
        let (name, peer, incarnation) = (node.name.clone(), node.peer(), node.incarnation);
        Some(MembershipCall::Add(Member { name, peer, incarnation }))
    }

    /// Moves leadership, to a voter of choice or to whoever the leader picks.
    pub(crate) fn transfer(&mut self) -> Result<bool, Violation> {
        let Some((slot, status)) = self.leader() else { return Ok(false) };
        let voters: Vec<MemberId> = status.membership.voters.iter().copied().collect();
        let to = if self.rng.chance(500) { self.rng.pick(&voters).copied() } else { None };
        let Some(running) = self.nodes[slot].running_mut() else { return Ok(false) };
        let request = running.next_request();
        self.step_node(slot, Event::Transfer { request, to })?;
        Ok(true)
    }
}

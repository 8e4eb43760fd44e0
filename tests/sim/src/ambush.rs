//! Faults that wait for an occasion: a join, an installation, a joint membership, or a cluster that shrinks from two
//! voters to one.
//!
//! Chance alone would hit the moments between two steps of these too rarely.

use crate::disk::{Call, Trap};
use crate::invariants::{Check, broken};
use crate::net::Slot;
use crate::node::Life;
use crate::swarm::Fault;
use crate::world::World;
use raftkv_core::identity::{self, Found, Identity};
use raftkv_core::log;
use raftkv_core::membership::Membership;
use raftkv_core::wire::Hello;

/// Longest time between the occasion and the fault, in steps.
const STEPS_MAX: u64 = 250;
/// The same for a survivor whose disk hangs: what it told the other voter must have arrived by then.
const SURVIVOR_STEPS: (u64, u64) = (20, 150);

/// A failure of power that is planned for one process.
pub(crate) struct Ambush {
    at: u64,
    slot: Slot,
    /// Number of the boot of the process that is meant: a later process is spared.
    boots: u64,
    fault: Fault,
}

impl World {
    /// Whether a fault takes this occasion.
    pub(crate) fn meets(&mut self, fault: Fault) -> bool {
        let per_mille = self.swarm.occasions.get(&fault).copied().unwrap_or(0);
        !self.peace && self.rng.chance(per_mille)
    }

    fn lie_in_wait(&mut self, fault: Fault, slot: Slot, steps: u64) {
        let (at, boots) = (self.now + steps, self.nodes[slot].boots);
        self.troubles.ambushes.push(Ambush { at, slot, boots, fault });
    }

    /// Handles an occasion at this node: its own power may fail soon, or that of the member it deals with.
    pub(crate) fn occasion(&mut self, fault: Fault, slot: Slot, other: Slot) {
        if self.meets(fault) {
            let victim = if self.rng.chance(700) { slot } else { other };
            let steps = self.rng.below(STEPS_MAX);
            self.lie_in_wait(fault, victim, steps);
        }
    }

    /// Handles a change of a node's membership.
    pub(crate) fn membership_occasion(&mut self, slot: Slot, members: &Membership) {
        let before = self.troubles.voters.insert(slot, members.voters.len());
        if members.is_joint() {
            let other = self.leader().map_or(slot, |(leader, _)| leader);
            self.occasion(Fault::JointCut, slot, other);
        }
        let is_left = self.nodes[slot].member_id().is_some_and(|id| members.voters.contains(&id));
        if before == Some(2) && members.voters.len() == 1 && is_left && self.meets(Fault::SurvivorCut) {
            let (low, high) = SURVIVOR_STEPS;
            let steps = self.rng.between(low, high);
            self.disk_hangs(slot, self.now + steps);
            self.lie_in_wait(Fault::SurvivorCut, slot, steps);
        }
    }

    pub(crate) fn spring_ambushes(&mut self) {
        let now = self.now;
        let due: Vec<Ambush> = self.troubles.ambushes.extract_if(.., |ambush| ambush.at <= now).collect();
        for Ambush { at: _, slot, boots, fault } in due {
            if self.nodes[slot].running().is_none() || self.nodes[slot].boots != boots {
                continue;
            }
            self.counts.add(fault, 1);
            self.trace.line(now, &format!("fault {fault:?} {}", self.nodes[slot].name));
            self.power_off(slot);
        }
    }

    /// A Blank node gets its first hello. False: its power failed during the join; whatever it had written, it is then
    /// Blank still or a member.
    pub(crate) fn join(&mut self, slot: Slot, hello: &Hello) -> Result<bool, crate::invariants::Violation> {
        let is_cut = self.meets(Fault::JoinCut);
        if is_cut {
            self.write_blank(slot)?;
            let calls = [Call::Create, Call::Write, Call::Sync, Call::Rename, Call::SyncDir];
            let call = *self.rng.pick(&calls).expect("the list is not empty");
            let (after, left) = (self.rng.chance(500), self.rng.between(1, 3));
            self.nodes[slot].disk.set_trap(Trap { call, prefix: "", after, left });
        }
        let joined = self.nodes[slot].join(hello);
        let has_sprung = is_cut && self.nodes[slot].disk.take_trap().is_none();
        match joined {
            Ok(()) => {
                self.occasion(Fault::JoinCut, slot, slot);
                Ok(true)
            }
            Err(e) if has_sprung => {
                self.trace.line(self.now, &format!("fault JoinCut {}: {e}", self.nodes[slot].name));
                self.counts.add(Fault::JoinCut, 1);
                self.power_off(slot);
                self.look_who_is_there(slot)?;
                Ok(false)
            }
            Err(e) => broken("opening", format!("{} cannot join: {e}", self.nodes[slot].name)),
        }
    }

    /// A Blank directory has an identity before anyone can speak to it (rule N7).
    fn write_blank(&mut self, slot: Slot) -> Check {
        let node = &self.nodes[slot];
        match identity::write(&*node.disk, &Identity::Blank { incarnation: node.incarnation }) {
            Ok(()) => Ok(()),
            Err(e) => broken("opening", format!("{} gets no identity: {e}", node.name)),
        }
    }

    fn look_who_is_there(&mut self, slot: Slot) -> Check {
        let node = &mut self.nodes[slot];
        match identity::find(&*node.disk) {
            Ok(Found::Blank { incarnation, cut_short }) if incarnation == node.incarnation => {
                if let Err(e) = log::execute(&*node.disk, &cut_short) {
                    return broken("opening", format!("{} cannot remove what was cut short: {e}", node.name));
                }
                node.life = Life::Blank;
            }
            Ok(Found::Member(identity)) => (node.identity, node.life) = (Some(identity), Life::Down),
            other => {
                return broken("opening", format!("{} after a join that was cut short: {other:?}", node.name));
            }
        }
        Ok(())
    }
}

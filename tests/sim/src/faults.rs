//! Faults, and how they end. What happens when is drawn from the run's swarm.

use crate::disk::{Call, Fault as DiskFault};
use crate::invariants::Check;
use crate::net::Slot;
use crate::node::{Life, SimNode};
use crate::swarm::Fault;
use crate::world::World;
use raftkv_node::driver::Event;
use raftkv_node::membership::Membership;
use std::io::ErrorKind;

/// Chance in a step, in parts of a million, that a cut network is whole again.
const HEAL_PER_MILLION: u64 = 1_500;
/// Chance in a step, in parts of a million, that one node that is down starts.
const RESTART_PER_MILLION: u64 = 4_000;
/// Longest pause of a node, in steps.
const PAUSE_STEPS_MAX: u64 = 1_500;

impl World {
    /// Lets faults begin and end.
    pub(crate) fn faults(&mut self) -> Check {
        self.paused.retain(|_, until| *until > self.now);
        if self.peace {
            return Ok(());
        }
        for at in 0..self.swarm.faults.len() {
            let (fault, per_million) = self.swarm.faults[at];
            if self.rng.below(1_000_000) < per_million && self.strike(fault)? {
                *self.counts.faults.entry(fault).or_default() += 1;
            }
        }
        if self.rng.below(1_000_000) < HEAL_PER_MILLION {
            self.net.heal();
        }
        if self.rng.below(1_000_000) < RESTART_PER_MILLION {
            let down: Vec<Slot> = self.down();
            if let Some(slot) = self.rng.pick(&down).copied() {
                self.boot(slot)?;
            }
        }
        Ok(())
    }

    /// Slots that could start.
    pub(crate) fn down(&self) -> Vec<Slot> {
        let down = |slot: &Slot| matches!(self.nodes[*slot].life, Life::Down) && !self.held.contains(slot);
        (0..self.nodes.len()).filter(down).collect()
    }

    fn any_running(&mut self) -> Option<Slot> {
        let running: Vec<Slot> = (0..self.nodes.len()).filter(|slot| self.nodes[*slot].running().is_some()).collect();
        self.rng.pick(&running).copied()
    }

    /// True when the fault found a victim.
    fn strike(&mut self, fault: Fault) -> Result<bool, crate::invariants::Violation> {
        let slots = self.nodes.len();
        let Some(slot) = self.any_running() else { return Ok(false) };
        self.trace.line(self.now, &format!("fault {fault:?} {}", self.nodes[slot].name));
        match fault {
            Fault::Crash => self.power_off(slot),
            Fault::Blackout => {
                let running: Vec<Slot> = (0..slots).filter(|slot| self.nodes[*slot].running().is_some()).collect();
                running.into_iter().for_each(|slot| self.power_off(slot));
            }
            Fault::Kill => {
                self.process_ends(slot);
                self.nodes[slot].kill();
            }
            Fault::Stop => self.step_node(slot, Event::Close)?,
            Fault::DiskError => {
                let call = *self.rng.pick(&[Call::Write, Call::Sync, Call::SyncDir]).expect("the list is not empty");
                let skip = self.rng.below(20);
                let fault = DiskFault { call, prefix: String::new(), skip, kind: ErrorKind::Other };
                self.nodes[slot].disk.inject(fault);
            }
            Fault::DiskLost => return Ok(self.lose_disk(slot)),
            Fault::Partition => {
                let group = self.rng.bits();
                self.net.partition(slots, |slot| group >> slot & 1 == 1);
            }
            Fault::OneWay => {
                let other = self.rng.index(slots);
                self.net.block(slot, other);
            }
            Fault::Pause => {
                let until = self.now + self.rng.between(50, PAUSE_STEPS_MAX);
                self.paused.insert(slot, until);
            }
            Fault::Transfer => return self.transfer(),
            Fault::Change => self.admin.wakes(&mut self.rng),
        }
        Ok(true)
    }

    /// Power loss of a node.
    pub(crate) fn power_off(&mut self, slot: Slot) {
        self.process_ends(slot);
        let seed = self.rng.bits();
        self.nodes[slot].crash(seed);
    }

    /// Only a disk that the cluster can do without is lost, now and after any single change that may be in flight.
    fn lose_disk(&mut self, slot: Slot) -> bool {
        let Some(id) = self.nodes[slot].member_id() else { return false };
        let Some((_, leader)) = self.leader() else { return false };
        let membership: &Membership = &leader.membership;
        let is_lost = |node: &SimNode| matches!(node.life, Life::Lost | Life::Removed);
        let alive =
            |other: u64| other != id && self.nodes.iter().any(|node| node.member_id() == Some(other) && !is_lost(node));
        let voters = membership.voters.len();
        let alive_voters = membership.voters.iter().filter(|id| alive(**id)).count();
        let fits = !membership.is_joint() && alive_voters > voters / 2 + 1;
        if fits {
            self.process_ends(slot);
            self.nodes[slot].life = Life::Lost;
        }
        fits
    }
}

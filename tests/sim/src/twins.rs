//! A data directory that was copied to a second process, which runs beside the original (rule N27).
//!
//! The second process says hello wherever the first one's streams stand. As long as the first one answers, the second
//! must be refused, before anybody compares what it has on its disk: otherwise the healthy original, or whoever it
//! speaks to, would find a reason to distrust a disk.

use crate::disk::CrashModel;
use crate::invariants::{Check, broken};
use crate::net::Slot;
use crate::node::SimNode;
use crate::swarm::Fault;
use crate::world::World;
use raftkv_core::limits::MIN_ELECTION_TICKS;
use raftkv_core::wire::{self, Run};

/// Longest life of a second process, in steps.
const TWIN_STEPS_MAX: u64 = 2_000;
/// Chance in a step, per mille, that a second process says hello to somebody.
const HELLO_PER_MILLE: u64 = 20;

/// A second process.
pub(crate) struct Twin {
    of: Slot,
    /// Number of the original's boot; a later process of it has streams of its own.
    boots: u64,
    process: SimNode,
    until: u64,
}

impl World {
    /// Starts a second process on a copy of this node's directory; false, since it counts when it is refused.
    pub(crate) fn start_twin(&mut self, slot: Slot) -> bool {
        let node = &self.nodes[slot];
        let disk = node.disk.copy(self.rng.bits(), CrashModel::InOrder);
        let mut process = node.twin(disk, node.home.copy());
        let (nonce, boots) = (self.rng.bits(), node.boots);
        let until = self.now + self.rng.between(100, TWIN_STEPS_MAX);
        let runs = process.boot(nonce, MIN_ELECTION_TICKS, &self.logger).is_ok() && process.running().is_some();
        if runs {
            self.troubles.twins.push(Twin { of: slot, boots, process, until });
        }
        false
    }

    /// Lets second processes say hello.
    pub(crate) fn twins_speak(&mut self) -> Check {
        let (now, nodes) = (self.now, &self.nodes);
        let lives = |twin: &Twin| nodes[twin.of].running().is_some() && nodes[twin.of].boots == twin.boots;
        self.troubles.twins.retain(|twin| twin.until > now && lives(twin));
        for at in 0..self.troubles.twins.len() {
            if self.rng.chance(HELLO_PER_MILLE) {
                let target = self.rng.index(self.nodes.len());
                self.twin_speaks(at, target)?;
            }
        }
        Ok(())
    }

    fn twin_speaks(&mut self, at: usize, target: Slot) -> Check {
        let twin = &self.troubles.twins[at];
        let original = twin.of;
        let (Some(of), Some(to), Some(id)) =
            (self.nodes[original].running(), self.nodes[target].running(), self.nodes[target].member_id())
        else {
            return Ok(());
        };
        let stands = |from, to| self.streams.get(&(from, to)).is_some_and(|boots| Some(*boots) == self.boots(from, to));
        let answers = |slot| !self.paused.contains_key(&slot);
        let linked = !self.net.is_blocked(original, target) && !self.net.is_blocked(target, original);
        let is_held_up = (stands(original, target) || stands(target, original)) && answers(original) && answers(target);
        if !is_held_up || !linked || to.nonce == of.nonce {
            return Ok(());
        }
        let Some(hello) = twin.process.hello(id, self.nodes[target].incarnation) else { return Ok(()) };
        let standing = Run { incarnation: self.nodes[original].incarnation, boot: of.nonce };
        let (name, of_name) = (self.nodes[target].name.clone(), self.nodes[original].name.clone());
        if wire::is_of_another_run(standing, &hello) {
            self.trace.line(self.now, &format!("{name} refuses a second process of {of_name}"));
            self.counts.add(Fault::Twin, 1);
            return Ok(());
        }
        let verdict = self.nodes[target].check_hello(&hello);
        broken("one_process", format!("{name} takes a second process of {of_name}, which answers: {verdict:?}"))
    }
}

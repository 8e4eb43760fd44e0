//! The parts of a world that an administrator outside of this crate needs, as the operator's plan is one: wishes,
//! nodes, calls and their answers. The world still decides what happens to nodes and network.

use crate::admin::{Admin, Asked};
use crate::client::Calls;
use crate::invariants::{Check, Violation};
use crate::net::Slot;
use crate::node::{Life, SimNode};
use crate::swarm::{Fault, Swarm};
use crate::world::World;
use raftkv_core::driver::Event;
use raftkv_core::driver::MembershipCall;
use raftkv_core::types::{Index, MemberId, RequestId};

impl World {
    /// A world that somebody else administers. `name` gives names to data directories, which have numbers from 1.
    pub fn administered(seed: u64, name: impl Fn(u64) -> String) -> Result<World, Violation> {
        let change = |swarm: &mut Swarm| {
            // The administrator does not know of these faults.
            swarm.faults.retain(|(fault, _)| !matches!(fault, Fault::RolledBack | Fault::HalfEmpty));
        };
        World::build(seed, change, Admin::silent, name)
    }

    /// Number of voters that are wanted now.
    pub fn wanted(&self) -> usize {
        self.admin.wanted()
    }

    /// Records that the cluster has its first size: faults may begin.
    pub fn grew(&mut self) {
        self.admin.grew();
    }

    /// Whether everything is healed.
    pub fn is_healed(&self) -> bool {
        self.admin.is_resting()
    }

    /// All data directories, also those that are gone.
    pub fn nodes(&self) -> &[SimNode] {
        &self.nodes
    }

    /// Adds an empty data directory.
    pub fn add_blank(&mut self, name: &str) -> Slot {
        let number = self.nodes.len() as u64 + 1;
        self.nodes.push(self.swarm.blank(number).named(name.to_string()));
        self.nodes.len() - 1
    }

    /// Loses a data directory, with its process.
    pub fn lose(&mut self, slot: Slot) {
        self.process_ends(slot);
        self.trace.line(self.now, &format!("{} loses its disk", self.nodes[slot].name));
        self.nodes[slot].life = Life::Lost;
    }

    /// Asks a process to stop.
    pub fn stop(&mut self, slot: Slot) -> Check {
        self.step_node(slot, Event::Close)
    }

    /// Starts a process that is down.
    pub fn start(&mut self, slot: Slot) -> Check {
        match self.nodes[slot].life {
            Life::Down => self.boot(slot),
            Life::Blank | Life::Running(_) | Life::Quarantined(_) | Life::Removed | Life::Lost => Ok(()),
        }
    }

    /// With `held`, nothing runs on this data directory: a process that is down stays down, and a Blank one hears
    /// nobody.
    pub fn hold(&mut self, slot: Slot, held: bool) {
        match held {
            true => self.held.insert(slot),
            false => self.held.remove(&slot),
        };
    }

    /// Counts of the clients' calls.
    pub fn calls(&self) -> Calls {
        self.clients.counts
    }

    /// A picture of all nodes, for people.
    pub fn dump(&self) -> String {
        self.nodes.iter().map(|node| format!("  {}: {}\n", node.name, node.picture())).collect()
    }

    /// Whether a process is paused.
    pub fn is_paused(&self, slot: Slot) -> bool {
        self.paused.contains_key(&slot)
    }

    /// Asks a node for a change; `None` when it does not run.
    pub fn call(&mut self, at: Slot, call: MembershipCall, if_match: Index) -> Result<Option<RequestId>, Violation> {
        self.ask_outside(at, |request| Event::Change { request, call, if_match })
    }

    /// Asks a node to hand leadership over; `None` when it does not run.
    pub fn call_transfer(&mut self, at: Slot, to: MemberId) -> Result<Option<RequestId>, Violation> {
        self.ask_outside(at, |request| Event::Transfer { request, to: Some(to) })
    }

    fn ask_outside(
        &mut self,
        at: Slot,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Option<RequestId>, Violation> {
        let Some(running) = self.nodes[at].running_mut() else { return Ok(None) };
        let request = running.next_request();
        let event = event(request);
        self.admin.outside.insert(request, Asked::Waits(at));
        self.trace.line(self.now, &format!("{} asked from outside: {event:?}", self.nodes[at].name));
        self.step_node(at, event)?;
        Ok(Some(request))
    }

    /// What became of a call.
    pub fn asked(&self, request: RequestId) -> Asked {
        self.admin.outside.get(&request).cloned().unwrap_or(Asked::Lost)
    }
}

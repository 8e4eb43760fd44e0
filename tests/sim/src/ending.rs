//! The end of a run: all faults are over, everyone starts, and then the cluster must serve and its members must agree.

use crate::client::Ask;
use crate::invariants::{Check, broken};
use crate::net::{NetRates, Slot};
use crate::node::{Running, SimNode};
use crate::swarm::Fault;
use crate::world::World;
use bytes::Bytes;
use raftkv_core::driver::{Event, Role};
use raftkv_core::kvstore::{Command, Condition};
use raftkv_core::types::Index;

/// Steps in which a healed cluster must serve and agree.
const STEPS_MAX: u64 = 60_000;
/// Ticks within which writes succeed again while one disk hangs and those of a quorum work: 5 s (rule N26).
const HANG_TICKS_MAX: u64 = 100;

impl World {
    /// Heals everything, then waits until the cluster serves a fresh write and all members agree; in runs with disks that
    /// hang, once more with the leader's.
    pub fn end(&mut self) -> Check {
        self.heal()?;
        self.come_to_rest()?;
        let hangs = self.swarm.faults.iter().any(|(fault, _)| *fault == Fault::HungSync);
        if hangs && self.serves_without_the_leaders_disk()? {
            self.come_to_rest()?;
        }
        Ok(())
    }

    /// The leader's disk hangs for good: within 5 s another member leads and writes succeed. False when there is no quorum
    /// without it.
    fn serves_without_the_leaders_disk(&mut self) -> Result<bool, crate::invariants::Violation> {
        let Some((hung, status)) = self.leader() else { return Ok(false) };
        let others: Vec<Slot> = (0..self.nodes.len())
            .filter(|slot| *slot != hung && self.nodes[*slot].running().is_some())
            .filter(|slot| self.nodes[*slot].member_id().is_some_and(|id| status.membership.votes(id)))
            .collect();
        let ids: Vec<_> = others.iter().filter_map(|slot| self.nodes[*slot].member_id()).collect();
        if !status.membership.is_quorum(|id| ids.contains(&id)) {
            return Ok(false);
        }
        self.trace.line(self.now, &format!("the disk of {} hangs", self.nodes[hung].name));
        self.disk_hangs(hung, u64::MAX);
        self.write_at(hung)?;
        let mut begun: Vec<u64> = others.iter().map(|slot| self.ticks(*slot)).collect();
        let written = self.clients.counts.written;
        let mut asked = None;
        while self.clients.counts.written == written {
            self.step()?;
            // While a transfer is in flight the write is refused, and nothing hangs that the disk was asked for.
            let now = self.nodes[hung].running().map(|running| running.driver.status());
            if now.is_some_and(|now| now.term == status.term && now.last_index == status.last_index) {
                self.write_at(hung)?;
                begun = others.iter().map(|slot| self.ticks(*slot)).collect();
            }
            // An error that was injected before may come only now and end a process: the 5 s begin when all work.
            for slot in self.down() {
                self.boot(slot)?;
                begun = others.iter().map(|slot| self.ticks(*slot)).collect();
            }
            if others.iter().zip(&begun).all(|(slot, begun)| self.ticks(*slot) > begun + HANG_TICKS_MAX) {
                let why =
                    "5 s after the leader's disk began to hang, no write has succeeded, though a quorum of disks works";
                return broken("liveness", why.to_string());
            }
            let leader = self.leader().filter(|(slot, leader)| *slot != hung && leader.term > status.term);
            if let Some((slot, leader)) = leader
                && asked != Some(leader.term)
                && self.clients.is_any_idle()
            {
                asked = Some(leader.term);
                let ask: Ask = self.clients.put(&mut self.rng, Bytes::from("served"), Condition::None);
                self.ask(slot, ask)?;
            }
        }
        self.end_troubles();
        Ok(true)
    }

    /// Nobody waits for this write: the clients, of which there may be one only, are for the write that must succeed.
    fn write_at(&mut self, slot: Slot) -> Check {
        let command = Command::Put { key: "hangs".into(), value: Bytes::new(), condition: Condition::None };
        let Some(request) = self.nodes[slot].running_mut().map(Running::next_request) else { return Ok(()) };
        self.step_node(slot, Event::Propose { request, data: command.encode(), grows: true })
    }

    fn ticks(&self, slot: Slot) -> u64 {
        self.nodes[slot].running().map_or(0, |running| running.ticks())
    }

    /// Waits until the cluster serves a fresh write and all members agree.
    fn come_to_rest(&mut self) -> Check {
        let last = self.now + STEPS_MAX;
        let mut fresh: Option<u64> = None;
        while self.now < last {
            self.step()?;
            for slot in self.down() {
                self.boot(slot)?;
            }
            match fresh {
                None => fresh = self.try_write()?,
                Some(written) if self.clients.counts.written == written => {
                    if self.clients.is_any_idle() {
                        fresh = None;
                    }
                }
                Some(_) => {
                    if let Some(applied) = self.agreement() {
                        return self.check_state(applied);
                    }
                }
            }
        }
        let why = self.disagreement().unwrap_or_else(|| "no fresh write was answered".to_string());
        broken("liveness", format!("{STEPS_MAX} steps after everything was healed: {why}"))
    }

    /// Ends all faults and wishes, and starts everyone.
    pub fn heal(&mut self) -> Check {
        self.trace.line(self.now, "everything heals");
        self.peace = true;
        self.admin.rests();
        self.net.heal();
        self.net.rates = NetRates { delay_steps_max: 3, ..NetRates::default() };
        self.end_troubles();
        self.swarm.traffic.clients = 0;
        // Time must go on while clients keep quiet, and a cluster of seven needs more deliveries than ticks.
        self.swarm.shares = [60, 10, 40, 20, 0];
        for slot in self.down() {
            self.boot(slot)?;
        }
        Ok(())
    }

    /// Asks the leader for a write. Returns the number of writes answered so far, if a leader could be asked.
    fn try_write(&mut self) -> Result<Option<u64>, crate::invariants::Violation> {
        let Some((slot, _)) = self.leader() else { return Ok(None) };
        if !self.clients.is_any_idle() {
            return Ok(None);
        }
        let written = self.clients.counts.written;
        let ask: Ask = self.clients.put(&mut self.rng, Bytes::from("fresh"), Condition::None);
        self.ask(slot, ask)?;
        Ok(Some(written))
    }

    /// The applied index of all members, once all have applied it and nothing waits.
    fn agreement(&self) -> Option<Index> {
        if self.disagreement().is_some() {
            return None;
        }
        self.leader().map(|(_, status)| status.applied)
    }

    /// Why the members do not agree yet; `None` when they do.
    fn disagreement(&self) -> Option<String> {
        let Some((leader, status)) = self.leader() else { return Some("nobody leads".to_string()) };
        if status.membership.is_joint() {
            return Some("a joint change is not left".to_string());
        }
        let hash = self.nodes[leader].running().and_then(|running| running.view()).map(|view| view.state_hash());
        for (id, member) in &status.membership.members {
            let node = self.nodes.iter().find(|node| node.incarnation == member.incarnation)?;
            if node.is_lost() {
                continue;
            }
            let Some(running) = node.running() else { return Some(format!("member {id} does not run")) };
            let view_hash = running.view().map(|view| view.state_hash());
            if view_hash.is_none() || view_hash != hash {
                return Some(format!("member {id} is at {view_hash:?}, the leader at {hash:?}"));
            }
            if running.driver.role() == Role::Leader && node.incarnation != self.nodes[leader].incarnation {
                return Some(format!("member {id} leads an older term"));
            }
        }
        (hash.map(|hash| hash.applied) != Some(status.last_index)).then(|| "the leader applies".to_string())
    }

    /// Every key has the value that the order of all writes gives it, on every member.
    fn check_state(&mut self, applied: Index) -> Check {
        let model = &self.invariants.history.model;
        self.clients.check_nothing_is_lost(model)?;
        let running = |node: &SimNode| node.running().is_some_and(|running| running.view().is_some());
        let slots: Vec<Slot> = (0..self.nodes.len()).filter(|slot| running(&self.nodes[*slot])).collect();
        for slot in slots {
            let Some(view) = self.nodes[slot].running().and_then(|running| running.view()) else { continue };
            if view.applied() != applied {
                continue;
            }
            for key in model.keys() {
                let expected = model.value_at(key, model.revision());
                let found = view.get(key, 0).map(|(_, record)| record.map(|record| record.value));
                if !matches!(&found, Ok(value) if value.as_ref() == expected) {
                    let what = format!("{} ends with {key:?} = {found:?}, not {expected:?}", self.nodes[slot].name);
                    return broken("client", what);
                }
            }
        }
        Ok(())
    }
}

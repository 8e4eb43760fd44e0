//! The end of a run: all faults are over, everyone starts, and then the cluster must serve and its members must agree.

use crate::client::Ask;
use crate::invariants::{Check, broken};
use crate::net::{NetRates, Slot};
use crate::node::SimNode;
use crate::world::World;
use bytes::Bytes;
use raftkv_core::driver::Role;
use raftkv_core::kvstore::Condition;
use raftkv_core::types::Index;

/// Steps in which a healed cluster must serve and agree.
const STEPS_MAX: u64 = 60_000;

impl World {
    /// Heals everything, then waits until the cluster serves a fresh write and all members agree.
    pub fn end(&mut self) -> Check {
        self.heal()?;
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

//! What an operator must never do. Each action is checked against the true world, whatever the operator had seen.
//!
//! The simulation itself checks what the members owe each other (one membership change in flight, no acknowledged write
//! lost). Each rule here has an operator that breaks it (`controls.rs`).

use super::kubernetes::Kubernetes;
use raftkv_core::membership::Membership;
use raftkv_operator::plan::{Action, Ordinal, Plan};
use raftkv_sim::invariants::{Check, Violation, broken};
use raftkv_sim::net::Slot;
use raftkv_sim::node::Life;
use raftkv_sim::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Name of these rules in a report.
pub const PLAN: &str = "the plan";
/// With fewer voters than this, a restart is a short outage in any case (rule O8).
const VOTERS_MIN: usize = 3;

/// What these rules remember.
#[derive(Default)]
pub struct Rules {
    /// The newest membership that anybody has applied.
    newest: Arc<Membership>,
    /// Of each member, the newest membership that it has on disk and applied.
    durable: BTreeMap<u64, u64>,
    /// Voters that the operator restarts, until they run again.
    restarts: BTreeMap<Ordinal, u64>,
}

impl Rules {
    /// Takes note of the world as it is.
    pub fn look(&mut self, world: &World, kubernetes: &Kubernetes) {
        for status in world.nodes().iter().filter_map(|node| node.status()) {
            let durable = self.durable.entry(status.id).or_default();
            *durable = status.durable_conf_index.max(*durable);
            if status.membership.conf_index > self.newest.conf_index {
                self.newest = status.membership;
            }
        }
        let runs = |ordinal: &Ordinal| {
            let pod = kubernetes.pods.get(ordinal).is_some_and(|pod| !pod.terminating);
            pod && kubernetes.slot(*ordinal).is_some_and(|slot| world.nodes()[slot].running().is_some())
        };
        self.restarts.retain(|ordinal, _| !runs(ordinal));
    }

    /// The newest membership that anybody has applied.
    pub fn newest(&self) -> &Membership {
        &self.newest
    }

    /// A pass begins: one membership change at a time.
    pub fn plan(&self, made: &Plan) -> Check {
        let changes = made
            .actions()
            .filter(|action| action.kind().changes_members() || matches!(action, Action::Reset { .. }))
            .count();
        if changes > 1 {
            return broken(PLAN, format!("two membership changes in one pass: {:?}", made.steps));
        }
        Ok(())
    }

    /// A pod is deleted: the voters whose disks are there, and that the operator does not restart, must still be a
    /// quorum.
    pub fn delete_pod(&mut self, world: &World, ordinal: Ordinal, slot: Slot) -> Check {
        let Some(id) = world.nodes()[slot].member_id().filter(|id| self.votes(*id)) else { return Ok(()) };
        self.restarts.insert(ordinal, id);
        if self.newest.voters.len() < VOTERS_MIN {
            return Ok(());
        }
        let stays = |id: u64| !self.restarts.values().any(|restarts| *restarts == id) && has_disk(world, id);
        match self.is_quorum(stays) {
            true => Ok(()),
            false => broken(PLAN, format!("the members lose their quorum when the pod {ordinal} is deleted")),
        }
    }

    /// Pods beyond a size end: none of them may be a voter's.
    pub fn set_size(&self, world: &World, kubernetes: &Kubernetes, replicas: u32) -> Check {
        let id = |ordinal: &Ordinal| world.nodes()[kubernetes.slot(*ordinal)?].member_id();
        let voter = kubernetes.claims.range(replicas..).find(|(at, _)| id(at).is_some_and(|id| self.votes(id)));
        match voter {
            Some((ordinal, _)) => broken(PLAN, format!("{replicas} pods, and {ordinal} is a voter's")),
            None => Ok(()),
        }
    }

    /// A node starts over: the member that it was must have been removed.
    pub fn reset(&self, world: &World, slot: Slot) -> Check {
        self.removal(world, slot).map(|_| ())
    }

    /// A volume is deleted: its member must have been removed, and the others can never need its vote again (rule N10).
    pub fn delete_claim(&self, world: &World, slot: Slot) -> Check {
        let Some((id, index)) = self.removal(world, slot)? else { return Ok(()) };
        match self.is_quorum(|id| self.durable.get(&id).is_some_and(|durable| *durable >= index)) {
            true => Ok(()),
            false => broken(PLAN, format!("the data of member {id} is deleted, and its vote may still be needed")),
        }
    }

    /// The member that a data directory was, and where it was removed; `None` when it was nobody.
    fn removal(&self, world: &World, slot: Slot) -> Result<Option<(u64, u64)>, Violation> {
        let Some(id) = world.nodes()[slot].member_id() else { return Ok(None) };
        match self.newest.removed.get(&id) {
            Some(removed) => Ok(Some((id, removed.index))),
            None => broken(PLAN, format!("the data of member {id} is given up, and it was not removed")),
        }
    }

    fn votes(&self, id: u64) -> bool {
        self.newest.voters.contains(&id) || self.newest.outgoing.contains(&id)
    }

    fn is_quorum(&self, counts: impl Fn(u64) -> bool) -> bool {
        let halves = [&self.newest.voters, &self.newest.outgoing];
        let holds =
            |half: &&BTreeSet<u64>| half.is_empty() || half.iter().filter(|id| counts(**id)).count() > half.len() / 2;
        halves.iter().all(holds)
    }
}

fn has_disk(world: &World, id: u64) -> bool {
    world.nodes().iter().filter(|node| node.member_id() == Some(id)).any(|node| match node.life {
        Life::Down | Life::Running(_) => true,
        Life::Blank | Life::Quarantined(_) | Life::Removed | Life::Lost => false,
    })
}

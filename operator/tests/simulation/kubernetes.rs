//! Pods, volume claims and the StatefulSet, as thin as they can be: each step makes what is missing.

use raftkv_operator::plan::{ClaimOwner, Ordinal};
use raftkv_sim::invariants::Check;
use raftkv_sim::net::Slot;
use raftkv_sim::node::Life;
use raftkv_sim::rng::Rng;
use raftkv_sim::world::World;
use std::collections::BTreeMap;

/// A pod: it runs on the data directory of its claim.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: u64,
    pub revision: u64,
    pub terminating: bool,
}

/// A volume claim and the data directory on its volume.
#[derive(Clone, Debug)]
pub struct Claim {
    pub uid: u64,
    pub version: u64,
    pub slot: Slot,
    pub labelled: bool,
    pub owner: Option<ClaimOwner>,
    pub terminating: bool,
}

/// The objects of one cluster.
pub struct Kubernetes {
    pub replicas: u32,
    pub set_version: u64,
    pub revision: u64,
    pub pods: BTreeMap<Ordinal, Pod>,
    pub claims: BTreeMap<Ordinal, Claim>,
    pub budget: Option<u32>,
    counter: u64,
}

impl Kubernetes {
    /// A cluster of this size, whose data directories have their first numbers.
    pub fn new(replicas: u32) -> Kubernetes {
        let mut kubernetes = Kubernetes {
            replicas,
            set_version: 1,
            revision: 1,
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            budget: None,
            counter: 1,
        };
        for ordinal in 0..replicas {
            kubernetes.make(ordinal, ordinal as Slot);
        }
        kubernetes
    }

    /// A number that was never used.
    pub fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn make(&mut self, ordinal: Ordinal, slot: Slot) {
        let (uid, version, pod) = (self.fresh(), self.fresh(), self.fresh());
        let claim = Claim { uid, version, slot, labelled: false, owner: None, terminating: false };
        self.claims.insert(ordinal, claim);
        self.pods.insert(ordinal, Pod { uid: pod, revision: self.revision, terminating: false });
    }

    /// The data directory of a pod.
    pub fn slot(&self, ordinal: Ordinal) -> Option<Slot> {
        self.claims.get(&ordinal).map(|claim| claim.slot)
    }

    /// One step of all controllers and kubelets, for one ordinal.
    pub fn step(&mut self, world: &mut World, rng: &mut Rng) -> Check {
        let places = self.replicas.max(self.claims.keys().last().map_or(0, |last| last + 1));
        let ordinal = rng.below(u64::from(places.max(1))) as Ordinal;
        match self.pods.get(&ordinal) {
            None if ordinal < self.replicas => match self.slot(ordinal) {
                Some(slot) => {
                    let (uid, revision) = (self.fresh(), self.revision);
                    world.hold(slot, false);
                    self.pods.insert(ordinal, Pod { uid, revision, terminating: false });
                }
                None => {
                    let slot = world.add_blank(&format!("demo-{ordinal}"));
                    self.make(ordinal, slot);
                }
            },
            None => {}
            Some(pod) if ordinal >= self.replicas || pod.terminating => return self.end_pod(world, ordinal),
            Some(_) => {}
        }
        self.run_pod(world, ordinal)
    }

    /// The process of a pod starts, on a new volume if the old one is lost.
    fn run_pod(&mut self, world: &mut World, ordinal: Ordinal) -> Check {
        let Some(slot) = self.slot(ordinal).filter(|_| self.pods.contains_key(&ordinal)) else { return Ok(()) };
        if matches!(world.nodes()[slot].life, Life::Lost) {
            // The volume comes back empty.
            let empty = world.add_blank(&format!("demo-{ordinal}"));
            if let Some(claim) = self.claims.get_mut(&ordinal) {
                claim.slot = empty;
            }
        }
        world.start(slot)
    }

    fn end_pod(&mut self, world: &mut World, ordinal: Ordinal) -> Check {
        let slot = self.slot(ordinal);
        if let Some(slot) = slot.filter(|slot| world.nodes()[*slot].running().is_some()) {
            return world.stop(slot);
        }
        self.pods.remove(&ordinal);
        slot.into_iter().for_each(|slot| world.hold(slot, true));
        if self.claims.get(&ordinal).is_some_and(|claim| claim.terminating) {
            self.drop_claim(world, ordinal);
        }
        Ok(())
    }

    /// A claim that is being deleted disappears when no pod uses it, and the data directory with it.
    pub fn drop_claim(&mut self, world: &mut World, ordinal: Ordinal) {
        if self.pods.contains_key(&ordinal) {
            if let Some(claim) = self.claims.get_mut(&ordinal) {
                claim.terminating = true;
            }
            return;
        }
        if let Some(claim) = self.claims.remove(&ordinal) {
            world.lose(claim.slot);
        }
    }

    /// A node sets its data aside and starts over.
    pub fn reset(&mut self, world: &mut World, ordinal: Ordinal) {
        let Some(claim) = self.claims.get_mut(&ordinal) else { return };
        world.lose(claim.slot);
        claim.slot = world.add_blank(&format!("demo-{ordinal}"));
    }
}

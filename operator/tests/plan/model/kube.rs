//! The controllers and kubelets: a StatefulSet (Parallel, OnDelete), garbage collection, pods that start and stop.

use super::{Claim, Disk, Flaw, MachineState, Pod, Set, Stage, World};
use raftkv_operator::plan::Ordinal;

impl World {
    /// One step of every controller and kubelet.
    pub fn step_kube(&mut self) {
        self.clock += 4;
        self.collect_garbage();
        self.run_set();
        for ordinal in self.pods.keys().copied().collect::<Vec<_>>() {
            self.run_pod(ordinal);
        }
        self.release_claims();
    }

    /// Objects whose custom resource is gone are deleted, and so are pods without a StatefulSet.
    fn collect_garbage(&mut self) {
        let alive = (!self.deleted).then_some(self.uid);
        self.children.retain(|_, owner| owner.is_none() || *owner == alive);
        if self.children.is_empty() {
            self.budget = None;
        }
        if self.set.as_ref().is_some_and(|set| Some(set.owner) != alive && set.owner != STRANGER) {
            self.set = None;
            self.pods.values_mut().for_each(|pod| pod.terminating = true);
        }
        // Pods of a Kubernetes node that does not exist any more, and pods that are being deleted on a node that is out
        // of service.
        let lost =
            |pod: &Pod, at: usize| !self.machines[at].present || (self.machines[at].out_of_service && pod.terminating);
        let is_gone = |pod: &Pod| pod.machine.is_some_and(|at| lost(pod, at));
        let gone: Vec<Ordinal> =
            self.pods.iter().filter(|(_, pod)| is_gone(pod)).map(|(ordinal, _)| *ordinal).collect();
        for ordinal in gone {
            self.pods.remove(&ordinal);
        }
    }

    fn run_set(&mut self) {
        let Some(set) = &mut self.set else { return };
        if set.owner == STRANGER {
            return;
        }
        set.seen_template = set.template;
        let (replicas, template) = (set.replicas, set.template);
        for (_, pod) in self.pods.range_mut(replicas..) {
            pod.terminating = true;
        }
        for ordinal in 0..replicas {
            self.make_claim(ordinal);
            let terminating = self.claims.get(&ordinal).is_none_or(|claim| claim.terminating);
            if self.pods.contains_key(&ordinal) || terminating {
                continue;
            }
            let (uid, version) = (self.fresh(), self.fresh());
            let stage = Stage::Unscheduled;
            let pod = Pod { uid, version, template, terminating: false, machine: None, stage, ready: false };
            self.pods.insert(ordinal, pod);
        }
    }

    fn make_claim(&mut self, ordinal: Ordinal) {
        if self.claims.contains_key(&ordinal) {
            return;
        }
        let (uid, version, created) = (self.fresh(), self.fresh(), self.clock);
        let claim = Claim {
            uid,
            version,
            created,
            cluster_uid: None,
            owner: None,
            terminating: false,
            machine: None,
            disk: None,
        };
        self.claims.insert(ordinal, claim);
    }

    /// One step of one kubelet.
    pub fn run_pod(&mut self, ordinal: Ordinal) {
        let Some(pod) = self.pods.get(&ordinal).cloned() else { return };
        let up = pod.machine.is_none_or(|machine| self.machines[machine].up);
        if !up {
            self.pods.get_mut(&ordinal).unwrap().ready = false;
            return;
        }
        if pod.terminating {
            self.pods.remove(&ordinal);
            return;
        }
        let stage = match pod.stage {
            Stage::Unscheduled => self.schedule(ordinal),
            Stage::Starting if self.flaw(ordinal) == Flaw::NoImage => Stage::Failing,
            Stage::Starting => Stage::Opening,
            Stage::Failing => Stage::Failing,
            Stage::Opening if self.flaw(ordinal) == Flaw::NeverOpens => Stage::Opening,
            Stage::Opening => self.open(ordinal),
            Stage::Running { applied } => Stage::Running { applied },
        };
        self.pods.get_mut(&ordinal).unwrap().stage = stage;
        self.pods.get_mut(&ordinal).unwrap().ready = self.is_ready(ordinal);
    }

    fn schedule(&mut self, ordinal: Ordinal) -> Stage {
        let placed = self.pods.values().filter(|pod| pod.machine.is_some()).count();
        let bound = match self.claims.get(&ordinal) {
            Some(claim) if !claim.terminating => claim.machine,
            Some(_) | None => return Stage::Unscheduled,
        };
        let load = |at: &usize| self.pods.values().filter(|pod| pod.machine == Some(*at)).count();
        let fit = |machine: &MachineState| machine.up && machine.present && !machine.out_of_service;
        let machine = (0..self.machines.len()).filter(|at| fit(&self.machines[*at])).min_by_key(load);
        let machine = match bound {
            Some(at) => Some(at).filter(|at| fit(&self.machines[*at])),
            None => machine.filter(|_| placed < self.room),
        };
        let Some(machine) = machine else { return Stage::Unscheduled };
        if !self.attachable {
            self.claims.get_mut(&ordinal).unwrap().machine = Some(machine);
        }
        self.pods.get_mut(&ordinal).unwrap().machine = Some(machine);
        Stage::Starting
    }

    /// The process has read its disk. An empty disk gets an incarnation.
    fn open(&mut self, ordinal: Ordinal) -> Stage {
        let incarnation = self.fresh();
        let claim = self.claims.get_mut(&ordinal).unwrap();
        let disk = claim.disk.get_or_insert(Disk { incarnation, member: None });
        Stage::Running { applied: disk.member.as_ref().map_or(0, |member| member.durable) }
    }

    /// Whether `/readyz` says ready: a voter that can read linearizably (rule O11).
    pub fn is_ready(&self, ordinal: Ordinal) -> bool {
        let Some(pod) = self.pods.get(&ordinal) else { return false };
        if self.flaw(ordinal) == Flaw::NeverReady {
            return false;
        }
        let Some(applied) = self.applied(pod) else { return false };
        let Some(member) = self.disk(ordinal).and_then(|disk| disk.member.as_ref()) else { return false };
        let raft = &self.rafts[&member.genesis];
        let conf = raft.conf_at(applied.max(1)).0;
        let leads = raft.leader.is_some_and(|leader| self.leads(member.genesis, leader));
        applied > 0 && conf.formed && conf.votes(member.id) && leads && !member.quarantined && !member.told_removed
    }

    /// A claim that is being deleted disappears when no scheduled pod uses it (PVC protection), and so does its disk.
    fn release_claims(&mut self) {
        let used = |ordinal: &Ordinal| self.pods.get(ordinal).is_some_and(|pod| pod.machine.is_some());
        let gone: Vec<Ordinal> =
            self.claims.iter().filter(|(at, claim)| claim.terminating && !used(at)).map(|(at, _)| *at).collect();
        for ordinal in gone {
            self.claims.remove(&ordinal);
        }
    }

    /// Time passes in which nothing else happens: longer than anything that the plan waits for.
    pub fn wait_long(&mut self) {
        self.clock += 400;
    }

    /// A machine stops: its processes end, and nothing reports it.
    pub fn stop_machine(&mut self, at: usize) {
        self.machines[at].up = false;
        for pod in self.pods.values_mut().filter(|pod| pod.machine == Some(at)) {
            pod.ready = false;
            if !matches!(pod.stage, Stage::Failing) {
                pod.stage = Stage::Opening;
            }
        }
    }

    /// The live StatefulSet, if it is this cluster's.
    pub fn our_set(&mut self) -> Option<&mut Set> {
        let uid = self.uid;
        self.set.as_mut().filter(|set| set.owner == uid)
    }
}

/// Owner of a StatefulSet that no custom resource made.
pub const STRANGER: u32 = 0;

//! Carries out one action as the API server and the nodes would, and refuses what they would refuse (rule O9).

use super::raft::{Conf, Identity, Raft};
use super::see::machine;
use super::{Claim, MemberDisk, NAME, Set, Stage, World, hex};
use raftkv_api::Hex128;
use raftkv_crds::child;
use raftkv_operator::plan::{Action, Child, Ending, Ordinal, Seed};

/// Why an action was refused.
pub type Refused = String;

impl World {
    /// Carries out an action of a plan that saw the custom resource at `version`.
    pub fn apply(&mut self, action: &Action, version: u64) -> Result<(), Refused> {
        match action {
            Action::CreateChild(child) => self.create_child(*child),
            Action::ApplyChild(child) => match self.children.get(child) {
                Some(Some(owner)) if *owner == self.uid => Ok(()),
                _ => Err("409: it is not this cluster's".to_string()),
            },
            Action::CreateSet { replicas } => self.create_set(*replicas),
            Action::ApplySet { replicas, resource_version } => self.apply_set(*replicas, resource_version),
            Action::AnnotateSeed { seed, resource_version } => self.annotate_seed(*seed, resource_version),
            Action::SetBudget { min_available } => {
                self.budget = Some(*min_available);
                self.children.insert(Child::Budget, Some(self.uid));
                Ok(())
            }
            Action::LatchSeed(seed) => {
                self.latch_version(version)?;
                self.latch.bootstrap = Some(*seed);
                Ok(())
            }
            Action::LatchFormed { cluster_id } => {
                self.latch_version(version)?;
                self.latch.cluster_id = Some(*cluster_id);
                self.latch.bootstrapped = true;
                Ok(())
            }
            Action::LabelClaim { ordinal, uid, resource_version } => {
                let (owner, fresh) = (self.uid, self.fresh());
                let claim = self.fenced_claim(*ordinal, uid, resource_version)?;
                claim.cluster_uid = Some(owner);
                claim.version = fresh;
                Ok(())
            }
            Action::AnnotateClaim { ordinal, uid, resource_version, owner } => {
                let fresh = self.fresh();
                let claim = self.fenced_claim(*ordinal, uid, resource_version)?;
                claim.owner = Some(*owner);
                claim.version = fresh;
                Ok(())
            }
            Action::DeleteClaim { ordinal, uid, resource_version } => {
                let fresh = self.fresh();
                let claim = self.fenced_claim(*ordinal, uid, resource_version)?;
                claim.terminating = true;
                claim.version = fresh;
                Ok(())
            }
            Action::DeletePod { ordinal, uid, resource_version, how } => {
                self.end_pod_by(*ordinal, uid, resource_version, *how)
            }
            Action::Init { seed, ordinal, min_voters } => self.init(*seed, *ordinal, *min_voters),
            Action::Reset { ordinal, incarnation } => self.reset(*ordinal, *incarnation),
            Action::AddLearner { leader, ordinal, incarnation, conf_index } => {
                self.add_learner(*leader, *ordinal, *incarnation, *conf_index)
            }
            Action::Promote { leader, id, replaces, conf_index } => self.promote(*leader, *id, *replaces, *conf_index),
            Action::Remove { leader, id, conf_index } => self.remove(*leader, *id, *conf_index),
            Action::Transfer { leader, to } => self.transfer(*leader, *to),
        }
    }

    fn apply_set(&mut self, replicas: u32, version: &str) -> Result<(), Refused> {
        let (template, fresh, keeps) = (self.spec.template, self.fresh(), self.faults.invalid);
        let set = self.fenced_set(version)?;
        (set.replicas, set.version) = (replicas, fresh);
        if !keeps {
            set.template = template;
        }
        Ok(())
    }

    fn annotate_seed(&mut self, seed: Seed, version: &str) -> Result<(), Refused> {
        let fresh = self.fresh();
        let set = self.fenced_set(version)?;
        (set.bootstrap, set.version) = (Some(seed), fresh);
        Ok(())
    }

    fn create_child(&mut self, child: Child) -> Result<(), Refused> {
        if self.children.contains_key(&child) {
            return Err("409: it exists".to_string());
        }
        self.children.insert(child, Some(self.uid));
        Ok(())
    }

    fn create_set(&mut self, replicas: u32) -> Result<(), Refused> {
        if self.set.is_some() {
            return Err("409: it exists".to_string());
        }
        let template = self.spec.template;
        let (owner, version, created) = (self.uid, self.fresh(), self.clock);
        let bootstrap = None;
        self.set = Some(Set { owner, version, created, replicas, template, seen_template: template, bootstrap });
        Ok(())
    }

    fn fenced_set(&mut self, resource_version: &str) -> Result<&mut Set, Refused> {
        let set = self.our_set().ok_or("404: there is no such StatefulSet")?;
        if set.version.to_string() != resource_version {
            return Err("409: the StatefulSet has changed".to_string());
        }
        Ok(set)
    }

    fn latch_version(&mut self, version: u64) -> Result<(), Refused> {
        if self.version != version || self.deleted {
            return Err("409: the custom resource has changed".to_string());
        }
        self.version = self.fresh();
        Ok(())
    }

    fn fenced_claim(&mut self, ordinal: Ordinal, uid: &str, version: &str) -> Result<&mut Claim, Refused> {
        let claim = self.claims.get_mut(&ordinal).ok_or("404: there is no such claim")?;
        if claim.uid.to_string() != uid || claim.version.to_string() != version {
            return Err("409: the claim has changed".to_string());
        }
        Ok(claim)
    }

    fn end_pod_by(&mut self, ordinal: Ordinal, uid: &str, version: &str, how: Ending) -> Result<(), Refused> {
        let has_room = self.budget_has_room(ordinal);
        let pod = self.pods.get_mut(&ordinal).ok_or("404: there is no such pod")?;
        if pod.uid.to_string() != uid || pod.version.to_string() != version {
            return Err("409: the pod has changed".to_string());
        }
        if how == Ending::Evict && !has_room {
            self.refused.entry(pod.uid).or_insert(self.clock);
            return Ok(());
        }
        pod.terminating = true;
        if how == Ending::Kill || pod.machine.is_none() {
            self.pods.remove(&ordinal);
        }
        Ok(())
    }

    /// Whether the disruption budget lets the pod go. One that is not ready may always go: it is no member of the quorum that
    /// the budget keeps.
    fn budget_has_room(&self, ordinal: Ordinal) -> bool {
        let ready = self.pods.values().filter(|pod| pod.ready && !pod.terminating).count();
        let is_ready = self.pods.get(&ordinal).is_some_and(|pod| pod.ready);
        !is_ready || self.budget.is_none_or(|least| ready > least as usize)
    }

    /// Whether the operator reaches the node in a pod.
    fn reached(&self, ordinal: Ordinal) -> Result<(), Refused> {
        let pod = self.pods.get(&ordinal).ok_or("there is no such pod")?;
        let runs = self.applied(pod).is_some() && !self.cut && !self.faults.unseen.contains(&ordinal);
        if runs { Ok(()) } else { Err("connection refused".to_string()) }
    }

    fn init(&mut self, seed: Seed, ordinal: Ordinal, min_voters: u32) -> Result<(), Refused> {
        self.reached(ordinal)?;
        let disk = self.disk(ordinal).ok_or("opening")?.clone();
        if hex(disk.incarnation) != seed.incarnation {
            return Err("409: another data directory is meant".to_string());
        }
        if let Some(member) = &disk.member {
            let same = self.rafts[&member.genesis].cluster_id == seed.cluster_id;
            return if same { Ok(()) } else { Err("409: it belongs to another cluster".to_string()) };
        }
        let genesis = self.fresh();
        let identity =
            Identity { name: child::pod(NAME, ordinal), incarnation: disk.incarnation, home: self.namespace };
        self.rafts.insert(genesis, Raft::first(seed.cluster_id, identity, min_voters));
        let member = MemberDisk::first(genesis);
        self.claims.get_mut(&ordinal).unwrap().disk.as_mut().unwrap().member = Some(member);
        self.pods.get_mut(&ordinal).unwrap().stage = Stage::Running { applied: 1 };
        self.inits.push(seed);
        Ok(())
    }

    fn reset(&mut self, ordinal: Ordinal, incarnation: Hex128) -> Result<(), Refused> {
        self.reached(ordinal)?;
        let disk = self.disk(ordinal).ok_or("opening")?.clone();
        let Some(member) = disk.member else { return Err("409: it is Blank".to_string()) };
        let removed = member.told_removed || self.rafts[&member.genesis].conf().removed.contains_key(&member.id);
        if member.diverged {
            return Err("409: diverged: true is missing".to_string());
        }
        if hex(disk.incarnation) != incarnation || !(member.quarantined || removed) {
            return Err("409: only a Removed or Quarantined node sets its data aside".to_string());
        }
        self.claims.get_mut(&ordinal).unwrap().disk = None;
        self.pods.get_mut(&ordinal).unwrap().stage = Stage::Opening;
        Ok(())
    }

    /// The cluster that a node leads, if its membership is still the one that the caller saw.
    fn fenced_conf(&mut self, leader: Ordinal, conf_index: Option<u64>) -> Result<(u64, Conf), Refused> {
        self.reached(leader)?;
        let member = self.disk(leader).and_then(|disk| disk.member.clone()).ok_or("409: it is Blank")?;
        let raft = &self.rafts[&member.genesis];
        if raft.leader != Some(member.id) {
            return Err("409: not_leader".to_string());
        }
        if conf_index.is_some_and(|seen| seen != raft.conf_index() as u64) {
            return Err("412: the membership has moved".to_string());
        }
        if conf_index.is_some() && raft.conf().joint() {
            return Err("409: a change is pending".to_string());
        }
        Ok((member.genesis, raft.conf().clone()))
    }

    fn add_learner(&mut self, leader: Ordinal, at: Ordinal, disk: Hex128, conf_index: u64) -> Result<(), Refused> {
        let (genesis, mut conf) = self.fenced_conf(leader, None)?;
        if conf.members.values().any(|member| hex(member.incarnation) == disk) {
            return Ok(());
        }
        self.fenced_conf(leader, Some(conf_index))?;
        let name = child::pod(NAME, at);
        if conf.removed.values().any(|(member, _)| hex(member.incarnation) == disk) {
            return Err("409: that data directory was a member's".to_string());
        }
        if conf.members.values().filter(|member| member.name == name).count() > 1 {
            return Err("409: the name is taken".to_string());
        }
        let incarnation = u64::try_from(u128::from_be_bytes(disk.0)).unwrap();
        conf.members.insert(conf.next_id, Identity { name, incarnation, home: self.namespace });
        conf.next_id += 1;
        self.propose_conf(genesis, conf, &[])
    }

    fn promote(&mut self, leader: Ordinal, id: u64, replaces: Option<u64>, conf_index: u64) -> Result<(), Refused> {
        let (genesis, mut conf) = self.fenced_conf(leader, Some(conf_index))?;
        if !conf.members.contains_key(&id) || conf.votes(id) {
            return Err("409: it is not a learner".to_string());
        }
        if !self.is_caught_up(genesis, id) {
            return Err("412: would_lose_quorum: the learner is not caught up".to_string());
        }
        let before = conf.voters.clone();
        conf.voters.insert(id);
        if let Some(old) = replaces {
            if !conf.voters.remove(&old) {
                return Err("409: it is not a voter".to_string());
            }
            conf.outgoing = before;
        }
        if !conf.is_quorum(|voter| self.is_caught_up(genesis, voter)) {
            return Err("412: would_lose_quorum".to_string());
        }
        if replaces.is_some() && replaces == self.rafts[&genesis].leader {
            return Err("409: not_leader".to_string());
        }
        self.propose_conf(genesis, conf, &[])
    }

    fn remove(&mut self, leader: Ordinal, id: u64, conf_index: u64) -> Result<(), Refused> {
        let (genesis, mut conf) = self.fenced_conf(leader, Some(conf_index))?;
        if !conf.members.contains_key(&id) {
            return Err("404: no such member".to_string());
        }
        let voted = conf.voters.remove(&id);
        if conf.voters.is_empty() {
            return Err("409: it is the last voter".to_string());
        }
        if voted && !conf.is_quorum(|voter| self.is_caught_up(genesis, voter)) {
            return Err("412: would_lose_quorum".to_string());
        }
        if self.rafts[&genesis].leader == Some(id) {
            return Err("409: it leads".to_string());
        }
        self.propose_conf(genesis, conf, &[id])
    }

    fn transfer(&mut self, leader: Ordinal, to: u64) -> Result<(), Refused> {
        let (genesis, conf) = self.fenced_conf(leader, None)?;
        if !conf.voters.contains(&to) || !self.is_caught_up(genesis, to) {
            return Err("409: it cannot take over".to_string());
        }
        let len = self.rafts[&genesis].log.len();
        self.member_disk(genesis, to).unwrap().matched = len;
        let raft = self.raft(genesis);
        raft.leader = Some(to);
        raft.term += 1;
        self.settle_leader(genesis, to);
        Ok(())
    }

    /// Whether a claim's volume, or a pod, is on a machine that is gone for good.
    pub fn is_on_lost_machine(&self, name: Option<&str>) -> bool {
        let lost = |at: &usize| !self.machines[*at].present || self.machines[*at].out_of_service;
        (0..self.machines.len()).filter(lost).any(|at| name == Some(machine(at).as_str()))
    }
}

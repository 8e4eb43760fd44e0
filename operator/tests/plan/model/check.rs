//! What must never happen. Each rule is checked at every action, and has a test that breaks it (`controls.rs`).

use super::kube::STRANGER;
use super::operator::Look;
use super::{Stage, World, hex};
use raftkv_api::NodeState;
use raftkv_crds::{ConditionType, child};
use raftkv_operator::plan::table::Task;
use raftkv_operator::plan::{Action, Ending, Eviction, NodeSeen, Ordinal, Plan};

impl World {
    /// Rules about a plan as a whole.
    pub fn check_plan(&mut self, look: &Look, made: &Plan) {
        let changes = made.actions().filter(|action| is_membership(action)).count();
        if changes > 1 {
            self.fails(format!("two membership changes in one pass: {:?}", made.steps));
        }
        if self.spec.paused && look.desired.paused && !made.steps.is_empty() {
            self.fails("a paused cluster is changed");
        }
        self.check_status(made);
    }

    fn check_status(&mut self, made: &Plan) {
        for kind in ConditionType::ALL {
            if made.status.conditions.iter().filter(|it| it.type_ == kind.as_str()).count() != 1 {
                self.fails(format!("the condition {} is not there once", kind.as_str()));
            }
        }
        if made.status.conditions.iter().any(|it| it.message.is_empty()) {
            self.fails(format!("a condition has no message: {:?}", made.status.conditions));
        }
        for wait in &made.status.waits {
            let task = Task::ALL.into_iter().find(|task| task.as_str() == wait.task);
            let declared =
                |task: Task| task.waits().iter().flat_map(|(_, on)| on.iter()).any(|on| on.as_str() == wait.on);
            if !task.is_some_and(declared) {
                self.fails(format!("a wait that no task declares: {wait:?}"));
            }
        }
        let mut ids: Vec<&str> = made.status.members.iter().map(|member| member.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != made.status.members.len() {
            self.fails("status.members has an id twice");
        }
        let mut names: Vec<&str> = made.status.pods.iter().map(|pod| pod.name.as_str()).collect();
        names.dedup();
        if names.len() != made.status.pods.len() {
            self.fails("status.pods has a name twice");
        }
    }

    /// Carries out an action and checks the result.
    pub fn apply_checked(&mut self, look: &Look, action: &Action) -> Result<(), String> {
        let before = self.clone();
        self.check_action(look, action);
        let done = self.apply(action, look.version);
        if done.is_ok() {
            self.check_quorums(&before, action, true);
            self.check_shape(&before, action);
        }
        done
    }

    /// Carries out an action that was planned on an old observation. The deletion of a pod and a new size are left out
    /// here: they are protected by the Lease and by a second look right before, and by no fence that the world could
    /// check.
    pub fn apply_stale(&mut self, look: &Look, action: &Action) -> Result<(), String> {
        if matches!(action, Action::DeletePod { .. } | Action::ApplySet { .. }) {
            return Err("the second look saw something else".to_string());
        }
        let before = self.clone();
        let done = self.apply(action, look.version);
        if done.is_ok() {
            self.check_quorums(&before, action, false);
            self.check_shape(&before, action);
        }
        done
    }

    /// Removes the volumes that will not come back.
    pub fn forget_lost_disks(&mut self) {
        let lost: Vec<Ordinal> = self
            .claims
            .iter()
            .filter(|(_, claim)| self.is_on_lost_machine(claim.machine.map(super::see::machine).as_deref()))
            .map(|(ordinal, _)| *ordinal)
            .collect();
        let named = self.spec.replace.map(|it| it.ordinal);
        self.claims.retain(|ordinal, claim| !claim.terminating && !lost.contains(ordinal) && named != Some(*ordinal));
    }

    /// Rules about an action in the world as it is.
    fn check_action(&mut self, look: &Look, action: &Action) {
        match action {
            Action::DeleteClaim { ordinal, uid, .. } => self.check_delete_claim(*ordinal, uid, look),
            Action::DeletePod { ordinal, uid, how, .. } => {
                self.check_delete_pod(*ordinal, uid, look);
                self.check_evicts(*ordinal, *how, look);
            }
            Action::Init { seed, .. } => {
                let noted = self.set.as_ref().and_then(|set| set.bootstrap);
                if self.latch.bootstrap != Some(*seed) || noted != Some(*seed) {
                    self.fails("init of a data directory that is not the latched one");
                }
                if self.latch.bootstrapped {
                    self.fails("init of a cluster that stands");
                }
                if self.claims.values().any(|claim| claim.cluster_uid.is_some_and(|uid| uid != self.uid)) {
                    self.fails("init beside volumes of another cluster");
                }
                if self.claims.values().any(|claim| claim.disk.as_ref().is_some_and(|disk| disk.member.is_some())) {
                    self.fails("init beside volumes that hold members");
                }
            }
            Action::AddLearner { .. } | Action::Promote { .. } | Action::Remove { .. } => {
                self.check_change(action, look)
            }
            Action::LatchSeed(seed) => {
                if self.latch.bootstrap.is_some_and(|old| old != *seed) && self.version == look.version {
                    self.fails("another seed was latched before");
                }
            }
            Action::CreateChild(_)
            | Action::ApplyChild(_)
            | Action::CreateSet { .. }
            | Action::ApplySet { .. }
            | Action::AnnotateSeed { .. }
            | Action::SetBudget { .. }
            | Action::LatchFormed { .. }
            | Action::LabelClaim { .. }
            | Action::AnnotateClaim { .. }
            | Action::Reset { .. }
            | Action::Transfer { .. } => {}
        }
    }

    /// One change at a time: no change begins while another one is joint, and of the learners that answer at most one
    /// is new and at most one is a successor.
    fn check_change(&mut self, action: &Action, look: &Look) {
        let Some(members) = &look.observed.members else {
            return self.fails("a membership change without a linearizable membership");
        };
        if members.joint {
            self.fails(format!("a second change while one is joint: {action:?}"));
        }
        let Action::AddLearner { ordinal, .. } = action else { return };
        let learns = |member: &&raftkv_api::Member| member.role == raftkv_api::MemberRole::Learner;
        // A learner that does not answer must not hold up a repair.
        let answers = |member: &&raftkv_api::Member| {
            let at = child::ordinal(&member.name, super::NAME)?;
            let pod = look.observed.pods.get(&at).filter(|pod| !pod.terminating)?;
            let NodeSeen::Answered(status) = &pod.node else { return None };
            (status.member_id == Some(member.id)).then_some(())
        };
        let succeeds = |name: &str| members.members.iter().any(|it| it.name == name && !learns(&it));
        let kind = succeeds(&child::pod(super::NAME, *ordinal));
        let ours = members.members.iter().filter(learns).filter(|member| answers(member).is_some());
        if ours.filter(|member| succeeds(&member.name) == kind).count() > 0 {
            self.fails("a second learner is added before the first one votes");
        }
    }

    /// Rule O4, and rule O13 for a lost machine.
    fn check_delete_claim(&mut self, ordinal: Ordinal, uid: &str, look: &Look) {
        let Some(claim) = self.claims.get(&ordinal).filter(|claim| claim.uid.to_string() == uid).cloned() else {
            return;
        };
        let Some(member) = claim.disk.as_ref().and_then(|disk| disk.member.as_ref()) else { return };
        let raft = &self.rafts[&member.genesis];
        let removed = raft.conf().removed.contains_key(&member.id);
        let lost = self.is_on_lost_machine(claim.machine.map(super::see::machine).as_deref());
        let named = look.desired.replace.is_some_and(|it| it.ordinal == ordinal && it.member_id == member.id);
        if !removed && !lost && !named {
            self.fails(format!("the claim {ordinal} of member {} is deleted, and it was not removed", member.id));
        }
        let beyond = self.set.as_ref().is_none_or(|set| ordinal >= set.replicas);
        // A node that has applied nothing knows nobody who could tell it of its removal.
        let applied = self.pods.get(&ordinal).and_then(|pod| self.applied(pod));
        if removed
            && member.matched > 0
            && applied != Some(0)
            && !lost
            && !named
            && (!beyond || self.pods.contains_key(&ordinal))
        {
            self.fails(format!("the claim {ordinal} is deleted while a pod may use it"));
        }
    }

    /// Rule O8: a node that answers as a voter is restarted only while the others can do without its vote, and nobody
    /// else is on the way.
    fn check_delete_pod(&mut self, ordinal: Ordinal, uid: &str, look: &Look) {
        if self.pods.get(&ordinal).is_none_or(|pod| pod.uid.to_string() != uid) {
            return;
        }
        let seen = &look.observed.pods[&ordinal];
        let votes = matches!(&seen.node, NodeSeen::Answered(status) if status.state == NodeState::Voter);
        if !votes && !seen.ready {
            return;
        }
        let Some((genesis, raft)) = self.our_raft() else { return self.check_one_by_one(ordinal) };
        let (conf, joint) = (raft.conf().clone(), raft.conf().joint());
        let member = self.disk(ordinal).and_then(|disk| disk.member.as_ref()).map(|member| member.id);
        let others = || conf.voters.iter().filter(|id| Some(**id) != member);
        let well = others().filter(|id| self.is_caught_up(genesis, **id)).count();
        let needed = if conf.voters.len() <= 2 { conf.voters.len() - 1 } else { conf.voters.len() / 2 + 1 };
        let active = member.is_some_and(|id| self.is_active(genesis, id));
        if active && well < needed {
            let what = format!("pod {ordinal} is deleted though it answers, and only {well} of the others are well");
            self.fails(what);
        }
        if joint {
            self.fails(format!("pod {ordinal} is deleted while a change is joint"));
        }
    }

    /// What a drain would ask a disruption budget for, this operator asks it for as well.
    fn check_evicts(&mut self, ordinal: Ordinal, how: Ending, look: &Look) {
        let seen = &look.observed.pods[&ordinal];
        let doomed = look.observed.claims.get(&ordinal).is_none_or(|claim| claim.terminating);
        let voters = self.our_raft().map_or(0, |(_, raft)| raft.conf().voters.len());
        let by_budget = seen.ready && seen.outdated && !doomed && voters > 2 && !self.spec.strict;
        if by_budget && how != Ending::Evict && seen.eviction != Eviction::GivenUp {
            self.fails(format!("pod {ordinal} is ready, and no disruption budget was asked before it is deleted"));
        }
    }

    /// Without a leader an outdated pod is restarted when every pod that has the newest template runs again.
    fn check_one_by_one(&mut self, ordinal: Ordinal) {
        let template = self.set.as_ref().map(|set| set.template);
        if self.pods.get(&ordinal).is_some_and(|pod| Some(pod.template) == template) {
            return self.fails(format!("pod {ordinal} is deleted though it answers, without a leader"));
        }
        let votes = |at: &Ordinal| {
            let member = self.disk(*at).and_then(|disk| disk.member.as_ref());
            member.is_some_and(|member| !self.rafts[&member.genesis].conf().removed.contains_key(&member.id))
        };
        let mut newest = self.pods.iter().filter(|(_, pod)| Some(pod.template) == template);
        if newest.any(|(at, pod)| pod.stage == Stage::Failing || votes(at) && self.applied(pod).is_none()) {
            self.fails(format!("pod {ordinal} is deleted without a leader, and another one is on its way"));
        }
    }

    /// The cluster that the status names.
    pub fn our_raft(&self) -> Option<(u64, &super::raft::Raft)> {
        let (genesis, raft) = self.rafts.iter().find(|(_, raft)| Some(raft.cluster_id) == self.latch.cluster_id)?;
        raft.leader.filter(|id| self.leads(*genesis, *id))?;
        Some((*genesis, raft))
    }

    /// A working cluster still works after an action, once the pods that it deletes are gone; and the disks that are
    /// left are a quorum, and have all that was committed.
    fn check_quorums(&mut self, before: &World, action: &Action, ends: bool) {
        for genesis in self.rafts.keys().copied().collect::<Vec<_>>() {
            if !before.rafts.contains_key(&genesis) {
                continue;
            }
            let voters = before.rafts[&genesis].conf().voters.len();
            let asked = match action {
                Action::DeletePod { .. } => voters <= 2,
                Action::ApplySet { replicas, .. } => *replicas == 0 && self.spec.suspend,
                _ => false,
            };
            // What was being deleted before is not caused by this action.
            let (mut before, mut after) = (before.clone(), self.clone());
            if ends {
                before.end_pods();
                after.end_pods();
            }
            if !asked && before.works(genesis) && !after.works(genesis) {
                self.fails(format!("cluster {genesis} loses its quorum by {action:?}"));
            }
            if before.is_intact(genesis) && !after.is_intact(genesis) {
                self.fails(format!("cluster {genesis} loses disks that it needs by {action:?}"));
            }
        }
    }

    /// Ends everything that is being deleted.
    fn end_pods(&mut self) {
        let replicas = self.set.as_ref().map_or(0, |set| set.replicas);
        self.pods.retain(|ordinal, pod| !pod.terminating && *ordinal < replicas);
        let used = |at: &Ordinal| self.pods.get(at).is_some_and(|pod| pod.machine.is_some());
        self.claims.retain(|at, claim| !claim.terminating || used(at));
    }

    /// Whether one of the running nodes could lead.
    pub fn works(&self, genesis: u64) -> bool {
        !self.winners(genesis, &self.electors(genesis)).is_empty()
    }

    /// Whether a node could lead with all that was committed, if every remaining disk had its node back.
    pub fn is_intact(&self, genesis: u64) -> bool {
        let members = self.claims.values().filter_map(|claim| claim.disk.as_ref()?.member.as_ref());
        let fit = members.filter(|it| it.genesis == genesis && !it.quarantined && !it.told_removed && it.matched > 0);
        let nodes: Vec<_> = fit.map(|it| (it.id, it.matched, it.durable)).collect();
        let len = self.rafts[&genesis].log.len();
        let conf = self.rafts[&genesis].conf();
        let winners = self.winners(genesis, &nodes);
        winners.iter().any(|(id, matched)| *matched == len && conf.votes(*id))
            && conf.is_quorum(|id| nodes.iter().any(|node| node.0 == id))
    }

    /// Rules about the world after an action.
    fn check_shape(&mut self, before: &World, action: &Action) {
        if let Action::CreateSet { replicas } | Action::ApplySet { replicas, .. } = action {
            let members = self.rafts.values().filter(|raft| Some(raft.cluster_id) == self.latch.cluster_id);
            let names = members.flat_map(|raft| raft.conf().members.values());
            let span = names.filter_map(|it| child::ordinal(&it.name, super::NAME)).max().map_or(0, |top| top + 1);
            // An operator that knows no member may give too few pods to a StatefulSet that was scaled to nothing, but
            // never fewer than it has.
            let known = self.our_raft().is_some() || before.set.as_ref().is_some_and(|set| *replicas < set.replicas);
            if !self.spec.suspend && known && *replicas < span {
                self.fails(format!("{replicas} pods, and a member has place {}", span - 1));
            }
        }
        let mut formed: Vec<_> = self.inits.clone();
        formed.dedup();
        if formed.len() > 1 {
            self.fails("two clusters were formed");
        }
        if self.set.as_ref().is_some_and(|set| set.owner == STRANGER) && matches!(action, Action::ApplySet { .. }) {
            self.fails("a stranger's StatefulSet is changed");
        }
    }

    /// Why the cluster is not what the spec asks for, by member id; `None` when it is.
    pub fn lacks(&self) -> Option<String> {
        let Some((genesis, raft)) = self.our_raft() else { return Some("no leader works".to_string()) };
        let conf = raft.conf();
        if conf.voters.len() != self.spec.replicas as usize || conf.members.len() != conf.voters.len() || conf.joint() {
            return Some(format!("the membership is {conf:?}"));
        }
        for ordinal in 0..self.spec.replicas {
            let member = self.disk(ordinal).and_then(|disk| disk.member.as_ref());
            let seated = member.filter(|it| it.genesis == genesis && conf.voters.contains(&it.id));
            let Some(member) = seated else { return Some(format!("pod {ordinal} is no voter")) };
            let named = &conf.members[&member.id];
            if child::ordinal(&named.name, super::NAME) != Some(ordinal) {
                return Some(format!("member {} is at {ordinal} and is called {}", member.id, named.name));
            }
            if !self.pods.get(&ordinal).is_some_and(|pod| pod.ready && pod.template == self.spec.template) {
                return Some(format!("pod {ordinal} is not ready, or outdated"));
            }
            let claim = &self.claims[&ordinal];
            let noted = claim.owner.is_some_and(|owner| {
                owner.member_id == member.id
                    && owner.cluster_id == raft.cluster_id
                    && owner.incarnation == hex(named.incarnation)
            });
            if !noted || claim.cluster_uid != Some(self.uid) {
                return Some(format!("the claim {ordinal} does not say whose it is"));
            }
        }
        self.lacks_elsewhere(genesis)
    }

    fn lacks_elsewhere(&self, genesis: u64) -> Option<String> {
        if self.pods.len() != self.spec.replicas as usize {
            return Some(format!("{} pods", self.pods.len()));
        }
        if let Some(other) = self.acknowledged.iter().find(|it| **it != genesis) {
            return Some(format!("cluster {other} acknowledged writes, and cluster {genesis} runs"));
        }
        let raft = &self.rafts[&genesis];
        let quorum = raft.conf().voters.len() as u32 / 2 + 1;
        let budget = if self.spec.replicas <= 2 && !self.spec.strict { self.spec.replicas - 1 } else { quorum };
        (self.budget != Some(budget)).then(|| format!("the budget is {:?}, not {budget}", self.budget))
    }
}

fn is_membership(action: &Action) -> bool {
    action.kind().changes_members() || matches!(action, Action::Reset { .. })
}

//! An operator that is as slow as the world around it: it looks, plans, and carries out one action after the other while
//! everything goes on. It may end between any two of them.

use super::kubernetes::{Claim, Kubernetes};
use super::rules::{PLAN, Rules};
use super::run::Totals;
use super::view::{desired, observe};
use raftkv_api::Hex128;
use raftkv_core::driver::Answer;
use raftkv_core::driver::MembershipCall;
use raftkv_core::host_port::HostPort;
use raftkv_core::membership::Member;
use raftkv_core::types::RequestId;
use raftkv_operator::plan::{Action, Memory, Observed, Ordinal, Plan, Step, plan};
use raftkv_sim::admin::Asked;
use raftkv_sim::invariants::{Check, Violation, broken};
use raftkv_sim::node::Life;
use raftkv_sim::rng::Rng;
use raftkv_sim::world::World;
use std::collections::VecDeque;

/// In how many of a thousand steps the operator and Kubernetes have a turn.
const TURN_PER_MILLE: u64 = 40;
/// In how many of a thousand turns the operator ends.
const END_PER_MILLE: u64 = 15;
/// In how many of a thousand turns somebody sets a new pod template.
const TEMPLATE_PER_MILLE: u64 = 2;
/// In how many of a thousand turns somebody deletes a pod.
const DELETE_PER_MILLE: u64 = 3;
/// How many steps an answer is waited for.
const PATIENCE_STEPS: u64 = 6_000;
/// After this many data directories no more wishes are made.
const DIRECTORIES_MAX: usize = 55;

/// How an operator alters a plan before it carries it out.
pub type Alter = fn(&Observed, &mut Plan);

/// It does not.
pub const HONEST: Alter = |_, _| {};

pub struct Operator {
    rng: Rng,
    kubernetes: Kubernetes,
    memory: Memory,
    /// What is left of the plan of this pass.
    steps: VecDeque<Step>,
    made: Option<Plan>,
    waits: Option<(RequestId, u64)>,
    replicas: u32,
    revision: u64,
    rules: Rules,
    alter: Alter,
    pub totals: Totals,
}

/// An action that fails ends the pass.
type Acted = Result<Option<RequestId>, Failed>;

enum Failed {
    Refused,
    Violation(Violation),
}

impl From<Violation> for Failed {
    fn from(violation: Violation) -> Failed {
        Failed::Violation(violation)
    }
}

impl Operator {
    pub fn new(seed: u64, world: &World, alter: Alter) -> Operator {
        let replicas = world.wanted() as u32;
        Operator {
            rng: Rng::new(seed ^ 0x0b5e_55ed),
            kubernetes: Kubernetes::new(replicas),
            memory: Memory::default(),
            steps: VecDeque::new(),
            made: None,
            waits: None,
            replicas,
            revision: 1,
            rules: Rules::default(),
            alter,
            totals: Totals::default(),
        }
    }

    /// The end of a run begins: no more crashes, and no more wishes.
    pub fn wake(&mut self) {
        self.end();
        self.made = None;
    }

    /// What is not yet as it was wished; `None` once everything is, and a pass found nothing to do.
    pub fn lacks(&self, world: &World) -> Option<String> {
        let Some(made) = &self.made else { return Some("there was no pass".to_string()) };
        let ready = made.status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
        if !made.steps.is_empty() || !ready {
            return Some(format!("{:?}; ready: {ready}", made.steps));
        }
        let outdated = self.kubernetes.pods.values().filter(|pod| pod.revision != self.revision).count();
        if self.kubernetes.pods.len() != self.replicas as usize || outdated > 0 {
            return Some(format!("{} pods, {outdated} of them outdated", self.kubernetes.pods.len()));
        }
        let membership = self.rules.newest();
        if membership.members.len() != self.replicas as usize || membership.is_joint() {
            return Some(format!("the members are {:?}", membership.members));
        }
        (0..self.replicas).find_map(|ordinal| self.lacks_member(world, ordinal))
    }

    /// Whether the data directory of a pod is a voter of the pod's name, by id, and its claim says so.
    fn lacks_member(&self, world: &World, ordinal: Ordinal) -> Option<String> {
        let membership = self.rules.newest();
        let claim = self.kubernetes.claims.get(&ordinal);
        let id = claim.and_then(|claim| world.nodes()[claim.slot].member_id());
        let member = id.filter(|id| membership.voters.contains(id)).and_then(|id| membership.members.get(&id));
        if member.is_none_or(|member| member.name != format!("demo-{ordinal}")) {
            return Some(format!("pod {ordinal} is {member:?}"));
        }
        let owner = claim.and_then(|claim| claim.owner).map(|owner| owner.member_id);
        (owner != id).then(|| format!("the claim {ordinal} says that it is of {owner:?}, and it is of {id:?}"))
    }

    /// Lets something happen outside of the nodes.
    pub fn turn(&mut self, world: &mut World) -> Check {
        if !self.rng.chance(TURN_PER_MILLE) {
            return Ok(());
        }
        self.rules.look(world, &self.kubernetes);
        if self.rng.chance(500) {
            return self.kubernetes.step(world, &mut self.rng);
        }
        let room = world.nodes().len() < DIRECTORIES_MAX;
        if room && !world.is_healed() {
            self.replicas = world.wanted() as u32;
            self.revision += u64::from(self.rng.chance(TEMPLATE_PER_MILLE));
            if self.rng.chance(END_PER_MILLE) {
                self.totals.ended += 1;
                self.end();
            }
            if self.rng.chance(DELETE_PER_MILLE) {
                let ordinals: Vec<Ordinal> = self.kubernetes.pods.keys().copied().collect();
                let chosen = self.rng.pick(&ordinals).and_then(|ordinal| self.kubernetes.pods.get_mut(ordinal));
                chosen.into_iter().for_each(|pod| pod.terminating = true);
            }
        }
        match self.work(world) {
            Ok(()) => Ok(()),
            Err(Failed::Refused) => {
                self.steps.clear();
                Ok(())
            }
            Err(Failed::Violation(violation)) => Err(violation),
        }
    }

    fn end(&mut self) {
        self.steps.clear();
        self.waits = None;
        let Memory { operation, conditions, members, .. } = std::mem::take(&mut self.memory);
        self.memory = Memory { operation, conditions, members, ..Memory::default() };
    }

    fn work(&mut self, world: &mut World) -> Result<(), Failed> {
        if let Some((request, since)) = self.waits {
            match world.asked(request) {
                Asked::Waits(_) if world.now - since < PATIENCE_STEPS => return Ok(()),
                Asked::Answered(Answer::Changed(_) | Answer::Transferred(_)) => self.waits = None,
                Asked::Waits(_) | Asked::Answered(Answer::Refused(_)) | Asked::Lost => {
                    self.waits = None;
                    return Err(Failed::Refused);
                }
            }
        }
        let Some(step) = self.steps.pop_front() else { return self.pass(world) };
        world.trace.line(world.now, &format!("operator: {:?}", step.action));
        let request = self.act(world, &step.action)?;
        self.waits = request.map(|request| (request, world.now));
        Ok(())
    }

    fn pass(&mut self, world: &mut World) -> Result<(), Failed> {
        self.totals.passes += 1;
        let desired = desired(self.replicas);
        let seen = observe(world, &self.kubernetes, self.revision, &self.memory, &mut self.rng);
        let mut made = plan(&desired, &seen);
        (self.alter)(&seen, &mut made);
        self.rules.plan(&made)?;
        if made.status.voters >= self.replicas as i32 {
            world.grew();
        }
        self.memory = made.memory.clone();
        self.steps = made.steps.clone().into();
        self.made = Some(made);
        Ok(())
    }

    fn act(&mut self, world: &mut World, action: &Action) -> Acted {
        match action {
            Action::CreateChild(_) | Action::ApplyChild(_) | Action::LatchSeed(_) | Action::LatchFormed { .. } => {
                Ok(None)
            }
            Action::CreateSet { .. } | Action::AnnotateSeed { .. } | Action::Init { .. } => {
                Ok(broken(PLAN, format!("a cluster that stands is formed: {action:?}"))?)
            }
            Action::ApplySet { replicas, resource_version } => {
                if *resource_version != self.kubernetes.set_version.to_string() {
                    return Err(Failed::Refused);
                }
                self.rules.set_size(world, &self.kubernetes, *replicas)?;
                self.kubernetes.set_version = self.kubernetes.fresh();
                (self.kubernetes.replicas, self.kubernetes.revision) = (*replicas, self.revision);
                Ok(None)
            }
            Action::SetBudget { min_available } => {
                self.kubernetes.budget = Some(*min_available);
                Ok(None)
            }
            Action::LabelClaim { ordinal, uid, .. } => {
                self.claim(*ordinal, uid)?.labelled = true;
                Ok(None)
            }
            Action::AnnotateClaim { ordinal, uid, owner, .. } => {
                self.claim(*ordinal, uid)?.owner = Some(*owner);
                Ok(None)
            }
            Action::DeleteClaim { ordinal, uid, .. } => self.delete_claim(world, *ordinal, uid),
            Action::DeletePod { ordinal, uid, .. } => self.delete_pod(world, *ordinal, uid),
            Action::Reset { ordinal, incarnation } => self.reset(world, *ordinal, *incarnation),
            Action::AddLearner { leader, ordinal, incarnation, conf_index } => {
                let name = format!("demo-{ordinal}");
                let peer = HostPort::parse(&format!("{name}:2380")).expect("a pod's name is a host's");
                let call = MembershipCall::Add(Member { name, peer, incarnation: *incarnation });
                self.call(world, *leader, call, *conf_index)
            }
            Action::Promote { leader, id, replaces, conf_index } => {
                self.totals.replaced += u64::from(replaces.is_some());
                self.call(world, *leader, MembershipCall::Promote { id: *id, replaces: *replaces }, *conf_index)
            }
            Action::Remove { leader, id, conf_index } => {
                self.call(world, *leader, MembershipCall::Remove { id: *id }, *conf_index)
            }
            Action::Transfer { leader, to } => {
                let slot = self.kubernetes.slot(*leader).ok_or(Failed::Refused)?;
                world.call_transfer(slot, *to)?.ok_or(Failed::Refused).map(Some)
            }
        }
    }

    fn call(&mut self, world: &mut World, leader: Ordinal, call: MembershipCall, if_match: u64) -> Acted {
        self.totals.changes += 1;
        let slot = self.kubernetes.slot(leader).ok_or(Failed::Refused)?;
        world.call(slot, call, if_match)?.ok_or(Failed::Refused).map(Some)
    }

    fn claim(&mut self, ordinal: Ordinal, uid: &str) -> Result<&mut Claim, Failed> {
        let fresh = self.kubernetes.fresh();
        let claim = self.kubernetes.claims.get_mut(&ordinal).filter(|claim| claim.uid.to_string() == uid);
        let claim = claim.ok_or(Failed::Refused)?;
        claim.version = fresh;
        Ok(claim)
    }

    fn delete_claim(&mut self, world: &mut World, ordinal: Ordinal, uid: &str) -> Acted {
        let slot = self.claim(ordinal, uid)?.slot;
        self.rules.delete_claim(world, slot)?;
        self.totals.volumes += 1;
        self.kubernetes.drop_claim(world, ordinal);
        Ok(None)
    }

    fn delete_pod(&mut self, world: &World, ordinal: Ordinal, uid: &str) -> Acted {
        let slot = self.kubernetes.slot(ordinal).ok_or(Failed::Refused)?;
        let pod = self.kubernetes.pods.get_mut(&ordinal).filter(|pod| pod.uid.to_string() == uid);
        pod.ok_or(Failed::Refused)?.terminating = true;
        self.rules.delete_pod(world, ordinal, slot)?;
        self.totals.restarts += 1;
        Ok(None)
    }

    fn reset(&mut self, world: &mut World, ordinal: Ordinal, incarnation: Hex128) -> Acted {
        let slot = self.kubernetes.slot(ordinal).ok_or(Failed::Refused)?;
        let node = &world.nodes()[slot];
        let stopped = matches!(node.life, Life::Removed | Life::Quarantined(_));
        if node.incarnation != incarnation || !stopped {
            return Err(Failed::Refused);
        }
        self.rules.reset(world, slot)?;
        self.kubernetes.reset(world, ordinal);
        Ok(None)
    }

    /// The state in words, for the reader of a failure.
    pub fn text(&self) -> String {
        let Kubernetes { replicas, pods, claims, .. } = &self.kubernetes;
        let status = self.made.as_ref().map(|made| (&made.status.conditions, &made.status.message, &made.steps));
        format!("wished {}, pods {replicas}: {pods:?}\n{claims:?}\n{status:?}\n", self.replicas)
    }
}

//! What a person does and what breaks.

use super::kube::STRANGER;
use super::raft::{Identity, Raft};
use super::{Disk, Flaw, MemberDisk, Set, Stage, World, hex};
use raftkv_crds::child;
use raftkv_operator::plan::{Child, Latch, Memory, Ordinal, Replace};

/// One thing that happens from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `spec.replicas`.
    Replicas(u32),
    Suspend(bool),
    Pause(bool),
    Strict(bool),
    /// A new image, which can be pulled or not.
    Image {
        bad: bool,
    },
    /// New settings, which may be wrong.
    Template(Flaw),
    /// `kubectl scale sts`.
    ScaleSet(u32),
    /// `kubectl delete pod`.
    DeletePod(Ordinal),
    /// `kubectl delete pod`, and its volume claim.
    LoseDisk(Ordinal),
    /// `kubectl delete pvc`, which waits for the pod to stop.
    DeleteClaim(Ordinal),
    /// `kubectl delete pod` where the claim is being deleted, if the others can do without that member.
    StopDoomed,
    /// The claim of an ordinal without a pod is deleted.
    DropVolume(Ordinal),
    /// A node finds that it cannot trust its data.
    Quarantine(Ordinal),
    /// A leader's log contradicts what a node has.
    Diverge(Ordinal),
    /// A call to the disk of a pod does not return; another pod has another try.
    HangDisk(Ordinal),
    /// The volume of this ordinal has no room.
    FillVolume(Ordinal),
    /// The operator does not reach this pod.
    Unseen(Ordinal),
    /// The StatefulSet is deleted, and its pods stay.
    DropSet,
    /// Status, StatefulSet and pods are lost; the volume claims stay.
    LoseRecords,
    /// The volumes are restored under the same name in another namespace.
    RestoreElsewhere(u32),
    /// Nobody is elected, or elections work again.
    NoElections(bool),
    /// The newest spec is invalid, or valid again.
    BadSpec(bool),
    /// A webhook fails each write to the StatefulSet, or works again.
    Webhook {
        /// Whether it fails.
        down: bool,
    },
    /// What was broken by these events is mended.
    Mended,
    /// The machine under a pod stops.
    StopMachineOf(Ordinal),
    /// Every machine that is there runs.
    StartMachines,
    /// The Node object under a pod is deleted; the machine is off.
    LoseMachineOf(Ordinal),
    /// The machine under a pod is off, and a person taints it as out of service.
    OutOfService(Ordinal),
    /// The annotation that gives up a member.
    Replace(Ordinal),
    /// There is room for this many pods.
    Room(usize),
    /// `kubectl delete rkv`.
    Delete,
    /// `kubectl apply`, anew.
    Apply(u32),
    WipeStatus,
    /// The volume of this ordinal comes from another cluster.
    MixVolume(Ordinal),
    /// Somebody else has a Service of this name, or gives it up.
    Stranger(bool),
    /// The operator reaches no pod, or reaches them again.
    Cut(bool),
    /// Somebody replaces a member by hand, in a joint change, and walks away in the middle.
    Joint,
}

impl World {
    /// Lets an event happen.
    pub fn happen(&mut self, event: Event) {
        self.version = self.fresh();
        match event {
            Event::Replicas(replicas) => self.edit(|spec| spec.replicas = replicas),
            Event::Suspend(suspend) => self.edit(|spec| spec.suspend = suspend),
            Event::Pause(paused) => self.edit(|spec| spec.paused = paused),
            Event::Strict(strict) => self.edit(|spec| spec.strict = strict),
            Event::Image { bad } => self.change_template(if bad { Flaw::NoImage } else { Flaw::None }),
            Event::Template(flaw) => self.change_template(flaw),
            Event::ScaleSet(replicas) => {
                let version = self.fresh();
                if let Some(set) = &mut self.set {
                    (set.replicas, set.version) = (replicas, version);
                }
            }
            Event::DeletePod(at) => self.end_pod(at),
            Event::StopDoomed => self.stop_doomed(),
            Event::DeleteClaim(at) => self.end_claim(at),
            Event::LoseDisk(_)
            | Event::DropVolume(_)
            | Event::Quarantine(_)
            | Event::Diverge(_)
            | Event::HangDisk(_)
            | Event::FillVolume(_)
            | Event::Unseen(_) => self.member_event(event),
            Event::DropSet => self.set = None,
            Event::LoseRecords => self.lose_records(),
            Event::RestoreElsewhere(replicas) => self.restore_elsewhere(replicas),
            Event::NoElections(none) => self.faults.no_elections = none,
            Event::BadSpec(bad) => {
                self.generation += 1;
                self.faults.invalid = bad;
            }
            Event::Webhook { down } => self.faults.fails = down,
            Event::Mended => {
                self.faults = super::Faults::default();
                self.hung.clear();
                self.spoiled.clear();
            }
            Event::StopMachineOf(_) | Event::LoseMachineOf(_) | Event::OutOfService(_) => self.machine_event(event),
            Event::StartMachines => self.machines.iter_mut().for_each(|it| it.up = it.present && !it.out_of_service),
            Event::Replace(at) => {
                let member_id = self.member_at(at).map_or(0, |member| member.id);
                self.edit(|spec| spec.replace = Some(Replace { ordinal: at, member_id }));
            }
            Event::Room(room) => self.room = room,
            Event::Delete => self.deleted = true,
            Event::Apply(replicas) => self.apply_anew(replicas),
            Event::WipeStatus => {
                self.latch = Latch::default();
                self.status = raftkv_crds::RaftKvClusterStatus::default();
                self.memory = Memory { blank: self.memory.blank.clone(), ..Memory::default() };
            }
            Event::MixVolume(at) => self.mix_volume(at),
            Event::Stranger(true) => {
                self.children.insert(Child::Client, None);
            }
            Event::Stranger(false) => {
                self.children.retain(|_, owner| owner.is_some());
                self.set.take_if(|set| set.owner == STRANGER);
            }
            Event::Cut(cut) => self.cut = cut,
            Event::Joint => self.change_by_hand(),
        }
    }

    /// An event of one member, its volume or its pod.
    fn member_event(&mut self, event: Event) {
        match event {
            Event::LoseDisk(at) => {
                self.end_claim(at);
                self.end_pod(at);
            }
            Event::DropVolume(at) => drop(self.claims.remove(&at)),
            Event::Quarantine(at) => self.member_at(at).into_iter().for_each(|member| member.quarantined = true),
            Event::Diverge(at) => {
                let member = self.member_at(at);
                member.into_iter().for_each(|member| (member.quarantined, member.diverged) = (true, true));
            }
            Event::HangDisk(at) => self.hung.extend(self.pods.get(&at).map(|pod| pod.uid)),
            Event::FillVolume(at) => {
                self.faults.full.insert(at);
            }
            Event::Unseen(at) => {
                self.faults.unseen.insert(at);
            }
            other => unreachable!("{other:?} is no event of a member"),
        }
    }

    fn restore_elsewhere(&mut self, replicas: u32) {
        self.namespace += 1;
        self.children.clear();
        self.set = None;
        self.pods.clear();
        self.apply_anew(replicas);
    }

    fn edit(&mut self, change: impl FnOnce(&mut super::Spec)) {
        change(&mut self.spec);
        self.generation += 1;
    }

    fn change_template(&mut self, flaw: Flaw) {
        self.edit(|spec| {
            spec.template.revision += 1;
            spec.template.flaw = flaw;
        });
    }

    fn lose_records(&mut self) {
        self.happen(Event::WipeStatus);
        self.memory = Memory::default();
        (self.set, self.budget) = (None, None);
        self.children.clear();
        self.pods.clear();
        self.inits.clear();
    }

    fn end_pod(&mut self, at: Ordinal) {
        let version = self.fresh();
        if let Some(pod) = self.pods.get_mut(&at) {
            (pod.terminating, pod.version) = (true, version);
        }
    }

    fn stop_doomed(&mut self) {
        let doomed: Vec<Ordinal> =
            self.claims.iter().filter(|(_, claim)| claim.terminating).map(|(at, _)| *at).collect();
        for at in doomed {
            let mut after = self.clone();
            after.claims.remove(&at);
            if self.rafts.keys().all(|genesis| after.is_intact(*genesis)) {
                self.end_pod(at);
            }
        }
    }

    fn end_claim(&mut self, at: Ordinal) {
        let version = self.fresh();
        if let Some(claim) = self.claims.get_mut(&at) {
            (claim.terminating, claim.version) = (true, version);
        }
    }

    fn member_at(&mut self, at: Ordinal) -> Option<&mut MemberDisk> {
        self.claims.get_mut(&at)?.disk.as_mut()?.member.as_mut()
    }

    fn machine_event(&mut self, event: Event) {
        let (Event::StopMachineOf(ordinal) | Event::LoseMachineOf(ordinal) | Event::OutOfService(ordinal)) = event
        else {
            return;
        };
        let of_claim = self.claims.get(&ordinal).and_then(|claim| claim.machine);
        let Some(at) = self.pods.get(&ordinal).and_then(|pod| pod.machine).or(of_claim) else { return };
        self.stop_machine(at);
        self.machines[at].present = !matches!(event, Event::LoseMachineOf(_));
        self.machines[at].out_of_service = matches!(event, Event::OutOfService(_));
    }

    fn apply_anew(&mut self, replicas: u32) {
        self.uid += 1;
        self.deleted = false;
        self.generation = 1;
        self.spec.replicas = replicas;
        self.latch = Latch::default();
        self.status = raftkv_crds::RaftKvClusterStatus::default();
        self.memory = Memory::default();
        self.inits.clear();
    }

    /// The volume of an ordinal holds the only member of another cluster, which has acknowledged writes as well.
    fn mix_volume(&mut self, at: Ordinal) {
        let (genesis, incarnation) = (self.fresh(), self.fresh());
        let identity = Identity { name: child::pod("other", at), incarnation, home: self.namespace };
        let raft = Raft::first(hex(genesis + 700_000), identity, 1);
        self.rafts.insert(genesis, raft);
        let member = MemberDisk::first(genesis);
        if let Some(claim) = self.claims.get_mut(&at) {
            claim.disk = Some(Disk { incarnation, member: Some(member) });
        }
        if let Some(pod) = self.pods.get_mut(&at)
            && matches!(pod.stage, Stage::Running { .. })
        {
            pod.stage = Stage::Opening;
        }
    }

    /// Somebody makes a caught-up learner a voter in place of another voter, in a joint change.
    fn change_by_hand(&mut self) {
        let Some((genesis, raft)) = self.our_raft() else { return };
        let (mut conf, leader) = (raft.conf().clone(), raft.leader);
        let learner = conf.members.keys().copied().find(|id| !conf.votes(*id));
        let old = conf.voters.iter().copied().rev().find(|id| Some(*id) != leader);
        let (Some(learner), Some(old)) = (learner, old) else { return };
        if !self.is_caught_up(genesis, learner) || conf.joint() {
            return;
        }
        conf.outgoing = conf.voters.clone();
        conf.voters.remove(&old);
        conf.voters.insert(learner);
        // The person would see that it did not work.
        let _told = self.propose_conf(genesis, conf, &[]);
    }

    /// A StatefulSet that somebody made.
    pub fn strange_set(&mut self) {
        let (version, created, template) = (self.fresh(), self.clock, self.spec.template);
        let set =
            Set { owner: STRANGER, version, created, replicas: 1, template, seen_template: template, bootstrap: None };
        self.set = Some(set);
    }
}

//! A model in memory of a Kubernetes with raftkv nodes: strict where the plan could do harm, and simple everywhere
//! else.
//!
//! It takes what a person asks for and what breaks ([`script`]), and the actions of a plan ([`act`]). It gives what an
//! operator would see ([`see`]), and what went wrong ([`check`]). Its clock is a number, and nothing is random: one
//! sequence of calls is one history.
//!
//! # Caveats
//! A cluster has one log, of which each disk holds a prefix. An entry is written to the leader's disk and to no more
//! disks than a quorum needs, at once; the others get it by later steps. So there are neither entries that were never
//! committed, nor two leaders at a time.

pub mod act;
pub mod check;
pub mod kube;
pub mod operator;
pub mod print;
pub mod raft;
pub mod script;
pub mod see;

use jiff::Timestamp;
use raft::Raft;
use raftkv_api::Hex128;
use raftkv_crds::RaftKvClusterStatus;
use raftkv_operator::plan::{Child, ClaimOwner, Latch, Memory, Ordinal, Replace, Seed};
use std::collections::{BTreeMap, BTreeSet};

/// The cluster's name.
pub const NAME: &str = "demo";

/// The first second of every history: 2026-01-01.
const EPOCH_S: i64 = 1_767_225_600;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub replicas: u32,
    pub suspend: bool,
    pub paused: bool,
    pub strict: bool,
    pub replace: Option<Replace>,
    /// Which template the pods shall have.
    pub template: Template,
}

/// A pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    pub revision: u32,
    pub flaw: Flaw,
}

/// What is wrong with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    None,
    /// Its image cannot be pulled.
    NoImage,
    /// Its nodes vote and are never ready, as with too little CPU.
    NeverReady,
    /// Its nodes never read their data to the end.
    NeverOpens,
    /// Its nodes vote and stay behind.
    NeverCatchesUp,
}

/// What is broken, until it is mended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Places whose volume is full.
    pub full: BTreeSet<Ordinal>,
    /// Places whose pod the operator does not reach, though the kubelet does.
    pub unseen: BTreeSet<Ordinal>,
    /// Nobody is elected.
    pub no_elections: bool,
    /// A joint change is not left.
    pub joint_stays: bool,
    /// A webhook fails each write to the StatefulSet.
    pub fails: bool,
    /// The spec cannot be carried out.
    pub invalid: bool,
}

/// The StatefulSet.
#[derive(Clone, Debug)]
pub struct Set {
    pub owner: u32,
    pub version: u64,
    pub created: i64,
    pub replicas: u32,
    pub template: Template,
    /// The template that its controller has seen.
    pub seen_template: Template,
    pub bootstrap: Option<Seed>,
}

/// A volume claim and the volume behind it.
#[derive(Clone, Debug)]
pub struct Claim {
    pub uid: u64,
    pub version: u64,
    pub created: i64,
    pub cluster_uid: Option<u32>,
    pub owner: Option<ClaimOwner>,
    pub terminating: bool,
    pub machine: Option<usize>,
    pub disk: Option<Disk>,
}

/// What is on a volume.
#[derive(Clone, Debug)]
pub struct Disk {
    pub incarnation: u64,
    pub member: Option<MemberDisk>,
}

/// The data of a member.
#[derive(Clone, Debug)]
pub struct MemberDisk {
    pub genesis: u64,
    pub id: u64,
    /// Entries of the log that are on this disk.
    pub matched: usize,
    /// Entries whose commit is on this disk.
    pub durable: usize,
    pub quarantined: bool,
    /// Quarantined because a leader's log contradicts it.
    pub diverged: bool,
    /// Whether a member that had applied the removal has told it.
    pub told_removed: bool,
}

impl MemberDisk {
    /// The only member of a cluster that was just formed.
    pub fn first(genesis: u64) -> MemberDisk {
        MemberDisk { genesis, id: 1, matched: 1, durable: 1, quarantined: false, diverged: false, told_removed: false }
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: u64,
    pub version: u64,
    pub template: Template,
    pub terminating: bool,
    pub machine: Option<usize>,
    pub stage: Stage,
    pub ready: bool,
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Unscheduled,
    Starting,
    Failing,
    /// The process runs and reads its disk.
    Opening,
    /// The node runs and has applied this many entries.
    Running {
        applied: usize,
    },
}

/// A Kubernetes node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MachineState {
    pub up: bool,
    pub out_of_service: bool,
    /// Its Node object exists.
    pub present: bool,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct World {
    pub clock: i64,
    /// The last number that was drawn, for uids, versions and incarnations.
    pub counter: u64,
    pub spec: Spec,
    pub generation: i64,
    /// The uid of the custom resource; a new one each time that it is applied anew.
    pub uid: u32,
    pub deleted: bool,
    pub version: u64,
    pub latch: Latch,
    pub status: RaftKvClusterStatus,
    /// The operator's memory: what a crash loses, and what the status keeps.
    pub memory: Memory,
    /// Children and whose they are: the uid of a custom resource, or `None` for a stranger.
    pub children: BTreeMap<Child, Option<u32>>,
    pub set: Option<Set>,
    pub budget: Option<u32>,
    /// Pods whose eviction a budget refused, by uid, and when it did so first.
    pub refused: BTreeMap<u64, i64>,
    pub claims: BTreeMap<Ordinal, Claim>,
    pub pods: BTreeMap<Ordinal, Pod>,
    pub machines: Vec<MachineState>,
    /// How many pods there is room for.
    pub room: usize,
    /// Whether volumes can be attached to any machine.
    pub attachable: bool,
    pub rafts: BTreeMap<u64, Raft>,
    /// Whether the operator reaches no node.
    pub cut: bool,
    pub faults: Faults,
    /// Pods, by uid, a call of whose disk does not return.
    pub hung: BTreeSet<u64>,
    /// Places with a flaw that no template has: of whatever pod is there, or of that pod alone.
    pub spoiled: BTreeMap<Ordinal, (Flaw, Option<u64>)>,
    /// The namespace; a restore may bring the volumes into another one.
    pub namespace: u32,
    /// Clusters that were formed by order of the operator, since the custom resource was applied.
    pub inits: Vec<Seed>,
    /// Clusters that acknowledged a write.
    pub acknowledged: BTreeSet<u64>,
    /// What must never happen, and did.
    pub broken: Option<String>,
}

impl World {
    /// A Kubernetes with this many machines, where a cluster was just applied.
    pub fn new(replicas: u32, machines: usize) -> World {
        let spec = Spec {
            replicas,
            suspend: false,
            paused: false,
            strict: false,
            replace: None,
            template: Template { revision: 1, flaw: Flaw::None },
        };
        let machine = MachineState { up: true, out_of_service: false, present: true };
        World {
            clock: 0,
            counter: 100,
            spec,
            generation: 1,
            uid: 1,
            deleted: false,
            version: 1,
            latch: Latch::default(),
            status: RaftKvClusterStatus::default(),
            memory: Memory::default(),
            children: BTreeMap::new(),
            set: None,
            budget: None,
            refused: BTreeMap::new(),
            claims: BTreeMap::new(),
            pods: BTreeMap::new(),
            machines: vec![machine; machines],
            room: 9,
            attachable: false,
            rafts: BTreeMap::new(),
            cut: false,
            faults: Faults::default(),
            hung: BTreeSet::new(),
            spoiled: BTreeMap::new(),
            namespace: 0,
            inits: Vec::new(),
            acknowledged: BTreeSet::new(),
            broken: None,
        }
    }

    /// A number that was never used.
    pub fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        time(self.clock)
    }

    /// Notes what must never happen; the first one stays.
    pub fn fails(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert(what.into());
    }

    /// The disk that the pod with this ordinal has mounted.
    pub fn disk(&self, ordinal: Ordinal) -> Option<&Disk> {
        self.claims.get(&ordinal)?.disk.as_ref()
    }

    /// The disk of a member, whichever claim it is on.
    pub fn member_disk(&mut self, genesis: u64, id: u64) -> Option<&mut MemberDisk> {
        let disks = self.claims.values_mut().filter_map(|claim| claim.disk.as_mut()?.member.as_mut());
        disks.into_iter().find(|member| member.genesis == genesis && member.id == id)
    }

    /// The pod in which a member's node runs: its machine is up, and its process has read its disk.
    pub fn running(&self, genesis: u64, id: u64) -> Option<(Ordinal, usize)> {
        self.pods.iter().find_map(|(ordinal, pod)| {
            let member = self.disk(*ordinal)?.member.as_ref()?;
            let applied = self.applied(pod).filter(|_| !self.hung.contains(&pod.uid))?;
            (member.genesis == genesis && member.id == id && !member.quarantined).then_some((*ordinal, applied))
        })
    }

    /// What is wrong with a pod.
    pub fn flaw(&self, ordinal: Ordinal) -> Flaw {
        let Some(pod) = self.pods.get(&ordinal) else { return Flaw::None };
        let spoiled = self.spoiled.get(&ordinal).filter(|(_, uid)| uid.is_none_or(|uid| uid == pod.uid));
        spoiled.map_or(pod.template.flaw, |(flaw, _)| *flaw)
    }

    /// What the node in a pod has applied, if it runs.
    pub fn applied(&self, pod: &Pod) -> Option<usize> {
        match pod.stage {
            Stage::Running { applied } if self.machines[pod.machine?].up => Some(applied),
            Stage::Running { .. } | Stage::Unscheduled | Stage::Starting | Stage::Failing | Stage::Opening => None,
        }
    }
}

/// A time of a history.
pub fn time(clock: i64) -> Timestamp {
    Timestamp::from_second(EPOCH_S + clock).unwrap()
}

/// A number as an identity.
pub fn hex(number: u64) -> Hex128 {
    Hex128(u128::from(number).to_be_bytes())
}

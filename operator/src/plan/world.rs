//! What a plan is made from: what the user asks for, and what was seen. It is plain data, and the time is part of it.
//! PURE.

use crate::plan::table::Row;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use raftkv_api::{Hex128, Members, Status};
use raftkv_crds::{Operation, WaitStatus, child};
use std::collections::{BTreeMap, BTreeSet};

/// The number of a pod in its StatefulSet. It is an address, never an identity.
pub type Ordinal = u32;

/// What the user asks for, as far as it matters to the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The cluster's name.
    pub name: String,
    /// The uid of the `RaftKvCluster`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The generation whose spec the rest is from; `None` when that is not known.
    pub generation_in_force: Option<i64>,
    /// Members asked for.
    pub replicas: u32,
    /// Whether to run no pods.
    pub suspend: bool,
    /// Whether to change nothing.
    pub paused: bool,
    /// Whether the disruption budget always keeps a quorum, whatever the size.
    pub strict_budget: bool,
    /// The member whose machine is gone for good, as a person says.
    pub replace: Option<Replace>,
    /// A change without progress for this many seconds is reported as stuck.
    pub progress_deadline_s: i64,
    /// A member is silent for this many seconds before it is given up with its machine.
    pub lost_node_s: i64,
    /// The image that the pods shall run, shown in the status.
    pub image: String,
    /// What follows a pod's name in its DNS name.
    pub peer_domain: String,
    /// Why the spec cannot be carried out, if it cannot.
    pub invalid: Option<String>,
}

impl Desired {
    /// Whether the newest spec is the one in force. A paused cluster of an older operator does not say.
    pub fn is_in_force(&self) -> bool {
        self.generation_in_force.map_or(self.paused, |generation| generation == self.generation)
    }

    /// The URL by which members reach the member with this ordinal.
    pub fn peer_url(&self, ordinal: Ordinal) -> String {
        format!("http://{}.{}:2380", child::pod(&self.name, ordinal), self.peer_domain)
    }

    /// The name of the pod with this ordinal.
    pub fn pod(&self, ordinal: Ordinal) -> String {
        child::pod(&self.name, ordinal)
    }

    /// The name of the volume claim of the pod with this ordinal.
    pub fn claim(&self, ordinal: Ordinal) -> String {
        child::claim(&self.name, ordinal)
    }

    /// Kind and name of a child, for people.
    pub fn object(&self, wanted: Child) -> String {
        match wanted {
            Child::Auth => format!("Secret {}", child::auth(&self.name)),
            Child::Peers => format!("Service {}", child::peers(&self.name)),
            Child::Client => format!("Service {}", self.name),
            Child::Budget => format!("PodDisruptionBudget {}", self.name),
        }
    }
}

/// The annotation `raftkv.dev/replace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replace {
    /// The pod.
    pub ordinal: Ordinal,
    /// The member, so that an annotation that was left behind does not apply to its successor.
    pub member_id: u64,
}

/// What was seen in one pass.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When it was seen.
    pub now: Timestamp,
    /// A random id, to be used if the cluster has none yet.
    pub fresh_cluster_id: Hex128,
    /// What the status keeps for ever.
    pub latch: Latch,
    /// What the status and the last pass keep for a while.
    pub memory: Memory,
    /// The children except the StatefulSet.
    pub children: BTreeMap<Child, ChildSeen>,
    /// The StatefulSet.
    pub set: SetSeen,
    /// The volume claims with the names of this cluster's claims.
    pub claims: BTreeMap<Ordinal, ClaimSeen>,
    /// The pods.
    pub pods: BTreeMap<Ordinal, PodSeen>,
    /// The membership, read linearizably from the leader; `None` when that failed or was not possible.
    pub members: Option<Members>,
    /// The Kubernetes nodes that were looked up: by name, or by the label to which a volume is tied, as in `key=value`.
    pub machines: BTreeMap<String, Machine>,
    /// The pods whose nodes refuse every token of this cluster.
    pub token_refused: BTreeSet<Ordinal>,
}

/// What is written once and never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latch {
    /// The cluster's id, which is on the disks.
    pub cluster_id: Option<Hex128>,
    /// The one data directory that may be told to form the cluster.
    pub bootstrap: Option<Seed>,
    /// Whether the cluster was formed.
    pub bootstrapped: bool,
}

/// The one data directory that may be told to form a cluster, and that cluster's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The cluster's id.
    pub cluster_id: Hex128,
    /// The data directory.
    pub incarnation: Hex128,
}

/// What earlier passes left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// From the status: the change under way.
    pub operation: Option<Operation>,
    /// From the status: what is waited for.
    pub waits: Vec<WaitStatus>,
    /// From the status: the conditions.
    pub conditions: Vec<Condition>,
    /// From the status: the members, by id, with their ordinals.
    pub members: BTreeMap<u64, Ordinal>,
    /// From the last pass: Blank nodes and their data directories.
    pub blank: BTreeMap<Ordinal, Hex128>,
    /// From earlier passes: since when nodes do not answer, or their pods are not there.
    pub silent: BTreeMap<Ordinal, Timestamp>,
    /// From earlier passes: since when members are silent to the operator and, by the leader's word, to the leader.
    pub mute: BTreeMap<u64, Timestamp>,
    /// From earlier passes: the row of each member, and since when it is in it.
    pub rows: BTreeMap<u64, (Row, Timestamp)>,
    /// What the API server said when it refused children.
    pub refused: Option<String>,
    /// Why other writes to children failed.
    pub failed: Option<String>,
}

/// A child object other than the StatefulSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Child {
    /// The Secret with the token.
    Auth,
    /// The headless Service of the members.
    Peers,
    /// The Service of the clients.
    Client,
    /// The PodDisruptionBudget.
    Budget,
}

/// How a child object was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildSeen {
    /// It is not there.
    Absent,
    /// It is this cluster's, and is as it should be.
    Good,
    /// It is this cluster's, and a field that we set differs.
    Differs,
    /// It belongs to an earlier cluster of this name and is being deleted.
    Leaving,
    /// It is somebody else's: whose, in words.
    Taken(String),
}

/// The StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSeen {
    /// It is not there.
    Absent,
    /// It belongs to an earlier cluster of this name and is being deleted.
    Leaving,
    /// It is somebody else's: whose, in words.
    Taken(String),
    /// It is this cluster's.
    Ours(Set),
}

/// This cluster's StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Fences writes.
    pub resource_version: String,
    /// When it was made.
    pub created: Timestamp,
    /// `spec.replicas`.
    pub replicas: u32,
    /// Whether the template, or another field that we set, differs from what it should be, and is to be written now.
    pub differs: bool,
    /// Whether not even the number of pods is to be written now, since that failed lately.
    pub held: bool,
    /// Whether its controller has seen the newest template, so that [`PodSeen::outdated`] is meaningful.
    pub settled: bool,
    /// The annotation [`raftkv_crds::annotation::BOOTSTRAP`].
    pub bootstrap: Option<Seed>,
    /// `minAvailable` of the disruption budget, if there is one.
    pub budget: Option<u32>,
}

/// A volume claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSeen {
    /// Fences writes.
    pub uid: String,
    /// Fences writes.
    pub resource_version: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it has the label [`raftkv_crds::label::CLUSTER`], as every claim has that a StatefulSet of this name
    /// made.
    pub by_set: bool,
    /// The label [`raftkv_crds::label::CLUSTER_UID`].
    pub cluster_uid: Option<String>,
    /// Whose data it holds, as it was annotated.
    pub owner: Option<ClaimOwner>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether it has its volume. Until then the scheduler and the provisioner write to it.
    pub bound: bool,
    /// The Kubernetes node that its volume is tied to by the volume's own word: its name, or its label as in `key=value`.
    pub machine: Option<String>,
}

/// Whose data a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimOwner {
    /// The cluster.
    pub cluster_id: Hex128,
    /// The member.
    pub member_id: u64,
    /// The data directory.
    pub incarnation: Hex128,
}

/// A pod and the node in it.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSeen {
    /// Fences writes.
    pub uid: String,
    /// Fences writes.
    pub resource_version: String,
    /// Whether it was made from an older template. Meaningful only while [`Set::settled`].
    pub outdated: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether the kubelet calls it ready.
    pub ready: bool,
    /// Its container.
    pub container: Container,
    /// Its Kubernetes node.
    pub machine: Option<String>,
    /// Whether its eviction can be asked for.
    pub eviction: Eviction,
    /// What the node in it says.
    pub node: NodeSeen,
}

/// What became of the requests to evict a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// None was refused lately.
    #[default]
    Possible,
    /// A disruption budget had no room a moment ago.
    Refused,
    /// Disruption budgets have had no room for a minute, or the API server cannot evict it.
    GivenUp,
}

/// The container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// The scheduler found no place for the pod, with the scheduler's words.
    Unscheduled(String),
    /// It is being made.
    Starting,
    /// It cannot start, or keeps ending, with the reason and the message.
    Failing(String),
    /// It runs.
    Running,
}

/// What a node says.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeSeen {
    /// It does not answer, for this reason.
    Unreachable(String),
    /// Its status.
    Answered(Box<Status>),
}

/// A Kubernetes node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// It could not be looked up, or the operator may not look it up.
    Unknown,
    /// It is there.
    Present,
    /// A person or a controller vouches that it is off, by the taint `node.kubernetes.io/out-of-service`.
    OutOfService,
    /// Its Node object is gone.
    Gone,
}

impl Machine {
    /// Whether it is certain that nothing runs there.
    pub fn is_gone_for_good(self) -> bool {
        match self {
            Machine::OutOfService | Machine::Gone => true,
            Machine::Unknown | Machine::Present => false,
        }
    }
}

//! What a user asks for. Doc comments here are what `kubectl explain` prints, so they speak to users.

use crate::quantity::{BYTES_PATTERN, Quantity};
use crate::status::RaftKvClusterStatus;
use k8s_openapi::api::core::v1::Toleration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A name of an object: labels of lower-case letters, digits and `-`, with dots between them.
const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The key of a label: an optional domain, `/` and a name of at most 63 characters.
const LABEL_KEY: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// The value of a label, which may be empty.
const LABEL_VALUE: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// A replicated key-value store: as many pods as `replicas`, which agree on every write.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "raftkv.dev",
    version = "v1alpha1",
    kind = "RaftKvCluster",
    namespaced,
    status = "RaftKvClusterStatus",
    derive = "PartialEq",
    shortname = "rkv",
    doc = "A replicated key-value store that Kubernetes runs: `replicas` pods that agree on every write by Raft.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready", description = "Ready members of the members asked for"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader.name", description = "The pod that leads"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "The oldest version that a member runs"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.summary", description = "What is happening, in a word"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since when it exists"),
    printcolumn(name = "Voters", type_ = "integer", json_path = ".status.voters", priority = 1, description = "Members that vote"),
    printcolumn(name = "Quorum", type_ = "integer", json_path = ".status.quorum", priority = 1, description = "Voters that must agree"),
    printcolumn(name = "Cluster-Id", type_ = "string", json_path = ".status.clusterID", priority = 1, description = "The id on the disks"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "What is waited for"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40")
        .message("metadata.name must be at most 40 lower-case letters, digits and '-', begin with a letter and end with a letter or digit: pods and Services carry it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.storage == oldSelf.storage")
    .message("spec.storage cannot be changed: the volumes exist. Make a new cluster with the storage that you want and copy the data with raftkvctl export and import"))]
pub struct RaftKvClusterSpec {
    /// How many members the cluster has. Odd numbers are best: 4 members survive no more failures than 3.
    #[serde(default = "replicas")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// The container image of the members. Without it, the one that the operator was installed with; then an upgrade of the
    /// operator also rolls the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// Secrets in this namespace with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<SecretName>,
    /// The volume of each member. It cannot be changed later.
    #[serde(default)]
    pub storage: Storage,
    /// CPU and memory of each member.
    #[serde(default)]
    pub resources: Resources,
    /// How members are spread, so that one failure takes one member.
    #[serde(default)]
    pub topology: Topology,
    /// Further properties of the pods.
    #[serde(default)]
    pub pod: Pod,
    /// How many members may be drained away at a time.
    #[serde(default)]
    pub pod_disruption_budget: DisruptionBudget,
    /// Settings of the store. A change rolls the members, one at a time.
    #[serde(default)]
    pub config: Config,
    /// Leave this cluster alone: nothing is changed until it is false again; the status stays up to date.
    #[serde(default)]
    pub paused: bool,
    /// Run no pods; keep the volumes and the membership. Setting it back to false brings the same cluster back.
    #[serde(default)]
    pub suspend: bool,
    /// Seconds without a step forward after which a change is reported as stuck (it is still tried).
    #[serde(default = "progress_deadline_seconds")]
    #[schemars(range(min = 30, max = 86_400))]
    pub progress_deadline_seconds: i32,
    /// Seconds for which a member must be silent before it is given up together with its machine. That happens only if the
    /// machine is gone by the word of Kubernetes and the volume cannot leave it.
    #[serde(default = "lost_node_seconds")]
    #[schemars(range(min = 60, max = 86_400))]
    pub lost_node_seconds: i32,
}

fn replicas() -> i32 {
    3
}

fn progress_deadline_seconds() -> i32 {
    600
}

fn lost_node_seconds() -> i32 {
    300
}

/// When an image is pulled.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// When it is not on the machine yet.
    #[default]
    IfNotPresent,
    /// At every start.
    Always,
    /// Never: it must be there.
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Always => "Always",
            PullPolicy::Never => "Never",
        }
    }
}

/// A Secret in the cluster's namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
}

/// The volume of each member.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("quantity(string(self.size)).compareTo(quantity('1Gi')) >= 0")
    .message("spec.storage.size must be at least 1Gi: the log alone keeps three segments of 64 MiB, and puts are refused below 256 MiB of free space"))]
pub struct Storage {
    /// Its size, at least 1Gi.
    #[serde(default = "storage_size")]
    pub size: Quantity,
    /// Its StorageClass. Without it, the default one of the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub storage_class_name: Option<String>,
}

fn storage_size() -> Quantity {
    Quantity("10Gi".to_string())
}

impl Default for Storage {
    fn default() -> Self {
        Storage { size: storage_size(), storage_class_name: None }
    }
}

/// CPU and memory of each member.
// The amounts are named: the API server's estimate of what a rule costs takes each for 3 MiB, and so refuses a rule that
// looks at all values of a map.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.requests) || !has(self.limits) || !('cpu' in self.requests) || !('cpu' in self.limits) || quantity(string(self.requests['cpu'])).compareTo(quantity(string(self.limits['cpu']))) <= 0")
    .message("spec.resources.requests.cpu is more than spec.resources.limits.cpu"))]
#[x_kube(validation = Rule::new("!has(self.requests) || !has(self.limits) || !('memory' in self.requests) || !('memory' in self.limits) || quantity(string(self.requests['memory'])).compareTo(quantity(string(self.limits['memory']))) <= 0")
    .message("spec.resources.requests.memory is more than spec.resources.limits.memory"))]
pub struct Resources {
    /// What the scheduler keeps free for it: `cpu`, `memory`. Not more than `limits`.
    #[serde(default = "requests")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(key, key in ['cpu', 'memory', 'ephemeral-storage'] || key.startsWith('hugepages-') || key.contains('/'))")
        .message("a resource is cpu, memory, ephemeral-storage, hugepages-<size> or one with a domain, as in example.com/disk"))]
    pub requests: BTreeMap<String, Quantity>,
    /// What it may use at most: `cpu`, `memory`. None by default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(key, key in ['cpu', 'memory', 'ephemeral-storage'] || key.startsWith('hugepages-') || key.contains('/'))")
        .message("a resource is cpu, memory, ephemeral-storage, hugepages-<size> or one with a domain, as in example.com/disk"))]
    pub limits: BTreeMap<String, Quantity>,
}

fn requests() -> BTreeMap<String, Quantity> {
    let amounts = [("cpu", "100m"), ("memory", "256Mi")];
    amounts.map(|(name, amount)| (name.to_string(), Quantity(amount.to_string()))).into()
}

impl Default for Resources {
    fn default() -> Self {
        Resources { requests: requests(), limits: BTreeMap::new() }
    }
}

/// Whether members share a place.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spread {
    /// Apart where there is room, together where there is not.
    #[default]
    Preferred,
    /// Never together: a member without a place of its own waits.
    Required,
    /// As the scheduler likes.
    Off,
}

/// How members are spread.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// Whether members may share a place.
    #[serde(default)]
    pub spread: Spread,
    /// What a place is: a label of Kubernetes nodes, such as `kubernetes.io/hostname` or `topology.kubernetes.io/zone`.
    #[serde(default = "topology_key")]
    #[schemars(length(min = 1, max = 316), regex(pattern = LABEL_KEY))]
    pub topology_key: String,
}

fn topology_key() -> String {
    "kubernetes.io/hostname".to_string()
}

impl Default for Topology {
    fn default() -> Self {
        Topology { spread: Spread::default(), topology_key: topology_key() }
    }
}

/// Further properties of the pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Further labels. Those of the operator win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE}))]
    #[x_kube(validation = Rule::new("self.all(key, key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && key.indexOf('/') <= 253)")
        .message("a label's key is a name of at most 63 letters, digits, '-', '_' and '.', which begins and ends with a letter or digit; before it may stand a domain and '/'"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 8192}))]
    #[x_kube(validation = Rule::new("self.all(key, key.matches('^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && key.indexOf('/') <= 253)")
        .message("an annotation's key is a name of at most 63 letters, digits, '-', '_' and '.', which begins and ends with a letter or digit; before it may stand a domain and '/'"))]
    pub annotations: BTreeMap<String, String>,
    /// Only Kubernetes nodes with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE}))]
    #[x_kube(validation = Rule::new("self.all(key, key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && key.indexOf('/') <= 253)")
        .message("a label's key is a name of at most 63 letters, digits, '-', '_' and '.', which begins and ends with a letter or digit; before it may stand a domain and '/'"))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of Kubernetes nodes that the pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// The pods' PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub priority_class_name: Option<String>,
}

/// How many members may be drained away at a time.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisruptionBudget {
    /// As many as leave a quorum. With one or two members one may always go, since otherwise no machine could be drained;
    /// the cluster is then without service until it is back.
    #[default]
    Quorum,
    /// A quorum stays, whatever the size: with one or two members none may be drained away.
    Strict,
}

/// Settings of the store.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.quota) || quantity(string(self.quota)).compareTo(quantity('4Mi')) >= 0")
    .message("spec.config.quota must be at least 4Mi: it must hold the largest value and its history"))]
#[x_kube(validation = Rule::new("!has(self.quota) || quantity(string(self.quota)).compareTo(quantity('1024Ti')) <= 0")
    .message("spec.config.quota must be at most 1024Ti"))]
pub struct Config {
    /// Largest database, as in `8Gi` or `1.5Gi`, from 4Mi to 1024Ti; puts are refused above it. 8Gi without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = BYTES_PATTERN))]
    pub quota: Option<Quantity>,
    /// How much history to keep, as in `1h` or `7d`, at least 1s, or `off` to keep all of it, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^(off|[1-9][0-9]{0,8}(s|m|h|d))$"))]
    pub compact_retention: Option<String>,
    /// What is logged: `info`, or a filter such as `info,raft=debug`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub log: Option<String>,
}

//! What the operator reports. Each pass derives all of it from the world again, except the latches `clusterID`,
//! `bootstrap` and `bootstrapped`. Nothing in it changes with traffic (rule O21).
//!
//! Programs of several versions read it. A field that one of them does not know is skipped; one that is missing in the
//! leader, a member or a pod gets its default. The schema still requires these fields (`!default`), since the operator
//! writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a cluster.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RaftKvClusterStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The `metadata.generation` whose spec the cluster runs with. It stays behind while a newer spec is invalid or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_in_force: Option<i64>,
    /// The id that the members' disks carry; made once.
    #[serde(rename = "clusterID", default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The one data directory that may be told to form the cluster; written before it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// The cluster was formed. Never cleared; from then on nothing can form it again.
    #[serde(default)]
    pub bootstrapped: bool,
    /// Pods that there are.
    #[serde(default)]
    pub replicas: i32,
    /// Members that vote and can read linearizably.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Ready members and members asked for, as in `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Label selector of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Members that vote.
    #[serde(default)]
    pub voters: i32,
    /// Members that receive the data and do not vote yet.
    #[serde(default)]
    pub learners: i32,
    /// Voters that must agree.
    #[serde(default)]
    pub quorum: i32,
    /// The member that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
    /// The oldest version that a member runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The image that all members shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What is happening, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What is waited for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The members, by id. During a replacement two of them have one name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub members: Vec<MemberStatus>,
    /// Pods that are no member: not yet, or not any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pods: Vec<PodStatus>,
    /// The one change that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Everything that is waited for, by the task that waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitStatus>,
    /// `Ready`, `Available`, `Progressing`, `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The one data directory that may be told to form the cluster.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The id that the cluster gets.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// The data directory.
    pub incarnation: String,
}

/// The member that leads.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct Leader {
    /// Its pod.
    pub name: String,
    /// Its member id.
    #[serde(rename = "memberID")]
    pub member_id: String,
}

/// One member.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct MemberStatus {
    /// Its id, never used again; a string, since it has 64 bits.
    pub id: String,
    /// Its pod.
    pub name: String,
    /// Its data directory.
    pub incarnation: String,
    /// `Leader`, `Voter`, `Learner` or `Outgoing`.
    pub role: String,
    /// What its node says of itself (`Voter`, `Opening`, `Blank`, ...), or `Unreachable`.
    pub state: String,
    /// Whether it votes and can read linearizably.
    pub ready: bool,
    /// Whether it has, but for a moment's worth, all that the leader has.
    pub caught_up: bool,
    /// The version that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The Kubernetes node of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its volume claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
}

/// A pod that is no member.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct PodStatus {
    /// Its name.
    pub name: String,
    /// What its node says of itself, or why it does not run.
    pub state: String,
    /// What is wrong with it, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its Kubernetes node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Kinds of changes.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OperationKind {
    /// The first member is made.
    Bootstrap,
    /// Retained volumes become this cluster's.
    Adopt,
    /// A member is added.
    ScaleUp,
    /// A member is removed.
    ScaleDown,
    /// A member that lost its disk is replaced.
    Replace,
    /// Pods are restarted with a new template.
    Roll,
}

/// The one change that is under way.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What kind of change.
    pub kind: OperationKind,
    /// The step, as in `WaitForCatchUp`.
    pub step: String,
    /// The member or pod that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// When this step began, RFC 3339.
    pub since: String,
}

/// What one task waits for.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct WaitStatus {
    /// The task, as in `Repair`, `Down`, `Up` or `Roll`.
    pub task: String,
    /// The fact that it waits for: `Leader`, `Joint`, `Kube`, `Start`, `Margin`, `CatchUp`, `Report`, `Clock`, `Space` or
    /// `Person`.
    pub on: String,
    /// The member or pod that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Since when it waits, RFC 3339.
    pub since: String,
}

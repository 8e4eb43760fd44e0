//! The `RaftKvCluster` custom resource: what a user asks for (`spec`), what the operator reports (`status`), and the
//! words that both share (labels, annotations, condition reasons).
//!
//! ```text
//!   spec ─┐
//!         ├─ RaftKvCluster ── crd() ──► crds/raftkvcluster.yaml    what the API server checks and `kubectl explain` shows
//! status ─┘                     └────► docs/api.md                 the same for people, by reference.rs
//! ```
//!
//! The API server refuses what the schema and its CEL rules can see. There is no webhook.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod names;
mod quantity;
mod reason;
mod reference;
mod schema;
mod spec;
mod status;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
pub use names::{CLUSTERS, annotation, child, label};
pub use quantity::{ParseQuantityError, Quantity};
pub use reason::{ConditionType, Reason};
pub use reference::api_reference;
pub use schema::{crd, crd_yaml};
pub use spec::{
    Config, DisruptionBudget, Pod, PullPolicy, RaftKvCluster, RaftKvClusterSpec, Resources, SecretName, Spread,
    Storage, Topology,
};
pub use status::{
    Bootstrap, Leader, MemberStatus, Operation, OperationKind, PodStatus, RaftKvClusterStatus, WaitStatus,
};

//! What was read of a cluster: the objects of Kubernetes, and what the nodes say of themselves. PURE.
//!
//! Each part may be missing, and then says why: a user with few rights and a cluster without quorum get a screen as well.

use crate::kube::cluster::Cluster;
use crate::kube::context::Flags;
use crate::kube::objects::{Claim, Deployment, Event, Pod};
use jiff::Timestamp;
use raftkv_api::Members;
use raftkv_client::admin::NodeStatus;

/// Everything that was read, and how a command is written that reads the same cluster.
pub(crate) struct Seen {
    pub now: Timestamp,
    pub flags: Flags,
    pub cluster: Cluster,
    pub pods: Part<Vec<Pod>>,
    pub claims: Part<Vec<Claim>>,
    pub events: Part<Vec<Event>>,
    pub operators: Part<Vec<Deployment>>,
    pub nodes: Nodes,
}

/// Something that was read, or why it could not be.
pub(crate) type Part<T> = Result<T, String>;

/// What the nodes say.
pub(crate) enum Nodes {
    /// They could not be asked: why.
    NotAsked(String),
    /// Each with its pod as the URL; and the membership, if a node could read it, which takes a majority.
    Asked(Vec<NodeStatus>, Option<Members>),
}

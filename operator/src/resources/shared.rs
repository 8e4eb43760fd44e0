//! What all children of a cluster share: names, ports, labels, the owner; and how the operator was installed. PURE.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use raftkv_crds::{PullPolicy, RaftKvCluster, child, label};
use std::collections::BTreeMap;

/// Port of the clients.
pub const CLIENT_PORT: u16 = 2379;
/// Port of the peers.
pub const PEER_PORT: u16 = 2380;
/// Port of administration, health and metrics.
pub const ADMIN_PORT: u16 = 2381;
/// The container of a member.
pub const CONTAINER: &str = "raftkv";

/// How the operator was installed, as far as the children and the reads depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of clusters that name none.
    pub node_image: String,
    /// When that image is pulled.
    pub node_image_pull_policy: PullPolicy,
    /// The DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
    /// Whether cluster-scoped objects (Nodes, PersistentVolumes) may be read.
    pub cluster_reads: bool,
}

/// The name of a cluster; the API server gives every object one.
pub fn name(cluster: &RaftKvCluster) -> &str {
    cluster.metadata.name.as_deref().unwrap_or_default()
}

/// The namespace of a cluster.
pub fn namespace(cluster: &RaftKvCluster) -> &str {
    cluster.metadata.namespace.as_deref().unwrap_or_default()
}

/// What follows a pod's name in its DNS name.
pub fn peer_domain(cluster: &RaftKvCluster, settings: &Settings) -> String {
    format!("{}.{}.svc.{}", child::peers(name(cluster)), namespace(cluster), settings.cluster_domain)
}

/// The image of the members.
pub(super) fn image<'a>(cluster: &'a RaftKvCluster, settings: &'a Settings) -> &'a str {
    cluster.spec.image.as_deref().unwrap_or(&settings.node_image)
}

/// The one label that selectors use (rules O11, O18).
pub(super) fn selector_labels(cluster: &RaftKvCluster) -> BTreeMap<String, String> {
    [(label::CLUSTER.to_string(), name(cluster).to_string())].into()
}

pub(super) fn selector(cluster: &RaftKvCluster) -> LabelSelector {
    LabelSelector { match_labels: Some(selector_labels(cluster)), ..LabelSelector::default() }
}

/// The labels of every child.
pub(super) fn labels(cluster: &RaftKvCluster) -> BTreeMap<String, String> {
    let recommended = [
        (label::NAME, label::NAME_VALUE),
        (label::INSTANCE, name(cluster)),
        (label::MANAGED_BY, label::MANAGED_BY_VALUE),
    ];
    let recommended = recommended.map(|(key, value)| (key.to_string(), value.to_string()));
    recommended.into_iter().chain(selector_labels(cluster)).collect()
}

/// The child is deleted with the cluster, and nothing else controls it.
fn owner(cluster: &RaftKvCluster) -> OwnerReference {
    OwnerReference {
        api_version: RaftKvCluster::api_version(&()).into_owned(),
        kind: RaftKvCluster::kind(&()).into_owned(),
        name: name(cluster).to_string(),
        uid: cluster.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub(super) fn metadata(cluster: &RaftKvCluster, child: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(child.to_string()),
        namespace: Some(namespace(cluster).to_string()),
        labels: Some(labels(cluster)),
        owner_references: Some(vec![owner(cluster)]),
        ..ObjectMeta::default()
    }
}

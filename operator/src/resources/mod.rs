//! The children of a cluster as they should be. What enters is the `RaftKvCluster` and how the operator was installed; what
//! leaves are objects, and whether a live object differs from them. PURE.
//!
//! # How they are written
//! A child is made by POST and changed by a JSON merge patch, [`patch`], which carries uid and resourceVersion. Server-side
//! apply would not do: fields that the POST wrote belong to an `Update` of our field manager for ever, so that an `Apply`
//! which leaves one out does not remove it (a `nodeSelector` that a user takes out of the spec would stay). The StatefulSet
//! carries a hash of all that we set ([`APPLIED`]), so that [`differs`] sees a field that we stopped setting.

mod budget;
mod compare;
mod desired;
mod patch;
mod pod;
mod secret;
mod services;
mod stateful_set;
#[cfg(test)]
mod tests;

pub use budget::disruption_budget;
pub use compare::differs;
pub use desired::desired;
pub use patch::patch;
pub use secret::{auth_secret, token_of};
pub use services::{client_service, peers_service};
pub use stateful_set::{APPLIED, pod_selector, set_differs, set_patch, stateful_set};

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

/// How the operator was installed, as far as it shows in children or in what may be read.
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

/// The one label that selectors use (rules O11, O18).
fn selector_labels(cluster: &RaftKvCluster) -> BTreeMap<String, String> {
    [(label::CLUSTER.to_string(), name(cluster).to_string())].into()
}

fn selector(cluster: &RaftKvCluster) -> LabelSelector {
    LabelSelector { match_labels: Some(selector_labels(cluster)), ..LabelSelector::default() }
}

/// The labels of every child.
fn labels(cluster: &RaftKvCluster) -> BTreeMap<String, String> {
    let recommended = [
        (label::NAME, label::NAME_VALUE),
        (label::INSTANCE, name(cluster)),
        (label::MANAGED_BY, label::MANAGED_BY_VALUE),
    ];
    let recommended = recommended.map(|(key, value)| (key.to_string(), value.to_string()));
    recommended.into_iter().chain(selector_labels(cluster)).collect()
}

/// The child goes with the cluster; nothing else controls it.
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

fn metadata(cluster: &RaftKvCluster, child: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(child.to_string()),
        namespace: Some(namespace(cluster).to_string()),
        labels: Some(labels(cluster)),
        owner_references: Some(vec![owner(cluster)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A cluster as the API server gives it, an installation, and golden files.
    use super::*;
    use serde_json::{Value, json};
    use std::path::Path;

    /// The cluster `demo` in `team`, with this spec.
    pub(crate) fn cluster(spec: Value) -> RaftKvCluster {
        let object = json!({
            "apiVersion": "raftkv.dev/v1alpha1", "kind": "RaftKvCluster",
            "metadata": {"name": "demo", "namespace": "team", "uid": "11111111-2222-3333-4444-555555555555", "generation": 3},
            "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    /// As the chart installs it.
    pub(crate) fn settings() -> Settings {
        Settings {
            node_image: "raftkv.local/raftkv:dev".to_string(),
            node_image_pull_policy: PullPolicy::IfNotPresent,
            cluster_domain: "cluster.local".to_string(),
            cluster_reads: true,
        }
    }

    /// Compares with a file below `golden/`; UPDATE_GOLDENFILES=1 writes it.
    pub(crate) fn golden(file: &str, head: &str, value: &impl serde::Serialize) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
        let text = format!("{head}{}", serde_yaml::to_string(value).unwrap());
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, expected, "{} differs: look at it, then UPDATE_GOLDENFILES=1", path.display());
    }
}

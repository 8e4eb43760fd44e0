//! The newest spec that validated and that the API server took (rule O31). PURE.
//!
//! It is kept as an annotation of the StatefulSet, written in the same patch as the template that was made from it, so
//! that the two cannot differ. While a newer spec is invalid or its StatefulSet is refused, everything is made from this
//! one: the cluster stays as it was, and is repaired like any other.

use k8s_openapi::api::apps::v1::StatefulSet;
use raftkv_crds::{RaftKvCluster, RaftKvClusterSpec, annotation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A spec, and the `metadata.generation` that brought it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    /// The generation.
    pub generation: i64,
    /// The spec. What is read from the newest spec in any case is not in it.
    pub spec: RaftKvClusterSpec,
}

impl InForce {
    /// Of a cluster as it is asked for.
    pub(super) fn of(cluster: &RaftKvCluster) -> InForce {
        let spec = RaftKvClusterSpec { paused: false, suspend: false, ..cluster.spec.clone() };
        InForce { generation: cluster.metadata.generation.unwrap_or_default(), spec }
    }

    /// The one that a StatefulSet carries. One that cannot be read is none: it is written anew with the next good spec.
    pub(super) fn read(set: &StatefulSet) -> Option<InForce> {
        let annotations = set.metadata.annotations.as_ref()?;
        serde_json::from_str(annotations.get(annotation::IN_FORCE)?).ok()
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("a spec is plain data")
    }
}

/// Two objects with the same spec in force are the same, whichever generation brought it.
pub(super) fn without_generation(object: &mut Value) {
    let Some(annotations) = object["metadata"]["annotations"].as_object_mut() else { return };
    let Some(text) = annotations.get_mut(annotation::IN_FORCE) else { return };
    let read = text.as_str().and_then(|text| serde_json::from_str::<InForce>(text).ok());
    if let Some(in_force) = read {
        *text = json!(in_force.spec).to_string().into();
    }
}

//! What the children are made from: the newest spec, or the one in force while the newest cannot come into force
//! (rule O31). PURE.

use super::in_force::InForce;
use super::invalid::invalid;
use super::shared::Settings;
use super::stateful_set::set_wanted;
use k8s_openapi::api::apps::v1::StatefulSet;
use raftkv_crds::{RaftKvCluster, RaftKvClusterSpec};

/// Longest annotation. All annotations of an object together must have less than 256 KiB.
const BYTES_MAX: usize = 64 * 1024;

/// What the children are made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The cluster with the spec in force, or with the newest one, which is to come into force.
    pub cluster: RaftKvCluster,
    /// Whether the StatefulSet is to keep its template, since the newest spec cannot come into force now.
    pub keeps: bool,
    /// The generation whose spec is in force; `None` when that is not known.
    pub generation_in_force: Option<i64>,
    /// Why the newest spec is invalid, if it is.
    pub invalid: Option<String>,
}

impl Asked {
    /// `held_back` says whether a StatefulSet with this hash is not to be written now, because it was refused or failed.
    pub fn of(
        cluster: &RaftKvCluster,
        settings: &Settings,
        set: Option<&StatefulSet>,
        held_back: impl FnOnce(&str) -> bool,
    ) -> Asked {
        let (newest, last) = (InForce::of(cluster), set.and_then(InForce::read));
        let is_in_force = last.as_ref().is_some_and(|last| last.spec == newest.spec);
        let invalid = invalid(cluster).or_else(|| too_long(&newest));
        let keeps = set.is_some() && (invalid.is_some() || held_back(&set_wanted(cluster, settings).hash));
        let generation_in_force =
            if is_in_force { Some(newest.generation) } else { last.as_ref().map(|last| last.generation) };
        let spec = if keeps { last.map_or_else(|| unknown(&newest, set), |last| last.spec) } else { newest.spec };
        let spec = RaftKvClusterSpec { paused: cluster.spec.paused, suspend: cluster.spec.suspend, ..spec };
        Asked { cluster: RaftKvCluster { spec, ..cluster.clone() }, keeps, generation_in_force, invalid }
    }
}

/// The spec in force is not known: an older operator made the StatefulSet. Its template is kept, and so is its size.
fn unknown(newest: &InForce, set: Option<&StatefulSet>) -> RaftKvClusterSpec {
    let replicas = set.and_then(|set| set.spec.replicas).filter(|replicas| *replicas > 0);
    RaftKvClusterSpec { replicas: replicas.unwrap_or(newest.spec.replicas), ..newest.spec.clone() }
}

fn too_long(newest: &InForce) -> Option<String> {
    let bytes = newest.text().len();
    (bytes > BYTES_MAX).then(|| {
        format!(
            "spec has {bytes} bytes as JSON, and {BYTES_MAX} are the most that can be kept: shorten pod.annotations"
        )
    })
}

//! The volume claims with a cluster's names, as they were seen (rules O2, O4). PURE.

use crate::plan::{ClaimOwner, ClaimSeen, Ordinal};
use crate::resources::name;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use raftkv_crds::{RaftKvCluster, annotation, child, label};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The labels by which a volume is tied to one machine. A zone is none: all its machines may go away and come back with
/// the volume.
const MACHINE_LABELS: [&str; 3] = ["kubernetes.io/hostname", "topology.topolvm.io/node", "openebs.io/nodename"];
/// The field of a Node by which a volume may be tied to one machine instead.
const NODE_NAME: &str = "metadata.name";

/// Claims by ordinal. The machines that they are tied to are looked up elsewhere.
pub(super) fn claims(cluster: &RaftKvCluster, claims: &[Arc<PersistentVolumeClaim>]) -> BTreeMap<Ordinal, ClaimSeen> {
    claims.iter().filter_map(|claim| Some((ordinal(cluster, claim)?, seen(cluster, claim)))).collect()
}

pub(super) fn ordinal(cluster: &RaftKvCluster, claim: &PersistentVolumeClaim) -> Option<Ordinal> {
    let claim = claim.metadata.name.as_deref()?;
    child::ordinal(claim, name(cluster)).filter(|ordinal| child::claim(name(cluster), *ordinal) == claim)
}

/// Whether the watches do not see it, because somebody made it without the label or removed the label.
pub(super) fn is_unlabelled(cluster: &RaftKvCluster, claim: &PersistentVolumeClaim) -> bool {
    claim.labels().get(label::CLUSTER).is_none_or(|of| of != name(cluster))
}

fn seen(cluster: &RaftKvCluster, claim: &PersistentVolumeClaim) -> ClaimSeen {
    ClaimSeen {
        by_set: !is_unlabelled(cluster, claim),
        uid: claim.uid().unwrap_or_default(),
        resource_version: claim.resource_version().unwrap_or_default(),
        created: claim.creation_timestamp().map(|time| time.0).unwrap_or_default(),
        cluster_uid: claim.labels().get(label::CLUSTER_UID).cloned(),
        owner: owner(claim),
        terminating: claim.metadata.deletion_timestamp.is_some(),
        bound: volume(claim).is_some(),
        machine: None,
    }
}

/// Whose data it holds, by all three annotations. If one is missing it is not known, and the claim is never deleted.
fn owner(claim: &PersistentVolumeClaim) -> Option<ClaimOwner> {
    let of = |key: &str| claim.annotations().get(key);
    Some(ClaimOwner {
        cluster_id: of(annotation::CLUSTER_ID)?.parse().ok()?,
        member_id: of(annotation::MEMBER_ID)?.parse().ok()?,
        incarnation: of(annotation::INCARNATION)?.parse().ok()?,
    })
}

/// The name of the claim's volume, once it has one.
pub(super) fn volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// The machine that a volume cannot leave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tie {
    /// The Node of this name.
    Name(String),
    /// The Nodes with this label; there is one.
    Label {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
}

impl Tie {
    /// By which it is found in [`crate::plan::Observed::machines`], and shown to people.
    pub fn text(&self) -> String {
        match self {
            Tie::Name(name) => name.clone(),
            Tie::Label { key, value } => format!("{key}={value}"),
        }
    }
}

/// What a volume is tied to, by its own required node affinity: one term, of one machine. A volume that is reached over
/// the network outlives any machine, and giving it up together with a machine would throw good data away.
pub(super) fn tied_to(volume: &PersistentVolume) -> Option<Tie> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let [term] = affinity.node_selector_terms.as_slice() else { return None };
    let one = |key: &str, operator: &str, values: &Option<Vec<String>>| match values.as_deref() {
        Some([value]) if operator == "In" => Some((key.to_string(), value.clone())),
        Some(_) | None => None,
    };
    let mut fields = term.match_fields.iter().flatten().filter(|field| field.key == NODE_NAME);
    if let Some((_, name)) = fields.find_map(|field| one(&field.key, &field.operator, &field.values)) {
        return Some(Tie::Name(name));
    }
    let labels = term.match_expressions.iter().flatten();
    let mut labels = labels.filter(|label| MACHINE_LABELS.contains(&label.key.as_str()));
    let (key, value) = labels.find_map(|label| one(&label.key, &label.operator, &label.values))?;
    Some(Tie::Label { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::cluster;
    use raftkv_api::Hex128;
    use serde_json::{Value, json};

    fn claim(name: &str, metadata: Value) -> Arc<PersistentVolumeClaim> {
        let mut object = json!({"metadata": {"name": name, "uid": "u", "resourceVersion": "3", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn read(metadata: Value) -> ClaimSeen {
        claims(&cluster(json!({})), &[claim("raftkv-demo-1", metadata)]).remove(&1).unwrap()
    }

    #[test]
    fn rule_o4_whose_data_a_claim_holds_is_known_from_three_annotations_or_not_at_all() {
        let (id, incarnation) = (Hex128([7; 16]), Hex128([1; 16]));
        let all =
            json!({"raftkv.dev/cluster-id": id, "raftkv.dev/member-id": "7", "raftkv.dev/incarnation": incarnation});
        let owner = |annotations: &Value| read(json!({"annotations": annotations})).owner;
        assert_eq!(owner(&all), Some(ClaimOwner { cluster_id: id, member_id: 7, incarnation }));
        for key in ["raftkv.dev/cluster-id", "raftkv.dev/member-id", "raftkv.dev/incarnation"] {
            let mut without = all.clone();
            without.as_object_mut().unwrap().remove(key);
            assert_eq!(owner(&without), None, "{key}");
            without[key] = json!("broken");
            assert_eq!(owner(&without), None, "{key}");
        }
    }

    #[test]
    fn a_claim_says_which_cluster_made_it() {
        assert_eq!(read(json!({})).cluster_uid, None);
        let labelled =
            read(json!({"labels": {"raftkv.dev/cluster-uid": "x"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!((labelled.cluster_uid.as_deref(), labelled.terminating), (Some("x"), true));
        assert!(is_unlabelled(&cluster(json!({})), &claim("raftkv-demo-1", json!({}))));
        assert!(!is_unlabelled(
            &cluster(json!({})),
            &claim("raftkv-demo-1", json!({"labels": {"raftkv.dev/cluster": "demo"}}))
        ));
    }

    #[test]
    fn claims_of_other_names_are_not_this_clusters() {
        for name in ["raftkv-other-1", "data-demo-1", "demo-1", "raftkv-demo-01"] {
            assert!(claims(&cluster(json!({})), &[claim(name, json!({}))]).is_empty(), "{name}");
        }
    }

    #[test]
    fn rule_o13_only_a_volume_that_cannot_leave_its_machine_is_tied_to_it() {
        let tied = |terms: Value| {
            let volume = json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}});
            tied_to(&serde_json::from_value(volume).unwrap()).map(|tie| tie.text())
        };
        let label = |key: &str, operator: &str, hosts: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": hosts}]});
        let hostname = "kubernetes.io/hostname";
        for key in [hostname, "topology.topolvm.io/node", "openebs.io/nodename"] {
            assert_eq!(tied(json!([label(key, "In", json!(["host-1"]))])), Some(format!("{key}=host-1")));
        }
        let by_name = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["worker-2"]}]});
        assert_eq!(tied(json!([by_name])).as_deref(), Some("worker-2"));
        assert_eq!(tied(json!([label("topology.kubernetes.io/zone", "In", json!(["a"]))])), None);
        assert_eq!(tied(json!([label(hostname, "NotIn", json!(["host-1"]))])), None);
        assert_eq!(tied(json!([label(hostname, "In", json!(["host-1", "host-2"]))])), None);
        let two = json!([label(hostname, "In", json!(["a"])), label(hostname, "In", json!(["b"]))]);
        assert_eq!(tied(two), None);
        assert_eq!(tied_to(&PersistentVolume::default()), None);
    }
}

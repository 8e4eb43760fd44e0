//! Whose an object is (rule O14), and how each child was found. PURE.

use super::objects::Objects;
use crate::plan::{Child, ChildSeen};
use crate::resources::{client_service, differs, disruption_budget, name, peers_service};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};
use raftkv_client::Token;
use raftkv_crds::{RaftKvCluster, child};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// This cluster's.
    Ours,
    /// It is being deleted: by somebody, or because it belongs to an earlier cluster of this name.
    Leaving,
    /// Somebody else's: whose, in words.
    Taken(String),
}

pub(super) fn standing<K: Resource>(cluster: &RaftKvCluster, object: &K) -> Standing {
    if object.meta().deletion_timestamp.is_some() {
        return Standing::Leaving;
    }
    let Some(owner) = object.owner_references().iter().find(|owner| owner.controller == Some(true)) else {
        return Standing::Taken("nothing owns it".to_string());
    };
    if Some(&owner.uid) == cluster.metadata.uid.as_ref() {
        return Standing::Ours;
    }
    // There is only one cluster of a name at a time. Another uid is that of an earlier one, whose objects are being
    // collected.
    match is_cluster(owner) && owner.name == name(cluster) {
        true => Standing::Leaving,
        false => Standing::Taken(format!("{} {} owns it", owner.kind, owner.name)),
    }
}

fn is_cluster(owner: &OwnerReference) -> bool {
    let group = |version: &str| version.split('/').next().map(str::to_string);
    owner.kind == RaftKvCluster::kind(&()) && group(&owner.api_version).as_deref() == Some(&*RaftKvCluster::group(&()))
}

/// The children except the StatefulSet. The Secret was read separately.
pub(super) fn children(cluster: &RaftKvCluster, objects: &Objects, auth: ChildSeen) -> BTreeMap<Child, ChildSeen> {
    let budget = objects.budget.as_deref();
    // The number is set by a step of its own; only the rest is compared.
    let number = budget.and_then(min_available).unwrap_or_default();
    [
        (Child::Auth, auth),
        (Child::Peers, seen(cluster, objects.peers.as_deref(), &peers_service(cluster))),
        (Child::Client, seen(cluster, objects.client.as_deref(), &client_service(cluster))),
        (Child::Budget, seen(cluster, budget, &disruption_budget(cluster, number))),
    ]
    .into()
}

fn seen<K: Resource + Serialize>(cluster: &RaftKvCluster, live: Option<&K>, wanted: &K) -> ChildSeen {
    let Some(live) = live else { return ChildSeen::Absent };
    match standing(cluster, live) {
        Standing::Ours if differs(wanted, live) => ChildSeen::Differs,
        Standing::Ours => ChildSeen::Good,
        Standing::Leaving => ChildSeen::Leaving,
        Standing::Taken(whose) => ChildSeen::Taken(whose),
    }
}

/// How the Secret was found, and the token in it.
pub(super) fn auth(cluster: &RaftKvCluster, secret: Option<&Secret>) -> (ChildSeen, Option<Token>) {
    let Some(secret) = secret else { return (ChildSeen::Absent, None) };
    match standing(cluster, secret) {
        Standing::Ours => match crate::resources::token_of(secret) {
            Some(token) => (ChildSeen::Good, Some(token)),
            // Nodes may still run with the token that was there, so no other token is made.
            None => {
                (ChildSeen::Taken(format!("its key '{}' does not begin with 64 hex digits", child::TOKEN_KEY)), None)
            }
        },
        Standing::Leaving => (ChildSeen::Leaving, None),
        Standing::Taken(whose) => (ChildSeen::Taken(whose), None),
    }
}

/// `minAvailable` as a number of pods.
pub(super) fn min_available(budget: &PodDisruptionBudget) -> Option<u32> {
    match budget.spec.as_ref()?.min_available.as_ref()? {
        IntOrString::Int(number) => u32::try_from(*number).ok(),
        IntOrString::String(_) => None,
    }
}

/// `minAvailable` of this cluster's own budget.
pub(super) fn budget(cluster: &RaftKvCluster, budget: Option<&Arc<PodDisruptionBudget>>) -> Option<u32> {
    budget.filter(|budget| standing(cluster, &***budget) == Standing::Ours).and_then(|budget| min_available(budget))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::auth_secret;
    use crate::resources::testing::cluster;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    fn owned(owner: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "demo", "ownerReferences": [owner]}})).unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        let group = if kind == "RaftKvCluster" { "raftkv.dev/v1alpha1" } else { "apps/v1" };
        json!({"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": true})
    }

    #[test]
    fn rule_o14_only_the_controller_with_this_uid_makes_an_object_ours() {
        let cluster = cluster(json!({}));
        let uid = cluster.metadata.uid.clone().unwrap();
        let stand = |service: &Service| standing(&cluster, service);
        assert_eq!(stand(&owned(owner("RaftKvCluster", "demo", &uid))), Standing::Ours);
        assert_eq!(stand(&owned(owner("RaftKvCluster", "demo", "earlier"))), Standing::Leaving);
        let taken = |words: &str| Standing::Taken(words.to_string());
        assert_eq!(stand(&owned(owner("RaftKvCluster", "other", "x"))), taken("RaftKvCluster other owns it"));
        assert_eq!(stand(&owned(owner("Deployment", "demo", "x"))), taken("Deployment demo owns it"));
        assert_eq!(stand(&Service::default()), taken("nothing owns it"));
        let mut not_controller = owner("RaftKvCluster", "demo", &uid);
        not_controller["controller"] = json!(false);
        assert_eq!(stand(&owned(not_controller)), taken("nothing owns it"));
        let mut dying = owned(owner("RaftKvCluster", "demo", &uid));
        dying.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(stand(&dying), Standing::Leaving);
    }

    #[test]
    fn children_are_absent_good_or_differ() {
        let cluster = cluster(json!({}));
        let mut objects = Objects { budget: Some(Arc::new(disruption_budget(&cluster, 2))), ..Objects::default() };
        let mut peers = peers_service(&cluster);
        objects.client = Some(Arc::new(client_service(&cluster)));
        peers.spec.as_mut().unwrap().publish_not_ready_addresses = Some(false);
        objects.peers = Some(Arc::new(peers));
        let seen = children(&cluster, &objects, ChildSeen::Absent);
        let expected = [
            (Child::Auth, ChildSeen::Absent),
            (Child::Peers, ChildSeen::Differs),
            (Child::Client, ChildSeen::Good),
            (Child::Budget, ChildSeen::Good),
        ];
        assert_eq!(seen, expected.into());
        assert_eq!(budget(&cluster, objects.budget.as_ref()), Some(2));
    }

    #[test]
    fn a_budget_in_percent_differs_and_has_no_number() {
        let cluster = cluster(json!({}));
        let mut percent = disruption_budget(&cluster, 2);
        percent.spec.as_mut().unwrap().min_available = Some(IntOrString::String("50%".to_string()));
        let objects = Objects { budget: Some(Arc::new(percent)), ..Objects::default() };
        assert_eq!(children(&cluster, &objects, ChildSeen::Good)[&Child::Budget], ChildSeen::Differs);
        assert_eq!(budget(&cluster, objects.budget.as_ref()), None);
    }

    #[test]
    fn the_secret_is_good_with_a_token_and_is_never_written_over() {
        let cluster = cluster(json!({}));
        let mut secret = auth_secret(&cluster, &"ab".repeat(32));
        assert!(matches!(auth(&cluster, Some(&secret)), (ChildSeen::Good, Some(_))));
        secret.data = Some([("token".to_string(), ByteString(b"short".to_vec()))].into());
        assert!(matches!(auth(&cluster, Some(&secret)), (ChildSeen::Taken(_), None)));
        secret.metadata.owner_references = None;
        assert_eq!(auth(&cluster, Some(&secret)), (ChildSeen::Taken("nothing owns it".to_string()), None));
        assert_eq!(auth(&cluster, None), (ChildSeen::Absent, None));
    }
}

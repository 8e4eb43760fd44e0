//! Whose an object is (rule O14), and how each child was found. PURE.

use super::objects::Objects;
use super::writes::{Moment, Writes, what};
use crate::plan::{Child, ChildSeen};
use crate::resources::{
    Wanted, budget_wanted, client_service, disruption_budget, is_lost, name, peers_service, secret_wanted, tokens_of,
};
use k8s_openapi::api::core::v1::{Secret, Service};
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
pub(super) fn children(
    cluster: &RaftKvCluster,
    objects: &Objects,
    auth: ChildSeen,
    writes: &mut Writes,
    now: Moment,
) -> BTreeMap<Child, ChildSeen> {
    let budget = objects.budget.as_deref();
    // The number is set by a step of its own; only the rest is compared. What became of the step for another number is
    // not forgotten here.
    let number = budget.and_then(min_available).unwrap_or_default();
    let wanted = budget_wanted(&disruption_budget(cluster, number));
    let is_due =
        |live: &PodDisruptionBudget| writes.is_due(&what::<PodDisruptionBudget>(name(cluster)), &wanted, live, now);
    let budget = found(cluster, budget, is_due);
    let mut service = |live: Option<&Service>, wanted: Service| {
        let wanted_is = Wanted::of(&wanted);
        found(cluster, live, |live| is_due_or_rests(writes, &wanted.name_any(), &wanted_is, live, now))
    };
    [
        (Child::Auth, auth),
        (Child::Peers, service(objects.peers.as_deref(), peers_service(cluster))),
        (Child::Client, service(objects.client.as_deref(), client_service(cluster))),
        (Child::Budget, budget),
    ]
    .into()
}

/// Whether it is to be written. What went wrong with it is forgotten once it is as it should be.
fn is_due_or_rests<K>(writes: &mut Writes, name: &str, wanted: &Wanted, live: &K, now: Moment) -> bool
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let what = what::<K>(name);
    if wanted.is_met(live) {
        writes.rest(&what, &wanted.hash);
    }
    writes.is_due(&what, wanted, live, now)
}

fn found<K: Resource>(cluster: &RaftKvCluster, live: Option<&K>, is_due: impl FnOnce(&K) -> bool) -> ChildSeen {
    let Some(live) = live else { return ChildSeen::Absent };
    match standing(cluster, live) {
        Standing::Ours if is_due(live) => ChildSeen::Differs,
        Standing::Ours => ChildSeen::Good,
        Standing::Leaving => ChildSeen::Leaving,
        Standing::Taken(whose) => ChildSeen::Taken(whose),
    }
}

/// How the Secret was found, and the tokens in it.
pub(super) fn auth(
    cluster: &RaftKvCluster,
    secret: Option<&Secret>,
    writes: &mut Writes,
    now: Moment,
) -> (ChildSeen, Vec<Token>) {
    let Some(secret) = secret else { return (ChildSeen::Absent, vec![]) };
    let standing = match standing(cluster, secret) {
        Standing::Taken(_) if is_lost(cluster, secret) => Standing::Ours,
        other @ (Standing::Ours | Standing::Leaving | Standing::Taken(_)) => other,
    };
    match standing {
        Standing::Ours => {
            let tokens = tokens_of(secret);
            if tokens.is_empty() {
                // Nodes may still run with the token that was there, so no other token is made.
                let whose = format!("its key '{}' does not begin with 64 hex digits", child::TOKEN_KEY);
                return (ChildSeen::Taken(whose), tokens);
            }
            match is_due_or_rests(writes, &secret.name_any(), &secret_wanted(cluster), secret, now) {
                true => (ChildSeen::Differs, tokens),
                false => (ChildSeen::Good, tokens),
            }
        }
        Standing::Leaving => (ChildSeen::Leaving, vec![]),
        Standing::Taken(whose) => (ChildSeen::Taken(whose), vec![]),
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
    use serde_json::{Value, json};

    fn seen(cluster: &RaftKvCluster, objects: &Objects) -> BTreeMap<Child, ChildSeen> {
        children(cluster, objects, ChildSeen::Absent, &mut Writes::default(), Moment::now())
    }

    fn auth(cluster: &RaftKvCluster, secret: Option<&Secret>) -> (ChildSeen, bool) {
        let (seen, tokens) = super::auth(cluster, secret, &mut Writes::default(), Moment::now());
        (seen, !tokens.is_empty())
    }

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
        let seen = seen(&cluster, &objects);
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
        assert_eq!(seen(&cluster, &objects)[&Child::Budget], ChildSeen::Differs);
        assert_eq!(budget(&cluster, objects.budget.as_ref()), None);
    }

    #[test]
    fn the_secret_is_good_with_a_token_and_is_never_written_over() {
        let cluster = cluster(json!({}));
        let mut secret = auth_secret(&cluster, &"ab".repeat(32));
        assert!(matches!(auth(&cluster, Some(&secret)), (ChildSeen::Good, true)));
        secret.data = Some([("token".to_string(), ByteString(b"short".to_vec()))].into());
        assert!(matches!(auth(&cluster, Some(&secret)), (ChildSeen::Taken(_), false)));
        secret.metadata.labels = None;
        secret.metadata.owner_references = None;
        assert_eq!(auth(&cluster, Some(&secret)), (ChildSeen::Taken("nothing owns it".to_string()), false));
        assert_eq!(auth(&cluster, None), (ChildSeen::Absent, false));
    }

    #[test]
    fn rule_o14_a_secret_that_lost_its_owner_is_used_and_taken_back() {
        let cluster = cluster(json!({}));
        let mut secret = auth_secret(&cluster, &"ab".repeat(32));
        secret.metadata.owner_references = None;
        assert!(matches!(auth(&cluster, Some(&secret)), (ChildSeen::Differs, true)));
        secret.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(auth(&cluster, Some(&secret)), (ChildSeen::Leaving, false));
        // One that an older operator made has its owner and lacks a label.
        let mut older = auth_secret(&cluster, &"ab".repeat(32));
        older.metadata.labels.as_mut().unwrap().remove("raftkv.dev/cluster-uid");
        assert!(matches!(auth(&cluster, Some(&older)), (ChildSeen::Differs, true)));
    }
}

//! The StatefulSet. PURE.
//!
//! Pods start together, since a Blank one has no effect. They are replaced only by deleting them (OnDelete: the
//! operator rolls, rule O8). Kubernetes never deletes their volumes (Retain: rule O4 says when the operator does).
//! Kubernetes does not allow [`FROZEN`] fields to change, so that they are the same in every release for ever (rule
//! O18).

use super::in_force::InForce;
use super::patch::patch;
use super::pod;
use super::shared::{Settings, metadata, name, selector, selector_labels};
use super::wanted::{Wanted, hash, mark, plain};
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use raftkv_crds::{RaftKvCluster, annotation, child};
use serde_json::{Value, json};

/// Fields of the spec that are set when the object is made and never again.
const FROZEN: [&str; 4] = ["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"];
/// How many old templates are kept, to roll back by hand.
const REVISIONS: i32 = 3;

/// The StatefulSet as it is first made. It carries the spec that it was made from.
pub fn stateful_set(cluster: &RaftKvCluster, settings: &Settings, replicas: u32) -> StatefulSet {
    let in_force = InForce::of(cluster);
    let mut set = unmarked(cluster, settings);
    let hash = hash(&(changeable(&set), &in_force.spec));
    set.spec.replicas = Some(i32::try_from(replicas).unwrap_or(i32::MAX));
    set.metadata.annotations = Some([(annotation::IN_FORCE.to_string(), in_force.text())].into());
    mark(&mut set.metadata, hash);
    set
}

fn unmarked(cluster: &RaftKvCluster, settings: &Settings) -> StatefulSet {
    let retain = || Some("Retain".to_string());
    StatefulSet {
        metadata: metadata(cluster, name(cluster)),
        spec: StatefulSetSpec {
            template: pod::template(cluster, settings),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_string()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: retain(),
                when_scaled: retain(),
            }),
            revision_history_limit: Some(REVISIONS),
            ..frozen(cluster)
        },
        status: None,
    }
}

/// What no release may change: see `golden/frozen.yaml`.
fn frozen(cluster: &RaftKvCluster) -> StatefulSetSpec {
    StatefulSetSpec {
        selector: selector(cluster),
        service_name: Some(child::peers(name(cluster))),
        pod_management_policy: Some("Parallel".to_string()),
        volume_claim_templates: Some(vec![claim(cluster)]),
        ..StatefulSetSpec::default()
    }
}

/// It has no labels: Kubernetes gives each claim those of the selector, and nothing may ever be added here.
fn claim(cluster: &RaftKvCluster) -> PersistentVolumeClaim {
    let storage = &cluster.spec.storage;
    let size = [("storage".to_string(), Quantity(storage.size.0.clone()))];
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(child::CLAIM_TEMPLATE.to_string()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_string()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements { requests: Some(size.into()), limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// What we set, and may change. The number of replicas is compared elsewhere.
pub fn set_wanted(cluster: &RaftKvCluster, settings: &Settings) -> Wanted {
    Wanted::of(&changeable(&stateful_set(cluster, settings, 0)))
}

/// The merge patch that brings the live object to what is wanted, if it still has this resourceVersion (rule O9).
/// Frozen fields stay as they are in the live object (rule O18).
pub fn set_patch(wanted: &StatefulSet, live: &StatefulSet, resource_version: &str) -> Value {
    let mut patch = patch(wanted, live);
    patch["metadata"]["resourceVersion"] = resource_version.into();
    without(&mut patch, &FROZEN);
    patch
}

/// The merge patch that changes nothing but the number of pods: the template stays as it is.
pub fn size_patch(replicas: u32, live: &StatefulSet, resource_version: &str) -> Value {
    let metadata = json!({"uid": live.metadata.uid, "resourceVersion": resource_version});
    json!({"metadata": metadata, "spec": {"replicas": replicas}})
}

fn changeable(set: &StatefulSet) -> Value {
    let mut set = plain(set);
    without(&mut set, &FROZEN);
    without(&mut set, &["replicas"]);
    set
}

fn without(object: &mut Value, fields: &[&str]) {
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

/// The labels that the pods of this cluster have, as a selector.
pub fn pod_selector(cluster: &RaftKvCluster) -> String {
    let pairs: Vec<_> = selector_labels(cluster).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cluster, golden, settings};
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    fn made(spec: Value) -> StatefulSet {
        stateful_set(&cluster(spec), &settings(), 3)
    }

    fn pod(set: StatefulSet) -> PodSpec {
        set.spec.template.spec.unwrap()
    }

    #[test]
    fn the_stateful_set_of_the_defaults() {
        golden("statefulset.yaml", "# The StatefulSet of a cluster with an empty spec.\n", &made(json!({})));
    }

    #[test]
    fn rule_o18_the_frozen_part_is_the_same_in_every_release() {
        let head = "# Kubernetes lets nobody change these fields of a StatefulSet. No release may change this file: every cluster that is\n\
                    # there already would have to be made anew.\n";
        let set = serde_json::to_value(made(json!({}))).unwrap();
        let frozen: serde_json::Map<_, _> =
            FROZEN.iter().map(|field| (field.to_string(), set["spec"][field].clone())).collect();
        golden("frozen.yaml", head, &frozen);
    }

    #[test]
    fn the_labels_of_the_operator_win() {
        let set = made(json!({"pod": {"labels": {"raftkv.dev/cluster": "other", "team": "blue"}}}));
        let labels = set.spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!((labels["raftkv.dev/cluster"].as_str(), labels["team"].as_str()), ("demo", "blue"));
    }

    #[test]
    fn members_are_kept_apart_as_asked() {
        assert!(pod(made(json!({"topology": {"spread": "Off"}}))).affinity.is_none());
        let apart =
            |spread| pod(made(json!({"topology": {"spread": spread}}))).affinity.unwrap().pod_anti_affinity.unwrap();
        assert!(apart("Required").required_during_scheduling_ignored_during_execution.is_some());
        assert!(apart("Preferred").preferred_during_scheduling_ignored_during_execution.is_some());
    }

    #[test]
    fn the_policy_of_the_installation_is_for_its_image() {
        let policy = |spec, installed| {
            let settings = Settings { node_image_pull_policy: installed, ..settings() };
            pod(stateful_set(&cluster(spec), &settings, 1)).containers.remove(0).image_pull_policy.unwrap()
        };
        use raftkv_crds::PullPolicy::{Always, Never};
        assert_eq!(policy(json!({}), Never), "Never");
        assert_eq!(policy(json!({"image": "x"}), Never), "IfNotPresent");
        assert_eq!(policy(json!({"imagePullPolicy": "Never"}), Always), "Never");
    }

    /// What an API server of 1.36 gives back of what we made: with its defaults, its own metadata, and amounts in its
    /// own form.
    fn live(set: &StatefulSet) -> StatefulSet {
        let mut live = serde_json::to_value(set).unwrap();
        let metadata = json!({"uid": "u", "resourceVersion": "812", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "raftkv-operator", "operation": "Update", "apiVersion": "apps/v1"}]});
        merge(&mut live["metadata"], &metadata);
        merge(&mut live["spec"]["updateStrategy"], &json!({}));
        let template = &mut live["spec"]["template"];
        merge(&mut template["metadata"], &json!({"creationTimestamp": null}));
        merge(
            &mut template["spec"],
            &json!({"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}),
        );
        let container = &mut template["spec"]["containers"][0];
        merge(container, &json!({"terminationMessagePath": "/dev/termination-log"}));
        for which in ["startupProbe", "livenessProbe", "readinessProbe"] {
            merge(&mut container[which], &json!({"successThreshold": 1}));
            merge(&mut container[which]["httpGet"], &json!({"scheme": "HTTP"}));
        }
        merge(&mut container["env"][0]["valueFrom"]["fieldRef"], &json!({"apiVersion": "v1"}));
        merge(&mut container["resources"]["requests"], &json!({"cpu": "1500m", "memory": "1Gi"}));
        let claim = &mut live["spec"]["volumeClaimTemplates"][0];
        merge(claim, &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Pending"}}));
        merge(&mut claim["spec"], &json!({"volumeMode": "Filesystem"}));
        serde_json::from_value(live).unwrap()
    }

    fn merge(target: &mut Value, more: &Value) {
        for (key, value) in more.as_object().unwrap() {
            target[key] = value.clone();
        }
    }

    fn spec() -> Value {
        json!({"resources": {"requests": {"cpu": "1.5", "memory": "1024Mi"}}, "pod": {"nodeSelector": {"disk": "ssd"}}})
    }

    #[test]
    fn rule_o21_defaults_of_the_api_server_do_not_count() {
        assert_eq!(set_wanted(&cluster(spec()), &settings()).difference(&live(&made(spec()))), None);
    }

    #[test]
    fn a_change_of_the_spec_counts_and_so_does_what_was_taken_out_of_it() {
        let live = live(&made(spec()));
        let differs = |mut change: Value| {
            merge(&mut change, &json!({"resources": spec()["resources"]}));
            let wanted = set_wanted(&cluster(change), &settings());
            assert_eq!(wanted.is_new_to(&live), !wanted.is_met(&live));
            wanted.is_new_to(&live)
        };
        assert!(!differs(json!({"pod": {"nodeSelector": {"disk": "ssd"}}})));
        assert!(differs(json!({"pod": {"nodeSelector": {"disk": "hdd"}}})));
        assert!(differs(json!({})));
        assert!(differs(json!({"pod": {"nodeSelector": {"disk": "ssd"}}, "config": {"quota": "2Gi"}})));
    }

    #[test]
    fn rule_o18_what_is_frozen_is_not_compared_and_not_sent() {
        let mut live = live(&made(spec()));
        live.spec.service_name = Some("as-an-older-release-had-it".to_string());
        live.spec.replicas = Some(7);
        assert_eq!(set_wanted(&cluster(spec()), &settings()).difference(&live), None);
        let patch = set_patch(&made(json!({})), &live, "700");
        let sent = patch["spec"].as_object().unwrap();
        assert!(FROZEN.iter().all(|field| !sent.contains_key(*field)));
        assert_eq!((&patch["spec"]["replicas"], &patch["metadata"]["resourceVersion"]), (&json!(3), &json!("700")));
        assert_eq!(patch["spec"]["template"]["spec"].get("nodeSelector"), Some(&Value::Null));
    }
}

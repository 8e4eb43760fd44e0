//! All children of a cluster whose spec sets everything, and what a real API server made of them.

use super::testing::{cluster, golden, settings};
use super::*;
use k8s_openapi::api::apps::v1::StatefulSet;
use raftkv_crds::RaftKvCluster;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn everything() -> RaftKvCluster {
    cluster(json!({
        "image": "registry.example/raftkv:1", "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}],
        "storage": {"size": "20480Mi", "storageClassName": "fast"},
        "resources": {"requests": {"cpu": "1.5", "memory": "1024Mi"}, "limits": {"memory": "2048Mi"}},
        "topology": {"spread": "Required", "topologyKey": "topology.kubernetes.io/zone"},
        "pod": {
            "labels": {"team": "blue", "raftkv.dev/cluster": "other"}, "annotations": {"note": "x"},
            "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "db", "operator": "Exists"}],
            "priorityClassName": "high",
        },
        "config": {"quota": "2Gi", "compactRetention": "1h", "log": "info,raft=debug"},
    }))
}

fn children(cluster: &RaftKvCluster) -> Value {
    let items = [
        json!(stateful_set(cluster, &settings(), 3)),
        json!(client_service(cluster)),
        json!(peers_service(cluster)),
        json!(disruption_budget(cluster, 2)),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

#[test]
fn everything_that_a_user_can_set_is_set() {
    golden("children.yaml", "# The children of a cluster that sets everything.\n", &children(&everything()));
}

/// `kubectl create --dry-run=server -o json -f golden/children.yaml`, Kubernetes 1.36.
const LIVE: &str = include_str!("../../golden/live.json");

/// The object at this place, with our annotations of today: the API server keeps annotations as they were sent.
fn live<K: DeserializeOwned>(place: usize, annotations: &Value) -> K {
    let mut list: Value = serde_json::from_str(LIVE).unwrap();
    list["items"][place]["metadata"]["annotations"] = annotations.clone();
    serde_json::from_value(list["items"][place].clone()).unwrap()
}

fn is_same<K: Serialize + DeserializeOwned>(object: &K, wanted: &Wanted, place: usize) -> bool {
    wanted.is_met(&live::<K>(place, &json!(object)["metadata"]["annotations"]))
}

#[test]
fn rule_o21_what_a_real_api_server_made_of_the_children_does_not_differ() {
    let cluster = everything();
    let (set, wanted) = (stateful_set(&cluster, &settings(), 3), set_wanted(&cluster, &settings()));
    assert!(is_same::<StatefulSet>(&set, &wanted, 0));
    for (service, place) in [(client_service(&cluster), 1), (peers_service(&cluster), 2)] {
        assert!(is_same(&service, &Wanted::of(&service), place));
    }
    let budget = |number| disruption_budget(&cluster, number);
    assert!(is_same(&budget(2), &budget_wanted(&budget(2)), 3));
    assert!(!is_same(&budget(1), &budget_wanted(&budget(1)), 3));
}

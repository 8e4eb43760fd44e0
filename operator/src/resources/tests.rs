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

fn live<K: DeserializeOwned>(place: usize) -> K {
    let list: Value = serde_json::from_str(LIVE).unwrap();
    serde_json::from_value(list["items"][place].clone()).unwrap()
}

fn is_same<K: Serialize + DeserializeOwned>(wanted: &K, place: usize) -> bool {
    !differs(wanted, &live(place))
}

#[test]
fn rule_o21_what_a_real_api_server_made_of_the_children_does_not_differ() {
    let cluster = everything();
    assert!(!set_differs(&cluster, &settings(), &live::<StatefulSet>(0)));
    assert!(is_same(&client_service(&cluster), 1));
    assert!(is_same(&peers_service(&cluster), 2));
    assert!(is_same(&disruption_budget(&cluster, 2), 3));
    assert!(!is_same(&disruption_budget(&cluster, 1), 3));
}

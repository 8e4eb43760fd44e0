//! Passes over an API server that holds a few objects: what is read, what is written, and from what.

use super::*;
use crate::edge::fake_api::FakeApi;
use crate::edge::lease::Held;
use crate::edge::metrics::Metrics;
use crate::edge::operator::ExitAfter;
use crate::resources::testing::{cluster, settings};
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use raftkv_crds::Bootstrap;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

#[path = "pass_rules.rs"]
mod rules;

const CLUSTERS: &str = "/apis/raftkv.dev/v1alpha1/namespaces/team/raftkvclusters";
const SETS: &str = "/apis/apps/v1/namespaces/team/statefulsets";
const SERVICES: &str = "/api/v1/namespaces/team/services";
const BUDGETS: &str = "/apis/policy/v1/namespaces/team/poddisruptionbudgets";
const SECRET: &str = "/api/v1/namespaces/team/secrets/demo-auth";

fn at(version: &str) -> RaftKvCluster {
    let mut cluster = cluster(json!({}));
    cluster.metadata.resource_version = Some(version.to_string());
    cluster
}

#[test]
fn what_this_task_wrote_last_is_not_forgotten_while_the_watch_lags() {
    let version =
        |pushed: &str, written: Option<&str>| newer(&at(pushed), written.map(at)).metadata.resource_version.unwrap();
    assert_eq!(version("9", Some("10")), "10");
    assert_eq!(version("11", Some("10")), "11");
    assert_eq!(version("9", None), "9");
    assert_eq!(version("opaque", Some("also")), "opaque");
}

#[test]
fn rule_o1_a_status_never_takes_a_latch_back() {
    let id = || "07".repeat(16);
    let bootstrap = Some(Bootstrap { cluster_id: id(), incarnation: id() });
    let live = RaftKvClusterStatus { cluster_id: Some(id()), bootstrap, bootstrapped: true, ..Default::default() };
    let planned = RaftKvClusterStatus { voters: 1, ..Default::default() };
    let written = with_latches(planned, &live);
    assert_eq!(written, RaftKvClusterStatus { voters: 1, ..live });
}

#[tokio::test]
async fn a_new_cluster_gets_its_children_and_a_status() {
    let mut world = World::new().await;
    assert_eq!(world.pass().await.unwrap(), Ended::Acted);
    let made: Vec<String> = world.api.calls().into_iter().filter(|call| !call.starts_with("GET")).collect();
    let expected = [
        "POST /api/v1/namespaces/team/secrets".to_string(),
        format!("POST {SERVICES}"),
        format!("POST {SERVICES}"),
        format!("POST {SETS}"),
        format!("PUT {CLUSTERS}/demo/status"),
    ];
    assert_eq!(made, expected);
    let status = &world.live()["status"];
    assert_eq!((&status["observedGeneration"], &status["selector"]), (&json!(3), &json!("raftkv.dev/cluster=demo")));
}

#[tokio::test]
async fn no_step_is_taken_on_a_caches_word() {
    let mut world = World::new().await;
    world.pass().await.unwrap();
    world.api.calls();
    // The watch lags behind: the stores are as empty as before.
    world.pass().await.unwrap();
    let calls = world.api.calls();
    assert!(calls.iter().any(|call| call.starts_with(&format!("GET {SETS}/demo"))), "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("POST")), "{calls:?}");
}

#[tokio::test]
async fn rule_o21_a_pass_that_sees_nothing_new_asks_the_api_server_nothing() {
    let mut world = World::new().await;
    for _ in 0..3 {
        world.pass().await.unwrap();
        world.push();
    }
    world.api.calls();
    let ended = world.pass().await.unwrap();
    assert!(matches!(ended, Ended::Rested { news: false, .. }), "{ended:?}");
    assert_eq!(world.api.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cluster_that_is_going_or_gone_is_left_alone() {
    let mut world = World::new().await;
    let mut going = world.live();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.api.put(&format!("{CLUSTERS}/demo"), going);
    // The watch does not know it yet, but the live read does.
    let error = world.pass().await.unwrap_err();
    assert!(matches!(error, PassError::Execute(ExecuteError::Conflict { .. })), "{error}");
    world.push();
    world.api.calls();
    assert!(matches!(world.pass().await, Ok(Ended::Rested { pace: Pace::Calm, .. })));
    assert_eq!(world.api.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_failure_ends_the_pass_and_the_status_is_written_all_the_same() {
    let mut world = World::new().await;
    world.pass().await.unwrap();
    world.push();
    // A claim that is to be labelled.
    let labels = json!({"raftkv.dev/cluster": "demo"});
    let claim = json!({
        "metadata": {"name": "raftkv-demo-0", "namespace": "team", "uid": "c", "labels": labels, "creationTimestamp": "2026-02-01T00:00:00Z"},
        "spec": {"volumeName": "pv"},
    });
    world.api.put("/api/v1/namespaces/team/persistentvolumeclaims/raftkv-demo-0", claim);
    world.push();
    world.api.fail("PATCH /api/v1/namespaces/team/persistentvolumeclaims", 500);
    let error = world.pass().await.unwrap_err();
    assert!(error.to_string().starts_with("labelling PersistentVolumeClaim raftkv-demo-0: "), "{error}");
    assert!(world.live()["status"]["conditions"].is_array());
}

#[tokio::test]
async fn rule_o32_a_child_that_fails_does_not_end_the_pass_and_is_told() {
    let mut world = World::new().await;
    world.api.fail(&format!("POST {SERVICES}"), 500);
    world.pass().await.unwrap();
    assert!(world.api.object(&format!("{SETS}/demo")).is_some(), "the rest goes on");
    world.push();
    world.pass().await.unwrap();
    let degraded = world.condition("Degraded");
    assert_eq!((&degraded["status"], &degraded["reason"]), (&json!("True"), &json!("StepFailed")), "{degraded}");
    assert!(degraded["message"].as_str().unwrap().contains("Service demo: as the test asks"), "{degraded}");
}

#[tokio::test]
async fn a_status_that_somebody_else_wrote_over_is_not_written_over() {
    let mut world = World::new().await;
    world.api.fail(&format!("PUT {CLUSTERS}"), 409);
    let error = world.pass().await.unwrap_err();
    assert!(matches!(error, PassError::Execute(ExecuteError::Conflict { .. })), "{error}");
}

#[tokio::test]
async fn what_is_refused_is_in_the_status_and_is_not_sent_again_and_again() {
    let mut world = World::new().await;
    world.api.fail(&format!("POST {SETS}"), 422);
    for _ in 0..3 {
        world.pass().await.unwrap();
        world.push();
    }
    let sent = world.api.calls().iter().filter(|call| **call == format!("POST {SETS}")).count();
    assert_eq!(sent, 1);
    let degraded = world.condition("Degraded");
    assert_eq!(degraded["reason"], "InvalidSpec", "{degraded}");
}

#[tokio::test]
async fn nothing_is_written_without_the_lease() {
    let mut world = World::new().await;
    world.operator.held = Held::lost_for_test();
    let error = world.pass().await.unwrap_err();
    assert!(matches!(error, PassError::Execute(ExecuteError::NotHeld(_))), "{error}");
    assert!(world.api.calls().iter().all(|call| call.starts_with("GET")));
}

/// The cluster `demo` in `team`, and what the watches have of it.
struct World {
    api: FakeApi,
    operator: Operator,
    state: Cluster,
    stores: Stores,
    pushed: RaftKvCluster,
    _stop: watch::Sender<bool>,
}

impl World {
    async fn new() -> World {
        let api = FakeApi::start().await;
        let object = serde_json::to_value(cluster(json!({}))).unwrap();
        let pushed: RaftKvCluster = serde_json::from_value(api.put(&format!("{CLUSTERS}/demo"), object)).unwrap();
        let (stop, stopping) = watch::channel(false);
        let operator = Operator {
            client: api.client(),
            settings: settings(),
            held: Held::for_test(),
            // Events go to another server, since they may be written at any time.
            events: Events::start(FakeApi::start().await.client(), "operator-0", || ()),
            metrics: Arc::new(Metrics::new()),
            stopping,
            exit_after: ExitAfter::default(),
        };
        let state = Cluster::new(&operator, &pushed);
        World { api, operator, state, stores: empty(), pushed, _stop: stop }
    }

    async fn pass(&mut self) -> Result<Ended, PassError> {
        self.state.pass(&self.operator, &self.stores, &self.pushed).await
    }

    /// The watches catch up.
    fn push(&mut self) {
        self.stores = stores(&self.api);
        self.pushed = serde_json::from_value(self.live()).unwrap();
    }

    fn condition(&self, kind: &str) -> Value {
        let status = self.live()["status"].clone();
        let found = status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind);
        found.unwrap().clone()
    }

    /// The operator starts anew.
    fn restart(&mut self) {
        self.state = Cluster::new(&self.operator, &self.pushed);
    }

    fn live(&self) -> Value {
        self.api.object(&format!("{CLUSTERS}/demo")).unwrap()
    }
}

fn empty() -> Stores {
    Stores {
        sets: store(vec![]),
        pods: store(vec![]),
        claims: store(vec![]),
        services: store(vec![]),
        budgets: store(vec![]),
    }
}

fn stores(api: &FakeApi) -> Stores {
    let at = |path: &str| api.object(path).into_iter().collect::<Vec<_>>();
    let services = [at(&format!("{SERVICES}/demo")), at(&format!("{SERVICES}/demo-peers"))].concat();
    Stores {
        sets: store(at(&format!("{SETS}/demo"))),
        services: store(services),
        budgets: store(at(&format!("{BUDGETS}/demo"))),
        claims: store(api.objects("/api/v1/namespaces/team/persistentvolumeclaims/")),
        ..empty()
    }
}

fn store<K>(objects: Vec<Value>) -> Store<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + 'static,
{
    let (store, mut writer) = reflector::store();
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
    }
    store
}

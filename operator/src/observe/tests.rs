//! Tests of the Observer, against a server that stands for the API server and the nodes, and against stores that were
//! filled by hand.

use super::*;
use crate::plan::{Child, Machine, NodeSeen};
use crate::resources::testing::{cluster, settings};
use crate::resources::{auth_secret, client_service, disruption_budget, peers_service, stateful_set};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use raftkv_client::node::NodeClient;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const CLUSTER_ID: Hex128 = Hex128([7; 16]);

/// Answers each path with what is set for it, and 404 otherwise.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    answers: BTreeMap<String, (u16, Value)>,
    asked: Vec<String>,
    /// The only token that is taken; any is without it.
    token: Option<String>,
}

impl World {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = world.clone();
                let service = service_fn(move |request| {
                    let answer = world.answer(&request);
                    async move { Ok::<_, hyper::Error>(answer) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        url
    }

    fn answer(&self, request: &Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let mut shared = self.0.lock().unwrap();
        let path = request.uri().path().to_string();
        shared.asked.push(path.clone());
        let missing = || {
            (404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}))
        };
        let (mut status, mut body) = shared.answers.get(&path).cloned().unwrap_or_else(missing);
        let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if shared.token.as_ref().is_some_and(|token| shown != Some(&format!("Bearer {token}"))) {
            (status, body) = (401, json!(raftkv_api::Problem::new(raftkv_api::Code::Unauthorized, "no")));
        }
        Response::builder().status(status).body(Full::new(body.to_string().into())).unwrap()
    }

    fn takes(&self, token: &str) {
        self.0.lock().unwrap().token = Some(token.to_string());
    }

    fn set(&self, path: &str, status: u16, body: impl serde::Serialize) {
        self.0.lock().unwrap().answers.insert(path.to_string(), (status, serde_json::to_value(body).unwrap()));
    }

    fn list(&self, path: &str, items: &[Value]) {
        self.set(path, 200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}));
    }

    /// The requests since this was last called.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

fn token() -> String {
    "ab".repeat(32)
}

/// A voter of a cluster that demo-0 leads.
pub(super) fn status(ordinal: u8) -> Value {
    json!({
        "name": format!("demo-{ordinal}"), "version": "0", "state": "voter", "reason": null,
        "incarnation": Hex128([ordinal; 16]), "cluster_id": CLUSTER_ID, "genesis": Hex128([8; 16]),
        "generation": 0, "member_id": (ordinal + 1).to_string(), "leader_id": "1", "leader": null,
        "term": 4, "commit": 100, "applied": 100, "last_index": 100, "first_index": 1, "snapshot_index": 1,
        "conf_index": 5, "durable_conf_index": 5, "can_lead": true, "formed": true, "kv": "ready",
        "revision": 42, "compacted_revision": 0, "db_bytes": 2048, "free_bytes": 1,
        "state_hash": null, "state_hashes": [], "peers": [], "members": [], "joint": false,
        "leader_contact_ms": 1, "peer_url": "http://p:2380", "client_url": "", "admin_url": "",
    })
}

fn members() -> Value {
    json!({"cluster_id": CLUSTER_ID, "conf_index": 5, "joint": false, "leader": "1", "members": [], "removed": []})
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "team", "uid": name, "labels": {"raftkv.dev/cluster": "demo"}},
        "spec": {"nodeName": "worker-1", "containers": []},
        "status": {"podIP": "127.0.0.1", "containerStatuses": [
            {"name": "raftkv", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]},
    })
}

fn claim(ordinal: u32, labels: Value) -> Value {
    json!({
        "metadata": {"name": format!("raftkv-demo-{ordinal}"), "namespace": "team", "uid": format!("claim-{ordinal}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels,
            "annotations": {"volume.kubernetes.io/selected-node": "worker-9"}},
        "spec": {"volumeName": "pv-1"},
    })
}

fn ours() -> Value {
    json!({"raftkv.dev/cluster": "demo"})
}

/// A pod whose node has this status.
pub(super) fn pod_of(status: Value) -> AddressedPod {
    let pods = [Arc::new(serde_json::from_value(pod("demo-0")).unwrap())];
    let mut pod = pods::addressed(&cluster(json!({})), &pods, None).remove(&0).unwrap();
    pod.seen.node = NodeSeen::Answered(serde_json::from_value(status).unwrap());
    pod
}

/// A node that leads, at a port of its own, and an API server with all children.
struct Scene {
    api: World,
    node: World,
    nodes: Nodes,
    observer: Observer,
    cluster: RaftKvCluster,
}

const TEAM: &str = "/api/v1/namespaces/team";

impl Scene {
    async fn new() -> Scene {
        let (api, node) = (World::default(), World::default());
        let cluster = cluster(json!({"replicas": 1}));
        let set = stateful_set(&cluster, &settings(), 1);
        api.set("/apis/apps/v1/namespaces/team/statefulsets/demo", 200, set);
        api.set(&format!("{TEAM}/services/demo"), 200, client_service(&cluster));
        api.set(&format!("{TEAM}/services/demo-peers"), 200, peers_service(&cluster));
        api.set(&format!("{TEAM}/secrets/demo-auth"), 200, auth_secret(&cluster, &token()));
        api.set("/apis/policy/v1/namespaces/team/poddisruptionbudgets/demo", 200, disruption_budget(&cluster, 0));
        api.list(&format!("{TEAM}/pods"), &[pod("demo-0")]);
        api.list(&format!("{TEAM}/persistentvolumeclaims"), &[claim(0, ours())]);
        node.set("/v1/status", 200, status(0));
        node.set("/v1/members", 200, members());
        let nodes = Nodes::default();
        let of_node: Token = token().parse().unwrap();
        nodes.put(0, NodeClient::new(&node.start().await, of_node.clone()).unwrap(), &of_node);
        let client = Client::try_from(kube::Config::new(api.start().await.parse().unwrap())).unwrap();
        Scene { api, node, nodes, observer: Observer::new(client, settings()), cluster }
    }

    async fn live(&mut self) -> Observed {
        self.try_live().await.unwrap()
    }

    async fn try_live(&mut self) -> Result<Observed, ObserveError> {
        self.look(Source::Live).await
    }

    async fn look(&mut self, source: Source<'_>) -> Result<Observed, ObserveError> {
        let (memory, mut writes) = (Memory::default(), Writes::default());
        let look = self.observer.observe(&self.cluster, &self.nodes, source, memory, &mut writes);
        look.await.map(|(_, observed)| observed)
    }

    async fn cached(&mut self, stores: &Stores) -> Observed {
        self.look(Source::Cached(stores)).await.unwrap()
    }

    /// Stores that hold what the API server would have pushed: what has the cluster label.
    fn stores(&self) -> Stores {
        Stores {
            sets: store::<StatefulSet>(vec![json!(stateful_set(&self.cluster, &settings(), 1))]),
            pods: store::<Pod>(vec![pod("demo-0")]),
            claims: store::<PersistentVolumeClaim>(vec![claim(0, ours())]),
            services: store::<Service>(vec![json!(client_service(&self.cluster)), json!(peers_service(&self.cluster))]),
            budgets: store::<PodDisruptionBudget>(vec![json!(disruption_budget(&self.cluster, 0))]),
        }
    }
}

fn store<K>(objects: Vec<Value>) -> reflector::Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

#[tokio::test]
async fn a_live_pass_reads_everything() {
    let mut scene = Scene::new().await;
    let seen = scene.live().await;
    assert!(seen.children.values().all(|child| *child == ChildSeen::Good), "{:?}", seen.children);
    assert!(
        matches!(&seen.set, crate::plan::SetSeen::Ours(set) if set.replicas == 1 && !set.differs && set.budget == Some(0))
    );
    assert!(matches!(&seen.pods[&0].node, NodeSeen::Answered(status) if status.name == "demo-0"));
    assert_eq!(seen.members.map(|members| members.conf_index), Some(5));
    assert_eq!(seen.claims[&0].uid, "claim-0");
    assert!(seen.machines.is_empty(), "a node that answers needs no machine to be looked up");
}

#[tokio::test]
async fn rule_o21_a_cached_pass_that_shows_nothing_new_asks_the_api_server_nothing() {
    let mut scene = Scene::new().await;
    let stores = scene.stores();
    scene.cached(&stores).await;
    assert_eq!(scene.api.asked(), [format!("{TEAM}/persistentvolumeclaims"), format!("{TEAM}/secrets/demo-auth")]);
    scene.node.asked();
    let seen = scene.cached(&stores).await;
    assert!(seen.children.values().all(|child| *child == ChildSeen::Good), "{:?}", seen.children);
    assert_eq!(scene.api.asked(), Vec::<String>::new());
    assert_eq!(scene.node.asked(), ["/v1/status", "/v1/members"]);
}

#[tokio::test]
async fn rule_o14_a_live_pass_sees_strangers_that_no_watch_shows() {
    let mut scene = Scene::new().await;
    let mut stranger = client_service(&scene.cluster);
    (stranger.metadata.labels, stranger.metadata.owner_references) = (None, None);
    scene.api.set(&format!("{TEAM}/services/demo"), 200, stranger);
    let seen = scene.live().await;
    assert_eq!(seen.children[&Child::Client], ChildSeen::Taken("nothing owns it".to_string()));
}

#[tokio::test]
async fn rule_o2_a_claim_without_labels_is_seen_as_long_as_it_is_there() {
    let mut scene = Scene::new().await;
    let stores = scene.stores();
    let claims = format!("{TEAM}/persistentvolumeclaims");
    scene.api.list(&claims, &[claim(0, ours()), claim(2, json!({}))]);
    assert!(scene.cached(&stores).await.claims.contains_key(&2));
    assert!(scene.cached(&stores).await.claims.contains_key(&2));
    scene.api.list(&claims, &[claim(0, ours())]);
    assert!(!scene.cached(&stores).await.claims.contains_key(&2));
    scene.api.asked();
    scene.cached(&stores).await;
    assert_eq!(scene.api.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_that_a_node_refuses_is_read_again() {
    let mut scene = Scene::new().await;
    let stores = scene.stores();
    scene.cached(&stores).await;
    scene.api.asked();
    scene.node.set("/v1/status", 401, raftkv_api::Problem::new(raftkv_api::Code::Unauthorized, "no"));
    let seen = scene.cached(&stores).await;
    assert!(matches!(&seen.pods[&0].node, NodeSeen::Unreachable(why) if why.contains("token")), "{:?}", seen.pods);
    assert_eq!((seen.members, seen.token_refused), (None, [0].into()));
    assert_eq!(
        scene.api.asked(),
        [format!("{TEAM}/secrets/demo-auth"), "/api/v1/persistentvolumes/pv-1".into(), "/api/v1/nodes".into()]
    );
}

#[tokio::test]
async fn a_node_is_asked_with_each_token_of_the_secret_until_it_takes_one() {
    let mut scene = Scene::new().await;
    let (old, new) = (token(), "cd".repeat(32));
    let secret = |lines: &str| auth_secret(&scene.cluster, lines);
    let answers = |seen: &Observed| matches!(seen.pods[&0].node, NodeSeen::Answered(_)) && seen.members.is_some();
    scene.node.takes(&old);
    let (both, only_new) = (secret(&format!("{new}\n{old}")), secret(&new));
    scene.api.set(&format!("{TEAM}/secrets/demo-auth"), 200, both);
    let seen = scene.live().await;
    assert!(answers(&seen) && seen.token_refused.is_empty(), "{:?}", seen.pods);
    scene.node.asked();
    scene.live().await;
    assert_eq!(scene.node.asked(), ["/v1/status", "/v1/members"], "it is not asked with the other one again");
    // The old line goes before the node has read the file again: what it took before is tried as well.
    scene.api.set(&format!("{TEAM}/secrets/demo-auth"), 200, only_new);
    assert!(answers(&scene.live().await));
    scene.node.takes(&new);
    assert!(answers(&scene.live().await));
    scene.node.takes(&"ef".repeat(32));
    let seen = scene.live().await;
    assert_eq!((answers(&seen), seen.token_refused), (false, [0].into()));
}

fn silent(scene: &Scene) {
    scene.node.set("/v1/status", 503, json!("it is not raftkv that answers"));
}

/// A volume that cannot leave the host of that label.
fn local_volume() -> Value {
    json!({"metadata": {"name": "pv-1"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["host-1"]}]}]}}}})
}

#[tokio::test]
async fn rule_o13_the_machine_of_a_member_that_does_not_answer_is_looked_up() {
    let mut scene = Scene::new().await;
    silent(&scene);
    scene.api.set("/api/v1/persistentvolumes/pv-1", 200, local_volume());
    let tie = "kubernetes.io/hostname=host-1";
    let nodes = |nodes: Value| json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": nodes});
    let node = |taints: Value| json!({"metadata": {"name": "worker-1"}, "spec": {"taints": taints}});
    let machine = |seen: &Observed| (seen.machines.get(tie).copied(), seen.machines.get("worker-1").copied());
    let both = |machine: Machine| (Some(machine), Some(machine));
    scene.api.set("/api/v1/nodes", 200, nodes(json!([])));
    let gone = scene.live().await;
    assert_eq!((machine(&gone), gone.claims[&0].machine.as_deref()), (both(Machine::Gone), Some(tie)));
    scene.api.set("/api/v1/nodes", 200, nodes(json!([node(json!([]))])));
    assert_eq!(machine(&scene.live().await), both(Machine::Present));
    let taint = json!([{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]);
    scene.api.set("/api/v1/nodes", 200, nodes(json!([node(taint.clone())])));
    assert_eq!(machine(&scene.live().await), both(Machine::OutOfService));
    scene.api.set("/api/v1/nodes", 200, nodes(json!([node(taint), node(json!([]))])));
    assert_eq!(machine(&scene.live().await), both(Machine::Present));
    scene.api.set(
        "/api/v1/nodes",
        403,
        json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}),
    );
    assert_eq!(machine(&scene.live().await), both(Machine::Unknown));
}

#[tokio::test]
async fn rule_o20_without_cluster_reads_nothing_of_the_cluster_is_read() {
    let mut scene = Scene::new().await;
    silent(&scene);
    scene.observer.settings.cluster_reads = false;
    let seen = scene.live().await;
    assert!(seen.machines.is_empty() && seen.claims[&0].machine.is_none());
    assert!(scene.api.asked().iter().all(|path| path.contains("/namespaces/team/")));
}

#[tokio::test]
async fn an_api_server_that_refuses_ends_the_pass() {
    let mut scene = Scene::new().await;
    scene.api.set(
        &format!("{TEAM}/pods"),
        403,
        json!({"kind": "Status", "status": "Failure", "message": "no right", "reason": "Forbidden", "code": 403}),
    );
    let error = scene.try_live().await.unwrap_err();
    assert!(error.to_string().starts_with("cannot read the list of pods: "), "{error}");
}

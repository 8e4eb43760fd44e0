//! The executor over a scripted API server and a scripted node: what is sent, with which fences, and what ends a pass.

use super::*;
use crate::edge::events::Events;
use crate::edge::lease::Held;
use crate::edge::metrics::Metrics;
use crate::edge::operator::ExitAfter;
use crate::edge::testing::{Script, Seen, failure, node_status};
use crate::observe::{Nodes, Writes};
use crate::plan::{
    Child, ClaimOwner, Container, Desired, Ending, Eviction, Latch, Memory, NodeSeen, Observed, Ordinal, PodSeen, Seed,
    SetSeen,
};
use crate::resources::Asked;
use crate::resources::testing::{cluster, settings};
use jiff::Timestamp;
use raftkv_api::{Code, Hex128, Problem};
use raftkv_client::Token;
use raftkv_client::node::NodeClient;
use raftkv_crds::RaftKvCluster;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

const UID: &str = "11111111-2222-3333-4444-555555555555";
const SEED: Seed = Seed { cluster_id: Hex128([7; 16]), incarnation: Hex128([0; 16]) };

#[tokio::test]
async fn what_is_absent_is_made_by_post_and_owned() {
    let world = World::new([ok(), ok(), ok(), ok()], []).await;
    let actions = [
        Action::CreateChild(Child::Auth),
        Action::CreateChild(Child::Peers),
        Action::CreateChild(Child::Client),
        Action::CreateSet { replicas: 3 },
    ];
    assert_eq!(world.run(&actions).await.unwrap().acted, 4);
    let paths =
        ["/api/v1/namespaces/team/secrets", "/api/v1/namespaces/team/services", "/api/v1/namespaces/team/services"];
    for (seen, path) in
        world.api.seen().iter().zip(paths.into_iter().chain(["/apis/apps/v1/namespaces/team/statefulsets"]))
    {
        assert_eq!(seen.call, format!("POST {path}?&fieldManager=raftkv-operator"));
        let owner = &seen.body["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["uid"], &owner["controller"]), (&json!(UID), &json!(true)));
    }
}

#[tokio::test]
async fn every_token_is_another() {
    let world = World::new([ok(), ok()], []).await;
    let secret = Action::CreateChild(Child::Auth);
    world.run(&[secret.clone(), secret]).await.unwrap();
    let token = |seen: &Seen| seen.body["data"]["token"].as_str().unwrap().to_string();
    let seen = world.api.seen();
    assert_ne!(token(&seen[0]), token(&seen[1]));
    assert_eq!(token(&seen[0]).len(), 88, "64 digits and a newline in base64");
}

#[tokio::test]
async fn what_is_there_is_read_and_patched_as_it_was_read() {
    let world = World::new([owned("Service", "demo", UID), ok()], []).await;
    world.run(&[Action::ApplyChild(Child::Client)]).await.unwrap();
    let [read, patch] = two(world.api.seen());
    assert_eq!(read.call, "GET /api/v1/namespaces/team/services/demo");
    assert_eq!(patch.call, "PATCH /api/v1/namespaces/team/services/demo?&fieldManager=raftkv-operator");
    assert_eq!(patch.header("content-type"), "application/merge-patch+json");
    assert_fenced(&patch.body["metadata"], Some("live-uid"), "41");
}

#[tokio::test]
async fn rule_o14_a_strangers_object_is_not_written() {
    for whose in ["another", ""] {
        let world = World::new([owned("Service", "demo", whose)], []).await;
        let error = world.run(&[Action::ApplyChild(Child::Client)]).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Conflict { .. }), "{error}");
        assert_eq!(world.api.calls().len(), 1);
    }
}

#[tokio::test]
async fn rule_o9_the_set_is_written_in_the_version_that_the_plan_saw() {
    let answers = [owned("StatefulSet", "demo", UID), sized(4), ok()];
    let world = World::new(answers, []).await;
    let version = || "40".to_string();
    let apply = Action::ApplySet { replicas: 4, resource_version: version() };
    world.run(&[apply, Action::AnnotateSeed { seed: SEED, resource_version: version() }]).await.unwrap();
    let seen = world.api.seen();
    assert_fenced(&seen[1].body["metadata"], Some("live-uid"), "40");
    assert_eq!(seen[1].body["spec"]["replicas"], 4);
    assert_fenced(&seen[2].body["metadata"], None, "40");
    let mark = format!("{}/{}", "07".repeat(16), "00".repeat(16));
    assert_eq!(seen[2].body["metadata"]["annotations"]["raftkv.dev/bootstrap"], json!(mark));
}

#[tokio::test]
async fn a_budget_is_made_or_changed() {
    let world =
        World::new([failure(404, "NotFound", "none"), ok(), owned("PodDisruptionBudget", "demo", UID), ok()], []).await;
    world.run(&[Action::SetBudget { min_available: 2 }, Action::SetBudget { min_available: 3 }]).await.unwrap();
    let seen = world.api.seen();
    assert!(seen[1].call.starts_with("POST /apis/policy/v1/namespaces/team/poddisruptionbudgets?"));
    assert!(seen[3].call.starts_with("PATCH /apis/policy/v1/namespaces/team/poddisruptionbudgets/demo?"));
    assert_eq!((&seen[1].body["spec"]["minAvailable"], &seen[3].body["spec"]["minAvailable"]), (&json!(2), &json!(3)));
    assert_fenced(&seen[3].body["metadata"], Some("live-uid"), "41");
}

#[tokio::test]
async fn claims_are_written_and_deleted_as_the_plan_saw_them() {
    let world = World::new([ok(), ok(), ok()], []).await;
    let (uid, resource_version) = ("claim-uid".to_string(), "30".to_string());
    let owner = ClaimOwner { cluster_id: SEED.cluster_id, member_id: 3, incarnation: SEED.incarnation };
    let actions = [
        Action::LabelClaim { ordinal: 2, uid: uid.clone(), resource_version: resource_version.clone() },
        Action::AnnotateClaim { ordinal: 2, uid: uid.clone(), resource_version: resource_version.clone(), owner },
        Action::DeleteClaim { ordinal: 2, uid, resource_version },
    ];
    world.run(&actions).await.unwrap();
    let seen = world.api.seen();
    let path = "/api/v1/namespaces/team/persistentvolumeclaims/raftkv-demo-2";
    assert!(
        seen[0].call.starts_with(&format!("PATCH {path}?")) && seen[2].call.starts_with(&format!("DELETE {path}?"))
    );
    assert_fenced(&seen[0].body["metadata"], Some("claim-uid"), "30");
    assert_eq!(seen[0].body["metadata"]["labels"]["raftkv.dev/cluster-uid"], UID);
    assert_fenced(&seen[1].body["metadata"], Some("claim-uid"), "30");
    assert_eq!(seen[1].body["metadata"]["annotations"]["raftkv.dev/member-id"], "3");
    assert_fenced(&seen[2].body["preconditions"], Some("claim-uid"), "30");
}

#[tokio::test]
async fn a_pod_is_deleted_as_the_plan_saw_it() {
    let world = World::new([ok(), ok()], []).await;
    let pod = |how| Action::DeletePod { ordinal: 1, uid: "pod-uid".into(), resource_version: "31".into(), how };
    world.run(&[pod(Ending::Delete), pod(Ending::Kill)]).await.unwrap();
    let [slow, now] = two(world.api.seen());
    assert!(slow.call.starts_with("DELETE /api/v1/namespaces/team/pods/demo-1?"));
    assert_fenced(&slow.body["preconditions"], Some("pod-uid"), "31");
    assert_fenced(&now.body["preconditions"], Some("pod-uid"), "31");
    assert_eq!((slow.body.get("gracePeriodSeconds"), now.body.get("gracePeriodSeconds")), (None, Some(&json!(0))));
}

#[tokio::test]
async fn a_pod_is_evicted_as_the_plan_saw_it_and_a_refusal_is_no_failure() {
    let full = failure(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.");
    let world = World::new([ok(), full, failure(500, "InternalError", "more than one budget")], []).await;
    let evict =
        || Action::DeletePod { ordinal: 1, uid: "pod-uid".into(), resource_version: "31".into(), how: Ending::Evict };
    assert_eq!(world.run(&[evict()]).await.unwrap(), Done { acted: 1, failed: false });
    let seen = world.api.seen().remove(0);
    assert!(seen.call.starts_with("POST /api/v1/namespaces/team/pods/demo-1/eviction?"), "{}", seen.call);
    assert_fenced(&seen.body["deleteOptions"]["preconditions"], Some("pod-uid"), "31");
    for _ in 0..2 {
        assert_eq!(world.run(&[evict()]).await.unwrap(), Done { acted: 0, failed: false });
    }
}

#[tokio::test]
async fn latches_are_put_over_the_status_that_was_read() {
    let written = |version: &str, status: Value| {
        let mut object = serde_json::to_value(cluster(json!({}))).unwrap();
        object["metadata"]["resourceVersion"] = json!(version);
        object["status"] = status;
        (200, object)
    };
    let seed = json!({"clusterID": "07".repeat(16), "incarnation": "00".repeat(16)});
    let answers = [written("11", json!({"bootstrap": seed})), written("12", json!({}))];
    let world = World::new(answers, []).await;
    world.run(&[Action::LatchSeed(SEED), Action::LatchFormed { cluster_id: SEED.cluster_id }]).await.unwrap();
    let [first, second] = two(world.api.seen());
    let path = "/apis/raftkv.dev/v1alpha1/namespaces/team/raftkvclusters/demo/status";
    assert_eq!(first.call, format!("PUT {path}?&fieldManager=raftkv-operator"));
    assert_eq!((&first.body["metadata"]["resourceVersion"], &first.body["status"]["bootstrap"]), (&json!("10"), &seed));
    assert_eq!(
        (&second.body["metadata"]["resourceVersion"], &second.body["status"]["bootstrapped"]),
        (&json!("11"), &json!(true))
    );
    assert_eq!(second.body["status"]["bootstrap"], seed, "what was latched before stays");
}

#[tokio::test]
async fn a_membership_call_goes_to_the_leader_that_the_plan_saw() {
    let added = json!({"id": "4", "conf_index": 9});
    let moved = json!({"leader": "2"});
    let world = World::new([], [(200, added), (200, json!({})), (200, json!({})), (200, moved)]).await;
    let actions = [
        Action::AddLearner { leader: 0, ordinal: 3, incarnation: Hex128([3; 16]), conf_index: 5 },
        Action::Promote { leader: 0, id: 4, replaces: Some(2), conf_index: 9 },
        Action::Remove { leader: 0, id: 3, conf_index: 11 },
        Action::Transfer { leader: 0, to: 2 },
    ];
    world.run(&actions).await.unwrap();
    let seen = world.node.seen();
    let calls = ["POST /v1/members", "POST /v1/members/4/promote", "DELETE /v1/members/3", "POST /v1/leader/transfer"];
    assert_eq!(world.node.calls(), calls);
    assert_eq!(seen.iter().map(|seen| seen.header("if-match")).collect::<Vec<_>>(), ["\"5\"", "\"9\"", "\"11\"", ""]);
    for seen in &seen {
        let to = ["cluster", "name", "incarnation"].map(|part| seen.header(&format!("x-raftkv-{part}")).to_string());
        assert_eq!(to, ["07".repeat(16), "demo-0".to_string(), "00".repeat(16)], "{}", seen.call);
    }
    let peer_url = "http://demo-3.demo-peers.team.svc.cluster.local:2380";
    assert_eq!(seen[0].body, json!({"name": "demo-3", "peer_url": peer_url, "incarnation": "03".repeat(16)}));
}

#[tokio::test]
async fn init_and_reset_are_for_one_data_directory() {
    let world = World::new([], []).await;
    let other = Seed { incarnation: Hex128([9; 16]), ..SEED };
    for action in [
        Action::Init { seed: other, ordinal: 0, min_voters: 2 },
        Action::Reset { ordinal: 0, incarnation: Hex128([9; 16]) },
    ] {
        let error = world.run(&[action]).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Conflict { .. }), "{error}");
    }
    assert!(world.node.calls().is_empty());
    let done = json!({"cluster_id": "07".repeat(16), "genesis": "08".repeat(16), "member_id": "1"});
    let world = World::new([], [(200, done)]).await;
    world.run(&[Action::Init { seed: SEED, ordinal: 0, min_voters: 2 }]).await.unwrap();
    assert_eq!(world.node.seen()[0].body["min_voters"], 2);
}

#[tokio::test]
async fn a_world_that_moved_is_no_failure_and_ends_the_pass() {
    let moved = serde_json::to_value(Problem::new(Code::MembersMoved, "at 6")).unwrap();
    let world = World::new([], [(412, moved)]).await;
    let remove = || Action::Remove { leader: 0, id: 3, conf_index: 5 };
    let error = world.run(&[remove(), remove()]).await.unwrap_err();
    assert!(
        matches!(&error, ExecuteError::Conflict { doing, .. } if doing == "removing member 3 at demo-0"),
        "{error}"
    );
    assert_eq!(world.node.calls().len(), 1);
    for answer in [failure(409, "Conflict", "modified"), failure(404, "NotFound", "gone")] {
        let world = World::new([answer], []).await;
        let pod = Action::DeletePod { ordinal: 1, uid: "u".into(), resource_version: "1".into(), how: Ending::Delete };
        assert!(matches!(world.run(&[pod]).await, Err(ExecuteError::Conflict { .. })));
    }
}

#[tokio::test]
async fn a_failure_says_what_was_tried_and_ends_the_pass() {
    let world = World::new([failure(500, "InternalError", "no disk")], []).await;
    let pod = || Action::DeletePod { ordinal: 1, uid: "u".into(), resource_version: "1".into(), how: Ending::Delete };
    let error = world.run(&[pod(), pod()]).await.unwrap_err();
    assert_eq!(error.to_string(), "deleting Pod demo-1: no disk (500 InternalError)");
    assert_eq!(world.api.calls().len(), 1);
}

#[tokio::test]
async fn rule_o12_no_voter_is_made_while_the_budget_cannot_be_raised() {
    let budget = owned("PodDisruptionBudget", "demo", UID);
    let down = failure(500, "InternalError", "failed calling webhook");
    let world = World::new([budget.clone(), down, ok()], []).await;
    let pod = Action::DeletePod { ordinal: 1, uid: "u".into(), resource_version: "1".into(), how: Ending::Delete };
    let promote = Action::Promote { leader: 0, id: 4, replaces: None, conf_index: 9 };
    let done = world.run(&[Action::SetBudget { min_available: 3 }, promote, pod]).await.unwrap();
    assert_eq!(done, Done { acted: 1, failed: true }, "the rest goes on");
    assert!(world.node.calls().is_empty());
}

#[tokio::test]
async fn rule_o32_a_child_that_fails_is_remembered_and_the_rest_goes_on() {
    let set = owned("StatefulSet", "demo", UID);
    for (answer, said, again) in [
        (failure(422, "Invalid", "spec.template: bad"), "the API server refuses it: spec.template: bad", true),
        (
            failure(403, "Forbidden", "a policy denied the request"),
            "the API server refuses it: a policy denied the request",
            true,
        ),
        (failure(500, "InternalError", "failed calling webhook"), "failed calling webhook (500 InternalError)", false),
    ] {
        let world = World::new([set.clone(), answer, set.clone()], [(200, json!({}))]).await;
        let apply = || Action::ApplySet { replicas: 3, resource_version: "40".to_string() };
        let mut writes = Writes::default();
        let actions = [apply(), Action::Remove { leader: 0, id: 3, conf_index: 5 }];
        let done = world.run_with(&mut writes, &actions).await.unwrap();
        assert_eq!(done, Done { acted: 1, failed: true });
        let now = tokio::time::Instant::now();
        let words = if again { writes.refused(now) } else { writes.failed(now) };
        assert_eq!(words, Some(format!("StatefulSet demo: {said}")));
        assert_eq!(world.run_with(&mut writes, &[apply()]).await.unwrap(), Done::default());
        assert_eq!(
            world.api.calls().iter().filter(|call| call.starts_with("PATCH")).count(),
            1,
            "it is not sent again"
        );
    }
}

#[tokio::test]
async fn a_size_that_admission_changes_is_not_sent_again_and_again() {
    let world = World::new([owned("StatefulSet", "demo", UID), sized(3), owned("StatefulSet", "demo", UID)], []).await;
    let apply = || Action::ApplySet { replicas: 5, resource_version: "40".to_string() };
    let mut writes = Writes::default();
    for _ in 0..2 {
        assert_eq!(world.run_with(&mut writes, &[apply()]).await.unwrap().acted, 0);
    }
    let words = "StatefulSet demo: admission makes 3 of spec.replicas 5";
    assert_eq!(writes.failed(tokio::time::Instant::now()).as_deref(), Some(words));
    assert_eq!(world.api.calls().iter().filter(|call| call.starts_with("PATCH")).count(), 1);
}

#[tokio::test]
async fn nothing_is_done_without_the_lease_or_while_stopping() {
    let mut world = World::new([], []).await;
    world.operator.held = Held::lost_for_test();
    assert!(matches!(world.run(&[Action::CreateSet { replicas: 3 }]).await, Err(ExecuteError::NotHeld(_))));
    world.operator.held = Held::for_test();
    world.stop.send_replace(true);
    assert!(matches!(world.run(&[Action::CreateSet { replicas: 3 }]).await, Err(ExecuteError::Stopping)));
    assert!(world.api.calls().is_empty());
}

/// An API server, a leader in `demo-0`, and an operator that acts on them.
struct World {
    api: Script,
    node: Script,
    operator: Operator,
    nodes: Nodes,
    stop: watch::Sender<bool>,
}

impl World {
    async fn new(api: impl IntoIterator<Item = (u16, Value)>, node: impl IntoIterator<Item = (u16, Value)>) -> World {
        let (api, node) = (Script::start(api).await, Script::start(node).await);
        let nodes = Nodes::default();
        let token: Token = "ab".repeat(32).parse().unwrap();
        nodes.put(0, NodeClient::new(node.url(), token.clone()).unwrap(), &token);
        let (stop, stopping) = watch::channel(false);
        let operator = Operator {
            client: api.client(),
            settings: settings(),
            held: Held::for_test(),
            // Events go to a server of their own, which refuses them: nothing waits for Events.
            events: Events::start(Script::start([]).await.client(), "operator-0", || ()),
            metrics: Arc::new(Metrics::new()),
            stopping,
            exit_after: ExitAfter::default(),
        };
        World { api, node, operator, nodes, stop }
    }

    async fn run(&self, actions: &[Action]) -> Result<Done, ExecuteError> {
        self.run_with(&mut Writes::default(), actions).await
    }

    async fn run_with(&self, writes: &mut Writes, actions: &[Action]) -> Result<Done, ExecuteError> {
        let mut cluster: RaftKvCluster = cluster(json!({}));
        cluster.metadata.resource_version = Some("10".to_string());
        let asked = Asked::of(&cluster, &self.operator.settings, None, |_| false);
        let desired: Desired = crate::resources::desired(&asked, &self.operator.settings);
        let seen = observed();
        let steps: Vec<Step> = actions.iter().map(|action| Step { action: action.clone(), note: None }).collect();
        let (operator, nodes) = (&self.operator, &self.nodes);
        let (desired, seen, asked) = (&desired, &seen, &asked);
        let mut pass = Pass { operator, nodes, desired, seen, cluster: &mut cluster, asked, writes };
        let before = self.written();
        let done = execute(&mut pass, &steps).await;
        // An operator that dies between two requests is one that dies between two actions: the plan is explored from
        // there, in every state of every scenario (`tests/plan/explore.rs`).
        assert!(self.written() - before <= actions.len(), "an action writes more than once: {:?}", self.api.calls());
        done
    }

    /// How many requests have changed something.
    fn written(&self) -> usize {
        let seen = self.api.seen().into_iter().chain(self.node.seen());
        seen.filter(Seen::wrote).count()
    }
}

fn observed() -> Observed {
    Observed {
        now: Timestamp::UNIX_EPOCH,
        fresh_cluster_id: Hex128([6; 16]),
        latch: Latch::default(),
        memory: Memory::default(),
        children: BTreeMap::new(),
        set: SetSeen::Absent,
        claims: BTreeMap::new(),
        pods: [(0, pod(0))].into(),
        members: None,
        machines: BTreeMap::new(),
        token_refused: BTreeSet::new(),
    }
}

fn pod(ordinal: Ordinal) -> PodSeen {
    PodSeen {
        uid: "pod-uid".to_string(),
        resource_version: "31".to_string(),
        outdated: false,
        terminating: false,
        ready: true,
        container: Container::Running,
        machine: None,
        eviction: Eviction::Possible,
        node: NodeSeen::Answered(Box::new(node_status(ordinal as u8))),
    }
}

/// An object of the API that this uid controls; nobody does if the uid is empty.
fn owned(kind: &str, name: &str, controller: &str) -> (u16, Value) {
    let owners = match controller {
        "" => json!([]),
        uid => {
            json!([{"apiVersion": "raftkv.dev/v1alpha1", "kind": "RaftKvCluster", "name": "demo", "uid": uid, "controller": true}])
        }
    };
    let version = if kind == "StatefulSet" {
        "apps/v1"
    } else if kind == "Service" {
        "v1"
    } else {
        "policy/v1"
    };
    let metadata = json!({"name": name, "namespace": "team", "uid": "live-uid", "resourceVersion": "41", "ownerReferences": owners});
    let spec =
        json!({"selector": {}, "serviceName": "demo-peers", "template": {"metadata": {}, "spec": {"containers": []}}});
    let spec = if kind == "StatefulSet" { spec } else { json!({}) };
    (200, json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}))
}

/// The StatefulSet as the API server gives it back.
fn sized(replicas: u32) -> (u16, Value) {
    let (code, mut set) = owned("StatefulSet", "demo", UID);
    set["spec"]["replicas"] = json!(replicas);
    (code, set)
}

/// Any object: the answer is not looked at.
fn ok() -> (u16, Value) {
    let spec = json!({"selector": {}, "serviceName": "x", "template": {"metadata": {}}, "containers": []});
    (200, json!({"metadata": {"name": "x"}, "spec": spec}))
}

fn assert_fenced(metadata: &Value, uid: Option<&str>, version: &str) {
    assert_eq!(metadata["resourceVersion"], version, "{metadata}");
    assert_eq!(metadata.get("uid").and_then(Value::as_str), uid, "{metadata}");
}

fn two(seen: Vec<Seen>) -> [Seen; 2] {
    seen.try_into().unwrap()
}

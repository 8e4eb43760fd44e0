//! What `status` shows of a cluster in each of its states. The golden files are the screens that a person gets.

use crate::kube::judge::judge;
use crate::kube::screen;
use crate::kube::screen::{Level, Screen};
use crate::kube::status::Lookout;
use crate::kube::testing::{self, FakeKubectl, golden};
use crate::kube::worlds::{self, World, blank, claim, event, leads, member, node, now, operator};
use raftkv_api::{DecimalId, Hex128, MemberRole, NodeState};
use serde_json::json;

async fn look(fake: &FakeKubectl) -> Screen {
    let kube = testing::kube(fake);
    let mut lookout = Lookout::new(&kube, Some("demo".to_string()));
    let mut seen = lookout.look().await.unwrap();
    seen.now = now();
    judge(&seen)
}

/// Looks at the world and compares the screen.
async fn shows(world: &World, level: Level, file: &str) -> Screen {
    let shown = world.show().await;
    let screen = look(&shown.fake).await;
    golden(file, &screen::text(&screen));
    assert_eq!(screen.level, level, "{}", screen::text(&screen));
    screen
}

#[tokio::test]
async fn healthy() {
    let screen = shows(&World::healthy(), Level::Healthy, "healthy.txt").await;
    assert!(screen.next.is_empty());
    let json = serde_json::to_value(&screen).unwrap();
    assert_eq!((&json["level"], &json["members"][1]["role"]), (&json!("healthy"), &json!("leader")));
    assert_eq!((&json["numbers"]["source"], &json["operator"]["state"]), (&json!("nodes"), &json!("up")));
}

#[tokio::test]
async fn scaling_up() {
    let mut world = World::healthy();
    world.cluster["spec"]["replicas"] = json!(5);
    for name in ["demo-3", "demo-4"] {
        world.add_pod(name, "worker-1");
        world.claims.insert(format!("raftkv-{name}"), claim(name, None));
    }
    let mut learner = node(4, "demo-3", 41_000);
    learner.state = NodeState::Learner;
    world.nodes.insert("demo-3".to_string(), learner);
    world.nodes.insert("demo-4".to_string(), blank("demo-4"));
    let mut members = world.members.take().unwrap().members;
    members.push(member(4, "demo-3", MemberRole::Learner));
    world.set_members(members);
    let message = "waiting for the learner demo-3 to catch up";
    world.status()["operation"] =
        json!({"kind": "ScaleUp", "step": "WaitForCatchUp", "member": "demo-3", "since": "2026-01-01T11:59:48Z"});
    world.status()["message"] = json!(message);
    world.set_condition("Ready", "False", "MembersNotReady", message);
    world.set_condition("Progressing", "True", "ScalingUp", message);
    shows(&world, Level::Changing, "scaling_up.txt").await;
}

/// Two of three are gone, and with them the leader.
fn without_quorum() -> World {
    let mut world = World::healthy();
    world.stop_pod("demo-1", "CrashLoopBackOff");
    world.pods.remove("demo-2");
    world.nodes.remove("demo-2");
    world.members = None;
    let alone = world.nodes.get_mut("demo-0").unwrap();
    (alone.leader_id, alone.leader) = (None, None);
    world.status().as_object_mut().unwrap().remove("leader");
    let text = "2 of the 3 voters do not answer; 1 of them must come back: demo-1 with its volume claim raftkv-demo-1, on \
                the Kubernetes node worker-2 (CrashLoopBackOff); demo-2 with its volume claim raftkv-demo-2 (no pod)";
    world.set_condition("Ready", "False", "QuorumLost", text);
    world.set_condition("Available", "False", "QuorumLost", text);
    world.set_condition("Degraded", "True", "QuorumLost", text);
    let warning = "Back-off restarting failed container raftkv";
    world.events.push(event("Pod", "demo-1", "Warning", "BackOff", "2026-01-01T11:59:00Z", warning));
    world
}

#[tokio::test]
async fn quorum_lost() {
    shows(&without_quorum(), Level::Down, "quorum_lost.txt").await;
}

#[tokio::test]
async fn quorum_lost_and_no_operator_to_say_so() {
    let mut world = without_quorum();
    world.cluster["status"] = World::healthy().cluster["status"].clone();
    world.operators = vec![operator(0)];
    let screen = shows(&world, Level::Down, "quorum_lost_operator_down.txt").await;
    assert!(screen.next[0].text.contains("bring back demo-1 on worker-2"), "{:?}", screen.next);
}

#[tokio::test]
async fn foreign_volumes() {
    let mut world = World::healthy();
    for (pod, claim) in ["demo-0", "demo-1", "demo-2"].iter().zip(world.claims.values_mut()) {
        claim["metadata"]["creationTimestamp"] = json!("2025-06-01T00:00:00Z");
        claim["metadata"]["labels"] = json!({});
        if *pod == "demo-0" {
            claim["metadata"]["labels"] = json!({"raftkv.dev/cluster-uid": "another"});
            claim["metadata"]["annotations"]["raftkv.dev/cluster-id"] = json!(Hex128([3; 16]));
        }
    }
    world.nodes = ["demo-0", "demo-1", "demo-2"].map(|name| (name.to_string(), blank(name))).into();
    world.members = None;
    let status = world.status();
    (status["bootstrapped"], status["members"], status["voters"]) = (json!(false), json!([]), json!(0));
    status.as_object_mut().unwrap().remove("leader");
    let text = "volumes of this cluster's names were there before it (raftkv-demo-0 raftkv-demo-1 raftkv-demo-2): no node on \
                them says that it belongs to a cluster. Nothing was written to them.";
    world.set_condition("Ready", "False", "Forming", "the cluster is not formed yet");
    world.set_condition("Available", "False", "Forming", "the cluster is not formed yet");
    world.set_condition("Progressing", "True", "Adopting", "no node on them says that it belongs to a cluster");
    world.set_condition("Degraded", "True", "ForeignVolumes", text);
    shows(&world, Level::Down, "foreign_volumes.txt").await;
}

#[tokio::test]
async fn operator_down() {
    let mut world = World::healthy();
    world.operators = vec![operator(0)];
    // Leadership moved after the operator's last word.
    for status in world.nodes.values_mut() {
        (status.leader_id, status.term) = (Some(DecimalId(3)), 5);
        status.leader.as_mut().unwrap().name = "demo-2".to_string();
        leads(status, status.member_id == Some(DecimalId(3)));
    }
    let screen = shows(&world, Level::Degraded, "operator_down.txt").await;
    assert_eq!(screen.leader.as_deref(), Some("demo-2"));
}

#[tokio::test]
async fn a_lost_disk_is_two_members_of_one_name() {
    let mut world = World::healthy();
    let mut members = world.members.take().unwrap().members;
    members.push(member(4, "demo-2", MemberRole::Learner));
    world.nodes.insert("demo-2".to_string(), node(4, "demo-2", 100));
    world.nodes.get_mut("demo-2").unwrap().state = NodeState::Learner;
    world.set_members(members);
    world.claims.insert("raftkv-demo-2".to_string(), claim("demo-2", None));
    let text = "waiting for the learner demo-2 to catch up";
    world.status()["operation"] =
        json!({"kind": "Replace", "step": "WaitForCatchUp", "member": "demo-2", "since": "2026-01-01T11:59:57Z"});
    world.set_condition("Ready", "False", "DiskLost", "demo-2 came back with an empty volume; member 3 is replaced");
    world.set_condition("Progressing", "True", "ReplacingMember", text);
    world.set_condition("Degraded", "True", "DiskLost", "demo-2 came back with an empty volume; member 3 is replaced");
    shows(&world, Level::Degraded, "replacing.txt").await;
}

#[tokio::test]
async fn a_user_with_few_rights_sees_the_operators_word() {
    let shown = World::healthy().show().await;
    let no = |what: &str| format!("Error from server (Forbidden): {what} is forbidden: User \"eve\" cannot do that\n");
    shown.fake.refuse("get secret demo-auth", &no("secrets \"demo-auth\""));
    shown.fake.refuse("get events", &no("events"));
    shown.fake.refuse("get deployments.apps --all-namespaces", &no("deployments.apps"));
    shown.fake.refuse("get deployments.apps", &no("deployments.apps"));
    let screen = look(&shown.fake).await;
    golden("few_rights.txt", &screen::text(&screen));
    assert_eq!(screen.level, Level::Healthy);
    assert!(shown.fake.forwards().is_empty(), "without the token no node is bothered");
}

#[tokio::test]
async fn a_user_who_may_not_forward_ports_sees_the_operators_word() {
    let shown = World::healthy().show().await;
    for pod in ["demo-0", "demo-1", "demo-2"] {
        let said = format!(
            "Error from server (Forbidden): pods \"{pod}\" is forbidden: User \"eve\" cannot create pods/portforward"
        );
        shown.fake.refuse_forward(pod, &said);
    }
    let screen = look(&shown.fake).await;
    assert_eq!(screen.level, Level::Healthy);
    assert!(screen::text(&screen).contains("cannot create pods/portforward"));
}

#[tokio::test]
async fn a_cluster_that_nobody_looked_at() {
    let mut world = World::healthy();
    world.cluster.as_object_mut().unwrap().remove("status");
    (world.pods, world.nodes, world.claims, world.events) = Default::default();
    world.operators.clear();
    shows(&world, Level::Unknown, "no_operator.txt").await;
}

#[tokio::test]
async fn suspended() {
    let mut world = World::healthy();
    world.cluster["spec"]["suspend"] = json!(true);
    (world.pods, world.nodes, world.members) = Default::default();
    let text = "no pods run, because spec.suspend is true";
    world.set_condition("Ready", "False", "Suspended", text);
    world.set_condition("Available", "False", "Suspended", text);
    world.set_condition("Progressing", "False", "Suspended", text);
    shows(&world, Level::Suspended, "suspended.txt").await;
}

#[tokio::test]
async fn a_cluster_that_is_being_stopped_is_not_down() {
    let mut world = World::healthy();
    world.cluster["spec"]["suspend"] = json!(true);
    ["demo-0", "demo-1", "demo-2"].iter().for_each(|pod| world.stop_pod(pod, "Stopping"));
    world.members = None;
    world.set_condition("Ready", "False", "MembersNotReady", "pods are stopping");
    world.set_condition("Progressing", "True", "Suspending", "pods are stopping");
    let screen = look(&world.show().await.fake).await;
    assert_eq!((screen.level, screen.summary.as_str()), (Level::Changing, "pods are stopping"));
}

#[tokio::test]
async fn what_is_paused_is_first_to_go_on() {
    let mut world = without_quorum();
    world.set_condition("Progressing", "False", "Paused", "nothing is changed, because spec.paused is true");
    let screen = look(&world.show().await.fake).await;
    assert!(screen.next[0].text.starts_with("paused by spec.paused"), "{:?}", screen.next);
    assert!(screen.next[1].text.starts_with("bring back demo-1"), "{:?}", screen.next);
}

#[tokio::test]
async fn data_that_differs_is_said_first() {
    let mut world = World::healthy();
    world.nodes.get_mut("demo-2").unwrap().state_hash.as_mut().unwrap().log_hash = Hex128([1; 16]);
    let shown = world.show().await;
    let screen = look(&shown.fake).await;
    assert_eq!(screen.level, Level::Down);
    assert!(screen.summary.starts_with("DATA DIFFERS between"), "{}", screen.summary);
    assert!(screen.next[0].text.starts_with("stop writing"), "{:?}", screen.next);
}

#[tokio::test]
async fn forwards_are_kept_from_look_to_look_and_end_with_the_last() {
    let shown = World::healthy().show().await;
    let kube = testing::kube(&shown.fake);
    let mut lookout = Lookout::new(&kube, None);
    for _ in 0..2 {
        lookout.look().await.unwrap();
    }
    let forwards = shown.fake.forwards();
    assert_eq!(forwards.len(), 3);
    drop(lookout);
    shown.fake.until(|| !forwards.iter().any(|pid| FakeKubectl::runs(pid))).await;
}

#[tokio::test]
async fn claims_tell_what_is_left_over() {
    let mut world = World::healthy();
    world.claims.insert("raftkv-demo-3".to_string(), claim("demo-3", Some(4)));
    world.claims.insert("raftkv-other-0".to_string(), claim("other-0", Some(4)));
    let mut leaving = claim("demo-4", Some(5));
    leaving["metadata"]["deletionTimestamp"] = json!(worlds::NOW);
    world.claims.insert("raftkv-demo-4".to_string(), leaving);
    let shown = world.show().await;
    let screen = look(&shown.fake).await;
    let notes: Vec<(&str, &str)> = screen.claims.iter().map(|row| (row.name.as_str(), row.note.as_str())).collect();
    assert_eq!(
        notes[3..],
        [("raftkv-demo-3", "left by member 4, which is no member any more"), ("raftkv-demo-4", "is being deleted"),]
    );
}

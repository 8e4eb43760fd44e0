//! The commands through port-forwards, against nodes that answer by a script, and the report.

use crate::args::Output;
use crate::kube::args::{Cli, Command};
use crate::kube::failed::KubeFailed;
use crate::kube::testing::{FakeKubectl, kube};
use crate::kube::worlds::{TOKEN, World, member, node};
use crate::kube::{carry_out, output};
use clap::Parser;
use flate2::read::GzDecoder;
use raftkv_api::{Code, DecimalId, MemberRole, Outcome, Transferred};
use raftkv_client::testing::{Reply, Server};
use serde_json::json;
use std::io::{Read, Write};

/// A value that a user wrote.
const VALUE: &str = "a-value-of-a-user";
const KEY: &str = "a-key-of-a-user";

async fn run(fake: &FakeKubectl, args: &[&str]) -> Result<(), KubeFailed> {
    let cli = Cli::try_parse_from(["kubectl raftkv"].iter().chain(args)).unwrap();
    carry_out(&kube(fake), cli.command).await
}

#[tokio::test]
async fn a_write_goes_through_the_leaders_pod() {
    let shown = World::healthy().show().await;
    let server = Server::start([Reply::put(7)]).await;
    shown.fake.forward("demo-1", server.url());
    run(&shown.fake, &["put", KEY, VALUE]).await.unwrap();
    assert_eq!(server.targets(), [format!("PUT /v1/kv/{KEY}")]);
    assert_eq!(server.seen()[0].body, VALUE);
    assert_eq!(shown.fake.forwards().len(), 1);
    assert!(!shown.fake.calls().iter().any(|call| call.contains("secret")), "keys need no token");
}

#[tokio::test]
async fn a_pod_that_cannot_be_reached_is_passed_over() {
    let shown = World::healthy().show().await;
    shown.fake.refuse_forward("demo-1", "error: lost connection to pod\n");
    let server = Server::start([Reply::found("x", 5)]).await;
    shown.fake.forward("demo-0", server.url());
    run(&shown.fake, &["get", KEY]).await.unwrap();
    assert_eq!(server.targets(), [format!("GET /v1/kv/{KEY}")]);
}

#[tokio::test]
async fn without_a_ready_pod_only_stale_reads_go_on() {
    let mut world = World::healthy();
    for pod in world.pods.values_mut() {
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    }
    world.stop_pod("demo-1", "CrashLoopBackOff");
    let shown = world.show().await;
    let failed = run(&shown.fake, &["get", KEY]).await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "no pod of demo is ready (demo-0: not ready, demo-1: CrashLoopBackOff, demo-2: not ready)"
    );
    assert!(failed.advice().unwrap().contains("kubectl raftkv status demo"));
    let server = Server::start([Reply::found("x", 5)]).await;
    shown.fake.forward("demo-0", server.url());
    run(&shown.fake, &["get", KEY, "--stale"]).await.unwrap();
    assert_eq!(server.targets(), [format!("GET /v1/kv/{KEY}?consistency=stale")]);
}

#[tokio::test]
async fn a_named_pod_is_the_only_one_that_is_asked() {
    let shown = World::healthy().show().await;
    let server = Server::start([Reply::found("x", 5)]).await;
    shown.fake.forward("demo-2", server.url());
    run(&shown.fake, &["get", KEY, "--pod", "demo-2"]).await.unwrap();
    assert_eq!(server.targets().len(), 1);
    shown.fake.forward("demo-0", &Server::refusing().await);
    let failed = run(&shown.fake, &["get", KEY, "--pod", "demo-0"]).await.unwrap_err();
    assert!(failed.to_string().starts_with("pod demo-0: Connection refused"), "{failed}");
    let failed = run(&shown.fake, &["get", KEY, "--pod", "demo-7"]).await.unwrap_err();
    assert!(failed.to_string().contains("demo-7"), "{failed}");
}

#[tokio::test]
async fn many_keys_go_through_every_ready_pod() {
    let shown = World::healthy().show().await;
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&input, format!("{}\n", json!({"key": KEY, "value": VALUE}))).unwrap();
    let server = Server::start([
        Reply::problem(Code::NoLeader, Outcome::None),
        Reply::put(7),
        Reply::json(200, &json!({"revision": 7, "count": 0, "kvs": [], "next": null})),
    ]);
    let server = server.await;
    for pod in ["demo-0", "demo-1", "demo-2"] {
        shown.fake.forward(pod, server.url());
    }
    run(&shown.fake, &["import", "--format", "jsonl", input.to_str().unwrap()]).await.unwrap();
    assert_eq!(shown.fake.forwards().len(), 3);
    run(&shown.fake, &["export", "--format", "jsonl", output.to_str().unwrap()]).await.unwrap();
    assert_eq!(std::fs::read_to_string(output).unwrap(), "");
    assert_eq!(server.targets().len(), 3);
}

#[tokio::test]
async fn a_port_forward_that_ends_is_made_again_while_many_keys_move() {
    let shown = World::healthy().show().await;
    // It answers nothing that an import takes, so that the import goes on trying.
    let server = Server::start([]).await;
    for pod in ["demo-0", "demo-1", "demo-2"] {
        shown.fake.forward(pod, server.url());
    }
    let mut input = tempfile::NamedTempFile::new().unwrap();
    writeln!(input, "{}", json!({"key": KEY, "value": VALUE})).unwrap();
    let restarted = async {
        // All three are open before the first key is written.
        shown.fake.until(|| !server.targets().is_empty()).await;
        assert_eq!(shown.fake.forwards().len(), 3);
        let pid = shown.fake.forwards().pop().unwrap();
        std::process::Command::new("kill").arg(&pid).status().unwrap();
        shown.fake.until(|| shown.fake.forwards().len() == 4).await;
    };
    let import = ["import", "--format", "jsonl", input.path().to_str().unwrap()];
    tokio::select! {
        result = run(&shown.fake, &import) => panic!("{result:?}"),
        () = restarted => {}
    }
    let calls = shown.fake.calls();
    let port = server.url().rsplit(':').next().unwrap().to_string();
    assert!(calls.last().unwrap().contains(&format!(" {port}:2379 ")), "{:?}", calls.last());
}

#[tokio::test]
async fn leadership_moves_to_the_member_in_a_pod() {
    let shown = World::healthy().show().await;
    let mut members = World::healthy().members.unwrap();
    // The old member of that name leaves; only its successor can lead.
    members.members[2].role = MemberRole::Outgoing;
    members.members.push(member(4, "demo-2", MemberRole::Voter));
    let status = || Reply::json(200, &node(2, "demo-1", 100));
    let done = Reply::json(200, &Transferred { leader: DecimalId(4) });
    let server = Server::start([Reply::json(200, &members), status(), status(), done]).await;
    for pod in ["demo-0", "demo-2"] {
        shown.fake.refuse_forward(pod, "error: lost connection to pod\n");
    }
    shown.fake.forward("demo-1", server.url());
    run(&shown.fake, &["leader", "move", "demo", "--to", "demo-2"]).await.unwrap();
    let seen = server.seen();
    let moved = seen.last().unwrap();
    assert_eq!((moved.target.as_str(), &moved.body[..]), ("/v1/leader/transfer", &br#"{"to":"4"}"#[..]));
    assert_eq!(moved.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
}

#[tokio::test]
async fn leadership_goes_to_no_stranger() {
    let shown = World::healthy().show().await;
    let server = Server::start([Reply::json(200, &World::healthy().members.unwrap())]).await;
    for pod in ["demo-0", "demo-1", "demo-2"] {
        shown.fake.forward(pod, server.url());
    }
    let failed = run(&shown.fake, &["leader", "move", "--to", "demo-9"]).await.unwrap_err();
    assert_eq!(failed.to_string(), "no voter is called 'demo-9'; the voters are demo-0, demo-1, demo-2");
}

/// A world whose logs and objects hold what must not get out.
async fn world_with_secrets() -> (World, crate::kube::worlds::Shown) {
    let mut world = World::healthy();
    let copy = json!({"kubectl.kubernetes.io/last-applied-configuration": format!("{{\"token\":\"{TOKEN}\"}}")});
    world.pods.get_mut("demo-0").unwrap()["metadata"]["annotations"] = copy;
    world.pods.get_mut("demo-0").unwrap()["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    let shown = world.show().await;
    let fake = &shown.fake;
    for kind in ["statefulsets.apps", "services", "endpointslices.discovery.k8s.io", "poddisruptionbudgets.policy"] {
        fake.answer(&format!("get {kind}"), &json!({"items": [{"metadata": {"name": "demo"}}]}).to_string());
    }
    let operator = json!({"items": [{"metadata": {"namespace": "raftkv-system", "name": "raftkv-operator-0"}}]});
    fake.answer("get pods --all-namespaces", &operator.to_string());
    fake.answer("logs raftkv-operator-0", &format!("2026-01-01T11:00:00Z  INFO operator: sent Bearer {TOKEN}\n"));
    let log = format!(
        "2026-01-01T11:00:00Z  INFO raftkv: ready\n\
         2026-01-01T11:00:01Z DEBUG raft: Sending from 1 to 2 msg=entries {{ data: \"{KEY}\\022{VALUE}\" }}\n"
    );
    for pod in ["demo-0", "demo-1"] {
        fake.answer(&format!("logs {pod}"), &log);
    }
    fake.answer("version", r#"{"clientVersion":{"gitVersion":"v1.36.3"}}"#);
    (world, shown)
}

fn unpacked(file: &std::path::Path) -> String {
    let mut tar = Vec::new();
    GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_end(&mut tar).unwrap();
    String::from_utf8_lossy(&tar).into_owned()
}

#[tokio::test]
async fn a_report_holds_what_explains_and_nothing_secret() {
    use base64::Engine;
    let (_world, shown) = world_with_secrets().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.tar.gz");
    run(&shown.fake, &["report", "demo", "--output", file.to_str().unwrap(), "--log-lines", "50"]).await.unwrap();
    let tar = unpacked(&file);
    let coded = base64::engine::general_purpose::STANDARD.encode(format!("{TOKEN}\n"));
    for secret in [TOKEN, &coded, KEY, VALUE, "strange value", "managedFields", "last-applied"] {
        assert!(!tar.contains(secret), "{secret} is in the report");
    }
    let expected = [
        "README.txt",
        "status.txt",
        "status.json",
        "members.json",
        "versions.json",
        "objects/raftkvcluster.json",
        "objects/statefulsets.json",
        "objects/pods.json",
        "objects/services.json",
        "objects/endpointslices.json",
        "objects/poddisruptionbudgets.json",
        "objects/persistentvolumeclaims.json",
        "objects/events.json",
        "operator/deployments.json",
        "operator/pods.json",
        "operator/raftkv-system.raftkv-operator-0.log",
        "nodes/demo-0.status.json",
        "nodes/demo-0.metrics.txt",
        "nodes/demo-0.log",
        "nodes/demo-0.previous.log",
    ];
    for name in expected {
        assert!(tar.contains(&format!("/{name}\0")), "{name} is missing: {}", &tar[..2_000]);
    }
    assert!(tar.contains("INFO raftkv: ready") && tar.contains("raftkv_is_leader 1"));
    assert!(tar.contains("4 log lines at debug or trace"), "two pods, each with a log and a previous one");
    // What could not be read is said: this pod has no log, and machines may not be seen.
    assert!(tar.contains("nodes/demo-2.log: kubectl logs demo-2") && tar.contains("objects/machines.json: "));
    assert!(shown.fake.calls().iter().filter(|call| call.contains(" logs ")).all(|call| call.contains("--tail 50")));
    assert!(!folder.path().join("report.tar.gz.partial").exists());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_report_is_made_without_the_right_to_read_the_token() {
    let (_world, shown) = world_with_secrets().await;
    shown.fake.refuse("get secret demo-auth", "Error from server (Forbidden): secrets \"demo-auth\" is forbidden\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    run(&shown.fake, &["report", "--output", file.path().to_str().unwrap()]).await.unwrap();
    let tar = unpacked(file.path());
    assert!(!tar.contains(TOKEN) && !tar.contains(VALUE));
    assert!(tar.contains("nodes/: kubectl get secret demo-auth"), "it says why no node was asked");
}

#[tokio::test]
async fn no_cluster_is_said_with_what_to_do() {
    let fake = FakeKubectl::new();
    fake.answer("get raftkvclusters.raftkv.dev", r#"{"items":[]}"#);
    let failed = run(&fake, &["status"]).await.unwrap_err();
    assert!(matches!(failed, KubeFailed::NoCluster { .. }), "{failed}");
    crate::kube::testing::golden("no_cluster.txt", &format!("error: {failed}\nnext: {}\n", failed.advice().unwrap()));
    fake.refuse("get raftkvclusters.raftkv.dev", "error: the server doesn't have a resource type \"raftkvclusters\"\n");
    let failed = run(&fake, &["status"]).await.unwrap_err();
    let text = format!("error: {failed}\nnext: {}\n", failed.advice().unwrap());
    crate::kube::testing::golden("no_operator_installed.txt", &text);
}

#[test]
fn json_is_asked_for_at_the_command() {
    let output = |args: &[&str]| output(&Cli::try_parse_from(["raftkv"].iter().chain(args)).unwrap().command);
    assert_eq!(output(&["get", "k", "-o", "json"]), Output::Json);
    assert_eq!(output(&["report", "-o", "file"]), Output::Table);
    assert!(matches!(Cli::try_parse_from(["raftkv", "members"]).unwrap().command, Command::Members(_)));
}

//! The program as a plugin: how it is called, its help, its completions, its exit codes, and what a signal leaves behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory with links to the program and to a kubectl that answers with the files beside it.
struct Plugin(TempDir);

impl Plugin {
    fn new() -> Plugin {
        let folder = tempfile::tempdir().expect("a directory");
        let link = |to: &Path, name: &str| symlink(to, folder.path().join(name)).expect("a link");
        for name in ["kubectl-raftkv", "kubectl_complete-raftkv", "raftkvctl"] {
            link(Path::new(env!("CARGO_BIN_EXE_raftkvctl")), name);
        }
        link(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/kubectl"), "kubectl");
        fs::create_dir(folder.path().join("port")).expect("a directory");
        Plugin(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn answer(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("written");
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.file(name));
        command.args(args).env("RAFTKV_KUBECTL", self.file("kubectl")).stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, args: &[&str]) -> Output {
        self.command(name, args).output().expect("the program runs")
    }

    fn stdout(&self, name: &str, args: &[&str]) -> String {
        String::from_utf8(self.run(name, args).stdout).expect("UTF-8")
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

const CLUSTER: &str = r#"{"metadata":{"name":"demo","namespace":"prod","uid":"u"},"spec":{"replicas":1},"status":{}}"#;
const POD: &str = r#"{"metadata":{"name":"demo-0","uid":"p"},"status":{"phase":"Running"}}"#;
/// `00…0` in base64: a token.
const SECRET: &str =
    r#"{"data":{"token":"MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA=="}}"#;

#[test]
fn help_says_what_the_user_typed() {
    let plugin = Plugin::new();
    assert!(plugin.stdout("kubectl-raftkv", &["--help"]).contains("Usage: kubectl raftkv"));
    assert!(plugin.stdout("kubectl-raftkv", &["status", "--help"]).contains("Usage: kubectl raftkv status"));
    assert!(plugin.stdout("raftkvctl", &["kube", "status", "--help"]).contains("Usage: raftkvctl kube status"));
    assert!(plugin.stdout("raftkvctl", &["--help"]).contains("kubectl raftkv"));
    assert!(plugin.stdout("kubectl-raftkv", &["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn both_ways_of_calling_it_do_the_same() {
    let plugin = Plugin::new();
    plugin.answer("get_raftkvclusters.raftkv.dev", &format!(r#"{{"items":[{CLUSTER}]}}"#));
    let by_kubectl = plugin.run("kubectl-raftkv", &["status", "-n", "prod"]);
    let by_hand = plugin.run("raftkvctl", &["kube", "-n", "prod", "status"]);
    assert_eq!(by_kubectl.status.code(), Some(0), "{}", String::from_utf8_lossy(&by_kubectl.stderr));
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text(&by_hand).replace("raftkvctl kube", "kubectl raftkv"), text(&by_kubectl));
    let calls = fs::read_to_string(plugin.file("calls")).expect("calls");
    assert!(calls.starts_with("--namespace prod get raftkvclusters.raftkv.dev"), "{calls}");
}

#[test]
fn exit_codes_tell_usage_absence_and_failure() {
    let plugin = Plugin::new();
    let code = |args: &[&str]| plugin.run("kubectl-raftkv", args).status.code();
    assert_eq!((code(&["frobnicate"]), code(&["put", "k"])), (Some(2), Some(2)));
    assert_eq!(code(&["status", "demo"]), Some(4), "there is no cluster of that name");
    assert_eq!(plugin.run("raftkvctl", &["-o", "json", "kube", "status"]).status.code(), Some(2));
    plugin.answer("get_raftkvclusters.raftkv.dev.error", "Error from server (Forbidden): it is forbidden: no\n");
    let output = plugin.run("kubectl-raftkv", &["status", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert!(error["next"].as_str().is_some_and(|next| next.contains("kubectl auth can-i")), "{error}");
}

#[test]
fn a_kubectl_that_is_not_there_is_named() {
    let plugin = Plugin::new();
    let mut command = plugin.command("kubectl-raftkv", &["status"]);
    let output = command.env("RAFTKV_KUBECTL", "/nonexistent/kubectl").output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("'/nonexistent/kubectl'") && text.contains("next: install kubectl"), "{text}");
}

#[test]
fn kubectl_completes_by_the_second_link() {
    let plugin = Plugin::new();
    plugin.answer("get_raftkvclusters.raftkv.dev", "raftkvcluster.raftkv.dev/demo\n");
    assert_eq!(plugin.stdout("kubectl_complete-raftkv", &["status", "d"]), "demo\n:4\n");
    assert!(plugin.stdout("kubectl_complete-raftkv", &["lea"]).starts_with("leader\tWho leads\n"));
}

#[test]
fn a_signal_ends_the_port_forwards_too() {
    let plugin = Plugin::new();
    plugin.answer("get_raftkvclusters.raftkv.dev", &format!(r#"{{"items":[{CLUSTER}]}}"#));
    plugin.answer("get_pods", &format!(r#"{{"items":[{POD}]}}"#));
    plugin.answer("get_secret_demo-auth", SECRET);
    // Nothing listens there: the port-forward is up all the same.
    plugin.answer("port/demo-0", "1");
    let mut child = plugin
        .command("kubectl-raftkv", &["status", "--watch"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let forwards = || fs::read_to_string(plugin.file("forwards")).unwrap_or_default();
    until("a port-forward", || !forwards().is_empty());
    let pid = forwards().trim().to_string();
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    until("the port-forward's end", || !Path::new("/proc").join(&pid).exists());
}

//! A kubectl for tests, whose answers are files; a screen; and golden files.
//!
//! The program is `tests/kube/kubectl`; a link to it in a directory of the test's own says where the answers are. It is not
//! written by the test: a program that was just written may still be open for writing in another test's child.

use crate::kube::args::Global;
use crate::kube::context::Kube;
use crate::kube::kubectl::Kubectl;
use crate::kube::screen::{ClaimRow, Level, MemberRow, Numbers, OperatorRow, Screen};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// For how long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kubectl that knows what the test told it.
pub(crate) struct FakeKubectl(TempDir);

impl FakeKubectl {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/kubectl"), folder.path().join("kubectl"))
            .unwrap();
        fs::create_dir(folder.path().join("port")).unwrap();
        FakeKubectl(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn program(&self) -> OsString {
        self.file("kubectl").into()
    }

    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::with_program(self.program(), &Global::default())
    }

    /// What `kubectl COMMAND` prints. Flags that follow do not matter but for `--all-namespaces`.
    pub(crate) fn answer(&self, command: &str, output: &str) {
        fs::write(self.file(&file_name(command)), output).unwrap();
    }

    /// What `kubectl COMMAND` says before it fails.
    pub(crate) fn refuse(&self, command: &str, said: &str) {
        fs::write(self.file(&format!("{}.error", file_name(command))), said).unwrap();
    }

    /// A port-forward to this pod leads to that URL, whatever the port.
    pub(crate) fn forward(&self, pod: &str, url: &str) {
        let port = url.rsplit(':').next().unwrap();
        fs::write(self.file(&format!("port/{pod}")), port).unwrap();
    }

    /// What a port-forward to this pod says before it fails.
    pub(crate) fn refuse_forward(&self, pod: &str, said: &str) {
        fs::write(self.file(&format!("port/{pod}.error")), said).unwrap();
    }

    /// The arguments of all calls.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.lines("calls")
    }

    /// The processes of the port-forwards.
    pub(crate) fn forwards(&self) -> Vec<String> {
        self.lines("forwards")
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.file(name)).unwrap_or_default().lines().map(str::to_string).collect()
    }

    /// Whether this process runs. One that has ended and was not waited for yet does not.
    pub(crate) fn runs(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
    }

    /// Waits until the condition holds.
    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "it did not come about within {PATIENCE:?}; calls: {:?}", self.calls());
            tokio::task::yield_now().await;
        }
    }
}

fn file_name(command: &str) -> String {
    let words = command.split_whitespace().take_while(|word| !word.starts_with('-')).map(|word| word.replace('/', "_"));
    let everywhere = if command.contains("--all-namespaces") { "_everywhere" } else { "" };
    words.collect::<Vec<_>>().join("_") + everywhere
}

/// A kube whose kubectl is this one.
pub(crate) fn kube(fake: &FakeKubectl) -> Kube {
    Kube { kubectl: fake.kubectl(), global: Global::default(), called: "kubectl raftkv" }
}

/// A screen with a member that is well, one that is not, and a volume claim.
pub(crate) fn screen() -> Screen {
    let member = |id: &str, pod: &str, role: &str, state: &str| MemberRow {
        id: Some(id.to_string()),
        pod: pod.to_string(),
        role: role.to_string(),
        state: state.to_string(),
        node: Some("worker".to_string()),
        ..MemberRow::default()
    };
    let claim = ClaimRow {
        name: "raftkv-demo-0".to_string(),
        status: "Bound".to_string(),
        size: None,
        class: None,
        member: Some("1".to_string()),
        foreign: false,
        note: String::new(),
    };
    Screen {
        cluster: "demo".to_string(),
        namespace: "prod".to_string(),
        level: Level::Degraded,
        summary: "a summary".to_string(),
        conditions: Vec::new(),
        numbers: Numbers::Nodes,
        members: vec![member("1", "demo-0", "leader", "voter"), member("2", "demo-1", "voter", "unreachable")],
        leader: Some("demo-0".to_string()),
        voters: 2,
        quorum: 2,
        operation: None,
        message: None,
        claims: vec![claim],
        events: Vec::new(),
        operator: OperatorRow::Absent,
        notes: Vec::new(),
        next: Vec::new(),
        more: None,
    }
}

/// Compares with a file of `tests/kube/golden`, or writes it when `UPDATE_GOLDENFILES` is 1.
pub(crate) fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/golden").join(name);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some_and(|value| value == "1") {
        return fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let path = path.display();
    assert!(expected == actual, "{path} has\n{expected}\nand this is\n{actual}\nrun `make fix` and review the diff");
}

//! `kubectl` as a subprocess: arguments enter, and what leaves is its standard output, or an error that says what stands in
//! the way.
//!
//! A plugin always has a kubectl, and with it the kubeconfig, the context and the login of its user. So nothing of that
//! is done here a second time: no kubeconfig is read, and no API server is dialled. What kubectl says on standard error is
//! sorted into kinds, because each kind is mended in a way of its own. A child never outlives the value that stands for
//! it.

use crate::kube::args::Global;
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Names the program to run instead of `kubectl`.
const PROGRAM_VARIABLE: &str = "RAFTKV_KUBECTL";
const PROGRAM_DEFAULT: &str = "kubectl";
/// How long kubectl itself waits for one answer of the API server.
const REQUEST_TIMEOUT: &str = "--request-timeout=10s";
/// How long one run of kubectl may take. Without an answer it tries more than once.
const RUN_TIMEOUT_MS: u64 = 30_000;
/// Largest output of one run: all events of a busy namespace fit many times.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Of standard error, as much is read.
const STDERR_BYTES_MAX: u64 = 64 * 1024;

/// How kubectl is called: the program and the flags that choose cluster, user and namespace.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    program: OsString,
    flags: Vec<OsString>,
}

/// One run of kubectl that failed.
#[derive(Debug, thiserror::Error)]
#[error("kubectl {command}: {text}")]
pub(crate) struct KubectlError {
    /// What it was asked, shortened.
    pub command: String,
    /// What stands in the way.
    pub obstacle: Obstacle,
    /// What it said.
    pub text: String,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// There is no such program.
    NoKubectl,
    /// The API server does not know the kind.
    NoKind,
    /// There is no such object.
    NotFound,
    /// The user may not.
    Forbidden,
    /// The user is not logged in.
    Login,
    /// The kubeconfig, or the context, is not there or makes no sense.
    Config,
    /// The API server does not answer.
    Unreachable,
    /// Something else.
    Other,
}

impl Kubectl {
    /// As the command line and the environment say.
    pub(crate) fn new(global: &Global) -> Self {
        let program = std::env::var_os(PROGRAM_VARIABLE).filter(|program| !program.is_empty());
        Kubectl::with_program(program.unwrap_or_else(|| PROGRAM_DEFAULT.into()), global)
    }

    /// With this program instead of kubectl.
    pub(crate) fn with_program(program: OsString, global: &Global) -> Self {
        let mut flags = Vec::new();
        let mut flag = |name: &str, value: Option<&OsStr>| {
            flags.extend(value.into_iter().flat_map(|value| [OsString::from(name), value.to_os_string()]));
        };
        flag("--namespace", global.namespace.as_deref().map(OsStr::new));
        flag("--context", global.context.as_deref().map(OsStr::new));
        flag("--kubeconfig", global.kubeconfig.as_deref().map(OsStr::new));
        Kubectl { program, flags }
    }

    /// The same for this namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        let mut changed = self.clone();
        // Of a flag that is given twice, the last one counts.
        changed.flags.extend(["--namespace".into(), namespace.into()]);
        changed
    }

    /// The namespace that it was told, if it was told one.
    pub(crate) fn namespace(&self) -> Option<String> {
        let at = self.flags.iter().rposition(|flag| flag == "--namespace")?;
        Some(self.flags.get(at + 1)?.to_string_lossy().into_owned())
    }

    /// Runs it and parses what it prints as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T, KubectlError> {
        let bytes = self.run(&[args, &["--output", "json"]].concat()).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| other(args, format!("it printed JSON that is not understood: {error}")))
    }

    /// Runs it and gives what it prints.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<Vec<u8>, KubectlError> {
        let with_timeout = [args, &[REQUEST_TIMEOUT]].concat();
        let mut child = self.spawn(&with_timeout)?;
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let output = async {
            let read = tokio::join!(limited(&mut stdout, OUTPUT_BYTES_MAX), limited(&mut stderr, STDERR_BYTES_MAX));
            (read, child.wait().await)
        };
        let Ok(((out, said), ended)) = timeout(Duration::from_millis(RUN_TIMEOUT_MS), output).await else {
            let text = format!("it did not end within {} s", RUN_TIMEOUT_MS / 1000);
            return Err(KubectlError { command: shortened(args), obstacle: Obstacle::Unreachable, text });
        };
        match ended {
            Ok(status) if status.success() => Ok(out),
            Ok(status) => Err(failed(args, &String::from_utf8_lossy(&said), &status.to_string())),
            Err(error) => Err(other(args, error.to_string())),
        }
    }

    /// Starts it, with pipes on both outputs. It is killed when the child is dropped.
    pub(crate) fn spawn(&self, args: &[&str]) -> Result<Child, KubectlError> {
        let mut command = Command::new(&self.program);
        command.args(&self.flags).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| {
            let program = self.program.to_string_lossy();
            let obstacle =
                if error.kind() == std::io::ErrorKind::NotFound { Obstacle::NoKubectl } else { Obstacle::Other };
            KubectlError { command: shortened(args), obstacle, text: format!("cannot run '{program}': {error}") }
        })
    }
}

/// At most `limit` bytes. What comes after them is left in the pipe, and its writer ends by that.
async fn limited(pipe: &mut Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe.take() {
        // An error ends the output early; the exit status says whether that matters.
        let _ = pipe.take(limit).read_to_end(&mut bytes).await;
    }
    bytes
}

/// Sorts what kubectl said.
pub(crate) fn failed(args: &[&str], said: &str, status: &str) -> KubectlError {
    let text = said_at_last(said).unwrap_or_else(|| format!("it failed ({status}) and said nothing"));
    KubectlError { command: shortened(args), obstacle: obstacle(said), text }
}

fn other(args: &[&str], text: String) -> KubectlError {
    KubectlError { command: shortened(args), obstacle: Obstacle::Other, text }
}

fn obstacle(said: &str) -> Obstacle {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&[
        "the server doesn't have a resource type",
        "no matches for kind",
        "could not find the requested resource",
    ]) {
        Obstacle::NoKind
    } else if says(&["(Forbidden)", "is forbidden:"]) {
        Obstacle::Forbidden
    } else if says(&["(NotFound)"]) {
        Obstacle::NotFound
    } else if says(&["(Unauthorized)", "You must be logged in", "getting credentials:"]) {
        Obstacle::Login
    } else if says(&[
        "error loading config",
        "Error in configuration",
        "error: context ",
        "error: stat ",
        "Please enter ",
    ]) {
        Obstacle::Config
    } else if says(&["Unable to connect to the server", "was refused", "no such host", "timeout", "deadline exceeded"])
    {
        Obstacle::Unreachable
    } else {
        Obstacle::Other
    }
}

/// The last line that is an error, else the last line, without the words in front that say nothing.
fn said_at_last(said: &str) -> Option<String> {
    let lines = || said.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.starts_with("error:") || line.starts_with("Error");
    let line = lines().find(is_error).or_else(|| lines().next())?;
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let rest = line.strip_prefix("Error from server (").and_then(|rest| rest.split_once("): "));
    Some(rest.map_or(line, |(_, rest)| rest).to_string())
}

/// The words that say what was asked: the verb and what it is about.
fn shortened(args: &[&str]) -> String {
    args.iter().take_while(|arg| !arg.starts_with('-')).copied().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::testing::FakeKubectl;

    #[test]
    fn what_kubectl_says_is_sorted() {
        let cases = [
            ("error: the server doesn't have a resource type \"raftkvclusters\"\n", Obstacle::NoKind),
            ("Error from server (NotFound): pods \"demo-0\" not found\n", Obstacle::NotFound),
            (
                "Error from server (Forbidden): pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\"",
                Obstacle::Forbidden,
            ),
            ("error: You must be logged in to the server (Unauthorized)\n", Obstacle::Login),
            ("error: context \"nope\" does not exist\n", Obstacle::Config),
            ("Error in configuration: context was not found for specified context: nope\n", Obstacle::Config),
            ("error: stat nope: no such file or directory\n", Obstacle::Config),
            (
                "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?\n",
                Obstacle::Unreachable,
            ),
            ("Unable to connect to the server: dial tcp: lookup k: no such host\n", Obstacle::Unreachable),
            ("error: something new\n", Obstacle::Other),
        ];
        for (said, expected) in cases {
            assert_eq!(failed(&["get", "pods", "-l", "x"], said, "1").obstacle, expected, "{said}");
        }
    }

    #[test]
    fn the_error_is_told_without_warnings_and_prefixes() {
        let said = "Warning: old\nError from server (NotFound): pods \"x\" not found\nE1125 memcache.go\n";
        let error = failed(&["get", "pods", "x", "-n", "y"], said, "1");
        assert_eq!(error.to_string(), "kubectl get pods x: pods \"x\" not found");
        assert_eq!(failed(&["get"], "", "exit status: 1").text, "it failed (exit status: 1) and said nothing");
    }

    #[tokio::test]
    async fn flags_are_handed_through_in_front() {
        let fake = FakeKubectl::new();
        fake.answer("get pods", "[1, 2]");
        let global =
            Global { namespace: Some("prod".into()), context: Some("kind".into()), kubeconfig: Some("k.yaml".into()) };
        let kubectl = Kubectl::with_program(fake.program(), &global);
        assert_eq!(kubectl.json::<Vec<u8>>(&["get", "pods"]).await.unwrap(), [1, 2]);
        let flags = "--namespace prod --context kind --kubeconfig k.yaml";
        assert_eq!(fake.calls(), [format!("{flags} get pods --output json --request-timeout=10s")]);
    }

    #[tokio::test]
    async fn a_missing_kubectl_and_output_of_another_kind_are_errors() {
        let nowhere = Kubectl::with_program("/nonexistent/kubectl".into(), &Global::default());
        assert_eq!(nowhere.run(&["version"]).await.unwrap_err().obstacle, Obstacle::NoKubectl);
        let fake = FakeKubectl::new();
        fake.answer("get pods", "not JSON");
        let error = fake.kubectl().json::<u8>(&["get", "pods"]).await.unwrap_err();
        assert!(error.text.contains("not understood"), "{error}");
    }
}

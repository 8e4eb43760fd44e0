//! A port-forward to one pod: `kubectl port-forward` as a child, the ports of this machine that it chose, and its end.
//!
//! It lives as long as the value: dropping it kills the child. kubectl gives up by itself when the pod goes or a
//! connection breaks badly; then calls are refused, and whoever holds the value makes a new one. Connections come in on
//! loopback, so a node sees an address as `Host`, which it accepts.
//!
//! # Caveats
//! A kill -9 of this process leaves the child behind, until its pod goes.

use crate::kube::kubectl::{Kubectl, KubectlError, Obstacle, failed};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The clients' port of a node.
pub(crate) const CLIENT_PORT: u16 = 2379;
/// The admin port of a node.
pub(crate) const ADMIN_PORT: u16 = 2381;
/// How long kubectl may take until it listens.
const READY_TIMEOUT_MS: u64 = 10_000;
/// How long what it said is waited for when it has ended: a child of its own may hold the pipe.
const LAST_WORDS_TIMEOUT_MS: u64 = 1_000;
/// What is kept of standard error, for the message when it fails.
const STDERR_CHARS_MAX: usize = 8 * 1024;

/// A forward that listens.
#[derive(Debug)]
pub(crate) struct Forward {
    child: Child,
    /// Port of the pod to port of this machine.
    ports: BTreeMap<u16, u16>,
}

impl Forward {
    /// Starts it and waits until it listens.
    pub(crate) async fn to(kubectl: &Kubectl, pod: &str, ports: &[u16]) -> Result<Forward, KubectlError> {
        Forward::start(kubectl, pod, &ports.iter().map(|port| format!(":{port}")).collect::<Vec<_>>()).await
    }

    /// Starts it once more where it was, for those who hold its URLs.
    pub(crate) async fn again(&mut self, kubectl: &Kubectl, pod: &str) -> Result<(), KubectlError> {
        let ports: Vec<String> = self.ports.iter().map(|(remote, local)| format!("{local}:{remote}")).collect();
        *self = Forward::start(kubectl, pod, &ports).await?;
        Ok(())
    }

    async fn start(kubectl: &Kubectl, pod: &str, wanted: &[String]) -> Result<Forward, KubectlError> {
        let target = format!("pod/{pod}");
        let mut args = vec!["port-forward", target.as_str()];
        args.extend(wanted.iter().map(String::as_str));
        args.extend(["--address", "127.0.0.1"]);
        let mut child = kubectl.spawn(&args)?;
        let stdout = child.stdout.take().expect("it was started with a pipe");
        let (said, keeper) = keep(child.stderr.take().expect("it was started with a pipe"));
        let mut lines = BufReader::new(stdout).lines();
        let chosen = timeout(Duration::from_millis(READY_TIMEOUT_MS), chosen(&mut lines, wanted.len())).await;
        let error = |status: &str| {
            let said = said.lock().expect("no code panics while it holds this lock").clone();
            failed(&args[..2], &said, status)
        };
        match chosen {
            Ok(Some(ports)) => {
                drain(lines);
                Ok(Forward { child, ports })
            }
            Ok(None) => {
                // Its last words are in the pipe when it has ended.
                let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
                let _late = timeout(Duration::from_millis(LAST_WORDS_TIMEOUT_MS), keeper).await;
                Err(error(&status))
            }
            Err(_elapsed) => {
                let silent = error(&format!("it did not listen within {} s", READY_TIMEOUT_MS / 1_000));
                Err(KubectlError { obstacle: Obstacle::Unreachable, ..silent })
            }
        }
    }

    /// Where this port of the pod is on this machine.
    pub(crate) fn url(&self, port: u16) -> String {
        let local = self.ports.get(&port).expect("only ports that were asked for are asked about");
        format!("http://127.0.0.1:{local}")
    }

    /// Whether kubectl is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Reads until all ports have been told; `None` when the output ends before.
async fn chosen(lines: &mut Lines<impl AsyncBufReadExt + Unpin>, count: usize) -> Option<BTreeMap<u16, u16>> {
    let mut ports = BTreeMap::new();
    while ports.len() < count {
        let line = lines.next_line().await.ok()??;
        ports.extend(port_of(&line).map(|(local, remote)| (remote, local)));
    }
    Some(ports)
}

/// `Forwarding from 127.0.0.1:41235 -> 2381` is (41235, 2381).
fn port_of(line: &str) -> Option<(u16, u16)> {
    let (local, remote) = line.strip_prefix("Forwarding from ")?.split_once(" -> ")?;
    let (_, local) = local.rsplit_once(':')?;
    Some((local.parse().ok()?, remote.trim().parse().ok()?))
}

/// kubectl writes a line for each connection; a pipe that nobody reads would stop it in the end.
fn drain(mut lines: Lines<impl AsyncBufReadExt + Unpin + Send + 'static>) {
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}

/// Reads to the end and keeps the beginning.
fn keep(pipe: impl AsyncRead + Unpin + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let said = Arc::new(Mutex::new(String::new()));
    let keeper = said.clone();
    let mut lines = BufReader::new(pipe).lines();
    let task = tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let mut said = keeper.lock().expect("no code panics while it holds this lock");
            if said.len() + line.len() < STDERR_CHARS_MAX {
                said.push_str(&line);
                said.push('\n');
            }
        }
    });
    (said, task)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::testing::FakeKubectl;

    #[test]
    fn the_chosen_port_is_read_from_kubectls_line() {
        assert_eq!(port_of("Forwarding from 127.0.0.1:41235 -> 2381"), Some((41235, 2381)));
        assert_eq!(port_of("Forwarding from [::1]:41235 -> 2381"), Some((41235, 2381)));
        for other in ["Handling connection for 41235", "Forwarding from x -> y", ""] {
            assert_eq!(port_of(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn it_lives_as_long_as_the_value() {
        let fake = FakeKubectl::new();
        fake.forward("demo-0", "http://127.0.0.1:4321");
        let mut forward = Forward::to(&fake.kubectl(), "demo-0", &[CLIENT_PORT, ADMIN_PORT]).await.unwrap();
        assert_eq!([CLIENT_PORT, ADMIN_PORT].map(|port| forward.url(port)), ["http://127.0.0.1:4321"; 2]);
        assert!(forward.is_alive());
        let pid = fake.forwards().pop().unwrap();
        assert!(FakeKubectl::runs(&pid));
        drop(forward);
        fake.until(|| !FakeKubectl::runs(&pid)).await;
    }

    #[tokio::test]
    async fn it_can_be_made_again_at_the_same_port() {
        let fake = FakeKubectl::new();
        fake.forward("demo-0", "http://127.0.0.1:4321");
        let mut forward = Forward::to(&fake.kubectl(), "demo-0", &[CLIENT_PORT]).await.unwrap();
        forward.again(&fake.kubectl(), "demo-0").await.unwrap();
        assert!(forward.is_alive() && forward.url(CLIENT_PORT) == "http://127.0.0.1:4321");
        assert!(fake.calls().last().unwrap().contains("port-forward pod/demo-0 4321:2379"), "{:?}", fake.calls());
        assert_eq!(fake.forwards().len(), 2);
    }

    #[tokio::test]
    async fn a_failure_says_what_kubectl_said() {
        let fake = FakeKubectl::new();
        fake.refuse_forward(
            "demo-1",
            "error: unable to forward port because pod is not running. Current status=Pending",
        );
        fake.refuse_forward("demo-2", "Error from server (Forbidden): pods \"demo-2\" is forbidden: no\n");
        let error = async |pod: &str| Forward::to(&fake.kubectl(), pod, &[ADMIN_PORT]).await.unwrap_err();
        let pending = error("demo-1").await;
        assert_eq!(
            pending.to_string(),
            "kubectl port-forward pod/demo-1: unable to forward port because pod is not running. Current status=Pending"
        );
        assert_eq!(error("demo-2").await.obstacle, Obstacle::Forbidden);
        assert_eq!(error("demo-3").await.obstacle, Obstacle::NotFound);
    }
}

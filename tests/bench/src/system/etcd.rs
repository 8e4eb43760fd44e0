//! Three nodes of etcd with its default settings, except for the quota, which is the same as raftkv's.

use crate::system::NODES;
use anyhow::{Context, Result, ensure};
use raftkv_cluster_tests::Ports;
use raftkv_cluster_tests::http::Request;
use raftkv_cluster_tests::wait::{eventually, eventually_within, holds};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// raftkv's default `--quota`; etcd's own default is 2 GiB.
const QUOTA_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// A node that was asked to stop ends within this time.
const STOP_MAX: Duration = Duration::from_secs(15);

/// The nodes.
#[derive(Debug)]
pub(super) struct Etcd {
    nodes: Vec<Node>,
    // This is dropped last, since the nodes write into it.
    dir: TempDir,
}

#[derive(Debug)]
struct Node {
    client: u16,
    child: Child,
}

/// Starts the nodes.
pub(super) fn start(binary: &Path) -> Result<Etcd> {
    let dir = TempDir::with_prefix("etcd-bench-")?;
    let ports: Vec<Ports> = (0..NODES).map(|_| Ports::free()).collect();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let all: Vec<String> = ports.iter().enumerate().map(|(n, ports)| format!("n{n}={}", url(ports.peer))).collect();
    let mut etcd = Etcd { nodes: Vec::new(), dir };
    for (n, ports) in ports.iter().enumerate() {
        let log = File::create(etcd.log(n)).context("the node's log")?;
        let child = Command::new(binary)
            .args(["--name", &format!("n{n}"), "--log-level", "warn"])
            .arg("--data-dir")
            .arg(etcd.dir.path().join(format!("n{n}")))
            .args(["--listen-client-urls", &url(ports.client), "--advertise-client-urls", &url(ports.client)])
            .args(["--listen-peer-urls", &url(ports.peer), "--initial-advertise-peer-urls", &url(ports.peer)])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
            .args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{}", binary.display()))?;
        etcd.nodes.push(Node { client: ports.client, child });
    }
    for (n, ports) in ports.iter().enumerate() {
        // A healthy node has a leader and serves linearizable reads.
        let health = Request::new("GET", &format!("{}/health", url(ports.client)));
        eventually(&format!("etcd n{n} is healthy"), || health.send()?.expect(200).map(drop))
            .with_context(|| fs::read_to_string(etcd.log(n)).unwrap_or_default())?;
    }
    Ok(etcd)
}

impl Etcd {
    fn log(&self, n: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("n{n}.log"))
    }

    /// The addresses of their client ports.
    pub(super) fn nodes(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::from((Ipv4Addr::LOCALHOST, node.client))).collect()
    }

    /// Their process ids.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.child.id()).collect()
    }

    /// Sends SIGTERM and waits for the end.
    pub(super) fn stop(mut self) -> Result<()> {
        for node in &self.nodes {
            let pid = Pid::from_raw(node.child.id().cast_signed()).context("process ids are above 0")?;
            kill_process(pid, Signal::TERM)?;
        }
        for node in &mut self.nodes {
            eventually_within(STOP_MAX, "etcd ends", || {
                let status = node.child.try_wait()?;
                holds(status.is_some(), || "it still runs".to_string())
            })?;
        }
        let panicked = (0..NODES).any(|n| fs::read_to_string(self.log(n)).unwrap_or_default().contains("panic"));
        ensure!(!panicked, "a node of etcd panicked");
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

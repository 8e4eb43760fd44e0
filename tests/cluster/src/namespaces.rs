//! A network namespace for each node: the links between nodes are the kernel's devices, which can be cut.
//!
//! ```text
//!   the test's namespace     c0 ──── client and admin port      node 0 ── p1 ─────── p0 ── node 1
//!   198.18.x.254         ──► c1 ──── of node 1, ...                │ ─── p2 ─────── p0 ── node 2 ...
//! ```
//!
//! Clients reach a node by a separate link, so that they still reach a node that its peers do not. A namespace lives as
//! long as the process that holds it; that process ends with this one, however this one ends, and the devices go with
//! it.

use anyhow::{Context, Result, bail, ensure};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses for network tests (RFC 2544): 198.18.0.0/15.
const PREFIX: &str = "198.18";
/// The last number of the test's own addresses; nodes count from 1.
const OURS: usize = 254;
/// How many third numbers there are: processes that run at the same time start far from each other.
const NETS: usize = 250;
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// What the tools say when the machine does not permit namespaces.
const REFUSALS: [&str; 5] =
    ["not permitted", "Permission denied", "not supported", "Unknown device type", "kind is unknown"];

/// The network of one cluster.
#[derive(Debug)]
pub struct Namespaces {
    holders: Vec<Child>,
    /// The third number of all its addresses.
    net: usize,
    /// Directions that are cut.
    cut: Mutex<Vec<(usize, usize)>>,
}

impl Namespaces {
    /// Why this machine does not permit namespaces; `None` if it does.
    ///
    /// # Errors
    /// Anything else that is in the way, such as a tool that is missing; the message says what to install.
    pub fn refused() -> Result<Option<String>> {
        let tried = Namespaces::new(2).and_then(|two| {
            two.cut(0, 1)?;
            two.heal()
        });
        let Err(error) = tried else { return Ok(None) };
        let why = format!("{error:#}");
        if REFUSALS.iter().any(|refusal| why.contains(refusal)) { Ok(Some(why)) } else { Err(error) }
    }

    /// A namespace for each of `size` nodes, with a link to each other node and one to this process.
    pub fn new(size: usize) -> Result<Namespaces> {
        let start = std::process::id() as usize * 17;
        loop {
            let nth = TAKEN.fetch_add(1, Ordering::Relaxed);
            ensure!(nth < NETS, "no network {PREFIX}.x.0 is free");
            match Namespaces::of((start + nth) % NETS + 1, size) {
                // Another process has this network.
                Err(error) if format!("{error:#}").contains("File exists") => {}
                made => return made,
            }
        }
    }

    fn of(net: usize, size: usize) -> Result<Namespaces> {
        let mut made = Namespaces { holders: Vec::new(), net, cut: Mutex::default() };
        for node in 0..size {
            made.holders.push(hold()?);
            made.client_link(node)?;
            for other in 0..node {
                made.peer_link(other, node)?;
            }
        }
        Ok(made)
    }

    /// A node's address.
    pub fn host(&self, node: usize) -> String {
        format!("{PREFIX}.{}.{}", self.net, node + 1)
    }

    /// The words that a command must begin with to run in a node's namespace.
    pub fn enter(&self, node: usize) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/proc/{}/ns/net", self.holders[node].id())]
    }

    /// Stops everything that one node sends to another.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        // This queueing discipline takes every packet and drops it.
        self.inside(from, &format!("tc qdisc replace dev p{to} root blackhole"))?;
        self.directions().push((from, to));
        Ok(())
    }

    /// Lets everything pass again.
    pub fn heal(&self) -> Result<()> {
        for (from, to) in self.directions().drain(..) {
            self.inside(from, &format!("tc qdisc replace dev p{to} root pfifo"))?;
        }
        Ok(())
    }

    fn directions(&self) -> MutexGuard<'_, Vec<(usize, usize)>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_link(&self, node: usize) -> Result<()> {
        let (host, ours) = (self.host(node), format!("{PREFIX}.{}.{OURS}", self.net));
        let name = device(self.net, node);
        run(&format!("ip link add {name} type veth peer name c0 netns {}", self.holders[node].id()))?;
        run(&format!("ip addr add {ours}/32 dev {name}"))?;
        run(&format!("ip link set {name} up"))?;
        self.inside(node, "ip link set lo up")?;
        self.inside(node, &format!("ip addr add {host}/32 dev lo"))?;
        self.inside(node, "ip link set c0 up")?;
        self.inside(node, &format!("ip route add {ours}/32 dev c0 src {host}"))?;
        run(&format!("ip route add {host}/32 dev {name} src {ours}"))
    }

    fn peer_link(&self, one: usize, other: usize) -> Result<()> {
        let netns = self.holders[other].id();
        self.inside(one, &format!("ip link add p{other} type veth peer name p{one} netns {netns}"))?;
        for (here, there) in [(one, other), (other, one)] {
            let (from, to) = (self.host(here), self.host(there));
            self.inside(here, &format!("ip link set p{there} up"))?;
            self.inside(here, &format!("ip route add {to}/32 dev p{there} src {from}"))?;
        }
        Ok(())
    }

    fn inside(&self, node: usize, command: &str) -> Result<()> {
        run(&format!("{} {command}", self.enter(node).join(" ")))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for (node, holder) in self.holders.iter_mut().enumerate() {
            // An error means that it has ended already.
            holder.kill().ok();
            holder.wait().ok();
            // A connection with bytes that nobody took keeps its namespace for some minutes.
            run(&format!("ip link del {}", device(self.net, node))).ok();
        }
    }
}

/// The test's end of a client's link. A name has 15 bytes at most, and this one must be unique on the whole machine.
fn device(net: usize, node: usize) -> String {
    format!("rkv{net}c{node}")
}

/// Starts a process in a new network namespace; it does nothing until its standard input is closed.
fn hold() -> Result<Child> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "echo held && exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.stderr(Stdio::piped()).spawn().context("unshare: install the package util-linux")?;
    let mut said = [0; 5];
    let stdout = holder.stdout.as_mut().context("it was piped")?;
    if stdout.read_exact(&mut said).is_err() {
        let output = holder.wait_with_output()?;
        bail!("unshare --net: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(holder)
}

fn run(command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()
        .with_context(|| format!("{command}: install the package iproute2"))?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

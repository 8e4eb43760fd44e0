//! Several nodes in one temporary directory, with one token.

use crate::wait::{eventually, holds};
use crate::{Export, Network, Node, answers};
use anyhow::{Context, Result, bail, ensure};
use raftkv_api::{NodeState, Status};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The nodes of one cluster, and nodes that will join it.
#[derive(Debug)]
pub struct Cluster {
    /// All nodes that were ever made; the first one got `init`.
    pub nodes: Vec<Node>,
    /// Flags of `serve` that every new node gets.
    pub flags: Vec<String>,
    /// The network between the nodes.
    pub network: Network,
    dir: TempDir,
    finished: bool,
}

impl Cluster {
    /// A directory with a token, and no node.
    pub fn empty() -> Result<Cluster> {
        let dir = TempDir::with_prefix("raftkv-test-")?;
        let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(dir.path().join("token"), format!("{token}\n"))?;
        Ok(Cluster { nodes: Vec::new(), flags: Vec::new(), network: Network::Loopback, dir, finished: false })
    }

    /// Starts a cluster of `size` voters, all of which serve.
    pub fn start(size: usize) -> Result<Cluster> {
        Cluster::start_with(size, &[])
    }

    /// The same, with additional flags for each node.
    pub fn start_with(size: usize, flags: &[&str]) -> Result<Cluster> {
        Cluster::start_on(Network::Loopback, size, flags)
    }

    /// The same, on the given network: members are numbered like the nodes.
    pub fn start_on(network: Network, size: usize, flags: &[&str]) -> Result<Cluster> {
        let mut cluster = Cluster::empty()?;
        cluster.network = network;
        cluster.flags = flags.iter().map(|flag| flag.to_string()).collect();
        for _ in 0..size {
            cluster.start_node()?;
        }
        cluster.init(size as u32 / 2 + 1)?;
        for node in 1..size {
            cluster.join(node)?;
        }
        for node in &cluster.nodes {
            node.wait_serving()?;
        }
        Ok(cluster)
    }

    /// The temporary directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes one more node and does not start it.
    pub fn new_node(&mut self) -> usize {
        let name = format!("n{}", self.nodes.len() + 1);
        let mut node = Node::new(self.dir.path(), &name, &self.dir.path().join("token"));
        node.flags.extend(self.flags.iter().cloned());
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Makes one more node, starts it, and waits until it is Blank: it answers before it has looked at its directory.
    pub fn start_node(&mut self) -> Result<usize> {
        let node = self.new_node();
        self.network.place(&mut self.nodes[node], node)?;
        self.nodes[node].start()?;
        self.nodes[node].wait_for("is blank", |status| status.state == NodeState::Blank)?;
        Ok(node)
    }

    /// The nodes whose process runs.
    pub fn running(&mut self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_running()).collect()
    }

    /// The client URLs of all nodes.
    pub fn client_urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::client_url).collect()
    }

    /// Waits until one node leads and all other voters that answer follow it in its term.
    pub fn leader(&self) -> Result<usize> {
        eventually("a leader that all voters follow", || {
            let statuses: Vec<_> = self.nodes.iter().map(|node| node.status().ok()).collect();
            let voters = || statuses.iter().flatten().filter(|status| status.state == NodeState::Voter);
            let term = voters().map(|status| status.term).max().context("no voter answers")?;
            let leads = |status: &Status| {
                status.state == NodeState::Voter
                    && status.term == term
                    && status.member_id.is_some()
                    && status.member_id == status.leader_id
            };
            let leader = statuses.iter().position(|status| status.as_ref().is_some_and(leads));
            let leader = leader.with_context(|| format!("nobody leads in term {term}"))?;
            let id = statuses[leader].as_ref().and_then(|status| status.member_id);
            for status in voters() {
                holds(status.term == term && status.leader_id == id, || format!("{} does not follow", status.name))?;
            }
            Ok(leader)
        })
    }

    /// Waits until no running node is still opening its directory (it is no voter until then), and returns the running
    /// nodes.
    fn opened(&mut self) -> Result<Vec<usize>> {
        let running = self.running();
        for node in &running {
            self.nodes[*node].wait_for("has opened its directory", |status| status.state != NodeState::Opening)?;
        }
        Ok(running)
    }

    /// Waits until all running voters have applied the same index, and compares their state hashes there.
    pub fn agree(&mut self) -> Result<Status> {
        let running = self.opened()?;
        let nodes = &self.nodes;
        // A difference at an equal index is final; anything else may still change.
        eventually("all voters have applied the same index", || {
            let mut first: Option<Status> = None;
            for node in &running {
                let status = nodes[*node].status()?;
                if status.state != NodeState::Voter {
                    continue;
                }
                let hash = status.state_hash.with_context(|| format!("{} shows no hash", status.name))?;
                match &first {
                    None => first = Some(status),
                    Some(first) => {
                        let of_first = first.state_hash.context("checked when it was the first")?;
                        holds(hash.applied == of_first.applied, || format!("{hash:?} and {of_first:?}"))?;
                        if hash != of_first {
                            return Ok(Err(anyhow::anyhow!(
                                "{} has {of_first:?}, {} has {hash:?}",
                                first.name,
                                status.name
                            )));
                        }
                    }
                }
            }
            first.map(Ok).context("no voter runs")
        })?
    }

    /// Reads every key of every running voter and checks that all have the same.
    pub fn export(&mut self, prefix: &str) -> Result<Export> {
        let mut first: Option<(String, Export)> = None;
        for node in self.opened()? {
            let node = &self.nodes[node];
            if node.status()?.state != NodeState::Voter {
                continue;
            }
            node.wait_serving()?;
            let export = Export::read(node, prefix).with_context(|| format!("reading all of {}", node.name))?;
            match &first {
                None => first = Some((node.name.clone(), export)),
                Some((name, other)) if other.entries != export.entries => {
                    let differs = other.entries.iter().find(|(key, entry)| export.entries.get(*key) != Some(entry));
                    let key = differs.map(|(key, _)| key.escape_ascii().to_string());
                    bail!(
                        "{name} has {} keys and {} has {}; the first of {name}'s that differs: {key:?}",
                        other.entries.len(),
                        node.name,
                        export.entries.len()
                    );
                }
                Some(_) => {}
            }
        }
        first.map(|(_, export)| export).context("no voter runs")
    }

    /// Ends a good test: checks that the API's description lists every answer so far, and that every node that still
    /// runs stops cleanly.
    pub fn finish(mut self) -> Result<()> {
        let running = self.running();
        if let Some(node) = running.first() {
            let spec = self.nodes[*node].client("GET", "/openapi.json").send()?.expect(200)?.json()?;
            let unlisted = answers::unlisted(&spec, &answers::all());
            ensure!(unlisted.is_empty(), "answers that /openapi.json does not list: {unlisted:?}");
        }
        for node in running {
            self.nodes[node].stop()?;
        }
        for node in &self.nodes {
            let log = node.log_text();
            ensure!(!log.contains("panicked at"), "{} panicked:\n{}", node.name, node.log_end());
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.finished {
            for node in &self.nodes {
                eprintln!("--- the end of {}'s log\n{}", node.name, node.log_end());
            }
        }
    }
}

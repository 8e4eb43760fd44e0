//! Histories of eight clients on few keys, each with one fault in the middle, checked for linearizability by Porcupine.
//! They are shaped like etcd's robustness tests: clusters of one, three and five, short timeouts, a fault, and then the
//! cluster must go on.
//!
//! `make histories N=600` runs ten times as many.

use anyhow::{Context, Result, ensure};
use raftkv_cluster_tests::history::{Clients, check};
use raftkv_cluster_tests::relay::Relays;
use raftkv_cluster_tests::wait::pass;
use raftkv_cluster_tests::{Cluster, Network, Partition, Signal};
use rand::Rng;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Nodes of a cluster, and its number of histories: 60 in all.
const HISTORIES: [(usize, usize); 3] = [(1, 10), (3, 32), (5, 18)];
/// The variable that sets another number of histories.
const COUNT_VARIABLE: &str = "RAFTKV_HISTORIES";
/// Snapshots are cut all the time, so that a node that was away is sent one.
const SNAPSHOT_OFTEN: &str = "--snapshot-log-bytes=64KiB";
/// How long clients write before the fault, and after it until the history ends.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_millis(1200);
/// How long a node is paused; these are used in turn.
const PAUSES_MS: [u64; 4] = [100, 1000, 3000, 10_000];
/// How long the network is cut.
const CUT_MS: Range<u64> = 300..1500;

/// The fault in the middle of a history.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    KillLeader,
    KillFollower,
    KillAll,
    PauseLeader,
    PauseFollower,
    Transfer,
    StopLeader,
    Cut(Partition),
}

/// The faults of a node alone, which has no other node.
const FAULTS_OF_ONE: [Fault; 4] = [Fault::KillLeader, Fault::PauseLeader, Fault::StopLeader, Fault::None];
const FAULTS: [Fault; 16] = [
    Fault::Cut(Partition::Leader),
    Fault::KillLeader,
    Fault::PauseLeader,
    Fault::Cut(Partition::LeaderUnheard),
    Fault::KillAll,
    Fault::Cut(Partition::Follower),
    Fault::PauseFollower,
    Fault::Cut(Partition::Flapping),
    Fault::Transfer,
    Fault::Cut(Partition::Minority),
    Fault::KillFollower,
    Fault::Cut(Partition::LeaderDeaf),
    Fault::PauseLeader,
    Fault::Cut(Partition::OneLink),
    Fault::StopLeader,
    Fault::Cut(Partition::FollowerUnheard),
];

impl Fault {
    /// The fault's class in the table.
    fn class(self) -> &'static str {
        match self {
            Fault::None => "undisturbed",
            Fault::KillLeader | Fault::KillFollower | Fault::KillAll => "kills",
            Fault::PauseLeader | Fault::PauseFollower => "pauses",
            Fault::Transfer => "transfers",
            Fault::StopLeader => "stops",
            Fault::Cut(_) => "partitions",
        }
    }
}

#[test]
fn of_one() -> Result<()> {
    histories(HISTORIES[0])
}

#[test]
fn of_three() -> Result<()> {
    histories(HISTORIES[1])
}

#[test]
fn of_five() -> Result<()> {
    histories(HISTORIES[2])
}

fn histories((nodes, count): (usize, usize)) -> Result<()> {
    let wanted: Option<usize> = std::env::var(COUNT_VARIABLE).ok().map(|count| count.parse()).transpose()?;
    let count = wanted.map_or(count, |wanted| (count * wanted).div_ceil(60));
    let mut cluster = Cluster::start_on(Network::Relays(Relays::default()), nodes, &[SNAPSHOT_OFTEN])?;
    let begun = Instant::now();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut operations = 0;
    for nth in 0..count {
        let fault = if nodes == 1 { FAULTS_OF_ONE[nth % FAULTS_OF_ONE.len()] } else { FAULTS[nth % FAULTS.len()] };
        let paused = classes.get("pauses").copied().unwrap_or_default();
        let pause = Duration::from_millis(PAUSES_MS[paused % PAUSES_MS.len()]);
        let file = cluster.dir().join(format!("history-{nth}.jsonl"));
        let clients = Clients::start(&format!("h{nth}"), 5 + nth % 6, &cluster.client_urls());
        pass(BEFORE);
        let struck = strike(&mut cluster, fault, pause);
        pass(AFTER);
        operations += clients.stop(&file)?;
        struck.with_context(|| format!("{nodes} nodes, history {nth}, {fault:?}"))?;
        *classes.entry(fault.class()).or_default() += 1;
        files.push(file);
    }
    ensure!(operations > 100 * count, "{operations} operations in {count} histories are too few to show anything");
    println!("{nodes} nodes: {}, in {} s", check(&files)?.trim(), begun.elapsed().as_secs());
    let classes: Vec<_> = classes.iter().map(|(class, count)| format!("{class}={count}")).collect();
    println!("TABLE histories: nodes={nodes} n={count} ops={operations} {} not_linearizable=0", classes.join(" "));
    cluster.agree()?;
    cluster.finish()
}

/// Causes the fault and ends it; returns when the cluster serves again.
fn strike(cluster: &mut Cluster, fault: Fault, pause_for: Duration) -> Result<()> {
    let leader = cluster.leader()?;
    let follower = (leader + 1) % cluster.nodes.len();
    match fault {
        Fault::None => {}
        Fault::KillLeader => restart(cluster, &[leader])?,
        Fault::KillFollower => restart(cluster, &[follower])?,
        Fault::KillAll => restart(cluster, &(0..cluster.nodes.len()).collect::<Vec<_>>())?,
        Fault::PauseLeader => pause(cluster, leader, pause_for)?,
        Fault::PauseFollower => pause(cluster, follower, pause_for)?,
        Fault::Transfer => cluster.lead_elsewhere(leader)?,
        Fault::StopLeader => {
            cluster.nodes[leader].signal(Signal::TERM)?;
            cluster.nodes[leader].wait_for_end(Duration::from_secs(15))?;
            cluster.nodes[leader].start()?;
        }
        Fault::Cut(partition) => {
            let lasts = Duration::from_millis(rand::rng().random_range(CUT_MS));
            partition.strike(cluster, lasts)?;
        }
    }
    cluster.nodes.iter().try_for_each(|node| node.wait_serving())
}

fn restart(cluster: &mut Cluster, nodes: &[usize]) -> Result<()> {
    nodes.iter().try_for_each(|node| cluster.nodes[*node].kill())?;
    nodes.iter().try_for_each(|node| cluster.nodes[*node].start())
}

fn pause(cluster: &Cluster, node: usize, time: Duration) -> Result<()> {
    cluster.nodes[node].pause()?;
    pass(time);
    cluster.nodes[node].resume()
}

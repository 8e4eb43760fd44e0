//! Histories of eight clients on few keys, each with one fault in the middle, checked for linearizability by Porcupine. The
//! shape is that of etcd's robustness tests: clusters of one, three and five, short timeouts, a fault, and then it must go on.

use anyhow::{Context, Result, ensure};
use raftkv_cluster_tests::history::{Clients, check};
use raftkv_cluster_tests::wait::{eventually, holds};
use raftkv_cluster_tests::{Cluster, Signal};
use rand::Rng;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Histories of each cluster: 60 in all.
const HISTORIES: [(usize, usize); 3] = [(1, 12), (3, 32), (5, 16)];
/// Snapshots are cut all the time, so that whoever was away is fed one.
const SNAPSHOT_OFTEN: &str = "--snapshot-log-bytes=64KiB";
/// Writes after the fault, before the history ends.
const AFTER: Duration = Duration::from_millis(1500);
/// How long a node is paused.
const PAUSE_MS: Range<u64> = 100..3000;

/// What happens in the middle of a history.
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
}

const FAULTS: [Fault; 8] = [
    Fault::KillLeader,
    Fault::PauseLeader,
    Fault::KillAll,
    Fault::KillFollower,
    Fault::StopLeader,
    Fault::Transfer,
    Fault::PauseFollower,
    Fault::None,
];

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
    let mut cluster = Cluster::start_with(nodes, &[SNAPSHOT_OFTEN])?;
    let begun = Instant::now();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut operations = 0;
    for nth in 0..count {
        let fault = FAULTS[nth % FAULTS.len()];
        let file = cluster.dir().join(format!("history-{nth}-{fault:?}.jsonl"));
        let clients = Clients::start(&format!("h{nth}"), 5 + nth % 6, &cluster.client_urls());
        wait(AFTER / 3);
        let struck = strike(&mut cluster, fault).with_context(|| format!("{nodes} nodes, history {nth}, {fault:?}"));
        wait(AFTER);
        operations += clients.stop(&file)?;
        struck?;
        files.push(file);
    }
    ensure!(operations > 100 * count, "{operations} operations in {count} histories are too few to show anything");
    println!("{nodes} nodes: {}, in {} s", check(&files)?.trim(), begun.elapsed().as_secs());
    cluster.agree()?;
    cluster.finish()
}

/// Does it and puts it right; returns when the cluster serves again.
fn strike(cluster: &mut Cluster, fault: Fault) -> Result<()> {
    let leader = cluster.leader()?;
    let follower = (leader + 1) % cluster.nodes.len();
    match fault {
        Fault::None => {}
        Fault::KillLeader => restart(cluster, &[leader])?,
        Fault::KillFollower => restart(cluster, &[follower])?,
        Fault::KillAll => restart(cluster, &(0..cluster.nodes.len()).collect::<Vec<_>>())?,
        Fault::PauseLeader => pause(cluster, leader)?,
        Fault::PauseFollower => pause(cluster, follower)?,
        Fault::Transfer if cluster.nodes.len() > 1 => cluster.lead_elsewhere(leader)?,
        Fault::Transfer => {}
        Fault::StopLeader => {
            cluster.nodes[leader].signal(Signal::TERM)?;
            cluster.nodes[leader].wait_for_end(Duration::from_secs(15))?;
            cluster.nodes[leader].start()?;
        }
    }
    cluster.nodes.iter().try_for_each(|node| node.wait_serving())
}

fn restart(cluster: &mut Cluster, nodes: &[usize]) -> Result<()> {
    nodes.iter().try_for_each(|node| cluster.nodes[*node].kill())?;
    nodes.iter().try_for_each(|node| cluster.nodes[*node].start())
}

fn pause(cluster: &Cluster, node: usize) -> Result<()> {
    cluster.nodes[node].pause()?;
    wait(Duration::from_millis(rand::rng().random_range(PAUSE_MS)));
    cluster.nodes[node].resume()
}

/// Time in which clients do what they do: it is the length of a history, and not a wait for anything.
fn wait(time: Duration) {
    let begun = Instant::now();
    // An error says that the time is not over yet.
    drop(eventually("time has passed", || holds(begun.elapsed() >= time, || "not yet".into())));
}

//! Clients that put and delete as fast as they can while nodes are killed, paused and cut off. Each acknowledged write
//! has its own revision, and a replay in the order of revisions gives what every member holds. `make oracle
//! OPS=1000000` runs a million writes.

use anyhow::{Context, Result, ensure};
use raftkv_cluster_tests::oracle::{Clients, check};
use raftkv_cluster_tests::relay::Relays;
use raftkv_cluster_tests::wait::{eventually_within, pass};
use raftkv_cluster_tests::{Cluster, Export, Network, Node, Partition};
use std::time::{Duration, Instant};

const NODES: usize = 3;
const CLIENTS: usize = 64;
/// Number of acknowledged writes, unless the variable sets another.
const WRITES: usize = 50_000;
const WRITES_VARIABLE: &str = "RAFTKV_ORACLE_OPS";
/// Number of writes for each fault.
const WRITES_PER_FAULT: usize = 8_000;
/// Most faults of a run: each costs a long run some seconds of its throughput.
const FAULTS_MAX: usize = 60;
/// A slow and busy machine does a thousand writes within this time, with a fault in between.
const THOUSAND_MAX: Duration = Duration::from_secs(10);
/// A node that proves the records of a million writes on a busy machine serves again within this time.
const BACK_MAX: Duration = Duration::from_secs(180);
const AWAY: Duration = Duration::from_millis(800);

/// The faults, which come in turn.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillLeader,
    CutLeader,
    PauseFollower,
    KillAll,
    PauseLeader,
    Flapping,
    KillFollower,
    Transfer,
}

const FAULTS: [Fault; 8] = [
    Fault::KillLeader,
    Fault::CutLeader,
    Fault::PauseFollower,
    Fault::KillAll,
    Fault::PauseLeader,
    Fault::Flapping,
    Fault::KillFollower,
    Fault::Transfer,
];

#[test]
fn a_replay_of_all_acknowledged_writes_is_what_every_member_holds() -> Result<()> {
    let writes = std::env::var(WRITES_VARIABLE).ok().map_or(Ok(WRITES), |writes| writes.parse())?;
    let keys = (writes / 10).clamp(1000, 50_000) as u32;
    let faults = (writes / WRITES_PER_FAULT).min(FAULTS_MAX);
    let mut cluster = Cluster::start_on(Network::Relays(Relays::default()), NODES, &[])?;
    let begun = Export::read(&cluster.nodes[0], "")?.revision;
    let deadline = THOUSAND_MAX * writes.div_ceil(1000) as u32;
    let time = Instant::now();
    let clients = Clients::start(CLIENTS, keys, &cluster.client_urls());
    let mut struck = Ok(());
    for nth in 0..faults {
        clients.wait_for(writes * (nth + 1) / (faults + 1), deadline)?;
        let fault = FAULTS[nth % FAULTS.len()];
        struck = strike(&mut cluster, fault).with_context(|| format!("{fault:?} after {:?}", time.elapsed()));
        if struck.is_err() {
            break;
        }
        println!("{nth}: {fault:?} after {} s", time.elapsed().as_secs());
    }
    let waited = struck.and_then(|()| clients.wait_for(writes, deadline));
    let sent = clients.stop()?;
    waited?;
    let seconds = time.elapsed().as_secs_f64();
    // Reads every member to the end, and compares the members.
    let export = cluster.export("")?;
    let summary = check(&sent, begun, &export)?;
    println!(
        "TABLE oracle: acked={} unknown={} gaps={} keys={} faults={faults} members={NODES} seconds={seconds:.0} lost=0",
        summary.acked, summary.unknown, summary.gaps, summary.keys
    );
    ensure!(summary.acked >= writes && summary.keys > 0);
    cluster.agree()?;
    cluster.finish()
}

fn strike(cluster: &mut Cluster, fault: Fault) -> Result<()> {
    let leader = cluster.leader()?;
    let follower = (leader + 1) % NODES;
    match fault {
        Fault::KillLeader => restart(cluster, &[leader])?,
        Fault::KillFollower => restart(cluster, &[follower])?,
        Fault::KillAll => restart(cluster, &[0, 1, 2])?,
        Fault::PauseLeader => pause(cluster, leader)?,
        Fault::PauseFollower => pause(cluster, follower)?,
        Fault::CutLeader => Partition::Leader.strike(cluster, AWAY)?,
        Fault::Flapping => Partition::Flapping.strike(cluster, AWAY)?,
        Fault::Transfer => cluster.lead_elsewhere(leader)?,
    }
    eventually_within(BACK_MAX, "all nodes serve again", || {
        let serves = |node: &Node| node.client("GET", "/v1/kv?limit=1").send()?.expect(200).map(drop);
        cluster.nodes.iter().try_for_each(serves)
    })
}

fn restart(cluster: &mut Cluster, nodes: &[usize]) -> Result<()> {
    nodes.iter().try_for_each(|node| cluster.nodes[*node].kill())?;
    nodes.iter().try_for_each(|node| cluster.nodes[*node].start())
}

fn pause(cluster: &Cluster, node: usize) -> Result<()> {
    cluster.nodes[node].pause()?;
    pass(AWAY);
    cluster.nodes[node].resume()
}

//! Partitions as the kernel makes them: each node is in a network namespace, and each link is a device that drops what
//! it is given. The histories are checked for linearizability, like those over relays (`linearizable.rs`).

use anyhow::{Context, Result, ensure};
use raftkv_cluster_tests::history::{Clients, check};
use raftkv_cluster_tests::namespaces::Namespaces;
use raftkv_cluster_tests::relay::Relays;
use raftkv_cluster_tests::wait::{eventually, holds, pass};
use raftkv_cluster_tests::{Cluster, Network, Partition};
use std::time::Duration;

const NODES: usize = 3;
/// How long clients write before the network is cut, and after it is whole again.
const AROUND: Duration = Duration::from_millis(400);
/// How long the network is cut, at least.
const CUT: Duration = Duration::from_millis(700);

/// Network namespaces where they are permitted; elsewhere relays instead, with a message.
fn network() -> Result<(Network, &'static str)> {
    let Some(why) = Namespaces::refused()? else {
        return Ok((Network::Namespaces(Namespaces::new(NODES)?), "namespaces"));
    };
    println!("NETWORK NAMESPACES ARE NOT PERMITTED HERE: the network is cut in relays on loopback instead ({why})");
    Ok((Network::Relays(Relays::default()), "relays"))
}

#[test]
fn each_partition_leaves_a_linearizable_history() -> Result<()> {
    let (network, means) = network()?;
    let mut cluster = Cluster::start_on(network, NODES, &[])?;
    let mut files = Vec::new();
    let mut operations = 0;
    for (nth, partition) in Partition::ALL.into_iter().enumerate() {
        let file = cluster.dir().join(format!("history-{nth}.jsonl"));
        let clients = Clients::start(&format!("p{nth}"), 5, &cluster.client_urls());
        pass(AROUND);
        let struck = partition
            .strike(&cluster, CUT)
            .and_then(|()| cluster.nodes.iter().try_for_each(|node| node.wait_serving()));
        pass(AROUND);
        operations += clients.stop(&file)?;
        struck.with_context(|| format!("{partition:?} by {means}"))?;
        files.push(file);
    }
    println!("{}", check(&files)?.trim());
    println!("TABLE partitions: by={means} n={} ops={operations} not_linearizable=0", files.len());
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn a_leader_without_its_followers_answers_nothing_and_keeps_nothing() -> Result<()> {
    let (network, means) = network()?;
    let mut cluster = Cluster::start_on(network, NODES, &[])?;
    let old = cluster.leader()?;
    cluster.nodes[old].client("PUT", "/v1/kv/k").body("before").send()?.expect(200)?;
    let others = [(old + 1) % NODES, (old + 2) % NODES];
    for other in others {
        cluster.network.cut(old, other)?;
        cluster.network.cut(other, old)?;
    }
    // These go to the node that the others cannot reach: they can only end without an answer, or with one that promises
    // nothing.
    let alone = std::thread::scope(|scope| {
        let node = &cluster.nodes[old];
        let write = scope.spawn(|| node.client("PUT", "/v1/kv/k").body("alone").send());
        let read = scope.spawn(|| node.client("GET", "/v1/kv/k").send());
        [write, read].map(|call| call.join().expect("no assertion in there"))
    });
    for answer in alone {
        let answer = answer?;
        ensure!(answer.status == 503 || answer.status == 504, "by {means}: {} {}", answer.status, answer.text());
    }
    eventually("the others take a write", || {
        let answer = cluster.nodes[others[0]].client("PUT", "/v1/kv/k").body("after").send()?;
        holds(answer.status == 200, || answer.text())
    })?;
    cluster.network.heal()?;
    cluster.nodes[old].wait_serving()?;
    let read = cluster.nodes[old].client("GET", "/v1/kv/k").send()?.expect(200)?;
    ensure!(read.text() == "after", "by {means} the old leader shows '{}'", read.text());
    cluster.agree()?;
    cluster.finish()
}

//! Nodes that are killed, stopped and paused while a client writes: nothing acknowledged is lost or changed.

use anyhow::{Result, ensure};
use raftkv_cluster_tests::http::Connection;
use raftkv_cluster_tests::wait::{eventually, holds};
use raftkv_cluster_tests::{Cluster, Writer};
use std::time::Duration;

/// Writes between two events: enough that the next event meets a busy cluster.
const WRITES_BETWEEN: usize = 50;
/// Kills in all: in turn of a leader, of a follower and of all nodes.
const KILLS: usize = 20;
/// Reads that wait for a paused node.
const READS: usize = 8;
/// Clients that write meanwhile.
const WRITERS: usize = 5;
/// One key must be written within this time, which covers a call with unknown outcome and the read that settles it.
const LONGEST: Duration = Duration::from_secs(15);

/// Which nodes a kill hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Leader,
    Follower,
    All,
}

#[test]
fn twenty_kills_under_load_lose_nothing() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let writers: Vec<_> = (0..WRITERS).map(|nth| Writer::start(&format!("w{nth}"), cluster.client_urls())).collect();
    let all_write = |more| writers.iter().try_for_each(|writer| writer.wait_for(more));
    for nth in 0..KILLS {
        let whom = [Killed::Leader, Killed::Follower, Killed::All][nth % 3];
        all_write(WRITES_BETWEEN / WRITERS)?;
        let leader = cluster.leader()?;
        let killed = match whom {
            Killed::Leader => vec![leader],
            Killed::Follower => vec![(leader + 1) % 3],
            Killed::All => vec![0, 1, 2],
        };
        killed.iter().try_for_each(|node| cluster.nodes[*node].kill())?;
        if whom != Killed::All {
            // The other two must go on by themselves.
            all_write(WRITES_BETWEEN / WRITERS)?;
        }
        killed.iter().try_for_each(|node| cluster.nodes[*node].start())?;
        killed.iter().try_for_each(|node| cluster.nodes[*node].wait_serving())?;
    }
    all_write(1)?;
    let written = writers.into_iter().map(Writer::stop).collect::<Result<Vec<_>>>()?;
    written.iter().try_for_each(|written| written.verify(&mut cluster))?;
    cluster.agree()?;
    let acked: usize = written.iter().map(|written| written.keys.len()).sum();
    let settled: usize = written.iter().map(|written| written.unknown).sum();
    let longest = written.iter().map(|written| written.longest).max().unwrap_or_default();
    println!("TABLE kills: runs={KILLS} acked={acked} unknown={settled} lost=0 longest_ms={}", longest.as_millis());
    ensure!(longest < LONGEST, "one key took {longest:?}");
    cluster.finish()
}

#[test]
fn a_rolling_restart_is_hardly_noticed() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let writer = Writer::start("w", cluster.client_urls());
    for node in 0..3 {
        writer.wait_for(WRITES_BETWEEN)?;
        let (led, ended) = (cluster.leader()? == node, cluster.member_id(node)?);
        cluster.nodes[node].stop()?;
        if led {
            // A node that gets SIGTERM hands leadership over: the others get a leader without waiting for an election
            // timeout.
            let status = cluster.nodes[(node + 1) % 3].status()?;
            let has_leader = status.leader_id.is_some_and(|leader| leader != ended);
            ensure!(has_leader, "{ended:?} ended, and {} has {:?} as its leader", status.name, status.leader_id);
        }
        writer.wait_for(WRITES_BETWEEN)?;
        cluster.nodes[node].start()?;
        cluster.nodes[node].wait_serving()?;
    }
    let written = writer.stop()?;
    println!("{} keys, {} settled, longest {:?}", written.keys.len(), written.unknown, written.longest);
    written.verify(&mut cluster)?;
    cluster.agree()?;
    ensure!(written.longest < LONGEST, "one key took {:?}", written.longest);
    cluster.finish()
}

#[test]
fn a_paused_leader_answers_nothing_old_when_it_wakes() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    cluster.nodes[0].client("PUT", "/v1/kv/k").body("old").send()?.expect(200)?;
    for round in 0..3 {
        let old = cluster.leader()?;
        let value = format!("new {round}");
        cluster.nodes[old].pause()?;
        let other = (old + 1) % 3;
        eventually("the others elect a leader and take a write", || {
            let answer = cluster.nodes[other].client("PUT", "/v1/kv/k").body(value.clone()).send()?;
            holds(answer.status == 200, || answer.text())
        })?;
        // These wait in the paused node's sockets and are answered the moment the node wakes and still believes that it
        // leads.
        let node = &cluster.nodes[old];
        let read = node.client("GET", "/v1/kv/k");
        let mut waiting = Vec::new();
        for _ in 0..READS {
            let mut connection = Connection::open(node.client_url().trim_start_matches("http://"))?;
            connection.send(&read)?;
            waiting.push(connection);
        }
        node.resume()?;
        for mut connection in waiting {
            let answer = connection.receive(&read)?;
            let fine = answer.status != 200 || answer.text() == value;
            ensure!(fine, "a linearizable read showed '{}' after '{value}' was acknowledged", answer.text());
        }
        eventually("the old leader follows", || cluster.nodes[old].wait_serving())?;
    }
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn a_node_that_was_away_for_long_catches_up_by_snapshot() -> Result<()> {
    // A snapshot is cut every 64 KiB of log, so that what the absent node needs is soon gone from the others' logs.
    let mut cluster = Cluster::start_with(3, &["--snapshot-log-bytes=64KiB"])?;
    let away = (cluster.leader()? + 1) % 3;
    cluster.nodes[away].kill()?;
    let urls =
        cluster.nodes.iter().enumerate().filter(|(nth, _)| *nth != away).map(|(_, node)| node.client_url()).collect();
    let leader = cluster.leader()?;
    let before = cluster.nodes[leader].status()?.snapshot_index;
    let body = vec![b'x'; 16 * 1024];
    for nth in 0..64 {
        cluster.nodes[leader].client("PUT", &format!("/v1/kv/large{nth}")).body(body.clone()).send()?.expect(200)?;
    }
    cluster.nodes[leader].wait_for("has cut a snapshot", |status| status.snapshot_index > before)?;
    let writer = Writer::start("w", urls);
    writer.wait_for(200)?;
    cluster.nodes[away].start()?;
    cluster.nodes[away].wait_serving()?;
    let written = writer.stop()?;
    written.verify(&mut cluster)?;
    cluster.agree()?;
    ensure!(cluster.export("large")?.entries.len() == 64);
    cluster.finish()
}

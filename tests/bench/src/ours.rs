//! What is measured of raftkv alone: what a put costs after thousands of replacements of members, and what a member
//! that catches up costs the others.

use crate::load::{self, Seen};
use crate::process;
use crate::system::raftkv;
use crate::wire::Protocol;
use crate::workload::{self, Kind, Workload};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use raftkv_api::{AddMember, Hex128, MemberAdded};
use raftkv_cluster_tests::Cluster;
use raftkv_cluster_tests::http::Request;
use raftkv_cluster_tests::wait::eventually;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Members that come and go.
const REPLACEMENTS: u64 = 5_000;
/// Runs before and after; the medians are compared.
const RUNS: usize = 5;
/// Slices of the load before the member comes back: about as many as there are until it has caught up.
const CALM_SLICES: usize = 20;
/// Bytes of the log that the member has to catch up.
const BEHIND_BYTES: u64 = 1 << 30;
/// Bytes of each value of them.
const BEHIND_VALUE_BYTES: u64 = 64 * 1024;
/// A log is kept for a member that is away as long as no snapshot is cut.
const SNAPSHOT_LOG_BYTES: &str = "--snapshot-log-bytes=8GiB";
/// The member has caught up within this time.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);

const REPLACED: Workload = Workload { name: "put, 64 clients", kind: Kind::Put, clients: 64, requests: 50_000 };
/// A slice of the load that the others bear meanwhile: what two thirds of a busy cluster would take.
const OTHERS: Workload = Workload { name: "put, 16 clients", kind: Kind::Put, clients: 16, requests: 8_000 };
const BEHIND: Workload =
    Workload { name: "64 KiB values", kind: Kind::Put, clients: 8, requests: BEHIND_BYTES / BEHIND_VALUE_BYTES };

/// Puts before and after replacements.
pub fn replacements(tell: &dyn Fn(&str)) -> Result<()> {
    let cluster = raftkv::start(&[])?;
    let nodes = raftkv::nodes(&cluster);
    load::run(&workload::FILL, Protocol::Http, &nodes)?;
    // The first runs after a start are slower than all later ones.
    median_of(&cluster, &nodes)?;
    let before = median_of(&cluster, &nodes)?;
    tell(&format!("replacing a member {REPLACEMENTS} times"));
    let begun = Instant::now();
    for nth in 0..REPLACEMENTS {
        replace(&cluster, nth).with_context(|| format!("replacement {nth}"))?;
    }
    tell(&format!("  took {} s", begun.elapsed().as_secs()));
    let after = median_of(&cluster, &nodes)?;
    let line = |what, before: f64, after: f64| {
        println!(
            "| after {REPLACEMENTS} replacements: {what} | {after:.1} | before: {before:.1} | {:.2} |",
            after / before
        );
    };
    line("put, 64 clients, requests/s", before.0, after.0);
    line("put, 64 clients, server CPU, us/request", before.1, after.1);
    cluster.finish()
}

/// Requests a second, and microseconds of server CPU for each.
fn median_of(cluster: &Cluster, nodes: &[SocketAddr]) -> Result<(f64, f64)> {
    let pids = pids(cluster)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let before = process::cpu_seconds(&pids)?;
        let seen = load::run(&REPLACED, Protocol::Http, nodes)?;
        let cpu_us = (process::cpu_seconds(&pids)? - before) * 1e6 / REPLACED.requests as f64;
        runs.push((seen.per_second, cpu_us));
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[RUNS / 2]
    };
    let (per_second, cpu) = runs.into_iter().unzip();
    Ok((median(per_second), median(cpu)))
}

/// A learner comes, which nobody ever sees, and goes.
fn replace(cluster: &Cluster, nth: u64) -> Result<()> {
    let incarnation = Hex128((u128::from(nth) + 1).to_be_bytes());
    let add = AddMember { name: "guest".into(), peer_url: "http://127.0.0.1:1".into(), incarnation };
    let mut id = None;
    eventually("a learner is added", || {
        let added = fenced(cluster, "POST", "/v1/members")?.json(&add).send()?.expect(200)?;
        id = Some(added.json::<MemberAdded>()?.id);
        Ok(())
    })?;
    let path = format!("/v1/members/{}", id.context("it was added")?.0);
    eventually("it is removed", || fenced(cluster, "DELETE", &path)?.send()?.expect(200).map(drop))
}

/// A membership call at the leader, with the members that it knows as the fence.
fn fenced(cluster: &Cluster, method: &str, target: &str) -> Result<Request> {
    let leader = &cluster.nodes[cluster.leader()?];
    let status = leader.status()?;
    Ok(leader.admin_guarded(method, target, &status).header("If-Match", format!("\"{}\"", status.conf_index)))
}

/// Puts of others while a member catches up.
pub fn catch_up(tell: &dyn Fn(&str)) -> Result<()> {
    let mut cluster = raftkv::start(&[SNAPSHOT_LOG_BYTES])?;
    let leader = cluster.leader()?;
    let away = (leader + 1) % cluster.nodes.len();
    cluster.nodes[away].stop()?;
    let nodes: Vec<SocketAddr> =
        raftkv::nodes(&cluster).into_iter().enumerate().filter(|(node, _)| *node != away).map(|(_, at)| at).collect();
    tell(&format!("writing {} MiB while a member is away", BEHIND_BYTES >> 20));
    let value = Bytes::from(vec![b'x'; BEHIND_VALUE_BYTES as usize]);
    load::run_with(&BEHIND, &value, Protocol::Http, &nodes)?;
    let leader_pid = cluster.nodes[leader].pid()?;
    let mut undisturbed = Vec::new();
    for _ in 0..CALM_SLICES {
        undisturbed.push(load::run(&OTHERS, Protocol::Http, &nodes)?);
    }
    let (dropped, resident) = (dropped_frames(&cluster, leader)?, process::resident_bytes(&[leader_pid])?);
    tell("the member comes back");
    let begun = Instant::now();
    cluster.nodes[away].start()?;
    let (mut disturbed, mut largest) = (Vec::new(), 0);
    loop {
        disturbed.push(load::run(&OTHERS, Protocol::Http, &nodes)?);
        largest = largest.max(process::resident_bytes(&[leader_pid])?);
        let leads = cluster.nodes[leader].status()?;
        let id = cluster.nodes[away].status().ok().and_then(|status| status.member_id);
        if leads.peers.iter().any(|peer| Some(peer.id) == id && peer.caught_up) {
            break;
        }
        ensure!(begun.elapsed() < CATCH_UP_MAX, "the member did not catch up within {CATCH_UP_MAX:?}");
    }
    let took = begun.elapsed();
    let p99 = |seen: &[Seen]| load::p99_of_all(seen).as_secs_f64() * 1e3;
    let (calm, busy) = (p99(&undisturbed), p99(&disturbed));
    let dropped = dropped_frames(&cluster, leader)? - dropped;
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "| a member catches up {} MiB in {} s: others' put p99, ms | {busy:.1} | undisturbed: {calm:.1} | {:.2} |",
        mib(BEHIND_BYTES),
        took.as_secs(),
        busy / calm
    );
    println!("| frames that found a queue of the leader full meanwhile | {dropped} | | |");
    println!("| the leader's resident MiB, at most | {} | before: {} | |", mib(largest), mib(resident));
    cluster.finish()
}

fn pids(cluster: &Cluster) -> Result<Vec<u32>> {
    cluster.nodes.iter().map(raftkv_cluster_tests::Node::pid).collect()
}

/// Frames for peers that the node dropped since their queue was full.
fn dropped_frames(cluster: &Cluster, node: usize) -> Result<u64> {
    let text = cluster.nodes[node].admin("GET", "/metrics").send()?.expect(200)?.text();
    let values = text
        .lines()
        .filter(|line| line.starts_with("raftkv_peer_dropped_frames_total{") && line.contains("why=\"full\""));
    values
        .map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>().map(|n| n as u64))
        .try_fold(0, |sum, n| Ok(sum + n?))
}

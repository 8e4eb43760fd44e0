//! Measures the memory that a snapshot of a large database costs: a node with a GiB of values cuts one, a second node
//! joins and installs it, then both restart and prove it. No process may have more than the limit resident beyond its
//! key index. This takes a few minutes: `make big-snapshot`; MIB=64 is a quick look.

use anyhow::{Context, Result, ensure};
use raftkv_cluster_tests::wait::{eventually_within, holds};
use raftkv_cluster_tests::{Cluster, Node, http};
use std::fs;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 16 * 1024;
const CLIENTS: usize = 16;
/// Most resident memory of a process at its peak, beyond its key index.
const RESIDENT_MIB_MAX: u64 = 400;
/// Enough for a GiB on a slow disk.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() -> Result<()> {
    let mib: usize = std::env::var("MIB").map_or(Ok(1024), |mib| mib.parse()).context("MIB is a number")?;
    let mut cluster = Cluster::empty()?;
    cluster.start_node()?;
    cluster.init(1)?;
    cluster.nodes[0].wait_serving()?;
    let begun = Instant::now();
    write_all(&cluster.nodes[0], (mib << 20) / VALUE_BYTES)?;
    println!("{mib} MiB written in {:.1?}", begun.elapsed());
    let mut most = look(&cluster.nodes[0], "wrote and cut")?;

    let begun = Instant::now();
    let joiner = cluster.start_node()?;
    cluster.add(joiner)?;
    let applied = cluster.nodes[0].status()?.applied;
    eventually_within(PATIENCE, "the second node has installed it", || {
        let status = cluster.nodes[joiner].status()?;
        holds(status.applied >= applied && status.snapshot_index > 1, || format!("applied {}", status.applied))
    })?;
    println!("cut, sent and installed in {:.1?}", begun.elapsed());
    most = most.max(look(&cluster.nodes[0], "cut and sent")?).max(look(&cluster.nodes[joiner], "installed")?);

    for node in 0..=joiner {
        let begun = Instant::now();
        cluster.nodes[node].stop()?;
        cluster.nodes[node].start()?;
        eventually_within(PATIENCE, "its kv db is proved", || {
            let status = cluster.nodes[node].status()?;
            holds(status.kv == raftkv_api::KvState::Ready, || format!("{:?}", status.reason))
        })?;
        println!("{} stopped, started and proved in {:.1?}", cluster.nodes[node].name, begun.elapsed());
        most = most.max(look(&cluster.nodes[node], "proved")?);
    }
    ensure!(most < RESIDENT_MIB_MAX, "{most} MiB were resident beyond the key index, {RESIDENT_MIB_MAX} are allowed");
    println!("at most {most} MiB were resident beyond a key index; {RESIDENT_MIB_MAX} are allowed");
    cluster.finish()
}

fn write_all(node: &Node, keys: usize) -> Result<()> {
    let authority = format!("127.0.0.1:{}", node.ports.client);
    std::thread::scope(|scope| {
        let write = |client: usize| -> Result<()> {
            let mut connection = http::Connection::open(&authority)?;
            for key in (client..keys).step_by(CLIENTS) {
                // No two values are alike, and none repeats one byte only.
                let value: Vec<u8> = (0..VALUE_BYTES).map(|at| ((at ^ key) ^ (at >> 8) ^ (key >> 8)) as u8).collect();
                let put = node.client("PUT", &format!("/v1/kv/key%2F{key:08}")).body(value);
                // Writing the same value again does no harm here, and a machine that stalls is no reason to start over.
                eventually_within(PATIENCE, "a value is written", || {
                    let put = connection.exchange(&put).map_err(Into::into).and_then(|answer| answer.expect(200));
                    if put.is_err() {
                        connection = http::Connection::open(&authority)?;
                    }
                    put
                })?;
            }
            Ok(())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || write(client))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })
}

/// Prints the resident memory of the process at its peak, and returns how much of it is beyond the key index, in MiB.
fn look(node: &Node, what: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid()?))?;
    let kib = |field: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    };
    let metrics = node.admin("GET", "/metrics").send()?.expect(200)?.text();
    let index = metrics.lines().find_map(|line| line.strip_prefix("raftkv_db_index_bytes "));
    let index: u64 = index.context("no raftkv_db_index_bytes")?.parse()?;
    let (peak, now) = (kib("VmHWM:")? >> 10, kib("VmRSS:")? >> 10);
    let beyond = peak.saturating_sub(index >> 20);
    println!(
        "{} {what}: VmHWM {peak} MiB, VmRSS {now} MiB, key index {} MiB, beyond it {beyond} MiB",
        node.name,
        index >> 20
    );
    Ok(beyond)
}

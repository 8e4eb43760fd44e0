//! More clients than a cluster can serve: clients that hold connections and send nothing useful, and ten times as many
//! writers as it takes to keep the cluster busy. Memory stays bounded, others are served, nothing that was acknowledged
//! is lost, and there is a leader.
//!
//! `RAFTKV_OVERLOAD_SECONDS` makes each part longer than in the test command (`make overload`).

use anyhow::{Result, ensure};
use raftkv_cluster_tests::crowd::{Bad, Crowd, Told, room_for};
use raftkv_cluster_tests::http::Connection;
use raftkv_cluster_tests::wait::{eventually_within, holds};
use raftkv_cluster_tests::{Cluster, Writer};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bad clients of each kind, at one node: all three kinds together take most of the places that a node has.
const BAD_CLIENTS: usize = 1000;
/// Clients that keep a cluster of three as busy as it can be, as `make bench` measures it.
const BUSY_CLIENTS: usize = 256;
/// Ten times as many.
const CROWD: usize = 10 * BUSY_CLIENTS;
/// A crowd must write at least this often.
const WRITTEN_MIN: u64 = 1000;
/// Bytes of a crowd's values.
const VALUE_BYTES: usize = 256;
/// Bytes of larger values: a node has no room for all of them when all clients write to it at once, since at most 64
/// MiB wait.
const LARGE_BYTES: usize = 40 * 1024;
/// How long bad clients, and clients with large values, last in the test command, in seconds.
const SECONDS: u64 = 10;
/// How long ten times the load lasts, in seconds.
const LOAD_SECONDS: u64 = 60;
/// Most memory of a node: bodies and values 160 MiB, pages 96 MiB, proposals 64 MiB, 16 scans of a page and its JSON
/// 320 MiB, and 128 MiB for the rest.
const RESIDENT_BYTES_MAX: u64 = 768 * 1024 * 1024;
/// One request of a healthy client is answered within this time: a silent client may keep a place for ten seconds.
const HEALTHY_MAX: Duration = Duration::from_secs(12);
/// Each test has the machine for itself.
static MACHINE: Mutex<()> = Mutex::new(());
/// After an overload, the cluster agrees within this time.
const CALM_MAX: Duration = Duration::from_secs(60);

fn seconds(otherwise: u64) -> u64 {
    let set = std::env::var("RAFTKV_OVERLOAD_SECONDS").ok().filter(|text| !text.is_empty());
    set.map_or(otherwise, |text| text.parse().expect("RAFTKV_OVERLOAD_SECONDS is a number of seconds"))
}

/// Takes the machine, with room for this many connections of this process.
fn machine_for(connections: usize) -> Result<MutexGuard<'static, ()>> {
    let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let room = room_for(connections);
    ensure!(
        room >= connections as u64,
        "this test needs {connections} connections and may have {room}: raise ulimit -n"
    );
    Ok(machine)
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.client_urls().iter().map(|url| url.trim_start_matches("http://").to_string()).collect()
}

fn largest_resident(cluster: &Cluster) -> Result<u64> {
    let peaks = cluster.nodes.iter().map(|node| node.peak_resident_bytes()).collect::<Result<Vec<_>>>()?;
    Ok(peaks.into_iter().max().unwrap_or_default())
}

/// Checks that memory stayed in its bounds and that the cluster agrees again; the most memory of a node.
fn calm(cluster: &mut Cluster) -> Result<u64> {
    let resident = largest_resident(cluster)?;
    ensure!(resident < RESIDENT_BYTES_MAX, "a node had {} MiB in memory", resident >> 20);
    // Writes that nobody waits for any more may still be in the leader's log, and would come between two exports.
    eventually_within(CALM_MAX, "the cluster agrees, and nothing is on its way", || {
        cluster.agree()?;
        cluster.nodes.iter().try_for_each(|node| {
            let status = node.status()?;
            holds(status.last_index == status.applied, || format!("{status:?}"))
        })
    })?;
    Ok(resident)
}

#[test]
fn thousands_of_bad_clients_cost_little_and_stop_nobody() -> Result<()> {
    let _machine = machine_for(3 * BAD_CLIENTS)?;
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    for nth in 0..8 {
        let put = cluster.nodes[leader].client("PUT", &format!("/v1/kv/large{nth}"));
        put.body(vec![b'x'; 1024 * 1024]).send()?.expect(200)?;
    }
    let kinds = [Bad::Silent, Bad::Dripping, Bad::Unread("large")];
    let crowd = Crowd::bad(&addresses(&cluster)[leader], &kinds, BAD_CLIENTS);
    let mut open = 0;
    eventually_within(CALM_MAX, "the crowd is there", || {
        open = connections(&cluster, leader)?;
        holds(open >= 2 * BAD_CLIENTS as u64, || format!("{open} connections"))
    })?;
    let writer = Writer::start("w", vec![cluster.nodes[leader].client_url()]);
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(seconds(SECONDS)) {
        let asking = Instant::now();
        let node = &cluster.nodes[leader];
        node.client("PUT", &format!("/v1/kv/h{asked}")).body("v").send()?.expect(200)?;
        ensure!(node.client("GET", &format!("/v1/kv/h{asked}")).send()?.expect(200)?.text() == "v");
        node.admin("GET", "/livez").without("Authorization").send()?.expect(200)?;
        longest = longest.max(asking.elapsed());
        asked += 1;
    }
    ensure!(longest < HEALTHY_MAX, "a healthy client waited {longest:?}");
    let written = writer.stop()?;
    ensure!(written.longest < HEALTHY_MAX, "one key took {:?}", written.longest);
    crowd.go_home()?;
    let resident = calm(&mut cluster)?;
    written.verify(&mut cluster)?;
    println!(
        "TABLE bad_clients: connections={open} seconds={} healthy_calls={asked} healthy_longest_ms={} written={} resident_mib={}",
        seconds(SECONDS),
        longest.as_millis(),
        written.keys.len(),
        resident >> 20
    );
    cluster.finish()
}

/// The client connections of a node, as the node counts them.
fn connections(cluster: &Cluster, node: usize) -> Result<u64> {
    let metrics = cluster.nodes[node].admin("GET", "/metrics").send()?.expect(200)?.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("raftkv_connections{port=\"client\"} "));
    Ok(line.and_then(|count| count.parse().ok()).unwrap_or_default())
}

#[test]
fn ten_times_the_load_loses_nothing() -> Result<()> {
    let _machine = machine_for(CROWD)?;
    let mut cluster = Cluster::start(3)?;
    let at = addresses(&cluster);
    overload(&mut cluster, &at, VALUE_BYTES, seconds(LOAD_SECONDS)).map(drop)?;
    cluster.finish()
}

/// All clients are at one node, which has room for only a part of what they send.
#[test]
fn what_there_is_no_room_for_is_refused_and_the_rest_goes_on() -> Result<()> {
    let _machine = machine_for(CROWD)?;
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let at = [addresses(&cluster)[leader].clone()];
    let told = overload(&mut cluster, &at, LARGE_BYTES, seconds(SECONDS))?;
    ensure!(told.codes.contains_key("Overloaded"), "nobody was refused: {:?} {:?}", told.statuses, told.codes);
    cluster.finish()
}

/// Lets many clients write for `seconds` while another client goes on as always.
fn overload(cluster: &mut Cluster, at: &[String], value_bytes: usize, seconds: u64) -> Result<Told> {
    let writer = Writer::start("w", cluster.client_urls());
    writer.wait_for(50)?;
    let crowd = Crowd::writers("o", at.to_vec(), CROWD, value_bytes);
    let begun = Instant::now();
    let until = Duration::from_secs(seconds);
    eventually_within(until + CALM_MAX, "the time is over and the crowd was served", || {
        let written = crowd.told().statuses.get(&200).copied().unwrap_or_default();
        holds(begun.elapsed() > until && written > WRITTEN_MIN, || format!("{written} were written"))
    })?;
    let told = crowd.go_home()?;
    let healthy = writer.stop()?;
    let resident = calm(cluster)?;
    let Told { statuses, codes, broken, longest, written } = &told;
    ensure!(*broken == 0, "{broken} connections broke: {statuses:?} {codes:?}");
    let expected = |status: &u16| matches!(status, 200 | 429 | 503 | 504);
    ensure!(statuses.keys().all(expected), "{statuses:?} {codes:?}");
    ensure!(healthy.longest < HEALTHY_MAX, "one key of another client took {:?}", healthy.longest);
    // A page counts all keys of its range, so a hundred clients are read at a time.
    for hundred in 0..CROWD.div_ceil(100) {
        let prefix = format!("o/{hundred:03}");
        told.verify(&prefix, &cluster.export(&prefix.replace('/', "%2F"))?)?;
    }
    healthy.verify(cluster)?;
    let refused: u64 = statuses.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    println!(
        "TABLE overload: connections={CROWD} value_bytes={value_bytes} seconds={seconds} written={} refused={refused} \
         longest_ms={} healthy_longest_ms={} resident_mib={}",
        written.len(),
        longest.as_millis(),
        healthy.longest.as_millis(),
        resident >> 20
    );
    Ok(told)
}

/// A process that may open only few files keeps them for its log, its store and its peers.
#[test]
fn clients_never_take_the_files_that_the_node_needs() -> Result<()> {
    const FILES: usize = 1232;
    let connections_beyond = 2 * FILES;
    let _machine = machine_for(connections_beyond)?;
    let mut cluster = Cluster::empty()?;
    let node = cluster.new_node();
    let limited = cluster.nodes[node].command_under(&format!("ulimit -n {FILES}"))?;
    cluster.nodes[node].start_as(limited)?;
    cluster.init(1)?;
    cluster.nodes[node].wait_serving()?;
    // These two have their places before the crowd comes, which takes all others and queues for more.
    let writer = Writer::start("w", cluster.client_urls());
    writer.wait_for(1)?;
    let mut kept = Connection::open(&addresses(&cluster)[node])?;
    let large = cluster.nodes[node].client("PUT", "/v1/kv/large").body(vec![b'x'; 1024 * 1024]);
    kept.exchange(&large)?.expect(200)?;
    let crowd = Crowd::bad(&addresses(&cluster)[node], &[Bad::Silent], connections_beyond);
    eventually_within(CALM_MAX, "all places are taken", || {
        let open = connections(&cluster, node)?;
        holds(open >= 64, || format!("{open} connections"))
    })?;
    // This is enough for several segments of the log, which are files that must be opened.
    for _ in 0..40 {
        kept.exchange(&large)?.expect(200)?;
    }
    let written = writer.stop()?;
    crowd.go_home()?;
    written.verify(&mut cluster)?;
    cluster.finish()
}

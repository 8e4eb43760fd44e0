//! Damages every file of sled, one after another, while its node is down: cut somewhere, emptied, with a bit flipped,
//! or gone. The node comes back with everything that was acknowledged, from its snapshot and its log, and never shows
//! anything else.

use anyhow::{Context, Result, anyhow, ensure};
use raftkv_cluster_tests::http::Request;
use raftkv_cluster_tests::{Cluster, Node, Writer, Written};
use rand::Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Snapshots are cut all the time: a rebuild begins with one, and the log has the rest.
const SNAPSHOT_OFTEN: &str = "--snapshot-log-bytes=64KiB";
/// Writes before the first damage, and between two damages.
const WRITES_FIRST: usize = 1000;
const WRITES_BETWEEN: usize = 20;
/// Pause of a reader whose node does not listen yet.
const NOT_OPEN: Duration = Duration::from_millis(5);
/// The log lines that tell that the kv db was not what it should be, and was set aside.
const SET_ASIDE: [&str; 2] = ["the kv db does not open; setting it aside", "the kv db was set aside"];

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// Ends at a random offset.
    Cut,
    /// From a random sector on, a part was never written: sled writes segments of many pages.
    Torn,
    /// Is there, but empty.
    Emptied,
    /// One bit at a random offset is flipped.
    Flipped,
    /// One bit of each copy of an acknowledged value is flipped; where the file has none, one bit of a random byte.
    ValueFlipped,
    /// Is missing.
    Gone,
}

const DAMAGES: [Damage; 6] =
    [Damage::Cut, Damage::Torn, Damage::Emptied, Damage::Flipped, Damage::ValueFlipped, Damage::Gone];
/// The sector, which a disk writes whole, and the length of the torn part.
const SECTOR_BYTES: usize = 512;
const TORN_BYTES: usize = 64 * SECTOR_BYTES;

/// A single node: no other can give it what it lost.
#[test]
fn each_file_is_damaged_in_each_way_and_an_only_voter_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start_with(1, &[SNAPSHOT_OFTEN])?;
    let mut all = vec![write(&cluster, "first", WRITES_FIRST)?];
    let mut damages: BTreeMap<String, usize> = BTreeMap::new();
    let mut reads = 0;
    cluster.nodes[0].wait_for("has a snapshot for a rebuild to begin with", |status| status.snapshot_index > 1)?;
    for (damage, cleanly) in DAMAGES.into_iter().flat_map(|damage| [(damage, true), (damage, false)]) {
        // A rebuild makes all files again.
        for nth in 0.. {
            end(&mut cluster.nodes[0], cleanly)?;
            let files = sled_files(&cluster.nodes[0])?;
            let Some(file) = files.get(nth) else { break };
            let what = apply(damage, file, &all[0])?;
            let watch = Watch::start(&cluster.nodes[0], &all);
            let back = cluster.nodes[0].start().and_then(|()| cluster.nodes[0].wait_serving());
            reads += watch.stop().with_context(|| what.clone())?;
            back.with_context(|| what.clone())?;
            for written in &all {
                written.verify(&mut cluster).with_context(|| what.clone())?;
            }
            all.push(write(&cluster, &format!("r{}", all.len()), WRITES_BETWEEN)?);
            *damages.entry(format!("{damage:?}")).or_default() += 1;
        }
        cluster.nodes[0].start()?;
        cluster.nodes[0].wait_serving()?;
    }
    let said = cluster.nodes[0].log_text();
    let rebuilt: usize = SET_ASIDE.iter().map(|words| said.matches(words).count()).sum();
    let count: usize = damages.values().sum();
    println!("{damages:?}");
    println!(
        "TABLE sled-files: damages={count} set_aside={rebuilt} acked={} reads={reads} lost=0 wrong=0",
        acked(&all)
    );
    // Some damage hits nothing that is in use, or leaves no claim that could be disproved.
    ensure!(rebuilt >= DAMAGES.len() - 1, "of {count} damages only {rebuilt} were noticed");
    ensure!(damages.values().all(|files| *files >= 2), "a db of one file is not sled: {damages:?}");
    cluster.finish()
}

/// All three nodes at once, each in another way, so that no quorum has a db that can be trusted.
#[test]
fn three_damaged_at_once_lose_nothing() -> Result<()> {
    let mut cluster = Cluster::start_with(3, &[SNAPSHOT_OFTEN])?;
    let all = [write(&cluster, "w", WRITES_FIRST)?];
    for node in &mut cluster.nodes {
        node.kill()?;
    }
    for (node, damage) in cluster.nodes.iter().zip([Damage::ValueFlipped, Damage::Cut, Damage::Gone]) {
        let files = sled_files(node)?;
        let largest = files.iter().max_by_key(|file| fs::metadata(file).map_or(0, |meta| meta.len()));
        println!("{}: {}", node.name, apply(damage, largest.context("no file")?, &all[0])?);
    }
    let watches: Vec<_> = cluster.nodes.iter().map(|node| Watch::start(node, &all)).collect();
    let back = cluster.nodes.iter_mut().try_for_each(Node::start);
    let back = back.and_then(|()| cluster.nodes.iter().try_for_each(Node::wait_serving));
    watches.into_iter().try_for_each(|watch| watch.stop().map(drop))?;
    back?;
    all[0].verify(&mut cluster)?;
    cluster.agree()?;
    cluster.finish()
}

fn write(cluster: &Cluster, name: &str, writes: usize) -> Result<Written> {
    let writer = Writer::start(name, cluster.client_urls());
    writer.wait_for(writes)?;
    writer.stop()
}

fn acked(all: &[Written]) -> usize {
    all.iter().map(|written| written.keys.len()).sum()
}

/// A clean stop leaves other files than a kill.
fn end(node: &mut Node, cleanly: bool) -> Result<()> {
    if cleanly { node.stop() } else { node.kill() }
}

/// All files of the db in use, in a fixed order.
fn sled_files(node: &Node) -> Result<Vec<PathBuf>> {
    let current = fs::read_to_string(node.data_dir.join("CURRENT")).context("CURRENT")?;
    let mut files = Vec::new();
    let mut dirs = vec![node.data_dir.join(current.trim())];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("{}", dir.display()))? {
            let entry = entry?;
            let list = if entry.file_type()?.is_dir() { &mut dirs } else { &mut files };
            list.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Damages a file; what was done, in words.
fn apply(damage: Damage, file: &Path, written: &Written) -> Result<String> {
    let mut bytes = fs::read(file)?;
    let length = bytes.len();
    let at = rand::rng().random_range(0..length.max(1));
    let mut copies = 1;
    match damage {
        Damage::Cut => bytes.truncate(at),
        Damage::Torn => {
            let from = at - at % SECTOR_BYTES;
            bytes[from..length.min(from + TORN_BYTES)].fill(0);
        }
        Damage::Emptied => bytes.clear(),
        Damage::Flipped => flip(&mut bytes, at),
        Damage::ValueFlipped => {
            let found = places(&bytes, written);
            let found = if found.is_empty() { vec![at] } else { found };
            copies = found.len();
            found.into_iter().for_each(|place| flip(&mut bytes, place));
        }
        Damage::Gone => {}
    }
    match damage {
        Damage::Gone => fs::remove_file(file)?,
        Damage::Cut | Damage::Torn | Damage::Emptied | Damage::Flipped | Damage::ValueFlipped => {
            fs::write(file, bytes)?
        }
    }
    Ok(format!("{damage:?} {} of {length} bytes at {at}, {copies} places", file.display()))
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

/// The places of a value from the middle of what was acknowledged.
fn places(bytes: &[u8], written: &Written) -> Vec<usize> {
    let value = written.keys.values().nth(written.keys.len() / 2).map_or("", |(value, _)| value.as_str()).as_bytes();
    (0..bytes.len().saturating_sub(value.len())).filter(|at| bytes[*at..].starts_with(value)).collect()
}

/// Reads while the node comes up: keys may still be missing or refused, but never wrong.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize>>,
}

impl Watch {
    fn start(node: &Node, all: &[Written]) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, url) = (stop.clone(), node.client_url());
        let keys = all.iter().flat_map(|written| &written.keys);
        let keys: Vec<_> = keys.map(|(key, (value, revision))| (key.clone(), value.clone(), *revision)).collect();
        let thread = thread::spawn(move || {
            let mut reads = 0;
            while !stopped.load(Ordering::Acquire) {
                let (key, value, revision) = &keys[rand::rng().random_range(0..keys.len())];
                let consistency = if rand::random() { "?consistency=stale" } else { "" };
                let request = Request::new("GET", &format!("{url}/v1/kv/{key}{consistency}"));
                let Ok(answer) = request.send() else {
                    // The port is not open yet.
                    thread::park_timeout(NOT_OPEN);
                    continue;
                };
                if answer.status == 200 {
                    reads += 1;
                    let got = (answer.text(), answer.etag()?);
                    ensure!(got == (value.clone(), *revision), "{key} is {got:?} and not '{value}' of {revision}");
                }
                ensure!(
                    answer.status != 404 || !consistency.is_empty(),
                    "a linearizable read misses {key}, acknowledged at {revision}"
                );
            }
            Ok(reads)
        });
        Watch { stop, thread }
    }

    /// Stops the reader; the number of reads that got a value.
    fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

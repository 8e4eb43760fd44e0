//! One node's disk has no byte left while clients write: the others go on, nothing that was acknowledged is lost, and
//! the node catches up when there is space again. A leader without space refuses puts (rule N11) until another node
//! leads.

use anyhow::{Context, Result, anyhow, ensure};
use raftkv_cluster_tests::http::Request;
use raftkv_cluster_tests::wait::{eventually, eventually_within, holds};
use raftkv_cluster_tests::{Cluster, SmallDisk};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The segments, the kv db, snapshots and the reserve take less than half of the disk.
const DISK_MIB: u64 = 400;
/// The node on the small disk.
const SMALL: usize = 0;
const CLIENTS: usize = 4;
/// Larger than the chunks in which the kv db stores values, and small enough that there are many.
const VALUE_BYTES: usize = 32 * 1024;
/// Writes that must be acknowledged before the disk is full, and after it.
const WRITES: usize = 150;
/// A client whose write was refused pauses for this time.
const REFUSED: Duration = Duration::from_millis(20);
/// A node whose process ended again and again serves within this time.
const BACK_MAX: Duration = Duration::from_secs(60);

/// Three nodes, one of them on a small disk.
fn with_a_small_disk() -> Result<(Cluster, SmallDisk)> {
    let mut cluster = Cluster::empty()?;
    for _ in 0..3 {
        cluster.new_node();
    }
    let disk = SmallDisk::mount(&mut cluster.nodes[SMALL], DISK_MIB)?;
    start_on(&mut cluster, &disk)?;
    cluster.nodes[1].start()?;
    cluster.nodes[2].start()?;
    cluster.init(2)?;
    cluster.join(1)?;
    cluster.join(2)?;
    cluster.nodes.iter().try_for_each(|node| node.wait_serving())?;
    Ok((cluster, disk))
}

fn start_on(cluster: &mut Cluster, disk: &SmallDisk) -> Result<()> {
    let command = disk.command(&cluster.nodes[SMALL])?;
    cluster.nodes[SMALL].start_as(command)
}

#[test]
fn a_follower_with_a_full_disk_harms_nobody() -> Result<()> {
    let (cluster, disk) = with_a_small_disk()?;
    cluster.lead_elsewhere(SMALL)?;
    let load = Load::start(cluster.nodes[1..].iter().map(|node| node.client_url()).collect());
    load.wait_for(WRITES)?;
    disk.leave(0)?;
    load.wait_for(WRITES)?;
    eventually("the node meets the end of its disk", || {
        let status = cluster.nodes[SMALL].status()?;
        holds(status.no_space.is_some(), || format!("{status:?}"))
    })?;
    load.wait_for(WRITES)?;
    let (acked, refused) = load.stop()?;
    ensure!(refused == 0, "{refused} writes were refused for the space of a follower");
    comes_back(cluster, &disk, &acked)?;
    println!("TABLE full-disk: role=follower acked={} refused=0 lost=0", acked.len());
    Ok(())
}

#[test]
fn a_leader_with_a_full_disk_lets_another_one_lead() -> Result<()> {
    let (cluster, disk) = with_a_small_disk()?;
    cluster.lead_at(SMALL)?;
    let load = Load::start(cluster.client_urls());
    load.wait_for(WRITES)?;
    disk.leave(0)?;
    eventually("another node leads", || holds(cluster.leader()? != SMALL, || "it still leads".into()))?;
    load.wait_for(WRITES)?;
    // Deletes must go on, since they make space.
    eventually("a delete is taken", || cluster.nodes[1].client("DELETE", "/v1/kv/f0-0").send()?.expect(200).map(drop))?;
    let (mut acked, refused) = load.stop()?;
    acked.retain(|write| write.key != "f0-0");
    comes_back(cluster, &disk, &acked)?;
    println!("TABLE full-disk: role=leader acked={} refused={refused} lost=0", acked.len());
    Ok(())
}

/// Frees space; then the node, started again if it ended, must have everything.
fn comes_back(mut cluster: Cluster, disk: &SmallDisk, acked: &[Acked]) -> Result<()> {
    disk.leave(DISK_MIB / 2)?;
    eventually_within(BACK_MAX, "the node on the small disk serves again", || {
        if !cluster.nodes[SMALL].is_running() {
            cluster.nodes[SMALL].kill()?;
            start_on(&mut cluster, disk)?;
        }
        cluster.nodes[SMALL].client("GET", "/v1/kv?limit=1").send()?.expect(200).map(drop)
    })?;
    let export = cluster.export("f")?;
    for Acked { key, revision } in acked {
        let found = export.entries.get(key.as_bytes());
        let entry = found.with_context(|| format!("{key} was acknowledged at {revision} and is lost"))?;
        let whole = entry.value == value(key).as_bytes() && entry.mod_revision == *revision;
        ensure!(
            whole,
            "{key} of revision {revision} is one of {} with {} bytes",
            entry.mod_revision,
            entry.value.len()
        );
    }
    // With space, puts are taken again.
    eventually("a put is taken", || {
        cluster.nodes[SMALL].client("PUT", "/v1/kv/after").body("x").send()?.expect(200).map(drop)
    })?;
    cluster.agree()?;
    cluster.finish()
}

fn value(key: &str) -> String {
    format!("{key} ").repeat(VALUE_BYTES / (key.len() + 1))
}

/// A write that was acknowledged.
#[derive(Debug)]
struct Acked {
    key: String,
    revision: u64,
}

/// Clients that put values of one size and note what was acknowledged. Each key is written once.
struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result<Vec<Acked>>>>,
}

impl Load {
    fn start(urls: Vec<String>) -> Load {
        let (stop, acked, refused) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..CLIENTS).map(|client| {
            let (urls, stop, count, refused) = (urls.clone(), stop.clone(), acked.clone(), refused.clone());
            thread::spawn(move || {
                let mut acked = Vec::new();
                for nth in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let key = format!("f{client}-{nth}");
                    let url = &urls[(client + nth) % urls.len()];
                    let sent = Request::new("PUT", &format!("{url}/v1/kv/{key}")).body(value(&key)).send();
                    match sent {
                        Ok(answer) if answer.status == 200 => {
                            acked.push(Acked { key, revision: answer.etag()? });
                            count.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        Ok(answer) if answer.status == 507 => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => {
                            let busy = matches!(answer.status, 429 | 503 | 504);
                            ensure!(busy, "a put was answered {}: {}", answer.status, answer.text());
                        }
                        // The node had ended, or ended during the call: no outcome is known.
                        Err(_) => {}
                    }
                    thread::park_timeout(REFUSED);
                }
                Ok(acked)
            })
        });
        Load { threads: threads.collect(), stop, acked, refused }
    }

    fn wait_for(&self, more: usize) -> Result<()> {
        let goal = self.acked.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} further writes"), || {
            let acked = self.acked.load(Ordering::Relaxed);
            holds(acked >= goal, || format!("{acked} of {goal} are acknowledged"))
        })
    }

    /// Stops the clients; what was acknowledged, and how many writes were refused for lack of space.
    fn stop(self) -> Result<(Vec<Acked>, usize)> {
        self.stop.store(true, Ordering::Release);
        let mut all = Vec::new();
        for thread in self.threads {
            all.append(&mut thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok((all, self.refused.load(Ordering::Relaxed)))
    }
}

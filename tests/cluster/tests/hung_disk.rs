//! A disk that hangs: a call of fdatasync does not return. It is a fault of that member, not of the cluster (rule N26):
//! writes go on, and status and log name the member.

use anyhow::{Result, ensure};
use raftkv_cluster_tests::Cluster;
use raftkv_cluster_tests::strace::HungSyncs;
use raftkv_cluster_tests::wait::{eventually, eventually_within, holds};
use std::time::{Duration, Instant};

/// While a quorum of disks works, a write succeeds within this.
const WRITES_AGAIN: Duration = Duration::from_secs(5);
/// What a test machine that is busy may add to it.
const SLACK: Duration = Duration::from_secs(3);

fn put(cluster: &Cluster, node: usize, key: &str) -> Result<()> {
    cluster.nodes[node].client("PUT", &format!("/v1/kv/{key}")).body("v").send()?.expect(200).map(drop)
}

#[test]
fn writes_go_on_when_the_leaders_disk_hangs_and_its_member_is_named() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let (other, id) = ((leader + 1) % 3, cluster.member_id(leader)?);
    put(&cluster, other, "before")?;
    let hung = HungSyncs::of(cluster.nodes[leader].pid()?)?;
    let begun = Instant::now();
    // The first of them begins the sync that hangs.
    for key in ["first", "second"] {
        eventually_within(WRITES_AGAIN + SLACK, "a write succeeds", || put(&cluster, other, key))?;
    }
    println!("TABLE hung-disk: two_writes_ms={}", begun.elapsed().as_millis());
    cluster.nodes[leader].wait_for("says that its sync hangs", |status| status.stalled_ms >= 700)?;
    ensure!(cluster.nodes[leader].log_text().contains("does not finish a sync"), "{}", cluster.nodes[leader].log_end());
    let leads = eventually("a member leads whose disk works", || {
        let leads = cluster.leader()?;
        ensure!(leads != leader, "{} leads", cluster.nodes[leader].name);
        Ok(leads)
    })?;
    put(&cluster, other, "then")?;
    eventually("the new leader has heard whose disk hangs", || {
        let status = cluster.nodes[leads].status()?;
        let stalled = status.peers.iter().find(|peer| peer.id == id).map(|peer| peer.stalled_ms);
        holds(stalled.is_some_and(|ms| ms >= 700), || format!("it has heard {stalled:?}"))
    })?;
    drop(hung);
    cluster.nodes[leader].wait_for("is well again", |status| status.stalled_ms == 0)?;
    put(&cluster, leader, "after")?;
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn a_followers_disk_that_hangs_moves_no_leadership() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let follower = (leader + 1) % 3;
    let term = cluster.nodes[leader].status()?.term;
    let hung = HungSyncs::of(cluster.nodes[follower].pid()?)?;
    put(&cluster, leader, "a")?;
    cluster.nodes[follower].wait_for("says that its sync hangs", |status| status.stalled_ms >= 2_000)?;
    put(&cluster, leader, "b")?;
    let status = cluster.nodes[leader].status()?;
    ensure!(status.term == term && status.leader_id == status.member_id, "leadership moved: {status:?}");
    drop(hung);
    cluster.nodes[follower].wait_for("is well again", |status| status.stalled_ms == 0)?;
    cluster.agree()?;
    cluster.finish()
}

//! Disks that fill up and get space again (rule N11): no process exits, nothing that was acknowledged is lost, every
//! node says which node lacks how much, and only the space has to be made by hand.

use anyhow::{Result, ensure};
use raftkv_api::{NodeState, Writes};
use raftkv_cluster_tests::wait::{eventually, eventually_within, holds};
use raftkv_cluster_tests::{Cluster, Node, SmallDisk, Writer, Written, binaries};
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

/// The segments, the kv db, snapshots and the reserve take less than half of the disk.
const DISK_MIB: u64 = 400;
/// The reserve is 16 MiB, or 5 % of the disk if that is more.
const RESERVE_MIB: u64 = 20;
const WRITES: usize = 40;
/// Enough large values to fill a disk three times are written within this time, on a disk that other work keeps busy.
const FILLED_MAX: Duration = Duration::from_secs(120);

/// A cluster of three, led by n1; the nodes in the range have small disks.
fn with_small_disks(of: Range<usize>) -> Result<(Cluster, Vec<SmallDisk>, Written)> {
    let mut cluster = Cluster::empty()?;
    let mut disks = Vec::new();
    for nth in 0..3 {
        let node = cluster.new_node();
        if of.contains(&nth) {
            let disk = SmallDisk::mount(&mut cluster.nodes[node], DISK_MIB)?;
            let command = disk.command(&cluster.nodes[node])?;
            cluster.nodes[node].start_as(command)?;
            disks.push(disk);
        } else {
            cluster.nodes[node].start()?;
        }
    }
    cluster.init(2)?;
    for node in 1..3 {
        cluster.join(node)?;
    }
    for node in &cluster.nodes {
        node.wait_serving()?;
    }
    cluster.lead_at(0)?;
    let writer = Writer::start("w", cluster.client_urls());
    writer.wait_for(WRITES)?;
    Ok((cluster, disks, writer.stop()?))
}

/// The status and text of the answer to a put through this node.
fn put(cluster: &Cluster, node: usize) -> Result<(u16, String)> {
    let answer = cluster.nodes[node].client("PUT", "/v1/kv/small").body("x").send()?;
    Ok((answer.status, answer.text()))
}

/// The exit code and the text of `raftkvctl status`.
fn judged(cluster: &Cluster) -> Result<(Option<i32>, String)> {
    let urls: Vec<String> = cluster.nodes.iter().map(Node::admin_url).collect();
    let mut ctl = Command::new(binaries::raftkvctl());
    ctl.args(["status", "--admin-endpoints", &urls.join(",")]).arg("--token-file").arg(&cluster.nodes[0].token_file);
    let ran = ctl.output()?;
    Ok((ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned()))
}

fn delete(cluster: &Cluster) -> Result<u16> {
    Ok(cluster.nodes[0].client("DELETE", "/v1/kv/small").send()?.status)
}

/// Asks the leader to remove a member that does not exist: the status shows whether the call gets as far as that.
fn change(cluster: &Cluster) -> Result<u16> {
    let leader = &cluster.nodes[cluster.leader()?];
    let (status, members) = (leader.status()?, cluster.members()?);
    let call = leader.admin_guarded("DELETE", "/v1/members/99", &status);
    Ok(call.header("If-Match", format!("\"{}\"", members.conf_index)).send()?.status)
}

#[test]
fn puts_need_the_reserve_of_a_quorum_and_deletes_and_changes_half_of_it() -> Result<()> {
    let (mut cluster, disks, written) = with_small_disks(1..3)?;
    disks[0].leave(RESERVE_MIB / 2 + 4)?;
    // One of three that lacks space holds nobody up, and says that it does.
    cluster.nodes[1].wait_for("is short", |status| status.headroom_bytes < status.reserve_bytes)?;
    ensure!(put(&cluster, 0)?.0 == 200);
    disks[1].leave(RESERVE_MIB / 2 + 4)?;
    for asked in [0, 2] {
        let (_, said) = eventually("a put is refused", || {
            let (status, said) = put(&cluster, asked)?;
            holds(status == 507, || said.clone())?;
            Ok((status, said))
        })?;
        for words in ["no_space", "\"outcome\":\"none\"", "n2 (member 2)", "n3 (member 3)", "20 MiB", "enlarge"] {
            ensure!(said.contains(words), "'{words}' is missing in {said}");
        }
    }
    ensure!(delete(&cluster)? == 200, "a delete was refused");
    ensure!(change(&cluster)? == 404, "a change was refused");
    cluster.nodes[0].wait_for("tells who is short", |status| {
        let all_short = status.peers.iter().all(|peer| peer.headroom_bytes < peer.reserve_bytes);
        status.no_space.is_some() && status.writes == Some(Writes::NoSpace) && all_short
    })?;
    let (code, said) = judged(&cluster)?;
    ensure!(code == Some(7) && said.contains("down: writes are refused by n1"), "{code:?}: {said}");
    eventually("the leader's log tells", || {
        holds(cluster.nodes[0].log_text().contains("refuses puts"), || cluster.nodes[0].log_end())
    })?;
    disks.iter().try_for_each(|disk| disk.leave(RESERVE_MIB / 2 - 4))?;
    eventually("deletes and changes are refused", || {
        let is = (put(&cluster, 0)?.0, delete(&cluster)?, change(&cluster)?);
        holds(is == (507, 507, 507), || format!("{is:?}"))
    })?;
    ensure!(cluster.nodes[1].client("GET", "/v1/kv/w%2F00000000").send()?.status == 200, "reads go on");
    disks[0].leave(DISK_MIB / 2)?;
    eventually("with the space of a quorum puts are taken", || {
        let (status, said) = put(&cluster, 2)?;
        holds(status == 200, || said)
    })?;
    disks[1].leave(DISK_MIB / 2)?;
    cluster.nodes[2].wait_for("has space", |status| status.no_space.is_none())?;
    eventually("nothing is wrong", || {
        let (code, said) = judged(&cluster)?;
        holds(code == Some(0), || said)
    })?;
    eventually("the reserve file is whole again", || {
        holds(disks[1].path("reserve").metadata()?.len() == 8 << 20, String::new)
    })?;
    written.verify(&mut cluster)?;
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn a_node_whose_disk_is_full_waits_and_comes_back_by_itself() -> Result<()> {
    let (mut cluster, disks, written) = with_small_disks(2..3)?;
    let (disk, pid) = (&disks[0], cluster.nodes[2].pid()?);
    disk.leave(0)?;
    let body: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    eventually_within(FILLED_MAX, "neither the kv db nor the log of n3 find space", || {
        cluster.nodes[0].client("PUT", "/v1/kv/large").body(body.clone()).send()?.expect(200)?;
        let said = cluster.nodes[2].status()?.no_space.unwrap_or_default();
        holds(said.contains("nothing is written to the log") && said.contains("nothing is applied"), || said)
    })?;
    let node = &mut cluster.nodes[2];
    ensure!(node.is_running() && node.pid()? == pid);
    // Without space sled cannot read everything, but most of it.
    let old = |key: usize| node.client("GET", &format!("/v1/kv/w%2F{key:08}?consistency=stale")).send();
    let old = (0..WRITES).map(old).collect::<Result<Vec<_>>>()?;
    let other = old.iter().find(|answer| answer.status != 200 && !answer.text().contains("the disk is full"));
    ensure!(other.is_none(), "what was applied before is read, or why not is said: {other:?}");
    ensure!(old.iter().any(|answer| answer.status == 200), "nothing is read of what was applied before");
    let refused = node.client("PUT", "/v1/kv/small").body("x").send()?;
    let says = refused.text().contains("n3: the disk is full") && refused.text().contains("\"outcome\":\"none\"");
    ensure!(refused.status == 507 && says, "it lets the client wait: {}", refused.text());
    let behind = node.client("GET", "/v1/kv/large").send()?;
    let says = behind.text().contains("the disk is full");
    ensure!(behind.status == 503 && says, "a read of what it has not applied: {} {}", behind.status, behind.text());
    ensure!(node.admin("GET", "/livez").send()?.status == 200, "to be started again would not help");
    eventually("the metrics tell", || {
        let metrics = node.admin("GET", "/metrics").send()?.text();
        holds(metrics.contains("raftkv_full_disk 1"), || metrics)
    })?;
    let ready = node.admin("GET", "/readyz?verbose").send()?.text();
    ensure!(ready.contains("[!]space: the disk is full, make room on it"), "{ready}");

    // With space the node goes on by itself, in the same process.
    disk.leave(DISK_MIB / 2)?;
    cluster.nodes[2].wait_for("has space", |status| status.no_space.is_none())?;
    cluster.nodes[2].wait_serving()?;
    cluster.agree()?;
    let node = &mut cluster.nodes[2];
    ensure!(node.is_running() && node.pid()? == pid);

    // A start on a full disk waits too.
    disk.leave(0)?;
    node.kill()?;
    let command = disk.command(node)?;
    node.start_as(command)?;
    let full = |status: &raftkv_api::Status| {
        let opens =
            status.state == NodeState::Opening && status.reason.as_ref().is_some_and(|why| why.contains("full"));
        opens || status.no_space.is_some()
    };
    node.wait_for("says that its disk is full", full)?;
    ensure!(put(&cluster, 0)?.0 == 200, "the others go on");
    disk.leave(DISK_MIB / 2)?;
    cluster.nodes[2].wait_serving()?;
    cluster.nodes[2].wait_for("has space", |status| status.no_space.is_none())?;
    written.verify(&mut cluster)?;
    cluster.agree()?;
    ensure!(!cluster.nodes[2].log_text().contains("set aside"), "a kv db that found no space is not distrusted");
    cluster.finish()
}

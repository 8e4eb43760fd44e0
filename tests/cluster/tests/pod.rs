//! What a pod, its kubelet and an operator ask of a node: it ends cleanly in every state, each state explains itself,
//! and each has a way out that needs no new process.

use anyhow::{Result, ensure};
use raftkv_api::{Code, MemberRole, NodeState, Reset};
use raftkv_cluster_tests::wait::{eventually, holds};
use raftkv_cluster_tests::{Cluster, Node, Signal, Writer};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Longer than any test waits for the end of a node without clients, so that a node that drains nevertheless is
/// noticed.
const DRAIN: &str = "--drain=60s";

/// Long enough for everything that a test asks of a node that drains.
const DRAINED: Duration = Duration::from_secs(8);

/// A probe's answer: its status and its text.
fn probe(node: &Node, path: &str) -> Result<(u16, String)> {
    let answer = node.admin("GET", path).without("authorization").send()?;
    Ok((answer.status, answer.text()))
}

/// Checks that the node is alive and not ready, and says why.
fn is_alive_and_says(node: &Node, code: Code, words: &str) -> Result<()> {
    ensure!(probe(node, "/livez")?.0 == 200, "{} is not alive", node.name);
    let (status, text) = probe(node, "/readyz")?;
    ensure!(status == 503 && text.contains(code.as_str()) && text.contains(words), "readyz: {status} {text}");
    Ok(())
}

#[test]
fn a_node_without_clients_ends_at_once_and_cleanly_in_every_state() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    cluster.flags.push(DRAIN.into());
    let blank = cluster.start_node()?;
    is_alive_and_says(&cluster.nodes[blank], Code::NotAMember, "blank")?;
    cluster.nodes[blank].stop()?;

    let learner = cluster.start_node()?;
    cluster.add(learner)?;
    cluster.nodes[learner].wait_for("learns", |s| s.state == NodeState::Learner && s.can_lead)?;
    is_alive_and_says(&cluster.nodes[learner], Code::NotAVoter, "a learner")?;
    cluster.nodes[learner].stop()?;

    let removed = cluster.start_node()?;
    let id = cluster.join(removed)?;
    cluster.lead_elsewhere(removed)?;
    cluster.remove(id)?;
    cluster.nodes[removed].wait_for("knows that it was removed", |s| s.state == NodeState::Removed)?;
    is_alive_and_says(&cluster.nodes[removed], Code::Removed, "removed")?;
    cluster.nodes[removed].stop()?;

    let quarantined = removed;
    let identity = cluster.nodes[quarantined].data_dir.join("identity");
    fs::write(&identity, "not an identity")?;
    cluster.nodes[quarantined].start()?;
    cluster.nodes[quarantined].wait_for("is quarantined", |s| s.state == NodeState::Quarantined)?;
    is_alive_and_says(&cluster.nodes[quarantined], Code::Quarantined, "quarantined")?;
    cluster.nodes[quarantined].stop()?;
    cluster.finish()
}

#[test]
fn a_leader_that_is_told_to_end_is_not_ready_leads_no_longer_and_serves_until_the_drain_is_over() -> Result<()> {
    let mut cluster = Cluster::start_with(3, &[&format!("--drain={}s", DRAINED.as_secs())])?;
    let leader = cluster.leader()?;
    let node = &cluster.nodes[leader];
    eventually("the leader is ready", || holds(probe(node, "/readyz")?.0 == 200, || "it is not".into()))?;
    let told = Instant::now();
    node.signal(Signal::TERM)?;
    eventually("it is not ready", || {
        let (status, text) = probe(node, "/readyz")?;
        holds(status == 503 && text.contains("stopping"), || format!("{status} {text}"))
    })?;
    node.wait_for("leads no longer", |s| s.leader_id.is_some() && s.leader_id != s.member_id)?;
    node.client("PUT", "/v1/kv/late").body("served").send()?.expect(200)?;
    ensure!(probe(node, "/livez")?.0 == 200, "a node that drains is alive");
    let status = cluster.nodes[leader].wait_for_end(4 * DRAINED)?;
    ensure!(status.success() && told.elapsed() >= DRAINED, "{status} after {:?}", told.elapsed());
    cluster.nodes[leader].start()?;
    cluster.nodes[leader].wait_serving()?;
    cluster.finish()
}

#[test]
fn voters_that_cannot_hand_over_end_cleanly_too() -> Result<()> {
    let mut lone = Cluster::start(1)?;
    lone.nodes[0].stop()?;
    lone.finish()?;
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.nodes[other].kill()?;
    }
    cluster.nodes[leader].stop()?;
    cluster.finish()
}

#[test]
fn a_removed_and_a_quarantined_node_become_blank_and_members_again_in_the_same_process() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let node = (cluster.leader()? + 1) % 3;
    let id = cluster.member_id(node)?;
    cluster.remove(id)?;
    // While the others may still need its answers, the node is removed but keeps its log.
    let idle = |s: &raftkv_api::Status| s.reason.as_ref().is_some_and(|why| why.contains("was removed by the entry"));
    cluster.nodes[node].wait_for("has stopped raft", idle)?;
    reset_in_place(&cluster.nodes[node])?;
    let new = cluster.join(node)?;
    ensure!(new != id, "an id is never used again");
    cluster.nodes[node].wait_serving()?;

    cluster.nodes[node].kill()?;
    fs::write(cluster.nodes[node].data_dir.join("identity"), "not an identity")?;
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_for("is quarantined", |s| s.state == NodeState::Quarantined)?;
    reset_in_place(&cluster.nodes[node])?;
    let last = cluster.add(node)?;
    cluster.promote(last, Some(new))?;
    cluster.nodes[node].wait_serving()?;
    cluster.agree()?;
    cluster.finish()
}

/// Resets a node and waits until it is Blank; the process must stay the same.
fn reset_in_place(node: &Node) -> Result<()> {
    let (pid, status) = (node.pid()?, node.status()?);
    // A directory that cannot be read has no incarnation: then any will do, and it names the place where the data are
    // put.
    let incarnation = status.incarnation.unwrap_or(raftkv_api::Hex128([7; 16]));
    node.admin_guarded("POST", "/v1/reset", &status).json(&Reset::of(incarnation)).send()?.expect(200)?;
    let blank = node.wait_for("is blank", |s| s.state == NodeState::Blank)?;
    ensure!(blank.incarnation != status.incarnation && blank.member_id.is_none(), "{blank:?}");
    ensure!(node.pid()? == pid && node.data_dir.join(format!("trash-{incarnation}")).is_dir());
    Ok(())
}

#[test]
fn with_a_lost_quorum_every_node_still_names_the_members() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let members = cluster.members()?;
    let left = cluster.leader()?;
    for other in [(left + 1) % 3, (left + 2) % 3] {
        cluster.nodes[other].kill()?;
    }
    let node = &cluster.nodes[left];
    let status = node.wait_for("has lost its quorum", |s| s.leader_id.is_none())?;
    ensure!(status.members == members.members && status.conf_index == members.conf_index, "{status:?}");
    ensure!(status.members.iter().all(|m| m.role == MemberRole::Voter) && !status.joint, "{status:?}");
    let answer = node.admin("GET", "/v1/members").send()?.problem()?;
    ensure!(answer.code == Code::NoLeader && answer.retryable, "{answer:?}");
    let (code, text) = probe(node, "/livez")?;
    ensure!(code == 200, "a lost quorum must not restart anybody: {code} {text}");
    cluster.finish()
}

/// Its volume may be a copy, and its peers those of the place that it was copied from (rule O34).
#[test]
fn a_member_that_is_started_under_another_url_says_so_and_talks_to_nobody() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let node = (cluster.leader()? + 1) % 3;
    let (known, moved) = (cluster.nodes[node].peer_url(), "http://elsewhere.example:2380");
    cluster.nodes[node].stop()?;
    cluster.nodes[node].flags.push(format!("--peer-url={moved}"));
    cluster.nodes[node].start()?;
    let says = |text: &str| text.contains("--peer-url") && text.contains(moved) && text.contains(&known);
    cluster.nodes[node].wait_for("its status says so", |status| status.reason.as_deref().is_some_and(says))?;
    let log = || cluster.nodes[node].log_text();
    eventually("its log says so", || holds(log().contains(moved) && log().contains(&known), log))?;
    let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
    let writer = Writer::start("w", others.iter().map(|other| cluster.nodes[*other].client_url()).collect());
    writer.wait_for(10)?;
    let id = cluster.nodes[node].status()?.member_id;
    for other in others {
        cluster.nodes[other].wait_for("it does not hear the moved member", |status| {
            status.peers.iter().find(|peer| Some(peer.id) == id).is_none_or(|peer| !peer.active)
        })?;
    }
    let alone = cluster.nodes[node].status()?;
    ensure!(alone.leader_id.is_none() && alone.applied < cluster.nodes[(node + 1) % 3].status()?.applied, "{alone:?}");
    cluster.nodes[node].stop()?;
    cluster.nodes[node].flags.pop();
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_serving()?;
    writer.stop()?.verify(&mut cluster)?;
    cluster.finish()
}

/// The reader of a pipe may have gone, and a disk may be full: that costs the log, never the node.
#[test]
fn a_node_whose_log_nobody_takes_serves_and_ends_cleanly() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let (reader, gone) = std::io::pipe()?;
    drop(reader);
    for taker in [Stdio::from(full), Stdio::from(gone)] {
        let node = &mut cluster.nodes[0];
        node.stop()?;
        let mut command = node.command()?;
        command.stderr(taker);
        node.start_as(command)?;
        node.wait_serving()?;
    }
    cluster.nodes[0].stop()?;
    cluster.finish()
}

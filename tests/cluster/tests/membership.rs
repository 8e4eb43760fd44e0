//! Members that come and go while a client writes.

use anyhow::{Context, Result, ensure};
use raftkv_api::{Code, DecimalId, MemberRole, Members, NodeState, Reset};
use raftkv_cluster_tests::wait::{eventually, holds};
use raftkv_cluster_tests::{Cluster, Writer};
use std::time::Duration;

/// Writes between two changes: enough that the next change meets a busy cluster.
const WRITES_BETWEEN: usize = 30;
/// A node ends when it has written down that it is a member, and before it has heard who the others are.
const JOINED: &str = "identity-rename/after/starting/1";
/// Within this time a leader has spoken to a node that was added.
const JOIN_MAX: Duration = Duration::from_secs(20);

#[test]
fn one_three_five_three_one_under_a_writer() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let writer = Writer::start("w", cluster.client_urls());
    for size in 2..=5 {
        writer.wait_for(WRITES_BETWEEN)?;
        let node = cluster.start_node()?;
        let id = cluster.join(node)?;
        ensure!(id == DecimalId(size), "ids count up and are never reused: {id:?}");
        cluster.nodes[node].wait_serving()?;
        writer.use_urls(cluster.client_urls());
    }
    for id in (1..=4).map(DecimalId) {
        writer.wait_for(WRITES_BETWEEN)?;
        let node = id.0 as usize - 1;
        cluster.lead_elsewhere(node)?;
        writer.use_urls(cluster.nodes[node + 1..].iter().map(|node| node.client_url()).collect());
        cluster.remove(id)?;
        let removed = cluster.nodes[node].wait_for("knows that it was removed", |s| s.state == NodeState::Removed)?;
        ensure!(removed.reason.is_some(), "a removed node says why: {removed:?}");
        let answer = cluster.nodes[node].client("GET", "/v1/kv?limit=1").send()?;
        ensure!(answer.problem()?.code == Code::Removed, "{answer:?}");
    }
    writer.wait_for(WRITES_BETWEEN)?;
    let written = writer.stop()?;
    println!("{} keys, {} settled, longest {:?}", written.keys.len(), written.unknown, written.longest);
    written.verify(&mut cluster)?;
    let members = cluster.members()?;
    let left: Vec<_> = members.members.iter().map(|member| (member.id.0, member.role)).collect();
    ensure!(left == [(5, MemberRole::Voter)], "{members:?}");
    let gone: Vec<_> = members.removed.iter().map(|member| member.id.0).collect();
    ensure!(gone == [1, 2, 3, 4], "{members:?}");
    cluster.finish()
}

#[test]
fn a_node_with_a_lost_disk_is_replaced_in_one_joint_change() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let writer = Writer::start("w", cluster.client_urls());
    writer.wait_for(WRITES_BETWEEN)?;
    let lost = (cluster.leader()? + 1) % 3;
    let old = cluster.member_id(lost)?;
    cluster.nodes[lost].kill()?;
    std::fs::remove_dir_all(&cluster.nodes[lost].data_dir)?;
    cluster.nodes[lost].start()?;
    let blank = cluster.nodes[lost].wait_for("is blank", |status| status.state == NodeState::Blank)?;
    ensure!(blank.member_id.is_none(), "{blank:?}");

    let new = cluster.add(lost)?;
    ensure!(new != old, "an id is never used again");
    cluster.promote(new, Some(old))?;
    cluster.nodes[lost].wait_serving()?;
    writer.wait_for(WRITES_BETWEEN)?;
    let members = cluster.members()?;
    let voters = members.members.iter().filter(|member| member.role == MemberRole::Voter).count();
    ensure!(voters == 3 && members.members.len() == 3 && !members.joint, "{members:?}");
    ensure!(members.removed.iter().any(|member| member.id == old), "{members:?}");
    writer.stop()?.verify(&mut cluster)?;
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn changes_are_fenced_refused_and_idempotent_as_documented() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let blank = cluster.start_node()?;
    let leader = cluster.leader()?;
    let follower = (leader + 1) % 3;
    let status = cluster.nodes[leader].status()?;
    let answer = cluster.nodes[leader].admin("GET", "/v1/members").send()?.expect(200)?;
    let members: Members = answer.json()?;
    ensure!(answer.etag()? == members.conf_index, "{answer:?}");
    let fence = format!("\"{}\"", members.conf_index);
    let add = raftkv_api::AddMember {
        name: cluster.nodes[blank].name.clone(),
        peer_url: cluster.nodes[blank].peer_url(),
        incarnation: cluster.nodes[blank].status()?.incarnation.context("Blank has one")?,
    };
    let call = cluster.nodes[leader].admin_guarded("POST", "/v1/members", &status).json(&add);

    let unfenced = call.clone().send()?.problem()?;
    ensure!(unfenced.code == Code::PreconditionRequired, "{unfenced:?}");
    let moved = call.clone().header("If-Match", "\"1\"").send()?.problem()?;
    ensure!(moved.code == Code::MembersMoved, "{moved:?}");
    let nameless = call.clone().header("If-Match", &fence).without("x-raftkv-name").send()?.problem()?;
    ensure!(nameless.code == Code::MissingHeader, "{nameless:?}");
    let other = call.clone().header("If-Match", &fence).header("x-raftkv-name", "n9").send()?.problem()?;
    ensure!(other.code == Code::WrongNode, "{other:?}");
    let its_status = cluster.nodes[follower].status()?;
    let elsewhere = cluster.nodes[follower].admin_guarded("POST", "/v1/members", &its_status).json(&add);
    let not_leader = elsewhere.header("If-Match", &fence).send()?.problem()?;
    ensure!(not_leader.code == Code::NotLeader, "{not_leader:?}");
    let named = not_leader.leader.context("a follower names the leader")?;
    ensure!(named.name == cluster.nodes[leader].name, "{named:?}");
    ensure!(named.admin_url == Some(cluster.nodes[leader].admin_url()), "{named:?}");
    ensure!(cluster.members()? == members, "a refused change has changed something");

    // The same call twice makes one member.
    let first: raftkv_api::MemberAdded = call.clone().header("If-Match", &fence).send()?.expect(200)?.json()?;
    let now = format!("\"{}\"", cluster.members()?.conf_index);
    let second: raftkv_api::MemberAdded = call.header("If-Match", now).send()?.expect(200)?.json()?;
    ensure!(first.id == second.id, "{first:?}, {second:?}");
    cluster.promote(first.id, None)?;
    cluster.finish()
}

#[test]
fn a_removal_that_would_lose_quorum_is_refused() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let (dead, healthy) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.member_id(healthy)?;
    cluster.nodes[dead].kill()?;
    // Without the removed voter, two voters are left; they need both, and one of them is dead.
    eventually("the leader has noticed", || {
        let status = cluster.nodes[leader].status()?;
        let members: Members = cluster.nodes[leader].admin("GET", "/v1/members").send()?.expect(200)?.json()?;
        let call = cluster.nodes[leader].admin_guarded("DELETE", &format!("/v1/members/{}", id.0), &status);
        let active = status.peers.iter().any(|peer| peer.name == cluster.nodes[dead].name && peer.active);
        holds(!active, || format!("{:?}", status.peers))?;
        let answer = call.header("If-Match", format!("\"{}\"", members.conf_index)).send()?;
        let problem = answer.problem()?;
        ensure!(problem.code == Code::WouldLoseQuorum, "{problem:?}");
        Ok(())
    })?;
    // The dead member itself may go, since the two that are left are healthy.
    cluster.nodes[dead].start()?;
    cluster.nodes[dead].wait_serving()?;
    let id = cluster.member_id(dead)?;
    cluster.nodes[dead].kill()?;
    cluster.remove(id)?;
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn a_removed_node_does_not_disturb_the_others_when_it_comes_back() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let gone = (cluster.leader()? + 1) % 3;
    let id = cluster.member_id(gone)?;
    cluster.nodes[gone].kill()?;
    cluster.remove(id)?;
    let leader = cluster.leader()?;
    cluster.nodes[gone].start()?;
    // It learns of its removal by the 410 of a peer, since nobody sends it the log.
    cluster.nodes[gone].wait_for("knows that it was removed", |status| status.state == NodeState::Removed)?;
    let writer = Writer::start("w", vec![cluster.nodes[leader].client_url()]);
    writer.wait_for(WRITES_BETWEEN)?;
    writer.stop()?.verify(&mut cluster)?;
    let log = cluster.nodes[gone].log_text();
    ensure!(!log.contains("became candidate"), "the removed node has forced an election: {log}");
    ensure!(cluster.nodes[gone].is_running(), "a removed node goes on to say why");
    cluster.finish()
}

#[test]
fn a_learner_removed_before_it_knew_anybody_is_reset_by_the_clusters_word() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let joiner = cluster.start_node()?;
    cluster.nodes[joiner].stop()?;
    let command = cluster.nodes[joiner].command_to_crash_at(JOINED)?;
    cluster.nodes[joiner].start_as(command)?;
    let id = cluster.add(joiner)?;
    cluster.nodes[joiner].wait_for_end(JOIN_MAX)?;
    cluster.remove(id)?;

    cluster.nodes[joiner].start()?;
    let node = &cluster.nodes[joiner];
    let learner = node.wait_for("is a learner that knows nobody", |status| {
        status.state == NodeState::Learner && status.members.is_empty()
    })?;
    let reset = Reset::of(learner.incarnation.context("a learner has one")?);
    let call = |reset: &Reset| node.admin_guarded("POST", "/v1/reset", &learner).json(reset).send();
    let problem = call(&reset)?.problem()?;
    ensure!(problem.code == Code::WrongState, "{problem:?}");
    ensure!(problem.detail.contains("name admin URLs"), "it says whom to ask: {problem:?}");
    let ask = vec![cluster.nodes[cluster.leader()?].admin_url()];
    call(&Reset { ask, ..reset })?.expect(200)?;
    node.wait_for("is blank", |status| status.state == NodeState::Blank)?;
    cluster.join(joiner)?;
    cluster.nodes[joiner].wait_serving()?;
    cluster.finish()
}

//! `kubectl raftkv` as its user calls it: through kubectl, with nothing set up but a link in the PATH.

use crate::harness::load_pod::PLANNED;
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Scene};
use crate::scenarios::ready;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

pub fn kubectl_raftkv(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    tells_what_is(&demo)?;
    let screen = scene.plugin(&["status", "demo"])?;
    scene.say(format!("kubectl raftkv status demo:\n{screen}"));
    let leader = demo.leader()?;
    let first = screen.lines().next().unwrap_or_default();
    ensure!(first.contains("/demo is healthy") && first.contains(&leader), "the first line is: {first}");
    for word in demo.pods()?.keys().map(String::as_str).chain(["raftkv-demo-0", "next: nothing to do"]) {
        ensure!(screen.contains(word), "{word} is not on the screen:\n{screen}");
    }
    load.mark()?;
    moves_the_leader(&demo, &leader)?;
    load.check_gap("two moves of the leader", PLANNED)?;
    writes_and_reads(scene)?;
    Ending::with(3).check(&demo, &load)
}

/// Checks the status as a program reads it.
fn tells_what_is(demo: &Cluster<'_>) -> Result<()> {
    let screen: Value = serde_json::from_str(&demo.scene.plugin(&["status", "demo", "-o", "json"])?)?;
    ensure!(screen["level"] == "healthy", "a healthy cluster is called {}: {screen}", screen["level"]);
    ensure!(
        screen["leader"] == demo.leader()?.as_str(),
        "the leader is {}, it says {}",
        demo.leader()?,
        screen["leader"]
    );
    let rows = screen["members"].as_array().context("it has no members")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let told: BTreeMap<String, String> = rows.iter().map(|row| (text(&row["pod"]), text(&row["id"]))).collect();
    ensure!(told == demo.member_ids()?, "members are {:?}, it says {told:?}", demo.member_ids()?);
    // These numbers come from the nodes themselves, so it reached all of them.
    ensure!(rows.iter().all(|row| row["applied"].is_u64()), "it did not ask every node: {screen}");
    Ok(())
}

/// Moves the leader to any member, and back by name.
fn moves_the_leader(demo: &Cluster<'_>, leader: &str) -> Result<()> {
    let moved: Value = serde_json::from_str(&demo.scene.plugin(&["leader", "move", "demo", "-o", "json"])?)?;
    let to = moved["pod"].as_str().context("it names no pod")?;
    demo.scene.say(format!("kubectl raftkv leader move demo: {leader} -> {to}"));
    ensure!(moved["moved"] == true && to != leader, "leadership did not move: {moved}");
    wait_leads(demo, to)?;
    demo.scene.plugin(&["leader", "move", "demo", "--to", leader])?;
    wait_leads(demo, leader)
}

/// Waits until the pod's node leads, as the node itself and the status say.
fn wait_leads(demo: &Cluster<'_>, pod: &str) -> Result<()> {
    demo.scene.wait(&format!("{pod} to lead"), || {
        let status = demo.told_by_node(pod)?;
        holds(status.member_id.is_some() && status.leader_id == status.member_id, || {
            format!("it says that {:?} leads", status.leader_id)
        })?;
        let told = demo.leader()?;
        holds(told == pod, || format!("the status says that {told} leads"))
    })
}

fn writes_and_reads(scene: &Scene<'_>) -> Result<()> {
    scene.plugin(&["put", "-c", "demo", "color", "green"])?;
    let linearizable = scene.plugin(&["get", "-c", "demo", "color"])?;
    ensure!(linearizable.trim_end() == "green", "it reads '{linearizable}'");
    scene.wait("the write to reach a follower", || {
        let stale = scene.plugin(&["get", "-c", "demo", "color", "--stale", "--pod", "demo-2"])?;
        holds(stale.trim_end() == "green", || format!("it reads '{stale}'"))
    })?;
    scene.plugin(&["del", "-c", "demo", "color"])?;
    let gone = scene.site.plugin(&scene.namespace, &["get", "-c", "demo", "color"])?;
    ensure!(!gone.success, "a deleted key is read: {}", gone.stdout);
    Ok(())
}

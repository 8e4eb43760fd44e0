//! Machines of our own cluster that are drained, stopped, started, and lost.

use crate::harness::load_pod::LEADER_LOST;
use crate::harness::machines::workers;
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Machine, Scene};
use crate::scenarios::loss::{everything, wait_replaced};
use crate::scenarios::{ready, ready_with};
use anyhow::{Context, Result, ensure};
use raftkv_crds::{ConditionType, Reason, annotation};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a machine is away before it comes back.
const AWAY: Duration = Duration::from_secs(60);
/// Kubernetes itself calls a machine's pods ready for 50 s after it last heard from the machine.
const UNREACHABLE_MAX: Duration = Duration::from_secs(90);
/// Time from a machine's end until Kubernetes has given up its pods, the member was silent for as long as the spec says,
/// and a successor has caught up.
const REPLACED_MAX: Duration = Duration::from_secs(160);
/// The least that `spec.lostNodeSeconds` may be.
const LOST_NODE_S: u32 = 60;

pub fn drain_and_uncordon(scene: &Scene<'_>) -> Result<()> {
    ensure!(workers(scene.site)?.len() >= 3, "three machines are needed");
    let (demo, load) = ready_with(scene, 3, json!({"topology": {"spread": "Required"}}))?;
    let members = demo.member_ids()?;
    let (first, second) = (machine_of(&demo, "demo-0")?, machine_of(&demo, "demo-1")?);
    load.mark()?;
    first.drain(30)?.expect_success()?;
    scene.wait("the drained pod to wait for its volume's machine", || {
        let pod = demo.pod("demo-0")?;
        holds(pod.phase == "Pending" && !pod.terminating, || format!("it is {}", pod.phase))
    })?;
    load.wait_for_some_more()?;
    load.check_gap("one machine was drained", LEADER_LOST)?;
    let refused = second.drain(5)?.expect_failure()?;
    ensure!(refused.contains("disruption budget"), "the second drain failed for another reason: {refused}");
    second.uncordon()?;
    first.uncordon()?;
    demo.wait_ready(3)?;
    ensure!(demo.member_ids()? == members, "members were replaced, though their volumes are there");
    Ending::with(3).check(&demo, &load)
}

pub fn restarted(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let (members, before) = (demo.member_ids()?, everything(&demo)?);
    let machine = machine_of(&demo, &demo.leader()?)?;
    machine.stop()?;
    load.wait_for_some_more()?;
    machine.start()?;
    machine.wait_ready()?;
    demo.wait_ready(3)?;
    ensure!(demo.member_ids()? == members, "members were replaced, though the machine is back");
    ensure!(everything(&demo)? == before, "pods or volumes were replaced, though the machine is back");
    Ending::with(3).check(&demo, &load)
}

pub fn away_a_minute(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let (pod, machine) = lone_member(&demo)?;
    let stopped = Instant::now();
    machine.stop()?;
    let message = scene.wait_for(UNREACHABLE_MAX, "Degraded/MemberUnreachable", || {
        demo.has_condition(ConditionType::Degraded, "True", Reason::MemberUnreachable)
    })?;
    scene.say(format!("it says: {message}"));
    let command = format!("{}={pod}/{}", annotation::REPLACE, members[&pod]);
    ensure!(message.contains(&command), "the message does not tell the command with {command}: {message}");
    scene.stays(AWAY.saturating_sub(stopped.elapsed()), "nobody is replaced", || {
        let now = demo.member_ids()?;
        holds(now == members, || format!("members are {now:?}"))?;
        holds(demo.claims()?.len() == 3, || "a volume was deleted".to_string())
    })?;
    load.wait_for_some_more()?;
    machine.start()?;
    machine.wait_ready()?;
    demo.wait_ready(3)?;
    ensure!(demo.member_ids()? == members, "members were replaced, though the machine is back");
    Ending::with(3).check(&demo, &load)
}

pub fn replace_by_annotation(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let (pod, machine) = lone_member(&demo)?;
    let ordinal = raftkv_crds::child::ordinal(&pod, &demo.name).context("a pod without an ordinal")?;
    let claim = demo.claims()?.remove(&demo.claim_name(ordinal)).context("it has no volume to lose")?;
    // The machine exists and takes no pods: Kubernetes does not say that the volume on it is lost, but a person knows.
    machine.cordon()?;
    demo.delete_pod(&pod)?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::MemberUnreachable)?;
    let command = message.split("kubectl ").nth(1).with_context(|| format!("there is no command in: {message}"))?;
    let command: Vec<&str> = command.split_whitespace().take(4).collect();
    let named = format!("{}={pod}/{}", annotation::REPLACE, members[&pod]);
    ensure!(command == ["annotate", "rkv", "demo", named.as_str()], "the command in the message is {command:?}");
    scene.say(format!("kubectl {}", command.join(" ")));
    let begun = Instant::now();
    scene.kubectl(&command)?;
    wait_replaced(&demo, ordinal, &members)?;
    scene.measured("replace annotation -> replaced", begun);
    let told = demo.wait_event("LostVolumeClaimDeleted")?;
    ensure!(told.contains(annotation::REPLACE), "the event does not tell by whose word: {told}");
    let after = demo.claims()?.remove(&demo.claim_name(ordinal)).context("it has no volume")?;
    ensure!(after.uid != claim.uid, "the volume is the one that was given up");
    ensure!(demo.pod(&pod)?.node.as_ref() != Some(&machine.name), "its successor is on the machine that takes no pods");
    machine.uncordon()?;
    // The annotation stays, and names a member that does not exist.
    Ending::with(3).check(&demo, &load)
}

pub fn gone_for_good(scene: &Scene<'_>) -> Result<()> {
    // This uses the default class, whose volumes say by their node affinity which machine they cannot leave.
    let spec = json!({"storage": {"size": "1Gi"}, "lostNodeSeconds": LOST_NODE_S});
    let (demo, load) = ready_with(scene, 3, spec)?;
    let members = demo.member_ids()?;
    let (pod, machine) = lone_member(&demo)?;
    let ordinal = raftkv_crds::child::ordinal(&pod, &demo.name).context("a pod without an ordinal")?;
    machine.stop()?;
    machine.delete_node()?;
    let begun = Instant::now();
    scene.wait_for(REPLACED_MAX, &format!("{pod} to run on another machine"), || {
        let now = demo.pod(&pod)?;
        holds(now.ready && now.node.as_ref() != Some(&machine.name), || {
            format!("it is {} on {:?}", now.phase, now.node)
        })
    })?;
    wait_replaced(&demo, ordinal, &members)?;
    scene.measured("lost machine -> replaced", begun);
    load.wait_for_some_more()?;
    // The machine comes back with the old member's process and data, which nobody needs.
    machine.start()?;
    machine.wait_ready()?;
    Ending::with(3).check(&demo, &load)
}

fn machine_of<'a>(demo: &Cluster<'a>, pod: &str) -> Result<Machine<'a>> {
    let name = demo.pod(pod)?.node.with_context(|| format!("{pod} is on no machine"))?;
    Ok(Machine::named(demo.scene, &name))
}

/// A pod that shares its machine with no other member, so that the others have a quorum without it.
fn lone_member<'a>(demo: &Cluster<'a>) -> Result<(String, Machine<'a>)> {
    let pods = demo.pods()?;
    let alone = pods.values().find(|pod| pods.values().filter(|other| other.node == pod.node).count() == 1);
    let pod = alone.context("no member has a machine for itself")?.name.clone();
    let machine = machine_of(demo, &pod)?;
    Ok((pod, machine))
}

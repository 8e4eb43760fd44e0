//! The number of members: the first three, more, fewer, and both at once.

use crate::harness::load_pod::PLANNED;
use crate::harness::machines::workers;
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Scene};
use crate::scenarios::{LEFT_ALONE, ready, ready_with};
use anyhow::{Result, ensure};
use raftkv_crds::{ConditionType, Reason};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The API server's limit for `spec.replicas`.
const REPLICAS_MAX: u32 = 9;
/// An image that does not exist.
pub const NO_IMAGE: &str = "raftkv.local/raftkv:does-not-exist";

pub fn apply_three(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    // The view of a person.
    scene.kubectl(&["wait", "--for=condition=Ready", "rkv/demo", "--timeout=10s"])?;
    let row = scene.kubectl(&["get", "rkv", "demo"])?;
    scene.say(format!("kubectl get rkv:\n{row}"));
    let columns = ["NAME", "READY", "LEADER", "VERSION", "STATUS", "AGE"];
    ensure!(columns.iter().all(|column| row.contains(column)), "columns are missing: {row}");
    ensure!(row.contains("3/3") && row.contains(&demo.leader()?), "the row does not say 3/3 and the leader: {row}");
    let described = scene.kubectl(&["describe", "rkv", "demo"])?;
    ensure!(described.contains("ClusterInitialized"), "`kubectl describe` shows no event of its making");
    Ending::with(3).check(&demo, &load)
}

pub fn scale_up_and_down(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    for (to, what) in [(5, "3 -> 5"), (3, "5 -> 3"), (1, "3 -> 1"), (3, "1 -> 3")] {
        load.mark()?;
        let begun = Instant::now();
        demo.scale(to)?;
        demo.wait_ready(to)?;
        scene.measured(what, begun);
        load.check_gap(what, PLANNED)?;
        has_claims(&demo, to)?;
    }
    Ending::with(3).check(&demo, &load)
}

/// Waits until only these volumes are left: a removed member's volume goes with it.
fn has_claims(demo: &Cluster<'_>, replicas: u32) -> Result<()> {
    let wanted: BTreeSet<String> = (0..replicas).map(|ordinal| demo.claim_name(ordinal)).collect();
    demo.scene.wait("the volumes of removed members to go", || {
        let claims = demo.claims()?;
        let there: BTreeSet<String> = claims.into_keys().collect();
        holds(there == wanted, || format!("claims are {there:?}"))
    })
}

pub fn edit_within_a_second(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let begun = Instant::now();
    demo.scale(5)?;
    demo.scale(1)?;
    scene.say(format!("both within {} ms", begun.elapsed().as_millis()));
    demo.wait_ready(1)?;
    // Pods 3 and 4 may have existed without ever being members: nobody knows what is on their volumes, so these stay.
    Ending::with(1).and_spare_claims([3, 4]).check(&demo, &load)
}

pub fn unschedulable_then_withdrawn(scene: &Scene<'_>) -> Result<()> {
    let fits = u32::try_from(workers(scene.site)?.len())?.min(REPLICAS_MAX - 1);
    let (demo, load) = ready_with(scene, fits, json!({"topology": {"spread": "Required"}}))?;
    let members = demo.member_ids()?;
    demo.scale(fits + 1)?;
    let without_room = demo.pod_name(fits);
    scene.wait("the pod without room", || {
        let pod = demo.pod(&without_room)?;
        holds(pod.phase == "Pending" && pod.node.is_none(), || format!("it is {} on {:?}", pod.phase, pod.node))
    })?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::PodNotStarting)?;
    ensure!(message.contains(&without_room), "the message does not name {without_room}: {message}");
    scene.stays(LEFT_ALONE, "a pod without room is no member", || {
        let status = demo.status()?;
        let ids = demo.member_ids()?;
        holds(ids == members && status.learners == 0, || format!("members are {:?}", status.members))
    })?;
    demo.scale(fits)?;
    demo.wait_ready(fits)?;
    Ending::with(fits).and_spare_claims([fits]).check(&demo, &load)
}

pub fn scale_down_with_a_dead_member(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let dead = demo.pod_name(0);
    let image = demo.pod(&dead)?.image;
    demo.set_pod_image(&dead, NO_IMAGE)?;
    scene.wait("the first member to be dead", || {
        let pod = demo.pod(&dead)?;
        holds(!pod.ready && pod.waiting.is_some(), || format!("ready: {}, waiting: {:?}", pod.ready, pod.waiting))
    })?;
    demo.scale(2)?;
    scene.wait("the status to say why it waits", || {
        let status = demo.status()?;
        let message = status.message.unwrap_or_default();
        let seen = status.observed_generation == demo.get()?.metadata.generation;
        holds(seen && message.contains(&dead), || format!("it says '{message}'"))
    })?;
    // Two of three answer: removing one of these would leave one of two.
    scene.stays(LEFT_ALONE, "nobody is removed", || {
        let now = demo.member_ids()?;
        holds(now == members, || format!("members are {now:?}"))
    })?;
    load.wait_for_some_more()?;
    demo.set_pod_image(&dead, &image)?;
    demo.wait_ready(2)?;
    Ending::with(2).check(&demo, &load)
}

pub fn spread_over_nodes(scene: &Scene<'_>) -> Result<()> {
    let machines = u32::try_from(workers(scene.site)?.len())?;
    let (demo, load) = ready(scene, 3)?;
    let pods = demo.pods()?;
    let used: BTreeSet<&String> = pods.values().filter_map(|pod| pod.node.as_ref()).collect();
    ensure!(used.len() == usize::try_from(machines.min(3))?, "three members are on {used:?}");
    // The status must tell the machines, so that a person can see that a whole machine may go.
    scene.wait_for(Duration::from_secs(5), "the status to tell machines", || {
        let status = demo.status()?;
        let told: BTreeSet<&String> = status.members.iter().filter_map(|member| member.node.as_ref()).collect();
        holds(told == used, || format!("it tells {told:?}"))
    })?;
    Ending::with(3).check(&demo, &load)
}

//! Pods and volumes that disappear unexpectedly.

use crate::harness::load_pod::LEADER_LOST;
use crate::harness::objects::uids;
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Kind, Scene};
use crate::scenarios::size::NO_IMAGE;
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Context, Result, ensure};
use raftkv_crds::{ConditionType, Reason};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

pub fn delete_leader_pod(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let leader = demo.leader()?;
    let before = demo.pod(&leader)?.uid;
    load.mark()?;
    demo.delete_pod(&leader)?;
    scene.wait("its successor", || {
        let pod = demo.pod(&leader)?;
        holds(pod.uid != before && pod.ready, || format!("ready: {}, the same pod: {}", pod.ready, pod.uid == before))
    })?;
    demo.wait_ready(3)?;
    load.check_gap("the leader's pod was deleted", LEADER_LOST)?;
    ensure!(demo.member_ids()? == members, "members were replaced, though no volume was lost");
    Ending::with(3).check(&demo, &load)
}

pub fn lost_volume(scene: &Scene<'_>) -> Result<()> {
    lose_volume(scene, 2)
}

pub fn first_lost_volume(scene: &Scene<'_>) -> Result<()> {
    lose_volume(scene, 0)
}

fn lose_volume(scene: &Scene<'_>, ordinal: u32) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    replace_after_loss(&demo, ordinal)?;
    Ending::with(3).check(&demo, &load)
}

/// Deletes a pod with its volume, and waits until another member has taken its place.
pub fn replace_after_loss(demo: &Cluster<'_>, ordinal: u32) -> Result<()> {
    let before = demo.member_ids()?;
    let claim = demo.claims()?.remove(&demo.claim_name(ordinal)).context("it has no volume to lose")?;
    let begun = Instant::now();
    demo.delete_pod_and_claim(ordinal)?;
    wait_replaced(demo, ordinal, &before)?;
    demo.scene.measured("lost volume -> replaced", begun);
    let after = demo.claims()?.remove(&demo.claim_name(ordinal)).context("it has no volume")?;
    ensure!(after.uid != claim.uid, "the volume is the one that was lost");
    Ok(())
}

/// Waits until the member with this ordinal has a new id, and checks that no other member has.
pub fn wait_replaced(demo: &Cluster<'_>, ordinal: u32, before: &BTreeMap<String, String>) -> Result<()> {
    let pod = demo.pod_name(ordinal);
    let count = u32::try_from(before.len())?;
    demo.scene.wait(&format!("{pod} to be replaced"), || {
        let now = demo.member_ids()?;
        holds(now.get(&pod) != before.get(&pod), || format!("members are {now:?}"))?;
        demo.is_ready(count)
    })?;
    let now = demo.member_ids()?;
    let others = |ids: &BTreeMap<String, String>| -> Vec<(String, String)> {
        ids.iter().filter(|(name, _)| **name != pod).map(|(name, id)| (name.clone(), id.clone())).collect()
    };
    ensure!(others(&now) == others(before), "others were replaced as well: {before:?} became {now:?}");
    let id = |ids: &BTreeMap<String, String>| ids.get(&pod).and_then(|id| id.parse::<u64>().ok());
    ensure!(id(&now) > id(before), "an id was used again: {before:?} became {now:?}");
    Ok(())
}

pub fn quorum_lost_and_back(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let image = demo.pod("demo-0")?.image;
    let gone = [demo.pod_name(1), demo.pod_name(2)];
    let before = everything(&demo)?;
    for pod in &gone {
        demo.set_pod_image(pod, NO_IMAGE)?;
    }
    let message = demo.wait_condition(ConditionType::Available, "False", Reason::QuorumLost)?;
    ensure!(gone.iter().all(|pod| message.contains(pod)), "the message does not name {gone:?}: {message}");
    scene.say(format!("it says: {message}"));
    scene.stays(LEFT_ALONE, "nothing is deleted", || {
        let now = everything(&demo)?;
        holds(now == before, || format!("{before:?} became {now:?}"))
    })?;
    for pod in &gone {
        demo.set_pod_image(pod, &image)?;
    }
    demo.wait_ready(3)?;
    ensure!(demo.member_ids()? == members, "members were replaced, though all are back");
    Ending::with(3).check(&demo, &load)
}

/// The uids of pods and volumes.
pub fn everything(demo: &Cluster<'_>) -> Result<BTreeMap<String, String>> {
    let (pods, claims) = (demo.pods()?, demo.claims()?);
    let pods = pods.values().map(|pod| (pod.name.as_str(), pod.uid.as_str()));
    Ok(uids(pods.chain(claims.values().map(|claim| (claim.name.as_str(), claim.uid.as_str())))))
}

pub fn statefulset_scaled_to_zero(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let claims = |demo: &Cluster<'_>| -> Result<Vec<String>> {
        Ok(demo.claims()?.into_values().map(|claim| claim.uid).collect())
    };
    let before = claims(&demo)?;
    let generation = |demo: &Cluster<'_>| -> Result<(i64, i64)> {
        let set: Value = scene.object(Kind::Set, &demo.name)?;
        Ok((set["metadata"]["generation"].as_i64().unwrap_or(0), set["spec"]["replicas"].as_i64().unwrap_or(0)))
    };
    let (made, _) = generation(&demo)?;
    scene.say("kubectl scale sts demo --replicas=0");
    scene.kubectl(&["scale", "sts", "demo", "--replicas=0"])?;
    scene.wait("the StatefulSet to be put right", || {
        let (now, replicas) = generation(&demo)?;
        // Once by this test, once by the operator.
        holds(now >= made + 2 && replicas == 3, || format!("generation {now}, replicas {replicas}"))
    })?;
    demo.wait_ready(3)?;
    ensure!(claims(&demo)? == before, "volumes were replaced");
    ensure!(demo.member_ids()? == members, "members were replaced");
    Ending::with(3).check(&demo, &load)
}

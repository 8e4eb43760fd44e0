//! The contents of volumes and of a status decide: never a name, never an ordinal.

use crate::harness::scene::Scene;
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Kind, LoadPod};
use crate::scenarios::loss::{everything, wait_replaced};
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Context, Result, ensure};
use raftkv_crds::{ConditionType, Reason};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub fn reapply_volumes_kept(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let (cluster_id, members) = (demo.status()?.cluster_id, demo.member_ids()?);
    demo.delete()?;
    ensure!(demo.claims()?.len() == 3, "volumes went with the cluster");
    let begun = Instant::now();
    demo.apply(3)?;
    demo.wait_ready(3)?;
    scene.measured("apply again -> 3 ready", begun);
    demo.wait_event("VolumesAdopted")?;
    ensure!(demo.status()?.cluster_id == cluster_id, "it is another cluster");
    ensure!(demo.member_ids()? == members, "members were replaced, though all volumes are there");
    Ending::with(3).check(&demo, &load)
}

pub fn reapply_first_volume_missing(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let (cluster_id, members) = (demo.status()?.cluster_id, demo.member_ids()?);
    delete_without_volumes(&demo, &[0])?;
    demo.apply(3)?;
    wait_replaced(&demo, 0, &members)?;
    ensure!(demo.status()?.cluster_id == cluster_id, "it is another cluster");
    Ending::with(3).check(&demo, &load)
}

/// Deletes the cluster, and then some of its volumes.
fn delete_without_volumes(demo: &Cluster<'_>, ordinals: &[u32]) -> Result<()> {
    demo.delete()?;
    for ordinal in ordinals {
        let claim = demo.claim_name(*ordinal);
        demo.scene.say(format!("kubectl delete pvc {claim}"));
        demo.scene.kubectl(&["delete", "pvc", &claim])?;
    }
    Ok(())
}

pub fn reapply_two_volumes_missing(scene: &Scene<'_>) -> Result<()> {
    let (demo, _load) = ready(scene, 3)?;
    let cluster_id = demo.status()?.cluster_id.context("a cluster without an id")?;
    delete_without_volumes(&demo, &[0, 1])?;
    let before = demo.claims()?.remove("raftkv-demo-2").context("the third volume went with the cluster")?;
    demo.apply(3)?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::ForeignVolumes)?;
    scene.say(format!("it says: {message}"));
    ensure!(message.contains("raftkv-demo-2"), "the volume is not named: {message}");
    ensure!(
        message.contains("bring back") && message.contains("kubectl delete pvc"),
        "a way out is missing: {message}"
    );
    scene.stays(LEFT_ALONE, "nothing is formed and nothing is overwritten", || {
        let status = demo.status()?;
        holds(!status.bootstrapped && status.members.is_empty(), || format!("a cluster was formed: {status:?}"))?;
        let claim = demo.claims()?.remove("raftkv-demo-2").context("the third volume was deleted")?;
        holds(claim == before, || format!("{before:?} became {claim:?}"))
    })?;
    let told = demo.told_by_node("demo-2")?;
    ensure!(told.cluster_id.map(|id| id.to_string()) == Some(cluster_id), "the third node is of {:?}", told.cluster_id);
    Ok(())
}

pub fn strangers_volume(scene: &Scene<'_>) -> Result<()> {
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "raftkv-demo-0", "labels": {"app": "somebody-elses"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    scene.kubectl_with(&["create", "-f", "-"], &claim.to_string())?;
    let demo = scene.cluster("demo");
    let before = demo.claims()?.remove("raftkv-demo-0").context("the stranger's claim is not there")?;
    // Kubernetes tells times in seconds: only after one is the claim older than what the operator makes.
    scene.stays(Duration::from_millis(1_100), "the claim is there", || demo.claims().map(drop))?;
    demo.apply(3)?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::ForeignVolumes)?;
    ensure!(message.contains("raftkv-demo-0"), "the volume is not named: {message}");
    scene.stays(LEFT_ALONE, "the volume is left alone", || {
        let now = demo.claims()?.remove("raftkv-demo-0").context("it was deleted")?;
        holds(now.uid == before.uid && now.member_id.is_none(), || format!("{before:?} became {now:?}"))?;
        holds(!demo.status()?.bootstrapped, || "a cluster was formed on it".to_string())
    })?;
    // Its owner gives it up, with the commands from the message.
    let load = LoadPod::start(&demo)?;
    scene.say("kubectl delete pvc raftkv-demo-0; kubectl delete pod demo-0");
    scene.kubectl(&["delete", "pvc", "raftkv-demo-0", "--wait=false"])?;
    scene.kubectl(&["delete", "pod", "demo-0", "--ignore-not-found", "--wait=false"])?;
    demo.wait_ready(3)?;
    Ending::with(3).check(&demo, &load)
}

pub fn another_clusters_volume(scene: &Scene<'_>) -> Result<()> {
    let (other, demo) = (scene.cluster("other"), scene.cluster("demo"));
    let load = LoadPod::start(&other)?;
    other.apply(1)?;
    other.wait_ready(1)?;
    load.wait_writing()?;
    let (cluster_id, members) = (other.status()?.cluster_id, other.member_ids()?);
    other.delete()?;
    give_volume(scene, &other.claim_name(0), &demo.claim_name(0))?;
    // The only voter of that cluster answers, so a whole cluster is found here, but still not this one.
    demo.apply(3)?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::ForeignVolumes)?;
    scene.say(format!("it says: {message}"));
    ensure!(message.contains("raftkv-demo-0"), "the volume is not named: {message}");
    let before = demo.claims()?.remove("raftkv-demo-0").context("the claim was deleted")?;
    scene.stays(LEFT_ALONE, "nothing is formed and nothing is overwritten", || {
        let status = demo.status()?;
        holds(!status.bootstrapped && status.members.is_empty(), || format!("a cluster was formed: {status:?}"))?;
        let now = demo.claims()?.remove("raftkv-demo-0").context("the claim was deleted")?;
        holds(now == before, || format!("{before:?} became {now:?}"))
    })?;
    let told = demo.told_by_node("demo-0")?;
    ensure!(told.cluster_id.map(|id| id.to_string()) == cluster_id, "its node is of {:?}", told.cluster_id);
    // The owner gets the volume back as it was.
    demo.delete()?;
    give_volume(scene, &demo.claim_name(0), &other.claim_name(0))?;
    other.apply(1)?;
    other.wait_ready(1)?;
    ensure!(other.status()?.cluster_id == cluster_id, "it is another cluster");
    ensure!(other.member_ids()? == members, "members were replaced, though the volume is back");
    Ending::with(1).check(&other, &load)
}

/// Puts a volume under another claim's name, like a person who renames a claim: Kubernetes has no command for that.
fn give_volume(scene: &Scene<'_>, from: &str, to: &str) -> Result<()> {
    scene.say(format!("the volume of claim {from} is put under the name {to}"));
    let claim: Value = scene.object(Kind::Claim, from)?;
    let (mut spec, volume) = (claim["spec"].clone(), claim["spec"]["volumeName"].as_str().context("it has no volume")?);
    let keep = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}).to_string();
    scene.kubectl(&["patch", "pv", volume, "-p", &keep])?;
    scene.kubectl(&["delete", "pvc", from])?;
    // The volume is reserved for that claim, since a free volume may be given to anyone.
    let kept_for = json!({"spec": {"claimRef": {"name": to, "uid": null, "resourceVersion": null}}}).to_string();
    scene.kubectl(&["patch", "pv", volume, "-p", &kept_for])?;
    spec["volumeName"] = json!(volume);
    let renamed = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": to}, "spec": spec});
    scene.kubectl_with(&["create", "-f", "-"], &renamed.to_string())?;
    // From here on the volume goes with its namespace again.
    let let_go = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}).to_string();
    scene.kubectl(&["patch", "pv", volume, "-p", &let_go])?;
    scene.wait(&format!("claim {to} to be bound"), || {
        let claim: Value = scene.object(Kind::Claim, to)?;
        holds(claim["status"]["phase"] == "Bound", || format!("it is {}", claim["status"]["phase"]))
    })
}

/// What is left are the volumes, as after a restore from manifests: their cluster is found, and nothing is formed over
/// them.
pub fn status_and_set_deleted(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let (cluster_id, members) = (demo.status()?.cluster_id, demo.member_ids()?);
    demo.edit(json!({"paused": true}))?;
    demo.wait_condition(ConditionType::Progressing, "False", Reason::Paused)?;
    scene.say("kubectl delete statefulset demo");
    scene.kubectl(&["delete", "statefulset", "demo", "--wait=false"])?;
    scene.wait("its pods to go with it", || {
        let pods = demo.pods()?;
        holds(pods.is_empty(), || format!("{} are left", pods.len()))
    })?;
    wipe_status(scene)?;
    demo.edit(json!({"paused": false}))?;
    let begun = Instant::now();
    demo.wait_ready(3)?;
    scene.measured("volumes alone -> 3 ready", begun);
    ensure!(demo.status()?.cluster_id == cluster_id, "it is another cluster");
    ensure!(demo.member_ids()? == members, "members were replaced, though all volumes are there");
    Ending::with(3).check(&demo, &load)
}

fn wipe_status(scene: &Scene<'_>) -> Result<()> {
    scene.say("kubectl patch --subresource=status: an empty status");
    let patch = json!([{"op": "replace", "path": "/status", "value": {}}]).to_string();
    scene.kubectl(&["patch", "rkv", "demo", "--subresource=status", "--type=json", "-p", &patch]).map(drop)
}

pub fn status_wiped(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let (cluster_id, members, before) = (demo.status()?.cluster_id, demo.member_ids()?, everything(&demo)?);
    let owners = |of: &Value| of["metadata"]["ownerReferences"].clone();
    let owned: Value = scene.object(Kind::Secret, "demo-auth")?;
    // As tools do that copy objects: they leave the owner out, and the status.
    scene.say("kubectl patch secret demo-auth: no owner");
    let patch = json!([{"op": "remove", "path": "/metadata/ownerReferences"}]).to_string();
    scene.kubectl(&["patch", "secret", "demo-auth", "--type=json", "-p", &patch])?;
    wipe_status(scene)?;
    demo.wait_ready(3)?;
    let status = demo.status()?;
    ensure!(status.bootstrapped && status.cluster_id == cluster_id, "it is another cluster, or none: {status:?}");
    ensure!(demo.member_ids()? == members, "members were replaced");
    ensure!(everything(&demo)? == before, "pods or volumes were replaced");
    scene.wait("the Secret to be taken back", || {
        let now: Value = scene.object(Kind::Secret, "demo-auth")?;
        holds(owners(&now) == owners(&owned) && now["data"] == owned["data"], || {
            "it has no owner, or another token".into()
        })
    })?;
    Ending::with(3).check(&demo, &load)
}

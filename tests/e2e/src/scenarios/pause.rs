//! Requests of a user that leave the data alone: no pods for a while, and no changes for a while.

use crate::harness::objects::uids;
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Kind, Scene};
use crate::scenarios::loss::everything;
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Result, ensure};
use raftkv_crds::{ConditionType, Reason};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

pub fn suspend_and_resume(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let (cluster_id, members, volumes) = (demo.status()?.cluster_id, demo.member_ids()?, volumes(&demo)?);
    demo.edit(json!({"suspend": true}))?;
    scene.wait("its pods to stop", || {
        let pods = demo.pods()?;
        holds(pods.is_empty(), || format!("{} are left", pods.len()))
    })?;
    demo.wait_condition(ConditionType::Progressing, "False", Reason::Suspended)?;
    demo.wait_condition(ConditionType::Available, "False", Reason::Suspended)?;
    // A requested suspension is not degraded, and the column STATUS says it in a word.
    demo.wait_condition(ConditionType::Degraded, "False", Reason::Healthy)?;
    let row = scene.kubectl(&["get", "rkv", "demo"])?;
    ensure!(row.contains("Suspended"), "the row does not say that it is suspended: {row}");
    scene.stays(LEFT_ALONE, "volumes and membership are kept", || {
        let (now, ids, status) = (self::volumes(&demo)?, demo.member_ids()?, demo.status()?);
        holds(now == volumes, || format!("volumes {volumes:?} became {now:?}"))?;
        holds(ids == members && status.bootstrapped, || format!("members {members:?} became {ids:?}"))?;
        holds(demo.pods()?.is_empty() && status.replicas == 0, || "there are pods again".to_string())
    })?;
    let begun = Instant::now();
    demo.edit(json!({"suspend": false}))?;
    demo.wait_ready(3)?;
    scene.measured("resumed -> 3 ready", begun);
    ensure!(demo.status()?.cluster_id == cluster_id, "it is another cluster");
    ensure!(demo.member_ids()? == members, "members were replaced, though all volumes are there");
    ensure!(self::volumes(&demo)? == volumes, "volumes were replaced");
    Ending::with(3).check(&demo, &load)
}

/// The uids of its volume claims.
fn volumes(demo: &Cluster<'_>) -> Result<BTreeMap<String, String>> {
    let claims = demo.claims()?;
    Ok(uids(claims.values().map(|claim| (claim.name.as_str(), claim.uid.as_str()))))
}

pub fn paused(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let (members, before) = (demo.member_ids()?, everything(&demo)?);
    demo.edit(json!({"paused": true}))?;
    demo.wait_condition(ConditionType::Progressing, "False", Reason::Paused)?;
    demo.scale(1)?;
    scene.wait("the status to be about the paused edit", || {
        let cluster = demo.get()?;
        let status = cluster.status.unwrap_or_default();
        holds(status.observed_generation == cluster.metadata.generation, || "it is about an earlier one".to_string())?;
        let ready = status.ready.unwrap_or_default();
        holds(ready == "3/1", || format!("it says {ready} for three members where one is asked for"))
    })?;
    let message = demo.has_condition(ConditionType::Progressing, "False", Reason::Paused)?;
    ensure!(message.contains("spec.paused"), "the message does not name the field: {message}");
    let row = scene.kubectl(&["get", "rkv", "demo"])?;
    ensure!(row.contains("Paused"), "the row does not say that it is paused: {row}");
    scene.stays(LEFT_ALONE, "nothing is carried out", || {
        let (now, ids, set) = (everything(&demo)?, demo.member_ids()?, scene.object::<Value>(Kind::Set, "demo")?);
        holds(now == before && ids == members, || format!("{before:?} became {now:?}, members are {ids:?}"))?;
        holds(set["spec"]["replicas"] == 3, || format!("the StatefulSet has {} replicas", set["spec"]["replicas"]))
    })?;
    load.wait_for_some_more()?;
    demo.edit(json!({"paused": false}))?;
    demo.wait_ready(1)?;
    Ending::with(1).check(&demo, &load)
}

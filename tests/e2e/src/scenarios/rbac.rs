//! The operator without one of its rights: the action that needs the right stops, the operator says which right is
//! missing, and it goes on when the right is back. The audit log of a whole run shows that some scenario needs each
//! right (`harness::rights`).

use crate::harness::audit::Right;
use crate::harness::operator::Operator;
use crate::harness::rights::Rights;
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Kind, Scene};
use crate::scenarios::ready;
use anyhow::{Result, anyhow, ensure};
use raftkv_crds::label;
use serde_json::{Value, json};

/// This many lines of the operator's log are searched for what it said a moment ago.
const LOG_LINES: u32 = 200;
/// The reason of its events about a step that failed.
const STEP_FAILED: &str = "StepFailed";

pub fn verbs_dropped(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 1)?;
    alone(scene)?;
    let rights = Rights::of(scene)?;
    more_members(&demo, &rights)?;
    put_right(&demo, &rights)?;
    fewer_volumes(&demo, &rights)?;
    told(&demo, &rights)?;
    load.wait_for_some_more()?;
    Ending::with(1).check(&demo, &load)
}

fn more_members(demo: &Cluster<'_>, rights: &Rights<'_>) -> Result<()> {
    rights.without(&Right::new("apps", "statefulsets", "patch"))?;
    demo.scale(2)?;
    wait_told(demo, "cannot patch resource \"statefulsets\"")?;
    rights.put_back()?;
    demo.wait_ready(2)
}

fn put_right(demo: &Cluster<'_>, rights: &Rights<'_>) -> Result<()> {
    let scene = demo.scene;
    rights.without(&Right::new("", "services", "patch"))?;
    scene.say("kubectl label service demo: somebody changes what is the operator's");
    let changed = format!("{}=somebody", label::MANAGED_BY);
    scene.kubectl(&["label", "service", "demo", "--overwrite", &changed])?;
    wait_told(demo, "cannot patch resource \"services\"")?;
    rights.put_back()?;
    scene.wait("the Service to be put right", || {
        let service: Value = scene.object(Kind::Service, "demo")?;
        let now = &service["metadata"]["labels"][label::MANAGED_BY];
        holds(*now == label::MANAGED_BY_VALUE, || format!("the label is {now}"))
    })
}

fn fewer_volumes(demo: &Cluster<'_>, rights: &Rights<'_>) -> Result<()> {
    rights.without(&Right::new("", "persistentvolumeclaims", "delete"))?;
    demo.scale(1)?;
    wait_told(demo, "cannot delete resource \"persistentvolumeclaims\"")?;
    ensure!(demo.claims()?.len() == 2, "the volume of the removed member went without the right to delete it");
    rights.put_back()?;
    demo.wait_ready(1)?;
    demo.scene.wait("the volume of the removed member to go", || {
        let claims = demo.claims()?;
        holds(claims.len() == 1, || format!("claims are {:?}", claims.keys()))
    })
}

/// Checks the log: neither a condition nor an event can say that the status cannot be written.
fn told(demo: &Cluster<'_>, rights: &Rights<'_>) -> Result<()> {
    let scene = demo.scene;
    rights.without(&Right::new("raftkv.dev", "raftkvclusters/status", "update"))?;
    demo.edit(json!({"progressDeadlineSeconds": 601}))?;
    scene.wait("the operator's log to say that it cannot write the status", || {
        let log = Operator::of(scene.site).log(LOG_LINES)?;
        let words = "cannot update resource \"raftkvclusters/status\"";
        let told = log.lines().any(|line| line.contains(&scene.namespace) && line.contains(words));
        holds(told, || "it does not yet".to_string())
    })?;
    rights.put_back()?;
    demo.wait_ready(1)
}

/// Waits for an event about the cluster with these words, which name the verb and the resource.
fn wait_told(demo: &Cluster<'_>, words: &str) -> Result<()> {
    let note = demo.scene.wait(&format!("an event that says '{words}'"), || {
        let events = demo.events()?;
        let found = events.iter().find(|(reason, note)| reason == STEP_FAILED && note.contains(words));
        let reasons = || events.iter().map(|(reason, _)| reason.as_str()).collect::<Vec<_>>().join(", ");
        found.map(|(_, note)| note.clone()).ok_or_else(|| anyhow!("events so far: {}", reasons()))
    })?;
    demo.scene.say(format!("it says: {note}"));
    Ok(())
}

/// Waits until this is the only cluster: clusters of other scenarios, which may still be going, would be refused
/// something too.
fn alone(scene: &Scene<'_>) -> Result<()> {
    scene.wait("the clusters of other scenarios to go", || {
        let all = scene.site.kubectl(&["get", "rkv", "-A", "-o", "name"])?;
        let count = all.lines().count();
        holds(count == 1, || format!("there are {count} clusters"))
    })
}

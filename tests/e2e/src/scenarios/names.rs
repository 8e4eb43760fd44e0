//! Several clusters, and objects of strangers whose name a cluster needs.

use crate::harness::wait::holds;
use crate::harness::{Ending, Kind, LoadPod, Scene};
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Context, Result, ensure};
use raftkv_crds::{ConditionType, Reason, child};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub fn two_clusters_and_two_namespaces(scene: &Scene<'_>) -> Result<()> {
    let beside = scene.beside()?;
    let (other, same_name) = (scene.cluster("other"), beside.cluster("demo"));
    for cluster in [&other, &same_name] {
        cluster.apply(1)?;
    }
    let (demo, load) = ready(scene, 3)?;
    let (other_load, same_name_load) = (LoadPod::start(&other)?, LoadPod::start(&same_name)?);
    for cluster in [&other, &same_name] {
        cluster.wait_ready(1)?;
    }
    let all = [&demo, &other, &same_name];
    let mut ids = BTreeSet::new();
    let mut tokens = BTreeSet::new();
    for cluster in all {
        let secret: Value = cluster.scene.object(Kind::Secret, &child::auth(&cluster.name))?;
        ids.insert(cluster.status()?.cluster_id.context("a cluster without an id")?);
        tokens.insert(secret["data"][child::TOKEN_KEY].as_str().context("a cluster without a token")?.to_string());
    }
    ensure!(ids.len() == 3, "clusters share an id: {ids:?}");
    ensure!(tokens.len() == 3, "clusters share a token");
    // Each load reads back everything in its cluster, so that a key of another cluster would be found.
    Ending::with(1).check(&other, &other_load)?;
    Ending::with(3).check(&demo, &load)?;
    demo.delete()?;
    scene.say("its neighbours do not notice");
    Ending::with(1).check_members(&other)?;
    Ending::with(1).check(&same_name, &same_name_load)
}

pub fn strangers_service(scene: &Scene<'_>) -> Result<()> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo"},
        "spec": {"selector": {"app": "somebody-elses"}, "ports": [{"port": 80}]},
    });
    scene.kubectl_with(&["create", "-f", "-"], &service.to_string())?;
    let look = || -> Result<(Value, Value)> {
        let now: Value = scene.object(Kind::Service, "demo")?;
        Ok((now["spec"].clone(), now["metadata"]["ownerReferences"].clone()))
    };
    let before = look()?;
    let demo = scene.cluster("demo");
    demo.apply(3)?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::NameTaken)?;
    ensure!(message.contains("Service") && message.contains("demo"), "the Service is not named: {message}");
    scene.stays(LEFT_ALONE, "the Service is left alone", || {
        let now = look()?;
        holds(now == before, || format!("{before:?} became {now:?}"))
    })?;
    scene.say("kubectl delete service demo");
    scene.kubectl(&["delete", "service", "demo"])?;
    let load = LoadPod::start(&demo)?;
    demo.wait_ready(3)?;
    Ending::with(3).check(&demo, &load)
}

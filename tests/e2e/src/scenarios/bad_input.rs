//! Specs that are invalid. The API server refuses what the schema and CEL can see; the rest becomes a condition.

use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Scene};
use crate::scenarios::loss::everything;
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Context, Result, ensure};
use raftkv_crds::{ConditionType, Reason};
use serde_json::{Value, json};

/// Fields of the spec that are refused, each with the name that the message must contain.
fn refused_specs() -> Vec<(Value, &'static str)> {
    let secrets: Vec<Value> = (0..9).map(|nth| json!({"name": format!("s{nth}")})).collect();
    let labels: Value = (0..33).map(|nth| (format!("l{nth}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    vec![
        (json!({"replicas": 0}), "spec.replicas"),
        (json!({"replicas": 10}), "spec.replicas"),
        (json!({"replicas": "three"}), "spec.replicas"),
        (json!({"image": ""}), "spec.image"),
        (json!({"image": "two words"}), "spec.image"),
        (json!({"imagePullPolicy": "Sometimes"}), "spec.imagePullPolicy"),
        (json!({"imagePullSecrets": [{"name": ""}]}), "spec.imagePullSecrets[0].name"),
        (json!({"imagePullSecrets": secrets}), "spec.imagePullSecrets"),
        (json!({"storage": {"size": "512Mi"}}), "spec.storage"),
        (json!({"storage": {"size": "large"}}), "spec.storage.size"),
        (json!({"storage": {"storageClassName": ""}}), "spec.storage.storageClassName"),
        (json!({"storage": {"ephemeral": true}}), "spec.storage.ephemeral"),
        (json!({"resources": {"requests": {"cpu": "lots"}}}), "spec.resources.requests"),
        (json!({"resources": {"limits": {"memory": "-1Gi"}}}), "spec.resources.limits"),
        (json!({"topology": {"spread": "Sometimes"}}), "spec.topology.spread"),
        (json!({"topology": {"topologyKey": ""}}), "spec.topology.topologyKey"),
        (json!({"pod": {"labels": labels}}), "spec.pod.labels"),
        (json!({"pod": {"priorityClassName": ""}}), "spec.pod.priorityClassName"),
        (json!({"podDisruptionBudget": "None"}), "spec.podDisruptionBudget"),
        (json!({"config": {"quota": "large"}}), "spec.config.quota"),
        (json!({"config": {"compactRetention": "1 week"}}), "spec.config.compactRetention"),
        (json!({"config": {"log": ""}}), "spec.config.log"),
        (json!({"progressDeadlineSeconds": 5}), "spec.progressDeadlineSeconds"),
        (json!({"paused": "yes"}), "spec.paused"),
        (json!({"replica": 3}), "spec.replica"),
        (json!({"config": {"heartbeat": "1s"}}), "spec.config.heartbeat"),
    ]
}

/// Names that are refused: a Service or a StatefulSet could not carry them.
const REFUSED_NAMES: &[&str] = &["Demo", "1demo", "my.demo", "demo-", "a-name-that-has-forty-one-characters-in-it"];

/// Changes of an existing cluster, by merge patch, each with the name that the message must contain.
fn refused_changes() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"storage": {"size": "2Gi"}}), "spec.storage"),
        (json!({"storage": {"size": null}}), "spec.storage"),
        (json!({"storage": null}), "spec.storage"),
        (json!({"storage": {"storageClassName": "fast"}}), "spec.storage"),
        (json!({"replicas": 0}), "spec.replicas"),
    ]
}

pub fn invalid_specs(scene: &Scene<'_>) -> Result<()> {
    let demo = scene.cluster("demo");
    let mut wrong = Vec::new();
    for (spec, field) in refused_specs() {
        let manifest = demo.manifest(3, spec.clone());
        note(&mut wrong, &format!("{spec}"), field, &create(scene, &manifest)?);
    }
    for name in REFUSED_NAMES {
        note(&mut wrong, name, "metadata.name", &create(scene, &scene.cluster(name).manifest(3, json!({})))?);
    }
    // The cluster is paused, so that nothing runs while its spec is tried.
    demo.apply_with(3, json!({"paused": true}))?;
    for (spec, field) in refused_changes() {
        note(&mut wrong, &format!("change to {spec}"), field, &patch(&demo, &json!({"spec": spec}))?);
    }
    for replicas in ["--replicas=0", "--replicas=10"] {
        let args = ["-n", &scene.namespace, "scale", "rkv", "demo", replicas];
        note(&mut wrong, replicas, "spec.replicas", &refusal(scene, &args, None)?);
    }
    ensure!(wrong.is_empty(), "{} of them went wrong:\n  {}", wrong.len(), wrong.join("\n  "));
    // The control: the same commands accept a valid spec.
    create_anew(scene)?;
    demo.edit(json!({"replicas": 5}))?;
    demo.edit(json!({"storage": {"size": "1Gi"}}))
}

/// Adds a sentence unless the spec was refused with this field named.
fn note(wrong: &mut Vec<String>, what: &str, field: &str, said: &str) {
    if !said.contains(field) {
        wrong.push(format!("{what}: {field} is not named in: {}", said.trim()));
    }
}

fn create(scene: &Scene<'_>, manifest: &Value) -> Result<String> {
    refusal(scene, &["create", "--dry-run=server", "-f", "-"], Some(&manifest.to_string()))
}

fn create_anew(scene: &Scene<'_>) -> Result<()> {
    let manifest = scene.cluster("another").manifest(3, json!({}));
    scene.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &manifest.to_string()).map(drop)
}

fn patch(demo: &Cluster<'_>, change: &Value) -> Result<String> {
    let scene = demo.scene;
    let change = change.to_string();
    let args = ["-n", &scene.namespace, "patch", "rkv", &demo.name, "--type=merge", "--dry-run=server", "-p", &change];
    refusal(scene, &args, None)
}

/// What kubectl said. A spec that was accepted gives an answer too, which names no field.
fn refusal(scene: &Scene<'_>, args: &[&str], stdin: Option<&str>) -> Result<String> {
    let output = scene.site.try_kubectl(args, stdin)?;
    Ok(if output.success { "it was taken".to_string() } else { output.stderr })
}

pub fn spec_refused_later(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let before = everything(&demo)?;
    let resources = demo.get()?.spec.resources;
    // Only the StatefulSet's own check compares the two.
    demo.edit(json!({"resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "100m"}}}))?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::InvalidSpec)?;
    scene.say(format!("it says: {message}"));
    ensure!(message.contains("cpu"), "the message does not say what is wrong: {message}");
    demo.wait_event(Reason::InvalidSpec.as_str())?;
    scene.stays(LEFT_ALONE, "the cluster stays as it was", || {
        let now = everything(&demo)?;
        holds(now == before, || format!("{before:?} became {now:?}"))
    })?;
    load.wait_for_some_more()?;
    let mut resources = serde_json::to_value(resources).context("resources")?;
    resources["limits"] = Value::Null;
    demo.edit(json!({"resources": resources}))?;
    demo.wait_ready(3)?;
    ensure!(everything(&demo)? == before, "pods were restarted, though their template is what it was");
    Ending::with(3).check(&demo, &load)
}

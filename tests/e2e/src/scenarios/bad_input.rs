//! Specs that are invalid. The API server refuses what the schema and CEL can see; the rest becomes a condition.

use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, Scene};
use crate::scenarios::loss::everything;
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Result, ensure};
use raftkv_crds::{ConditionType, Reason};
use serde_json::{Value, json};

/// A text of this many characters.
fn long(chars: usize) -> String {
    "a".repeat(chars)
}

/// A map of this many entries.
fn map(entries: usize, value: &str) -> Value {
    (0..entries).map(|nth| (format!("l{nth}"), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

/// Fields of the spec that are refused, each with the name that the message must contain. Of each limit the first value
/// beyond it is here, and in [`accepted_specs`] the last one within.
pub fn refused_specs() -> Vec<(Value, &'static str)> {
    [refused_sizes(), refused_pods(), refused_settings()].concat()
}

#[rustfmt::skip] // One line each, so that it reads as a table.
fn refused_sizes() -> Vec<(Value, &'static str)> {
    let secrets: Vec<Value> = (0..9).map(|nth| json!({"name": format!("s{nth}")})).collect();
    vec![
        (json!({"replicas": 0}), "spec.replicas"),
        (json!({"replicas": 10}), "spec.replicas"),
        (json!({"replicas": "three"}), "spec.replicas"),
        (json!({"image": ""}), "spec.image"),
        (json!({"image": "two words"}), "spec.image"),
        (json!({"image": long(513)}), "spec.image"),
        (json!({"imagePullPolicy": "Sometimes"}), "spec.imagePullPolicy"),
        (json!({"imagePullSecrets": [{"name": ""}]}), "spec.imagePullSecrets[0].name"),
        (json!({"imagePullSecrets": [{"name": "Upper"}]}), "spec.imagePullSecrets[0].name"),
        (json!({"imagePullSecrets": [{"name": long(254)}]}), "spec.imagePullSecrets[0].name"),
        (json!({"imagePullSecrets": secrets}), "spec.imagePullSecrets"),
        (json!({"storage": {"size": "512Mi"}}), "spec.storage"),
        (json!({"storage": {"size": "1023Mi"}}), "spec.storage"),
        (json!({"storage": {"size": -1}}), "spec.storage"),
        (json!({"storage": {"size": "large"}}), "spec.storage.size"),
        (json!({"storage": {"storageClassName": ""}}), "spec.storage.storageClassName"),
        (json!({"storage": {"storageClassName": "Fast"}}), "spec.storage.storageClassName"),
        (json!({"storage": {"ephemeral": true}}), "spec.storage.ephemeral"),
        (json!({"resources": {"requests": {"cpu": "lots"}}}), "spec.resources.requests"),
        (json!({"resources": {"requests": {"cpu": -1}}}), "spec.resources.requests"),
        (json!({"resources": {"requests": {"mem": "1Gi"}}}), "spec.resources.requests"),
        (json!({"resources": {"limits": {"memory": "-1Gi"}}}), "spec.resources.limits"),
        (json!({"resources": {"limits": {"CPU": "1"}}}), "spec.resources.limits"),
        (json!({"resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "0.1"}}}), "spec.resources.requests.cpu"),
        (json!({"resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}), "spec.resources.requests.cpu"),
        (json!({"resources": {"requests": {"memory": "1025Mi"}, "limits": {"memory": "1Gi"}}}), "spec.resources.requests.memory"),
        // The default of the requests counts as well.
        (json!({"resources": {"limits": {"memory": "128Mi"}}}), "spec.resources.requests.memory"),
    ]
}

#[rustfmt::skip] // One line each, so that it reads as a table.
fn refused_pods() -> Vec<(Value, &'static str)> {
    let tolerations = vec![json!({"operator": "Exists"}); 33];
    vec![
        (json!({"topology": {"spread": "Sometimes"}}), "spec.topology.spread"),
        (json!({"topology": {"topologyKey": ""}}), "spec.topology.topologyKey"),
        (json!({"topology": {"topologyKey": "a zone"}}), "spec.topology.topologyKey"),
        (json!({"pod": {"labels": map(33, "x")}}), "spec.pod.labels"),
        (json!({"pod": {"labels": {"two words": "x"}}}), "spec.pod.labels"),
        (json!({"pod": {"labels": {"Example.com/a": "x"}}}), "spec.pod.labels"),
        (json!({"pod": {"labels": {long(64): "x"}}}), "spec.pod.labels"),
        (json!({"pod": {"labels": {format!("{}/a", [long(63), long(63), long(63), long(62)].join(".")): "x"}}}), "spec.pod.labels"),
        (json!({"pod": {"labels": {"team": "two words"}}}), "spec.pod.labels.team"),
        (json!({"pod": {"labels": {"team": long(64)}}}), "spec.pod.labels.team"),
        (json!({"pod": {"annotations": map(33, "x")}}), "spec.pod.annotations"),
        (json!({"pod": {"annotations": {"two words": "x"}}}), "spec.pod.annotations"),
        (json!({"pod": {"annotations": {"a/b/c": "x"}}}), "spec.pod.annotations"),
        (json!({"pod": {"annotations": {"note": long(8_193)}}}), "spec.pod.annotations.note"),
        (json!({"pod": {"nodeSelector": map(33, "x")}}), "spec.pod.nodeSelector"),
        (json!({"pod": {"nodeSelector": {"-disk": "ssd"}}}), "spec.pod.nodeSelector"),
        (json!({"pod": {"nodeSelector": {"disk": "ssd!"}}}), "spec.pod.nodeSelector.disk"),
        (json!({"pod": {"tolerations": tolerations}}), "spec.pod.tolerations"),
        (json!({"pod": {"priorityClassName": ""}}), "spec.pod.priorityClassName"),
        (json!({"pod": {"priorityClassName": "-high"}}), "spec.pod.priorityClassName"),
    ]
}

#[rustfmt::skip] // One line each, so that it reads as a table.
fn refused_settings() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"podDisruptionBudget": "None"}), "spec.podDisruptionBudget"),
        (json!({"config": {"quota": "large"}}), "spec.config.quota"),
        (json!({"config": {"quota": "500m"}}), "spec.config.quota"),
        (json!({"config": {"quota": "1.0625Gi"}}), "spec.config.quota"),
        (json!({"config": {"quota": "1P"}}), "spec.config.quota"),
        (json!({"config": {"quota": "3.999Mi"}}), "spec.config.quota"),
        (json!({"config": {"quota": 4_194_303}}), "spec.config.quota"),
        (json!({"config": {"quota": -4_194_304}}), "spec.config.quota"),
        (json!({"config": {"quota": "1024.001Ti"}}), "spec.config.quota"),
        (json!({"config": {"quota": long(33)}}), "spec.config.quota"),
        (json!({"config": {"compactRetention": "1 week"}}), "spec.config.compactRetention"),
        (json!({"config": {"compactRetention": "0s"}}), "spec.config.compactRetention"),
        (json!({"config": {"compactRetention": "00h"}}), "spec.config.compactRetention"),
        (json!({"config": {"compactRetention": "1234567890s"}}), "spec.config.compactRetention"),
        (json!({"config": {"log": ""}}), "spec.config.log"),
        (json!({"config": {"log": long(257)}}), "spec.config.log"),
        (json!({"progressDeadlineSeconds": 29}), "spec.progressDeadlineSeconds"),
        (json!({"progressDeadlineSeconds": 86_401}), "spec.progressDeadlineSeconds"),
        (json!({"lostNodeSeconds": 59}), "spec.lostNodeSeconds"),
        (json!({"lostNodeSeconds": 86_401}), "spec.lostNodeSeconds"),
        (json!({"paused": "yes"}), "spec.paused"),
        (json!({"replica": 3}), "spec.replica"),
        (json!({"config": {"heartbeat": "1s"}}), "spec.config.heartbeat"),
    ]
}

/// Specs that are good, just within the limits.
#[rustfmt::skip] // One line each, so that it reads as a table.
pub fn accepted_specs() -> Vec<Value> {
    let domain = [long(63), long(63), long(63), long(61)].join(".");
    vec![
        json!({"replicas": 9, "progressDeadlineSeconds": 86_400, "lostNodeSeconds": 86_400}),
        json!({"storage": {"size": "1Gi", "storageClassName": "fast.example.com"}}),
        json!({"storage": {"size": 1_073_741_824}}),
        json!({"resources": {"requests": {"cpu": "0.1", "memory": "1Gi"}, "limits": {"cpu": "100m", "memory": "1024Mi"}}}),
        json!({"resources": {"requests": {"cpu": 1}, "limits": {"example.com/disk": 1, "hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi"}}}),
        json!({"resources": {"requests": {}, "limits": {"cpu": "1m", "memory": "1Mi"}}}),
        json!({"topology": {"topologyKey": "topology.kubernetes.io/zone"}}),
        json!({"pod": {"labels": map(32, "x"), "annotations": map(32, "any text, of any kind")}}),
        json!({"pod": {"labels": {"a": "", "Team_1": "a.b-c_D", format!("{domain}/{}", long(63)): long(63)}}}),
        json!({"pod": {"annotations": {"Example.com/note": long(8_192)}}}),
        json!({"pod": {"nodeSelector": {"kubernetes.io/os": "linux"}, "priorityClassName": "system-node-critical"}}),
        json!({"config": {"quota": "1.5Gi", "compactRetention": "1s"}}),
        json!({"config": {"quota": 4_194_304, "compactRetention": "off"}}),
        json!({"config": {"quota": "1024Ti", "compactRetention": "999999999d", "log": long(256)}}),
    ]
}

/// Names that are refused: a Service or a StatefulSet could not carry them.
pub const REFUSED_NAMES: &[&str] = &["Demo", "1demo", "my.demo", "demo-", "a-name-that-has-forty-one-characters-in-it"];

/// Changes of an existing cluster, by merge patch, each with the name that the message must contain: of each rule about
/// old and new an addition, a removal and a null (rule O19).
pub fn refused_changes() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"storage": {"size": "2Gi"}}), "spec.storage"),
        (json!({"storage": {"size": null}}), "spec.storage"),
        (json!({"storage": null}), "spec.storage"),
        (json!({"storage": {"storageClassName": "fast"}}), "spec.storage"),
        (json!({"replicas": 0}), "spec.replicas"),
        (json!({"config": {"quota": "1Mi"}}), "spec.config.quota"),
        (json!({"config": {"compactRetention": "0s"}}), "spec.config.compactRetention"),
        (json!({"resources": {"limits": {"cpu": "1m"}}}), "spec.resources.requests.cpu"),
        (
            json!({"resources": {"requests": {"memory": "1Ti"}, "limits": {"memory": "1Gi"}}}),
            "spec.resources.requests.memory",
        ),
        (json!({"pod": {"labels": {"a b": "x"}}}), "spec.pod.labels"),
    ]
}

/// Changes that are taken, one after the other: fields are added, changed in two steps, set to null and removed.
pub fn accepted_changes() -> Vec<Value> {
    vec![
        json!({"config": {"quota": "1.5Gi", "compactRetention": "7d"}}),
        json!({"config": {"quota": "2Gi"}}),
        json!({"config": {"quota": null}}),
        json!({"config": null}),
        json!({"resources": {"limits": {"cpu": "1"}}}),
        json!({"resources": {"requests": {"cpu": "1"}}}),
        json!({"resources": {"limits": null, "requests": {"cpu": "2"}}}),
        json!({"resources": null}),
        json!({"pod": {"labels": {"team": "blue"}}}),
        json!({"pod": {"labels": {"team": null}}}),
        json!({"storage": {"size": "1Gi"}}),
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
    // The control: the same commands accept valid specs.
    for spec in accepted_specs() {
        create_anew(scene, spec)?;
    }
    for change in accepted_changes() {
        demo.edit(change)?;
    }
    demo.edit(json!({"replicas": 5}))
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

fn create_anew(scene: &Scene<'_>, spec: Value) -> Result<()> {
    let manifest = scene.cluster("another").manifest(3, spec);
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
    let in_force = demo.status()?.generation_in_force;
    // Only the StatefulSet's own check compares the two. The scale that comes with it is not carried out, either.
    let bad = json!({"key": "db", "operator": "Exists", "value": "x"});
    demo.edit(json!({"replicas": 1, "pod": {"tolerations": [bad]}}))?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::InvalidSpec)?;
    scene.say(format!("it says: {message}"));
    ensure!(message.contains("tolerations"), "the message does not say what is wrong: {message}");
    demo.wait_condition(ConditionType::Ready, "False", Reason::InvalidSpec)?;
    demo.wait_event(Reason::InvalidSpec.as_str())?;
    scene.stays(LEFT_ALONE, "the cluster stays as it was", || {
        let (now, status) = (everything(&demo)?, demo.status()?);
        holds(now == before, || format!("{before:?} became {now:?}"))?;
        let (looked, stays) = (status.observed_generation, status.generation_in_force);
        holds(stays == in_force && looked > stays, || format!("{stays:?} is in force, {looked:?} was looked at"))
    })?;
    load.wait_for_some_more()?;
    demo.edit(json!({"replicas": 3, "pod": {"tolerations": null}}))?;
    demo.wait_ready(3)?;
    ensure!(everything(&demo)? == before, "pods were restarted, though their template is what it was");
    Ending::with(3).check(&demo, &load)
}

//! Volumes that exist before they are asked for: local directories of our own machines, in a separate StorageClass. The
//! time of a provisioner is not the operator's; kind's provisioner makes one volume after the other, each with a pod,
//! and would take most of the scenarios' time.

use crate::harness::machines::workers;
use crate::harness::objects::{items, text};
use crate::harness::{Scene, Site};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The StorageClass.
pub const CLASS: &str = "raftkv-e2e";
/// The directory of the volumes on a machine.
const DIRECTORY: &str = "/var/lib/raftkv-e2e";
const LABEL: &str = "raftkv.dev/e2e-volume";
/// The label that says on which machine a volume is.
const MACHINE: &str = "raftkv.dev/e2e-machine";
/// Time limit for deleting: volumes go after their claims.
const DELETE_MAX: Duration = Duration::from_secs(110);
/// Time limit for creating: one request for each volume, and a pass of the controller.
const CREATE_MAX: Duration = Duration::from_secs(60);

/// Makes new and empty volumes and deletes the earlier ones, which nobody may be using.
pub fn renew(site: &Site, per_machine: usize) -> Result<()> {
    let delete = ["delete", "persistentvolume", "--selector", LABEL, "--timeout=100s"];
    site.slow_kubectl(&delete, DELETE_MAX)?.expect_success()?;
    site.kubectl_with(&["apply", "-f", "-"], &class().to_string())?;
    let mut objects = Vec::new();
    for machine in workers(site)? {
        let make = format!(
            "rm -rf {DIRECTORY} && mkdir -m 0777 {DIRECTORY} && for n in $(seq {per_machine}); do mkdir -m 0777 {DIRECTORY}/$n; done"
        );
        site.docker(&["exec", &machine, "sh", "-c", &make])?;
        objects.extend((1..=per_machine).map(|n| volume(&machine, n)));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    site.slow_kubectl_with(&["create", "-f", "-"], Some(&list.to_string()), CREATE_MAX)?.expect_success()?;
    // The volume controller makes them available one after the other, and claims would wait behind that.
    let available = ["wait", "persistentvolume", "--selector", LABEL, "--for=jsonpath={.status.phase}=Available"];
    site.slow_kubectl(&[&available[..], &["--timeout=50s"]].concat(), CREATE_MAX)?.expect_success()?;
    Ok(())
}

/// The machine of the volume of a claim, and its directory there.
pub fn place(scene: &Scene<'_>, claim: &str) -> Result<(String, String)> {
    let name = scene.kubectl(&["get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}"])?;
    let (machine, n) =
        name.trim().rsplit_once('-').with_context(|| format!("{claim} is on no volume of ours: {name}"))?;
    Ok((machine.to_string(), format!("{DIRECTORY}/{n}")))
}

/// Erases the volumes of namespaces that are gone. No provisioner made them, so none erases them; without this, a run
/// would need as much disk as all its scenarios together.
pub fn sweep(site: &Site) -> Result<()> {
    let json = |args: &[&str]| -> Result<Value> { Ok(serde_json::from_str(&site.kubectl(args)?)?) };
    let volumes = items(&json(&["get", "persistentvolume", "--selector", LABEL, "-o", "json"])?, Used::read);
    // This is read after the volumes: every namespace that had a volume by then is in this list, unless it is gone.
    let namespaces = json(&["get", "namespace", "-o", "json"])?;
    let namespaces = items(&namespaces, |namespace| text(&namespace["metadata"]["name"])).into_iter().collect();
    for (machine, names) in left_behind(volumes, &namespaces) {
        let directories = names.iter().filter_map(|name| name.rsplit('-').next()).collect::<Vec<_>>().join(" ");
        let erase = format!("cd {DIRECTORY} && rm -rf {directories}");
        site.docker(&["exec", &machine, "sh", "-c", &erase])?;
        let delete: Vec<&str> =
            ["delete", "persistentvolume"].into_iter().chain(names.iter().map(String::as_str)).collect();
        site.slow_kubectl(&delete, DELETE_MAX)?.expect_success()?;
    }
    Ok(())
}

/// A volume, with the namespace that has it or had it.
struct Used {
    name: String,
    machine: String,
    /// `None` while nobody has used it.
    namespace: Option<String>,
}

impl Used {
    fn read(json: &Value) -> Used {
        Used {
            name: text(&json["metadata"]["name"]),
            machine: text(&json["metadata"]["labels"][MACHINE]),
            namespace: json["spec"]["claimRef"]["namespace"].as_str().map(String::from),
        }
    }
}

/// The names of the volumes whose namespace is gone, by machine.
fn left_behind(volumes: Vec<Used>, namespaces: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let mut by_machine: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Used { name, machine, namespace } in volumes {
        if namespace.is_some_and(|namespace| !namespaces.contains(&namespace)) {
            by_machine.entry(machine).or_default().push(name);
        }
    }
    by_machine
}

fn class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn volume(machine: &str, n: usize) -> Value {
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [machine]});
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": format!("{machine}-{n}"), "labels": {LABEL: "true", MACHINE: machine}},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "local": {"path": format!("{DIRECTORY}/{n}")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_gone_namespace_had_is_erased() {
        let used = |name: &str, claim: Value| {
            let mut json = volume(name.rsplit_once('-').unwrap().0, 1);
            json["metadata"]["name"] = json!(name);
            json["spec"]["claimRef"] = claim;
            Used::read(&json)
        };
        let of = |namespace: &str| json!({"namespace": namespace, "name": "raftkv-demo-0"});
        let volumes = vec![
            used("w-1-1", Value::Null),
            used("w-1-2", of("here")),
            used("w-1-3", of("gone")),
            used("w-2-1", of("gone")),
        ];
        let left = left_behind(volumes, &BTreeSet::from(["here".to_string()]));
        let names = |name: &str| vec![name.to_string()];
        assert_eq!(left, BTreeMap::from([("w-1".to_string(), names("w-1-3")), ("w-2".to_string(), names("w-2-1"))]));
    }
}

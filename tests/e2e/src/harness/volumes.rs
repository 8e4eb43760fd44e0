//! Volumes that are there before they are asked for: local directories of our own machines, in a StorageClass of their own.
//! What a provisioner takes is not the operator's; kind's makes one volume after the other, each by a pod of its own, and would
//! be most of what the scenarios take.

use crate::harness::Site;
use crate::harness::machines::workers;
use crate::harness::objects::{items, text};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The StorageClass.
pub const CLASS: &str = "raftkv-e2e";
/// Where they are on a machine.
const DIRECTORY: &str = "/var/lib/raftkv-e2e";
const LABEL: &str = "raftkv.dev/e2e-volume";
/// On which machine one is.
const MACHINE: &str = "raftkv.dev/e2e-machine";
/// Volumes go after their claims.
const DELETE_MAX: Duration = Duration::from_secs(110);
/// One request for each, and a look of the controller's.
const CREATE_MAX: Duration = Duration::from_secs(60);

/// New and empty ones instead of those that were there, which nobody may use any more.
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
    // The controller of volumes makes them available one after the other, and claims wait behind them.
    let available = ["wait", "persistentvolume", "--selector", LABEL, "--for=jsonpath={.status.phase}=Available"];
    site.slow_kubectl(&[&available[..], &["--timeout=50s"]].concat(), CREATE_MAX)?.expect_success()?;
    Ok(())
}

/// Erases the volumes of namespaces that are gone. Nobody provisioned them, so nobody else does, and a run would need as much
/// disk as all its scenarios together.
pub fn sweep(site: &Site) -> Result<()> {
    let json = |args: &[&str]| -> Result<Value> { Ok(serde_json::from_str(&site.kubectl(args)?)?) };
    let volumes = items(&json(&["get", "persistentvolume", "--selector", LABEL, "-o", "json"])?, Used::read);
    // Asked for after the volumes: whoever had one by then has its namespace here, unless that is gone.
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

/// A volume, and who has it or had it.
struct Used {
    name: String,
    machine: String,
    /// None: nobody yet.
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

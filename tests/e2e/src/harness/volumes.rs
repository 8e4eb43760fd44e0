//! Volumes that are there before they are asked for: local directories of our own machines, in a StorageClass of their own.
//! What a provisioner takes is not the operator's; kind's makes one volume after the other, each by a pod of its own, and would
//! be most of what the scenarios take.

use crate::harness::Site;
use crate::harness::machines::workers;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;

/// The StorageClass.
pub const CLASS: &str = "raftkv-e2e";
/// Where they are on a machine.
const DIRECTORY: &str = "/var/lib/raftkv-e2e";
const LABEL: &str = "raftkv.dev/e2e-volume";
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
        "metadata": {"name": format!("{machine}-{n}"), "labels": {LABEL: "true"}},
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

//! Volumes that are there before they are asked for: local directories of the machines, in a StorageClass of their own. What a
//! provisioner takes is not the operator's, and differs from cluster to cluster.

use crate::harness::Site;
use crate::harness::machines::workers;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;

/// The StorageClass.
pub const CLASS: &str = "raftkv-bench";
/// On each machine: a third of ten clusters of three, and some to spare.
const PER_MACHINE: u32 = 14;
/// Where they are on a machine.
const DIRECTORY: &str = "/var/lib/raftkv-bench";
const LABEL: &str = "raftkv.dev/bench=volume";
/// Volumes go after their claims.
const DELETE_MAX: Duration = Duration::from_secs(90);

/// New and empty ones instead of those of the round before; nobody may use them any more.
pub fn renew(site: &Site) -> Result<()> {
    let delete = ["delete", "persistentvolume", "--selector", LABEL, "--timeout=80s"];
    site.slow_kubectl(&delete, DELETE_MAX)?.expect_success()?;
    let mut objects = vec![class()];
    for machine in workers(site)? {
        let make = format!(
            "rm -rf {DIRECTORY} && for n in $(seq {PER_MACHINE}); do mkdir -p -m 0777 {DIRECTORY} && mkdir -m 0777 {DIRECTORY}/$n; done"
        );
        site.docker(&["exec", &machine, "sh", "-c", &make])?;
        objects.extend((1..=PER_MACHINE).map(|n| volume(&machine, n)));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    site.kubectl_with(&["apply", "-f", "-"], &list.to_string())?;
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

fn volume(machine: &str, n: u32) -> Value {
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [machine]});
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": format!("bench-{machine}-{n}"), "labels": {"raftkv.dev/bench": "volume"}},
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

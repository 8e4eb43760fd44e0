//! The machines of our own kind cluster: containers that a scenario stops, starts and drains. Whatever a scenario did
//! to one is undone when its guard is dropped, also when the scenario failed.

use crate::harness::api::Kind;
use crate::harness::objects::{items, text};
use crate::harness::scene::Scene;
use crate::harness::shell::Output;
use crate::harness::site::Site;
use crate::harness::wait::holds;
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// Longer than any drain that a scenario may wait for.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// A worker, and its container of the same name. It is put right when this is dropped.
pub struct Machine<'a> {
    scene: &'a Scene<'a>,
    /// Its name.
    pub name: String,
}

impl<'a> Machine<'a> {
    /// The machine of this name.
    pub fn named(scene: &'a Scene<'a>, name: &str) -> Machine<'a> {
        Machine { scene, name: name.to_string() }
    }

    /// `docker stop`.
    pub fn stop(&self) -> Result<()> {
        self.scene.say(format!("docker stop {}", self.name));
        self.scene.site.docker(&["stop", "--time", "2", &self.name])?;
        Ok(())
    }

    /// `docker start`.
    pub fn start(&self) -> Result<()> {
        self.scene.say(format!("docker start {}", self.name));
        self.scene.site.docker(&["start", &self.name])?;
        Ok(())
    }

    /// Waits until its kubelet says that it is ready.
    pub fn wait_ready(&self) -> Result<()> {
        self.scene.wait(&format!("machine {} to be ready", self.name), || {
            let node: Value = self.scene.object(Kind::Node, &self.name)?;
            holds(is_ready(&node), || "its Node is not Ready".to_string())
        })
    }

    /// Deletes its Node object, as if the machine were gone for good.
    pub fn delete_node(&self) -> Result<()> {
        self.scene.say(format!("kubectl delete node {}", self.name));
        self.scene.site.kubectl(&["delete", "node", &self.name])?;
        Ok(())
    }

    /// `kubectl drain`, which may be refused.
    pub fn drain(&self, timeout_s: u32) -> Result<Output> {
        self.scene.say(format!("kubectl drain {}", self.name));
        let timeout = format!("--timeout={timeout_s}s");
        let selector = "--pod-selector=raftkv.dev/cluster";
        let args = ["drain", &self.name, "--ignore-daemonsets", "--delete-emptydir-data", selector, &timeout];
        self.scene.site.slow_kubectl(&args, DRAIN_MAX)
    }

    /// `kubectl cordon`.
    pub fn cordon(&self) -> Result<()> {
        self.scene.say(format!("kubectl cordon {}", self.name));
        self.scene.site.kubectl(&["cordon", &self.name])?;
        Ok(())
    }

    /// `kubectl uncordon`.
    pub fn uncordon(&self) -> Result<()> {
        self.scene.say(format!("kubectl uncordon {}", self.name));
        self.scene.site.kubectl(&["uncordon", &self.name])?;
        Ok(())
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Both do nothing to a machine that is as it should be. If they fail, the next scenario's check of the machines
        // fails.
        drop(self.scene.site.docker(&["start", &self.name]));
        drop(self.scene.site.try_kubectl(&["uncordon", &self.name], None));
    }
}

/// Names of the machines on which pods may be scheduled.
pub fn workers(site: &Site) -> Result<Vec<String>> {
    named(site, None, |node| {
        let taints = node["spec"]["taints"].as_array();
        !taints.is_some_and(|taints| taints.iter().any(|taint| taint["effect"] != "PreferNoSchedule"))
    })
}

/// Names of all machines.
pub fn all(site: &Site) -> Result<Vec<String>> {
    named(site, None, |_| true)
}

/// The name of the machine whose API server is used.
pub fn control_plane(site: &Site) -> Result<String> {
    named(site, Some(CONTROL_PLANE), |_| true)?.pop().context("there is no control plane among the nodes")
}

fn named(site: &Site, label: Option<&str>, wanted: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
    let nodes = items(&site.api().list(Kind::Node, "", label)?, Value::clone);
    Ok(nodes.iter().filter(|node| wanted(node)).map(|node| text(&node["metadata"]["name"])).collect())
}

/// Whether every machine is ready and takes pods; the error names one that does not.
pub fn all_well(site: &Site) -> Result<()> {
    let nodes = site.api().list(Kind::Node, "", None)?;
    for node in nodes["items"].as_array().into_iter().flatten() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let labels = &node["metadata"]["labels"];
        let tainted = node["spec"]["taints"].is_array() && !labels[CONTROL_PLANE].is_string();
        holds(is_ready(node) && !tainted, || format!("machine {name} is not ready, or takes no pods"))?;
    }
    Ok(())
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

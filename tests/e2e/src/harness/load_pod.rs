//! The load as a pod beside a cluster. It is read and ended through the API server's proxy, which needs no route from
//! here to the pods.

use crate::harness::cluster::Cluster;
use crate::harness::scene::Scene;
use crate::harness::site::Site;
use crate::harness::wait::holds;
use crate::load::report::Report;
use anyhow::{Context, Result, ensure};
use raftkv_crds::child;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest time without service in a step that hands leadership over first. Most take a quarter of a second, with
/// other scenarios beside them; an election takes more than this.
pub const PLANNED: Duration = Duration::from_secs(2);
/// The longest time without service when a leader ends, or its disk hangs.
pub const LEADER_LOST: Duration = Duration::from_secs(5);

/// The port of its report.
const PORT: u16 = 8080;

/// This many more writes prove that the cluster serves.
const SOME_MORE: u64 = 20;
/// The names of its pods begin with this.
pub const PREFIX: &str = "load-";

/// A load that was started.
pub struct LoadPod<'a> {
    scene: &'a Scene<'a>,
    cluster: String,
    pod: String,
}

impl<'a> LoadPod<'a> {
    /// Starts the load; it waits for the cluster, if that does not exist yet.
    pub fn start(cluster: &Cluster<'a>) -> Result<LoadPod<'a>> {
        let scene = cluster.scene;
        let load = LoadPod { scene, cluster: cluster.name.clone(), pod: format!("{PREFIX}{}", cluster.name) };
        let endpoint = scene.client_url(&cluster.name);
        let mut spec = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "load",
                "image": scene.site.image("raftkv-e2e", "dev"),
                "imagePullPolicy": "IfNotPresent",
                "args": ["--endpoint", endpoint],
                "ports": [{"containerPort": PORT}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        });
        if scene.site.is_ours() {
            // This is the one machine that no scenario disturbs.
            spec["nodeSelector"] = json!({"node-role.kubernetes.io/control-plane": ""});
            spec["tolerations"] = json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]);
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": load.pod}, "spec": spec});
        scene.kubectl_with(&["create", "-f", "-"], &pod.to_string())?;
        Ok(load)
    }

    /// The load's report.
    pub fn report(&self) -> Result<Report> {
        read(&raw_report(self.scene.site, &self.scene.namespace, &self.pod)?)
    }

    /// Waits until the load has written and read.
    pub fn wait_writing(&self) -> Result<()> {
        self.wait_for_some_more()
    }

    /// Waits until more writes are acknowledged, so that the cluster serves.
    pub fn wait_for_some_more(&self) -> Result<()> {
        let mut before = None;
        self.scene.wait("the load to write", || {
            let report = self.report()?;
            let last = report.last_error.as_deref().unwrap_or("no failure so far");
            let done = report.acked >= *before.get_or_insert(report.acked) + SOME_MORE && report.reads > 0;
            holds(done, || format!("{} writes, {} reads; last failure: {last}", report.acked, report.reads))
        })
    }

    /// Measures gaps from here on only.
    pub fn mark(&self) -> Result<()> {
        self.post("mark", &json!({})).map(drop)
    }

    /// Prints how long writers and readers were without service since the mark, which must not have been longer than this.
    pub fn check_gap(&self, during: &str, most: Duration) -> Result<()> {
        let longest = self.check_write_gap(during, most)?;
        ensure!(longest <= most, "{during}: {longest:?} without a read, at most {most:?} are allowed");
        Ok(())
    }

    /// The same of writers alone. Returns the longest time without a read.
    pub fn check_write_gap(&self, during: &str, most: Duration) -> Result<Duration> {
        let report = self.report()?;
        let (writes, reads) = (report.longest_write_gap_ms, report.longest_read_gap_ms);
        self.scene.say(format!("{during}: longest time without a write {writes} ms, without a read {reads} ms"));
        let without = Duration::from_millis(writes);
        ensure!(without <= most, "{during}: {without:?} without a write, at most {most:?} are allowed");
        Ok(Duration::from_millis(reads))
    }

    /// Stops the load, lets it read everything back through the Service and from each of this many pods, and returns
    /// its last report.
    pub fn stop(&self, pods: u32) -> Result<Report> {
        let peers = child::peers(&self.cluster);
        let url = |ordinal| self.scene.client_url(&format!("{}.{peers}", child::pod(&self.cluster, ordinal)));
        let also: Vec<String> = (0..pods).map(url).collect();
        self.post("stop", &json!(also))?;
        self.scene.wait("the load to read everything back", || {
            let report = self.report()?;
            holds(report.stopped, || format!("it has not stopped; last failure: {:?}", report.last_error))?;
            Ok(report)
        })
    }

    fn post(&self, what: &str, body: &Value) -> Result<Report> {
        read(&self.scene.site.api().raw(&self.url(what), Some(body))?)
    }

    fn url(&self, what: &str) -> String {
        path(&self.scene.namespace, &self.pod, what)
    }
}

/// The report of the load in this pod, as it sends it.
pub fn raw_report(site: &Site, namespace: &str, pod: &str) -> Result<String> {
    site.api().raw(&path(namespace, pod, "report"), None)
}

fn path(namespace: &str, pod: &str, what: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy/{what}")
}

fn read(text: &str) -> Result<Report> {
    serde_json::from_str(text).context("the load's report")
}

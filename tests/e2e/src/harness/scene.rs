//! The place where one scenario runs: its own namespaces, a clock, and the only way to wait.

use crate::harness::progress::Progress;
use crate::harness::{Cluster, Kind, Site, failure, wait};
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longer than any single step takes on a busy machine of two cores.
pub const STEP_MAX: Duration = Duration::from_secs(60);
/// A line about a wait is printed at most this often.
const TELL_EVERY: Duration = Duration::from_secs(4);
/// The label on namespaces that says which scenario made them.
const SCENARIO_LABEL: &str = "raftkv.dev/e2e";
/// The DNS domain of the Kubernetes cluster, as the chart assumes it too.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Time limit for deleting what an earlier run left.
const CLEAN_MAX: Duration = Duration::from_secs(90);
/// The same for all scenarios.
const CLEAN_ALL_MAX: Duration = Duration::from_secs(120);

/// A namespace that enforces restricted Pod Security, with the actions in it.
pub struct Scene<'a> {
    /// The Kubernetes cluster.
    pub site: &'a Site,
    /// The namespace.
    pub namespace: String,
    progress: &'a Progress,
    name: String,
    deadline: Instant,
}

impl<'a> Scene<'a> {
    /// Opens a scene without what an earlier run left; it ends at the deadline, whatever is being waited for.
    pub fn open(site: &'a Site, progress: &'a Progress, name: &str, deadline: Instant) -> Result<Scene<'a>> {
        let scene = Scene { site, namespace: format!("e2e-{name}"), progress, name: name.to_string(), deadline };
        let selector = format!("{SCENARIO_LABEL}={name}");
        let clean = ["delete", "namespace", "--selector", &selector, "--timeout=80s"];
        site.slow_kubectl(&clean, CLEAN_MAX)?.expect_success().context("deleting what an earlier run left")?;
        scene.make_namespace()?;
        Ok(scene)
    }

    /// Deletes what earlier runs of any scenario left, and waits for it.
    pub fn clear_all(site: &Site) -> Result<()> {
        let clean = ["delete", "namespace", "--selector", SCENARIO_LABEL, "--timeout=110s"];
        site.slow_kubectl(&clean, CLEAN_ALL_MAX)?.expect_success().context("deleting what earlier runs left")?;
        Ok(())
    }

    /// Makes another namespace for this scenario.
    pub fn beside(&self) -> Result<Scene<'a>> {
        let namespace = format!("{}-2", self.namespace);
        let scene = Scene { namespace, name: self.name.clone(), ..*self };
        scene.make_namespace()?;
        Ok(scene)
    }

    /// A namespace that exists already, and stays.
    pub fn elsewhere(&self, namespace: &str) -> Scene<'a> {
        Scene { namespace: namespace.to_string(), name: self.name.clone(), ..*self }
    }

    fn make_namespace(&self) -> Result<()> {
        let labels = json!({
            "pod-security.kubernetes.io/enforce": "restricted",
            SCENARIO_LABEL: self.name,
        });
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}});
        self.site.kubectl_with(&["create", "-f", "-"], &namespace.to_string())?;
        Ok(())
    }

    /// Deletes the namespaces, without waiting for it.
    pub fn close(&self) -> Result<()> {
        let selector = format!("{SCENARIO_LABEL}={}", self.name);
        self.site.kubectl(&["delete", "namespace", "--selector", &selector, "--wait=false"])?;
        Ok(())
    }

    /// The namespaces of this scenario.
    pub fn namespaces(site: &Site, name: &str) -> Result<Vec<String>> {
        let selector = format!("{SCENARIO_LABEL}={name}");
        let names = site.kubectl(&["get", "namespace", "--selector", &selector, "-o", "name"])?;
        Ok(names.lines().filter_map(|line| line.strip_prefix("namespace/")).map(String::from).collect())
    }

    /// The client URL of a Service in this namespace, or of a pod behind one. It ends with a dot, so that DNS is asked
    /// for this name only: without the dot, while a Service does not exist, other names would be asked for in the
    /// outside world, where anybody may answer.
    pub fn client_url(&self, host: &str) -> String {
        format!("http://{host}.{}.svc.{CLUSTER_DOMAIN}.:2379", self.namespace)
    }

    /// Prints a line of progress.
    pub fn say(&self, text: impl AsRef<str>) {
        self.progress.say(&self.name, text.as_ref());
    }

    /// Adds a latency to the table at the end.
    pub fn measured(&self, what: &'static str, since: Instant) {
        self.progress.measured(&self.name, what, since.elapsed());
    }

    /// Asks until the answer is `Ok`, for at most as long as a step may take.
    pub fn wait<T>(&self, what: &str, ask: impl FnMut() -> Result<T>) -> Result<T> {
        self.wait_for(STEP_MAX, what, ask)
    }

    /// Asks until the answer is `Ok`; prints what it waits for, and why it still does.
    pub fn wait_for<T>(&self, limit: Duration, what: &str, ask: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = self.deadline.min(Instant::now() + limit);
        let mut told_at = Instant::now();
        let mut told = String::new();
        let mut tell = |error: &anyhow::Error| {
            let now = format!("waiting for {what} ({error})");
            if told_at.elapsed() >= TELL_EVERY && now != told {
                self.say(&now);
                (told_at, told) = (Instant::now(), now);
            }
        };
        wait::until(deadline, what, &mut tell, ask).inspect_err(|error| {
            if let Err(why) = failure::keep(self.site, &self.name, error) {
                self.say(format!("not everything could be kept: {why:#}"));
            }
        })
    }

    /// Checks that `ask` stays `Ok` for this long: for things that must *not* happen.
    pub fn stays(&self, long: Duration, what: &str, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
        let until = Instant::now() + long;
        self.wait_for(long + STEP_MAX, what, || {
            ask().map_err(|error| wait::Never(format!("{error:#}")))?;
            wait::holds(Instant::now() >= until, || "so far it does".to_string())
        })
    }

    /// The `RaftKvCluster` of this name; it need not exist yet.
    pub fn cluster(&self, name: &str) -> Cluster<'_> {
        Cluster::new(self, name)
    }

    /// An object in the namespace.
    pub fn object<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<T> {
        self.site.api().get(kind, &self.namespace, name)
    }

    /// The objects in the namespace, or only those with this label.
    pub fn list(&self, kind: Kind, label: Option<&str>) -> Result<Value> {
        self.site.api().list(kind, &self.namespace, label)
    }

    /// Runs kubectl in the namespace.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.site.kubectl(&[&["-n", &self.namespace], args].concat())
    }

    /// Runs kubectl in the namespace, with text on its standard input.
    pub fn kubectl_with(&self, args: &[&str], stdin: &str) -> Result<String> {
        self.site.kubectl_with(&[&["-n", &self.namespace], args].concat(), stdin)
    }

    /// Runs `kubectl raftkv` in the namespace.
    pub fn plugin(&self, args: &[&str]) -> Result<String> {
        self.site.plugin(&self.namespace, args)?.expect_success()
    }
}

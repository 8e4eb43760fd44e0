//! The operator under test, installed from the chart by helm, as a user would install it.

use crate::harness::api::Kind;
use crate::harness::objects::{Pod, items};
use crate::harness::shell::Output;
use crate::harness::site::Site;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Its namespace.
pub const NAMESPACE: &str = "raftkv-system";
/// Its release, and with it the name of its Deployment.
pub const RELEASE: &str = "raftkv-operator";
/// The Lease of an operator of all namespaces.
const LEASE: &str = "raftkv-operator";
/// Makes the operator exit after its n-th action (rule O17).
const EXIT_AFTER: &str = "RAFTKV_OPERATOR_EXIT_AFTER";
/// The place of the status schema in a CRD.
const STATUS_SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
/// Time limit of a Deployment's rollout.
const ROLLOUT_MAX: Duration = Duration::from_secs(90);

/// The service account of the operator that all scenarios share, as `namespace:name`.
pub fn account() -> String {
    format!("{NAMESPACE}:{RELEASE}")
}

/// A release of the chart.
pub struct Operator<'a> {
    site: &'a Site,
    release: &'a str,
    namespace: &'a str,
}

impl<'a> Operator<'a> {
    /// The operator that all scenarios share.
    pub fn of(site: &'a Site) -> Operator<'a> {
        Operator { site, release: RELEASE, namespace: NAMESPACE }
    }

    /// Another release.
    pub fn named(site: &'a Site, release: &'a str, namespace: &'a str) -> Operator<'a> {
        Operator { site, release, namespace }
    }

    /// Installs it, or brings an installed one to this state, whoever owned the CRD before.
    pub fn install(&self) -> Result<()> {
        self.helm_install(&self.chart()?, &["--take-ownership"])?.expect_success()?;
        Ok(())
    }

    /// `helm upgrade --install --wait` of a chart, with additional arguments.
    pub fn helm_install(&self, chart: &str, more: &[&str]) -> Result<Output> {
        self.helm_begin(chart, &[&["--wait", "--timeout", "90s"], more].concat())
    }

    /// The same, without waiting for anything.
    pub fn helm_begin(&self, chart: &str, more: &[&str]) -> Result<Output> {
        let images = [("image", "raftkv-operator"), ("nodeImage", "raftkv")].map(|(value, image)| {
            let repository = self.site.image_repository(image);
            format!("{value}.repository={repository},{value}.tag=dev,{value}.pullPolicy=IfNotPresent")
        });
        // The image behind a tag may be a newer one, so each run makes a new pod.
        let run = format!("podAnnotations.e2e-run={}", run_id());
        let mut args = vec!["upgrade", "--install", self.release, chart, "-n", self.namespace, "--create-namespace"];
        args.extend(["-f", "tests/e2e/operator-values.yaml", "--set", &images[0], "--set", &images[1]]);
        args.extend(["--set-string", &run]);
        if !self.site.is_ours() {
            args.extend(["--set", "nodeSelector=null"]);
        }
        args.extend(more);
        self.site.helm(&args)
    }

    /// The chart of this repository.
    pub fn chart(&self) -> Result<String> {
        path_text(&self.site.repo().join("charts/raftkv-operator"))
    }

    /// Runs `helm test` and returns its output.
    pub fn helm_test(&self) -> Result<String> {
        self.site.helm(&["test", self.release, "-n", self.namespace, "--timeout", "60s"])?.expect_success()
    }

    /// `helm uninstall`.
    pub fn uninstall(&self) -> Result<()> {
        self.site
            .helm(&["uninstall", self.release, "-n", self.namespace, "--wait", "--timeout", "60s"])?
            .expect_success()?;
        Ok(())
    }

    /// Deletes its Lease, which no chart made and which stays: the next process makes it again, as in a new cluster.
    pub fn forget_lease(&self) -> Result<()> {
        self.kubectl(&["delete", "lease", LEASE, "--ignore-not-found"])?;
        Ok(())
    }

    /// Makes its processes exit after each `n`-th action; `None` ends this.
    pub fn exit_after(&self, n: Option<u32>) -> Result<()> {
        let setting = n.map_or(format!("{EXIT_AFTER}-"), |n| format!("{EXIT_AFTER}={n}"));
        self.kubectl(&["set", "env", &self.deployment(), &setting])?;
        let rollout = ["-n", self.namespace, "rollout", "status", &self.deployment(), "--timeout=80s"];
        self.site.slow_kubectl(&rollout, ROLLOUT_MAX)?.expect_success()?;
        Ok(())
    }

    /// How often its container was started again, over all its pods that stay: the count of a pod that goes is lost.
    pub fn restarts(&self) -> Result<u64> {
        Ok(self.seen_pods()?.iter().filter(|pod| !pod.terminating).map(|pod| pod.restarts).sum())
    }

    /// Its pods, and whether each is ready.
    pub fn readiness(&self) -> Result<BTreeMap<String, bool>> {
        Ok(self.seen_pods()?.into_iter().map(|pod| (pod.name, pod.ready)).collect())
    }

    fn seen_pods(&self) -> Result<Vec<Pod>> {
        let label = format!("app.kubernetes.io/instance={}", self.release);
        Ok(items(&self.site.api().list(Kind::Pod, self.namespace, Some(&label))?, Pod::read))
    }

    /// The names of its pods.
    pub fn pods(&self) -> Result<Vec<String>> {
        let names = self.kubectl(&["get", "pods", "--selector", &self.selector(), "-o", "name"])?;
        Ok(names.lines().map(String::from).collect())
    }

    /// The last lines of its log.
    pub fn log(&self, lines: u32) -> Result<String> {
        let (selector, tail) = (self.selector(), format!("--tail={lines}"));
        self.kubectl(&["logs", "--selector", &selector, "--prefix", "--timestamps", &tail])
    }

    /// The last lines of the logs of the processes before the current ones.
    pub fn log_before_restart(&self, lines: u32) -> Result<String> {
        let tail = format!("--tail={lines}");
        let log = |pod: &String| self.kubectl(&["logs", pod, "--previous", "--timestamps", &tail]);
        self.pods()?.iter().map(log).collect()
    }

    fn deployment(&self) -> String {
        let name = if self.release.contains(RELEASE) {
            self.release.to_string()
        } else {
            format!("{}-{RELEASE}", self.release)
        };
        format!("deployment/{name}")
    }

    fn selector(&self) -> String {
        format!("app.kubernetes.io/instance={},app.kubernetes.io/component=operator", self.release)
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.site.kubectl(&[&["-n", self.namespace], args].concat())
    }
}

/// A copy of the chart whose CRD has another description of `spec.replicas`, as a later release would bring.
pub fn next_chart(site: &Site, description: &str) -> Result<String> {
    chart_with(site, "next-chart", |text| {
        let now = "How many members the cluster has.";
        ensure!(text.contains(now), "the CRD does not say '{now}'");
        Ok(text.replace(now, description))
    })
}

/// A copy of the chart whose CRD lacks a field of the status, as an earlier release would have left it.
pub fn older_chart(site: &Site, field: &str) -> Result<String> {
    chart_with(site, "older-chart", |_text| {
        let mut crd = serde_json::to_value(raftkv_crds::crd())?;
        let fields = crd.pointer_mut(&format!("{STATUS_SCHEMA}/properties")).and_then(Value::as_object_mut);
        let field_was = fields.context("the CRD has no status")?.remove(field);
        ensure!(field_was.is_some(), "the status has no field {field}");
        // JSON is YAML.
        Ok(crd.to_string())
    })
}

/// A copy of the chart, below `target/e2e`, with a CRD that `crd` makes from the present one.
fn chart_with(site: &Site, name: &str, crd: impl FnOnce(&str) -> Result<String>) -> Result<String> {
    let (from, to) = (site.repo().join("charts/raftkv-operator"), site.repo().join("target/e2e").join(name));
    if to.exists() {
        std::fs::remove_dir_all(&to)?;
    }
    let copy = format!("mkdir -p '{}' && cp -RL '{}/.' '{}'", to.display(), from.display(), to.display());
    site.shell(&copy, Duration::from_secs(20))?.expect_success()?;
    let file = to.join("files/raftkvcluster.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    std::fs::write(&file, crd(&text)?)?;
    path_text(&to)
}

fn path_text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is not UTF-8")?.to_string())
}

fn run_id() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

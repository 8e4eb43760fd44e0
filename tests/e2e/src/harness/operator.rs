//! The operator under test, installed from the chart by helm as a user would.

use crate::harness::api::Kind;
use crate::harness::shell::Output;
use crate::harness::site::Site;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Its namespace.
pub const NAMESPACE: &str = "raftkv-system";
/// Its release, and with it the name of its Deployment.
pub const RELEASE: &str = "raftkv-operator";
/// Makes the operator exit after its n-th action (rule O17).
const EXIT_AFTER: &str = "RAFTKV_OPERATOR_EXIT_AFTER";
/// A Deployment's rollout.
const ROLLOUT_MAX: Duration = Duration::from_secs(90);

/// A release of the chart.
pub struct Operator<'a> {
    site: &'a Site,
    release: &'a str,
    namespace: &'a str,
}

impl<'a> Operator<'a> {
    /// The one that all scenarios share.
    pub fn of(site: &'a Site) -> Operator<'a> {
        Operator { site, release: RELEASE, namespace: NAMESPACE }
    }

    /// Another release.
    pub fn named(site: &'a Site, release: &'a str, namespace: &'a str) -> Operator<'a> {
        Operator { site, release, namespace }
    }

    /// Installs it, or brings what is installed to this state; whoever owned the CRD before.
    pub fn install(&self) -> Result<()> {
        self.helm_install(&self.chart()?, &["--take-ownership"])?.expect_success()?;
        Ok(())
    }

    /// `helm upgrade --install --wait` of a chart, with further arguments.
    pub fn helm_install(&self, chart: &str, more: &[&str]) -> Result<Output> {
        let images = [("image", "raftkv-operator"), ("nodeImage", "raftkv")].map(|(value, image)| {
            let repository = self.site.image_repository(image);
            format!("{value}.repository={repository},{value}.tag=dev,{value}.pullPolicy=IfNotPresent")
        });
        // The image behind a tag may be a newer one: the pod is made anew in each run.
        let run = format!("podAnnotations.e2e-run={}", run_id());
        let mut args = vec!["upgrade", "--install", self.release, chart, "-n", self.namespace, "--create-namespace"];
        args.extend(["-f", "tests/e2e/operator-values.yaml", "--set", &images[0], "--set", &images[1]]);
        args.extend(["--set-string", &run, "--wait", "--timeout", "90s"]);
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

    /// `helm uninstall`.
    pub fn uninstall(&self) -> Result<()> {
        self.site
            .helm(&["uninstall", self.release, "-n", self.namespace, "--wait", "--timeout", "60s"])?
            .expect_success()?;
        Ok(())
    }

    /// Its processes exit after each `n`-th action, or, with `None`, no more.
    pub fn exit_after(&self, n: Option<u32>) -> Result<()> {
        let setting = n.map_or(format!("{EXIT_AFTER}-"), |n| format!("{EXIT_AFTER}={n}"));
        self.kubectl(&["set", "env", &self.deployment(), &setting])?;
        let rollout = ["-n", self.namespace, "rollout", "status", &self.deployment(), "--timeout=80s"];
        self.site.slow_kubectl(&rollout, ROLLOUT_MAX)?.expect_success()?;
        Ok(())
    }

    /// How often its container was started again, over all its pods.
    pub fn restarts(&self) -> Result<u64> {
        let label = format!("app.kubernetes.io/instance={}", self.release);
        let pods = self.site.api().list(Kind::Pod, self.namespace, Some(&label))?;
        let counts = pods["items"].as_array().into_iter().flatten();
        Ok(counts.filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64()).sum())
    }

    /// The names of its pods.
    pub fn pods(&self) -> Result<Vec<String>> {
        let names = self.kubectl(&["get", "pods", "--selector", &self.selector(), "-o", "name"])?;
        Ok(names.lines().map(String::from).collect())
    }

    /// The end of its log.
    pub fn log(&self, lines: u32) -> Result<String> {
        let (selector, tail) = (self.selector(), format!("--tail={lines}"));
        self.kubectl(&["logs", "--selector", &selector, "--prefix", "--timestamps", &tail])
    }

    /// The end of the logs of its processes before those that run.
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

/// A copy of the chart whose CRD has another description of `spec.replicas`: what a later release brings.
pub fn next_chart(site: &Site, description: &str) -> Result<String> {
    let (from, to) = (site.repo().join("charts/raftkv-operator"), site.repo().join("target/e2e/next-chart"));
    if to.exists() {
        std::fs::remove_dir_all(&to)?;
    }
    let copy = format!("mkdir -p '{}' && cp -RL '{}/.' '{}'", to.display(), from.display(), to.display());
    site.shell(&copy, Duration::from_secs(20))?.expect_success()?;
    let crd = to.join("files/raftkvcluster.yaml");
    let text = std::fs::read_to_string(&crd).with_context(|| format!("{}", crd.display()))?;
    let now = "How many members the cluster has.";
    ensure!(text.contains(now), "{} does not say '{now}'", crd.display());
    std::fs::write(&crd, text.replace(now, description))?;
    path_text(&to)
}

fn path_text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is not UTF-8")?.to_string())
}

fn run_id() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

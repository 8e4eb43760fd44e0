//! `make bench-operator`: measures how long the operator takes for what users ask, how long writers are without service
//! meanwhile, and what it costs while nobody asks anything. If etcd-io/etcd-operator is installed in the cluster, the
//! two take turns.
//!
//! ```text
//!   src/bin/bench.rs ── run ──┬── lifecycle    apply, scale, a lost volume: both operators, A B B A
//!                             ├── service      gaps of writers: moves, rolling updates, kill -9
//!                             └── cost         memory, CPU, API writes with ten idle clusters
//!            harness::volumes: made before, so that provisioning is not what is measured
//! ```

mod contender;
mod cost;
mod figures;
mod lifecycle;
mod service;

use crate::harness::progress::Progress;
use crate::harness::runner::only_run;
use crate::harness::{Operator, Scene, Site, volumes};
use anyhow::{Result, bail};
use clap::Parser;
use contender::{Contender, Etcd, Raftkv};
use figures::Figures;
use std::time::{Duration, Instant};

/// Time for the whole run; a run that hangs is itself a defect.
const RUN_MAX: Duration = Duration::from_secs(3_600);

/// A third of the volumes of ten clusters of three, and some more.
const VOLUMES_PER_MACHINE: usize = 14;
/// A namespace goes when its pods have gone.
const CLOSE_MAX: Duration = Duration::from_secs(110);

/// Measures the operator on the kind cluster of `make e2e-up`.
#[derive(Debug, Parser)]
#[command(name = "bench-operator", about)]
struct Flags {
    /// Rounds of apply, scale and lost volume; each is both operators, in turns
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Only these parts
    #[arg(long, value_delimiter = ',', default_values_t = ["lifecycle".to_string(), "service".into(), "cost".into()])]
    parts: Vec<String>,
}

/// What the parts of a run share.
struct Bench {
    site: Site,
    progress: Progress,
    deadline: Instant,
    contenders: Vec<Box<dyn Contender>>,
}

impl Bench {
    /// Opens a namespace without what the round before left. It demands no Pod Security of its pods, since that is not
    /// measured.
    fn open(&self, name: &str) -> Result<Scene<'_>> {
        let scene = Scene::open(&self.site, &self.progress, name, self.deadline)?;
        let relax = "pod-security.kubernetes.io/enforce=privileged";
        self.site.kubectl(&["label", "namespace", &scene.namespace, "--overwrite", relax])?;
        Ok(scene)
    }

    /// Replaces all volumes by new ones, since the round before is over.
    fn renew_volumes(&self) -> Result<()> {
        volumes::renew(&self.site, VOLUMES_PER_MACHINE)
    }

    /// Deletes the namespace and waits until it is gone: volumes are made again after it.
    fn close(&self, scene: &Scene<'_>) -> Result<()> {
        let gone = ["delete", "namespace", &scene.namespace, "--timeout=100s"];
        self.site.slow_kubectl(&gone, CLOSE_MAX)?.expect_success()?;
        Ok(())
    }
}

/// Runs everything, from the command line to the table.
///
/// # Errors
/// When the cluster is not ours, or does not do what is measured.
pub fn run() -> Result<()> {
    let flags = Flags::parse();
    let site = Site::find()?;
    if !site.is_ours() {
        bail!("the measurements look into the machines of our own kind cluster: unset E2E_KUBECONFIG");
    }
    let progress = Progress::start();
    let _only_run = only_run(&site, &progress)?;
    Operator::of(&site).install()?;
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(Raftkv)];
    match Etcd::find(&site)? {
        Some(etcd) => contenders.push(Box::new(etcd)),
        None => progress.say("bench", "etcd-operator is not in this cluster: docs/benchmarks.md says how to have both"),
    }
    let bench = Bench { site, progress, deadline: Instant::now() + RUN_MAX, contenders };
    let mut figures = Figures::default();
    for part in &flags.parts {
        match part.as_str() {
            "lifecycle" => lifecycle::measure(&bench, flags.rounds, &mut figures)?,
            "service" => service::measure(&bench, &mut figures)?,
            "cost" => cost::measure(&bench, &mut figures)?,
            other => bail!("there is no part '{other}': lifecycle, service, cost"),
        }
    }
    let titles: Vec<&str> = bench.contenders.iter().map(|contender| contender.title()).collect();
    println!("\n{}", figures.table(&titles));
    Ok(())
}

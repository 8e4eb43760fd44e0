//! Runs the scenarios: those that disturb nobody three at a time, then the others alone; in the end it checks what the
//! operator was allowed in all of them.

use crate::harness::machines;
use crate::harness::operator::Operator;
use crate::harness::progress::Progress;
use crate::harness::rights::Watch;
use crate::harness::scene::Scene;
use crate::harness::site::Site;
use crate::harness::{failure, volumes, wait};
use anyhow::{Context, Result, anyhow};
use clap::Parser;
use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Scenarios at the same time: as many as two cores can bear.
const AT_A_TIME: usize = 3;
/// A scenario that takes longer is a defect (rule O17).
pub const WANTED: Duration = Duration::from_secs(60);
/// A scenario that takes this much longer than wanted is ended as failed.
const GRACE: Duration = Duration::from_secs(120);
/// Disturbed machines come back within this time.
const MACHINES_MAX: Duration = Duration::from_secs(90);
/// More than all scenarios use, however unevenly: each volume is used once.
const VOLUMES_PER_MACHINE_MAX: usize = 75;
/// More than one scenario uses.
const VOLUMES_A_SCENARIO: usize = 10;
/// We must not stop machines of somebody else. Also, only our own cluster restarts a container within a second, which
/// killing the operator at every step needs.
const ONLY_OURS: &str = "skipped: it disturbs the cluster itself or counts on its settings, and this one is not ours";

/// The name of the table's line about the operator's rights.
const RIGHTS: &str = "rbac";
const NOT_ALL: &str =
    "skipped: it takes all scenarios, on our own cluster, to see that each right of the operator is needed";

/// Whom a scenario disturbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbs {
    /// Nobody outside its namespace.
    Nobody,
    /// The operator that all share: it runs alone.
    Operator,
    /// The Kubernetes cluster itself, or it counts on what only our own cluster does: it runs alone, and only there.
    Cluster,
}

/// A scenario.
pub struct Scenario {
    /// Its name, which is also part of its namespace's name.
    pub name: &'static str,
    /// One line that says what it shows.
    pub about: &'static str,
    /// Whom it disturbs.
    pub disturbs: Disturbs,
    /// Longest time that it should take.
    pub wanted: Duration,
    /// The function that plays it.
    pub run: fn(&Scene<'_>) -> Result<()>,
}

/// Scenarios on a real Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "e2e", about)]
struct Flags {
    /// Only scenarios with one of these in their names; a whole name stands for itself alone
    filters: Vec<String>,
    /// Print the scenarios, run none
    #[arg(long)]
    list: bool,
    /// What cargo passes to every test is taken and means nothing here
    #[arg(long, hide = true, alias = "show-output", alias = "quiet")]
    nocapture: bool,
}

/// The whole run, from the command line to the exit code.
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    let flags = Flags::parse();
    let chosen = choose(scenarios, &flags.filters);
    if flags.list {
        chosen.iter().for_each(|scenario| println!("{}: {}", scenario.name, scenario.about));
        println!("{} scenarios", chosen.len());
        return ExitCode::SUCCESS;
    }
    match run(&chosen, flags.filters.is_empty()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}\n0 passed, {} failed", chosen.len());
            ExitCode::FAILURE
        }
    }
}

fn choose<'a>(scenarios: &'a [Scenario], filters: &[String]) -> Vec<&'a Scenario> {
    let wanted = |scenario: &Scenario| {
        filters.is_empty()
            || filters.iter().any(|filter| match scenarios.iter().any(|other| other.name == filter) {
                true => scenario.name == filter,
                false => scenario.name.contains(filter.as_str()),
            })
    };
    scenarios.iter().filter(|scenario| wanted(scenario)).collect()
}

/// Runs the scenarios, and returns how many failed.
fn run(chosen: &[&Scenario], is_whole: bool) -> Result<usize> {
    if chosen.is_empty() {
        println!("0 passed, 0 failed");
        return Ok(0);
    }
    let progress = Progress::start();
    let site = Site::find()?;
    // This is held until the end of the process.
    let _only_run = only_run(&site, &progress)?;
    progress.say("setup", "helm upgrade --install raftkv-operator");
    Operator::of(&site).install()?;
    if site.is_ours() {
        progress.say("setup", "volumes on the machines, so that no scenario waits for a provisioner");
        Scene::clear_all(&site)?;
        volumes::renew(&site, VOLUMES_PER_MACHINE_MAX.min(chosen.len() * VOLUMES_A_SCENARIO))?;
    }
    // Only all scenarios together need every right, and only our own API server logs who asked for what.
    let rights = (is_whole && site.is_ours()).then(|| Watch::begin(&site));
    let run = Run { site, progress, results: Mutex::default(), sweeping: Mutex::default() };
    let (together, alone): (Vec<&Scenario>, Vec<&Scenario>) =
        chosen.iter().partition(|scenario| scenario.disturbs == Disturbs::Nobody);
    run.together(together);
    for scenario in alone {
        run.alone(scenario);
    }
    run.rights(rights);
    Ok(run.tell())
}

/// Holds a lock: two runs on one cluster would delete each other's namespaces and replace each other's operator.
pub(crate) fn only_run(site: &Site, progress: &Progress) -> Result<File> {
    let path = site.repo().join("target/e2e/scenarios.lock");
    let lock = File::create(&path).with_context(|| format!("{}", path.display()))?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        progress.say("setup", "waiting for another run of the scenarios to end");
        lock.lock()?;
    }
    Ok(lock)
}

struct Run {
    site: Site,
    progress: Progress,
    results: Mutex<Vec<Ended>>,
    /// Held while volumes are erased.
    sweeping: Mutex<()>,
}

struct Ended {
    name: &'static str,
    wanted: Duration,
    took: Duration,
    how: How,
}

enum How {
    Passed,
    Skipped,
    Failed(String),
}

impl Run {
    fn together(&self, scenarios: Vec<&Scenario>) {
        let queue = Mutex::new(scenarios.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    while let Some(scenario) = next() {
                        self.one(scenario)
                    }
                });
            }
        });
    }

    fn alone(&self, scenario: &Scenario) {
        if !self.site.is_ours() && scenario.disturbs == Disturbs::Cluster {
            self.progress.say(scenario.name, ONLY_OURS);
            return self.ended(scenario.name, scenario.wanted, Duration::ZERO, How::Skipped);
        }
        // What the scenario before did to machines must be over; a machine that stays away fails this scenario, which
        // says so.
        let deadline = Instant::now() + MACHINES_MAX;
        let mut tell = |error: &anyhow::Error| self.progress.say(scenario.name, &format!("not begun yet: {error}"));
        match wait::until(deadline, "machines", &mut tell, || machines::all_well(&self.site)) {
            Ok(()) => self.one(scenario),
            Err(error) => {
                let why = format!("FAILED {}: {error:#}", scenario.name);
                self.ended(scenario.name, scenario.wanted, Duration::ZERO, How::Failed(why));
            }
        }
    }

    fn one(&self, scenario: &Scenario) {
        let begun = Instant::now();
        self.progress.say(scenario.name, scenario.about);
        let deadline = begun + scenario.wanted + GRACE;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.play(scenario, deadline)));
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("it panicked; the message stands above")));
        let took = begun.elapsed();
        match outcome {
            Ok(()) => {
                self.progress.say(scenario.name, &format!("passed in {} s", took.as_secs()));
                self.ended(scenario.name, scenario.wanted, took, How::Passed);
            }
            Err(error) => {
                if let Err(why) = failure::keep(&self.site, scenario.name, &error) {
                    self.progress.say(scenario.name, &format!("not everything could be kept: {why:#}"));
                }
                self.progress.say(scenario.name, &failure::tell(&self.site, scenario.name, &error));
                self.let_go(scenario.name);
                self.ended(scenario.name, scenario.wanted, took, How::Failed(format!("{}: {error:#}", scenario.name)));
            }
        }
        self.sweep(scenario.name);
    }

    /// Erases volumes of namespaces that are gone. These go while the next scenario runs: the rest is erased after that
    /// one.
    fn sweep(&self, name: &str) {
        let Ok(_only) = self.sweeping.try_lock() else { return };
        if !self.site.is_ours() {
            return;
        }
        if let Err(error) = volumes::sweep(&self.site) {
            self.progress.say(name, &format!("volumes of scenarios that ended are not erased: {error:#}"));
        }
    }

    fn play(&self, scenario: &Scenario, deadline: Instant) -> Result<()> {
        failure::clear(&self.site, scenario.name)?;
        let scene = Scene::open(&self.site, &self.progress, scenario.name, deadline)?;
        (scenario.run)(&scene)?;
        scene.close()
    }

    /// Deletes the namespaces of a failed scenario, which take room that others need; `KEEP=1` keeps them for a look.
    fn let_go(&self, name: &str) {
        if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty()) {
            return;
        }
        for namespace in Scene::namespaces(&self.site, name).unwrap_or_default() {
            if let Err(error) = self.site.kubectl(&["delete", "namespace", &namespace, "--wait=false"]) {
                self.progress.say(name, &format!("{error:#}"));
            }
        }
    }

    /// Compares what the operator was granted with what it asked for, over the whole run (rule O20).
    fn rights(&self, watch: Option<Result<Watch>>) {
        let begun = Instant::now();
        let how = match watch.map(|watch| watch.and_then(|watch| watch.end(&self.site))) {
            None => {
                self.progress.say(RIGHTS, NOT_ALL);
                How::Skipped
            }
            Some(Ok(seen)) => {
                self.progress.say(RIGHTS, &format!("passed: {seen}"));
                How::Passed
            }
            Some(Err(error)) => How::Failed(format!("{RIGHTS}: {error:#}")),
        };
        self.ended(RIGHTS, WANTED, begun.elapsed(), how);
    }

    fn ended(&self, name: &'static str, wanted: Duration, took: Duration, how: How) {
        let ended = Ended { name, wanted, took, how };
        self.results.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }

    /// Prints the results of the run and returns how many scenarios failed.
    fn tell(&self) -> usize {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        println!("\nlatencies, as seen by kubectl");
        self.progress.latencies().iter().for_each(|line| println!("  {line}"));
        println!("durations");
        let (mut passed, mut failures) = (0, Vec::new());
        for ended in results.iter() {
            let slow = if ended.took > ended.wanted { "  slower than wanted" } else { "" };
            let how = match &ended.how {
                How::Passed => "passed",
                How::Skipped => "skipped",
                How::Failed(_) => "FAILED",
            };
            println!("  {:<34} {:>4} s  {how}{slow}", ended.name, ended.took.as_secs());
            match &ended.how {
                How::Passed => passed += 1,
                How::Skipped => {}
                How::Failed(why) => failures.push(why),
            }
        }
        failures.iter().for_each(|why| println!("failed: {why}"));
        println!("{passed} passed, {} failed", failures.len());
        failures.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str) -> Scenario {
        Scenario { name, about: "", disturbs: Disturbs::Nobody, wanted: WANTED, run: |_| Ok(()) }
    }

    #[test]
    fn a_whole_name_stands_for_itself_alone() {
        let all = [named("scale"), named("scale-again"), named("drain")];
        let names = |filters: &[&str]| -> Vec<&str> {
            let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
            choose(&all, &filters).iter().map(|scenario| scenario.name).collect()
        };
        assert_eq!(names(&[]), ["scale", "scale-again", "drain"]);
        assert_eq!(names(&["scale"]), ["scale"]);
        assert_eq!(names(&["scal"]), ["scale", "scale-again"]);
        assert_eq!(names(&["again", "dr"]), ["scale-again", "drain"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Flags as clap::CommandFactory>::command().debug_assert();
    }
}

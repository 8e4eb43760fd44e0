//! Runs seeds: one, or many on two threads, with a progress line and a report on each failure.

use crate::client::Calls;
use crate::counts::{Counts, Totals};
use crate::invariants::Violation;
use crate::net::NetCounts;
use crate::swarm::Fault;
use crate::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Done {
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// Steps made, with those of the end.
    pub steps: u64,
    /// What happened.
    pub counts: Counts,
    /// What clients were told.
    pub calls: Calls,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// The check that failed.
    pub invariant: &'static str,
    /// For people: what failed and where, the last lines, all nodes, and the command that shows it again.
    pub report: String,
}

/// Runs a seed to its end.
pub fn run(seed: u64, steps: u64, echo: bool) -> Result<Done, Failed> {
    let replay = format!("make sim SEED={seed}");
    let world = play(seed, echo, &replay, World::new, |world| Ok(world.now < steps))?;
    let mut counts = world.counts.clone();
    let NetCounts { lost, doubled, reordered } = world.net.counts;
    counts.add(Fault::LostFrame, lost);
    counts.add(Fault::DoubledFrame, doubled);
    counts.add(Fault::ReorderedFrame, reordered);
    Ok(Done { trace_hash: world.trace.hash(), steps: world.now, counts, calls: world.calls() })
}

/// Makes a world and runs it while `goes_on` says so, then to its end. `replay` is the command that shows the run
/// again.
pub fn play(
    seed: u64,
    echo: bool,
    replay: &str,
    make: impl FnOnce(u64) -> Result<World, Violation>,
    mut goes_on: impl FnMut(&mut World) -> Result<bool, Violation>,
) -> Result<World, Failed> {
    let mut world = match make(seed) {
        Ok(world) => world,
        Err(violation) => {
            let report = format!("seed {seed}: {violation:?}\nreplay: {replay}\n");
            return Err(Failed { seed, invariant: violation.invariant, report });
        }
    };
    world.trace.echo = echo;
    let result = catch_unwind(AssertUnwindSafe(|| {
        while goes_on(&mut world)? {
            world.step()?;
        }
        world.end()
    }));
    let violation = match result {
        Ok(Ok(())) => return Ok(world),
        Ok(Err(violation)) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
            Violation { invariant: "panic", what: what.unwrap_or_else(|| "without words".to_string()) }
        }
    };
    Err(Failed { seed, invariant: violation.invariant, report: report(&world, &violation, replay) })
}

fn report(world: &World, violation: &Violation, replay: &str) -> String {
    let mut text = String::new();
    for line in world.trace.tail() {
        text.push_str(&format!("    {line}\n"));
    }
    // The dump only reads, so it works after a panic of the code under test too.
    let dump = catch_unwind(AssertUnwindSafe(|| world.dump())).unwrap_or_default();
    format!(
        "{text}{dump}seed {} failed at step {}: invariant {}: {}\nreplay: {replay}\n",
        world.seed, world.now, violation.invariant, violation.what
    )
}

/// Up to this number of seeds the first failure ends everything; a longer run goes on and names more failures.
const SEEDS_OF_A_SHORT_RUN: usize = 500;
/// This many failures end a longer run.
const FAILURES_MAX: usize = 20;

/// Runs seeds on `threads` threads; the failure that it returns tells of all failures that were found.
pub fn run_all(seeds: &[u64], steps: u64, threads: usize) -> Result<(Totals, f64), Failed> {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    let failed: Mutex<Vec<Failed>> = Mutex::new(Vec::new());
    let failures_max = if seeds.len() > SEEDS_OF_A_SHORT_RUN { FAILURES_MAX } else { 1 };
    let seeds_a_line = (seeds.len() as u64 / 200).max(25);
    let lock = "no thread panics while it holds this";
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.lock().expect(lock).len() >= failures_max {
                        return;
                    }
                    match run(*seed, steps, false) {
                        Ok(done) => {
                            let mut totals = totals.lock().expect(lock);
                            totals.add(done.steps, &done.calls, &done.counts);
                            if totals.seeds.is_multiple_of(seeds_a_line) {
                                eprintln!("{}", progress(&totals, seeds.len(), started.elapsed().as_secs_f64()));
                            }
                        }
                        Err(one) => {
                            eprintln!("sim: {}", one.brief());
                            failed.lock().expect(lock).push(one);
                        }
                    }
                }
            });
        }
    });
    match Failed::all(failed.into_inner().expect(lock)) {
        Some(failed) => Err(failed),
        None => Ok((totals.into_inner().expect(lock), started.elapsed().as_secs_f64())),
    }
}

impl Failed {
    /// The last lines of the report: which seed failed, where, and how.
    fn brief(&self) -> &str {
        self.report.rfind("seed ").map_or(self.report.as_str(), |at| self.report[at..].trim_end())
    }

    /// The first failure, with a line for each of the others.
    fn all(failures: Vec<Failed>) -> Option<Failed> {
        let mut failures = failures.into_iter();
        let mut first = failures.next()?;
        for other in failures {
            first.report.push_str(&format!("and {}\n", other.brief()));
        }
        Some(first)
    }
}

fn progress(totals: &Totals, seeds: usize, seconds: f64) -> String {
    let (per_s, left) =
        (totals.steps as f64 / seconds, seconds / totals.seeds as f64 * (seeds as f64 - totals.seeds as f64));
    let (done, ops, faults) = (totals.seeds, totals.ops(), totals.faults());
    format!("sim: {done}/{seeds} seeds, {ops} operations, {faults} faults, {per_s:.0} steps/s, {left:.0} s to go")
}

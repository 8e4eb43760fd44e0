//! Runs seeds: one, or many on two threads, with a progress line, a closing table, and words for a failure.

use crate::client::Calls;
use crate::invariants::Violation;
use crate::swarm::Fault;
use crate::world::{Counts, World};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Done {
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// Steps made, the end included.
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
    /// For people: what, where, the last lines, all nodes, and how to see it again.
    pub report: String,
}

/// Runs a seed to its end.
pub fn run(seed: u64, steps: u64, echo: bool) -> Result<Done, Failed> {
    let world = play(seed, steps, echo, World::new)?;
    Ok(Done { trace_hash: world.trace.hash(), steps: world.now, counts: world.counts.clone(), calls: world.calls() })
}

/// Makes a world and runs it to its end.
pub fn play(
    seed: u64,
    steps: u64,
    echo: bool,
    make: impl FnOnce(u64) -> Result<World, Violation>,
) -> Result<World, Failed> {
    let mut world = match make(seed) {
        Ok(world) => world,
        Err(violation) => {
            let report = format!("seed {seed}: {violation:?}");
            return Err(Failed { seed, invariant: violation.invariant, report });
        }
    };
    world.trace.echo = echo;
    let result = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..steps {
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
    Err(Failed { seed, invariant: violation.invariant, report: report(&world, &violation) })
}

fn report(world: &World, violation: &Violation) -> String {
    let mut text = String::new();
    for line in world.trace.tail() {
        text.push_str(&format!("    {line}\n"));
    }
    // Panics of the code under test leave the world readable: the dump only reads.
    let dump = catch_unwind(AssertUnwindSafe(|| world.dump())).unwrap_or_default();
    format!(
        "{text}{dump}seed {} failed at step {}: invariant {}: {}\nreplay: make sim SEED={}\n",
        world.seed, world.now, violation.invariant, violation.what, world.seed
    )
}

/// Sums over many runs.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs that ended well.
    pub seeds: u64,
    /// Their steps.
    pub steps: u64,
    calls: Calls,
    counts: Counts,
}

impl Totals {
    fn add(&mut self, done: &Done) {
        let Done { trace_hash: _, steps, counts, calls } = done;
        self.seeds += 1;
        self.steps += steps;
        self.calls.written += calls.written;
        self.calls.read += calls.read;
        self.calls.none += calls.none;
        self.calls.unknown += calls.unknown;
        let Counts { faults, delivered, changes, cuts, copies, boots, elections, distrusted, gone } = counts;
        for (fault, count) in faults {
            *self.counts.faults.entry(*fault).or_default() += count;
        }
        self.counts.delivered += delivered;
        self.counts.changes += changes;
        self.counts.cuts += cuts;
        self.counts.copies += copies;
        self.counts.boots += boots;
        self.counts.elections += elections;
        self.counts.distrusted += distrusted;
        self.counts.gone += gone;
    }

    /// The closing table.
    pub fn table(&self, seconds: f64) -> String {
        let Counts { faults, delivered, changes, cuts, copies, boots, elections, distrusted, gone } = &self.counts;
        let Calls { written, read, none, unknown } = self.calls;
        let mut rows: BTreeMap<usize, (String, u64)> = BTreeMap::new();
        let mut row = |name: &str, count: u64| {
            rows.insert(rows.len(), (name.to_string(), count));
        };
        row("seeds", self.seeds);
        row("steps", self.steps);
        row("steps/s", (self.steps as f64 / seconds.max(0.001)) as u64);
        row("writes answered", written);
        row("reads answered", read);
        row("calls with outcome none", none);
        row("calls with outcome unknown", unknown);
        row("frames delivered", *delivered);
        row("leaders elected", *elections);
        row("membership changes", *changes);
        row("members gone", *gone);
        row("snapshots cut", *cuts);
        row("snapshots copied", *copies);
        row("processes started", *boots);
        row("kv databases set aside", *distrusted);
        for fault in Fault::ALL {
            row(&format!("fault {fault:?}"), faults.get(&fault).copied().unwrap_or(0));
        }
        let mut text = String::new();
        for (name, count) in rows.values() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<28} {count:>12}");
        }
        text
    }
}

/// Runs seeds on `threads` threads, until one fails.
pub fn run_all(seeds: &[u64], steps: u64, threads: usize) -> Result<(Totals, f64), Failed> {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    let failed: Mutex<Option<Failed>> = Mutex::new(None);
    let lock = "no thread panics while it holds this";
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.lock().expect(lock).is_some() {
                        return;
                    }
                    match run(*seed, steps, false) {
                        Ok(done) => {
                            let mut totals = totals.lock().expect(lock);
                            totals.add(&done);
                            if totals.seeds.is_multiple_of(25) {
                                let per_s = totals.steps as f64 / started.elapsed().as_secs_f64();
                                eprintln!("sim: {}/{} seeds, {per_s:.0} steps/s", totals.seeds, seeds.len());
                            }
                        }
                        Err(one) => *failed.lock().expect(lock) = Some(one),
                    }
                }
            });
        }
    });
    match failed.into_inner().expect(lock) {
        Some(failed) => Err(failed),
        None => Ok((totals.into_inner().expect(lock), started.elapsed().as_secs_f64())),
    }
}

//! Runs seeds: one, or many on two threads, with sums over all of them, and words for a failure.

use super::operator::{Alter, HONEST, Operator};
use super::rules::PLAN;
use raftkv_sim::invariants::{Check, Violation, broken};
use raftkv_sim::world::World;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Within this many steps a healed cluster must become what was wished.
const ENDING_STEPS_MAX: u64 = 150_000;
/// How many steps pass between two looks whether it has.
const LOOK_STEPS: u64 = 100;

/// The sums over the runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Passes of the operator.
    pub passes: u64,
    /// Membership changes that it asked for.
    pub changes: u64,
    /// How many of them gave a voter a successor.
    pub replaced: u64,
    /// Volume claims that it deleted.
    pub volumes: u64,
    /// Pods that it deleted.
    pub restarts: u64,
    /// Operators that ended in the middle of a pass.
    pub ended: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        let Totals { passes, changes, replaced, volumes, restarts, ended } = other;
        self.passes += passes;
        self.changes += changes;
        self.replaced += replaced;
        self.volumes += volumes;
        self.restarts += restarts;
        self.ended += ended;
    }
}

/// Runs a seed to its end. Returns what happened and a hash over it, or the report of a failure.
pub fn run(seed: u64, steps: u64, echo: bool, alter: Alter) -> Result<(Totals, u64), String> {
    let name = |number| format!("demo-{}", number - 1);
    let mut world = World::administered(seed, name).map_err(|violation| format!("seed {seed}: {violation:?}"))?;
    world.trace.echo = echo;
    let mut operator = Operator::new(seed, &world, alter);
    let violation = match catch_unwind(AssertUnwindSafe(|| life(&mut world, &mut operator, steps))) {
        Ok(Ok(())) => return Ok((operator.totals, world.trace.hash())),
        Ok(Err(violation)) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
            Violation { invariant: "panic", what: what.unwrap_or_else(|| "without words".to_string()) }
        }
    };
    Err(report(&world, &operator, &violation))
}

/// Makes faults and wishes, then peace, in which the cluster must become what was wished last.
fn life(world: &mut World, operator: &mut Operator, steps: u64) -> Check {
    for _ in 0..steps {
        world.step()?;
        operator.turn(world)?;
    }
    world.heal()?;
    operator.wake();
    let last = world.now + ENDING_STEPS_MAX;
    while let Some(lacks) = operator.lacks(world) {
        if world.now > last {
            return broken(PLAN, format!("it does not become what is wished for: {lacks}"));
        }
        for _ in 0..LOOK_STEPS {
            world.step()?;
            operator.turn(world)?;
        }
    }
    world.end()
}

fn report(world: &World, operator: &Operator, violation: &Violation) -> String {
    let (seed, now, Violation { invariant, what }) = (world.seed, world.now, violation);
    let trace: String = world.trace.tail().iter().map(|line| format!("    {line}\n")).collect();
    let dump = catch_unwind(AssertUnwindSafe(|| world.dump())).unwrap_or_default();
    format!(
        "{trace}{dump}{}seed {seed} failed at step {now}: invariant {invariant}: {what}\nreplay: RAFTKV_OPERATOR_SIM_SEED={seed} \
         cargo test -p raftkv-operator --test simulation one_seed -- --nocapture\n",
        operator.text()
    )
}

/// Runs seeds on two threads, until one fails.
pub fn run_all(seeds: Range<u64>, steps: u64) -> Result<Totals, String> {
    let next = AtomicU64::new(seeds.start);
    let sum: Mutex<Result<Totals, String>> = Mutex::new(Ok(Totals::default()));
    let take = || sum.lock().expect("no thread panics while it holds this");
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || take().is_err() {
                return;
            }
            let done = run(seed, steps, false, HONEST);
            let mut sum = take();
            match (done, &mut *sum) {
                (Ok((totals, _)), Ok(sum)) => sum.add(totals),
                (Err(report), sum @ Ok(_)) => *sum = Err(report),
                (_, Err(_)) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    take().clone()
}

//! Many seeds of the simulation, and the seeds that once failed.
//!
//! `RAFTKV_SIM_SEEDS` (500) and `RAFTKV_SIM_STEPS` (20 000) set how many seeds and steps are run,
//! `RAFTKV_SIM_FIRST_SEED` (1) sets the first seed; a failure prints the command that shows it again.

use raftkv_sim::counts::Totals;
use raftkv_sim::run::{Failed, run, run_all};
use std::io::Write as _;

/// Seeds of an ordinary test run: each class of faults happens in them.
const SEEDS: u64 = 500;
/// Steps of a run with faults.
const STEPS: u64 = 20_000;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

fn steps() -> u64 {
    setting("RAFTKV_SIM_STEPS", STEPS)
}

fn show(failed: &Failed) -> ! {
    panic!("\n{}", failed.report)
}

fn check_all(name: &str, seeds: &[u64]) -> Totals {
    let (totals, seconds) = run_all(seeds, steps(), 2).unwrap_or_else(|failed| show(&failed));
    // Not by a macro: the test harness hides what macros print.
    write!(std::io::stdout(), "\n{}", totals.table(name, seconds)).expect("standard output is there");
    totals
}

#[test]
fn many_seeds() {
    let first = setting("RAFTKV_SIM_FIRST_SEED", 1);
    let seeds: Vec<u64> = (first..first + setting("RAFTKV_SIM_SEEDS", SEEDS)).collect();
    let totals = check_all("sim", &seeds);
    let missing = totals.missing();
    let are_enough = totals.seeds >= SEEDS && steps() >= STEPS;
    assert!(!are_enough || missing.is_empty(), "a class of faults that never happens shows nothing: {missing:?}");
}

#[test]
fn seeds_that_failed_once() {
    let seeds: Vec<u64> =
        include_str!("../seeds.txt").lines().filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect();
    check_all("sim_seeds_that_failed", &seeds);
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 1..=20 {
        let hash = || run(seed, steps().min(5_000), false).unwrap_or_else(|failed| show(&failed)).trace_hash;
        assert_eq!(hash(), hash(), "seed {seed} gave two different runs");
    }
}

/// `RAFTKV_SIM_SEED=<n>` with `--nocapture` prints every step.
#[test]
fn one_seed() {
    let seed = setting("RAFTKV_SIM_SEED", 1);
    let echo = std::env::var("RAFTKV_SIM_SEED").is_ok();
    if let Err(failed) = run(seed, steps(), echo) {
        show(&failed);
    }
}

//! Each deliberate bug ([`raftkv_node::mutant`]) must be found: by the seeds that found it once, else by a test that was made
//! for its rule, else by the simulation. `make mutants` builds and runs this.
#![cfg(mutant)]

mod log_edges;
mod log_props;
mod two_to_one;

use raftkv_node::mutant::{Mutant, choose};
use raftkv_sim::run::{Failed, run, run_all};
use std::fmt::Write as _;
use std::panic::catch_unwind;

/// A run's steps, as in `make sim`.
const STEPS: u64 = 20_000;
/// A bug that so many further seeds do not show is not found.
const SEEDS_MAX: u64 = 500;
/// Seeds that are kept for each bug.
const SEEDS_KEPT: usize = 8;

#[test]
fn every_deliberate_bug_is_found() {
    // What seeds and tests say of a bug means something only if they pass without one.
    assert_eq!(by_tests(), None, "without a bug");
    (1..=20).for_each(|seed| assert!(run(seed, STEPS, false).is_ok(), "seed {seed} without a bug"));
    // What a bug breaks panics in many places: those are findings, told in one line each below.
    std::panic::set_hook(Box::new(|_| {}));
    if std::env::var_os("RAFTKV_MUTANT_SEEDS").is_some() {
        return list_the_first_seeds();
    }
    let (mut table, mut survivors) = (String::new(), Vec::new());
    for bug in Mutant::ALL.into_iter().filter(is_wanted) {
        choose(Some(bug));
        let found = by_known_seeds(bug).or_else(by_tests).or_else(by_new_seeds);
        choose(None);
        let line = match &found {
            Some(how) => format!("{:<24} found by {how}", format!("{bug:?}")),
            None => format!("{:<24} SURVIVED {SEEDS_MAX} seeds and all tests", format!("{bug:?}")),
        };
        eprintln!("mutants: {line}");
        writeln!(table, "{line}").expect("a string takes any text");
        if found.is_none() {
            survivors.push(bug);
        }
    }
    // The next panic is one of this test.
    drop(std::panic::take_hook());
    println!("\n{table}{} of {} deliberate bugs found", Mutant::ALL.len() - survivors.len(), Mutant::ALL.len());
    println!("TABLE mutants: bugs={} found={}", Mutant::ALL.len(), Mutant::ALL.len() - survivors.len());
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

/// `RAFTKV_MUTANT=<name>` asks for one bug only.
fn is_wanted(bug: &Mutant) -> bool {
    std::env::var("RAFTKV_MUTANT").map_or(true, |name| name == format!("{bug:?}"))
}

/// Prints `mutants.txt` anew, which takes minutes.
fn list_the_first_seeds() {
    for bug in Mutant::ALL.into_iter().filter(is_wanted) {
        choose(Some(bug));
        let finds = |seed: &u64| run(*seed, STEPS, false).is_err();
        let seeds: Vec<String> = (1..=SEEDS_MAX).filter(finds).take(SEEDS_KEPT).map(|seed| seed.to_string()).collect();
        println!("{bug:?}: {}", seeds.join(" "));
    }
    choose(None);
}

/// The seeds that found it once.
fn by_known_seeds(bug: Mutant) -> Option<String> {
    let known = include_str!("../mutants.txt").lines().find_map(|line| line.strip_prefix(&format!("{bug:?}:")));
    let known = known.unwrap_or_default().split_whitespace().filter_map(|seed| seed.parse().ok());
    known.enumerate().find_map(|(nth, seed)| Some(told(nth + 1, &run(seed, STEPS, false).err()?)))
}

/// Tests of what chance gets to rarely.
fn by_tests() -> Option<String> {
    let mut tests = log_edges::TESTS.into_iter().chain(log_props::TESTS).chain(two_to_one::TESTS);
    tests.find(|(_, test)| catch_unwind(test).is_err()).map(|(name, _)| format!("test {name}"))
}

fn by_new_seeds() -> Option<String> {
    let seeds: Vec<u64> = (1..=SEEDS_MAX).collect();
    let failed = run_all(&seeds, STEPS, 2).err()?;
    Some(told(failed.seed as usize, &failed))
}

fn told(seeds: usize, failed: &Failed) -> String {
    format!("{} after {seeds} seeds (seed {})", failed.invariant, failed.seed)
}

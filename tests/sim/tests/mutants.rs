//! Each deliberate bug ([`raftkv_core::mutant`]) must be found by its seeds in `mutants.txt`. `make mutants` builds and
//! runs this.
#![cfg(mutant)]

use raftkv_core::mutant::{Mutant, choose};
use raftkv_sim::mutants::{seeds_of, store_seeds_of, story_of};
use raftkv_sim::run::{Failed, run};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A run's steps, as in `make sim`.
const STEPS: u64 = 20_000;
/// This many seeds are searched for those that find a bug.
const SEEDS_MAX: u64 = 2_000;
/// This many seeds are kept for each bug.
const SEEDS_KEPT: usize = 8;

#[test]
fn every_deliberate_bug_is_found() {
    // A seed can prove a bug only if it passes without one.
    (1..=20).for_each(|seed| assert!(run(seed, STEPS, false).is_ok(), "seed {seed} without a bug"));
    let by_seeds = |bug: &Mutant| story_of(*bug).is_none() && store_seeds_of(*bug).is_none();
    let bugs: Vec<Mutant> = Mutant::ALL.into_iter().filter(is_wanted).filter(by_seeds).collect();
    assert!(!bugs.is_empty(), "RAFTKV_MUTANT is none of {:?}", Mutant::ALL);
    // A deliberate bug causes panics in many places: each is a finding, and is told in one line below.
    std::panic::set_hook(Box::new(|_| {}));
    if std::env::var_os("RAFTKV_MUTANT_SEEDS").is_some() {
        return list_the_first_seeds(&bugs);
    }
    let (mut table, mut survivors) = (String::new(), Vec::new());
    for bug in &bugs {
        let seeds = seeds_of(*bug);
        let found = finding(*bug, &seeds);
        let checks: BTreeSet<_> = found.iter().map(|failed| failed.invariant).collect();
        let first = found.first().and_then(|first| seeds.iter().position(|seed| *seed == first.seed));
        let (of, checks) = (seeds.len(), Vec::from_iter(checks).join(", "));
        let line = match first {
            Some(nth) => {
                format!("{:<24} found after {} by {} of {of} seeds: {checks}", format!("{bug:?}"), nth + 1, found.len())
            }
            None => format!("{:<24} SURVIVED {of} seeds", format!("{bug:?}")),
        };
        eprintln!("mutants: {line}");
        writeln!(table, "{line}").expect("a string takes any text");
        // A change of the code changes what a seed does, so a list that finds little is out of date.
        if found.is_empty() || found.len() * 2 < seeds.len() {
            survivors.push(bug);
        }
    }
    // The next panic is this test's own.
    drop(std::panic::take_hook());
    println!("\n{table}TABLE mutants: bugs={} found={}", bugs.len(), bugs.len() - survivors.len());
    assert!(
        survivors.is_empty(),
        "found by none, or fewer than half, of the seeds in tests/sim/mutants.txt: {survivors:?}; `make mutants LIST=1` lists \
         seeds anew: a bug with no seed there is one that nothing finds"
    );
}

/// Whether this bug is asked for: `RAFTKV_MUTANT=<name>` asks for one only.
fn is_wanted(bug: &Mutant) -> bool {
    std::env::var("RAFTKV_MUTANT").map_or(true, |name| name == format!("{bug:?}"))
}

/// Prints new lists for `mutants.txt`, which takes minutes.
fn list_the_first_seeds(bugs: &[Mutant]) {
    for bug in bugs {
        choose(Some(*bug));
        let finds = |seed: &u64| run(*seed, STEPS, false).is_err();
        let seeds: Vec<String> = (1..=SEEDS_MAX).filter(finds).take(SEEDS_KEPT).map(|seed| seed.to_string()).collect();
        println!("{bug:?}: {}", seeds.join(" "));
    }
    choose(None);
}

/// The failures of those seeds that find the bug.
fn finding(bug: Mutant, seeds: &[u64]) -> Vec<Failed> {
    choose(Some(bug));
    let found = seeds.iter().filter_map(|seed| run(*seed, STEPS, false).err()).collect();
    choose(None);
    found
}

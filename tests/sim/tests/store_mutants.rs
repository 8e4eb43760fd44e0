//! Each deliberate bug of the store must be found by its seeds in `mutants.txt`, whose lines say `store` for these. `make
//! mutants` builds and runs this.
#![cfg(mutant)]

use raftkv_core::mutant::{Mutant, choose};
use raftkv_sim::mutants::store_seeds_of;
use raftkv_sim::solo::everything;
use std::panic::catch_unwind;

/// This many seeds are searched for those that find a bug.
const SEEDS_MAX: u64 = 600;
/// This many seeds are kept for each bug.
const SEEDS_KEPT: usize = 8;

fn finds(bug: Mutant, seed: u64) -> bool {
    choose(Some(bug));
    let found = catch_unwind(|| everything(seed)).is_err();
    choose(None);
    found
}

#[test]
fn every_deliberate_bug_of_the_store_is_found() {
    // A seed can prove a bug only if it passes without one.
    (1..=20).for_each(everything);
    // A deliberate bug causes panics in many places: each is a finding.
    std::panic::set_hook(Box::new(|_| {}));
    let lists = std::env::var_os("RAFTKV_MUTANT_SEEDS").is_some();
    let mut survivors = Vec::new();
    let mut bugs = 0;
    for bug in Mutant::ALL {
        let Some(seeds) = store_seeds_of(bug) else { continue };
        bugs += 1;
        if lists {
            let seeds = (1..=SEEDS_MAX).filter(|seed| finds(bug, *seed)).take(SEEDS_KEPT);
            println!("{bug:?}: store {}", seeds.map(|seed| seed.to_string()).collect::<Vec<_>>().join(" "));
            continue;
        }
        let found = seeds.iter().filter(|seed| finds(bug, **seed)).count();
        println!("{:<24} found by {found} of {} seeds", format!("{bug:?}"), seeds.len());
        // A change of the code changes what a seed does, so a list that finds little is out of date.
        if found == 0 || found * 2 < seeds.len() {
            survivors.push(bug);
        }
    }
    drop(std::panic::take_hook());
    println!("TABLE store mutants: bugs={bugs} found={}", bugs - survivors.len());
    assert!(bugs > 0, "tests/sim/mutants.txt has no bugs of the store");
    assert!(survivors.is_empty(), "found by none, or fewer than half, of their seeds: {survivors:?}");
}

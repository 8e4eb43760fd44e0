//! The store on segments under crashes at any call of its disk, a sled that goes back, is damaged or gone, and jobs that
//! end when the seed says. A seed that fails is named; `RAFTKV_SIM_SEED=<seed> cargo test -p raftkv-sim --test store
//! one_seed -- --exact --nocapture` runs it alone.

use raftkv_sim::solo;
use std::collections::BTreeMap;
use std::panic::catch_unwind;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn many_seeds() {
    let (first, seeds) = (number("RAFTKV_SIM_FIRST_SEED", 1), number("RAFTKV_SIM_SEEDS", 400));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first..first + seeds {
        let counted = catch_unwind(|| solo::run(seed, solo::STEPS));
        let counted = counted.unwrap_or_else(|_| {
            panic!(
                "seed {seed} fails; alone: \
                 RAFTKV_SIM_SEED={seed} cargo test -p raftkv-sim --test store one_seed -- --exact --nocapture"
            )
        });
        counted.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    println!("{seeds} seeds: {counts:?}");
    for what in [
        "applies that waited",
        "claims believed",
        "claims not believed",
        "files prepared",
        "files unlinked",
        "groups written anew",
        "heads damaged",
        "heads kept",
        "heads lost",
        "heads put back",
        "installations",
        "installations in a run",
        "jobs that found no room",
        "kills",
        "manifests",
        "offers not installed",
        "segments all fetched",
        "segments shared",
        "sets",
        "steps",
        "transfers broken off",
        "traps",
        "windows sealed",
    ] {
        assert!(seeds < 100 || counts.contains_key(what), "{what} were never seen in {seeds} seeds");
    }
}

#[test]
fn one_seed() {
    let seed = number("RAFTKV_SIM_SEED", 1);
    println!("seed {seed}: {:?}", solo::run(seed, solo::STEPS));
}

#[test]
fn members_have_equal_segments_whatever_their_threads_did() {
    let segments: usize = (1..=40).map(solo::equal_layouts).sum();
    assert!(segments > 400, "{segments} segments in all are too few to compare");
}

#[test]
fn a_snapshot_arrives_whole_while_an_older_one_is_installed() {
    let at_hand: usize = (1..=40).map(solo::overtaken).sum();
    assert!(at_hand > 60, "{at_hand} segments at hand in all are too few");
}

#[test]
fn a_flipped_bit_is_mended_or_healed_and_nothing_wrong_is_served() {
    let (mut closed, mut failed, mut healed) = (0, 0, 0);
    for seed in 1..=10 {
        let counts = solo::flips(seed, 300);
        (closed, failed, healed) = (closed + counts.0, failed + counts.1, healed + counts.2);
    }
    println!("3000 bits: {closed} stores did not open, {failed} reads failed, {healed} segments were healed");
    assert!(failed > 20 && healed > 500, "{failed} reads failed, {healed} segments were healed");
    assert!(closed < 100, "{closed} stores did not open");
}

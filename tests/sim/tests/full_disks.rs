//! Disks that are full for a while (rule N11): a member writes half of a step, does not acknowledge, and goes on when there
//! is space, whatever else happens meanwhile. Nothing that was acknowledged is lost, and everything comes right.

use raftkv_sim::rng::Rng;
use raftkv_sim::world::World;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=60;
const STEPS: u64 = 15_000;
/// Chance in a step, in parts of a million, that the disk of one node fills up ...
const FILLS_PER_MILLION: u64 = 2_000;
/// ... and that one has space again.
const FREES_PER_MILLION: u64 = 4_000;

/// Steps in which some disk was full, and calls that were refused for it.
fn run(seed: u64) -> (u64, u64) {
    let violated = |what: &str| -> ! { panic!("seed {seed} of full_disk: {what}") };
    let mut world = World::new(seed).unwrap_or_else(|violation| violated(&format!("{violation:?}")));
    let mut rng = Rng::new(seed ^ 0x6675_6c6c);
    let (mut full, mut steps_full) = (vec![false; world.slots()], 0);
    for _ in 0..STEPS {
        let slot = rng.index(full.len());
        let chance = rng.below(1_000_000);
        let is_full = if full[slot] { chance >= FREES_PER_MILLION } else { chance < FILLS_PER_MILLION };
        full[slot] = world.set_full(slot, is_full);
        steps_full += u64::from(full.contains(&true));
        if let Err(violation) = world.step() {
            violated(&format!("{violation:?}\n{}", world.dump()));
        }
    }
    for slot in 0..world.slots() {
        world.set_full(slot, false);
    }
    if let Err(violation) = world.end() {
        violated(&format!("{violation:?}\n{}", world.dump()));
    }
    (steps_full, world.calls().written)
}

#[test]
fn a_member_whose_disk_is_full_waits_and_nothing_is_lost() {
    let (mut steps_full, mut written) = (0, 0);
    for seed in SEEDS {
        let (full, wrote) = run(seed);
        steps_full += full;
        written += wrote;
    }
    println!("{} seeds, {steps_full} steps with a full disk, {written} writes", SEEDS.count());
    assert!(steps_full > 100_000 && written > 1_000, "{steps_full} steps with a full disk, {written} writes");
}

//! Disks that are full for a while (rule N11): a member writes half of a step, does not acknowledge it, and goes on
//! once there is space, whatever else happens meanwhile. Nothing that was acknowledged is lost, and everything
//! recovers.
//!
//! `RAFTKV_FULL_SEED=<n>` runs one seed and prints every step (`make sim FULL_SEED=n`).

use raftkv_sim::rng::Rng;
use raftkv_sim::run::{Failed, play};
use raftkv_sim::world::World;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=60;
const STEPS: u64 = 15_000;
/// Chance in a step, in parts of a million, that the disk of one node fills up.
const FILLS_PER_MILLION: u64 = 2_000;
/// Chance in a step, in parts of a million, that a full disk has space again.
const FREES_PER_MILLION: u64 = 4_000;

/// Runs a seed; the number of steps in which some disk was full, and the number of writes that were answered.
fn run(seed: u64, echo: bool) -> Result<(u64, u64), Failed> {
    let replay = format!("make sim FULL_SEED={seed}");
    let mut rng = Rng::new(seed ^ 0x6675_6c6c);
    let (mut full, mut steps_full) = (Vec::new(), 0);
    let world = play(seed, echo, &replay, World::new, |world| {
        full.resize(world.slots(), false);
        if world.now == STEPS {
            for slot in 0..full.len() {
                world.set_full(slot, false);
            }
            return Ok(false);
        }
        let slot = rng.index(full.len());
        let chance = rng.below(1_000_000);
        let is_full = if full[slot] { chance >= FREES_PER_MILLION } else { chance < FILLS_PER_MILLION };
        full[slot] = world.set_full(slot, is_full);
        steps_full += u64::from(full.contains(&true));
        Ok(true)
    })?;
    Ok((steps_full, world.calls().written))
}

#[test]
fn a_member_whose_disk_is_full_waits_and_nothing_is_lost() {
    let only =
        std::env::var("RAFTKV_FULL_SEED").ok().map(|seed| seed.parse::<u64>().expect("RAFTKV_FULL_SEED is a number"));
    let seeds: Vec<u64> = only.map_or_else(|| SEEDS.collect(), |seed| vec![seed]);
    let (mut steps_full, mut written) = (0, 0);
    for seed in &seeds {
        let (full, wrote) = run(*seed, only.is_some()).unwrap_or_else(|failed| panic!("\n{}", failed.report));
        steps_full += full;
        written += wrote;
    }
    println!("{} seeds, {steps_full} steps with a full disk, {written} writes", seeds.len());
    let is_enough = only.is_some() || steps_full > 100_000 && written > 1_000;
    assert!(is_enough, "{steps_full} steps with a full disk, {written} writes");
}

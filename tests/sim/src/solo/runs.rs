//! What is done with solo stores, by seeds.

use super::Solo;
use super::log::{LARGEST, Log};
use crate::disk::{Call, CrashModel, SimDisk, Trap};
use crate::rng::Rng;
use raftkv_core::kvstore::StoreError;
use raftkv_core::kvstore::on_segments::Config;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A quiet store with all that there is: segments, a prefix, a window, a compaction, deleted keys.
fn quiet(rng: &mut Rng, log: &mut Log) -> Solo {
    let mut solo = Solo::new(Config { window_bytes: 2500, set_bytes: 1, set_batches: 1, small_bytes: 600 });
    for _ in 0..12 {
        (0..10).for_each(|_| log.grow(rng));
        while solo.store.as_ref().expect("it is open").view().applied() < log.last() {
            solo.apply(log, 5);
            (0..3).for_each(|_| assert!(solo.job(), "nothing fails here"));
        }
        solo.store.as_mut().expect("it is open").cut();
        (0..4).for_each(|_| solo.step());
        (0..6).for_each(|_| assert!(solo.job(), "nothing fails here"));
        (0..5).for_each(|_| log.grow(rng));
        solo.apply(log, 5);
        solo.give();
    }
    solo
}

/// Flips bits of the files of a quiet store, one at a time. A store that opens with one serves what is right, or fails
/// the read. What is damaged is healed. Returns how often it did not open, how many reads failed, and how many segments were healed.
pub fn flips(seed: u64, count: u64) -> (u64, u64, u64) {
    let (mut rng, mut log) = (Rng::new(seed), Log::default());
    let quiet = quiet(&mut rng, &mut log);
    log.compact_all();
    let (mut closed, mut failed, mut healed) = (0, 0, 0);
    for _ in 0..count {
        let mut solo = Solo { disk: Arc::new(quiet.disk.copy(1, CrashModel::Nothing)), ..Solo::new(quiet.config) };
        (solo.home, solo.head, solo.reached) = (quiet.home.copy(), quiet.head, quiet.reached);
        let names = solo.disk.names();
        let name = rng.pick(&names).expect("there are files").clone();
        let len = solo.disk.bytes(&name).len() as u64;
        if len > 0 {
            solo.disk.flip(&name, rng.below(len), rng.below(8) as u8);
        }
        match solo.open() {
            Ok(()) => {}
            Err(StoreError::Unproved(_)) => {
                closed += 1;
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        }
        failed += solo.reads_that_fail(&log, &mut rng);
        // What is damaged is found by scrubbing and by compactions, is not written anew, and is healed.
        healed += solo.heals(&mut log, &quiet);
        assert_eq!(solo.reads_that_fail(&log, &mut rng), 0, "{name} was damaged, and is not healed");
    }
    (closed, failed, healed)
}

/// Steps of a run.
pub const STEPS: u64 = 600;

/// Runs one seed, and says how often what happened.
pub fn run(seed: u64, steps: u64) -> BTreeMap<&'static str, u64> {
    let mut rng = Rng::new(seed);
    let config = Config {
        window_bytes: rng.between(200, 6000) as u32,
        set_bytes: rng.between(1, 3000),
        set_batches: rng.between(1, 20),
        small_bytes: rng.below(2000),
    };
    let mut log = Log::default();
    let mut solo = Solo::new(config);
    let mut peer = Solo::new(config);
    for _ in 0..steps {
        for _ in 0..rng.below(4) {
            log.grow(&mut rng);
        }
        peer.goes_on(&mut log, &mut rng);
        let alive = match rng.below(100) {
            0..=39 => {
                solo.apply(&mut log, rng.between(1, 8));
                true
            }
            40..=54 => solo.job(),
            55..=59 => {
                (0..rng.between(1, 3)).for_each(|_| solo.step());
                true
            }
            60..=74 => !rng.chance(300) || solo.give(),
            75..=79 => {
                let store = solo.store.as_mut().expect("it is open");
                if rng.chance(300) || store.wants_cut() {
                    store.cut();
                }
                true
            }
            80..=92 => {
                solo.read(&log, &mut rng);
                true
            }
            93 => {
                let full = rng.chance(400);
                solo.disk.set_full(full);
                true
            }
            94 => solo.install_from(&peer, &mut rng),
            95..=96 => {
                lay_trap(&solo.disk, &mut rng);
                true
            }
            _ => false,
        };
        if !alive {
            reopen(&mut solo, &mut rng);
            solo.show(&mut log);
        }
    }
    // All is compacted: what is left is what keys are now, and no key's history.
    log.compact_all();
    solo.settle(&mut log);
    let (live, all) = solo.store.as_ref().expect("it is open").live_bytes();
    let window = u64::from(config.window_bytes) + LARGEST;
    assert!(all <= 2 * live + 2 * window, "{all} bytes for {live} live ones in windows of {window}");
    log.delete_all();
    solo.settle(&mut log);
    let (live, all) = solo.store.as_ref().expect("it is open").live_bytes();
    assert!(all <= 2 * window, "{all} bytes, {live} of them live, when all keys are deleted");
    for _ in 0..20 {
        solo.read(&log, &mut rng);
    }
    solo.counts
}

/// Crashes, and opens again until no trap springs meanwhile.
fn reopen(solo: &mut Solo, rng: &mut Rng) {
    solo.crash(rng);
    if rng.chance(300) {
        lay_trap(&solo.disk, rng);
    }
    loop {
        match solo.open() {
            Ok(()) => break,
            Err(StoreError::Io(_)) => solo.crash(rng),
            Err(error) => panic!("what is durable can't be opened: {error}"),
        }
    }
    if solo.disk.take_trap().is_none() {
        solo.count("traps");
    }
    solo.check_names();
}

/// The power will fail at a call of a job or an opening.
fn lay_trap(disk: &SimDisk, rng: &mut Rng) {
    let calls = [Call::Create, Call::Write, Call::Sync, Call::Rename, Call::Remove, Call::SyncDir];
    let call = calls[rng.index(calls.len())];
    let prefix = if call == Call::SyncDir { "" } else { ["kv-", "snapshot-"][rng.index(2)] };
    disk.set_trap(Trap { call, prefix, after: rng.chance(500), left: rng.between(1, 4) });
}

/// Applies one log to two members whose jobs, sets, cuts and crashes differ, and compares their segments (rule D8).
pub fn equal_layouts(seed: u64) -> usize {
    let mut rng = Rng::new(seed);
    let window_bytes = rng.between(300, 4000) as u32;
    let config = Config { window_bytes, set_bytes: 1000, set_batches: 5, small_bytes: 400 };
    let mut log = Log::default();
    (0..300).for_each(|_| log.grow(&mut rng));
    let mut layouts = Vec::new();
    for _ in 0..2 {
        let mut solo = Solo::new(config);
        while solo.store.as_ref().expect("it is open").view().applied() < log.last() {
            solo.apply(&mut log, rng.between(1, 30));
            (0..rng.below(4)).for_each(|_| assert!(solo.job(), "nothing fails here"));
            if rng.chance(200) {
                solo.give();
            }
            if rng.chance(200) {
                solo.store.as_mut().expect("it is open").cut();
            }
            (0..rng.below(4)).for_each(|_| solo.step());
            // Who crashes within a pass groups what is left of it in another way, and shares less.
            if rng.chance(50) && !solo.store.as_ref().expect("it is open").in_pass() {
                solo.crash(&mut rng);
                solo.open().expect("nothing fails here");
            }
        }
        solo.settle(&mut log);
        layouts.push(solo.store.as_ref().expect("it is open").layout());
    }
    assert_eq!(layouts[0], layouts[1], "seed {seed}");
    layouts[0].len()
}

/// A member installs a snapshot while a newer one is arriving, and goes on with it; then it installs the newer one, of
/// which no file may have gone meanwhile. Returns how many segments the newer one had at hand when it began.
pub fn overtaken(seed: u64) -> usize {
    let (mut rng, mut log) = (Rng::new(seed), Log::default());
    let mut peer = quiet(&mut rng, &mut log);
    let mut solo = Solo::new(peer.config);
    (0..rng.below(40)).for_each(|_| solo.goes_on(&mut log, &mut rng));
    let held = peer.store.as_ref().expect("it is open").held();
    let mut first = solo.begin_fetch(&held, None);
    solo.fetch_some(&mut first, (&peer, &held), usize::MAX);
    for _ in 0..rng.between(20, 100) {
        log.grow(&mut rng);
        peer.goes_on(&mut log, &mut rng);
    }
    peer.settle(&mut log);
    // A compaction that the newer one has not begun, and the member carries out meanwhile.
    log.compact_all();
    (0..9).for_each(|_| log.grow(&mut rng));
    (0..3).for_each(|_| peer.apply(&mut log, 50));
    peer.store.as_mut().expect("it is open").cut();
    while !peer.is_at_rest() {
        assert!(peer.job(), "nothing fails here");
    }
    let held = peer.store.as_ref().expect("it is open").held();
    let mut second = solo.begin_fetch(&held, Some(&first));
    let at_hand = held.segments().len() - second.lacking().len();
    solo.fetch_some(&mut second, (&peer, &held), rng.below(9) as usize);
    for arriving in [first, second] {
        let mut arriving = arriving;
        solo.fetch_some(&mut arriving, (&peer, &held), usize::MAX);
        while !solo.is_at_rest() {
            assert!(solo.job(), "nothing fails here");
        }
        solo.install_in_run(&arriving).expect("nothing fails here");
        drop(arriving);
        // Compactions go on as far as the log goes that is here.
        for _ in 0..60 {
            let applied = solo.store.as_ref().expect("it is open").view().applied();
            if applied + 2 < held.index() {
                solo.apply(&mut log, 1);
            }
            solo.store.as_mut().expect("it is open").cut();
            assert!(solo.job(), "nothing fails here");
            solo.step();
        }
    }
    assert_eq!(solo.reads_that_fail(&log, &mut rng), 0);
    solo.settle(&mut log);
    assert_eq!(solo.counts.get("installations in a run"), Some(&2), "seed {seed}");
    at_hand
}

/// All that a seed can find.
pub fn everything(seed: u64) {
    run(seed, STEPS);
    equal_layouts(seed);
    flips(seed, 60);
    overtaken(seed);
}

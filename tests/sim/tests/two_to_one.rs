//! Rule N10: 2 -> 1 with a power loss of the survivor after each single thing that happens, in many orders; also with a
//! power loss of the member that goes. Whatever comes, what is left must lead and take a write.

use raftkv_core::driver::MembershipCall;
use raftkv_core::driver::{Event, Role};
use raftkv_core::kvstore::Condition;
use raftkv_core::log::LogConfig;
use raftkv_sim::node::{Life, Sizes};
use raftkv_sim::rng::Rng;
use raftkv_sim::story::{Story, put};

/// The power fails after each number of things below this, one run each.
const THINGS_MAX: u64 = 28;
/// Whoever is left must lead within this many ticks.
const TICKS_MAX: usize = 400;

fn two_voters() -> Story {
    let log =
        LogConfig { segment_bytes: 1 << 15, batch_bytes_max: 1 << 14, cache_bytes_max: 1 << 12, spare_segments: 1 };
    let mut story = Story::new(2, Sizes { log, snapshot_log_bytes_min: 1 << 12 });
    story.init(1);
    story.stabilize();
    let call = story.add_call(1);
    story.change(0, call, None).expect("n1 runs");
    live(&mut story, 60);
    story.change(0, MembershipCall::Promote { id: 2, replaces: None }, None).expect("n1 runs");
    live(&mut story, 60);
    story
}

fn live(story: &mut Story, ticks: usize) {
    for _ in 0..ticks {
        story.tick_all();
        story.stabilize();
    }
}

fn hold_all(story: &mut Story, hold: bool) {
    for slot in 0..2 {
        story.hold_disk(slot, hold);
        story.hold_apply(slot, hold);
    }
}

/// Removes member `gone` at the leader, cuts the power of `victim` after `things` things, and lets it start again.
fn remove_and_crash(leader: usize, gone: usize, victim: usize, things: u64, kv_is_lost: bool, rng: &mut Rng) -> Story {
    let mut story = two_voters();
    if leader == 1 {
        story.transfer(0, Some(2)).expect("n1 runs");
        live(&mut story, 10);
    }
    hold_all(&mut story, true);
    story.change(leader, MembershipCall::Remove { id: gone as u64 + 1 }, None).expect("the leader runs");
    for _ in 0..things {
        if !story.one_thing(rng.bits()) {
            break;
        }
    }
    if story.is_running(victim) {
        story.crash(victim, kv_is_lost);
        story.boot(victim);
    }
    hold_all(&mut story, false);
    story
}

fn serves(story: &mut Story, slot: usize) -> bool {
    for _ in 0..TICKS_MAX {
        story.tick_all();
        story.stabilize();
        let leads = story.status_of(slot).is_some_and(|status| status.role == Role::Leader);
        if !leads {
            continue;
        }
        story.take_text();
        let Ok(event) = story.write(slot, &put("a", "1", Condition::None)) else { continue };
        story.step(slot, event);
        story.stabilize();
        if story.take_text().contains("revision") {
            return true;
        }
    }
    false
}

fn sweep(leader: usize, gone: usize, victim: usize) {
    for things in 0..THINGS_MAX {
        for seed in 0..12 {
            let kv_is_lost = seed % 2 == 0;
            let mut rng = Rng::new(seed * 1000 + things);
            let mut story = remove_and_crash(leader, gone, victim, things, kv_is_lost, &mut rng);
            let told = story.take_text();
            let left = 1 - gone;
            let lives = (0..2).any(|slot| serves_if_member(&mut story, slot, left));
            story.status();
            assert!(lives, "things {things} seed {seed}\n{told}\n{}", story.take_text());
        }
    }
}

/// Whether the survivor serves; or, if the removal was never committed, the leader of both.
fn serves_if_member(story: &mut Story, slot: usize, left: usize) -> bool {
    let gone = matches!(story.life_of(slot), Life::Removed);
    !gone && (slot == left || story.is_running(slot)) && serves(story, slot)
}

#[test]
fn the_leader_survives() {
    sweep(0, 1, 0);
}

#[test]
fn the_removed_member_loses_power() {
    sweep(0, 1, 1);
}

#[test]
fn the_new_leader_removes_the_old_one() {
    sweep(1, 0, 1);
}

#[test]
fn a_story_of_two_comes_to_rest() {
    let mut story = two_voters();
    story.step(0, Event::Tick);
    assert!(serves(&mut story, 0));
}

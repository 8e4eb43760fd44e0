//! Finding A6: members are replaced a thousand times, and nothing that a member keeps has grown with them.

use raftkv_api::Hex128;
use raftkv_core::driver::MembershipCall;
use raftkv_core::host_port::HostPort;
use raftkv_core::kvstore::Condition;
use raftkv_core::limits::REMOVED_KEPT;
use raftkv_core::log::LogConfig;
use raftkv_core::membership::Member;
use raftkv_sim::node::{Life, Sizes};
use raftkv_sim::story::{Story, put};

const REPLACEMENTS: u64 = 1_000;

fn live(story: &mut Story, ticks: usize) {
    for _ in 0..ticks {
        story.tick_all();
        story.stabilize();
    }
}

fn change(story: &mut Story, call: MembershipCall) {
    story.change(0, call, None).expect("n1 runs");
    story.stabilize();
}

/// Three voters, and a fourth node as learner 4.
fn cluster() -> Story {
    let log =
        LogConfig { segment_bytes: 1 << 16, batch_bytes_max: 1 << 15, cache_bytes_max: 1 << 13, spare_segments: 1 };
    let mut story = Story::new(4, Sizes { log, snapshot_log_bytes_min: 1 << 14 });
    story.init(1);
    story.stabilize();
    for slot in 1..4 {
        let add = story.add_call(slot);
        change(&mut story, add);
        live(&mut story, 20);
        if slot < 3 {
            change(&mut story, MembershipCall::Promote { id: slot as u64 + 1, replaces: None });
        }
    }
    story
}

#[test]
fn after_a_thousand_replacements_members_agree_restart_and_tell_the_first_who_left() {
    let mut story = cluster();
    assert_eq!(story.id(3), Ok(4), "{}", story.take_text());
    story.crash(3, false);
    change(&mut story, MembershipCall::Remove { id: 4 });
    for turn in 0..REPLACEMENTS {
        let id = 5 + turn;
        let add = Member {
            name: format!("x{id}"),
            peer: HostPort::parse(&format!("x{id}:2380")).expect("an address"),
            incarnation: Hex128((u128::from(id) << 64).to_be_bytes()),
        };
        change(&mut story, MembershipCall::Add(add));
        // Its change must be durable at a quorum before the next one is taken.
        live(&mut story, 2);
        change(&mut story, MembershipCall::Remove { id });
        live(&mut story, 2);
        story.take_text();
    }
    let of_first = story.status_of(0).expect("n1 runs").membership;
    assert_eq!(of_first.next_member_id, 5 + REPLACEMENTS, "a change was refused");
    assert_eq!((of_first.members.len(), of_first.removed.len()), (3, REMOVED_KEPT));
    for slot in 0..3 {
        story.crash(slot, slot == 1);
        story.boot(slot);
    }
    live(&mut story, 100);
    for slot in 0..3 {
        assert_eq!(story.status_of(slot).expect("it runs").membership, of_first);
    }
    story.boot(3);
    live(&mut story, 20);
    assert!(matches!(story.life_of(3), Life::Removed), "{}", story.take_text());
    let leader = (0..3).find(|slot| story.status_of(*slot).is_some_and(|status| status.leader == *slot as u64 + 1));
    let write = story.write(leader.expect("somebody leads"), &put("a", "1", Condition::None)).expect("it runs");
    story.step(leader.unwrap_or_default(), write);
    story.stabilize();
    assert!(story.take_text().contains("revision"));
}

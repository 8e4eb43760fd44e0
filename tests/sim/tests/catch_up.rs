//! Finding A5: a member that catches up is sent what it lacks in small messages, few bytes at a time, and the raft
//! thread reads none of it from the disk.

use raft::prelude::{Message, MessageType};
use raftkv_core::driver::Event;
use raftkv_core::limits::{
    CATCH_UP_BYTES_MAX, CATCH_UP_BYTES_PER_SECOND, CATCH_UP_PERCENT_OF_WRITES, MESSAGE_BYTES_MAX, TICK_MS,
};
use raftkv_core::log::{LogConfig, entry_bytes};
use raftkv_sim::lone::{Lone, message, voters};
use raftkv_sim::node::Sizes;

const WINDOW_BYTES: u64 = 1 << 20;
const VALUE_BYTES: usize = 64 << 10;

/// Leads three voters; member 3 has heard of nothing since the first entry.
fn leader_with_one_behind(writes: usize) -> Lone {
    let log = LogConfig {
        segment_bytes: 16 << 20,
        batch_bytes_max: 8 << 20,
        cache_bytes_max: WINDOW_BYTES as usize,
        spare_segments: 1,
    };
    let mut lone = Lone::new(&voters(&[1, 2, 3]), Sizes { log, snapshot_log_bytes_min: 1 << 40 });
    lone.boot().expect("a new directory opens");
    lone.elect(2);
    lone.ack(3, 2);
    for _ in 0..writes {
        lone.write(VALUE_BYTES);
        lone.ack(2, lone.status().last_index);
    }
    lone.step(Event::Unreachable { to: 3 });
    lone.appends_to(3);
    lone
}

fn bytes(messages: &[Message]) -> u64 {
    messages.iter().flat_map(|message| message.entries.iter()).map(entry_bytes).sum::<usize>() as u64
}

#[test]
fn finding_a5_little_is_on_the_way_to_a_member_that_catches_up() {
    let mut lone = leader_with_one_behind(400);
    let last = lone.status().last_index;
    let (mut acked, mut most, mut ticks) = (2, 0, 0);
    lone.hear(message(MessageType::MsgHeartbeatResponse, 3, lone.status().term));
    let mut on_the_way = lone.appends_to(3);
    while acked < last {
        most = most.max(bytes(&on_the_way));
        if on_the_way.is_empty() {
            // So much may be read in a second, and no more.
            ticks += 2;
            lone.tick(2);
            lone.hear(message(MessageType::MsgHeartbeatResponse, 3, lone.status().term));
            on_the_way.extend(lone.appends_to(3));
            continue;
        }
        let arrived = on_the_way.remove(0);
        assert!(bytes(std::slice::from_ref(&arrived)) <= MESSAGE_BYTES_MAX, "a message of {} bytes", bytes(&[arrived]));
        assert_eq!(arrived.index, acked, "what is read follows what was sent");
        acked += arrived.entries.len() as u64;
        lone.ack(3, acked);
        on_the_way.extend(lone.appends_to(3));
    }
    // What the window holds needs no read, and comes on top.
    assert!(most <= CATCH_UP_BYTES_MAX + MESSAGE_BYTES_MAX + WINDOW_BYTES, "{most} bytes were on the way");
    let per_tick = CATCH_UP_BYTES_PER_SECOND * TICK_MS / 1000;
    let due = (last * VALUE_BYTES as u64 - WINDOW_BYTES) / per_tick;
    assert!((due - 8..=due + 8).contains(&ticks), "{ticks} ticks for what takes {due}");
}

#[test]
fn a_member_catches_up_with_a_leader_that_writes_faster_than_others_are_paced() {
    let mut lone = leader_with_one_behind(400);
    let writes_per_tick = 2 * CATCH_UP_BYTES_PER_SECOND * TICK_MS / 1000 / VALUE_BYTES as u64;
    let behind = |lone: &Lone, acked| lone.status().last_index - acked;
    let (mut acked, begun) = (2, behind(&lone, 2));
    for tick in 1.. {
        for _ in 0..writes_per_tick {
            lone.write(VALUE_BYTES);
            lone.ack(2, lone.status().last_index);
        }
        lone.tick(1);
        lone.hear(message(MessageType::MsgHeartbeatResponse, 3, lone.status().term));
        let mut arrived = lone.appends_to(3);
        while !arrived.is_empty() {
            acked = arrived.iter().map(|message| message.index + message.entries.len() as u64).fold(acked, u64::max);
            lone.ack(3, acked);
            arrived = lone.appends_to(3);
        }
        let gained = tick * writes_per_tick * (CATCH_UP_PERCENT_OF_WRITES - 100) / 100;
        let most = begun.saturating_sub(gained) + 8 * writes_per_tick;
        assert!(behind(&lone, acked) <= most, "after {tick} ticks it is {} behind, not {most}", behind(&lone, acked));
        if most == 8 * writes_per_tick {
            return;
        }
    }
}

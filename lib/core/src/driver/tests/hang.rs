//! Rule N26 in its details: what a sync that does not return costs, and what it must not cost.

use super::*;
use crate::driver::hang::HANG_TICKS;
use crate::wire::Report;

/// A leader whose batch is being synced, and whose disk does not say when that is done.
pub(super) fn with_a_running_sync(voters: u64) -> Bench {
    let mut bench = Bench::leader(voters, voters);
    bench.put(1, 10);
    let effects = bench.driver.effects();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Persist { .. })), "{effects:?}");
    let (term, last) = (bench.driver.node.raft.term, bench.driver.log().last_index());
    for id in 2..=voters {
        bench.message(id, MessageType::MsgAppendResponse, term, |m| m.index = last);
    }
    bench
}

/// So many ticks pass while the others answer heartbeats and report `stalled_ms`; what was sent.
pub(super) fn pass(bench: &mut Bench, ticks: u64, voters: u64, stalled_ms: u64) -> Vec<MessageType> {
    let mut sent = Vec::new();
    for _ in 0..ticks {
        let term = bench.driver.node.raft.term;
        for from in 2..=voters {
            bench.message(from, MessageType::MsgHeartbeatResponse, term, |_| {});
            let report = Report { can_lead: stalled_ms == 0, stalled_ms, ..Report::default() };
            bench.driver.step(Event::Report { from, report });
        }
        bench.driver.step(Event::Tick);
        for effect in bench.driver.effects() {
            if let Effect::Send(message) = effect {
                sent.push(message.get_msg_type());
            }
        }
    }
    sent
}

#[test]
fn leadership_is_handed_over_after_one_election_timeout_and_given_up_after_three() {
    let mut bench = with_a_running_sync(3);
    assert!(!pass(&mut bench, HANG_TICKS, 3, 0).contains(&MessageType::MsgTimeoutNow));
    assert!(!bench.driver.status().can_lead, "it hangs, and says so");
    assert!(pass(&mut bench, 2, 3, 0).contains(&MessageType::MsgTimeoutNow));
    // Nobody takes over.
    assert!(pass(&mut bench, HANG_TICKS, 3, 0).contains(&MessageType::MsgTimeoutNow), "once more");
    assert!(bench.driver.is_leader());
    pass(&mut bench, HANG_TICKS - 2, 3, 0);
    assert!(!bench.driver.is_leader());
    let sent = pass(&mut bench, 60, 3, 0);
    assert!(!sent.contains(&MessageType::MsgRequestPreVote), "nobody campaigns while its sync hangs: {sent:?}");
}

#[test]
fn disks_that_are_all_slow_move_no_leadership() {
    let mut bench = with_a_running_sync(3);
    let sent = pass(&mut bench, 2 * HANG_TICKS, 3, 900);
    assert!(!sent.contains(&MessageType::MsgTimeoutNow), "{sent:?}");
    assert!(bench.driver.is_leader());
}

#[test]
fn a_leader_that_the_others_can_t_do_without_goes_on() {
    let mut bench = with_a_running_sync(3);
    // Member 3 is silent: without this leader there is no quorum.
    let sent = pass(&mut bench, 4 * HANG_TICKS, 2, 0);
    assert!(!sent.contains(&MessageType::MsgTimeoutNow), "{sent:?}");
    assert!(bench.driver.is_leader());
    let mut alone = Bench::leader(1, 1);
    alone.put(1, 10);
    alone.driver.effects();
    pass(&mut alone, 5 * HANG_TICKS, 1, 0);
    assert!(alone.driver.is_leader());
}

#[test]
fn a_batch_that_waits_for_space_does_not_hang() {
    let mut bench = with_a_running_sync(3);
    let stuck = |stuck: Option<&str>| OwnSpace { stuck: stuck.map(str::to_string), ..OwnSpace::default() };
    bench.driver.step(Event::Space { own: stuck(Some("the log")) });
    let sent = pass(&mut bench, 4 * HANG_TICKS, 3, 0);
    assert!(!sent.contains(&MessageType::MsgTimeoutNow), "{sent:?}");
    assert_eq!(bench.driver.status().sync_ms, 0);
    // There is space again: from here on it is synced.
    bench.driver.step(Event::Space { own: stuck(None) });
    pass(&mut bench, 3, 3, 0);
    assert_eq!(bench.driver.status().sync_ms, 3 * limits::TICK_MS);
}

#[test]
fn a_heartbeat_is_answered_while_the_sync_of_an_append_runs() {
    let mut bench = Bench::new(3, 3);
    bench.message(2, MessageType::MsgHeartbeat, 2, |_| {});
    bench.settle();
    bench.message(2, MessageType::MsgAppend, 2, |m| {
        (m.index, m.log_term) = (1, 1);
        m.set_entries(vec![Entry { index: 2, term: 2, ..Entry::default() }].into());
    });
    let appended = bench.driver.effects();
    assert!(appended.iter().any(|effect| matches!(effect, Effect::Persist { .. })));
    bench.message(2, MessageType::MsgHeartbeat, 2, |_| {});
    let kinds = |effects: Vec<Effect>| -> Vec<MessageType> {
        let kind = |effect: Effect| match effect {
            Effect::Send(message) => Some(message.get_msg_type()),
            _ => None,
        };
        effects.into_iter().filter_map(kind).collect()
    };
    assert_eq!(kinds(bench.driver.effects()), [MessageType::MsgHeartbeatResponse]);
    bench.carry_out(&appended);
    assert_eq!(kinds(bench.settle()), [MessageType::MsgAppendResponse], "this one waited for the disk");
}

//! What the status says that a put would get is what a put gets.

use super::hang::{pass, with_a_running_sync};
use super::*;
use crate::driver::hang::STEP_DOWN_TICKS;
use raftkv_api::Writes;

fn writes(bench: &Bench) -> Option<Writes> {
    bench.driver.status().writes
}

#[test]
fn a_leader_says_why_it_would_refuse_a_put() {
    let mut bench = Bench::leader(3, 3);
    assert_eq!(writes(&bench), Some(Writes::Ok));
    bench.has(255);
    assert_eq!(writes(&bench), Some(Writes::NoSpace));
    let over_quota = Some("over --quota".to_string());
    bench.driver.step(Event::Space { own: OwnSpace { over_quota, ..OwnSpace::default() } });
    assert_eq!(writes(&bench), Some(Writes::Quota));
    bench.has(1000);
    assert_eq!(writes(&bench), Some(Writes::Ok));
    bench.driver.membership = Arc::new(Membership { formed: false, ..(**bench.driver.membership()).clone() });
    assert_eq!(writes(&bench), Some(Writes::Forming));
}

#[test]
fn a_leader_that_no_quorum_answers_does_not_say_that_it_takes_puts() {
    let mut bench = Bench::leader(3, 3);
    assert_eq!(bench.driver.status().quorum_contact_ticks, Some(0));
    for _ in 0..=limits::ELECTION_TICKS {
        bench.driver.step(Event::Tick);
        bench.settle();
    }
    assert!(bench.driver.is_leader(), "it has not stepped down yet");
    assert_eq!(writes(&bench), Some(Writes::NoLeader));
    assert_eq!(bench.driver.status().quorum_contact_ticks, Some(limits::ELECTION_TICKS as u64 + 1));
    // One answer of two is a quorum of three.
    let term = bench.driver.node.raft.term;
    bench.message(2, MessageType::MsgHeartbeatResponse, term, |_| {});
    assert_eq!(writes(&bench), Some(Writes::Ok));
    assert_eq!(bench.driver.status().quorum_contact_ticks, Some(0));
}

#[test]
fn an_election_is_an_answer_of_a_quorum() {
    let mut bench = Bench::new(3, 3);
    for _ in 0..2 {
        bench.driver.step(Event::Tick);
    }
    bench.driver.step(Event::KvReady);
    bench.settle();
    let term = bench.driver.node.raft.term;
    bench.message(2, MessageType::MsgTimeoutNow, term, |_| {});
    bench.settle();
    bench.message(2, MessageType::MsgRequestVoteResponse, term + 1, |_| {});
    bench.settle();
    assert_eq!((bench.driver.role(), writes(&bench)), (Role::Leader, Some(Writes::Ok)));
}

#[test]
fn who_follows_leaves_it_to_the_leader_and_who_knows_none_says_so() {
    let mut bench = Bench::new(3, 3);
    assert_eq!(writes(&bench), Some(Writes::NoLeader));
    bench.message(2, MessageType::MsgHeartbeat, 2, |_| {});
    bench.settle();
    let status = bench.driver.status();
    assert_eq!((status.writes, status.quorum_contact_ticks), (None, None));
}

#[test]
fn a_leader_that_goes_on_with_a_disk_that_does_not_answer_says_that_writes_stall() {
    let mut bench = with_a_running_sync(3);
    // Member 3 is silent: without this leader there is no quorum.
    pass(&mut bench, STEP_DOWN_TICKS - 1, 2, 0);
    assert_eq!(writes(&bench), Some(Writes::Ok), "a slow disk works");
    pass(&mut bench, 1, 2, 0);
    assert!(bench.driver.is_leader());
    assert_eq!(writes(&bench), Some(Writes::Stalled));
    assert!(bench.driver.status().quorum_contact_ticks < Some(3), "reads go on");
}

#[test]
fn writes_stall_when_the_disks_of_a_quorum_do() {
    let mut bench = Bench::leader(3, 3);
    pass(&mut bench, 1, 3, 3_000);
    assert_eq!(writes(&bench), Some(Writes::Stalled));
    pass(&mut bench, 1, 3, 900);
    assert_eq!(writes(&bench), Some(Writes::Ok));
}

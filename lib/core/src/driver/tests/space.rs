//! Tests rule N11 at the leader: what it takes depends on its own room and on that of a quorum.
//!
//! The bench of the driver's tests reports room for each member and asks for a put, a delete and a change.

use super::*;
use crate::space::{OwnSpace, Room};
use crate::wire::Report;

const MIB: u64 = 1 << 20;

fn room(mib: u64) -> Room {
    Room { headroom_bytes: mib * MIB, reserve_bytes: 256 * MIB }
}

/// What became of a put, a delete and a change: "taken", or the text of the refusal.
#[derive(Debug, PartialEq)]
struct Taken {
    put: String,
    delete: String,
    change: String,
}

impl Bench {
    pub(super) fn has(&mut self, own: u64) {
        self.driver.step(Event::Space { own: OwnSpace { room: room(own), ..OwnSpace::default() } });
    }

    fn says(&mut self, from: MemberId, mib: u64) {
        let Room { headroom_bytes, reserve_bytes } = room(mib);
        let report = Report { can_lead: true, headroom_bytes, reserve_bytes, ..Report::default() };
        self.driver.step(Event::Report { from, report });
    }

    /// Lets more than an election timeout pass, in which only these members answer.
    fn time_passes(&mut self, who_answers: &[MemberId]) {
        for _ in 0..=limits::ELECTION_TICKS {
            self.driver.step(Event::Tick);
            for id in who_answers {
                let term = self.driver.node.raft.term;
                self.message(*id, MessageType::MsgHeartbeatResponse, term, |_| {});
            }
            self.settle();
        }
        assert!(self.driver.is_leader());
    }

    fn asks(&mut self, grows: bool) -> String {
        let request = RequestId { origin: 1, nonce: 9, seq: 1000 };
        self.driver.step(Event::Propose { request, data: Bytes::from_static(b"x"), grows });
        self.outcome()
    }

    fn changes(&mut self) -> String {
        let request = RequestId { origin: 1, nonce: 9, seq: 1001 };
        let if_match = self.driver.membership.conf_index;
        self.driver.step(Event::Change { request, call: MembershipCall::Remove { id: 99 }, if_match });
        self.outcome()
    }

    fn outcome(&mut self) -> String {
        match answers(&self.settle()).as_slice() {
            [] => "taken".to_string(),
            [(_, Answer::Refused(Refusal::NoSpace(why)))] => why.clone(),
            // The call got past the check of space: only then is it refused, since there is no member 99.
            [(_, Answer::Refused(Refusal::MemberNotFound(99)))] => "taken".to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn taken(&mut self) -> Taken {
        Taken { put: self.asks(true), delete: self.asks(false), change: self.changes() }
    }

    fn takes(&mut self, put: bool, rest: bool) {
        let taken = self.taken();
        let is = [&taken.put, &taken.delete, &taken.change].map(|words| words == "taken");
        assert_eq!(is, [put, rest, rest], "{taken:?}");
        assert_eq!(self.driver.status().no_space.is_none(), put);
    }
}

#[test]
fn a_leader_that_is_short_takes_deletes_and_changes_until_half_of_its_reserve_is_used() {
    let mut bench = Bench::leader(3, 3);
    bench.takes(true, true);
    bench.has(256);
    bench.takes(true, true);
    bench.has(255);
    bench.takes(false, true);
    bench.has(128);
    bench.takes(false, true);
    bench.has(127);
    bench.takes(false, false);
    let why = bench.asks(true);
    for words in ["n1 (member 1)", "127 MiB", "256 MiB", "enlarge"] {
        assert!(why.contains(words), "'{words}' is missing in: {why}");
    }
    bench.has(300);
    bench.takes(true, true);
}

#[test]
fn one_short_voter_of_three_is_no_reason_to_refuse_and_two_are() {
    let mut bench = Bench::leader(3, 3);
    bench.has(1000);
    bench.says(2, 10);
    bench.takes(true, true);
    bench.says(3, 200);
    bench.takes(false, true);
    let why = bench.asks(true);
    assert!(why.contains("n2 (member 2) has 10 of 256 MiB, n3 (member 3) has 200 of 256 MiB"), "{why}");
    bench.says(3, 100);
    bench.takes(false, false);
    let why = bench.asks(false);
    assert!(why.contains("any write needs: n2 (member 2) has 10 of 128 MiB, n3 (member 3) has 100 of"), "{why}");
    bench.says(3, 256);
    bench.takes(true, true);
}

#[test]
fn a_short_voter_counts_when_there_is_no_quorum_without_it() {
    let mut bench = Bench::leader(3, 3);
    bench.has(1000);
    bench.says(2, 10);
    bench.says(3, 1000);
    bench.time_passes(&[2]);
    bench.takes(false, false);
    bench.time_passes(&[2, 3]);
    bench.takes(true, true);
}

#[test]
fn a_leader_that_is_short_alone_hands_over_to_one_with_room() {
    let mut bench = Bench::leader(3, 3);
    let hands_over = |bench: &Bench| bench.driver.status().should_hand_over;
    bench.has(256);
    assert!(!hands_over(&bench), "it has room");
    bench.has(255);
    assert!(hands_over(&bench), "the others have room");
    bench.says(2, 100);
    assert!(!hands_over(&bench), "nobody would take puts");
    let own = OwnSpace { room: room(1000), over_quota: None, stuck: Some("wal-2: no space".to_string()) };
    bench.driver.step(Event::Space { own });
    assert!(hands_over(&bench), "it takes nothing at all");
    let request = RequestId { origin: 1, nonce: 9, seq: 1002 };
    bench.driver.step(Event::Transfer { request, to: None });
    assert_eq!(bench.driver.node.raft.lead_transferee, Some(3), "member 2 is short");
    bench.says(3, 127);
    assert!(!hands_over(&bench), "the others take nothing either");
    bench.says(3, 128);
    assert!(hands_over(&bench), "member 3 takes deletes");
    bench.says(2, 1000);
    let over_quota = Some("over".to_string());
    bench.driver.step(Event::Space { own: OwnSpace { room: room(1000), over_quota, stuck: None } });
    assert!(!hands_over(&bench), "the database is as large elsewhere");
}

#[test]
fn a_learner_that_is_short_and_a_member_that_never_said_hold_nobody_up() {
    let mut bench = Bench::leader(3, 4);
    bench.has(1000);
    bench.says(4, 0);
    bench.takes(true, true);
}

#[test]
fn what_is_forwarded_is_refused_with_the_words_of_the_leader() {
    let mut bench = Bench::leader(3, 3);
    bench.has(200);
    let term = bench.driver.node.raft.term;
    let request = RequestId { origin: 2, nonce: 4, seq: 1 };
    let forward = Forward { term, request, data: Bytes::from_static(b"x") };
    bench.driver.step(Event::Forwarded { from: 2, forward, grows: true });
    let effects = bench.settle();
    let refused = |effect: &Effect| match effect {
        Effect::ForwardReply { to: 2, reply: ForwardReply::NoSpace { why, .. } } => why.contains("200 MiB"),
        _ => false,
    };
    assert!(effects.iter().any(refused), "{effects:?}");
}

#[test]
fn a_leader_whose_log_waits_for_space_answers_instead_of_letting_everybody_wait() {
    let mut bench = Bench::leader(3, 3);
    let waits = bench.put(1, 10);
    let held = bench.driver.effects();
    assert!(held.iter().any(|effect| matches!(effect, Effect::Persist { .. })));
    let behind = bench.put(2, 10);
    assert_eq!(answers(&bench.driver.effects()), [], "a batch is being written");
    let own = OwnSpace { room: room(1000), over_quota: None, stuck: Some("wal-2: no space".to_string()) };
    bench.driver.step(Event::Space { own });
    match answers(&bench.driver.effects()).as_slice() {
        [(request, Answer::Refused(Refusal::NoSpace(why)))] if *request == behind => {
            assert!(why.contains("wal-2: no space"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // What is in the batch may have an effect, so it is not called refused.
    bench.driver.step(Event::Space { own: OwnSpace { room: room(1000), ..OwnSpace::default() } });
    bench.carry_out(&held);
    bench.all_follow();
    assert!(bench.driver.log_has(3, bench.driver.node.raft.term), "{waits:?} is in the log");
    bench.takes(true, true);
}

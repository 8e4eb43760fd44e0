//! Rule N20 in its details: who may object to a member that starts, and what is done about a leader that contradicts what
//! is committed here.

use super::*;
use crate::limits::HELLO_WAIT_TICKS;

/// The kinds of messages that are sent.
fn sent(effects: Vec<Effect>) -> Vec<MessageType> {
    let kind = |effect| match effect {
        Effect::Send(message) => Some(message.get_msg_type()),
        _ => None,
    };
    effects.into_iter().filter_map(kind).collect()
}

/// A member of three that started a moment ago, with its kv db proved.
fn just_started() -> Bench {
    let mut bench = Bench::started(3, 3, 1);
    bench.driver.step(Event::KvReady);
    bench.settle();
    bench
}

fn asks_for_a_pre_vote(bench: &mut Bench, from: MemberId, term: Term) {
    bench.message(from, MessageType::MsgRequestPreVote, term, |m| (m.index, m.log_term) = (9, 1));
}

#[test]
fn no_vote_and_no_campaign_before_the_other_voters_have_answered() {
    let mut bench = just_started();
    asks_for_a_pre_vote(&mut bench, 2, 2);
    bench.message(3, MessageType::MsgTimeoutNow, 1, |_| {});
    assert_eq!(sent(bench.settle()), []);
    assert!(!bench.driver.status().can_lead && !bench.driver.headline().can_lead);
    bench.driver.step(Event::HelloAnswered { by: 3 });
    asks_for_a_pre_vote(&mut bench, 2, 3);
    assert_eq!(sent(bench.settle()), []);
    assert_eq!(bench.driver.unanswered(), [2]);
    bench.driver.step(Event::HelloAnswered { by: 2 });
    // The newest request of each candidate is answered.
    assert_eq!(sent(bench.settle()), [MessageType::MsgRequestPreVoteResponse]);
    assert!(bench.driver.status().can_lead && bench.driver.unanswered().is_empty());
}

#[test]
fn one_that_never_answers_holds_nobody_up_for_longer_than_an_election_timeout() {
    let mut bench = just_started();
    asks_for_a_pre_vote(&mut bench, 2, 2);
    for _ in 1..HELLO_WAIT_TICKS {
        bench.driver.step(Event::Tick);
        assert_eq!(sent(bench.settle()), []);
    }
    bench.driver.step(Event::Tick);
    assert_eq!(sent(bench.settle()), [MessageType::MsgRequestPreVoteResponse]);
    // This member's own timeout was not held up.
    bench.driver.step(Event::Tick);
    let asked = sent(bench.settle());
    assert_eq!(asked, [MessageType::MsgRequestPreVote; 2]);
}

#[test]
fn an_only_voter_waits_for_nobody() {
    let mut bench = Bench::started(1, 2, 1);
    bench.driver.step(Event::KvReady);
    bench.settle();
    assert!(bench.driver.is_leader());
}

/// A follower of member 2 in term 2, whose log is committed up to entry 3 of that term.
fn follower() -> Bench {
    let mut bench = Bench::new(3, 3);
    bench.driver.step(Event::KvReady);
    bench.message(2, MessageType::MsgAppend, 2, |m| {
        (m.index, m.log_term, m.commit) = (1, 1, 3);
        m.set_entries([2, 3].map(|index| Entry { index, term: 2, ..Entry::default() }).to_vec().into());
    });
    bench.settle();
    assert_eq!(bench.driver.status().commit, 3);
    bench
}

fn quarantine(effects: &[Effect]) -> Option<&crate::identity::Finding> {
    effects.iter().find_map(|effect| match effect {
        Effect::Quarantine { finding } => Some(finding),
        _ => None,
    })
}

#[test]
fn a_leader_that_contradicts_what_is_committed_gets_no_answer() {
    type Fill = fn(&mut Message);
    let ends_before: Fill = |m| {
        (m.index, m.log_term) = (1, 1);
        m.set_entries(vec![Entry { index: 2, term: 3, ..Entry::default() }].into());
    };
    let differs_before: Fill = |m| (m.index, m.log_term) = (3, 1);
    let below_the_base: Fill = |m| (m.index, m.log_term) = (1, 2);
    for fill in [ends_before, differs_before, below_the_base] {
        let mut bench = follower();
        bench.message(3, MessageType::MsgAppend, 3, fill);
        let effects = bench.settle();
        let finding = quarantine(&effects).expect("it is noticed");
        assert!(finding.diverged && finding.why.contains("member 3 leads term 3"), "{finding:?}");
        assert_eq!(sent(effects), []);
        assert_eq!(bench.driver.log().last_index(), 3, "nothing is truncated");
    }
    let offer: Fill = |m| {
        let meta = m.mut_snapshot().mut_metadata();
        (meta.index, meta.term) = (3, 1);
    };
    let mut bench = follower();
    let mut message = Message { from: 3, to: 1, term: 3, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    offer(&mut message);
    bench.driver.defer(message);
    assert!(quarantine(&bench.settle()).is_some_and(|finding| finding.diverged));
}

#[test]
fn a_sound_leader_of_any_term_contradicts_nobody() {
    let mut bench = follower();
    // An old leader's message, a doubled one, and a new leader's first entry.
    bench.message(3, MessageType::MsgAppend, 1, |m| (m.index, m.log_term) = (3, 1));
    for term in [2, 3] {
        bench.message(3, MessageType::MsgAppend, term, |m| {
            (m.index, m.log_term) = (2, 2);
            m.set_entries(vec![Entry { index: 3, term: 2, ..Entry::default() }].into());
        });
    }
    bench.message(3, MessageType::MsgAppend, 3, |m| {
        (m.index, m.log_term) = (3, 2);
        m.set_entries(vec![Entry { index: 4, term: 3, ..Entry::default() }].into());
    });
    let effects = bench.settle();
    assert!(quarantine(&effects).is_none());
    assert_eq!(bench.driver.log().last_index(), 4);
}

/// Until its first append such a leader shows itself by heartbeats alone.
#[test]
fn a_read_is_not_served_if_its_entry_is_not_of_the_term_that_confirmed_it() {
    let mut bench = follower();
    bench.message(3, MessageType::MsgHeartbeat, 3, |m| m.commit = 3);
    bench.settle();
    bench.driver.step(Event::Read { read: 7 });
    let asked = bench.settle().into_iter().find_map(|effect| match effect {
        Effect::Send(message) if message.get_msg_type() == MessageType::MsgReadIndex => Some(message),
        _ => None,
    });
    let context = asked.expect("the leader is asked").get_entries()[0].clone();
    bench.message(3, MessageType::MsgReadIndexResp, 3, |m| {
        m.index = 3;
        m.set_entries(vec![context.clone()].into());
    });
    let effects = bench.settle();
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::ReadReady { .. })), "{effects:?}");
}

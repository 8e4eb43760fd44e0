//! What raft-rs 0.7 gets wrong while a cluster runs, and our guard against each: one test per guard.
//!
//! Numbers are issues of tikv/raft-rs. `raft_guards_start.rs` has what goes wrong at the start or around a campaign.
//! Rows that a story (`golden/`) or a sweep proves already have no second test here:
//!
//! | what raft 0.7 does | the guard | where it is proved |
//! |---|---|---|
//! | panics: `to_commit out of range` | a heartbeat beyond the log leads to a quarantine | golden 34, 33, 39 |
//! | a forwarded proposal has no term: a doubled one appends twice | our own forwards, once a term | golden 07, 08 |
//! | `pre_vote` off: a member that comes back raises the term | `pre_vote: true` | golden 02 |
//! | `check_quorum` off: a leader without followers stays leader | `check_quorum: true` | golden 09 |
//! | LeaseBased reads check no clock | `ReadOnlyOption::Safe` | golden 09, 10 |
//! | a joint state outlives its leader | the next leader leaves it | golden 18 |
//! | takes removals that lose the quorum, promotions of members that lag | refused | golden 15, 16 |
//! | 2 -> 1 hangs when the last message is lost | the removed one answers until safe | golden 26-28, two_to_one.rs |
//! | a removed member that is not told campaigns for ever | those who applied the removal tell it | golden 23, 24 |
//! | a leader may remove itself | leadership moves first | golden 25 |
//! | messages of a term that is not durable leave an only voter | they wait | golden 31 |

use protobuf::Message as _;
use raft::prelude::{ConfChangeV2, Entry, EntryType, Message, MessageType};
use raftkv_core::driver::MembershipCall;
use raftkv_core::driver::{Answer, Event, Role};
use raftkv_core::limits;
use raftkv_core::log::LogConfig;
use raftkv_core::membership::Change;
use raftkv_core::refusal::Refusal;
use raftkv_core::types::Index;
use raftkv_sim::lone::{Lone, append, change, member, message, put, small, voters};
use raftkv_sim::node::Sizes;
use raftkv_sim::story::Story;
use std::collections::BTreeSet;

/// Bytes of a small put: several fit into a message of [`small`] sizes.
const SMALL_BYTES: usize = 64;

fn rejection(from: u64, rejected: Index, hint: Index) -> Message {
    let answer = message(MessageType::MsgAppendResponse, from, 2);
    Message { index: rejected, reject: true, reject_hint: hint, log_term: 1, ..answer }
}

/// #555: a stale rejection takes next_idx to `matched` or below. Guard: `mend_progress` puts it behind `matched`.
#[test]
fn a_stale_rejection_does_not_pull_next_to_matched_or_below() {
    for rejected in 1..=6 {
        for hint in 1..=6 {
            let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
            for _ in 0..4 {
                lone.write(SMALL_BYTES);
            }
            lone.ack(2, 4);
            lone.step(Event::Unreachable { to: 2 });
            // Late and doubled, by another stream than the acknowledgement.
            (0..2).for_each(|_| lone.hear(rejection(2, rejected, hint)));
            lone.appends_to(2);
            lone.hear(message(MessageType::MsgHeartbeatResponse, 2, 2));
            let appends = lone.appends_to(2);
            assert!(!appends.is_empty(), "rejected {rejected} hint {hint}: nothing is sent");
            assert!(appends.iter().all(|m| m.index >= 4), "rejected {rejected} hint {hint}: {appends:?}");
            lone.ack(2, 6);
            assert_eq!(lone.status().commit, 6);
        }
    }
}

/// etcd-io/raft fixed this, raft-rs did not: an answer without news leaves a member in Probe, so that it does not count
/// as caught up until the next write. Guard: `mend_progress` makes it Replicate.
#[test]
fn a_member_fed_by_a_snapshot_leaves_probe_without_another_write() {
    let mut story = Story::new(2, small());
    story.init(1);
    story.stabilize();
    let call = story.add_call(1);
    story.change(0, call, None).expect("n1 runs");
    for _ in 0..10 {
        story.tick_all();
        story.stabilize();
    }
    let status = story.status_of(0).expect("n1 runs");
    assert_eq!(status.peers[0].matched, status.last_index);
    assert!(status.peers[0].caught_up, "{:?}", status.peers);
}

/// The same without a snapshot: a member that was away and missed nothing is sent nothing, and stays in Probe. Guard:
/// `mend_idle_probe` makes it Replicate at its first answer to a heartbeat.
#[test]
fn a_member_that_was_away_and_missed_nothing_is_caught_up_without_another_write() {
    let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
    lone.write(SMALL_BYTES);
    lone.ack(2, lone.status().last_index);
    let caught_up = |lone: &Lone| lone.status().peers.iter().any(|peer| peer.id == 2 && peer.caught_up);
    assert!(caught_up(&lone));
    lone.step(Event::Unreachable { to: 2 });
    assert!(!caught_up(&lone), "raft did not go into Probe: this test proves nothing");
    lone.hear(message(MessageType::MsgHeartbeatResponse, 2, 2));
    assert!(caught_up(&lone), "{:?}", lone.status().peers);
}

fn leaves_joint(entry: &Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryConfChangeV2
        && ConfChangeV2::parse_from_bytes(&entry.data).is_ok_and(|change| change.changes.is_empty())
}

/// A note at raft.rs:962 says that auto_leave may never happen when the leader stepped down early; in this test raft is
/// never asked to leave. Guard: `leave_joint_if_stuck` proposes to leave.
#[test]
fn a_joint_state_that_raft_does_not_leave_is_left() {
    let mut membership = voters(&[1, 2, 3, 4]);
    membership.voters.remove(&3);
    membership.outgoing = BTreeSet::from([1, 2, 3]);
    membership.auto_leave = false;
    let mut lone = Lone::leading(&membership, 2);
    lone.tick(3);
    assert_eq!(lone.status().last_index, 2, "a leader that has committed nothing yet proposes nothing");
    lone.ack(2, 2);
    lone.tick(1);
    let appends = lone.appends_to(2);
    assert!(appends.iter().any(|m| m.entries.iter().any(leaves_joint)), "{appends:?}");
    lone.tick(5);
    assert_eq!(lone.status().last_index, 3, "it is proposed once");
    lone.ack(2, 3);
    assert!(!lone.status().membership.is_joint());
    assert!(lone.status().membership.is_removed(3));
}

/// raft.rs:2060: a change that raft does not take becomes an empty entry, and propose returns Ok. Guard (N3): the
/// driver asks `has_pending_conf` before, and checks `pending_conf_index == last_index` after: 409, and nothing is
/// appended.
#[test]
fn a_change_that_raft_would_empty_is_refused_and_not_appended() {
    let mut lone = Lone::running(&voters(&[1, 2, 3]));
    lone.hear(append(2, 2, (1, 1), vec![put(2, 2, SMALL_BYTES), put(3, 2, SMALL_BYTES)], 1));
    lone.elect(2);
    assert_eq!((lone.status().commit, lone.status().last_index), (1, 4), "raft takes no change before 3 is handed out");
    let request = lone.change(MembershipCall::Add(member(4)));
    assert_eq!(lone.answer_to(request), Some(&Answer::Refused(Refusal::ChangePending)));
    assert_eq!(lone.status().last_index, 4, "an empty entry stands in the log");
    lone.ack(2, 4);
    let request = lone.change(MembershipCall::Add(member(4)));
    lone.ack(2, 5);
    assert!(matches!(lone.answer_to(request), Some(Answer::Changed(_))), "{:?}", lone.answer_to(request));
}

/// Conf changes are applied when they are handed out, so two could be in flight above a commit index that no disk knows
/// (etcd #7280). Guard (N10): `write_commit_if_due`, and no change before that index is durable.
#[test]
fn a_change_waits_until_the_commit_of_the_one_before_is_durable() {
    let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
    lone.ack(2, 2);
    lone.change(MembershipCall::Add(member(4)));
    lone.hold_disk(true);
    lone.ack(2, 3);
    assert_eq!((lone.status().membership.conf_index, lone.status().durable_conf_index), (3, 1));
    let request = lone.change(MembershipCall::Add(member(5)));
    assert_eq!((lone.status().last_index, lone.answer_to(request)), (3, None));
    lone.hold_disk(false);
    assert_eq!((lone.status().last_index, lone.status().durable_conf_index), (4, 3));
}

fn read_index(context: &[u8], index: Index) -> Message {
    let entry = Entry { data: context.to_vec().into(), ..Entry::default() };
    let answer = message(MessageType::MsgReadIndexResp, 2, 2);
    Message { index, entries: vec![entry].into(), ..answer }
}

fn asked(lone: &mut Lone) -> Vec<Vec<u8>> {
    lone.sent(MessageType::MsgReadIndex).iter().map(|m| m.entries[0].data.to_vec()).collect()
}

/// raft.rs:2372: a ReadIndex without a leader is silently dropped. Guard: it waits for a leader.
#[test]
fn a_read_waits_for_a_leader() {
    let mut lone = Lone::running(&voters(&[1, 2, 3]));
    lone.step(Event::Read { read: 7 });
    lone.tick(3);
    assert!(asked(&mut lone).is_empty());
    lone.hear(message(MessageType::MsgHeartbeat, 2, 2));
    let contexts = asked(&mut lone);
    assert_eq!(contexts.len(), 1);
    lone.hear(append(2, 2, (1, 1), vec![put(2, 2, SMALL_BYTES)], 2));
    lone.hear(read_index(&contexts[0], 2));
    assert_eq!(lone.ready_reads(), [7]);
}

/// raft.rs:2105: a leader that has not committed in its term silently drops a ReadIndex. Guard: `answerable`, so that
/// the round starts with that commit, instead of after the timeout of a round that raft dropped.
#[test]
fn a_read_starts_when_the_leader_has_committed_in_its_term() {
    let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
    lone.step(Event::Read { read: 7 });
    lone.sent(MessageType::MsgHeartbeat);
    lone.ack(2, 2);
    let heartbeats = lone.sent(MessageType::MsgHeartbeat);
    let context = heartbeats.first().map(|m| m.context.clone()).expect("a round starts at once");
    assert!(!context.is_empty());
    lone.hear(Message { context, ..message(MessageType::MsgHeartbeatResponse, 2, 2) });
    assert_eq!(lone.ready_reads(), [7]);
}

/// Either side may lose a ReadIndex, and `read_only.rs` silently ignores a context that it knows (#569). Guard (N18):
/// after an election timeout the reads ask again, in a context that was never used before, not even before a restart.
#[test]
fn a_read_without_an_answer_asks_again_in_a_new_context() {
    let mut lone = Lone::running(&voters(&[1, 2, 3]));
    lone.hear(append(2, 2, (1, 1), vec![put(2, 2, SMALL_BYTES)], 2));
    lone.step(Event::Read { read: 7 });
    let mut contexts = asked(&mut lone);
    for _ in 0..3 * limits::ELECTION_TICKS {
        lone.tick(1);
        lone.hear(message(MessageType::MsgHeartbeat, 2, 2));
        contexts.extend(asked(&mut lone));
    }
    assert_eq!(contexts.len(), 4, "one round after another");
    lone.hear(read_index(&contexts[0], 2));
    assert_eq!(lone.ready_reads(), [] as [u64; 0], "an answer to a round that was given up");
    lone.hear(read_index(&contexts[3], 2));
    assert_eq!(lone.ready_reads(), [7]);
    lone.crash();
    lone.boot().expect("it opens");
    lone.hear(message(MessageType::MsgHeartbeat, 2, 2));
    lone.step(Event::Read { read: 8 });
    contexts.extend(asked(&mut lone));
    assert_eq!(contexts.len(), 5);
    assert_eq!(contexts.iter().collect::<BTreeSet<_>>().len(), 5, "a context is used twice");
}

/// raft.rs:2684 ("untested"): a leader that applies its own removal stays leader, answers reads alone, and panics at
/// raft.rs:943 with the next acknowledgement. Guard (N10): `become_follower` before anything else is stepped.
#[test]
fn a_leader_that_applies_its_own_removal_steps_down() {
    let membership = voters(&[1, 2, 3]);
    let mut lone = Lone::running(&membership);
    lone.hear(append(2, 2, (1, 1), vec![change(2, 2, &membership, &Change::Remove { id: 1 })], 1));
    lone.elect(2);
    lone.write(SMALL_BYTES);
    lone.ack(2, 3);
    assert!(lone.status().removed, "{:?}", lone.status());
    assert_eq!(lone.status().role, Role::Follower);
    lone.step(Event::Read { read: 7 });
    for from in [2, 3] {
        lone.hear(Message { index: 4, ..message(MessageType::MsgAppendResponse, from, 3) });
    }
    assert_eq!((lone.status().commit, lone.ready_reads()), (3, vec![]));
    // It still votes, but never campaigns (N10).
    lone.sent(MessageType::MsgRequestVote);
    lone.tick(200);
    lone.hear(message(MessageType::MsgTimeoutNow, 2, 3));
    assert!(lone.sent(MessageType::MsgRequestPreVote).is_empty() && lone.sent(MessageType::MsgRequestVote).is_empty());
    lone.hear(Message { index: 9, log_term: 4, ..message(MessageType::MsgRequestVote, 2, 4) });
    assert_eq!(lone.sent(MessageType::MsgRequestVoteResponse).iter().map(|m| m.reject).collect::<Vec<_>>(), [false]);
}

/// 2 -> 1, and the survivor lost both its commit of the removal and the request for a real vote. The removed member's log
/// is longer, so it refuses each pre-vote, and raft.rs:1393 drops the refusal, which has the older term and the only word
/// of that commit (seed 2306). Guard: its commit counts in the survivor's term.
#[test]
fn who_refuses_a_pre_vote_in_an_older_term_hands_on_its_commit() {
    let membership = voters(&[1, 2]);
    let mut lone = Lone::running(&membership);
    lone.hear(append(2, 2, (1, 1), vec![change(2, 2, &membership, &Change::Remove { id: 2 })], 1));
    lone.campaign();
    lone.hear(message(MessageType::MsgRequestPreVoteResponse, 2, 3));
    lone.campaign();
    assert_eq!((lone.status().term, lone.status().commit), (3, 1), "it was a candidate of term 3");
    lone.hear(Message { reject: true, ..message(MessageType::MsgRequestPreVoteResponse, 2, 2) });
    assert_eq!((lone.status().term, lone.status().commit), (3, 1), "it says nothing new");
    let refusal = message(MessageType::MsgRequestPreVoteResponse, 2, 2);
    lone.hear(Message { reject: true, commit: 2, commit_term: 2, ..refusal });
    assert_eq!(lone.status().commit, 2);
    lone.tick(200);
    assert_eq!((lone.status().role, lone.status().membership.voters.len()), (Role::Leader, 1));
}

/// MsgPropose carries no term, so a late or doubled one appends again (probe H). Guard (N5): none is stepped.
#[test]
fn a_proposal_of_a_peer_is_dropped() {
    let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
    let proposal = Message { entries: vec![put(0, 0, 1)].into(), ..message(MessageType::MsgPropose, 2, 0) };
    lone.hear(proposal);
    assert_eq!(lone.status().last_index, 2);
}

/// #472, by design: a receiver that is not in a snapshot's ConfState ignores the snapshot, for ever. Guard (N12):
/// `Storage::snapshot` offers none from before the change that added the receiver, and asks for a newer one.
#[test]
fn a_snapshot_from_before_its_receiver_was_added_is_never_offered() {
    let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
    lone.ack(2, 2);
    lone.hold_apply(true);
    lone.change(MembershipCall::Add(member(4)));
    lone.ack(2, 3);
    // Its log is empty, and the leader's begins behind a snapshot at 1, which does not know the new member.
    lone.hear(rejection(4, 2, 0));
    assert!(lone.sent(MessageType::MsgSnapshot).is_empty());
    lone.hold_apply(false);
    lone.hear(message(MessageType::MsgHeartbeatResponse, 4, 2));
    let offers = lone.sent(MessageType::MsgSnapshot);
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0].get_snapshot().get_metadata().index, 3);
    assert_eq!(offers[0].get_snapshot().get_metadata().get_conf_state().learners, [4]);
}

/// By default, `max_size_per_msg = 0` sends one entry per message. Guard: our limit.
#[test]
fn an_append_carries_many_entries_and_ends_at_the_size_limit() {
    let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
    for _ in 0..100 {
        lone.write(SMALL_BYTES);
    }
    lone.appends_to(2);
    lone.ack(2, 2);
    let appends = lone.appends_to(2);
    let bytes_max = small().log.batch_bytes_max / 16;
    assert!(appends.iter().all(|m| m.entries.iter().map(|e| e.data.len()).sum::<usize>() <= bytes_max));
    assert!(appends.iter().any(|m| m.entries.len() > 10), "{} appends", appends.len());
    assert_eq!(appends.iter().map(|m| m.entries.len()).sum::<usize>(), 100, "all of them are on their way");
}

/// By default, 256 messages may be in flight, each of any size. Guard: our limit.
#[test]
fn appends_in_flight_are_bounded() {
    let mut lone = Lone::leading(&voters(&[1, 2, 3]), 2);
    lone.ack(2, 2);
    lone.appends_to(2);
    for _ in 0..3 * limits::INFLIGHT_MESSAGES_MAX {
        lone.write(SMALL_BYTES);
    }
    let appends = lone.appends_to(2);
    assert_eq!(appends.iter().filter(|m| !m.entries.is_empty()).count(), limits::INFLIGHT_MESSAGES_MAX);
}

/// By default, `max_uncommitted_size` is without limit; beyond a limit raft drops the proposal and only returns an
/// error. Guard: a limit, and the caller is told that nothing happened (N5).
#[test]
fn a_write_beyond_the_uncommitted_limit_has_no_effect_and_is_told_so() {
    let log =
        LogConfig { segment_bytes: 8 << 20, batch_bytes_max: 4 << 20, cache_bytes_max: 1 << 20, spare_segments: 1 };
    let mut lone = Lone::new(&voters(&[1, 2, 3]), Sizes { log, snapshot_log_bytes_min: 1 << 40 });
    lone.boot().expect("a new directory opens");
    lone.elect(2);
    let fits = limits::UNCOMMITTED_BYTES_MAX >> 20;
    let taken: Vec<_> = (0..fits).map(|_| lone.write(1 << 20)).collect();
    let refused = taken.iter().filter(|request| lone.answer_to(**request).is_some()).count();
    assert!(refused <= 1, "{refused} of {fits}");
    let last_index = lone.status().last_index;
    let request = lone.write(1 << 20);
    assert!(matches!(lone.answer_to(request), Some(Answer::Refused(Refusal::Dropped(_)))));
    assert_eq!(lone.status().last_index, last_index);
    lone.ack(2, last_index);
    let request = lone.write(1 << 20);
    assert_eq!((lone.answer_to(request), lone.status().last_index), (None, last_index + 1));
}

//! What raft-rs 0.7 gets wrong, mostly by a panic, when it starts on what a crash left behind and when it campaigns,
//! and our guard against each: one test per guard. `raft_guards.rs` has the others, with a table of what stories prove.
//! `identity_states.rs` and `log_edges.rs` have all other contents of a data directory.

use raft::prelude::{HardState, Message, MessageType};
use raftkv_api::Hex128;
use raftkv_core::driver::MembershipCall;
use raftkv_core::driver::{Driver, DriverConfig, Role, Start};
use raftkv_core::log::{self, Batch, Log, Mark};
use raftkv_core::membership::Change;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::types::MemberIdentity;
use raftkv_sim::disk::SimDisk;
use raftkv_sim::lone::{Lone, append, change, message, put, small, voters};
use raftkv_sim::node::Life;
use raftkv_sim::story::Story;
use std::sync::Arc;

const SMALL_BYTES: usize = 64;

/// raft.rs:2786 (tikv #994, qdrant #4683): `hs.commit out of range` panics at every start. Guard (N2): `check_log`.
#[test]
fn a_commit_index_beyond_the_log_is_a_quarantine() {
    let mut lone = Lone::new(&voters(&[1, 2, 3]), small());
    let mut log = lone.replay().log;
    let ops = log.append(Batch {
        hard_state: Some(HardState { term: 2, commit: 9, ..HardState::default() }),
        ..Batch::default()
    });
    log::execute(&*lone.disk(), &ops).expect("memory");
    lone.boot().expect("it is told by its life");
    let Life::Quarantined(why) = lone.life() else { panic!("it runs") };
    assert!(why.contains("the log ends at 1, but its commit index is 9"), "{why}");
}

/// A member whose kv db is ahead of the commit index on its disk, and whose log holds all those entries.
fn ahead_of_its_commit() -> Lone {
    let mut lone = Lone::running(&voters(&[1, 2, 3]));
    lone.hear(append(2, 2, (1, 1), vec![put(2, 2, SMALL_BYTES), put(3, 2, SMALL_BYTES)], 1));
    lone.hear(Message { commit: 3, ..message(MessageType::MsgHeartbeat, 2, 2) });
    assert_eq!(lone.applied(), [2, 3]);
    lone.crash();
    lone
}

/// raft panics on `applied` above the commit index (probe A); a power loss leaves that, since commit is written with
/// the next batch. Guard (N8): commit is raised to what was applied, since the log holds it.
#[test]
fn applied_above_the_durable_commit_opens() {
    let mut lone = ahead_of_its_commit();
    assert_eq!(lone.replay().hard_state.commit, 1);
    lone.boot().expect("it opens");
    assert_eq!((lone.status().commit, lone.status().applied), (3, 3));
}

/// PR #593: `ready()` panics on a snapshot below `Config.applied` (raw_node.rs:519). Guard: the raised commit index, by
/// which raft takes the snapshot for an old one, and answers with its commit index.
#[test]
fn a_snapshot_below_applied_is_not_taken() {
    let mut lone = ahead_of_its_commit();
    lone.boot().expect("it opens");
    let sha256 = "0".repeat(64);
    let (revision, compacted, size) = (2, 0, 1 << 12);
    let membership = voters(&[1, 2, 3]);
    let meta = SnapshotMeta { index: 2, term: 2, membership, revision, compacted, size, sha256 };
    let mut offer = message(MessageType::MsgSnapshot, 2, 2);
    offer.set_snapshot(meta.to_raft());
    lone.sent(MessageType::MsgAppendResponse);
    lone.hear(offer);
    let answers = lone.sent(MessageType::MsgAppendResponse);
    assert_eq!(answers.iter().map(|m| (m.index, m.reject)).collect::<Vec<_>>(), [(3, false)]);
}

/// Probe B: with `applied = 0` and a log that begins at 51, raft hands entry 51 to an empty db, without an error. Guard
/// (N8): the four indexes must be in order.
#[test]
fn a_compacted_log_is_never_handed_out_onto_an_empty_db() {
    let disk: Arc<dyn LogDisk> = Arc::new(SimDisk::new());
    let identity = MemberIdentity {
        cluster_id: Hex128([1; 16]),
        genesis: Hex128([2; 16]),
        generation: 0,
        member_id: 1,
        incarnation: Hex128([3; 16]),
    };
    let start = |applied| {
        let (mut log, _) = Log::create(small().log, identity, disk.clone());
        log.append(Batch { mark: Some(Mark { index: 50, term: 1 }), ..Batch::default() });
        log.append(Batch { entries: (51..=60).map(|index| put(index, 1, 1)).collect(), ..Batch::default() });
        let hard_state = HardState { term: 1, commit: 60, ..HardState::default() };
        Start { identity, log, hard_state, applied, membership: voters(&[1, 2, 3]), snapshots: Vec::new() }
    };
    let config =
        DriverConfig { nonce: 1, election_ticks_min: 15, election_ticks_max: 16, snapshot_log_bytes_min: 1 << 20 };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let refused = |applied| Driver::new(config.clone(), start(applied), &logger).err();
    for applied in [0, 49, 61] {
        let why = refused(applied).expect("it is out of order");
        assert!(why.contains("not in order"), "{why}");
    }
    assert_eq!(refused(50), None);
}

/// raft.rs:1214 asserts that a candidate has persisted everything, which does not hold for an only voter with an append
/// in flight. Guard (N6): `holds_tick`; MsgTimeoutNow is dropped too.
#[test]
fn an_only_voter_does_not_campaign_over_an_append_in_flight() {
    let membership = voters(&[1, 2]);
    let mut lone = Lone::running(&membership);
    lone.hear(append(2, 2, (1, 1), vec![change(2, 2, &membership, &Change::Remove { id: 2 })], 2));
    assert_eq!(lone.status().membership.voters.len(), 1);
    lone.hold_disk(true);
    lone.hear(append(2, 2, (2, 2), vec![put(3, 2, SMALL_BYTES)], 2));
    assert_eq!(lone.status().last_index, 3);
    lone.tick(100);
    lone.hear(message(MessageType::MsgTimeoutNow, 2, 2));
    assert_eq!((lone.status().role, lone.status().term), (Role::Follower, 2));
    lone.hold_disk(false);
    lone.tick(2);
    assert_eq!((lone.status().role, lone.status().term), (Role::Leader, 3));
}

/// The same assertion, when the proof of the kv db would make an only voter campaign at once. Guard: `kv_ready`.
#[test]
fn an_only_voter_that_is_proved_waits_for_the_append_in_flight() {
    let mut lone = Lone::new(&voters(&[1]), small());
    lone.hold_apply(true);
    lone.boot().expect("it opens");
    lone.hold_disk(true);
    // From a member that led before it was removed, and does not know of its removal.
    lone.hear(append(2, 2, (1, 1), vec![put(2, 2, SMALL_BYTES)], 1));
    lone.hold_apply(false);
    assert!(lone.status().can_lead);
    assert_eq!((lone.status().role, lone.status().last_index), (Role::Follower, 2));
    lone.hold_disk(false);
    lone.tick(20);
    assert_eq!((lone.status().role, lone.status().term), (Role::Leader, 3));
}

/// raw_node.rs `ready()` asserts that no record of entries is open when it first sees a leader. Guard (N9): while a
/// batch is being synced no Ready with a new term is taken, so that no vote can have been asked for, let alone given.
#[test]
fn votes_are_asked_for_only_when_the_batch_before_is_durable() {
    let mut lone = Lone::running(&voters(&[1, 2, 3]));
    lone.hear(message(MessageType::MsgHeartbeat, 2, 2));
    lone.hold_disk(true);
    lone.hear(append(2, 2, (1, 1), vec![put(2, 2, SMALL_BYTES)], 1));
    // Its leader hands leadership over at once: it is a candidate while entry 2 is not durable.
    lone.hear(message(MessageType::MsgTimeoutNow, 2, 2));
    assert_eq!((lone.status().role, lone.status().term), (Role::Candidate, 3));
    assert!(lone.sent(MessageType::MsgRequestVote).is_empty());
    lone.hold_disk(false);
    assert_eq!(lone.sent(MessageType::MsgRequestVote).len(), 2);
    lone.hear(message(MessageType::MsgRequestVoteResponse, 3, 3));
    assert_eq!((lone.status().role, lone.status().durable_term), (Role::Leader, 3));
}

/// raft campaigns on MsgTimeoutNow at once, but a member whose kv db is not proved yet must not lead. Guard (N23): the
/// message is dropped (golden 32 proves that ticks are held too).
#[test]
fn leadership_is_not_taken_over_before_the_kv_db_is_proved() {
    let mut lone = Lone::new(&voters(&[1, 2, 3]), small());
    lone.hold_apply(true);
    lone.boot().expect("it opens");
    lone.hear(message(MessageType::MsgHeartbeat, 2, 2));
    lone.hear(message(MessageType::MsgTimeoutNow, 2, 2));
    assert!(!lone.status().can_lead && lone.sent(MessageType::MsgRequestVote).is_empty());
    lone.hold_apply(false);
    lone.hear(message(MessageType::MsgTimeoutNow, 2, 2));
    assert!(lone.status().can_lead && !lone.sent(MessageType::MsgRequestVote).is_empty());
}

/// #221 and raft.rs:1400: without pre_vote and check_quorum, a member that was cut off, or removed meanwhile, raises
/// the term of the others when it is back. Guard: both are on, and a removed member is told that it was removed.
#[test]
fn a_member_that_was_away_or_removed_raises_nobodys_term() {
    for removed in [false, true] {
        let mut story = Story::new(3, small());
        story.init(1);
        for slot in [1, 2] {
            let call = story.add_call(slot);
            story.change(0, call, None).expect("n1 runs");
            live(&mut story, 25);
            story.change(0, MembershipCall::Promote { id: slot as u64 + 1, replaces: None }, None).expect("n1 runs");
            live(&mut story, 25);
        }
        story.partition(&[2]);
        if removed {
            story.change(0, MembershipCall::Remove { id: 3 }, None).expect("n1 runs");
        }
        live(&mut story, 100);
        assert_eq!(story.status_of(2).map(|status| status.role), Some(Role::Candidate));
        story.heal();
        live(&mut story, 40);
        let terms = [0, 1].map(|slot| story.status_of(slot).map(|status| (status.term, status.leader)));
        assert_eq!(terms, [Some((2, 1)); 2], "removed: {removed}");
        assert_eq!(matches!(story.life_of(2), Life::Removed), removed);
    }
}

fn live(story: &mut Story, ticks: usize) {
    for _ in 0..ticks {
        story.tick_all();
        story.stabilize();
    }
}

//! Tests a driver on files in memory, for edge cases that a golden script would take long to reach.
//!
//! A [`Bench`] is member 1 of a cluster; the tests play the other members, the disk and the apply thread.

use super::*;
use crate::driver::MembershipCall;
use crate::kvstore::Committed;
use crate::kvstore::testing::{MemFiles, identity, membership};
use crate::log::{self, Batch, LogConfig, Mark};
use crate::membership::Removed;
use crate::wire::{Forward, ForwardReply, HELLO_FORMAT, Hello, HelloVerdict, LEVEL_MAX};
use bytes::Bytes;
use raft::ProgressState;
use raft::prelude::{Entry, EntryType, MessageType};
use raftkv_api::Hex128;

mod hang;
mod space;
mod start;
mod writes;

const LOG: LogConfig =
    LogConfig { segment_bytes: 64 << 20, batch_bytes_max: 16 << 20, cache_bytes_max: 1 << 20, spare_segments: 0 };

/// Member 1 of a cluster in which the first `voters` of `members` vote.
struct Bench {
    driver: Driver,
    disk: Arc<MemFiles>,
}

impl Bench {
    fn new(voters: u64, members: u64) -> Bench {
        Bench::opened(voters, members, 1)
    }

    /// The kv db claims to have applied the membership at `applied`; the log's own commit index is 1.
    fn opened(voters: u64, members: u64, applied: Index) -> Bench {
        let mut bench = Bench::started(voters, members, applied);
        bench.all_answer();
        bench
    }

    /// The same, with nobody having answered its hello.
    fn started(voters: u64, members: u64, applied: Index) -> Bench {
        let mut membership = membership(members);
        membership.voters = (1..=voters).collect();
        membership.learners = (voters + 1..=members).collect();
        membership.conf_index = applied;
        let disk = Arc::new(MemFiles::default());
        let (mut log, ops) = Log::create(LOG, identity(), disk.clone());
        log::execute(&*disk, &ops).expect("memory does not fail");
        let hard_state = HardState { term: 1, commit: 1, ..HardState::default() };
        let mark = Some(Mark { index: 1, term: 1 });
        let entries = (2..=applied).map(|index| Entry { index, term: 1, ..Entry::default() }).collect();
        let ops = log.append(Batch { mark, entries, hard_state: Some(hard_state.clone()), closing: false });
        let hard_state = HardState { commit: applied, ..hard_state };
        log::execute(&*disk, &ops).expect("memory does not fail");
        let config =
            DriverConfig { nonce: 9, election_ticks_min: 15, election_ticks_max: 16, snapshot_log_bytes_min: 1 << 30 };
        let start = Start { identity: identity(), log, hard_state, applied, membership, snapshots: Vec::new() };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        Bench { driver: Driver::new(config, start, &logger).expect("a sound start"), disk }
    }

    /// Everybody answers this member's hello, so that it may vote and campaign.
    fn all_answer(&mut self) {
        for by in self.driver.unanswered() {
            self.driver.step(Event::HelloAnswered { by });
        }
    }

    fn leader(voters: u64, members: u64) -> Bench {
        let mut bench = Bench::new(voters, members);
        bench.lead();
        bench
    }

    /// Wins an election with the vote of member 2, and commits its first entry.
    fn lead(&mut self) {
        self.driver.step(Event::KvReady);
        self.settle();
        if !self.driver.is_leader() {
            let term = self.driver.node.raft.term;
            self.message(2, MessageType::MsgTimeoutNow, term, |_| {});
            self.settle();
            self.message(2, MessageType::MsgRequestVoteResponse, term + 1, |_| {});
            self.settle();
        }
        assert!(self.driver.is_leader());
        self.all_follow();
    }

    /// Everybody acknowledges the whole log.
    fn all_follow(&mut self) {
        let others: Vec<MemberId> = self.driver.membership.members.keys().copied().filter(|id| *id != 1).collect();
        let (term, last) = (self.driver.node.raft.term, self.driver.log().last_index());
        for id in others {
            self.message(id, MessageType::MsgAppendResponse, term, |m| m.index = last);
            let can_lead = crate::wire::Report { can_lead: true, ..Default::default() };
            self.driver.step(Event::Report { from: id, report: can_lead });
        }
        self.settle();
    }

    fn message(&mut self, from: MemberId, kind: MessageType, term: Term, fill: impl Fn(&mut Message)) {
        let mut message = Message { from, to: 1, term, ..Message::default() };
        message.set_msg_type(kind);
        fill(&mut message);
        self.driver.step(Event::Message(Box::new(message)));
    }

    /// Carries out disk and apply until nothing moves; returns all effects.
    fn settle(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        loop {
            let effects = self.driver.effects();
            if effects.is_empty() {
                return all;
            }
            self.carry_out(&effects);
            all.extend(effects);
        }
    }

    fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Persist { batch, ops } => {
                    log::execute(&*self.disk, ops).expect("memory does not fail");
                    self.driver.step(Event::Persisted { batch: *batch });
                }
                Effect::Apply { generation, items } => {
                    let index = match items.last().expect("never empty") {
                        Committed::Normal { index, .. } | Committed::Conf { index, .. } => *index,
                    };
                    self.driver.step(Event::Applied { index, generation: *generation });
                }
                _ => {}
            }
        }
    }

    fn put(&mut self, seq: u64, bytes: usize) -> RequestId {
        let request = RequestId { origin: 1, nonce: 9, seq };
        self.driver.step(Event::Propose { request, data: vec![0; bytes].into(), grows: true });
        request
    }

    /// Another leader replaces everything after `index` by one entry of its own and commits it.
    fn overruled(&mut self, index: Index, term: Term) -> Vec<Effect> {
        let log_term = self.driver.log().term(index).expect("within the log");
        self.message(2, MessageType::MsgAppend, term, |m| {
            (m.index, m.log_term, m.commit) = (index, log_term, index + 1);
            m.set_entries(vec![Entry { index: index + 1, term, ..Entry::default() }].into());
        });
        self.settle()
    }
}

fn answers(effects: &[Effect]) -> Vec<(RequestId, Answer)> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { request, answer } => Some((*request, answer.clone())),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

#[test]
fn a_leader_does_not_replace_itself_but_hands_over_first() {
    let mut bench = Bench::leader(3, 4);
    let last = bench.driver.log().last_index();
    let request = RequestId { origin: 1, nonce: 9, seq: 1 };
    let call = MembershipCall::Promote { id: 4, replaces: Some(1) };
    bench.driver.step(Event::Change { request, call, if_match: 1 });
    let effects = bench.settle();
    assert_eq!(bench.driver.log().last_index(), last, "nothing was proposed");
    let asks = |effect: &Effect| matches!(effect, Effect::Send(message) if message.get_msg_type() == MessageType::MsgTimeoutNow);
    assert!(effects.iter().any(asks), "rule N10: transfer first");
}

#[test]
fn a_request_whose_index_was_given_to_another_of_ours_still_hears_that_it_lost() {
    let mut bench = Bench::leader(3, 3);
    let first = bench.put(1, 10);
    bench.settle();
    let term = bench.driver.node.raft.term + 1;
    bench.message(2, MessageType::MsgHeartbeat, term, |_| {});
    bench.settle();
    let second = bench.put(2, 10);
    let reply = ForwardReply::Appended { request: second, index: 3, term };
    bench.driver.step(Event::ForwardReply { from: 2, reply });
    let answered = answers(&bench.overruled(2, term));
    assert!(matches!(&answered[..], [(id, Answer::Refused(Refusal::Dropped(_)))] if *id == first), "{answered:?}");
}

#[test]
fn a_doubled_forward_is_not_called_refused_after_the_first_was_appended() {
    let mut bench = Bench::leader(3, 3);
    let term = bench.driver.node.raft.term;
    let request = RequestId { origin: 2, nonce: 4, seq: 1 };
    let forward = Forward { term, request, data: Bytes::from_static(b"x") };
    let twice = Event::Forwarded { from: 2, forward, grows: true };
    let replies = |effects: Vec<Effect>| -> Vec<ForwardReply> {
        let reply = |effect| if let Effect::ForwardReply { reply, .. } = effect { Some(reply) } else { None };
        effects.into_iter().filter_map(reply).collect()
    };
    bench.driver.step(twice.clone());
    assert_eq!(replies(bench.settle()), [ForwardReply::Appended { request, index: 3, term }]);
    bench.message(3, MessageType::MsgHeartbeat, term + 1, |_| {});
    bench.settle();
    bench.driver.step(twice);
    assert_eq!(replies(bench.settle()), [], "it may well be committed: no word of `none`");
}

#[test]
fn commands_that_wait_for_a_slow_disk_are_bounded_in_bytes() {
    let mut bench = Bench::leader(1, 1);
    bench.put(0, 10);
    let held = bench.driver.effects();
    for seq in 1..=100 {
        bench.put(seq, 1 << 20);
    }
    let refused = answers(&bench.driver.effects());
    assert_eq!(refused.len(), 100 - bench.driver.proposals.waiting());
    assert!(bench.driver.proposals.waiting() <= limits::PROPOSE_QUEUE_BYTES_MAX >> 20);
    assert!(refused.iter().all(|(_, answer)| matches!(answer, Answer::Refused(Refusal::Overloaded(_)))));
    let last = bench.driver.log().last_index();
    bench.carry_out(&held);
    bench.settle();
    assert!(bench.driver.log().last_index() > last && bench.driver.proposals.waiting() == 0);
    bench.put(101, 1 << 20);
    assert!(answers(&bench.settle()).is_empty(), "there is room again");
}

#[test]
fn a_read_without_a_leader_is_not_kept_for_ever() {
    let mut bench = Bench::new(3, 3);
    bench.driver.step(Event::Read { read: 7 });
    let mut failed = Vec::new();
    for _ in 0..=limits::READ_TIMEOUT_MS / limits::TICK_MS {
        bench.driver.step(Event::Tick);
        for effect in bench.settle() {
            if let Effect::ReadFailed { reads, .. } = effect {
                failed.extend(reads);
            }
        }
    }
    assert_eq!(failed, [7]);
}

#[test]
fn a_granted_vote_is_remembered_against_a_rolled_back_disk() {
    let mut bench = Bench::leader(3, 3);
    let term = bench.driver.node.raft.term;
    bench.driver.peers = Peers::default();
    bench.driver.node.raft.become_follower(term, 2);
    bench.message(2, MessageType::MsgTimeoutNow, term, |_| {});
    bench.settle();
    bench.message(2, MessageType::MsgRequestVoteResponse, term + 1, |_| {});
    bench.settle();
    assert!(matches!(bench.driver.check_hello(&hello_of_2(1, 1)), Err(HelloVerdict::RolledBack(_))));
}

/// The hello of member 2, from a run of its process that is new to member 1.
fn hello_of_2(term: Term, last_index: Index) -> Hello {
    let own = identity();
    Hello {
        format: HELLO_FORMAT,
        cluster_id: own.cluster_id,
        genesis: own.genesis,
        generation: 0,
        from: 2,
        from_name: "n2".into(),
        from_incarnation: Hex128([2; 16]),
        to: 1,
        to_incarnation: own.incarnation,
        boot: 5,
        term,
        last_index,
        peer_url: String::new(),
        client_url: String::new(),
        admin_url: String::new(),
        level_max: LEVEL_MAX,
    }
}

/// Otherwise the member would be sent nothing until the offer is overdue.
#[test]
fn an_offer_that_was_lost_with_its_stream_or_its_receiver_is_made_again_at_once() {
    type Loss = fn(&mut Bench);
    let broken: Loss = |bench| bench.driver.step(Event::Unreachable { to: 2 });
    let restarted: Loss = |bench| {
        let (term, last) = (bench.driver.node.raft.term, bench.driver.log().last_index());
        bench.driver.check_hello(&hello_of_2(term, last)).expect("it is who it was");
    };
    for lose in [broken, restarted] {
        for (begun, state_after) in [(false, ProgressState::Probe), (true, ProgressState::Snapshot)] {
            let mut bench = Bench::leader(3, 3);
            let index = bench.driver.log().last_index();
            bench.driver.node.raft.mut_prs().get_mut(2).expect("a member").become_snapshot(index + 9);
            let mut offer = Message { to: 2, ..Message::default() };
            offer.set_msg_type(MessageType::MsgSnapshot);
            offer.mut_snapshot().mut_metadata().index = index + 9;
            bench.driver.note_snapshot_offer(&offer);
            if begun {
                bench.driver.step(Event::SnapshotBegun { to: 2, index: index + 9 });
            }
            lose(&mut bench);
            let state = bench.driver.node.raft.prs().get(2).expect("a member").state;
            assert_eq!(state, state_after, "a body that is on its way has a report of its own");
        }
    }
}

/// Two candidates that start at the same moment vote for themselves, and the third voter is dead.
#[test]
fn a_candidate_that_was_refused_a_vote_does_not_wait_for_a_whole_timeout() {
    let mut bench = Bench::new(3, 3);
    bench.driver.step(Event::KvReady);
    bench.message(2, MessageType::MsgTimeoutNow, 1, |_| {});
    bench.settle();
    assert_eq!((bench.driver.role(), bench.driver.node.raft.term), (Role::Candidate, 2));
    bench.message(2, MessageType::MsgRequestVoteResponse, 2, |m| m.reject = true);
    let asks =
        |effect: &Effect| matches!(effect, Effect::Send(m) if m.get_msg_type() == MessageType::MsgRequestPreVote);
    let campaigns = |bench: &mut Bench| {
        bench.driver.step(Event::Tick);
        bench.settle().iter().any(asks)
    };
    // Member 1 has the lowest id: it waits for nobody else.
    let ticks = (1..=limits::MIN_ELECTION_TICKS).find(|_| campaigns(&mut bench));
    assert_eq!(ticks, Some(limits::SPLIT_VOTE_TICKS));
}

/// Member 2 offers a snapshot at index 40, and it is fetched.
fn fetch_snapshot(bench: &mut Bench) {
    let mut newer = bench.driver.membership.as_ref().clone();
    newer.conf_index = 2;
    fetch_snapshot_of(bench, newer);
}

/// The same with this membership.
fn fetch_snapshot_of(bench: &mut Bench, membership: Membership) {
    let meta =
        SnapshotMeta { index: 40, term: 2, membership, revision: 1, compacted: 0, size: 4096, sha256: "0".repeat(64) };
    bench.message(2, MessageType::MsgSnapshot, 2, |m| m.set_snapshot(meta.to_raft()));
    bench.driver.step(Event::Fetched { meta: Box::new(meta), whole: true });
}

fn installs(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Install { .. }))
}

#[test]
fn the_proof_of_a_store_that_an_install_replaces_lets_nobody_lead() {
    let mut bench = Bench::new(3, 3);
    fetch_snapshot(&mut bench);
    assert!(installs(&bench.settle()));
    bench.driver.step(Event::KvReady);
    assert!(!bench.driver.status().can_lead, "that was the old store");
    bench.driver.step(Event::KvReady);
    assert!(bench.driver.status().can_lead);
}

/// raft-rs looks for entries 2 to 40 before it campaigns, and panics when they are not there.
#[test]
fn nobody_campaigns_while_the_log_is_being_restarted_behind_a_snapshot() {
    let mut bench = Bench::new(3, 3);
    bench.driver.step(Event::KvReady);
    bench.settle();
    fetch_snapshot(&mut bench);
    let restart = bench.driver.effects();
    for _ in 0..2 * limits::MAX_ELECTION_TICKS {
        bench.driver.step(Event::Tick);
        assert!(!installs(&bench.driver.effects()), "the disk is slow");
    }
    bench.message(2, MessageType::MsgTimeoutNow, 2, |_| {});
    bench.driver.effects();
    assert_eq!((bench.driver.role(), bench.driver.node.raft.term), (Role::Follower, 2));
    bench.carry_out(&restart);
    assert!(installs(&bench.settle()));
}

#[test]
fn a_change_that_only_the_kv_db_knows_is_made_durable_before_it_is_reported() {
    let mut bench = Bench::opened(3, 3, 2);
    assert!(bench.driver.status().durable_conf_index < 2, "a power loss may take it from the kv db");
    let effects = bench.settle();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Persist { .. })));
    assert_eq!((bench.driver.status().durable_conf_index, bench.driver.log().hard_state().commit), (2, 2));
}

/// A leader of a newer version wrote it. Who passes over it has another membership than the rest, and says nothing.
#[test]
fn a_membership_change_of_a_newer_version_ends_the_process_and_nothing_of_it_is_applied() {
    let request = RequestId { origin: 2, nonce: 1, seq: 1 };
    let add = format!(r#"{{"add_learner":{{"id":4,"name":"n","peer":"n:1","incarnation":"{}"}}}}"#, "04".repeat(16));
    for (json, is_known) in [(add.as_str(), true), (r#"{"demote":{"id":3}}"#, false)] {
        let mut bench = Bench::new(3, 3);
        let mut change = Entry { index: 3, term: 2, ..Entry::default() };
        change.set_entry_type(EntryType::EntryConfChangeV2);
        change.context = [&request.encode()[..], json.as_bytes()].concat().into();
        let other = |index| Entry { index, term: 2, ..Entry::default() };
        let entries = vec![other(2), change, other(4)];
        bench.message(2, MessageType::MsgAppend, 2, |m| {
            (m.index, m.log_term, m.commit) = (1, 1, 4);
            m.set_entries(entries.clone().into());
        });
        let effects = bench.settle();
        let fatal = effects.iter().find_map(|effect| if let Effect::Fatal { why } = effect { Some(why) } else { None });
        let applied = effects.iter().any(|effect| matches!(effect, Effect::Apply { .. }));
        assert_eq!((fatal.is_none(), applied), (is_known, is_known), "{fatal:?}");
        assert_eq!(bench.driver.membership.members.contains_key(&4), is_known);
        if let Some(why) = fatal {
            let words = ["the entry at index 3", "unknown variant `demote`", "start that one again"];
            assert!(words.iter().all(|words| why.contains(words)), "{why}");
            assert!(
                !effects.iter().any(|effect| matches!(effect, Effect::Quarantine { .. } | Effect::DistrustKv { .. }))
            );
        }
    }
}

/// By default raft-rs 0.7 would send one entry a message, without bounds, pre-vote or a check of the quorum.
#[test]
fn raft_runs_with_none_of_its_unsafe_defaults() {
    let ours = DriverConfig { nonce: 1, election_ticks_min: 15, election_ticks_max: 28, snapshot_log_bytes_min: 1 };
    let config = raft_config(7, 5, limits::BATCH_BYTES_MAX, &ours);
    config.validate().expect("raft takes it");
    assert!(config.pre_vote && config.check_quorum);
    assert_eq!(config.read_only_option, ReadOnlyOption::Safe);
    assert_eq!((config.id, config.applied, config.max_size_per_msg), (7, 5, limits::MESSAGE_BYTES_MAX));
    assert_eq!(config.max_inflight_msgs, limits::INFLIGHT_MESSAGES_MAX);
    assert_eq!(config.max_uncommitted_size, limits::UNCOMMITTED_BYTES_MAX);
    assert_eq!(config.max_committed_size_per_ready, limits::COMMITTED_BYTES_PER_READY_MAX);
    assert!(config.min_election_tick > config.election_tick, "the vote lease has ended by then (N23)");
}

#[test]
fn an_installed_snapshot_makes_the_driver_forget_who_is_no_member() {
    let mut bench = Bench::new(3, 4);
    let report = crate::wire::Report { applied: 7, ..Default::default() };
    for from in [2, 4] {
        bench.driver.step(Event::Report { from, report });
    }
    let mut newer = bench.driver.membership.as_ref().clone();
    newer.learners.remove(&4);
    newer.members.remove(&4);
    newer.added_at.remove(&4);
    newer.conf_index = 2;
    fetch_snapshot_of(&mut bench, newer);
    assert!(installs(&bench.settle()));
    assert_eq!(bench.driver.peers.report(2).applied, 7);
    assert_eq!(bench.driver.peers.report(4).applied, 0, "4 is no member by that snapshot");
}

/// A member that was removed before this process began said hello before the removal was known to be safe. Its stream
/// stands, so that it says no other one (rule N4).
#[test]
fn a_removed_learner_that_still_reports_is_told() {
    let mut bench = Bench::leader(1, 1);
    let removed = Removed { name: "n4".into(), incarnation: Hex128([4; 16]), index: 1, term: 1 };
    Arc::make_mut(&mut bench.driver.membership).removed.insert(4, removed);
    (bench.driver.removals_at_start, bench.driver.removals_safe) = (1, 0);
    let told = |effects: &[Effect]| effects.iter().any(|it| matches!(it, Effect::TellRemoved { to: 4, .. }));
    bench.driver.step(Event::Report { from: 4, report: crate::wire::Report::default() });
    assert!(told(&bench.settle()));
}

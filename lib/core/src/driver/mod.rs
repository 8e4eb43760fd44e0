//! The brain of a member: raft plus everything that must be decided around it. PURE.
//!
//! Enters: [`Event`]s, one at a time. Leaves: [`Effect`]s, in the order in which they must be started. It reads no
//! clock (time is [`Event::Tick`]), draws no randomness, does no IO except reads of old log entries, and spawns
//! nothing. One seed and one list of events give one list of effects, bit for bit.
//!
//! ```text
//!   step(Event) ──► queues ──► raft ──► Ready ──► Effects      (ready.rs: the numbered order of rule N9)
//!                   proposals.rs, reads.rs, change.rs, snapshots.rs, apply_queue.rs, peers.rs
//! ```

mod apply_queue;
mod call;
mod catch_up;
mod change;
mod describe;
mod divergence;
mod event;
mod hang;
mod hello;
mod leadership;
mod message;
mod peers;
mod proposals;
mod propose;
mod read_rounds;
mod reads;
mod ready;
mod removal;
mod snapshots;
mod space;
mod start_wait;
mod status;
#[cfg(test)]
mod tests;
mod writes;

pub use call::{ChangeDone, MembershipCall};
pub use describe::{Advertised, describe_members, describe_peer, members_answer};
pub use event::{Answer, Effect, Event};
pub use status::{DriverStatus, Headline, PeerStatus, Role};

use crate::limits;
use crate::log::Log;
use crate::log::Storage;
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::snapshot::SnapshotMeta;
use crate::space::OwnSpace;
use crate::types::{Index, MemberId, MemberIdentity, RequestId, Term};
use apply_queue::ApplyQueue;
use catch_up::CatchUp;
use change::PendingChange;
use leadership::PendingTransfer;
use peers::Peers;
use proposals::Proposals;
use raft::prelude::{HardState, Message};
use raft::{Config, RawNode, ReadOnlyOption};
use reads::Reads;
use ready::{Durable, Syncing};
use snapshots::Snapshots;
use space::NoSpace;
use start_wait::StartWait;
use std::collections::VecDeque;
use std::sync::Arc;

/// Settings of a driver.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Random per process start; part of every request id and ReadIndex context.
    pub nonce: u64,
    /// Election timeouts in ticks, drawn by raft in min..max; the simulator pins max = min + 1.
    pub election_ticks_min: usize,
    /// The exclusive upper bound of election timeouts.
    pub election_ticks_max: usize,
    /// A snapshot is cut when the log since the last one exceeds this and the snapshot's size.
    pub snapshot_log_bytes_min: u64,
}

/// What opening found (rule N8).
pub struct Start {
    /// This member's identity.
    pub identity: MemberIdentity,
    /// The replayed log.
    pub log: Log,
    /// The newest HardState, with its commit index raised to `applied`.
    pub hard_state: HardState,
    /// Applied index that the kv db claims, or the snapshot's.
    pub applied: Index,
    /// Membership at `applied`.
    pub membership: Membership,
    /// Valid snapshot files, newest first.
    pub snapshots: Vec<SnapshotMeta>,
}

/// The driver.
pub struct Driver {
    identity: MemberIdentity,
    config: DriverConfig,
    node: RawNode<Storage>,
    membership: Arc<Membership>,
    durable: Durable,
    /// The batch that is being made durable; at most one (rule N2).
    syncing: Option<Syncing>,
    next_batch: u64,
    /// MsgAppend and MsgSnapshot that wait for the batch being synced (rule N9).
    deferred: VecDeque<Message>,
    deferred_bytes: usize,
    /// Bytes stepped into raft that no batch has taken yet.
    unstable_bytes: usize,
    apply: ApplyQueue,
    proposals: Proposals,
    reads: Reads,
    change: Option<PendingChange>,
    transfer: Option<PendingTransfer>,
    snapshots: Snapshots,
    catch_up: CatchUp,
    message_bytes_max: u64,
    peers: Peers,
    /// The kv db is proved: we may campaign, cut and lead.
    can_lead: bool,
    /// Number of stores that are being proved, rebuilt or installed; each ends with an [`Event::KvReady`].
    stores_opening: usize,
    /// Lasts from the start until the other voters have answered this member's hello, or time is over (rule N20).
    start_wait: Option<StartWait>,
    /// Index and term of this member's own removal, once applied.
    removed: Option<(Index, Term)>,
    /// All removals up to this index are known to be safe (rule N4).
    removals_safe: Index,
    /// Removals up to this index were applied before this process began: their members ask, and are not told unasked.
    removals_at_start: Index,
    /// Stopped for good: quarantined, gone, closed, or with a kv db that cannot be trusted.
    halted: bool,
    closing: bool,
    own_space: OwnSpace,
    no_space: Option<NoSpace>,
    now_tick: u64,
    leader_heard_at: Option<u64>,
    /// (term, leader) at the last look, to notice changes.
    seen_leader: (Term, MemberId),
    effects: Vec<Effect>,
}

impl Driver {
    /// Builds raft on what opening found. The error is a sentence for people.
    pub fn new(config: DriverConfig, start: Start, logger: &slog::Logger) -> Result<Driver, String> {
        let Start { identity, log, hard_state, applied, membership, snapshots } = start;
        let (first, last, commit) = (log.first_index(), log.last_index(), hard_state.commit);
        if !(first - 1 <= applied && applied <= commit && commit <= last) {
            return Err(format!(
                "first index {first}, applied {applied}, commit {commit}, last index {last}: not in order"
            ));
        }
        // What the kv db has applied may have survived the process but not a power loss: the log's own commit index
        // counts (rule N10).
        let conf_index = membership.conf_index.min(log.hard_state().commit);
        let durable = Durable { index: last, term: hard_state.term, vote: hard_state.vote, conf_index };
        let batch_bytes_max = log.batch_bytes_max();
        let mut storage = Storage::new(log, hard_state, membership.conf_state());
        storage.added_at = membership.added_at.clone();
        storage.newest = snapshots.first().cloned();
        let node = RawNode::new(&raft_config(identity.member_id, applied, batch_bytes_max, &config), storage, logger)
            .map_err(|e| format!("raft does not start: {e}"))?;
        let seen_leader = (node.raft.term, node.raft.leader_id);
        let removed = membership.removal(identity.member_id);
        let reads = Reads::new(identity.member_id, config.nonce);
        let removals_at_start = membership.conf_index;
        let membership = Arc::new(membership);
        let mut driver = Driver {
            identity,
            config,
            node,
            effects: vec![Effect::Members(membership.clone())],
            membership,
            durable,
            syncing: None,
            next_batch: 1,
            deferred: VecDeque::new(),
            deferred_bytes: 0,
            unstable_bytes: 0,
            apply: ApplyQueue::new(applied),
            proposals: Proposals::default(),
            reads,
            change: None,
            transfer: None,
            snapshots: Snapshots::new(snapshots),
            catch_up: CatchUp::default(),
            message_bytes_max: message_bytes_max(batch_bytes_max),
            peers: Peers::default(),
            can_lead: false,
            // Without an applied index there is nothing to open before the first install.
            stores_opening: usize::from(applied > 0),
            start_wait: None,
            removed,
            removals_safe: 0,
            removals_at_start,
            halted: false,
            closing: false,
            own_space: OwnSpace::default(),
            no_space: None,
            now_tick: 0,
            leader_heard_at: None,
            seen_leader,
        };
        driver.begin_start_wait();
        Ok(driver)
    }

    /// Takes in one event. This is cheap; call [`Driver::effects`] after a batch of them.
    pub fn step(&mut self, event: Event) {
        if self.halted {
            return self.refuse_halted(event);
        }
        self.settle_shown();
        match event {
            Event::Tick => self.tick(),
            Event::Message(message) => self.message(*message),
            Event::Propose { request, data, grows } => self.propose(request, data, grows),
            Event::Forwarded { from, forward, grows } => self.forwarded(from, forward, grows),
            Event::ForwardReply { from, reply } => self.forward_reply(from, reply),
            Event::ForwardDropped { request } => self.forward_dropped(request),
            Event::Read { read } if mutant::is(Mutant::LocalRead) => {
                self.emit(Effect::ReadReady { reads: vec![read], index: 0 })
            }
            Event::Read { read } => self.reads.add(read),
            Event::Change { request, call, if_match } => self.change(request, call, if_match),
            Event::Transfer { request, to } => self.transfer(request, to),
            Event::Persisted { batch } => self.persisted(batch),
            Event::Applied { index, generation } => self.applied(index, generation),
            Event::KvReady => self.kv_ready(),
            Event::CutDone { meta } => self.cut_done(meta.map(|meta| *meta)),
            Event::Fetched { meta, whole } => self.fetched(&meta, whole),
            Event::SnapshotBegun { to, index } => self.snapshot_begun(to, index),
            Event::SnapshotSent { to, index, whole } => self.snapshot_sent(to, index, whole),
            Event::Unreachable { to } => self.unreachable(to),
            Event::HelloAnswered { by } => self.hello_answered(by),
            Event::Report { from, report } => {
                self.peers.reported(from, report, self.now_tick);
                self.judge_space();
                self.note_safe_removals();
                // Its hello may have been before this process knew that the removal is safe.
                self.tell_if_removed(from);
            }
            Event::Removed(record) => self.told_removed(&record),
            Event::Space { own } => self.own_space(own),
            Event::LogRead { first, result } => self.log_read(first, result),
            Event::SpareMade { name } => self.node.mut_store().log.spare_made(&name),
            Event::Close => self.closing = true,
        }
    }

    /// Takes Readies as far as rule N9 allows and returns everything to do, in order.
    pub fn effects(&mut self) -> Vec<Effect> {
        self.note_dialled();
        if !self.halted {
            self.pump();
        }
        std::mem::take(&mut self.effects)
    }

    /// This member's log, for invariants and for a simulator's reads.
    pub fn log(&self) -> &Log {
        &self.node.store().log
    }

    /// The membership as of the last conf change handed out.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        self.emit(Effect::Answer { request, answer });
    }

    fn refuse(&mut self, request: RequestId, refusal: Refusal) {
        self.answer(request, Answer::Refused(refusal));
    }

    fn is_leader(&self) -> bool {
        self.role() == Role::Leader
    }

    fn tick(&mut self) {
        self.now_tick += 1;
        self.tick_catch_up();
        self.end_start_wait_if_over();
        if !self.holds_tick() {
            self.node.tick();
        }
        let late = self.reads.tick(limits::ELECTION_TICKS, limits::READ_TIMEOUT_MS / limits::TICK_MS);
        if !late.is_empty() {
            self.emit(Effect::ReadFailed { reads: late, why: Refusal::NoLeader });
        }
        if let Some(given_up) = self.now_tick.checked_sub(limits::WRITE_TIMEOUT_MS / limits::TICK_MS) {
            for request in self.proposals.expire_forwards(given_up) {
                self.refuse(request, Refusal::Unknown("the leader did not answer".to_string()));
            }
        }
        self.judge_space();
        self.tick_hang();
        self.tick_transfer();
        self.tick_snapshots();
        self.leave_joint_if_stuck();
    }

    /// Whether nothing is being made durable and raft holds nothing that still has to be.
    fn is_all_durable(&self) -> bool {
        self.syncing.is_none() && self.node.raft.raft_log.unstable_entries().is_empty()
    }

    fn refuse_halted(&mut self, event: Event) {
        let why = Refusal::Stopping;
        match event {
            Event::Propose { request, .. } | Event::Change { request, .. } | Event::Transfer { request, .. } => {
                self.refuse(request, why);
            }
            Event::Read { read } => self.emit(Effect::ReadFailed { reads: vec![read], why }),
            _ => {}
        }
    }

    fn halt(&mut self, last_effect: Effect) {
        self.halted = true;
        for request in self.proposals.fail_all() {
            self.refuse(request, Refusal::Unknown("this node stopped serving".to_string()));
        }
        let reads = self.reads.fail_all();
        self.emit(Effect::ReadFailed { reads, why: Refusal::Stopping });
        self.emit(last_effect);
    }
}

/// A message must fit into a log batch that is already half full (rule N2), whatever the log's sizes are.
fn message_bytes_max(batch_bytes_max: usize) -> u64 {
    limits::MESSAGE_BYTES_MAX.min(batch_bytes_max as u64 / 16)
}

fn raft_config(id: MemberId, applied: Index, batch_bytes_max: usize, config: &DriverConfig) -> Config {
    Config {
        id,
        applied,
        election_tick: limits::ELECTION_TICKS,
        heartbeat_tick: limits::HEARTBEAT_TICKS,
        min_election_tick: config.election_ticks_min,
        max_election_tick: config.election_ticks_max,
        max_size_per_msg: message_bytes_max(batch_bytes_max),
        max_inflight_msgs: limits::INFLIGHT_MESSAGES_MAX,
        max_uncommitted_size: limits::UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: limits::COMMITTED_BYTES_PER_READY_MAX,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        ..Config::default()
    }
}

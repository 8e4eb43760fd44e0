//! The brain of a member: raft plus everything that must be decided around it. PURE.

mod event;

pub use event::{Answer, Effect, Event};

use crate::log::Log;
use crate::membership::Membership;
use crate::snapshot::SnapshotMeta;
use crate::transport::{Hello, HelloVerdict, Report};
use crate::types::{Index, MemberId, MemberIdentity, Term};
use raft::prelude::HardState;
use std::sync::Arc;

/// Settings of a driver.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Random per process start; part of every request id and ReadIndex context.
    pub nonce: u64,
    /// Election timeouts in ticks, drawn by raft in min..max; the simulator pins max = min + 1.
    pub election_ticks_min: usize,
    /// Exclusive.
    pub election_ticks_max: usize,
    /// A snapshot is cut when the log since the last one exceeds this and the snapshot's size.
    pub snapshot_log_bytes_min: u64,
}

/// What opening found (rule N8).
pub struct Start {
    /// Who we are.
    pub identity: MemberIdentity,
    /// The replayed log.
    pub log: Log,
    /// The newest HardState, commit raised to `applied`.
    pub hard_state: HardState,
    /// Applied index that the kv db claims, or the snapshot's.
    pub applied: Index,
    /// Membership at `applied`.
    pub membership: Membership,
    /// Valid snapshot files, newest first.
    pub snapshots: Vec<SnapshotMeta>,
}

/// Role, for people and invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks for votes (also pre-votes).
    Candidate,
    /// Leads.
    Leader,
}

/// What the driver shows of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverStatus {
    /// Ours.
    pub id: MemberId,
    /// Role in raft.
    pub role: Role,
    /// Raft term (maybe not durable yet).
    pub term: Term,
    /// 0 when unknown.
    pub leader: MemberId,
    /// Commit index.
    pub commit: Index,
    /// Applied, as reported by the apply thread.
    pub applied: Index,
    /// Last index in the log, maybe not durable yet.
    pub last_index: Index,
    /// First index in the log.
    pub first_index: Index,
    /// Last index that is durable here.
    pub durable_index: Index,
    /// Term and vote that are durable here.
    pub durable_term: Term,
    /// Newest snapshot.
    pub snapshot_index: Index,
    /// Newest conf change whose application is durable.
    pub durable_conf_index: Index,
    /// Whether we may lead (kv db proved).
    pub can_lead: bool,
    /// We applied our own removal.
    pub removed: bool,
    /// Proposals that wait.
    pub proposals_waiting: usize,
    /// Ticks since a leader was heard of; `None` if never.
    pub leader_contact_ticks: Option<u64>,
    /// Membership.
    pub membership: Arc<Membership>,
    /// On the leader: every other member.
    pub peers: Vec<PeerStatus>,
}

/// What the leader knows of a member.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// Who.
    pub id: MemberId,
    /// Rule O6's word.
    pub active: bool,
    /// Rule O6's word.
    pub caught_up: bool,
    /// Highest index known durable there.
    pub matched: Index,
    /// Its last report.
    pub report: Report,
}

/// The driver.
pub struct Driver {}

#[allow(unused_variables)]
impl Driver {
    /// Builds raft on what opening found.
    pub fn new(config: DriverConfig, start: Start, logger: &slog::Logger) -> Result<Driver, String> {
        todo!()
    }
    /// Takes one event in. Cheap; call [`Driver::effects`] after a batch of them.
    pub fn step(&mut self, event: Event) {
        todo!()
    }
    /// Takes Readies as far as rule N9 allows and returns everything to do, in order.
    pub fn effects(&mut self) -> Vec<Effect> {
        todo!()
    }
    /// Answers a peer's hello (rules N4, N19, N20).
    pub fn check_hello(&self, hello: &Hello) -> Result<(), HelloVerdict> {
        todo!()
    }
    /// What we are and know.
    pub fn status(&self) -> DriverStatus {
        todo!()
    }
    /// Our log, for invariants and the reads of a simulator.
    pub fn log(&self) -> &Log {
        todo!()
    }
}

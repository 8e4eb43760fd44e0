//! The handle by which everything outside the raft thread speaks to it: the HTTP API, the transport, signals.
//!
//! Cheap to clone. Each call enters one bounded queue or reads published state; none touches raft or the disk.

use crate::kvstore::{Command, Outcome, View};
use crate::types::{Index, MemberId, Revision};
use raftkv_api as api;
use std::sync::Arc;

/// Why a call was not carried out, or is not known to have been. Three kinds that are never mixed: refused (nothing
/// happened), unknown (it may happen), and the node's own state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node belongs to no cluster.
    #[error("the node is blank: it belongs to no cluster yet")]
    Blank,
    /// The node's data are being opened, proved, rebuilt or installed.
    #[error("the node is opening its data: {0}")]
    Opening(String),
    /// The cluster never had `min_voters` voters.
    #[error("the cluster has {have} of the {want} voters that init asked for")]
    Forming { have: usize, want: u32 },
    /// A learner serves no linearizable read and no write.
    #[error("this node is a learner")]
    NotAVoter,
    /// Removed from the cluster.
    #[error("this node was removed from its cluster")]
    Removed,
    /// Not to be trusted.
    #[error("this node is quarantined: {0}")]
    Quarantined(String),
    /// A queue is full; nothing was proposed.
    #[error("{0} is full; nothing was proposed")]
    Overloaded(&'static str),
    /// No leader is known, or it did not take the write; nothing happened.
    #[error("there is no leader at this moment")]
    NoLeader,
    /// The leader did not append the write, or another leader's entry took its place: it has no effect.
    #[error("the write was not taken: {0}")]
    Dropped(String),
    /// No answer in time; a write may still happen.
    #[error("no answer within {0} ms")]
    Timeout(u64),
    /// Leadership moved, or a snapshot was installed over it: a write may have happened.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
    /// Space is short.
    #[error("{0}")]
    NoSpace(String),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// A membership or transfer call on a node that does not lead.
    #[error("this node is not the leader")]
    NotLeader,
    /// `If-Match` names an older membership.
    #[error("the membership is at {current}, not {expected}")]
    MembersMoved { expected: Index, current: Index },
    /// Another membership change is in flight.
    #[error("another membership change is in flight")]
    ChangePending,
    /// The change is not allowed in the present membership.
    #[error("{0}")]
    ChangeRefused(String),
    /// There is no such member.
    #[error("there is no member {0}")]
    MemberNotFound(MemberId),
    /// Rule O6.
    #[error("{0}")]
    WouldLoseQuorum(String),
    /// The leader was asked to remove itself and nobody took over.
    #[error("the leader cannot remove itself and no other voter took over: {0}")]
    LeaderRemoval(String),
    /// Leadership did not move.
    #[error("leadership did not move: {0}")]
    TransferFailed(String),
    /// `init` on a node that belongs to a cluster.
    #[error("the node belongs to cluster {0} already")]
    AlreadyInitialized(String),
    /// The call names another node, cluster or incarnation.
    #[error("{0}")]
    WrongNode(String),
    /// The node's state does not allow this call.
    #[error("{0}")]
    WrongState(String),
    /// The node cannot explain what happened.
    #[error("{0}")]
    Internal(String),
}

/// A membership call, as the HTTP API takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipCall {
    /// Adds a learner; idempotent on the incarnation.
    Add(api::AddMember),
    /// Promotes a learner, or replaces a voter by it in one joint change.
    Promote { id: MemberId, replaces: Option<MemberId> },
    /// Removes a member.
    Remove { id: MemberId },
}

/// A membership change that is applied here (a joint one: left).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeDone {
    /// The member added, promoted or removed.
    pub id: MemberId,
    /// Index of the newest membership change.
    pub conf_index: Index,
}

/// The handle.
#[derive(Clone)]
pub struct Node {}

#[allow(unused_variables, clippy::unused_async)]
impl Node {
    /// Replicates a command and answers after it is committed and applied here. Times out after
    /// [`crate::limits::WRITE_TIMEOUT_MS`] with [`Refusal::Timeout`], whose outcome is unknown.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Refusal> {
        todo!()
    }
    /// On `Ok`, the view reflects every write acknowledged anywhere before this call (ReadIndex).
    pub async fn read_barrier(&self) -> Result<Arc<View>, Refusal> {
        todo!()
    }
    /// The view for a stale read; refused before the proof, and on Blank, Removed and Quarantined nodes.
    pub fn stale_view(&self) -> Result<Arc<View>, Refusal> {
        todo!()
    }
    /// Milliseconds since a leader was heard of (0 on the leader); `None` if never.
    pub fn leader_contact_ms(&self) -> Option<u64> {
        todo!()
    }
    /// The whole status, in every state of the node.
    pub fn status(&self) -> api::Status {
        todo!()
    }
    /// The leader, for error answers.
    pub fn leader(&self) -> Option<api::LeaderRef> {
        todo!()
    }
    /// Linearizable.
    pub async fn members(&self) -> Result<api::Members, Refusal> {
        todo!()
    }
    /// A membership change, fenced by the conf index that the caller read.
    pub async fn change(&self, call: MembershipCall, if_match: Index) -> Result<ChangeDone, Refusal> {
        todo!()
    }
    /// Moves leadership; answers when the other voter leads. `None`: the most caught-up voter.
    pub async fn transfer(&self, to: Option<MemberId>) -> Result<MemberId, Refusal> {
        todo!()
    }
    /// Makes this Blank node the first voter of a new cluster.
    pub async fn init(&self, init: api::Init) -> Result<api::InitDone, Refusal> {
        todo!()
    }
    /// Sets the data of a Removed or Quarantined node aside; the process restarts itself as Blank.
    pub async fn reset(&self, incarnation: api::Hex128) -> Result<(), Refusal> {
        todo!()
    }
    /// Whether the loops turn (livez): `Err` says which one does not.
    pub fn alive(&self) -> Result<(), String> {
        todo!()
    }
    /// Whether a background linearizable read succeeded in the last 5 s on a voter (readyz, rule O11); else why not.
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }
    /// Ours, advertised and otherwise fixed.
    pub fn config(&self) -> &crate::config::Config {
        todo!()
    }
    /// Smallest readable revision and newest one, for error texts.
    pub fn revisions(&self) -> (Revision, Revision) {
        todo!()
    }
}

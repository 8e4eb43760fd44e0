//! The handle by which everything outside the raft thread speaks to it: the HTTP API, the transport, signals.
//!
//! Cheap to clone. Each call enters one bounded queue or reads published state; none touches raft or the disk.

pub use crate::refusal::Refusal;

use crate::kvstore::{Command, Outcome, View};
use crate::types::{Index, MemberId, Revision};
use raftkv_api as api;
use std::sync::Arc;

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

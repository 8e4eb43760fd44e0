//! Why a call was not carried out: one enum from the driver to the HTTP answer. PURE.
//!
//! Plain data. The texts are for people; the HTTP API adds the stable code, and says whether the call can have had an
//! effect.

use crate::types::{Index, MemberId};

/// Why a call was not carried out, or is not known to have been. Three kinds that are never mixed: refused (nothing
/// happened), unknown (it may happen), and the node's own state.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node belongs to no cluster.
    #[error("the node is blank: it belongs to no cluster yet")]
    Blank,
    /// The node's data are being opened, proved, rebuilt or installed.
    #[error("the node is opening its data: {0}")]
    Opening(String),
    /// The cluster has never had `min_voters` voters.
    #[error("the cluster has {have} of the {want} voters that init asked for")]
    Forming { have: usize, want: u32 },
    /// A learner serves no linearizable read and no write.
    #[error("this node is a learner")]
    NotAVoter,
    /// The node was removed from its cluster.
    #[error("this node was removed from its cluster")]
    Removed,
    /// The node's data cannot be trusted.
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
    /// The node is stopping.
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
    /// The change would lose a quorum of active, caught-up voters (rule O6).
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

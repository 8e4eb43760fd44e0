//! Membership calls: what a caller asks the driver to change, and what it is told when that is done. PURE.
//!
//! Plain data without logic; `change.rs` decides.

use crate::membership::Member;
use crate::types::{Index, MemberId};

/// A membership call, checked by whoever took it.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipCall {
    /// Adds a learner; idempotent on the incarnation.
    Add(Member),
    /// Promotes a learner, or replaces a voter by it in one joint change.
    Promote { id: MemberId, replaces: Option<MemberId> },
    /// Removes a member.
    Remove { id: MemberId },
}

/// A membership change that is applied here; if it was joint, the joint state has been left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeDone {
    /// The member added, promoted or removed.
    pub id: MemberId,
    /// Index of the newest membership change.
    pub conf_index: Index,
}

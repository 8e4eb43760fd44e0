//! Commit on quorum: an entry is committed only when a quorum's disks hold it.
//!
//! # Caveats
//! A single step of a leader may commit, apply a membership change, and commit further under the new configuration.
//! So a quorum of either the membership before the step or the one after it is accepted.

use super::witness::Witness;
use super::{Check, broken};
use raftkv_core::driver::DriverStatus;
use raftkv_core::log::Log;
use raftkv_core::membership::Membership;
use raftkv_core::types::MemberId;
use std::collections::BTreeMap;

/// Checks a commit index that rose above all that was known.
pub fn check(now: &DriverStatus, was: &Membership, log: &Log, witnesses: &BTreeMap<MemberId, Witness>) -> Check {
    let index = now.commit;
    let Some(term) = log.term(index) else {
        return broken("commit_on_quorum", format!("member {} commits {index}, which it does not hold", now.id));
    };
    let holds = |id| witnesses.get(&id).is_some_and(|witness| witness.holds(index, term));
    if was.is_quorum(holds) || now.membership.is_quorum(holds) {
        return Ok(());
    }
    let holders: Vec<MemberId> = witnesses.keys().copied().filter(|id| holds(*id)).collect();
    let what = format!(
        "member {} commits index {index} of term {term}, but it is only on the disks of {holders:?} (voters {:?}, {:?})",
        now.id, now.membership.voters, now.membership.outgoing
    );
    broken("commit_on_quorum", what)
}

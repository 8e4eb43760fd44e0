//! One change: at most one membership change is in flight in any log.

use super::witness::Witness;
use super::{Check, broken};
use raftkv_core::types::{Index, MemberId};

/// Checks a log that became durable; everything up to `committed` is known to be committed.
pub fn check(id: MemberId, witness: &Witness, committed: Index) -> Check {
    let pending: Vec<Index> =
        witness.entries.range(committed + 1..).filter(|(_, kept)| kept.conf).map(|(index, _)| *index).collect();
    if pending.len() <= 1 {
        return Ok(());
    }
    broken("one_change", format!("member {id} holds membership changes at {pending:?}, none of them committed"))
}

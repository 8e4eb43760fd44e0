//! Order: first index - 1 <= applied <= commit <= last index, and the log reaches back to the newest snapshot.

use super::{Check, broken};
use raftkv_node::driver::DriverStatus;

/// A process was stepped.
pub fn check(now: &DriverStatus) -> Check {
    let DriverStatus { first_index, snapshot_index, applied, commit, last_index, .. } = now;
    let in_order = *first_index <= applied + 1
        && applied <= commit
        && commit <= last_index
        && *first_index <= snapshot_index + 1
        && snapshot_index <= last_index;
    if in_order {
        return Ok(());
    }
    let what = format!(
        "member {}: first index {first_index}, snapshot {snapshot_index}, applied {applied}, commit {commit}, last \
         {last_index}",
        now.id
    );
    broken("order", what)
}

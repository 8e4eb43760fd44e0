//! Order: first index - 1 <= applied <= commit <= last index, and the newest snapshot is not above the log.

use super::{Check, broken};
use raftkv_core::driver::DriverStatus;

/// Checks a process after a step.
pub fn check(now: &DriverStatus) -> Check {
    let DriverStatus { first_index, snapshot_index, applied, commit, last_index, .. } = now;
    // While the mark of a snapshot is being made durable, only the log has restarted behind it.
    let is_installing = *first_index > snapshot_index + 1;
    let in_order = applied <= commit
        && commit <= last_index
        && snapshot_index <= last_index
        && (is_installing || *first_index <= applied + 1);
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

//! Monotonic: term, commit and applied never fall in one run of a process, nor does the durable term.

use super::{Check, broken};
use raftkv_core::driver::DriverStatus;

/// Checks a process after a step.
pub fn check(before: Option<&DriverStatus>, now: &DriverStatus) -> Check {
    let Some(before) = before else { return Ok(()) };
    let pairs = [
        ("term", before.term, now.term),
        ("durable term", before.durable_term, now.durable_term),
        ("commit", before.commit, now.commit),
        ("applied", before.applied, now.applied),
        ("snapshot", before.snapshot_index, now.snapshot_index),
        ("first index", before.first_index, now.first_index),
        ("conf index", before.membership.conf_index, now.membership.conf_index),
    ];
    match pairs.into_iter().find(|(_, before, now)| before > now) {
        None => Ok(()),
        Some((what, before, after)) => {
            broken("monotonic", format!("{what} of member {} falls from {before} to {after}", now.id))
        }
    }
}

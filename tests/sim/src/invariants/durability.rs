//! Durability: a process that starts finds every entry and the term that were durable before. Only entries that a
//! batch was replacing when the process ended may be either.

use super::witness::Witness;
use super::{Check, broken};
use raftkv_core::driver::DriverStatus;
use raftkv_core::log::Log;

/// Checks what a started process found.
pub fn check(status: &DriverStatus, log: &Log, witness: &Witness) -> Check {
    let id = status.id;
    if status.durable_term < witness.term {
        let what = format!("member {id} starts at term {}, term {} was durable", status.durable_term, witness.term);
        return broken("durability", what);
    }
    if log.last_index() < witness.base.index {
        let (last, base) = (log.last_index(), witness.base.index);
        return broken("durability", format!("member {id} starts with a log that ends at {last}, {base} was durable"));
    }
    let end = witness.replacing_from.unwrap_or(u64::MAX).max(log.first_index());
    for (index, kept) in witness.entries.range(log.first_index()..end) {
        if log.term(*index) != Some(kept.term) {
            let found = log.term(*index);
            let what = format!("member {id} starts with {found:?} at index {index}, term {} was durable", kept.term);
            return broken("durability", what);
        }
    }
    Ok(())
}

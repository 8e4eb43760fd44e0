//! Election safety: at most one leader can be elected in a given term.

use super::{Check, broken};
use raftkv_core::driver::{DriverStatus, Role};
use raftkv_core::types::{MemberId, Term};
use std::collections::BTreeMap;

/// Who led which term.
#[derive(Debug, Default)]
pub struct Elections {
    leaders: BTreeMap<Term, MemberId>,
}

impl Elections {
    /// Checks a process.
    pub fn check(&mut self, now: &DriverStatus) -> Check {
        if now.role != Role::Leader {
            return Ok(());
        }
        let leader = *self.leaders.entry(now.term).or_insert(now.id);
        if leader == now.id {
            return Ok(());
        }
        broken("election_safety", format!("members {leader} and {} both lead term {}", now.id, now.term))
    }
}

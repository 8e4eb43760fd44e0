//! Same membership: all members at a conf index have the same membership state, whether it came by log or by snapshot.

use super::{Check, broken};
use raftkv_core::membership::Membership;
use raftkv_core::types::{Index, MemberId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The membership at each conf index.
#[derive(Debug, Default)]
pub struct Memberships {
    seen: BTreeMap<Index, (Arc<Membership>, MemberId)>,
}

impl Memberships {
    /// Checks the membership of a process.
    pub fn check(&mut self, membership: &Arc<Membership>, id: MemberId) -> Check {
        let (first, by) = self.seen.entry(membership.conf_index).or_insert_with(|| (membership.clone(), id));
        if first == membership {
            return Ok(());
        }
        let what = format!("at conf index {} member {by} has {first:?}, member {id} {membership:?}", first.conf_index);
        broken("same_membership", what)
    }
}

//! Removed ids: a member leaves only into the removed set, an id belongs to one data directory for ever, and a member
//! is told that it was removed only when it was.

use super::{Check, broken};
use raftkv_api::Hex128;
use raftkv_core::membership::Membership;
use raftkv_core::types::{Index, MemberId};
use std::collections::{BTreeMap, BTreeSet};

/// The owner of each id, and who was removed.
#[derive(Debug, Default)]
pub struct Ids {
    owners: BTreeMap<MemberId, Hex128>,
    removed: BTreeMap<MemberId, Index>,
    members: BTreeMap<Index, BTreeSet<MemberId>>,
    /// Highest conf index that was ever durable at each member.
    durable: BTreeMap<MemberId, Index>,
}

impl Ids {
    /// Checks the membership of a process.
    pub fn check(&mut self, membership: &Membership) -> Check {
        let present = membership.members.iter().map(|(id, member)| (*id, member.incarnation));
        let gone = membership.removed.iter().map(|(id, removed)| (*id, removed.incarnation));
        for (id, incarnation) in present.chain(gone) {
            let owner = *self.owners.entry(id).or_insert(incarnation);
            if owner != incarnation {
                return broken("removed_ids", format!("id {id} belongs to {owner} and to {incarnation}"));
            }
        }
        if let Some(id) = membership
            .members
            .keys()
            .find(|id| **id >= membership.next_member_id || membership.removed.contains_key(id))
        {
            return broken(
                "removed_ids",
                format!("id {id} is a member and removed, or was not given, at {}", membership.conf_index),
            );
        }
        let earlier = self.members.range(..membership.conf_index).next_back();
        let lost = earlier.and_then(|(_, members)| {
            members.iter().find(|id| !membership.members.contains_key(id) && !membership.is_removed(**id))
        });
        if let Some(id) = lost {
            return broken("removed_ids", format!("id {id} left without a trace at {}", membership.conf_index));
        }
        self.members.insert(membership.conf_index, membership.members.keys().copied().collect());
        self.removed.extend(membership.removed.iter().map(|(id, removed)| (*id, removed.index)));
        Ok(())
    }

    /// A member has made its configuration durable up to this index.
    pub fn durable(&mut self, id: MemberId, conf_index: Index) {
        let durable = self.durable.entry(id).or_default();
        *durable = (*durable).max(conf_index);
    }

    /// A member is told that it is removed, by one that has this configuration: of its voters a quorum must have the removal
    /// durably, or the survivors would count a vote that never comes (rule N4).
    pub fn check_told(&self, id: MemberId, by: &Membership) -> Check {
        let Some(removed) = self.removed.get(&id) else {
            return broken("removed_ids", format!("member {id} is told that it was removed, but nobody applied that"));
        };
        let has = |voter: MemberId| self.durable.get(&voter).is_some_and(|durable| durable >= removed);
        if by.is_quorum(has) {
            return Ok(());
        }
        let why = format!(
            "member {id} is told of its removal at {removed}, which no quorum of {:?} {:?} has durably: {:?}",
            by.voters, by.outgoing, self.durable
        );
        broken("removed_ids", why)
    }
}

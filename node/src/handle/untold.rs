//! A learner that was removed before it had a membership: it knows nobody who could tell it, so `reset` asks (rule N4).
//!
//! Enters: the admin URLs of those who spoke to it, and those that the call names. Leaves: the index of its removal, as a
//! linearizable list of the members has it. That list names a removal only once it is safe. Nothing else is believed.

use super::Node;
use crate::raft_node::shared::{Phase, Published};
use raftkv_api as api;
use raftkv_client::Token;
use raftkv_client::admin::Admin;
use raftkv_core::refusal::Refusal;
use raftkv_core::types::{Index, MemberIdentity};

/// Asks the cluster whether this node was removed, if it is a learner without a membership; `None` if it is not.
pub(super) async fn ask(node: &Node, reset: &api::Reset) -> Result<Option<Index>, Refusal> {
    let published = node.shared.published();
    let Some(identity) = published.identity.filter(|_| is_untold(&published)) else { return Ok(None) };
    let mut urls = node.shared.advertised_admin_urls();
    urls.extend(reset.ask.iter().cloned());
    if urls.is_empty() {
        return Err(wrong(
            "it has no membership and knows no member: name admin URLs of the cluster's members in \"ask\"",
        ));
    }
    let token = Token::read(&node.config().token_file).map_err(|e| wrong(&e.to_string()))?;
    let admin = Admin::new(&urls, token).map_err(|e| wrong(&e.to_string()))?;
    let members = admin.members().await.map_err(|e| wrong(&format!("no member could be asked about it: {e}")))?;
    removal(&members, &identity).map(Some)
}

fn is_untold(published: &Published) -> bool {
    let knows_nobody = published.driver.as_ref().is_some_and(|driver| driver.membership.members.is_empty());
    published.phase == Phase::Member && knows_nobody
}

/// The index at which a membership has the removal of exactly this member.
fn removal(members: &api::Members, identity: &MemberIdentity) -> Result<Index, Refusal> {
    if members.cluster_id != identity.cluster_id {
        return Err(wrong(&format!("who was asked belongs to cluster {}", members.cluster_id)));
    }
    let of_it = |removed: &&api::RemovedMember| {
        (removed.id.0, removed.incarnation) == (identity.member_id, identity.incarnation)
    };
    let removed = members.removed.iter().find(of_it);
    let id = identity.member_id;
    removed
        .map(|removed| removed.index)
        .ok_or_else(|| wrong(&format!("the members do not list member {id} as removed")))
}

fn wrong(why: &str) -> Refusal {
    Refusal::WrongState(format!("only a removed or quarantined node can be reset, and this one is a learner; {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_api::{DecimalId, Hex128};

    fn identity(member_id: u64) -> MemberIdentity {
        let incarnation = Hex128([member_id as u8; 16]);
        MemberIdentity { cluster_id: Hex128([1; 16]), genesis: Hex128([2; 16]), generation: 0, member_id, incarnation }
    }

    #[test]
    fn only_the_removal_of_exactly_this_member_counts() {
        let removed =
            api::RemovedMember { id: DecimalId(4), name: "n4".into(), incarnation: Hex128([4; 16]), index: 9 };
        let members = api::Members {
            cluster_id: Hex128([1; 16]),
            conf_index: 9,
            joint: false,
            leader: Some(DecimalId(1)),
            members: vec![],
            removed: vec![removed],
        };
        assert_eq!(removal(&members, &identity(4)), Ok(9));
        assert!(removal(&members, &identity(5)).is_err());
        let other_disk = MemberIdentity { incarnation: Hex128([9; 16]), ..identity(4) };
        assert!(removal(&members, &other_disk).is_err());
        let other_cluster = MemberIdentity { cluster_id: Hex128([9; 16]), ..identity(4) };
        assert!(removal(&members, &other_cluster).is_err());
    }
}

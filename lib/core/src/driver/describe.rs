//! Translates the membership into the types of the API. PURE.
//!
//! Enters: what the driver publishes. Leaves: what `GET /v1/members` and the status say; a node's handle or a
//! simulation sends it.

use super::{DriverStatus, PeerStatus, Role};
use crate::membership::{Member, Membership, Removed};
use crate::types::MemberId;
use raftkv_api::{self as api, DecimalId, Hex128};

/// The URLs that a member advertises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// URL of its peer port.
    pub peer_url: String,
    /// URL of its client port.
    pub client_url: String,
    /// URL of its admin port.
    pub admin_url: String,
}

/// What a leader knows about a member.
pub fn describe_peer(membership: &Membership, peer: &PeerStatus) -> api::Peer {
    api::Peer {
        id: DecimalId(peer.id),
        name: membership.members.get(&peer.id).map_or_else(String::new, |member| member.name.clone()),
        active: peer.active,
        caught_up: peer.caught_up,
        matched: peer.matched,
        applied: peer.report.applied,
        durable_conf_index: peer.report.durable_conf_index,
        free_bytes: peer.report.free_bytes,
        headroom_bytes: peer.report.headroom_bytes,
        reserve_bytes: peer.report.reserve_bytes,
        stalled_ms: peer.report.stalled_ms,
        volume_bytes: peer.report.volume_bytes,
    }
}

/// The answer of `GET /v1/members` on the node with this driver; `urls` looks up what a member advertises.
pub fn members_answer(
    cluster_id: Hex128,
    driver: &DriverStatus,
    urls: impl Fn(MemberId) -> Option<Advertised>,
) -> api::Members {
    let membership = &driver.membership;
    let removed = |(id, removed): (&MemberId, &Removed)| api::RemovedMember {
        id: DecimalId(*id),
        name: removed.name.clone(),
        incarnation: removed.incarnation,
        index: removed.index,
    };
    // What this list says lets disks be deleted: a removal is told only once it is safe (rule N4).
    let is_safe = |(_, removed): &(&MemberId, &Removed)| removed.index <= driver.removals_safe;
    api::Members {
        cluster_id,
        conf_index: membership.conf_index,
        joint: membership.is_joint(),
        leader: (driver.leader != 0 || driver.role == Role::Leader).then_some(DecimalId(driver.leader)),
        members: describe_members(membership, urls),
        removed: membership.removed.iter().filter(is_safe).map(removed).collect(),
    }
}

/// The members of a membership by ascending id; `urls` looks up what a member advertises.
pub fn describe_members(membership: &Membership, urls: impl Fn(MemberId) -> Option<Advertised>) -> Vec<api::Member> {
    let member = |(id, member): (&MemberId, &Member)| {
        let urls = urls(*id);
        api::Member {
            id: DecimalId(*id),
            name: member.name.clone(),
            peer_url: member.peer.url(),
            incarnation: member.incarnation,
            role: role(membership, *id),
            client_url: urls.as_ref().map(|urls| urls.client_url.clone()),
            admin_url: urls.map(|urls| urls.admin_url),
        }
    };
    membership.members.iter().map(member).collect()
}

fn role(membership: &Membership, id: MemberId) -> api::MemberRole {
    if membership.voters.contains(&id) {
        api::MemberRole::Voter
    } else if membership.outgoing.contains(&id) {
        api::MemberRole::Outgoing
    } else {
        api::MemberRole::Learner
    }
}

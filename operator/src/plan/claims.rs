//! What is written at volume claims, and when one is deleted (rule O4). PURE.
//!
//! A claim is deleted for one reason alone: the member whose data it holds was removed, by the word of a quorum, and
//! nobody uses it. (A lost node's claim is deleted in `repair`.)

use crate::plan::action::{Action, Step};
use crate::plan::facts::{Certainty, Facts, Seat};
use crate::plan::world::{ClaimOwner, ClaimSeen, Ordinal};
use crate::plan::{evidence, form};
use raftkv_api::{Hex128, NodeState};

/// Labels the claims that the StatefulSet made for this cluster and, once the cluster is formed, those that it took
/// over. A claim without a volume waits: a write between two writes of the scheduler would send its pod back to the end
/// of the queue.
pub(crate) fn labels(facts: &Facts<'_>) -> Vec<Step> {
    let unlabelled =
        facts.seen.claims.iter().filter(|(_, claim)| claim.cluster_uid.as_ref() != Some(&facts.desired.uid));
    let ours = unlabelled.filter(|(ordinal, claim)| !form::is_foreign(facts, claim) || is_taken_over(facts, **ordinal));
    let step = |(ordinal, claim): (&Ordinal, &ClaimSeen)| {
        let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
        Step::quiet(Action::LabelClaim { ordinal: *ordinal, uid, resource_version })
    };
    ours.filter(|(_, claim)| claim.bound && !claim.terminating).map(step).collect()
}

/// Whether the node on it belongs to this cluster, or has proved the volume empty.
fn is_taken_over(facts: &Facts<'_>, ordinal: Ordinal) -> bool {
    let known = |status: &raftkv_api::Status| facts.is_ours(status) || status.state == NodeState::Blank;
    facts.seen.latch.bootstrapped && facts.status(ordinal).is_some_and(known)
}

/// Annotates the claims of members with whose data they hold: after an adoption, and after a person changed them.
pub(crate) fn owners(facts: &Facts<'_>) -> Vec<Step> {
    if facts.roster.certainty != Certainty::Linearizable {
        return vec![];
    }
    facts
        .roster
        .seats
        .iter()
        .filter(|seat| facts.answers(seat).is_some())
        .filter_map(|seat| note(facts, seat))
        .collect()
}

/// The step that annotates a claim with its member. `None` when the annotation is there, or the claim is not.
pub(crate) fn note(facts: &Facts<'_>, seat: &Seat) -> Option<Step> {
    let ordinal = seat.ordinal?;
    let claim = facts.claim(ordinal)?;
    let owner = owner(facts, seat)?;
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    let action = Action::AnnotateClaim { ordinal, uid, resource_version, owner };
    (claim.owner != Some(owner)).then(|| Step::quiet(action))
}

fn owner(facts: &Facts<'_>, seat: &Seat) -> Option<ClaimOwner> {
    let cluster_id: Hex128 = facts.seen.latch.cluster_id?;
    Some(ClaimOwner { cluster_id, member_id: seat.id, incarnation: seat.incarnation? })
}

/// Deletes the claim of a removed member: one in each pass, as its last step.
pub(crate) fn sweep(facts: &Facts<'_>) -> Option<Step> {
    let mut claims = facts.seen.claims.iter();
    let (ordinal, claim) = claims.find(|(ordinal, claim)| evidence::delete_removed_claim(facts, **ordinal, claim))?;
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    let member = claim.owner?.member_id;
    let text = format!("deleted the volume claim {} of the removed member {member}", facts.desired.claim(*ordinal));
    Some(Step::told(Action::DeleteClaim { ordinal: *ordinal, uid, resource_version }, "VolumeClaimDeleted", text))
}

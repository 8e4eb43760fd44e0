//! What former members leave behind: which nodes and data directories are of no more use, and the steps that make room
//! for new members there. PURE.

use crate::plan::action::{Action, Ending, Step, Turn, Underway};
use crate::plan::facts::{Facts, quorum};
use crate::plan::table::On;
use crate::plan::world::{ClaimSeen, Ordinal};
use raftkv_api::{Hex128, NodeState};
use raftkv_crds::OperationKind;

/// Whether a quorum's membership lists the member that this node was as removed, and the node knows that or does not
/// trust its data. Data that contradict a leader's are left to a person, whoever they belonged to (rule N7).
pub(crate) fn is_former(facts: &Facts<'_>, status: &raftkv_api::Status) -> bool {
    let is_out = match status.state {
        NodeState::Removed | NodeState::Quarantined => !status.diverged,
        NodeState::Opening | NodeState::Blank | NodeState::Learner | NodeState::Voter => false,
    };
    is_out && removal(facts, status).is_some()
}

/// Whether this is a learner that was removed before it received a membership. It knows nobody who could tell it, and
/// stays a learner for ever. A quorum of the remaining voters has its removal on disk and applied, so that nobody will
/// ask for its vote.
pub(crate) fn is_untold(facts: &Facts<'_>, status: &raftkv_api::Status) -> bool {
    let knows_nobody = status.state == NodeState::Learner && status.conf_index == 0;
    let needed = quorum(facts.roster.voters().count());
    knows_nobody && removal(facts, status).is_some_and(|index| facts.durable_at(index) >= needed)
}

/// The index at which the member that this node was is removed, according to a quorum's membership.
fn removal(facts: &Facts<'_>, status: &raftkv_api::Status) -> Option<u64> {
    let mut removed = facts.seen.members.iter().flat_map(|members| &members.removed);
    let of_it = |member: &&raftkv_api::RemovedMember| Some(member.id) == status.member_id;
    removed.find(of_it).filter(|_| facts.is_ours(status)).map(|member| member.index)
}

/// Whether a data directory belonged to a member that was removed before it knew that it was one. No leader takes it a
/// second time.
pub(crate) fn is_spent(facts: &Facts<'_>, incarnation: Hex128) -> bool {
    let mut removed = facts.seen.members.iter().flat_map(|members| &members.removed);
    removed.any(|member| member.incarnation == incarnation)
}

/// Gives a pod a new volume, because no leader takes the old one. Either the old volume was proved empty, and it
/// belonged to a removed member or its claim is being deleted; or it belongs to a removed learner that nobody tells of
/// its removal.
pub(crate) fn renew(facts: &Facts<'_>, ordinal: Ordinal, kind: OperationKind) -> Turn {
    let name = facts.desired.pod(ordinal);
    let evidence = "no member is on the present one, and none can be again";
    let text = format!("giving {name} a new volume: {evidence}");
    let underway = |step| Underway { kind, step, member: Some(name.clone()), text: text.clone() };
    match (facts.claim(ordinal), facts.pod(ordinal)) {
        (Some(claim), _) if !claim.terminating => {
            Turn::Act(underway("DeleteVolumeClaim"), vec![delete_claim(facts, ordinal, claim, evidence)])
        }
        (_, Some(pod)) if !pod.terminating => {
            let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
            let action = Action::DeletePod { ordinal, uid, resource_version, how: Ending::Delete };
            Turn::Act(underway("DeletePod"), vec![Step::told(action, "PodRestarted", text.clone())])
        }
        (Some(_) | None, Some(_) | None) => Turn::wait(On::Kube, underway("WaitForPod")),
    }
}

/// Sets a node's data aside; it starts again as Blank.
pub(crate) fn reset(ordinal: Ordinal, incarnation: raftkv_api::Hex128, name: &str) -> Step {
    let text = format!("set the data of {name} aside, data directory {incarnation}");
    Step::told(Action::Reset { ordinal, incarnation }, "NodeReset", text)
}

/// Deletes a volume claim whose data is given up.
pub(crate) fn delete_claim(facts: &Facts<'_>, ordinal: Ordinal, claim: &ClaimSeen, evidence: &str) -> Step {
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    let text = format!("deleted the volume claim {}: {evidence}", facts.desired.claim(ordinal));
    Step::told(Action::DeleteClaim { ordinal, uid, resource_version }, "LostVolumeClaimDeleted", text)
}

/// Whether this cluster's claim belongs to no member. A claim is annotated before its node votes, and a removed member
/// is not a member.
pub(crate) fn holds_nobody(facts: &Facts<'_>, claim: &ClaimSeen) -> bool {
    let mut removed = facts.seen.members.iter().flat_map(|members| &members.removed);
    let ours = claim.cluster_uid.as_ref() == Some(&facts.desired.uid);
    ours && claim.owner.is_none_or(|owner| {
        facts.seen.latch.cluster_id == Some(owner.cluster_id) && removed.any(|member| member.id.0 == owner.member_id)
    })
}

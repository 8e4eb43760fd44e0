//! What former members left behind: which nodes and data directories are of no more use, and the steps that make room for a
//! new member there. PURE.

use crate::plan::action::{Action, Step, Turn, Underway};
use crate::plan::facts::{Facts, quorum};
use crate::plan::world::{ClaimSeen, Ordinal};
use raftkv_api::{Hex128, NodeState};
use raftkv_crds::OperationKind;

/// By the word of a quorum, the member that this node was is no member any more, and the node knows it or does not trust
/// its data.
pub(crate) fn is_former(facts: &Facts<'_>, status: &raftkv_api::Status) -> bool {
    let is_out = match status.state {
        NodeState::Removed | NodeState::Quarantined => true,
        NodeState::Opening | NodeState::Blank | NodeState::Learner | NodeState::Voter => false,
    };
    is_out && removal(facts, status).is_some()
}

/// A learner that was removed before it had a membership knows nobody who could tell it, and stays what it is for ever.
/// A quorum of those that are left has its removal on disk and applied, so that nobody will ask for its vote.
pub(crate) fn is_untold(facts: &Facts<'_>, status: &raftkv_api::Status) -> bool {
    let knows_nobody = status.state == NodeState::Learner && status.conf_index == 0;
    let needed = quorum(facts.roster.voters().count());
    knows_nobody && removal(facts, status).is_some_and(|index| facts.durable_at(index) >= needed)
}

/// Where, by the word of a quorum, the member that this node was is no member any more.
fn removal(facts: &Facts<'_>, status: &raftkv_api::Status) -> Option<u64> {
    let mut removed = facts.seen.members.iter().flat_map(|members| &members.removed);
    let of_it = |member: &&raftkv_api::RemovedMember| Some(member.id) == status.member_id;
    removed.find(of_it).filter(|_| facts.is_ours(status)).map(|member| member.index)
}

/// A data directory was a member's that was removed before it heard of it. No leader takes it a second time.
pub(crate) fn is_spent(facts: &Facts<'_>, incarnation: Hex128) -> bool {
    let mut removed = facts.seen.members.iter().flat_map(|members| &members.removed);
    removed.any(|member| member.incarnation == incarnation)
}

/// Gives a pod a new volume. No leader takes the old one: it was proved empty, and is a removed member's or its claim is
/// being deleted; or it is that of a removed learner whom nobody tells.
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
            let action = Action::DeletePod { ordinal, uid, resource_version, now: false };
            Turn::Act(underway("DeletePod"), vec![Step::told(action, "PodRestarted", text.clone())])
        }
        (Some(_) | None, Some(_) | None) => Turn::Wait(underway("WaitForPod")),
    }
}

/// Sets a node's data aside; it starts over Blank.
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

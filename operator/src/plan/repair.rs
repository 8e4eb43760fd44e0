//! Repairs members that lost their disk (rule O3), do not trust its data, or lost their machine (rule O13). PURE.
//!
//! A member is never just removed: a new one is added under its name, catches up, and replaces it in one joint change.

use crate::plan::action::{Action, Problem, Step, Turn, Underway};
use crate::plan::facts::{Facts, Leader, Seat, quorum};
use crate::plan::world::{ClaimSeen, Container, Machine, Ordinal, PodSeen};
use crate::plan::{change, former};
use raftkv_api::{Hex128, NodeState, Status};
use raftkv_crds::{OperationKind, Reason, annotation};

/// With fewer voters than this, a lost disk means a lost quorum, and no majority is left to replace the member.
const VOTERS_MIN: usize = 3;

/// The next step of the first repair that is due.
pub(crate) fn turn(facts: &Facts<'_>, leader: Leader<'_>) -> Turn {
    // A member that the spec does not ask for is removed, not repaired.
    let wanted = facts.roster.voters().filter(|seat| seat.ordinal.is_some_and(|at| at < facts.replicas()));
    for seat in wanted {
        let Some(ordinal) = seat.ordinal else { continue };
        for repair in [lost_node, left_over, untrusted, lost_disk] {
            match repair(facts, leader, seat, ordinal) {
                Turn::Nothing => {}
                turn @ (Turn::Act(..) | Turn::Wait(_)) => return turn,
            }
        }
    }
    let vacant = (0..facts.replicas()).filter(|ordinal| facts.roster.voter_at(*ordinal).is_none());
    vacant.map(|ordinal| stranded(facts, ordinal)).find(|turn| *turn != Turn::Nothing).unwrap_or(Turn::Nothing)
}

/// Whether the others are a quorum without this member, and none of them is still reading its data. The error says why
/// not.
fn others_hold(facts: &Facts<'_>, seat: &Seat) -> Result<(), String> {
    let voters = facts.roster.voters().count();
    if voters < VOTERS_MIN {
        return Err(format!("with {voters} voters there is no quorum without it"));
    }
    if let Some(opening) = facts.opening() {
        return Err(format!("{} is still opening its data", opening.name));
    }
    let well = facts.well_without(seat.id);
    match well >= quorum(voters) {
        true => Ok(()),
        false => Err(format!("{well} of the other voters are well, and {} are needed", quorum(voters))),
    }
}

fn underway(seat: &Seat, step: &'static str, text: String) -> Underway {
    Underway { kind: OperationKind::Replace, step, member: Some(seat.name.clone()), text }
}

/// A member that came back with an empty disk gets a successor under its name.
fn lost_disk(facts: &Facts<'_>, leader: Leader<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let Some(incarnation) = facts.blank(ordinal).filter(|blank| Some(*blank) != seat.incarnation) else {
        return Turn::Nothing;
    };
    let is_added = facts.roster.learners().any(|learner| learner.incarnation == Some(incarnation));
    if is_added || facts.pod(ordinal).is_some_and(|pod| pod.terminating) {
        return Turn::Nothing;
    }
    if facts.seen.memory.blank.get(&ordinal) != Some(&incarnation) {
        let text = format!("{} shows an empty volume; looking a second time", seat.name);
        return Turn::Wait(underway(seat, "ConfirmLostDisk", text));
    }
    if let Err(why) = others_hold(facts, seat) {
        return Turn::Wait(underway(seat, "WaitForQuorum", format!("{} lost its volume: {why}", seat.name)));
    }
    if facts.is_doomed(seat) || former::is_spent(facts, incarnation) {
        return former::renew(facts, ordinal, OperationKind::Replace);
    }
    let step = change::add(facts, leader, ordinal, incarnation);
    Turn::Act(underway(seat, "AddLearner", format!("adding a successor for {}", seat.name)), vec![step])
}

/// On its pod runs what is left of a former member, such as a successor that was removed.
fn left_over(facts: &Facts<'_>, _leader: Leader<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let Some(status) = facts.status(ordinal) else { return Turn::Nothing };
    if former::is_untold(facts, status) {
        return former::renew(facts, ordinal, OperationKind::Replace);
    }
    let Some(incarnation) = status.incarnation.filter(|_| former::is_former(facts, status)) else {
        return Turn::Nothing;
    };
    let step = former::reset(ordinal, incarnation, &seat.name);
    Turn::Act(underway(seat, "Reset", format!("setting the old data of {} aside", seat.name)), vec![step])
}

/// A member that does not trust its data is told to set it aside. After that it is a member that lost its disk. One whose
/// log a leader contradicts may hold the only copy of acknowledged writes: a person decides about that (rule N7).
fn untrusted(facts: &Facts<'_>, _leader: Leader<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let is_untrusted = |status: &&Status| status.state == NodeState::Quarantined && !status.diverged;
    let Some(status) = facts.answers(seat).filter(is_untrusted) else { return Turn::Nothing };
    let Some(incarnation): Option<Hex128> = status.incarnation else { return Turn::Nothing };
    if let Err(why) = others_hold(facts, seat) {
        return Turn::Wait(underway(seat, "WaitForQuorum", format!("{} does not trust its data: {why}", seat.name)));
    }
    let step = former::reset(ordinal, incarnation, &seat.name);
    Turn::Act(underway(seat, "Reset", format!("setting the data of {} aside", seat.name)), vec![step])
}

/// The evidence that a member's machine will not come back.
fn evidence(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Option<String> {
    if facts.status(ordinal).is_some() {
        return None;
    }
    let by_person = facts.desired.replace.is_some_and(|it| it.ordinal == ordinal && it.member_id == seat.id);
    if by_person {
        return Some(format!("the annotation {} names it", annotation::REPLACE));
    }
    match facts.machine(ordinal)? {
        (name, Machine::Gone) => Some(format!("its Kubernetes node {name} does not exist any more")),
        (name, Machine::OutOfService) => Some(format!("its Kubernetes node {name} is marked as out of service")),
        (_, Machine::Present | Machine::Unknown) => None,
    }
}

/// First the claim is deleted, then the pod that uses it, so that the next pod gets a new volume. Should the old
/// process still run somewhere, it keeps its old id and can only be outvoted.
fn lost_node(facts: &Facts<'_>, _leader: Leader<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let Some(evidence) = evidence(facts, seat, ordinal) else { return Turn::Nothing };
    if let Err(why) = others_hold(facts, seat) {
        return Turn::Wait(underway(seat, "WaitForQuorum", format!("{} lost its machine: {why}", seat.name)));
    }
    match (facts.claim(ordinal), facts.pod(ordinal)) {
        (Some(claim), _) if !claim.terminating && is_lost(facts, seat, claim) => {
            let step = former::delete_claim(facts, ordinal, claim, &evidence);
            Turn::Act(underway(seat, "DeleteVolumeClaim", format!("giving up the volume of {}", seat.name)), vec![step])
        }
        (claim, Some(pod)) if claim.is_none_or(|claim| claim.terminating) || is_stranded(facts, pod) => {
            let step = delete_pod(ordinal, pod, &seat.name, &evidence);
            Turn::Act(underway(seat, "DeletePod", format!("giving up the pod {}", seat.name)), vec![step])
        }
        (Some(_) | None, Some(_) | None) => Turn::Wait(underway(
            seat,
            "WaitForPod",
            format!("waiting for a new {}: {}", seat.name, facts.trouble(ordinal)),
        )),
    }
}

/// Whether the volume is tied to a machine that is gone, or a person says that the member's volume is lost. A volume
/// that can be attached to another machine is not lost: its pod just starts there.
fn is_lost(facts: &Facts<'_>, seat: &Seat, claim: &ClaimSeen) -> bool {
    let by_person = facts.desired.replace.is_some_and(|it| Some(it.ordinal) == seat.ordinal && it.member_id == seat.id);
    seat.ordinal.is_some_and(|ordinal| facts.is_tied_to_lost(ordinal))
        || by_person && claim.owner.is_some_and(|owner| owner.member_id == seat.id)
}

/// Whether the pod is on a machine that is gone, so that no kubelet will ever end it.
fn is_stranded(facts: &Facts<'_>, pod: &PodSeen) -> bool {
    let machine = pod.machine.as_ref().and_then(|name| facts.seen.machines.get(name));
    machine.is_some_and(|machine| machine.is_gone_for_good())
}

/// Gives up a pod that is no voter's, or its volume, when it is on a machine that is gone, so that no pod can run
/// there.
fn stranded(facts: &Facts<'_>, ordinal: Ordinal) -> Turn {
    if facts.status(ordinal).is_some() {
        return Turn::Nothing;
    }
    let name = facts.desired.pod(ordinal);
    let evidence = "no voter is on it, and its Kubernetes node is gone for good";
    let underway = |step, text| Underway { kind: OperationKind::ScaleUp, step, member: Some(name.clone()), text };
    match (facts.claim(ordinal), facts.pod(ordinal)) {
        (Some(claim), _) if !claim.terminating && facts.is_tied_to_lost(ordinal) && holds_nobody(facts, claim) => {
            let step = former::delete_claim(facts, ordinal, claim, evidence);
            Turn::Act(underway("DeleteVolumeClaim", format!("giving up the volume of {name}")), vec![step])
        }
        (_, Some(pod)) if is_stranded(facts, pod) => {
            let step = delete_pod(ordinal, pod, &name, evidence);
            Turn::Act(underway("DeletePod", format!("giving up the pod {name}")), vec![step])
        }
        (Some(_) | None, Some(_) | None) => Turn::Nothing,
    }
}

/// Whether this cluster's claim belongs to no member. A claim is annotated before its node votes, and a removed member
/// is not a member.
fn holds_nobody(facts: &Facts<'_>, claim: &ClaimSeen) -> bool {
    let mut removed = facts.seen.members.iter().flat_map(|members| &members.removed);
    let ours = claim.cluster_uid.as_ref() == Some(&facts.desired.uid);
    ours && claim.owner.is_none_or(|owner| {
        facts.seen.latch.cluster_id == Some(owner.cluster_id) && removed.any(|member| member.id.0 == owner.member_id)
    })
}

fn delete_pod(ordinal: Ordinal, pod: &PodSeen, name: &str, evidence: &str) -> Step {
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    let text = format!("deleted the pod {name} without waiting for its machine: {evidence}");
    Step::told(Action::DeletePod { ordinal, uid, resource_version, now: true }, "LostPodDeleted", text)
}

/// What is wrong with the members, and what a person can do.
pub(crate) fn problems(facts: &Facts<'_>) -> Vec<Problem> {
    facts.roster.voters().filter_map(|seat| problem(facts, seat)).collect()
}

fn problem(facts: &Facts<'_>, seat: &Seat) -> Option<Problem> {
    let ordinal = seat.ordinal?;
    let Some(status) = facts.status(ordinal) else { return unreachable(facts, seat, ordinal) };
    if status.cluster_id.is_some() && !facts.is_ours(status) {
        return Some(foreign_node(&seat.name));
    }
    let (name, id) = (&seat.name, seat.id);
    let lost = |text| Some(Problem { reason: Reason::DiskLost, text });
    if status.state == NodeState::Opening && has_new_volume(facts, seat) {
        return lost(format!("the data of member {id} is lost; {name} starts on a new volume"));
    }
    match status.state {
        NodeState::Quarantined if status.diverged => Some(Problem {
            reason: Reason::MemberQuarantined,
            text: format!(
                "{name} and a leader contradict each other: {}. It may hold the only copy of acknowledged writes, so it is left \
                 as it is: keep both volumes, compare the two members, and run `raftkvctl reset --diverged` on the one to give up",
                status.reason.as_deref().unwrap_or("it gives no reason")
            ),
        }),
        NodeState::Quarantined => Some(Problem {
            reason: Reason::MemberQuarantined,
            text: format!(
                "{name} does not trust its own data and takes no part: {}. It is replaced by itself as long as the other voters are a quorum",
                status.reason.as_deref().unwrap_or("it gives no reason")
            ),
        }),
        NodeState::Blank => lost(format!("{name} came back with an empty volume; it is to replace member {id}")),
        NodeState::Learner | NodeState::Voter | NodeState::Removed if facts.answers(seat).is_none() => {
            lost(format!("the data of member {id} is lost; another member on {name} is to replace it"))
        }
        NodeState::Opening | NodeState::Learner | NodeState::Voter | NodeState::Removed => None,
    }
}

/// Whether the volume is newer than the member. A claim names its member before the member votes, so a claim that does
/// not name it was made later.
fn has_new_volume(facts: &Facts<'_>, seat: &Seat) -> bool {
    let claim = seat.ordinal.and_then(|ordinal| facts.claim(ordinal));
    claim.is_some_and(|claim| claim.owner.is_none_or(|owner| owner.member_id != seat.id))
}

/// The problem with a member that does not answer. A pod that started a moment ago does not answer either, and a pod
/// that cannot start is reported as such.
fn unreachable(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Option<Problem> {
    let (name, id) = (&seat.name, seat.id);
    let told = |text| Some(Problem { reason: Reason::MemberUnreachable, text });
    if facts.desired.suspend {
        return None;
    }
    if let Some(evidence) = evidence(facts, seat, ordinal) {
        return told(format!("{name} (member {id}) is given up and replaced: {evidence}"));
    }
    if has_new_volume(facts, seat) {
        let text = format!("the data of member {id} is lost; {name} starts on a new volume");
        return Some(Problem { reason: Reason::DiskLost, text });
    }
    let pod = facts.pod(ordinal)?;
    let silent = match &pod.container {
        Container::Unscheduled(_) => true,
        Container::Running => !facts.is_new_to_silence(ordinal),
        Container::Starting | Container::Failing(_) => false,
    };
    if pod.ready || !silent {
        return None;
    }
    told(format!(
        "{name} (member {id}) takes no part: {}. Its volume may be good, so that it waits for its machine. If that machine is gone \
         for good: kubectl annotate rkv {} {}={name}/{id}",
        facts.trouble(ordinal),
        facts.desired.name,
        annotation::REPLACE,
    ))
}

/// The problem with a pod that answers as a node of another cluster.
pub(crate) fn foreign_node(name: &str) -> Problem {
    Problem {
        reason: Reason::ForeignNode,
        text: format!(
            "{name} answers as a node of another cluster: its volume holds that cluster's data. It is left alone"
        ),
    }
}

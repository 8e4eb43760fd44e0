//! REPAIR: gives successors to members that lost their disk (rule O3), do not trust its data, lost their machine (rule
//! O13), or run on a volume that is about to go. PURE.
//!
//! A member is never just removed: a new one is added under its name, catches up, and replaces it in one joint change.

use crate::plan::action::{Action, Ending, Problem, Step, Turn, Underway};
use crate::plan::facts::{Facts, Leader, Seat};
use crate::plan::guards::{self, Lack};
use crate::plan::table::{self, Cell, On, Row, Task};
use crate::plan::world::{Container, Ordinal, PodSeen};
use crate::plan::{change, evidence, former, machines, rows};
use raftkv_api::{Hex128, NodeState};
use raftkv_crds::{OperationKind, Reason};

/// A row that needs a person is shown as a wait only when it lasts for so long.
const LASTS_S_MIN: i64 = 60;

/// What is done about each member that the spec asks for, and about places without one.
pub(crate) fn turns(facts: &Facts<'_>) -> Vec<Turn> {
    // A member that the spec does not ask for is removed, not repaired.
    let wanted = facts.roster.voters().filter(|seat| seat.ordinal.is_some_and(|at| at < facts.replicas()));
    let mut turns: Vec<Turn> = wanted.map(|seat| about(facts, seat)).collect();
    if guards::open(facts, Task::Repair).is_ok() {
        let vacant = (0..facts.replicas()).filter(|ordinal| facts.roster.voter_at(*ordinal).is_none());
        turns.extend(vacant.map(|ordinal| stranded(facts, ordinal)));
    }
    turns
}

fn about(facts: &Facts<'_>, seat: &Seat) -> Turn {
    let Some(ordinal) = seat.ordinal else { return Turn::Nothing };
    if facts.is_left_alone(seat) {
        let text = format!("{} may have the only copy of acknowledged writes", seat.name);
        return Turn::watch(On::Person, underway(seat, "WaitForPerson", text));
    }
    if machines::is_given_up(facts, seat, ordinal) && rows::is_needed(facts, seat) {
        let text =
            format!("{} is given up, and the others cannot do without it: scale up to 3 members first", seat.name);
        return Turn::watch(On::Person, underway(seat, "WaitForPerson", text));
    }
    let row = rows::member(facts, seat);
    let watch = |on, step| {
        let text = format!("waiting for {}", guards::trouble(facts, seat));
        Turn::watch(on, underway(seat, step, text))
    };
    match table::cell(row, Task::Repair) {
        Cell::First => cure(facts, seat, ordinal, row),
        Cell::Wait(on) if rows::since_s(facts, seat) > 0 => watch(on, "WaitForReturn"),
        Cell::Person if rows::since_s(facts, seat) >= LASTS_S_MIN => watch(On::Person, "WaitForPerson"),
        Cell::Go
        | Cell::Others
        | Cell::Beyond
        | Cell::Outdated
        | Cell::Wait(_)
        | Cell::OneByOne
        | Cell::Keeps
        | Cell::Person
        | Cell::Veto
        | Cell::Never => Turn::Nothing,
    }
}

/// Every cure leads to an empty volume, and from there to a successor.
fn cure(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal, row: Row) -> Turn {
    let leader = match guards::open(facts, Task::Repair) {
        Ok(leader) => leader,
        Err(lack) => return lack.wait(OperationKind::Replace, Some(seat.name.clone())),
    };
    match row {
        Row::LostNode => lost_node(facts, seat, ordinal),
        Row::Doomed => doomed(facts, leader, seat, ordinal),
        Row::Quarantined => untrusted(facts, seat, ordinal),
        Row::Blank => match left_over(facts, seat, ordinal) {
            Turn::Nothing => lost_disk(facts, leader, seat, ordinal),
            turn @ (Turn::Act(..) | Turn::Wait(_)) => turn,
        },
        Row::None
        | Row::Coming
        | Row::BrokenOld
        | Row::BrokenNew
        | Row::UnreadyOld
        | Row::UnreadyNew
        | Row::Unseen
        | Row::Behind
        | Row::Short
        | Row::Hung
        | Row::Silent
        | Row::LearnerSilent
        | Row::Joint
        | Row::Electing
        | Row::Leaderless
        | Row::QuorumLost
        | Row::SetGone
        | Row::SetTaken
        | Row::ChildTaken
        | Row::BadSpec
        | Row::Refusing => Turn::Nothing,
    }
}

fn underway(seat: &Seat, step: &'static str, text: String) -> Underway {
    Underway { kind: OperationKind::Replace, step, member: Some(seat.name.clone()), text }
}

fn lacking(seat: &Seat, lack: Lack, what: &str) -> Turn {
    let Lack { on, text } = lack;
    Turn::wait(on, underway(seat, "WaitForQuorum", format!("{} {what}: {text}", seat.name)))
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
    if facts.is_doomed(seat) || former::is_spent(facts, incarnation) {
        return former::renew(facts, ordinal, OperationKind::Replace);
    }
    if facts.seen.memory.blank.get(&ordinal) != Some(&incarnation) {
        let text = format!("{} shows an empty volume; looking a second time", seat.name);
        return Turn::wait(On::Clock, underway(seat, "ConfirmLostDisk", text));
    }
    if let Some(learner) = change::learner_of(facts, OperationKind::Replace) {
        let text = format!("{} lost its volume: waiting for the learner {}", seat.name, learner.name);
        return Turn::wait(On::CatchUp, underway(seat, "WaitForCatchUp", text));
    }
    if let Err(lack) = evidence::add_learner(facts, ordinal, incarnation) {
        return lacking(seat, lack, "lost its volume");
    }
    let step = change::add(facts, leader, ordinal, incarnation);
    Turn::Act(underway(seat, "AddLearner", format!("adding a successor for {}", seat.name)), vec![step])
}

/// On its pod runs what is left of a former member, such as a successor that was removed.
fn left_over(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let Some(status) = facts.status(ordinal) else { return Turn::Nothing };
    if former::is_untold(facts, status) {
        return former::renew(facts, ordinal, OperationKind::Replace);
    }
    let Some(incarnation) = status.incarnation.filter(|_| former::is_former(facts, status)) else {
        return Turn::Nothing;
    };
    if let Err(lack) = evidence::reset(facts, status) {
        return lacking(seat, lack, "has old data");
    }
    let step = former::reset(ordinal, incarnation, &seat.name);
    Turn::Act(underway(seat, "Reset", format!("setting the old data of {} aside", seat.name)), vec![step])
}

/// A member that does not trust its data is told to set it aside. After that it is a member that lost its disk.
fn untrusted(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let Some(status) = facts.answers(seat).filter(|status| status.state == NodeState::Quarantined) else {
        return Turn::Nothing;
    };
    let Some(incarnation): Option<Hex128> = status.incarnation else { return Turn::Nothing };
    if let Err(lack) = evidence::reset(facts, status) {
        return lacking(seat, lack, "does not trust its data");
    }
    let step = former::reset(ordinal, incarnation, &seat.name);
    Turn::Act(underway(seat, "Reset", format!("setting the data of {} aside", seat.name)), vec![step])
}

/// A claim that is being deleted cannot be kept. While the others last, the pod is stopped, which frees the claim, and
/// the next pod gets a new volume.
fn doomed(facts: &Facts<'_>, leader: Leader<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let Some(pod) = facts.pod(ordinal) else { return Turn::Nothing };
    let evidence =
        format!("its volume claim {} is being deleted, and the others can do without it", facts.desired.claim(ordinal));
    match evidence::delete_doomed_pod(facts, seat) {
        Err(lack) if lack.on == On::Person => Turn::watch(On::Person, underway(seat, "WaitForPerson", lack.text)),
        Err(lack) => lacking(seat, lack, "loses its volume when it stops"),
        Ok(()) if pod.terminating => {
            let text = format!("waiting for {} to stop", seat.name);
            Turn::wait(On::Kube, underway(seat, "WaitForPod", text))
        }
        Ok(()) if facts.leads(seat.id) => {
            change::transfer(facts, leader, OperationKind::Replace, &format!("{} loses its volume", seat.name))
        }
        Ok(()) => {
            let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
            let action = Action::DeletePod { ordinal, uid, resource_version, how: Ending::Delete };
            let text = format!("restarted {} on a new volume: {evidence}", seat.name);
            let step = Step::told(action, "PodRestarted", text);
            Turn::Act(underway(seat, "DeletePod", format!("restarting {}: {evidence}", seat.name)), vec![step])
        }
    }
}

/// First the claim is deleted, then the pod that uses it, so that the next pod gets a new volume. Should the old
/// process still run somewhere, it keeps its old id and can only be outvoted.
fn lost_node(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Turn {
    let Some(evidence) = machines::machine_lost(facts, seat, ordinal) else { return Turn::Nothing };
    let named = machines::is_given_up(facts, seat, ordinal);
    let what = if named { "is given up" } else { "lost its machine" };
    let wait = || {
        let text = format!("waiting for a new {}: {}", seat.name, facts.trouble(ordinal));
        Turn::wait(On::Start, underway(seat, "WaitForPod", text))
    };
    if let Err(lack) = evidence::others_hold(facts, seat, ordinal) {
        return lacking(seat, lack, what);
    }
    if let Some(claim) = facts.claim(ordinal).filter(|claim| !claim.terminating)
        && evidence::delete_lost_claim(facts, seat, ordinal, claim).is_ok()
    {
        let step = former::delete_claim(facts, ordinal, claim, &evidence);
        return Turn::Act(
            underway(seat, "DeleteVolumeClaim", format!("giving up the volume of {}", seat.name)),
            vec![step],
        );
    }
    let goes = facts.claim(ordinal).is_none_or(|claim| claim.terminating);
    let Some(pod) = facts.pod(ordinal).filter(|pod| goes || machines::is_stranded(facts, pod)) else { return wait() };
    let now = evidence::delete_pod_now(facts, ordinal, pod, named);
    if pod.terminating && !now {
        return wait();
    }
    let step = delete_pod(ordinal, pod, &seat.name, &evidence, now);
    Turn::Act(underway(seat, "DeletePod", format!("giving up the pod {}", seat.name)), vec![step])
}

/// Gives up a pod that is no voter's, or its volume, when it is on a machine that is gone, so that no pod can run
/// there.
fn stranded(facts: &Facts<'_>, ordinal: Ordinal) -> Turn {
    if facts.status(ordinal).is_some() || facts.silent_s(ordinal) < facts.desired.lost_node_s {
        return Turn::Nothing;
    }
    let name = facts.desired.pod(ordinal);
    let evidence = "no voter is on it, and its Kubernetes node is gone for good";
    let underway = |step, text| Underway { kind: OperationKind::ScaleUp, step, member: Some(name.clone()), text };
    match (facts.claim(ordinal), facts.pod(ordinal)) {
        (Some(claim), _)
            if !claim.terminating && facts.is_tied_to_lost(ordinal) && former::holds_nobody(facts, claim) =>
        {
            let step = former::delete_claim(facts, ordinal, claim, evidence);
            Turn::Act(underway("DeleteVolumeClaim", format!("giving up the volume of {name}")), vec![step])
        }
        (_, Some(pod)) if machines::is_stranded(facts, pod) && evidence::delete_pod_now(facts, ordinal, pod, false) => {
            let step = delete_pod(ordinal, pod, &name, evidence, true);
            Turn::Act(underway("DeletePod", format!("giving up the pod {name}")), vec![step])
        }
        (Some(_) | None, Some(_) | None) => Turn::Nothing,
    }
}

fn delete_pod(ordinal: Ordinal, pod: &PodSeen, name: &str, evidence: &str, now: bool) -> Step {
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    let (how, words) = if now { (Ending::Kill, " without waiting for its machine") } else { (Ending::Delete, "") };
    let text = format!("deleted the pod {name}{words}: {evidence}");
    Step::told(Action::DeletePod { ordinal, uid, resource_version, how }, "LostPodDeleted", text)
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
    if status.diverged {
        return Some(diverged(facts, seat, status));
    }
    let (name, id) = (&seat.name, seat.id);
    let lost = |text| Some(Problem { reason: Reason::DiskLost, text });
    if rows::member(facts, seat) == Row::Doomed {
        return Some(doomed_problem(facts, seat));
    }
    if status.state == NodeState::Opening && has_new_volume(facts, seat) {
        return lost(format!("the data of member {id} is lost; {name} starts on a new volume"));
    }
    match status.state {
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

fn doomed_problem(facts: &Facts<'_>, seat: &Seat) -> Problem {
    let text = match evidence::delete_doomed_pod(facts, seat) {
        Err(lack) if lack.on == On::Person => lack.text,
        Err(lack) => format!(
            "{} loses its volume when it stops, and is replaced when the others can do without it: {}",
            seat.name, lack.text
        ),
        Ok(()) if facts.desired.suspend => {
            format!("the volume claim of {} is being deleted, and its data goes when its pod stops", seat.name)
        }
        Ok(()) => format!("the volume claim of {} is being deleted; member {} is replaced", seat.name, seat.id),
    };
    Problem { reason: Reason::DiskLost, text }
}

/// Both sides, what each has, and what a person decides.
fn diverged(facts: &Facts<'_>, seat: &Seat, status: &raftkv_api::Status) -> Problem {
    let leader = facts.leader.map(|leader| facts.desired.pod(leader.ordinal)).unwrap_or("the leader".to_string());
    Problem {
        reason: Reason::MemberDiverged,
        text: format!(
            "the logs of {name} (member {id}) and of {leader} contradict each other: {why}. One of them was put back to an older state, and {name} \
             may have the only copy of acknowledged writes. Member, pod and volume are left alone. Read both with raftkvctl; then put the wrong side \
             away: raftkvctl reset of {name} with --diverged gives its data up",
            name = seat.name,
            id = status.member_id.map_or(seat.id, |id| id.0),
            why = status.reason.as_deref().unwrap_or("it gives no reason"),
        ),
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
    if let Some(evidence) = machines::machine_lost(facts, seat, ordinal) {
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
         for good: {}",
        facts.trouble(ordinal),
        machines::replace_command(facts, seat),
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

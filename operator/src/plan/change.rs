//! Changes the membership, one change at a time: finish what is under way, then remove, then add. PURE.
//!
//! Every function here is called with a leader and a linearizable membership, and each of its changes carries the index of
//! that membership.

use crate::plan::action::{Action, Step, Turn, Underway};
use crate::plan::claims;
use crate::plan::facts::{Facts, Leader, Seat, quorum};
use crate::plan::world::Ordinal;
use crate::plan::{former, size};
use raftkv_api::NodeState;
use raftkv_crds::OperationKind;

/// A joint change is left by itself. Nothing else may begin before that.
pub(crate) fn joint(facts: &Facts<'_>) -> Turn {
    if !facts.roster.joint {
        return Turn::Nothing;
    }
    let text = "waiting for the joint change of the membership to be left".to_string();
    Turn::Wait(Underway { kind: OperationKind::Replace, step: "WaitForJointChange", member: None, text })
}

/// Makes a learner a voter, or removes it. A learner that does not answer is not waited for here, since it must not
/// hold up a repair.
pub(crate) fn learners(facts: &Facts<'_>, leader: Leader<'_>) -> Turn {
    // An unwanted learner must not hold up a wanted one.
    let mut unwanted = facts.roster.learners().filter(|seat| why_unwanted(facts, seat).is_some());
    if let Some(seat) = unwanted.next() {
        return drop_learner(facts, leader, seat);
    }
    match ours(facts).find(|seat| learns(facts, seat)) {
        Some(seat) => promote(facts, leader, seat),
        None => Turn::Nothing,
    }
}

/// Waits for learners that do not answer.
pub(crate) fn silent_learners(facts: &Facts<'_>) -> Turn {
    let Some((seat, ordinal)) = ours(facts).find_map(|seat| Some((seat, seat.ordinal?))) else { return Turn::Nothing };
    let text = format!("waiting for the learner {}: {}", seat.name, facts.trouble(ordinal));
    Turn::Wait(underway(kind_of(facts, seat), "WaitForCatchUp", seat, text))
}

/// The learners of this cluster's pods. Learners that somebody added under other names are left to that person.
fn ours<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a Seat> {
    facts.roster.learners().filter(|seat| seat.ordinal.is_some())
}

/// Whether its node runs and answers as a learner.
fn learns(facts: &Facts<'_>, seat: &Seat) -> bool {
    let stops = seat.ordinal.and_then(|ordinal| facts.pod(ordinal)).is_some_and(|pod| pod.terminating);
    !stops && facts.answers(seat).is_some_and(|status| status.state == NodeState::Learner)
}

/// A learner with the ordinal of a voter replaces that voter.
fn kind_of(facts: &Facts<'_>, seat: &Seat) -> OperationKind {
    match seat.ordinal.and_then(|ordinal| facts.roster.voter_at(ordinal)) {
        Some(_) => OperationKind::Replace,
        None => OperationKind::ScaleUp,
    }
}

/// Why a learner is unwanted; `None` when it is wanted.
fn why_unwanted(facts: &Facts<'_>, seat: &Seat) -> Option<&'static str> {
    let ordinal = seat.ordinal?;
    if ordinal >= facts.replicas() {
        return Some("the spec asks for fewer members");
    }
    let lost = facts.blank(ordinal).is_some_and(|incarnation| Some(incarnation) != seat.incarnation);
    if lost {
        return Some("its volume was lost");
    }
    if facts.is_doomed(seat) && facts.pod(ordinal).is_some() {
        return Some("its volume claim is being deleted");
    }
    if facts.answers(seat).is_some_and(|status| status.state == NodeState::Quarantined && !status.diverged) {
        return Some("it does not trust its data");
    }
    let gone = facts.status(ordinal).is_none() && facts.is_tied_to_lost(ordinal);
    gone.then_some("its machine is gone")
}

fn drop_learner(facts: &Facts<'_>, leader: Leader<'_>, seat: &Seat) -> Turn {
    let why = why_unwanted(facts, seat).unwrap_or("it is not wanted");
    let text = format!("removing the learner {} ({}): {why}", seat.id, seat.name);
    let action = Action::Remove { leader: leader.ordinal, id: seat.id, conf_index: facts.roster.conf_index };
    let told = Step::told(action, "LearnerRemoved", format!("removed the learner {} ({}): {why}", seat.id, seat.name));
    Turn::Act(underway(OperationKind::ScaleDown, "RemoveLearner", seat, text), vec![told])
}

fn promote(facts: &Facts<'_>, leader: Leader<'_>, seat: &Seat) -> Turn {
    let replaced = seat.ordinal.and_then(|ordinal| facts.roster.voter_at(ordinal));
    let kind = kind_of(facts, seat);
    if !facts.is_caught_up(seat) {
        let text = format!("waiting for the learner {} to catch up", seat.name);
        return Turn::Wait(underway(kind, "WaitForCatchUp", seat, text));
    }
    // 1. The budget knows the larger quorum before the voter counts. 2. The claim names the member before it votes.
    let voters = facts.roster.voters().count() + usize::from(replaced.is_none());
    let raised = size::budget(facts, voters);
    let current = facts.seen.ours().and_then(|set| set.budget);
    let mut steps = Vec::new();
    if current.is_none_or(|current| current < raised) {
        steps.extend(size::budget_to(facts, raised));
    }
    steps.extend(claims::note(facts, seat));
    let replaces = replaced.map(|old| old.id);
    let action = Action::Promote { leader: leader.ordinal, id: seat.id, replaces, conf_index: facts.roster.conf_index };
    let (reason, text) = match replaced {
        Some(old) => {
            ("MemberReplaced", format!("member {} took the place of member {} at {}", seat.id, old.id, seat.name))
        }
        None => ("MemberPromoted", format!("member {} ({}) votes", seat.id, seat.name)),
    };
    steps.push(Step::told(action, reason, text));
    Turn::Act(underway(kind, "Promote", seat, format!("making the learner {} a voter", seat.name)), steps)
}

/// Removes the voter with the highest ordinal that the spec does not ask for, if the others can do without it (rule
/// O6). If they cannot, another such voter that is not well may go first, which makes the quorum smaller.
pub(crate) fn down(facts: &Facts<'_>, leader: Leader<'_>) -> Turn {
    let is_beyond = |seat: &&Seat| seat.ordinal.is_some_and(|at| at >= facts.replicas()) || is_displaced(facts, seat);
    let mut beyond: Vec<&Seat> = facts.roster.voters().filter(is_beyond).collect();
    beyond.sort_by_key(|seat| std::cmp::Reverse(seat.ordinal));
    let Some(highest) = beyond.first() else { return Turn::Nothing };
    let needed = quorum(facts.roster.voters().count() - 1);
    let Some(victim) = beyond.iter().find(|seat| facts.lasting_without(seat.id) >= needed) else {
        let text = format!("{} stays until the others can do without it: {}", highest.name, unwell(facts, highest));
        return Turn::Wait(underway(OperationKind::ScaleDown, "WaitForHealthyMembers", highest, text));
    };
    if facts.leads(victim.id) {
        return transfer(facts, leader, OperationKind::ScaleDown, &format!("{} is to be removed", victim.name));
    }
    let action = Action::Remove { leader: leader.ordinal, id: victim.id, conf_index: facts.roster.conf_index };
    let text = format!("removed member {} ({})", victim.id, victim.name);
    let step = Step::told(action, "MemberRemoved", text);
    Turn::Act(
        underway(OperationKind::ScaleDown, "RemoveMember", victim, format!("removing {}", victim.name)),
        vec![step],
    )
}

/// Whether another voter answers on its pod: somebody promoted a successor and did not remove the predecessor.
fn is_displaced(facts: &Facts<'_>, seat: &Seat) -> bool {
    let mut others = facts.roster.voters().filter(|other| other.id != seat.id && other.ordinal == seat.ordinal);
    seat.ordinal.is_some() && others.any(|other| facts.answers(other).is_some())
}

fn unwell(facts: &Facts<'_>, victim: &Seat) -> String {
    let sick = facts.roster.voters().filter(|seat| seat.id != victim.id);
    let sick = sick.filter(|seat| !facts.is_well(seat) || facts.is_doomed(seat));
    let words = |seat: &Seat| match seat.ordinal {
        Some(ordinal) if facts.is_well(seat) => {
            format!(
                "{name}: its volume claim {} is being deleted; delete the pod {name} as well, so that it is replaced",
                facts.desired.claim(ordinal),
                name = seat.name
            )
        }
        Some(_) if facts.is_healthy(seat) => format!("{} has not caught up", seat.name),
        Some(ordinal) => format!("{}: {}", seat.name, facts.trouble(ordinal)),
        None => format!("{} does not answer", seat.name),
    };
    sick.map(words).collect::<Vec<_>>().join("; ")
}

/// Hands leadership to a caught-up voter that stays and may lead, by the lowest ordinal.
pub(crate) fn transfer(facts: &Facts<'_>, leader: Leader<'_>, kind: OperationKind, why: &str) -> Turn {
    let able = |seat: &&Seat| {
        let stays = seat.ordinal.is_some_and(|ordinal| ordinal < facts.replicas());
        stays
            && seat.id != leader.id
            && facts.is_well(seat)
            && facts.answers(seat).is_some_and(|status| status.can_lead)
    };
    let from = facts.desired.pod(leader.ordinal);
    let underway = |step, text| Underway { kind, step, member: Some(from.clone()), text };
    // A pod with the newest template is preferred: it is not restarted again, and so need not hand over in its turn.
    let outdated = |seat: &&Seat| seat.ordinal.and_then(|at| facts.pod(at)).is_some_and(|pod| pod.outdated);
    let heir = facts.roster.voters().filter(able).min_by_key(|seat| (outdated(seat), seat.ordinal));
    let Some(heir) = heir else {
        return Turn::Wait(underway(
            "WaitForHeir",
            format!("{from} leads, and {why}: waiting for a voter that can lead instead"),
        ));
    };
    let action = Action::Transfer { leader: leader.ordinal, to: heir.id };
    let text = format!("moved leadership from {from} to {}: {why}", heir.name);
    let step = Step::told(action, "LeaderMoved", text.clone());
    Turn::Act(underway("MoveLeader", text), vec![step])
}

/// Adds the missing member with the lowest ordinal whose pod runs on a proved-empty disk. The pod comes first, so that
/// an unschedulable pod leaves no learner that no node can be.
pub(crate) fn up(facts: &Facts<'_>, leader: Leader<'_>) -> Turn {
    let lacking: Vec<Ordinal> = (0..facts.replicas()).filter(|ordinal| !facts.roster.has(*ordinal)).collect();
    let Some(first) = lacking.first() else { return Turn::Nothing };
    if let Some(turn) = lacking.iter().find_map(|ordinal| admit(facts, leader, *ordinal)) {
        return turn;
    }
    let trouble = |ordinal: &Ordinal| format!("{}: {}", facts.desired.pod(*ordinal), facts.trouble(*ordinal));
    let text = format!("waiting for {}", lacking.iter().map(trouble).collect::<Vec<_>>().join("; "));
    let member = Some(facts.desired.pod(*first));
    Turn::Wait(Underway { kind: OperationKind::ScaleUp, step: "WaitForPod", member, text })
}

fn admit(facts: &Facts<'_>, leader: Leader<'_>, ordinal: Ordinal) -> Option<Turn> {
    let pod = facts.pod(ordinal)?;
    let status = facts.status(ordinal).filter(|_| !pod.terminating)?;
    let incarnation = status.incarnation?;
    let name = facts.desired.pod(ordinal);
    let underway = |step, text| Underway { kind: OperationKind::ScaleUp, step, member: Some(name.clone()), text };
    let doomed = facts.claim(ordinal).is_some_and(|claim| claim.terminating);
    match status.state {
        NodeState::Blank if doomed || former::is_spent(facts, incarnation) => {
            Some(former::renew(facts, ordinal, OperationKind::ScaleUp))
        }
        NodeState::Learner if former::is_untold(facts, status) => {
            Some(former::renew(facts, ordinal, OperationKind::ScaleUp))
        }
        NodeState::Blank => {
            let step = add(facts, leader, ordinal, incarnation);
            Some(Turn::Act(underway("AddLearner", format!("adding {name} as a learner")), vec![step]))
        }
        NodeState::Removed | NodeState::Quarantined if former::is_former(facts, status) => {
            let step = former::reset(ordinal, incarnation, &name);
            Some(Turn::Act(underway("Reset", format!("setting the old data of {name} aside")), vec![step]))
        }
        NodeState::Removed | NodeState::Quarantined | NodeState::Opening | NodeState::Learner | NodeState::Voter => {
            None
        }
    }
}

/// Adds a Blank node as a learner.
pub(crate) fn add(facts: &Facts<'_>, leader: Leader<'_>, ordinal: Ordinal, incarnation: raftkv_api::Hex128) -> Step {
    let conf_index = facts.roster.conf_index;
    let action = Action::AddLearner { leader: leader.ordinal, ordinal, incarnation, conf_index };
    Step::told(action, "LearnerAdded", format!("added {} as a learner", facts.desired.pod(ordinal)))
}

fn underway(kind: OperationKind, step: &'static str, seat: &Seat, text: String) -> Underway {
    Underway { kind, step, member: Some(seat.name.clone()), text }
}

//! Changes the membership, one change at a time: finish what is under way, then remove, then add. PURE.
//!
//! Each change carries the index of the linearizable membership that it was planned from.

use crate::plan::action::{Action, Step, Turn, Underway};
use crate::plan::claims;
use crate::plan::facts::{Facts, Leader, Seat};
use crate::plan::guards::{self, Lack};
use crate::plan::table::{self, Cell, On, Task};
use crate::plan::world::Ordinal;
use crate::plan::{evidence, former, rows, size};
use raftkv_api::NodeState;
use raftkv_crds::OperationKind;

/// FINISH: makes learners voters, or removes them. Each is asked; one that does not answer holds nobody up.
pub(crate) fn finish(facts: &Facts<'_>) -> Vec<Turn> {
    let Some(first) = ours(facts).next() else { return vec![] };
    let leader = match guards::open(facts, Task::Finish) {
        Ok(leader) => leader,
        Err(lack) => return vec![lack.wait(kind_of(facts, first), Some(first.name.clone()))],
    };
    // An unwanted learner must not hold up a wanted one.
    if let Some((seat, why)) = ours(facts).find_map(|seat| Some((seat, evidence::drop_learner(facts, seat)?))) {
        return vec![drop_learner(facts, leader, seat, why)];
    }
    let (learning, silent): (Vec<&Seat>, Vec<&Seat>) = ours(facts).partition(|seat| learns(facts, seat));
    let promotions = learning.into_iter().map(|seat| promote(facts, leader, seat));
    promotions.chain(silent.into_iter().map(|seat| silent_learner(facts, seat))).collect()
}

fn silent_learner(facts: &Facts<'_>, seat: &Seat) -> Turn {
    let trouble = seat.ordinal.map_or("it does not answer".to_string(), |ordinal| facts.trouble(ordinal));
    let text = format!("waiting for the learner {}: {trouble}", seat.name);
    Turn::wait(On::Start, underway(kind_of(facts, seat), "WaitForCatchUp", seat, text))
}

/// The learners of this cluster's pods. Learners that somebody added under other names are left to that person.
fn ours<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a Seat> {
    facts.roster.learners().filter(|seat| seat.ordinal.is_some())
}

/// A learner of this kind of change that answers. There is at most one of each kind at a time.
pub(crate) fn learner_of<'a>(facts: &'a Facts<'_>, kind: OperationKind) -> Option<&'a Seat> {
    ours(facts).find(|seat| kind_of(facts, seat) == kind && learns(facts, seat))
}

/// Any learner that answers and has not caught up.
pub(crate) fn learner_on_its_way<'a>(facts: &'a Facts<'_>) -> Option<&'a Seat> {
    ours(facts).find(|seat| learns(facts, seat) && !facts.is_caught_up(seat))
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

fn drop_learner(facts: &Facts<'_>, leader: Leader<'_>, seat: &Seat, why: &str) -> Turn {
    let text = format!("removing the learner {} ({}): {why}", seat.id, seat.name);
    let action = Action::Remove { leader: leader.ordinal, id: seat.id, conf_index: facts.roster.conf_index };
    let told = Step::told(action, "LearnerRemoved", format!("removed the learner {} ({}): {why}", seat.id, seat.name));
    Turn::Act(underway(OperationKind::ScaleDown, "RemoveLearner", seat, text), vec![told])
}

fn promote(facts: &Facts<'_>, leader: Leader<'_>, seat: &Seat) -> Turn {
    let replaced = seat.ordinal.and_then(|ordinal| facts.roster.voter_at(ordinal));
    let kind = kind_of(facts, seat);
    if let Err(lack) = evidence::promote(facts, seat) {
        return lack.wait(kind, Some(seat.name.clone()));
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

/// DOWN: removes the voter with the highest ordinal that the spec does not ask for, if the others can do without it (rule
/// O6). One that is ill goes first, which makes the quorum smaller.
pub(crate) fn down(facts: &Facts<'_>) -> Turn {
    let is_beyond = |seat: &&Seat| seat.ordinal.is_some_and(|at| at >= facts.replicas()) || is_displaced(facts, seat);
    let mut beyond: Vec<&Seat> = facts.roster.voters().filter(is_beyond).collect();
    let ill = |seat: &Seat| table::cell(rows::member(facts, seat), Task::Down) == Cell::Beyond;
    beyond.sort_by_key(|seat| (!ill(seat), std::cmp::Reverse(seat.ordinal)));
    let Some(first) = beyond.first() else { return Turn::Nothing };
    let kind = OperationKind::ScaleDown;
    let leader = match guards::open(facts, Task::Down) {
        Ok(leader) => leader,
        Err(lack) => return lack.wait(kind, Some(first.name.clone())),
    };
    let Some(victim) = beyond.iter().find(|seat| evidence::remove_voter(facts, seat).is_ok()) else {
        let lack = evidence::remove_voter(facts, first).err();
        let Lack { on, text } = lack.unwrap_or_else(|| Lack::of(On::Margin, guards::unwell(facts, first)));
        let text = format!("{} stays until the others can do without it: {text}", first.name);
        return Turn::wait(on, underway(kind, "WaitForHealthyMembers", first, text));
    };
    if facts.leads(victim.id) {
        return transfer(facts, leader, kind, &format!("{} is to be removed", victim.name));
    }
    let action = Action::Remove { leader: leader.ordinal, id: victim.id, conf_index: facts.roster.conf_index };
    let text = format!("removed member {} ({})", victim.id, victim.name);
    let step = Step::told(action, "MemberRemoved", text);
    Turn::Act(underway(kind, "RemoveMember", victim, format!("removing {}", victim.name)), vec![step])
}

/// Whether another voter answers on its pod: somebody promoted a successor and did not remove the predecessor.
fn is_displaced(facts: &Facts<'_>, seat: &Seat) -> bool {
    let mut others = facts.roster.voters().filter(|other| other.id != seat.id && other.ordinal == seat.ordinal);
    seat.ordinal.is_some() && others.any(|other| facts.answers(other).is_some())
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
        let text = format!("{from} leads, and {why}: waiting for a voter that can lead instead");
        return Turn::wait(On::Report, underway("WaitForHeir", text));
    };
    let action = Action::Transfer { leader: leader.ordinal, to: heir.id };
    let text = format!("moved leadership from {from} to {}: {why}", heir.name);
    let step = Step::told(action, "LeaderMoved", text.clone());
    Turn::Act(underway("MoveLeader", text), vec![step])
}

/// UP: adds the missing member with the lowest ordinal whose pod runs on a proved-empty disk. The pod comes first, so that
/// an unschedulable pod leaves no learner that no node can be.
pub(crate) fn up(facts: &Facts<'_>) -> Turn {
    let lacking: Vec<Ordinal> = (0..facts.replicas()).filter(|ordinal| !facts.roster.has(*ordinal)).collect();
    let Some(first) = lacking.first().filter(|_| facts.seen.latch.bootstrapped) else { return Turn::Nothing };
    let (kind, member) = (OperationKind::ScaleUp, Some(facts.desired.pod(*first)));
    let leader = match guards::open(facts, Task::Up) {
        Ok(leader) => leader,
        Err(lack) => return lack.wait(kind, member),
    };
    if let Some(seat) = learner_of(facts, kind) {
        let text = format!("waiting for the learner {}", seat.name);
        return Lack::of(On::CatchUp, text).wait(kind, member);
    }
    let short = |seat: &&Seat| table::cell(rows::member(facts, seat), Task::Up) == Cell::Wait(On::Space);
    if let Some(short) = facts.roster.voters().find(short) {
        let text = format!("{} has too little room on its volume", short.name);
        return Lack::of(On::Space, text).wait(kind, member);
    }
    let admitted: Vec<Turn> = lacking.iter().filter_map(|ordinal| admit(facts, leader, *ordinal)).collect();
    let acts = |turn: &&Turn| matches!(turn, Turn::Act(..));
    if let Some(turn) = admitted.iter().find(acts).or(admitted.first()) {
        return turn.clone();
    }
    let trouble = |ordinal: &Ordinal| format!("{}: {}", facts.desired.pod(*ordinal), facts.trouble(*ordinal));
    let text = format!("waiting for {}", lacking.iter().map(trouble).collect::<Vec<_>>().join("; "));
    Turn::wait(On::Start, Underway { kind, step: "WaitForPod", member, text })
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
            if let Err(lack) = evidence::add_learner(facts, ordinal, incarnation) {
                return Some(lack.wait(OperationKind::ScaleUp, Some(name)));
            }
            let step = add(facts, leader, ordinal, incarnation);
            Some(Turn::Act(underway("AddLearner", format!("adding {name} as a learner")), vec![step]))
        }
        NodeState::Removed | NodeState::Quarantined
            if former::is_former(facts, status) && evidence::reset(facts, status).is_ok() =>
        {
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

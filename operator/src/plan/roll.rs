//! Restarts pods with a newer template (rule O8): MEND those that do nobody any good, at once; ROLL the others, one at a
//! time, the leader last. PURE.

use crate::plan::action::{Action, Ending, Step, Turn, Underway};
use crate::plan::evidence;
use crate::plan::facts::{Facts, Leader, Seat};
use crate::plan::guards::{self, Gate, Lack};
use crate::plan::table::{self, Cell, OUTDATED_AFTER_S, On, Task};
use crate::plan::world::{Eviction, Ordinal, PodSeen};
use crate::plan::{change, rows};
use jiff::Timestamp;
use raftkv_crds::OperationKind;
use std::cmp::Reverse;

/// The outdated pods. Which are outdated is known only when the StatefulSet's controller has seen the newest template.
fn outdated<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (Ordinal, &'a PodSeen)> {
    let settled = facts.is_settled();
    let pods = facts.seen.pods.iter().map(|(ordinal, pod)| (*ordinal, pod));
    pods.filter(move |(_, pod)| settled && pod.outdated && !pod.terminating)
}

/// Whether a pod waits for its restart.
pub(crate) fn is_due(facts: &Facts<'_>) -> bool {
    outdated(facts).next().is_some()
}

/// MEND: deletes an outdated pod if nothing is lost with it. So a good image mends a bad one, whatever else is under way.
pub(crate) fn mend(facts: &Facts<'_>) -> Turn {
    let Some((ordinal, pod)) = outdated(facts)
        .find(|(ordinal, pod)| is_cure(facts, *ordinal) && evidence::restart_broken(facts, *ordinal, pod))
    else {
        return Turn::Nothing;
    };
    let why = facts.trouble(ordinal);
    delete(facts, ordinal, pod, Ending::Delete, &format!("it has an older template, and {why}"))
}

/// Whether the table says so of the member in this pod. A pod without a member is nobody's vote.
fn is_cure(facts: &Facts<'_>, ordinal: Ordinal) -> bool {
    let seat = facts.roster.seats.iter().find(|seat| seat.ordinal == Some(ordinal) && seat.votes());
    seat.is_none_or(|seat| table::cell(rows::member(facts, seat), Task::Mend) == Cell::First)
}

/// ROLL: restarts the outdated member that serves least, when the others can do without its vote.
pub(crate) fn roll(facts: &Facts<'_>) -> Turn {
    let due: Vec<&Seat> = outdated(facts).filter_map(|(ordinal, _)| facts.roster.voter_at(ordinal)).collect();
    let Some(first) = due.iter().max_by_key(|seat| seat.ordinal) else { return Turn::Nothing };
    match guards::gate(facts, Task::Roll) {
        Ok(Gate::Open(leader)) => turn(facts, leader, &due),
        Ok(Gate::OneByOne) => one_by_one(facts, due),
        Err(lack) => lack.wait(OperationKind::Roll, Some(first.name.clone())),
    }
}

fn turn(facts: &Facts<'_>, leader: Leader<'_>, due: &[&Seat]) -> Turn {
    let candidates = due.iter().filter(|seat| is_candidate(facts, seat));
    let least = |seat: &&&Seat| (rank(facts, seat), facts.serves(seat), facts.leads(seat.id), Reverse(seat.ordinal));
    let Some(next) = candidates.min_by_key(least) else { return waits_for(facts, due) };
    if let Err(Lack { on, text }) = evidence::restart(facts, next).and_then(|()| after_snapshot(facts, next)) {
        let text = format!("waiting before {} is restarted: {text}", next.name);
        return Turn::wait(on, underway("WaitForHealthyMembers", Some(next.name.clone()), text));
    }
    let voters = facts.roster.voters().count();
    if facts.leads(next.id) && voters > 1 {
        return change::transfer(facts, leader, OperationKind::Roll, &format!("{} is to be restarted", next.name));
    }
    restart(facts, next)
}

fn restart(facts: &Facts<'_>, seat: &Seat) -> Turn {
    let pod = seat.ordinal.and_then(|ordinal| Some((ordinal, facts.pod(ordinal)?)));
    let Some((ordinal, pod)) = pod else { return Turn::Nothing };
    let fragile = facts.roster.voters().count() < rows::VOTERS_MIN;
    let outage = if fragile { "; the cluster is without service until it is back" } else { "" };
    let Some(how) = ending(facts, pod) else {
        let text =
            format!("a disruption budget does not let {} go; after a minute it is restarted all the same", seat.name);
        return Turn::wait(On::Clock, underway("WaitForEviction", Some(seat.name.clone()), text));
    };
    delete(facts, ordinal, pod, how, &format!("it has an older template{outage}"))
}

/// A pod that is ready is evicted, so that drains and this operator pass one counter; `None` while a budget has no room. In
/// the end the gate's word counts: the others can do without it.
fn ending(facts: &Facts<'_>, pod: &PodSeen) -> Option<Ending> {
    let voters = facts.roster.voters().count();
    if !pod.ready || voters < rows::VOTERS_MIN || facts.desired.strict_budget {
        return Some(Ending::Delete);
    }
    match pod.eviction {
        Eviction::Possible => Some(Ending::Evict),
        Eviction::Refused => None,
        Eviction::GivenUp => Some(Ending::Delete),
    }
}

/// Members whose cure is a restart go first.
fn rank(facts: &Facts<'_>, seat: &Seat) -> u8 {
    match table::cell(rows::member(facts, seat), Task::Roll) {
        Cell::First | Cell::Outdated => 0,
        Cell::Go
        | Cell::Others
        | Cell::Beyond
        | Cell::Wait(_)
        | Cell::OneByOne
        | Cell::Keeps
        | Cell::Person
        | Cell::Veto
        | Cell::Never => 1,
    }
}

/// Whether an outdated member may be restarted in its row.
fn is_candidate(facts: &Facts<'_>, seat: &Seat) -> bool {
    if facts.is_left_alone(seat) {
        return false;
    }
    match table::cell(rows::member(facts, seat), Task::Roll) {
        Cell::Go | Cell::First => true,
        Cell::Outdated => rows::since_s(facts, seat) >= OUTDATED_AFTER_S,
        Cell::Others
        | Cell::Beyond
        | Cell::Wait(_)
        | Cell::OneByOne
        | Cell::Keeps
        | Cell::Person
        | Cell::Veto
        | Cell::Never => false,
    }
}

/// No outdated member may be restarted as it is. Those that others see to are left to them.
fn waits_for(facts: &Facts<'_>, due: &[&Seat]) -> Turn {
    let on = |seat: &&&Seat| {
        let on = table::waits_on(rows::member(facts, seat), Task::Roll)?;
        Some((on, seat.name.clone(), guards::trouble(facts, seat)))
    };
    let Some((on, name, trouble)) = due.iter().find_map(|seat| on(&seat)) else { return Turn::Nothing };
    let text = format!("waiting before {name} is restarted: {trouble}");
    Turn::wait(on, underway("WaitForHealthyMembers", Some(name), text))
}

/// A leader that a learner takes its data from goes on, at most for the time in which progress is expected.
fn after_snapshot(facts: &Facts<'_>, seat: &Seat) -> Result<(), Lack> {
    let Some(learner) = change::learner_on_its_way(facts).filter(|_| facts.leads(seat.id)) else { return Ok(()) };
    let mut waits = facts.seen.memory.waits.iter();
    let began = waits.find(|wait| wait.task == Task::Finish.as_str() && wait.on == On::CatchUp.as_str());
    let began = began.and_then(|wait| wait.since.parse::<Timestamp>().ok()).unwrap_or(facts.seen.now);
    match facts.seen.now.as_second() - began.as_second() > facts.desired.progress_deadline_s {
        true => Ok(()),
        false => Err(Lack::of(On::CatchUp, format!("the learner {} catches up", learner.name))),
    }
}

/// Without a leader an outdated pod that answers is restarted, the one with the shortest log first: its template, or its
/// volume, may be why there is no leader.
fn one_by_one(facts: &Facts<'_>, mut due: Vec<&Seat>) -> Turn {
    let last_index = |seat: &&Seat| facts.answers(seat).map_or(u64::MAX, |status| status.last_index);
    due.sort_by_key(|seat| (last_index(seat), Reverse(seat.ordinal)));
    let proofs: Vec<_> = due.iter().map(|seat| (seat, evidence::restart_one_by_one(facts, seat))).collect();
    if let Some((seat, _)) = proofs.iter().find(|(_, proof)| proof.is_ok()) {
        return restart(facts, seat);
    }
    let Some((seat, Err(lack))) = proofs.into_iter().next() else { return Turn::Nothing };
    lack.wait(OperationKind::Roll, Some(seat.name.clone()))
}

fn delete(facts: &Facts<'_>, ordinal: Ordinal, pod: &PodSeen, how: Ending, why: &str) -> Turn {
    let name = facts.desired.pod(ordinal);
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    let action = Action::DeletePod { ordinal, uid, resource_version, how };
    let step = Step::told(action, "PodRestarted", format!("restarted {name}: {why}"));
    Turn::Act(underway("RestartPod", Some(name.clone()), format!("restarting {name}: {why}")), vec![step])
}

fn underway(step: &'static str, member: Option<String>, text: String) -> Underway {
    Underway { kind: OperationKind::Roll, step, member, text }
}

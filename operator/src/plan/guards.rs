//! What must be true before a task may act: a leader, no joint change, and that the others can do without a member. PURE.

use crate::plan::action::{Turn, Underway};
use crate::plan::facts::{Certainty, Facts, Leader, Seat};
use crate::plan::rows;
use crate::plan::table::{self, Cell, On, Row, Task};
use raftkv_crds::OperationKind;

/// What is missing, and what is therefore waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub on: On,
    pub text: String,
}

impl Lack {
    pub(crate) fn of(on: On, text: impl Into<String>) -> Lack {
        Lack { on, text: text.into() }
    }

    /// The wait of a task that has a step to take.
    pub(crate) fn wait(self, kind: OperationKind, member: Option<String>) -> Turn {
        Turn::wait(self.on, Underway { kind, step: step(self.on), member, text: self.text })
    }
}

/// The word for a step that waits. It is never renamed.
fn step(on: On) -> &'static str {
    match on {
        On::Leader => "WaitForLeader",
        On::Joint => "WaitForJointChange",
        On::Kube => "WaitForKubernetes",
        On::Start => "WaitForPod",
        On::Margin => "WaitForHealthyMembers",
        On::CatchUp => "WaitForCatchUp",
        On::Report => "WaitForReport",
        On::Clock => "WaitForClock",
        On::Resizer => "WaitForVolume",
        On::Space => "WaitForSpace",
        On::Person => "WaitForPerson",
    }
}

/// What the rows of the cluster leave to a task.
pub(crate) enum Gate<'a> {
    /// It may act.
    Open(Leader<'a>),
    /// There is no leader, and outdated pods may be restarted, one by one.
    OneByOne,
}

/// The strictest cell of the cluster's rows: a person before a wait, a wait before one by one.
pub(crate) fn gate<'a>(facts: &Facts<'a>, task: Task) -> Result<Gate<'a>, Lack> {
    let cells: Vec<(Row, Cell)> = rows::cluster(facts).into_iter().map(|row| (row, table::cell(row, task))).collect();
    if let Some((row, _)) = cells.iter().find(|(_, cell)| *cell == Cell::Person) {
        return Err(Lack::of(On::Person, words(facts, *row)));
    }
    let waits = |(row, _): &(Row, Cell)| Some(Lack::of(table::waits_on(*row, task)?, words(facts, *row)));
    if let Some(lack) = cells.iter().find_map(waits) {
        return Err(lack);
    }
    if cells.iter().any(|(_, cell)| *cell == Cell::OneByOne) {
        return Ok(Gate::OneByOne);
    }
    leader(facts).map(Gate::Open)
}

/// As [`gate`], for tasks that do nothing without a leader.
pub(crate) fn open<'a>(facts: &Facts<'a>, task: Task) -> Result<Leader<'a>, Lack> {
    match gate(facts, task)? {
        Gate::Open(leader) => Ok(leader),
        Gate::OneByOne => leader(facts),
    }
}

/// What is waited for in a row of the cluster.
fn words(facts: &Facts<'_>, row: Row) -> String {
    let words = match row {
        Row::Joint => "waiting for the joint change of the membership to be left",
        Row::Electing | Row::Leaderless => "there is no leader",
        Row::QuorumLost => "too few voters answer, and only a person can bring them back",
        Row::SetGone => "waiting for the StatefulSet",
        Row::SetTaken => "the StatefulSet is somebody else's",
        Row::ChildTaken => "an object that is needed is somebody else's",
        Row::BadSpec => {
            let why = facts.desired.invalid.as_ref().or(facts.seen.memory.refused.as_ref());
            why.map_or("the spec cannot be carried out", String::as_str)
        }
        Row::Refusing => facts.seen.memory.failed.as_deref().unwrap_or("the API server fails a write"),
        Row::None
        | Row::Doomed
        | Row::Coming
        | Row::BrokenOld
        | Row::BrokenNew
        | Row::UnreadyOld
        | Row::UnreadyNew
        | Row::Unseen
        | Row::Behind
        | Row::Short
        | Row::Hung
        | Row::Blank
        | Row::Quarantined
        | Row::LostNode
        | Row::Silent
        | Row::LearnerSilent => "a member is not well",
    };
    words.to_string()
}

/// The node that leads, if it read the membership linearizably in this pass. That read is the proof that a quorum works.
pub(crate) fn leader<'a>(facts: &Facts<'a>) -> Result<Leader<'a>, Lack> {
    let linearizable = facts.roster.certainty == Certainty::Linearizable;
    facts.leader.filter(|_| linearizable).ok_or_else(|| Lack::of(On::Leader, "there is no leader"))
}

/// Whether no change of the membership is in flight.
pub(crate) fn joint(facts: &Facts<'_>) -> Result<(), Lack> {
    match facts.roster.joint {
        false => Ok(()),
        true => Err(Lack::of(On::Joint, words(facts, Row::Joint))),
    }
}

/// Whether the voters other than this one that are well are at least `needed`.
pub(crate) fn margin(facts: &Facts<'_>, victim: &Seat, needed: usize) -> Result<(), Lack> {
    match facts.well_without(victim.id) >= needed {
        true => Ok(()),
        false => Err(Lack::of(On::Margin, unwell(facts, victim))),
    }
}

/// As [`margin`]; a voter whose claim is being deleted does not count.
pub(crate) fn lasting_margin(facts: &Facts<'_>, victim: &Seat, needed: usize) -> Result<(), Lack> {
    match facts.lasting_without(victim.id) >= needed {
        true => Ok(()),
        false => Err(Lack::of(On::Margin, unwell(facts, victim))),
    }
}

/// Which of the other voters are not well, and with what.
pub(crate) fn unwell(facts: &Facts<'_>, victim: &Seat) -> String {
    let sick = facts.roster.voters().filter(|seat| seat.id != victim.id);
    let sick = sick.filter(|seat| !facts.is_well(seat) || facts.is_doomed(seat));
    let words: Vec<String> = sick.map(|seat| trouble(facts, seat)).collect();
    match words.is_empty() {
        true => "the other voters are too few".to_string(),
        false => words.join("; "),
    }
}

/// What is wrong with a voter, in words that stay the same while nothing changes.
pub(crate) fn trouble(facts: &Facts<'_>, seat: &Seat) -> String {
    match seat.ordinal {
        Some(ordinal) if facts.is_well(seat) && facts.is_doomed(seat) => {
            format!("{}: its volume claim {} is being deleted", seat.name, facts.desired.claim(ordinal))
        }
        Some(_) if facts.is_well(seat) => format!("{} is not ready yet", seat.name),
        Some(_) if facts.is_healthy(seat) => format!("{} has not caught up", seat.name),
        Some(ordinal) => format!("{}: {}", seat.name, facts.trouble(ordinal)),
        None => format!("{} does not answer", seat.name),
    }
}

//! From what is wanted and what was seen to what to do next. PURE, total, and without a choice left to whoever carries it
//! out.
//!
//! ```text
//!   Desired ─┐                 form      begin: once, on one disk       (O1, O2)
//!            ├─ facts ─► turns change    learners, down, up             (O6, O10)
//!  Observed ─┘      │          repair    lost disks and machines        (O3, O13)
//!                   │          roll      newer templates                (O8)
//!                   │          claims    volumes of removed members     (O4)
//!                   └────────► report    status, conditions, notes      (O15, O21)
//! ```
//!
//! Steps that cannot hurt come first and all at once. Then at most one turn acts, and the pass ends: the next one looks
//! at the world again. So a crash after any step, or a spec that changes half-way, needs no code of its own.

mod action;
mod change;
mod claims;
mod facts;
mod form;
mod former;
mod lost;
mod repair;
mod report;
mod roll;
mod size;
mod world;

pub use action::{Action, ActionKind, Note, Pace, Plan, Step};
pub use world::{
    Child, ChildSeen, ClaimOwner, ClaimSeen, Container, Desired, Latch, Machine, Memory, NodeSeen, Observed, Ordinal,
    PodSeen, Replace, Seed, Set, SetSeen,
};

use action::Turn;
use facts::{Certainty, Facts};

/// What to do next.
pub fn plan(desired: &Desired, seen: &Observed) -> Plan {
    let facts = Facts::of(desired, seen);
    let (steps, turn) = decide(&facts);
    // A paused cluster shows what would be done, and nothing of it is.
    let steps = if desired.paused { vec![] } else { steps };
    report::report(&facts, steps, &turn)
}

fn decide(facts: &Facts<'_>) -> (Vec<Step>, Turn) {
    let mut steps = children(facts);
    if let Some(turn) = blocked(facts) {
        return (steps, turn);
    }
    let (set_steps, waits) = match &facts.seen.set {
        SetSeen::Absent => size::set_steps(facts, None),
        SetSeen::Ours(set) => size::set_steps(facts, Some(set)),
        SetSeen::Leaving | SetSeen::Taken(_) => (vec![], Turn::Nothing),
    };
    // A write to the StatefulSet changes its resourceVersion, and what is outdated: the rest waits for the next pass.
    if !set_steps.is_empty() {
        steps.extend(set_steps);
        return (steps, waits);
    }
    steps.extend(claims::labels(facts));
    steps.extend(claims::owners(facts));
    let turn = first([&|| waits.clone(), &|| roll::broken(facts), &|| form::turn(facts), &|| members(facts)]);
    match &turn {
        Turn::Act(_, acts) => steps.extend(acts.iter().filter(|act| !steps.contains(act)).cloned().collect::<Vec<_>>()),
        // The budget follows behind a change: lowered before it, it would have to be raised for it again, and a crash in
        // between could leave it low. Volumes of removed members go last; clients are not kept waiting for that.
        Turn::Nothing | Turn::Wait(_) => steps.extend(size::budget_step(facts).into_iter().chain(claims::sweep(facts))),
    }
    (steps, turn)
}

/// What is done with a leader, and a membership that a quorum vouches for.
fn members(facts: &Facts<'_>) -> Turn {
    let Some(leader) = facts.leader.filter(|_| facts.roster.certainty == Certainty::Linearizable) else {
        return Turn::Nothing;
    };
    if facts.desired.suspend {
        return Turn::Nothing;
    }
    first([
        &|| change::joint(facts),
        &|| change::learners(facts, leader),
        &|| repair::turn(facts, leader),
        &|| change::silent_learners(facts),
        &|| change::down(facts, leader),
        &|| change::up(facts, leader),
        &|| roll::turn(facts, leader),
    ])
}

/// The first turn that has something to say.
fn first<const N: usize>(turns: [&dyn Fn() -> Turn; N]) -> Turn {
    turns.into_iter().map(|turn| turn()).find(|turn| *turn != Turn::Nothing).unwrap_or(Turn::Nothing)
}

/// The children but for the StatefulSet.
fn children(facts: &Facts<'_>) -> Vec<Step> {
    let step = |(child, seen): (&Child, &ChildSeen)| match (child, seen) {
        // Its number follows the membership; `size` sets it.
        (Child::Budget, _) => None,
        (Child::Auth | Child::Peers | Child::Client, ChildSeen::Absent) => {
            Some(Step::quiet(Action::CreateChild(*child)))
        }
        // A token is made once. Who changes it rotates it, and knows how.
        (Child::Auth, ChildSeen::Differs) => None,
        (Child::Peers | Child::Client, ChildSeen::Differs) => Some(Step::quiet(Action::ApplyChild(*child))),
        (Child::Auth | Child::Peers | Child::Client, ChildSeen::Good | ChildSeen::Leaving | ChildSeen::Taken(_)) => {
            None
        }
    };
    if facts.desired.invalid.is_some() {
        return vec![];
    }
    facts.seen.children.iter().filter_map(step).collect()
}

/// What keeps everything else from going on: children that are not there yet or are somebody else's.
fn blocked(facts: &Facts<'_>) -> Option<Turn> {
    if facts.desired.invalid.is_some() && facts.seen.ours().is_none() {
        return Some(Turn::Nothing);
    }
    let needed = [Child::Auth, Child::Peers, Child::Client];
    let missing = |child: &Child| {
        facts.seen.children.get(child).is_none_or(|seen| match seen {
            ChildSeen::Good | ChildSeen::Differs | ChildSeen::Absent => false,
            ChildSeen::Leaving | ChildSeen::Taken(_) => true,
        })
    };
    let set_is_ours_to_make = matches!(facts.seen.set, SetSeen::Absent);
    let set_is_not_ours = matches!(facts.seen.set, SetSeen::Leaving | SetSeen::Taken(_));
    // The first pods need their token and their names (an absent child is made before them, in the same pass); a cluster
    // that stands goes on without a Service.
    let stop = set_is_not_ours || (set_is_ours_to_make && needed.iter().any(missing));
    stop.then_some(Turn::Nothing)
}

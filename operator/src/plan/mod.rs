//! Decides what to do next, from what is wanted and what was seen. PURE and total. Whoever carries out the plan has no
//! choice left.
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
//! Steps that cannot hurt come first, all in one pass. Then at most one turn acts, and the pass ends; the next pass
//! looks at the world again. So a crash after any step, or a spec that changes half-way, needs no code of its own.

mod action;
mod change;
mod claims;
mod facts;
mod form;
mod former;
mod judged;
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

/// Makes the plan.
pub fn plan(desired: &Desired, seen: &Observed) -> Plan {
    let facts = Facts::of(desired, seen);
    let (steps, turn) = decide(&facts);
    // For a paused cluster nothing is done; the status still shows what would be done.
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
    // A write to the StatefulSet changes its resourceVersion, and which pods are outdated. The rest waits for the next
    // pass.
    if !set_steps.is_empty() {
        steps.extend(set_steps);
        return (steps, waits);
    }
    steps.extend(claims::labels(facts));
    steps.extend(claims::owners(facts));
    let turn = first([&|| waits.clone(), &|| roll::broken(facts), &|| form::turn(facts), &|| members(facts)]);
    match &turn {
        Turn::Act(_, acts) => steps.extend(acts.iter().filter(|act| !steps.contains(act)).cloned().collect::<Vec<_>>()),
        // The budget is set after a change. Lowered before a change, it would have to be raised again for the change,
        // and a crash in between could leave it too low. Volumes of removed members are deleted last, since nobody
        // waits for that.
        Turn::Nothing | Turn::Wait(_) => steps.extend(size::budget_step(facts).into_iter().chain(claims::sweep(facts))),
    }
    (steps, turn)
}

/// The turns that need a leader and a membership that was read linearizably.
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

/// The first turn that decides something.
fn first<const N: usize>(turns: [&dyn Fn() -> Turn; N]) -> Turn {
    turns.into_iter().map(|turn| turn()).find(|turn| *turn != Turn::Nothing).unwrap_or(Turn::Nothing)
}

/// The steps for all children except the StatefulSet.
fn children(facts: &Facts<'_>) -> Vec<Step> {
    let step = |(child, seen): (&Child, &ChildSeen)| match (child, seen) {
        // Its number depends on the membership; `size` sets it.
        (Child::Budget, _) => None,
        (Child::Auth | Child::Peers | Child::Client, ChildSeen::Absent) => {
            Some(Step::quiet(Action::CreateChild(*child)))
        }
        // Of the Secret only the metadata is compared and written: the token is a person's.
        (Child::Auth | Child::Peers | Child::Client, ChildSeen::Differs) => {
            Some(Step::quiet(Action::ApplyChild(*child)))
        }
        (Child::Auth | Child::Peers | Child::Client, ChildSeen::Good | ChildSeen::Leaving | ChildSeen::Taken(_)) => {
            None
        }
    };
    if facts.desired.invalid.is_some() {
        return vec![];
    }
    facts.seen.children.iter().filter_map(step).collect()
}

/// What stops everything else: children that are being deleted or are somebody else's.
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
    // The first pods need their token and their names (a child that is absent is made before them, in the same pass). A
    // cluster that is formed goes on without a Service.
    let stop = set_is_not_ours || (set_is_ours_to_make && needed.iter().any(missing));
    stop.then_some(Turn::Nothing)
}

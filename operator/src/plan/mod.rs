//! Decides what to do next, from what is wanted and what was seen. PURE and total. Whoever carries out the plan has no
//! choice left.
//!
//! ```text
//!   Desired ─┐                        size, form    children, size; begin once          (O1, O2, O10)
//!            ├─ facts ─► rows         roll          MEND and ROLL: newer templates      (O8)
//!  Observed ─┘            │           change        FINISH, DOWN, UP: the membership    (O6)
//!                       table ─► task repair        REPAIR: lost disks and machines     (O3, O13)
//!                         │           claims        volumes of removed members          (O4)
//!                  guards, evidence
//!                         └─────────► report, waits status, conditions, notes           (O15, O21, O30)
//! ```
//!
//! Each task is asked in turn. One that waits holds nobody up: the next is asked, and the first that acts has the turn.
//! Steps that cannot hurt come first, all in one pass. After one turn the pass ends; the next pass
//! looks at the world again. So a crash after any step, or a spec that changes half-way, needs no code of its own.

mod action;
mod change;
mod claims;
mod evidence;
mod facts;
mod form;
mod former;
mod guards;
mod judged;
mod lost;
mod machines;
mod repair;
mod report;
mod roll;
mod rows;
mod size;
pub mod table;
mod waits;
mod world;

pub use action::{Action, ActionKind, Ending, Note, Pace, Plan, Step};
pub use world::{
    Child, ChildSeen, ClaimOwner, ClaimSeen, Container, Desired, Eviction, Latch, Machine, Memory, NodeSeen, Observed,
    Ordinal, PodSeen, Replace, Seed, Set, SetSeen,
};

use action::{Turn, Underway, Wait};
use facts::Facts;
use raftkv_crds::OperationKind;
use table::{Cell, On, Row, Task};

/// Makes the plan.
pub fn plan(desired: &Desired, seen: &Observed) -> Plan {
    let facts = Facts::of(desired, seen);
    let mut decision = decide(&facts);
    // For a paused cluster nothing is done; the status still shows what would be done.
    if desired.paused {
        decision.steps.clear();
    }
    report::report(&facts, decision)
}

/// What a pass does, and what all the tasks wait for.
#[derive(Default)]
pub(crate) struct Decision {
    pub steps: Vec<Step>,
    /// The turn of the task that acts.
    pub acts: Option<Underway>,
    pub waits: Vec<(Task, Wait)>,
}

impl Decision {
    /// Takes a task's answer. Returns whether it acts.
    fn take(&mut self, task: Task, turn: Turn) -> bool {
        match turn {
            Turn::Nothing => false,
            Turn::Wait(wait) => {
                self.waits.push((task, wait));
                false
            }
            Turn::Act(underway, acts) => {
                let new: Vec<Step> = acts.into_iter().filter(|act| !self.steps.contains(act)).collect();
                self.steps.extend(new);
                self.acts = Some(underway);
                true
            }
        }
    }

    /// What is under way: the turn that acts, else the first wait that holds a step up.
    pub(crate) fn underway(&self) -> Option<&Underway> {
        let held_up = self.waits.iter().find(|(_, wait)| !wait.watched).map(|(_, wait)| &wait.underway);
        self.acts.as_ref().or(held_up)
    }
}

fn decide(facts: &Facts<'_>) -> Decision {
    let mut decision = Decision { steps: children(facts), ..Decision::default() };
    if is_blocked(facts) {
        return decision;
    }
    let (set_steps, stays) = match &facts.seen.set {
        SetSeen::Absent => size::set_steps(facts, None),
        SetSeen::Ours(set) => size::set_steps(facts, Some(set)),
        SetSeen::Leaving | SetSeen::Taken(_) => (vec![], None),
    };
    if let Some((task, wait)) = stays {
        decision.take(task, wait);
    }
    if !set_steps.is_empty() {
        decision.steps.extend(set_steps);
        // A write to the StatefulSet changes its resourceVersion, and which pods are outdated. The rest waits for the next
        // pass. One that is not there and could not be made lately is tried again, and the rest goes on.
        let troubled = facts.seen.memory.failed.is_some() || facts.seen.memory.refused.is_some();
        if facts.seen.ours().is_some() || !troubled {
            return decision;
        }
    }
    // A write that failed is held back for a while, and everything else goes on.
    if let Some(said) = facts.seen.memory.failed.clone().filter(|_| failures_wait()) {
        let underway = Underway { kind: OperationKind::Roll, step: "WaitForApiServer", member: None, text: said };
        decision.take(Task::Apply, Turn::watch(On::Clock, underway));
    }
    decision.steps.extend(claims::labels(facts));
    decision.steps.extend(claims::owners(facts));
    let suspended = facts.desired.suspend;
    for task in Task::ALL.into_iter().filter(|task| !suspended || !task.rests_while_suspended()) {
        for turn in ask(facts, task) {
            if decision.take(task, turn) {
                return decision;
            }
        }
    }
    // The budget is set after a change. Lowered before a change, it would have to be raised again for the change, and a
    // crash in between could leave it too low. Volumes of removed members are deleted last, since nobody waits for that.
    decision.steps.extend(size::budget_step(facts).into_iter().chain(claims::sweep(facts)));
    decision
}

fn failures_wait() -> bool {
    table::cell(Row::Refusing, Task::Apply) == Cell::Wait(On::Clock)
}

/// What a task does now: waits, or one act.
fn ask(facts: &Facts<'_>, task: Task) -> Vec<Turn> {
    match task {
        // Their steps and waits come from `children` and `size`.
        Task::Apply | Task::Suspend => vec![],
        Task::Adopt => vec![form::adopt(facts)],
        Task::Form => vec![form::form(facts)],
        Task::Mend => vec![roll::mend(facts)],
        Task::Finish => change::finish(facts),
        Task::Repair => repair::turns(facts),
        Task::Down => vec![change::down(facts)],
        Task::Up => vec![change::up(facts)],
        Task::Roll => vec![roll::roll(facts)],
    }
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

/// What stops everything else: a StatefulSet that is being deleted or somebody else's, or children of which that is true
/// while the first pods need them.
fn is_blocked(facts: &Facts<'_>) -> bool {
    if facts.desired.invalid.is_some() && facts.seen.ours().is_none() {
        return true;
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
    set_is_not_ours || (set_is_ours_to_make && needed.iter().any(missing))
}

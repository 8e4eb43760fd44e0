//! How many pods there shall be (rule O10), and how many of them must stay available (rule O12). PURE.

use crate::plan::action::{Action, Step, Turn, Underway};
use crate::plan::facts::{Certainty, ELECTING_S_MAX, Facts, quorum};
use crate::plan::form;
use crate::plan::table::{self, Cell, On, Row, Task};
use crate::plan::world::{Child, ChildSeen, Set};
use raftkv_crds::OperationKind;

/// What the number of pods is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// This many.
    Be(u32),
    /// The number stays as it is until this changes; the sentence says why.
    Stay(On, String),
}

/// How many pods there shall be.
pub(crate) fn replicas(facts: &Facts<'_>) -> Size {
    let current = facts.seen.ours().map(|set| set.replicas);
    if facts.desired.suspend {
        return suspended(facts);
    }
    if let Some(span) = form::foreign_span(facts) {
        return Size::Be(span.max(form::claimed_span(facts)));
    }
    let members = facts.replicas().max(facts.roster.span()).max(form::claimed_span(facts));
    let Some(current) = current else { return Size::Be(members.max(orphaned_span(facts))) };
    if members >= current {
        return Size::Be(members);
    }
    if !facts.seen.latch.bootstrapped {
        // As long as it is not known whose members these are, no pod is given up.
        return Size::Be(if form::has_claimants(facts) { current } else { members });
    }
    match facts.roster.certainty {
        Certainty::Linearizable => shrink(facts, members, current),
        // Without a leader it is not known who is a member, so no pod is given up.
        Certainty::Reported | Certainty::Remembered => Size::Be(current),
    }
}

/// One more than the highest ordinal of a pod that runs on without a StatefulSet. Whether it may go is decided afterwards:
/// the vote of a removed member is needed until its removal is durable.
fn orphaned_span(facts: &Facts<'_>) -> u32 {
    let run = facts.seen.pods.iter().filter(|(_, pod)| !pod.terminating);
    run.map(|(ordinal, _)| ordinal + 1).max().unwrap_or(0)
}

/// No pods, unless they are needed to leave a joint change, or to keep volumes whose claims somebody deleted.
fn suspended(facts: &Facts<'_>) -> Size {
    // Without a leader for a minute it goes on: disks keep a joint change.
    let joint = table::cell(Row::Joint, Task::Suspend) == Cell::Wait(On::Joint);
    if facts.roster.joint && joint && facts.leaderless_s() < ELECTING_S_MAX {
        let text = "a joint change of the membership is in flight; pods are stopped after it";
        return Size::Stay(On::Joint, text.to_string());
    }
    let claims = facts
        .seen
        .claims
        .iter()
        .filter(|(ordinal, claim)| claim.terminating && claim.owner.is_some() && facts.pod(**ordinal).is_some());
    let doomed: Vec<String> = claims.map(|(ordinal, _)| facts.desired.claim(*ordinal)).collect();
    if doomed.is_empty() || facts.seen.ours().is_none_or(|set| set.replicas == 0) {
        return Size::Be(0);
    }
    Size::Stay(
        On::Person,
        format!(
            "pods keep running: somebody deleted the volume claims {}, and their data goes when their pods stop. \
         Set spec.suspend to false and let the members be replaced first",
            doomed.join(" ")
        ),
    )
}

/// A pod is stopped when a quorum of the remaining members has its member's removal on disk and applied.
fn shrink(facts: &Facts<'_>, members: u32, current: u32) -> Size {
    let removed = facts.seen.members.iter().flat_map(|members| &members.removed);
    let going: Vec<String> = (members..current).map(|ordinal| facts.desired.pod(ordinal)).collect();
    let index = removed.filter(|member| going.contains(&member.name)).map(|member| member.index).max().unwrap_or(0);
    let (durable, voters) = (facts.durable_at(index), facts.roster.voters().count());
    if durable >= quorum(voters) {
        return Size::Be(members);
    }
    Size::Stay(On::Report, "a quorum of the remaining members has yet to write the removal to disk".to_string())
}

/// The step that makes or updates the StatefulSet, and the wait of the task that its size must stay for, for a while.
pub(crate) fn set_steps(facts: &Facts<'_>, set: Option<&Set>) -> (Vec<Step>, Option<(Task, Turn)>) {
    let current = set.map_or(0, |set| set.replicas);
    let (wanted, turn) = match replicas(facts) {
        Size::Be(wanted) => (wanted, None),
        Size::Stay(on, text) => (current, Some(wait(facts, on, text))),
    };
    let Some(set) = set else {
        let step = Step::told(
            Action::CreateSet { replicas: wanted },
            "StatefulSetCreated",
            format!("made the StatefulSet {} with {wanted} pods", facts.desired.name),
        );
        return (if facts.desired.suspend { vec![] } else { vec![step] }, turn);
    };
    if set.held || !set.differs && set.replicas == wanted {
        return (vec![], turn);
    }
    // One patch brings the template and the size.
    let action = Action::ApplySet { replicas: wanted, resource_version: set.resource_version.clone() };
    let step = match set.replicas == wanted {
        true => Step::quiet(action),
        false => {
            Step::told(action, "PodsScaled", format!("pods of {}: {} -> {wanted}", facts.desired.name, set.replicas))
        }
    };
    (vec![step], turn)
}

fn wait(facts: &Facts<'_>, on: On, text: String) -> (Task, Turn) {
    let kind = OperationKind::ScaleDown;
    let (task, step) = match facts.desired.suspend {
        true => (Task::Suspend, "WaitForJointChange"),
        false => (Task::Down, "WaitForDurableRemoval"),
    };
    (task, Turn::wait(on, Underway { kind, step, member: None, text }))
}

/// How many pods must stay available while there are `voters` voters. With one or two voters one pod may go, unless
/// `strict_budget` is set.
pub(crate) fn budget(facts: &Facts<'_>, voters: usize) -> u32 {
    let stay = match voters {
        0 => 0,
        1 | 2 if !facts.desired.strict_budget => voters - 1,
        _ => quorum(voters),
    };
    u32::try_from(stay).expect("a cluster has at most a few members")
}

/// The step that fits the disruption budget to the present voters, and puts right what somebody changed in it. While the
/// members are not known, it keeps the number that it has.
pub(crate) fn budget_step(facts: &Facts<'_>) -> Option<Step> {
    let known = facts.roster.certainty == Certainty::Linearizable;
    let current = facts.seen.ours().and_then(|set| set.budget);
    let target = if known { Some(budget(facts, facts.roster.voters().count())) } else { current };
    let is_changed = facts.seen.children.get(&Child::Budget) == Some(&ChildSeen::Differs);
    target.filter(|_| is_changed || target != current).and_then(|target| budget_to(facts, target))
}

/// The step that sets the disruption budget, unless that object is somebody else's.
pub(crate) fn budget_to(facts: &Facts<'_>, min_available: u32) -> Option<Step> {
    let writable = match facts.seen.children.get(&Child::Budget) {
        Some(ChildSeen::Absent | ChildSeen::Good | ChildSeen::Differs) => true,
        Some(ChildSeen::Leaving | ChildSeen::Taken(_)) | None => false,
    };
    writable.then(|| Step::quiet(Action::SetBudget { min_available }))
}

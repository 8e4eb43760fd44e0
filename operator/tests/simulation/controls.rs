//! A checker that never fires proves nothing. For each rule there is an operator that breaks it, and the words of the
//! checker that catches it.

use super::operator::Alter;
use super::run::run;
use raftkv_operator::plan::{Action, Ending, NodeSeen, Observed, Ordinal, SetSeen, Step};

/// Runs in which a faulty operator must be caught.
const SEEDS: u64 = 40;
/// Steps of such a run.
const STEPS: u64 = 12_000;

fn caught(words: &str, alter: Alter) {
    let reports = (1..=SEEDS).filter_map(|seed| run(seed, STEPS, false, alter).err());
    let last_line = |report: String| report.lines().rev().nth(1).unwrap_or_default().to_string();
    let first = reports.map(last_line).next().unwrap_or_else(|| "nothing".to_string());
    assert!(first.contains(words), "caught: {first}; expected: {words}");
}

fn step(action: Action) -> Step {
    Step { action, note: None }
}

fn delete_claim(seen: &Observed, ordinal: Ordinal) -> Option<Step> {
    let claim = seen.claims.get(&ordinal)?;
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    Some(step(Action::DeleteClaim { ordinal, uid, resource_version }))
}

/// The place of a member, as its node says.
fn place(seen: &Observed, id: u64) -> Option<Ordinal> {
    seen.pods.iter().find_map(|(ordinal, pod)| match &pod.node {
        NodeSeen::Answered(status) if status.member_id.is_some_and(|it| it.0 == id) => Some(*ordinal),
        NodeSeen::Answered(_) | NodeSeen::Unreachable(_) => None,
    })
}

#[test]
fn a_volume_deleted_instead_of_a_member_removed() {
    caught("it was not removed", |seen, made| {
        let victim = made.actions().find_map(|action| match action {
            Action::Remove { id, .. } => place(seen, *id),
            _ => None,
        });
        if let Some(step) = victim.and_then(|ordinal| delete_claim(seen, ordinal)) {
            made.steps = vec![step];
        }
    });
}

#[test]
fn pods_given_up_before_their_members_are_removed() {
    caught("is a voter's", |seen, made| {
        let SetSeen::Ours(set) = &seen.set else { return };
        let removes_last = |action: &Action| match action {
            Action::Remove { id, .. } => place(seen, *id) == Some(set.replicas - 1),
            _ => false,
        };
        if set.replicas > 1 && made.actions().any(removes_last) {
            let (replicas, resource_version) = (set.replicas - 1, set.resource_version.clone());
            made.steps = vec![step(Action::ApplySet { replicas, resource_version })];
        }
    });
}

#[test]
fn all_outdated_pods_restarted_at_once() {
    caught("lose their quorum", |seen, made| {
        let of_an_outdated_one = |action: &Action| match action {
            Action::DeletePod { ordinal, .. } => seen.pods.get(ordinal).is_some_and(|pod| pod.outdated),
            _ => false,
        };
        if !made.actions().any(of_an_outdated_one) {
            return;
        }
        let outdated = seen.pods.iter().filter(|(_, pod)| pod.outdated && !pod.terminating);
        let delete = outdated.map(|(ordinal, pod)| {
            let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
            step(Action::DeletePod { ordinal: *ordinal, uid, resource_version, how: Ending::Delete })
        });
        made.steps = delete.collect();
    });
}

#[test]
fn two_changes_in_one_pass() {
    caught("two membership changes in one pass", |_, made| {
        let removal = made.steps.iter().find(|step| matches!(step.action, Action::Remove { .. })).cloned();
        made.steps.extend(removal);
    });
}

#[test]
fn a_learner_that_is_never_promoted() {
    caught("it does not become what is wished for", |_, made| {
        made.steps.retain(|step| !matches!(step.action, Action::Promote { .. }));
    });
}

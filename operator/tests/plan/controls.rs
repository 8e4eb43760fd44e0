//! A checker that never fires proves nothing. For each rule there is an operator that breaks it, and the words of the
//! checker that catches it.

use super::explore::{Expect, Scenario, explore, is_end};
use super::model::World;
use super::model::operator::Look;
use super::model::script::Event;
use super::scenarios::standing;
use raftkv_operator::plan::{Action, Ending, Observed, Plan, Seed, Step, plan};

/// An operator whose plans are altered before they are carried out.
fn run(world: &mut World, alter: impl Fn(&Look, &mut Plan)) {
    for _ in 0..40 {
        world.step_kube();
        world.step_rafts();
        let look = world.look();
        let mut made = plan(&look.desired, &look.observed);
        alter(&look, &mut made);
        world.carry_out(&look, &made);
    }
}

/// An operator that does not see everything.
fn run_blind(world: &mut World, alter: impl Fn(&mut Observed)) {
    for _ in 0..60 {
        world.step_kube();
        world.step_rafts();
        let look = world.look();
        let mut seen = look.observed.clone();
        alter(&mut seen);
        let made = plan(&look.desired, &seen);
        world.carry_out(&look, &made);
        if world.broken.is_some() {
            return;
        }
    }
}

fn caught(world: &World, words: &str) {
    let broken = world.broken.as_deref().unwrap_or("nothing");
    assert!(broken.contains(words), "caught: {broken}; expected: {words}\n{}", world.text());
}

fn step(action: Action) -> Step {
    Step { action, note: None }
}

fn delete_claim(look: &Look, ordinal: u32) -> Option<Step> {
    let claim = look.observed.claims.get(&ordinal)?;
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    Some(step(Action::DeleteClaim { ordinal, uid, resource_version }))
}

fn delete_pod(look: &Look, ordinal: u32) -> Option<Step> {
    let pod = look.observed.pods.get(&ordinal)?;
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    Some(step(Action::DeletePod { ordinal, uid, resource_version, how: Ending::Delete }))
}

fn conf_index(look: &Look) -> u64 {
    look.observed.members.as_ref().map_or(0, |members| members.conf_index)
}

#[test]
fn a_claim_deleted_before_its_member_is_removed() {
    let mut world = standing(5);
    world.happen(Event::Replicas(3));
    run(&mut world, |look, made| {
        if made.actions().any(|action| matches!(action, Action::Remove { .. })) {
            made.steps = delete_claim(look, 4).into_iter().collect();
        }
    });
    caught(&world, "it was not removed");
}

#[test]
fn a_claim_deleted_under_a_pod() {
    let mut world = standing(5);
    world.happen(Event::Replicas(4));
    run(&mut world, |look, made| {
        made.steps.retain(|step| !matches!(step.action, Action::ApplySet { .. }));
        let removed = look.observed.members.as_ref().is_some_and(|members| !members.removed.is_empty());
        made.steps.extend(delete_claim(look, 4).filter(|_| removed));
    });
    caught(&world, "while a pod may use it");
}

#[test]
fn a_ready_pod_deleted_past_the_budgets() {
    let mut world = standing(3);
    world.happen(Event::Image { bad: false });
    run(&mut world, |_, made| {
        for step in &mut made.steps {
            if let Action::DeletePod { how, .. } = &mut step.action {
                *how = Ending::Delete;
            }
        }
    });
    caught(&world, "no disruption budget was asked");
}

/// The claims are the third place of the latch (rule O1).
#[test]
fn a_latch_from_status_and_set_alone() {
    let mut world = standing(3);
    world.happen(Event::LoseRecords);
    world.happen(Event::DropVolume(0));
    world.happen(Event::Unseen(1));
    world.happen(Event::Unseen(2));
    run_blind(&mut world, |seen| seen.claims.retain(|ordinal, _| *ordinal == 0));
    caught(&world, "init beside volumes that hold members");
}

#[test]
fn disks_that_are_needed() {
    let mut world = standing(3);
    world.happen(Event::LoseMachineOf(1));
    world.happen(Event::LoseMachineOf(2));
    run(&mut world, |look, made| made.steps = (1..3).filter_map(|at| delete_claim(look, at)).collect());
    caught(&world, "loses disks that it needs");
}

#[test]
fn a_member_that_answers_is_restarted_beside_one_that_does_not() {
    let mut world = standing(3);
    world.happen(Event::StopMachineOf(0));
    run(&mut world, |look, made| made.steps.extend(delete_pod(look, 1)));
    caught(&world, "is deleted though it answers");
}

#[test]
fn a_quorum_lost_by_too_few_pods() {
    let mut world = standing(3);
    run(&mut world, |_, made| {
        let resource_version = String::new();
        made.steps = vec![step(Action::ApplySet { replicas: 1, resource_version })];
    });
    assert_eq!(world.broken, None, "a write without the resourceVersion is refused");
    run(&mut world, |look, made| {
        let raftkv_operator::plan::SetSeen::Ours(set) = &look.observed.set else { return };
        let resource_version = set.resource_version.clone();
        made.steps = vec![step(Action::ApplySet { replicas: 1, resource_version })];
    });
    caught(&world, "loses its quorum");
}

#[test]
fn a_pod_too_few() {
    let mut world = standing(3);
    run(&mut world, |look, made| {
        let raftkv_operator::plan::SetSeen::Ours(set) = &look.observed.set else { return };
        let resource_version = set.resource_version.clone();
        made.steps = vec![step(Action::ApplySet { replicas: 2, resource_version })];
    });
    caught(&world, "a member has place 2");
}

#[test]
fn a_second_seed() {
    let mut world = World::new(3, 5);
    let seed = |look: &Look| {
        let incarnation = look.observed.pods.get(&1).and_then(incarnation)?;
        Some(Seed { cluster_id: look.observed.fresh_cluster_id, incarnation })
    };
    run(&mut world, |look, made| {
        let formed = look.observed.latch.bootstrapped;
        let init = seed(look).map(|seed| step(Action::Init { seed, ordinal: 1, min_voters: 1 }));
        if formed {
            made.steps = init.into_iter().collect();
        }
    });
    caught(&world, "init of a data directory that is not the latched one");
}

fn incarnation(pod: &raftkv_operator::plan::PodSeen) -> Option<raftkv_api::Hex128> {
    match &pod.node {
        raftkv_operator::plan::NodeSeen::Answered(status) => status.incarnation,
        raftkv_operator::plan::NodeSeen::Unreachable(_) => None,
    }
}

#[test]
fn an_empty_cluster_beside_the_data() {
    let mut world = standing(3);
    world.happen(Event::Delete);
    (0..4).for_each(|_| world.step_kube());
    world.happen(Event::DropVolume(0));
    world.happen(Event::Apply(3));
    run(&mut world, |look, made| {
        let Some(incarnation) = look.observed.pods.get(&0).and_then(incarnation) else { return };
        let raftkv_operator::plan::SetSeen::Ours(set) = &look.observed.set else { return };
        let seed = Seed { cluster_id: look.observed.fresh_cluster_id, incarnation };
        let resource_version = set.resource_version.clone();
        made.steps = vec![
            step(Action::LatchSeed(seed)),
            step(Action::AnnotateSeed { seed, resource_version }),
            step(Action::Init { seed, ordinal: 0, min_voters: 1 }),
        ];
    });
    caught(&world, "init beside volumes of another cluster");
}

#[test]
fn two_changes_in_one_pass() {
    let mut world = standing(5);
    world.happen(Event::Replicas(3));
    run(&mut world, |look, made| {
        let conf_index = conf_index(look);
        if made.actions().any(|action| matches!(action, Action::Remove { .. })) {
            made.steps.push(step(Action::Remove { leader: 0, id: 4, conf_index }));
        }
    });
    caught(&world, "two membership changes in one pass");
}

#[test]
fn a_second_learner() {
    let mut world = standing(3);
    world.happen(Event::Replicas(5));
    run(&mut world, |look, made| {
        let next = look.observed.pods.get(&4).and_then(incarnation);
        for step in &mut made.steps {
            if let (Action::Promote { leader, conf_index, .. }, Some(incarnation)) = (&step.action, next) {
                let (leader, conf_index) = (*leader, *conf_index);
                step.action = Action::AddLearner { leader, ordinal: 4, incarnation, conf_index };
            }
        }
    });
    caught(&world, "a second learner is added before the first one votes");
}

#[test]
fn a_paused_cluster_that_is_changed() {
    let mut world = standing(3);
    world.happen(Event::Pause(true));
    run(&mut world, |_, made| made.steps.push(step(Action::SetBudget { min_available: 0 })));
    caught(&world, "a paused cluster is changed");
}

#[test]
fn a_change_on_an_old_membership_is_refused() {
    let mut world = standing(5);
    world.happen(Event::Replicas(3));
    run(&mut world, |_, made| {
        for step in &mut made.steps {
            if let Action::Remove { conf_index, .. } = &mut step.action {
                *conf_index -= 1;
            }
        }
    });
    assert_eq!(world.rafts.values().next().unwrap().conf().voters.len(), 5);
    assert_eq!(world.broken, None);
}

#[test]
fn acknowledged_data_that_is_lost() {
    let mut world = standing(3);
    for claim in world.claims.values_mut().take(2) {
        let member = claim.disk.as_mut().unwrap().member.as_mut().unwrap();
        (member.matched, member.durable) = (member.matched - 2, 1);
    }
    world.happen(Event::StopMachineOf(2));
    world.rafts.values_mut().for_each(|raft| raft.leader = None);
    world.step_rafts();
    caught(&world, "acknowledged data is lost");
}

#[test]
fn another_cluster_than_the_one_that_acknowledged() {
    let mut world = standing(3);
    world.acknowledged.insert(1);
    let wrong = is_end(&mut world, Expect::Ready).unwrap_err();
    assert!(wrong.contains("acknowledged writes"), "{wrong}");
}

#[test]
fn a_status_that_is_written_without_news() {
    let mut world = standing(3);
    world.memory.conditions[0].message = "other words".to_string();
    world.memory.conditions[0].status = "False".to_string();
    let look = world.look();
    let made = plan(&look.desired, &look.observed);
    assert!(!made.notes.is_empty(), "a condition that turned is told");
    let told_again = super::explore::quiet(&made, "").unwrap_err();
    assert!(told_again.contains("it tells the same again"), "{told_again}");
    let written = super::explore::quiet(&Plan { notes: vec![], ..made }, "").unwrap_err();
    assert!(written.contains("the status is written anew"), "{written}");
}

#[test]
#[should_panic(expected = "Ready is false")]
fn a_cluster_that_does_not_become_what_is_asked_for() {
    let script = vec![(Event::Room(3), Expect::Ready), (Event::Replicas(5), Expect::Ready)];
    explore(&Scenario { name: "control", start: standing(3), first: Expect::Ready, script, states_max: 100 });
}

#[test]
#[should_panic(expected = "expected one of")]
fn a_cluster_that_is_ready_when_it_should_not_be() {
    let script = vec![(Event::Replicas(2), Expect::Stuck(&["ScalingDown"]))];
    explore(&Scenario { name: "control", start: standing(3), first: Expect::Ready, script, states_max: 100 });
}

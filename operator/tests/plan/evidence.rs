//! Every act that cannot be undone, or that takes a vote away, needs all of its evidence (rule O33): without any one part
//! of it, the act is not planned. A test is named `<act>_<part>`.

use super::model::World;
use super::model::script::Event;
use super::scenarios::standing;
use raftkv_api::{DecimalId, Hex128, NodeState, RemovedMember, Status};
use raftkv_operator::plan::{
    Action, ClaimOwner, Container, Desired, Ending, Machine, NodeSeen, Observed, Ordinal, Replace, SetSeen, plan,
};

/// Rounds until a story has come to its act.
const ROUNDS_MAX: usize = 120;

/// What a plan saw when it planned the act.
struct Case {
    desired: Desired,
    seen: Observed,
    is_act: fn(&Action) -> bool,
}

fn acts(desired: &Desired, seen: &Observed, is_act: fn(&Action) -> bool) -> bool {
    plan(desired, seen).actions().any(is_act)
}

/// Runs until the plan has the act.
fn until(mut world: World, is_act: fn(&Action) -> bool) -> Case {
    for round in 0..ROUNDS_MAX {
        world.step_kube();
        world.step_rafts();
        let (desired, seen) = (world.desired(), world.observe());
        if acts(&desired, &seen, is_act) {
            return Case { desired, seen, is_act };
        }
        world.pass();
        if round == ROUNDS_MAX / 2 {
            world.wait_long();
        }
    }
    panic!("the act is never planned\n{}", world.text());
}

fn after(members: u32, events: &[Event]) -> World {
    let mut world = standing(members);
    events.iter().for_each(|event| world.happen(*event));
    world
}

/// Takes one part of the evidence away.
fn missing(case: fn() -> Case, part: fn(&mut Desired, &mut Observed)) {
    let mut case = case();
    part(&mut case.desired, &mut case.seen);
    let steps = plan(&case.desired, &case.seen).steps;
    assert!(!steps.iter().any(|step| (case.is_act)(&step.action)), "it is planned all the same: {steps:?}");
}

macro_rules! parts {
    ($($name:ident: $case:ident, $part:expr;)*) => {
        $(#[test]
        fn $name() {
            missing($case, $part);
        })*
    };
}

fn init() -> Case {
    until(World::new(3, 5), |action| matches!(action, Action::Init { .. }))
}

fn adopt() -> Case {
    until(after(3, &[Event::Delete, Event::Apply(3)]), |action| matches!(action, Action::LatchFormed { .. }))
}

fn add_learner() -> Case {
    until(after(3, &[Event::Replicas(4)]), |action| matches!(action, Action::AddLearner { .. }))
}

fn promote() -> Case {
    until(after(3, &[Event::Replicas(4)]), |action| matches!(action, Action::Promote { .. }))
}

fn remove_voter() -> Case {
    until(after(3, &[Event::Replicas(2)]), |action| matches!(action, Action::Remove { .. }))
}

fn reset() -> Case {
    until(after(3, &[Event::Quarantine(1)]), |action| matches!(action, Action::Reset { .. }))
}

fn delete_removed_claim() -> Case {
    until(after(4, &[Event::Replicas(3)]), |action| matches!(action, Action::DeleteClaim { ordinal: 3, .. }))
}

fn delete_lost_claim() -> Case {
    until(after(3, &[Event::OutOfService(1)]), |action| matches!(action, Action::DeleteClaim { ordinal: 1, .. }))
}

fn delete_named_claim() -> Case {
    let world = after(3, &[Event::StopMachineOf(1), Event::Replace(1)]);
    until(world, |action| matches!(action, Action::DeleteClaim { ordinal: 1, .. }))
}

fn delete_pod_now() -> Case {
    until(after(3, &[Event::OutOfService(1)]), |action| matches!(action, Action::DeletePod { how: Ending::Kill, .. }))
}

fn delete_doomed_pod() -> Case {
    until(after(3, &[Event::DeleteClaim(1)]), |action| matches!(action, Action::DeletePod { ordinal: 1, .. }))
}

fn restart() -> Case {
    until(after(3, &[Event::Image { bad: false }]), |action| matches!(action, Action::DeletePod { ordinal: 2, .. }))
}

/// A restart in a cluster that cannot replace anybody.
fn restart_of_two() -> Case {
    until(after(2, &[Event::Image { bad: false }]), |action| matches!(action, Action::DeletePod { ordinal: 1, .. }))
}

/// The second restart of a roll.
fn restart_next() -> Case {
    until(after(3, &[Event::Image { bad: false }]), |action| matches!(action, Action::DeletePod { ordinal: 1, .. }))
}

fn restart_broken() -> Case {
    let mut world = after(3, &[Event::Image { bad: true }]);
    for _ in 0..20 {
        world.step_kube();
        world.step_rafts();
        world.pass();
    }
    world.happen(Event::Image { bad: false });
    until(world, |action| matches!(action, Action::DeletePod { ordinal: 2, .. }))
}

/// A learner that is silent, to us and to the leader.
fn drop_learner() -> Case {
    let mut world = after(3, &[Event::Replicas(4)]);
    for _ in 0..ROUNDS_MAX {
        if world.rafts.values().any(|raft| raft.conf().members.len() > 3) {
            break;
        }
        world.step_kube();
        world.step_rafts();
        world.pass();
    }
    world.happen(Event::StopMachineOf(3));
    until(world, |action| matches!(action, Action::Remove { .. }))
}

fn status(seen: &mut Observed, at: Ordinal) -> &mut Status {
    match &mut seen.pods.get_mut(&at).unwrap().node {
        NodeSeen::Answered(status) => status,
        NodeSeen::Unreachable(why) => panic!("{at} does not answer: {why}"),
    }
}

fn silence(seen: &mut Observed, at: Ordinal) {
    let pod = seen.pods.get_mut(&at).unwrap();
    (pod.node, pod.ready) = (NodeSeen::Unreachable("no answer".to_string()), false);
}

fn leader(seen: &mut Observed) -> &mut Status {
    let led = |pod: &raftkv_operator::plan::PodSeen| match &pod.node {
        NodeSeen::Answered(status) => status.leader_id.is_some() && status.leader_id == status.member_id,
        NodeSeen::Unreachable(_) => false,
    };
    let at = seen.pods.iter().find(|(_, pod)| led(pod)).map(|(at, _)| *at).unwrap();
    status(seen, at)
}

fn set(seen: &mut Observed) -> &mut raftkv_operator::plan::Set {
    match &mut seen.set {
        SetSeen::Ours(set) => set,
        other => panic!("{other:?}"),
    }
}

fn no_members(_: &mut Desired, seen: &mut Observed) {
    seen.members = None;
}

fn joint(_: &mut Desired, seen: &mut Observed) {
    seen.members.as_mut().unwrap().joint = true;
}

/// Removes the membership's word that anybody was removed.
fn nobody_removed(_: &mut Desired, seen: &mut Observed) {
    seen.members.as_mut().unwrap().removed.clear();
}

fn owner(seen: &mut Observed, at: Ordinal) -> &mut ClaimOwner {
    seen.claims.get_mut(&at).unwrap().owner.as_mut().unwrap()
}

fn heard_by_the_leader(_: &mut Desired, seen: &mut Observed) {
    leader(seen).peers.iter_mut().for_each(|peer| peer.active = true);
}

fn all_machines(seen: &mut Observed, machine: Machine) {
    seen.machines.values_mut().for_each(|it| *it = machine);
}

parts! {
    init_status: init, |_, seen| seen.latch.bootstrap = None;
    init_stateful_set: init, |_, seen| set(seen).bootstrap = None;
    init_claim: init, |_, seen| seen.claims.get_mut(&0).unwrap().owner = None;
    init_no_other_owner: init, |_, seen| {
        let owner = ClaimOwner { member_id: 2, ..*owner(seen, 0) };
        seen.claims.get_mut(&1).unwrap().owner = Some(owner);
    };
    init_no_foreign_volume: init, |_, seen| seen.claims.get_mut(&1).unwrap().cluster_uid = Some("cr-0".to_string());
    init_no_claimant: init, |_, seen| status(seen, 1).cluster_id = Some(Hex128([8; 16]));
    init_twice: init, |_, seen| seen.memory.blank.clear();
    init_blank: init, |_, seen| status(seen, 0).state = NodeState::Opening;

    adopt_quorum: adopt, |_, seen| (1..3).for_each(|at| silence(seen, at));
    adopt_one_cluster: adopt, |_, seen| status(seen, 2).cluster_id = Some(Hex128([8; 16]));
    adopt_one_genesis: adopt, |_, seen| status(seen, 2).genesis = Some(Hex128([8; 16]));
    adopt_name: adopt, |_, seen| status(seen, 2).members[2].name = "other-2".to_string();
    adopt_peer_url: adopt, |_, seen| status(seen, 2).members[2].peer_url = "http://demo-2.elsewhere:2380".to_string();

    add_learner_leader: add_learner, no_members;
    add_learner_joint: add_learner, joint;
    add_learner_twice: add_learner, |_, seen| seen.memory.blank.clear();
    add_learner_blank: add_learner, |_, seen| status(seen, 3).state = NodeState::Opening;
    add_learner_no_former_member: add_learner, |_, seen| {
        let incarnation = status(seen, 3).incarnation.unwrap();
        let removed = RemovedMember { id: DecimalId(9), name: "demo-3".to_string(), incarnation, index: 1 };
        seen.members.as_mut().unwrap().removed.push(removed);
    };
    add_learner_claim: add_learner, |_, seen| seen.claims.get_mut(&3).unwrap().terminating = true;

    promote_leader: promote, no_members;
    promote_joint: promote, joint;
    promote_caught_up: promote, |_, seen| leader(seen).peers.iter_mut().for_each(|peer| peer.caught_up = false);

    remove_voter_leader: remove_voter, no_members;
    remove_voter_joint: remove_voter, joint;
    remove_voter_spec: remove_voter, |desired, _| desired.replicas = 3;
    remove_voter_margin: remove_voter, |_, seen| silence(seen, 1);
    remove_voter_lasting: remove_voter, |_, seen| seen.claims.get_mut(&1).unwrap().terminating = true;
    remove_voter_not_diverged: remove_voter, |_, seen| {
        status(seen, 2).state = NodeState::Quarantined;
        status(seen, 2).diverged = true;
    };

    drop_learner_leader: drop_learner, no_members;
    drop_learner_leaders_word: drop_learner, heard_by_the_leader;
    drop_learner_clock: drop_learner, |_, seen| {
        seen.memory.silent.insert(3, seen.now);
    };

    reset_leader: reset, no_members;
    reset_state: reset, |_, seen| status(seen, 1).state = NodeState::Voter;
    reset_not_diverged: reset, |_, seen| status(seen, 1).diverged = true;
    reset_member: reset, |_, seen| status(seen, 1).cluster_id = Some(Hex128([8; 16]));

    delete_removed_claim_leader: delete_removed_claim, no_members;
    delete_removed_claim_removed: delete_removed_claim, nobody_removed;
    delete_removed_claim_durable: delete_removed_claim, |_, seen| {
        let leaders = seen.pods.values_mut().filter_map(|pod| match &mut pod.node {
            NodeSeen::Answered(status) => Some(status),
            NodeSeen::Unreachable(_) => None,
        });
        leaders.flat_map(|status| &mut status.peers).for_each(|peer| peer.durable_conf_index = 0);
    };
    delete_removed_claim_owner: delete_removed_claim, |_, seen| seen.claims.get_mut(&3).unwrap().owner = None;
    delete_removed_claim_cluster: delete_removed_claim, |_, seen| owner(seen, 3).cluster_id = Hex128([8; 16]);
    delete_removed_claim_incarnation: delete_removed_claim, |_, seen| owner(seen, 3).incarnation = Hex128([8; 16]);
    delete_removed_claim_label: delete_removed_claim, |_, seen| seen.claims.get_mut(&3).unwrap().cluster_uid = None;
    delete_removed_claim_size: delete_removed_claim, |_, seen| set(seen).replicas = 4;
    delete_removed_claim_spec: delete_removed_claim, |desired, _| desired.replicas = 4;
    delete_removed_claim_unused: delete_removed_claim, |_, seen| {
        let pod = seen.pods[&2].clone();
        seen.pods.insert(3, pod);
    };

    delete_lost_claim_leader: delete_lost_claim, no_members;
    delete_lost_claim_joint: delete_lost_claim, joint;
    delete_lost_claim_leaders_word: delete_lost_claim, heard_by_the_leader;
    delete_lost_claim_twice: delete_lost_claim, |_, seen| seen.memory.mute.clear();
    delete_lost_claim_clock: delete_lost_claim, |desired, _| desired.lost_node_s = 86_400;
    delete_lost_claim_machine: delete_lost_claim, |_, seen| all_machines(seen, Machine::Present);
    delete_lost_claim_reading: delete_lost_claim, |_, seen| all_machines(seen, Machine::Unknown);
    delete_lost_claim_tie: delete_lost_claim, |_, seen| seen.claims.get_mut(&1).unwrap().machine = None;
    delete_lost_claim_kubelet: delete_lost_claim, |_, seen| seen.pods.get_mut(&1).unwrap().ready = true;
    delete_lost_claim_silent: delete_lost_claim, |_, seen| {
        let answer = seen.pods[&2].node.clone();
        seen.pods.get_mut(&1).unwrap().node = answer;
    };
    delete_lost_claim_margin: delete_lost_claim, |_, seen| silence(seen, 2);
    delete_lost_claim_nobody_opens: delete_lost_claim, |_, seen| status(seen, 2).state = NodeState::Opening;
    delete_lost_claim_no_other_claim: delete_lost_claim, |_, seen| {
        let claim = seen.claims[&1].clone();
        seen.claims.insert(7, raftkv_operator::plan::ClaimSeen { terminating: true, ..claim });
    };

    delete_named_claim_leader: delete_named_claim, no_members;
    delete_named_claim_id: delete_named_claim, |desired, _| desired.replace = Some(Replace { ordinal: 1, member_id: 9 });
    delete_named_claim_owner: delete_named_claim, |_, seen| owner(seen, 1).member_id = 9;
    delete_named_claim_margin: delete_named_claim, |_, seen| silence(seen, 2);
    delete_named_claim_nobody_opens: delete_named_claim, |_, seen| status(seen, 2).state = NodeState::Opening;

    delete_pod_now_machine: delete_pod_now, |_, seen| all_machines(seen, Machine::Present);
    delete_pod_now_silent: delete_pod_now, |_, seen| {
        let answer = seen.pods[&2].node.clone();
        seen.pods.get_mut(&1).unwrap().node = answer;
    };

    delete_doomed_pod_leader: delete_doomed_pod, no_members;
    delete_doomed_pod_joint: delete_doomed_pod, joint;
    delete_doomed_pod_margin: delete_doomed_pod, |_, seen| silence(seen, 2);
    delete_doomed_pod_lasting: delete_doomed_pod, |_, seen| seen.claims.get_mut(&2).unwrap().terminating = true;
    delete_doomed_pod_nobody_comes: delete_doomed_pod, |_, seen| seen.pods.get_mut(&2).unwrap().terminating = true;

    restart_leader: restart, no_members;
    restart_joint: restart, joint;
    restart_outdated: restart, |_, seen| seen.pods.values_mut().for_each(|pod| pod.outdated = false);
    restart_settled: restart, |_, seen| set(seen).settled = false;
    restart_margin: restart, |_, seen| silence(seen, 1);
    restart_nobody_comes: restart, |_, seen| seen.pods.get_mut(&1).unwrap().terminating = true;
    restart_claim: restart_of_two, |_, seen| seen.claims.get_mut(&1).unwrap().terminating = true;
    restart_not_diverged: restart, |_, seen| {
        status(seen, 2).state = NodeState::Quarantined;
        status(seen, 2).diverged = true;
    };
    restart_newest_serves: restart_next, |_, seen| seen.pods.get_mut(&2).unwrap().ready = false;

    restart_broken_outdated: restart_broken, |_, seen| seen.pods.get_mut(&2).unwrap().outdated = false;
    restart_broken_settled: restart_broken, |_, seen| set(seen).settled = false;
    restart_broken_kubelet: restart_broken, |_, seen| seen.pods.get_mut(&2).unwrap().ready = true;
    // Otherwise it is restarted as a doomed one.
    restart_broken_claim: restart_broken, |_, seen| {
        seen.claims.get_mut(&2).unwrap().terminating = true;
        silence(seen, 1);
    };
    restart_broken_does_not_run: restart_broken, |_, seen| {
        seen.pods.get_mut(&2).unwrap().container = Container::Running;
    };
}

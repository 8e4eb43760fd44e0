//! The scenarios of the end-to-end tests, and the ones that no test can wait for, from every state that they reach.

use super::explore::{Expect, Scenario, explore};
use super::model::script::Event;
use super::model::{Flaw, World};

/// States of one scenario, at most.
const STATES_MAX: usize = 8_000;

/// A cluster that was applied and has come to rest.
pub fn standing(replicas: u32) -> World {
    let mut world = World::new(replicas, 5);
    for _ in 0..80 {
        world.step_kube();
        world.step_rafts();
        world.pass();
    }
    assert_eq!(world.broken, None);
    assert_eq!(world.lacks(), None, "{}", world.text());
    world
}

fn run(name: &'static str, start: World, first: Expect, script: Vec<(Event, Expect)>) {
    let states_max = std::env::var("PLAN_STATES").map_or(STATES_MAX, |states| states.parse().unwrap());
    let states = explore(&Scenario { name, start, first, script, states_max });
    println!("{name}: {states} states{}", if states == states_max { " (cut)" } else { "" });
}

use Event::*;
use Expect::{Either, Quiet, Ready, Stuck};

#[test]
fn apply_three() {
    run("apply three", World::new(3, 5), Ready, vec![]);
}

#[test]
fn apply_one() {
    run("apply one", World::new(1, 5), Ready, vec![]);
}

#[test]
fn up_and_down() {
    let script = vec![(Replicas(5), Ready), (Replicas(3), Ready), (Replicas(1), Ready), (Replicas(3), Ready)];
    run("up and down", standing(3), Ready, script);
}

#[test]
fn two_edits_at_once() {
    run("two edits at once", standing(3), Ready, vec![(Replicas(5), Ready), (Replicas(1), Ready)]);
}

/// A learner that is removed before it has received anything does not learn of it, and its pod is needed again.
#[test]
fn one_more_withdrawn_and_one_more() {
    run(
        "one more, withdrawn",
        standing(3),
        Ready,
        vec![(Replicas(4), Ready), (Replicas(3), Ready), (Replicas(4), Ready)],
    );
}

#[test]
fn a_lost_disk() {
    for lost in 0..3 {
        run("a lost disk", standing(3), Ready, vec![(LoseDisk(lost), Ready)]);
    }
}

#[test]
fn a_deleted_pod() {
    for gone in 0..3 {
        run("a deleted pod", standing(3), Ready, vec![(DeletePod(gone), Ready), (DeletePod((gone + 1) % 3), Ready)]);
    }
}

#[test]
fn an_unschedulable_pod_withdrawn() {
    let script = vec![
        (Room(3), Ready),
        (Replicas(5), Stuck(&["ScalingUp", "StartingPods", "PodNotStarting"])),
        (Replicas(3), Ready),
    ];
    run("an unschedulable pod", standing(3), Ready, script);
}

#[test]
fn a_bad_image_then_a_good_one() {
    let bad = &["RollingUpdate", "PodNotStarting"];
    let script = vec![(Image { bad: true }, Stuck(bad)), (Image { bad: false }, Ready)];
    run("a bad image", standing(3), Ready, script);
}

#[test]
fn a_bad_image_from_the_beginning() {
    let mut world = World::new(3, 5);
    world.spec.template.flaw = Flaw::NoImage;
    let bad = &["Bootstrapping", "PodNotStarting"];
    run("a bad image from the beginning", world, Stuck(bad), vec![(Image { bad: false }, Ready)]);
}

#[test]
fn a_rolling_update() {
    for replicas in [1, 2, 3] {
        run("a rolling update", standing(replicas), Ready, vec![(Image { bad: false }, Ready)]);
    }
}

#[test]
fn suspend_and_back() {
    for replicas in [1, 3] {
        run(
            "suspend",
            standing(replicas),
            Ready,
            vec![(Suspend(true), Stuck(&["Suspended"])), (Suspend(false), Ready)],
        );
    }
}

#[test]
fn suspended_from_the_beginning() {
    let script = vec![(Suspend(true), Stuck(&["Suspended"])), (Suspend(false), Ready)];
    run("suspended from the beginning", World::new(3, 5), Ready, script);
}

#[test]
fn the_set_scaled_by_hand() {
    for pods in [0, 1, 2, 5] {
        run("the set scaled by hand", standing(3), Ready, vec![(ScaleSet(pods), Ready)]);
    }
}

#[test]
fn the_set_scaled_by_hand_during_a_scale_down() {
    for pods in [0, 1, 4, 7] {
        run("the set scaled by hand", standing(5), Ready, vec![(Replicas(3), Ready), (ScaleSet(pods), Ready)]);
    }
}

#[test]
fn applied_again_with_its_volumes() {
    run("applied again", standing(3), Ready, vec![(Delete, Quiet), (Apply(3), Ready)]);
}

#[test]
fn applied_again_smaller_and_larger() {
    run("applied again, 1", standing(3), Ready, vec![(Delete, Quiet), (Apply(1), Ready)]);
    run("applied again, 5", standing(3), Ready, vec![(Delete, Quiet), (Apply(5), Ready)]);
}

/// A cluster that was deleted, with all pods gone.
fn deleted(replicas: u32) -> World {
    let mut world = standing(replicas);
    world.happen(Delete);
    for _ in 0..4 {
        world.step_kube();
    }
    world
}

#[test]
fn applied_again_without_a_volume() {
    for lost in 0..3 {
        let mut world = deleted(3);
        world.happen(DropVolume(lost));
        run("applied again without a volume", world, Quiet, vec![(Apply(3), Ready)]);
    }
}

#[test]
fn applied_again_without_two_volumes() {
    for kept in 0..3 {
        let mut world = deleted(3);
        (0..3).filter(|at| *at != kept).for_each(|at| world.happen(DropVolume(at)));
        run("applied again without two volumes", world, Quiet, vec![(Apply(3), Stuck(&["ForeignVolumes"]))]);
    }
}

#[test]
fn volumes_of_two_clusters() {
    let mut world = deleted(3);
    world.happen(MixVolume(1));
    run("volumes of two clusters", world, Quiet, vec![(Apply(3), Stuck(&["ForeignVolumes"]))]);
}

#[test]
fn the_volume_of_another_clusters_only_member() {
    for replicas in [1, 3] {
        let mut world = deleted(1);
        world.happen(MixVolume(0));
        run("another cluster's only member", world, Quiet, vec![(Apply(replicas), Stuck(&["ForeignVolumes"]))]);
    }
}

#[test]
fn a_wiped_status() {
    run("a wiped status", standing(3), Ready, vec![(WipeStatus, Ready)]);
    run("a wiped status while it grows", standing(3), Ready, vec![(Replicas(4), Ready), (WipeStatus, Ready)]);
}

#[test]
fn a_status_wiped_at_the_beginning() {
    run("a status wiped at the beginning", World::new(3, 5), Ready, vec![(WipeStatus, Ready)]);
}

#[test]
fn a_lower_place_is_dead_during_a_scale_down() {
    let waits = &["ScalingDown", "MemberUnreachable", "PodNotStarting"];
    let script =
        vec![(StopMachineOf(0), Stuck(&["MemberUnreachable"])), (Replicas(2), Stuck(waits)), (StartMachines, Ready)];
    run("a lower place is dead", standing(3), Ready, script);
}

#[test]
fn a_lost_machine() {
    for lost in 0..3 {
        run("a lost machine", standing(3), Ready, vec![(LoseMachineOf(lost), Ready)]);
        run("a machine out of service", standing(3), Ready, vec![(OutOfService(lost), Ready)]);
    }
}

/// A volume that another machine can attach is not a lost disk: the pod just moves.
#[test]
fn a_lost_machine_whose_volumes_move() {
    for event in [LoseMachineOf(1), OutOfService(1), LoseMachineOf(3), OutOfService(3)] {
        let mut world = standing(3);
        world.attachable = true;
        world.claims.values_mut().for_each(|claim| claim.machine = None);
        run("volumes that move", world, Ready, vec![(Replicas(4), Ready), (event, Ready)]);
    }
}

#[test]
fn a_member_given_up_by_a_person() {
    let script = vec![(StopMachineOf(1), Stuck(&["MemberUnreachable"])), (Replace(1), Ready), (StartMachines, Ready)];
    run("given up by a person", standing(3), Ready, script);
}

#[test]
fn quorum_lost_and_back() {
    let lost = &["QuorumLost"];
    let script = vec![(StopMachineOf(0), Quiet), (StopMachineOf(1), Stuck(lost)), (StartMachines, Ready)];
    run("quorum lost", standing(3), Ready, script);
}

#[test]
fn a_quarantined_member() {
    for at in 0..3 {
        run("a quarantined member", standing(3), Ready, vec![(Quarantine(at), Ready)]);
    }
}

#[test]
fn a_stranger_has_the_name() {
    let mut world = World::new(3, 5);
    world.happen(Stranger(true));
    run("a stranger has the name", world, Stuck(&["NameTaken"]), vec![(Stranger(false), Ready)]);
}

#[test]
fn a_stranger_has_the_stateful_set() {
    let mut world = World::new(3, 5);
    world.strange_set();
    run("a stranger's StatefulSet", world, Stuck(&["NameTaken"]), vec![(Stranger(false), Ready)]);
}

#[test]
fn a_joint_change_by_hand() {
    run(
        "a joint change",
        standing(3),
        Ready,
        vec![(Replicas(4), Ready), (Joint, Ready), (Suspend(true), Stuck(&["Suspended"]))],
    );
}

#[test]
fn paused() {
    let paused = &["Paused"];
    let script = vec![(Pause(true), Quiet), (Replicas(5), Stuck(paused)), (Pause(false), Ready)];
    run("paused", standing(3), Ready, script);
}

#[test]
fn the_operator_is_cut_off() {
    let script = vec![(Cut(true), Stuck(&["OperatorCannotReachPods"])), (Replicas(1), Quiet), (Cut(false), Ready)];
    run("the operator is cut off", standing(3), Ready, script);
}

#[test]
fn the_first_disk_is_lost_before_the_cluster_is_formed() {
    let lost = &["SeedVolumeLost", "DiskLost", "QuorumLost", "ReplacingMember", "Forming"];
    run("the first disk is lost early", World::new(3, 5), Ready, vec![(LoseDisk(0), Either(lost))]);
}

/// Settings under which nodes never get ready, never open or never catch up stop at one pod; good ones mend it.
#[test]
fn settings_that_are_wrong_then_right() {
    let stuck = &["RollingUpdate", "MembersNotReady", "StartingPods", "DeadlineExceeded"];
    for flaw in [Flaw::NeverReady, Flaw::NeverOpens, Flaw::NeverCatchesUp] {
        let script = vec![(Template(flaw), Stuck(stuck)), (Template(Flaw::None), Ready)];
        run("wrong settings", standing(3), Ready, script);
    }
}

#[test]
fn a_disk_that_hangs() {
    for at in 0..3 {
        let script = vec![(HangDisk(at), Stuck(&["DiskStalled"])), (Image { bad: false }, Ready)];
        run("a disk hangs", standing(3), Ready, script);
    }
}

#[test]
fn the_set_is_deleted() {
    run("the set is deleted", standing(3), Ready, vec![(DropSet, Ready)]);
}

/// The vote of a removed member is needed until its removal is durable, so its pod comes back first.
#[test]
fn the_set_and_a_pod_are_deleted_during_a_scale_down() {
    let script = vec![(Replicas(3), Ready), (DropSet, Ready), (DeletePod(4), Ready)];
    run("the set is deleted during a scale-down", standing(5), Ready, script);
}

#[test]
fn a_claim_is_deleted_under_a_pod() {
    for at in 0..3 {
        run("a claim is deleted", standing(3), Ready, vec![(DeleteClaim(at), Ready)]);
    }
    run("a claim of two", standing(2), Ready, vec![(DeleteClaim(1), Stuck(&["DiskLost"]))]);
}

/// Status and StatefulSet are lost, and the claims say whose data they hold: the cluster is found, and none is formed.
#[test]
fn status_and_set_are_lost() {
    run("records lost", standing(3), Ready, vec![(LoseRecords, Ready)]);
    for lost in 0..3 {
        let mut world = standing(3);
        world.happen(LoseRecords);
        world.happen(DropVolume(lost));
        run("records and a volume lost", world, Ready, vec![]);
    }
    for kept in 0..3 {
        let mut world = standing(3);
        world.happen(LoseRecords);
        (0..3).filter(|at| *at != kept).for_each(|at| world.happen(DropVolume(at)));
        run("records and two volumes lost", world, Stuck(&["ForeignVolumes"]), vec![]);
    }
}

/// At any moment of its forming, too. A claim that was not labelled yet is nobody's that is known.
#[test]
fn status_and_set_are_lost_at_the_beginning() {
    let unlabelled = &["ForeignVolumes"];
    run("records lost early", World::new(3, 5), Ready, vec![(LoseRecords, Either(unlabelled))]);
}

#[test]
fn rule_o34_other_namespace() {
    let script = vec![(RestoreElsewhere(3), Stuck(&["ForeignVolumes"]))];
    run("restored in another namespace", standing(3), Ready, script);
}

/// It may hold the only copy of acknowledged writes: no step touches its data, its pod or its claim.
#[test]
fn a_member_that_diverged() {
    for at in 0..3 {
        let told = &["MemberDiverged"];
        run("diverged", standing(3), Ready, vec![(Diverge(at), Stuck(told)), (Replicas(4), Stuck(told))]);
    }
}

#[test]
fn no_leader_and_new_settings() {
    let none = &["NoLeader", "Electing"];
    let script =
        vec![(NoElections(true), Stuck(none)), (Image { bad: false }, Stuck(none)), (NoElections(false), Ready)];
    run("no leader", standing(3), Ready, script);
}

/// The last good spec stays in force, and the cluster is repaired by it (rule O31).
#[test]
fn a_bad_spec_and_a_lost_disk() {
    let told = &["InvalidSpec"];
    let script = vec![
        (BadSpec(true), Stuck(told)),
        (LoseDisk(1), Stuck(told)),
        (Image { bad: false }, Stuck(told)),
        (BadSpec(false), Ready),
    ];
    run("a bad spec", standing(3), Ready, script);
}

/// A write to the StatefulSet that fails holds up nothing else (rule O32).
#[test]
fn a_webhook_that_is_down_and_a_quarantined_member() {
    let told = &["StepFailed"];
    let script = vec![
        (Webhook { down: true }, Ready),
        (Image { bad: false }, Stuck(told)),
        (Quarantine(2), Stuck(told)),
        (Webhook { down: false }, Ready),
    ];
    run("a webhook is down", standing(3), Ready, script);
}

#[test]
fn a_learner_that_stops() {
    let waits = &["ScalingUp", "StartingPods", "PodNotStarting", "DeadlineExceeded", "MemberUnreachable"];
    let script = vec![(Replicas(4), Ready), (StopMachineOf(3), Either(waits)), (StartMachines, Ready)];
    run("a learner stops", standing(3), Ready, script);
}

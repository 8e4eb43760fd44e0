//! What members say of their disks and of writes is what the conditions say.

use super::model::World;
use super::scenarios::standing;
use raftkv_api::{Serves, StalledOn, Status, Writes};
use raftkv_operator::plan::{NodeSeen, Observed, plan};

/// Condition, its status and its reason.
type Told<'a> = (&'a str, &'a str, &'a str);

/// The conditions of a cluster of three, in which the leader's status and that of a follower are altered.
fn told(alter: impl Fn(&mut Status, &mut Status)) -> Vec<(String, String, String, String)> {
    let world: World = standing(3);
    let mut seen: Observed = world.observe();
    let mut nodes = seen.pods.values_mut().filter_map(|pod| match &mut pod.node {
        NodeSeen::Answered(status) => Some(&mut **status),
        NodeSeen::Unreachable(_) => None,
    });
    let (mut leaders, mut followers): (Vec<_>, Vec<_>) =
        nodes.by_ref().partition(|status| status.leader_id == status.member_id);
    alter(leaders.pop().unwrap(), followers.pop().unwrap());
    let conditions = plan(&world.desired(), &seen).status.conditions;
    conditions.into_iter().map(|found| (found.type_, found.status, found.reason, found.message)).collect()
}

fn says(told: &[(String, String, String, String)], (kind, status, reason): Told<'_>) -> String {
    let found = told.iter().find(|(found, ..)| found == kind).unwrap();
    assert_eq!((found.1.as_str(), found.2.as_str()), (status, reason), "{told:?}");
    found.3.clone()
}

#[test]
fn writes_that_are_taken_are_available() {
    let told = told(|leader, _| leader.writes = Some(Writes::Ok));
    says(&told, ("Available", "True", "QuorumHealthy"));
    says(&told, ("Degraded", "False", "Healthy"));
    says(&told, ("Ready", "True", "AllMembersReady"));
}

#[test]
fn a_member_is_ready_when_it_says_so_itself() {
    let told_yes = told(|_, follower| follower.serves = Some(Serves::Yes));
    says(&told_yes, ("Ready", "True", "AllMembersReady"));
    // The kubelet asks every few seconds, and calls it ready meanwhile.
    let told_no = told(|_, follower| follower.serves = Some(Serves::NoRead));
    assert_eq!(says(&told_no, ("Ready", "False", "MembersNotReady")), "not ready: demo-2");
    says(&told_no, ("Available", "True", "QuorumHealthy"));
}

#[test]
fn writes_that_are_refused_are_not_available() {
    let told_of_quota = told(|leader, _| {
        (leader.writes, leader.no_space) = (Some(Writes::Quota), Some("the database has 9 bytes".to_string()));
    });
    says(&told_of_quota, ("Available", "False", "WritesRefused"));
    says(&told_of_quota, ("Degraded", "True", "QuotaExceeded"));
    says(&told_of_quota, ("Ready", "False", "WritesRefused"));
    let told_of_space = told(|leader, _| {
        leader.writes = Some(Writes::NoSpace);
        (leader.headroom_bytes, leader.reserve_bytes) = (1, 2);
    });
    says(&told_of_space, ("Available", "False", "WritesRefused"));
    says(&told_of_space, ("Degraded", "True", "NoSpace"));
}

#[test]
fn a_disk_that_does_not_answer_is_told_with_its_member() {
    let hangs = |status: &mut Status, ms| (status.stalled_ms, status.stalled_on) = (ms, Some(StalledOn::Log));
    let of_leader = told(|leader, _| {
        leader.writes = Some(Writes::Stalled);
        hangs(leader, 60_000);
    });
    let available = says(&of_leader, ("Available", "False", "DiskStalled"));
    assert!(available.starts_with("writes get no answer: the disk of demo-"), "{available}");
    says(&of_leader, ("Degraded", "True", "DiskStalled"));
    let of_follower = told(|_, follower| hangs(follower, 5_001));
    says(&of_follower, ("Available", "True", "QuorumHealthy"));
    says(&of_follower, ("Degraded", "True", "DiskStalled"));
    let merely_slow = told(|_, follower| hangs(follower, 5_000));
    says(&merely_slow, ("Degraded", "False", "Healthy"));
}

#[test]
fn nothing_in_the_conditions_moves_with_traffic() {
    let at = |ms, bytes| {
        told(move |leader, follower| {
            leader.writes = Some(Writes::NoSpace);
            (leader.headroom_bytes, leader.reserve_bytes) = (bytes, 1 << 30);
            leader.no_space = Some(format!("{bytes} bytes are left"));
            (follower.stalled_ms, follower.stalled_on) = (ms, Some(StalledOn::Log));
        })
    };
    assert_eq!(at(6_000, 5), at(7_000, 6 << 20));
}

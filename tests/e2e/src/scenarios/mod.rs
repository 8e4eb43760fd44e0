//! All scenarios, by family. Each reads like a story and ends with `Ending::check`: no lost writes, members that match
//! the pods by member id, no learner left over, and a client Service that answers.

mod admission;
mod bad_input;
mod disks;
mod loss;
mod machines;
mod names;
mod operator;
mod pause;
mod plugin;
mod quickstart;
mod rbac;
mod rollout;
mod size;
mod volumes;

use crate::harness::runner::{Disturbs, Scenario, WANTED};
use crate::harness::{LoadPod, Scene};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long something must stay as it is to count as left alone: two passes of an operator that looks every 2 s.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// Every scenario: those that disturb nobody run together, the long ones first.
#[rustfmt::skip] // One line each, so that it reads as a table.
pub fn all() -> Vec<Scenario> {
    use Disturbs::{Cluster, Nobody, Operator};
    vec![
        story("scale-3-5-3-1-3", "kubectl scale up and down, under load", Nobody, size::scale_up_and_down),
        story("two-clusters-and-two-namespaces", "two clusters in one namespace, and one name in two", Nobody, names::two_clusters_and_two_namespaces),
        story("reapply-first-volume-missing", "delete and apply again without the first volume: adopted, the first repaired", Nobody, volumes::reapply_first_volume_missing),
        story("reapply-volumes-kept", "delete and apply again with the volumes kept: the data is back", Nobody, volumes::reapply_volumes_kept),
        story("bad-image-then-fixed", "an image that does not exist stops at one pod; the next one is rolled out", Nobody, rollout::bad_image_then_fixed),
        long("bad-cpu-limit-corrected", "a CPU limit under which nothing gets ready is put right", 120, Nobody, rollout::bad_cpu_limit_corrected),
        story("status-and-statefulset-deleted", "status and StatefulSet are both lost: the cluster on the volumes is found", Nobody, volumes::status_and_set_deleted),
        long("mutated-statefulsets", "admission changes each StatefulSet: no fight, and a lost volume is repaired", 120, Nobody, admission::mutated_statefulsets),
        story("rolling-update", "another image, one pod at a time", Nobody, rollout::rolling_update),
        story("quorum-lost-and-back", "two of three members end: nothing is destroyed, and all is back with them", Nobody, loss::quorum_lost_and_back),
        story("scale-down-with-a-dead-member", "a scale-down while a lower ordinal is dead waits and says why", Nobody, size::scale_down_with_a_dead_member),
        story("lost-volume", "a pod with its volume is replaced by a new member", Nobody, loss::lost_volume),
        story("first-lost-volume", "the first pod with its volume is replaced like any other", Nobody, loss::first_lost_volume),
        story("unschedulable-then-withdrawn", "a scale-up without room makes no member, and is withdrawn", Nobody, size::unschedulable_then_withdrawn),
        story("edit-3-5-1", "3 -> 5 -> 1 within a second", Nobody, size::edit_within_a_second),
        story("statefulset-scaled-to-zero", "somebody scales the StatefulSet to 0: put right, nothing lost", Nobody, loss::statefulset_scaled_to_zero),
        story("reapply-two-volumes-missing", "delete and apply again with one volume of three: refused, nothing overwritten", Nobody, volumes::reapply_two_volumes_missing),
        story("another-clusters-volume", "a volume of another cluster under a name of ours: refused, and its owner gets it back whole", Nobody, volumes::another_clusters_volume),
        story("suspend-and-resume", "no pods for a while: the same members come back with the data", Nobody, pause::suspend_and_resume),
        story("paused", "an edit of a paused cluster waits until the pause ends", Nobody, pause::paused),
        story("kubectl-raftkv", "the plugin shows, moves the leader, writes and reads", Nobody, plugin::kubectl_raftkv),
        story("spec-refused-later", "what CEL cannot see becomes a condition; the cluster stays as it was", Nobody, bad_input::spec_refused_later),
        story("strangers-volume", "a volume claim of somebody else is not used", Nobody, volumes::strangers_volume),
        story("strangers-service", "a Service of somebody else is left alone", Nobody, names::strangers_service),
        story("delete-leader-pod", "the leader's pod is deleted", Nobody, loss::delete_leader_pod),
        story("status-wiped", "a wiped status is derived anew", Nobody, volumes::status_wiped),
        story("spread-over-nodes", "members are spread over machines", Nobody, size::spread_over_nodes),
        story("apply-3", "kubectl apply of three members", Nobody, size::apply_three),
        story("invalid-specs", "each invalid spec is refused by the API server, which names the field", Nobody, bad_input::invalid_specs),
        story("operator-upgrade", "helm upgrade: the CRD's changes arrive, clusters do not notice", Operator, operator::upgrade),
        story("operator-with-older-crd", "a CRD that lacks a field: the new operator says so and waits, the old one works", Operator, operator::older_crd),
        story("rbac-verbs-dropped", "a right is missing: the operator says which, and goes on when it is back", Operator, rbac::verbs_dropped),
        long("operator-uninstalled", "helm uninstall: clusters and data stay; another release takes over", 90, Operator, operator::uninstalled),
        long("two-namespaced-operators", "two installs, each with its namespace", 90, Operator, operator::two_namespaced),
        long("readme-quickstart", "the three commands of the README", 120, Cluster, quickstart::three_commands),
        story("operator-killed-forming", "killed after every action while it forms a cluster", Cluster, operator::killed_forming),
        long("operator-killed-scaling", "killed after every action of 3 -> 5 and of 5 -> 3", 90, Cluster, operator::killed_scaling),
        story("operator-killed-replacing", "killed after every action while it replaces a lost volume", Cluster, operator::killed_replacing),
        long("hung-disk", "the leader's disk hangs: writes go on, its member is named, nobody is replaced", 120, Cluster, disks::hung_disk),
        story("replace-by-annotation", "a person gives up a member whose machine takes no pods: replaced by the command in the message", Cluster, machines::replace_by_annotation),
        story("drain-and-uncordon", "kubectl drain against the budget, and uncordon", Cluster, machines::drain_and_uncordon),
        long("machine-restarted", "a machine is stopped and started", 90, Cluster, machines::restarted),
        long("machine-away-a-minute", "a machine is away for a minute: nobody is replaced", 150, Cluster, machines::away_a_minute),
        long("machine-gone-for-good", "a machine is gone, and back after its member was replaced", 150, Cluster, machines::gone_for_good),
    ]
}

fn story(name: &'static str, about: &'static str, disturbs: Disturbs, run: fn(&Scene<'_>) -> Result<()>) -> Scenario {
    Scenario { name, about, disturbs, wanted: WANTED, run }
}

/// A scenario that must wait for something that itself takes long.
fn long(
    name: &'static str,
    about: &'static str,
    seconds: u64,
    disturbs: Disturbs,
    run: fn(&Scene<'_>) -> Result<()>,
) -> Scenario {
    Scenario { name, about, disturbs, wanted: Duration::from_secs(seconds), run }
}

/// A cluster `demo` of this many members that serves, with its load.
fn ready<'a>(scene: &'a Scene<'a>, replicas: u32) -> Result<(crate::harness::Cluster<'a>, LoadPod<'a>)> {
    ready_with(scene, replicas, json!({}))
}

/// The same with additional fields of the spec.
fn ready_with<'a>(
    scene: &'a Scene<'a>,
    replicas: u32,
    more: Value,
) -> Result<(crate::harness::Cluster<'a>, LoadPod<'a>)> {
    let demo = scene.cluster("demo");
    let load = LoadPod::start(&demo)?;
    let begun = Instant::now();
    demo.apply_with(replicas, more)?;
    demo.wait_ready(replicas)?;
    if replicas == 3 {
        scene.measured("apply -> 3 ready", begun);
    }
    load.wait_writing()?;
    Ok((demo, load))
}

#[cfg(test)]
mod tests {
    use super::all;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_into_a_namespace() {
        let names: BTreeSet<&str> = all().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().len());
        for name in names {
            assert!(format!("e2e-{name}-2").len() <= 63, "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
        }
    }
}

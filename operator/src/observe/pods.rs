//! The pods of a cluster as they were seen, before their nodes were asked. PURE.

use super::containers::container;
use crate::plan::{Container, Eviction, NodeSeen, Ordinal, PodSeen};
use crate::resources::name;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use raftkv_crds::{RaftKvCluster, child};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The label by which a StatefulSet's controller says what a pod was made from.
const REVISION: &str = "controller-revision-hash";

/// A pod, and where its node can be asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AddressedPod {
    pub seen: PodSeen,
    /// `None` while there is nothing to ask.
    pub address: Option<IpAddr>,
}

/// The pods that run members or may come to. `revision` is the newest revision of the StatefulSet.
pub(super) fn addressed(
    cluster: &RaftKvCluster,
    pods: &[Arc<Pod>],
    revision: Option<&str>,
) -> BTreeMap<Ordinal, AddressedPod> {
    pods.iter().filter_map(|pod| Some((ordinal(cluster, pod)?, with_address(pod, revision)))).collect()
}

/// The ordinal of a pod of this cluster's StatefulSet. A pod whose StatefulSet was deleted without it has no owner, but
/// still runs a member. A pod that something else controls only has the same label.
fn ordinal(cluster: &RaftKvCluster, pod: &Pod) -> Option<Ordinal> {
    let pod_name = pod.metadata.name.as_deref()?;
    let ordinal =
        child::ordinal(pod_name, name(cluster)).filter(|ordinal| child::pod(name(cluster), *ordinal) == pod_name)?;
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let ours = controller.is_none_or(|owner| owner.kind == "StatefulSet" && owner.name == name(cluster));
    ours.then_some(ordinal)
}

fn with_address(pod: &Pod, revision: Option<&str>) -> AddressedPod {
    let container = container(pod);
    let status = pod.status.as_ref();
    let address = status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
    let why = match (&container, address) {
        (Container::Running, Some(_)) => "it was not asked",
        (Container::Running, None) => "its pod has no address",
        (Container::Unscheduled(_) | Container::Starting | Container::Failing(_), _) => "its container does not run",
    };
    let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    AddressedPod {
        seen: PodSeen {
            uid: pod.uid().unwrap_or_default(),
            resource_version: pod.resource_version().unwrap_or_default(),
            outdated: revision
                .is_some_and(|newest| pod.labels().get(REVISION).is_none_or(|made_from| made_from != newest)),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            ready: conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            eviction: Eviction::default(),
            node: NodeSeen::Unreachable(why.to_string()),
            container: container.clone(),
        },
        address: address.filter(|_| container == Container::Running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::cluster;
    use serde_json::{Value, json};

    fn seen(pod: Value) -> Option<(Ordinal, AddressedPod)> {
        let pods = [Arc::new(serde_json::from_value(pod).unwrap())];
        addressed(&cluster(json!({})), &pods, Some("demo-new")).pop_first()
    }

    fn pod(name: &str) -> Value {
        json!({
            "metadata": {"name": name, "uid": "u", "resourceVersion": "5", "labels": {"controller-revision-hash": "demo-new"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "demo", "uid": "s", "controller": true}]},
            "spec": {"nodeName": "worker-1", "containers": []},
            "status": {"podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
                {"name": "raftkv", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]},
        })
    }

    #[test]
    fn a_running_pod_can_be_asked() {
        let (ordinal, pod) = seen(pod("demo-2")).unwrap();
        assert_eq!((ordinal, pod.address), (2, Some(IpAddr::from([10, 0, 0, 7]))));
        assert!(pod.seen.ready && !pod.seen.outdated && !pod.seen.terminating);
        assert_eq!((pod.seen.container, pod.seen.machine.as_deref()), (Container::Running, Some("worker-1")));
        assert_eq!((pod.seen.uid.as_str(), pod.seen.resource_version.as_str()), ("u", "5"));
    }

    #[test]
    fn a_pod_whose_container_does_not_run_is_not_asked() {
        let mut waiting = pod("demo-0");
        waiting["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "ContainerCreating"}});
        let (_, pod) = seen(waiting).unwrap();
        assert_eq!((pod.address, pod.seen.container), (None, Container::Starting));
    }

    #[test]
    fn a_pod_of_an_older_template_is_outdated() {
        for label in [json!({"controller-revision-hash": "demo-old"}), json!({})] {
            let mut old = pod("demo-0");
            old["metadata"]["labels"] = label;
            assert!(seen(old).unwrap().1.seen.outdated);
        }
    }

    #[test]
    fn pods_that_borrowed_the_label_are_nobodys_member() {
        for name in ["demo-x", "other-0", "raftkv-demo-0", "demo-01"] {
            assert_eq!(seen(pod(name)), None, "{name}");
        }
        let mut job = pod("demo-0");
        job["metadata"]["ownerReferences"][0]["kind"] = json!("Job");
        assert_eq!(seen(job), None);
        let mut orphan = pod("demo-0");
        orphan["metadata"]["ownerReferences"] = json!([]);
        assert!(seen(orphan).is_some());
    }
}

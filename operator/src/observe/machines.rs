//! Kubernetes nodes and volumes of members that do not answer (rule O13). They are looked up live, and only for such
//! members: a machine that is gone is the only reason to give up a volume without being told by a person.

use super::pods::AddressedPod;
use super::{claims, objects};
use crate::plan::{ClaimSeen, Machine, NodeSeen, Ordinal};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use kube::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The taint by which a person, or a controller that fences machines, vouches that nothing runs there any more.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Looks up what members that do not answer depend on: sets [`ClaimSeen::machine`] and returns the machines.
pub(super) async fn look_up(
    client: &Client,
    pods: &BTreeMap<Ordinal, AddressedPod>,
    objects: &[Arc<PersistentVolumeClaim>],
    seen: &mut BTreeMap<Ordinal, ClaimSeen>,
) -> BTreeMap<String, Machine> {
    let mut names = BTreeSet::new();
    for (ordinal, pod) in pods.iter().filter(|(_, pod)| is_silent(pod)) {
        names.extend(pod.seen.machine.clone());
        let Some(seen) = seen.get_mut(ordinal) else { continue };
        let claim = objects.iter().find(|claim| claim.metadata.uid.as_ref() == Some(&seen.uid));
        seen.machine = match claim {
            Some(claim) => tied_to(client, claim).await,
            None => None,
        };
        names.extend(seen.machine.clone());
    }
    let mut machines = BTreeMap::new();
    for name in names {
        let machine = machine(client, &name).await;
        machines.insert(name, machine);
    }
    machines
}

fn is_silent(pod: &AddressedPod) -> bool {
    match pod.seen.node {
        NodeSeen::Answered(_) => false,
        NodeSeen::Unreachable(_) => true,
    }
}

async fn tied_to(client: &Client, claim: &PersistentVolumeClaim) -> Option<String> {
    let name = claims::volume(claim)?;
    match objects::volume(client, name).await {
        Ok(volume) => claims::tied_to(claim, &volume?),
        Err(error) => {
            tracing::debug!(%error, "what the volume is tied to is not known");
            None
        }
    }
}

async fn machine(client: &Client, name: &str) -> Machine {
    match objects::node(client, name).await {
        Ok(None) => Machine::Gone,
        Ok(Some(node)) if is_out_of_service(&node) => Machine::OutOfService,
        Ok(Some(_)) => Machine::Present,
        // Without the right to read it, or without an answer, there is no proof that it is gone.
        Err(error) => {
            tracing::debug!(%error, "the state of the machine is not known");
            Machine::Unknown
        }
    }
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
}

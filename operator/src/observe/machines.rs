//! Kubernetes nodes and volumes of members that do not answer (rule O13). They are looked up live, and only for such
//! members: a machine that is gone is the only reason to give up a volume without being told by a person.

use super::claims::Tie;
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
    let mut ties = BTreeSet::new();
    for (ordinal, pod) in pods.iter().filter(|(_, pod)| is_silent(pod)) {
        ties.extend(pod.seen.machine.clone().map(Tie::Name));
        let Some(seen) = seen.get_mut(ordinal) else { continue };
        let claim = objects.iter().find(|claim| claim.metadata.uid.as_ref() == Some(&seen.uid));
        let tie = match claim {
            Some(claim) => tied_to(client, claim).await,
            None => None,
        };
        seen.machine = tie.as_ref().map(Tie::text);
        ties.extend(tie);
    }
    let mut machines = BTreeMap::new();
    for tie in ties {
        let machine = machine(client, &tie).await;
        machines.insert(tie.text(), machine);
    }
    machines
}

fn is_silent(pod: &AddressedPod) -> bool {
    match pod.seen.node {
        NodeSeen::Answered(_) => false,
        NodeSeen::Unreachable(_) => true,
    }
}

async fn tied_to(client: &Client, claim: &PersistentVolumeClaim) -> Option<Tie> {
    let name = claims::volume(claim)?;
    match objects::volume(client, name).await {
        Ok(volume) => claims::tied_to(&volume?),
        Err(error) => {
            tracing::debug!(%error, "what the volume is tied to is not known");
            None
        }
    }
}

/// The Nodes are listed live: an empty list is the word of the API server that the machine is gone.
async fn machine(client: &Client, tie: &Tie) -> Machine {
    match objects::nodes(client, tie).await {
        Ok(nodes) if nodes.is_empty() => Machine::Gone,
        Ok(nodes) if nodes.iter().all(is_out_of_service) => Machine::OutOfService,
        Ok(_) => Machine::Present,
        // Without the right to read them, or without an answer, there is no proof that it is gone.
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

//! What the operator sees: the nodes of the pods as `GET /v1/status` would show them, and the rest of [`Observed`].

use super::kubernetes::{Claim, Kubernetes, Pod};
use jiff::Timestamp;
use raftkv_api::{DecimalId, Hex128, KvState, Members, NodeState, Serves, Status};
use raftkv_core::driver::{DriverStatus, Role};
use raftkv_core::driver::{describe_members, describe_peer, members_answer};
use raftkv_operator::plan::{
    Child, ChildSeen, ClaimSeen, Container, Desired, Eviction, Latch, Memory, NodeSeen, Observed, Ordinal, PodSeen,
    Set, SetSeen,
};
use raftkv_sim::node::{Life, SimNode};
use raftkv_sim::rng::Rng;
use raftkv_sim::world::World;
use std::collections::{BTreeMap, BTreeSet};

/// As the world's `init` draws it.
pub const CLUSTER_ID: Hex128 = Hex128([1; 16]);
/// The uid of the custom resource.
pub const UID: &str = "cr-1";
/// Steps of the simulation in a second; a tick of 50 ms takes a node about a hundred of them.
const STEPS_A_SECOND: u64 = 2_000;
/// How many of a thousand nodes do not answer in time.
const UNANSWERED_PER_MILLE: u64 = 40;

pub fn desired(replicas: u32) -> Desired {
    Desired {
        name: "demo".to_string(),
        uid: UID.to_string(),
        generation: 1,
        generation_in_force: Some(1),
        replicas,
        suspend: false,
        paused: false,
        strict_budget: false,
        replace: None,
        progress_deadline_s: 600,
        lost_node_s: 300,
        image: "raftkv:dev".to_string(),
        peer_domain: "demo-peers".to_string(),
        invalid: None,
    }
}

pub fn observe(world: &World, kubernetes: &Kubernetes, revision: u64, memory: &Memory, rng: &mut Rng) -> Observed {
    let mut pods = BTreeMap::new();
    for (ordinal, pod) in &kubernetes.pods {
        let Some(slot) = kubernetes.slot(*ordinal) else { continue };
        let answers = !world.is_paused(slot) && (world.is_healed() || !rng.chance(UNANSWERED_PER_MILLE));
        pods.insert(*ordinal, see_pod(&world.nodes()[slot], pod, kubernetes.revision, answers));
    }
    let children = [Child::Auth, Child::Peers, Child::Client, Child::Budget];
    Observed {
        now: time(world.now),
        fresh_cluster_id: Hex128([9; 16]),
        latch: Latch { cluster_id: Some(CLUSTER_ID), bootstrap: None, bootstrapped: true },
        memory: memory.clone(),
        children: children.into_iter().map(|child| (child, ChildSeen::Good)).collect(),
        set: SetSeen::Ours(Set {
            resource_version: kubernetes.set_version.to_string(),
            created: time(0),
            replicas: kubernetes.replicas,
            differs: kubernetes.revision != revision,
            held: false,
            settled: true,
            bootstrap: None,
            budget: kubernetes.budget,
        }),
        claims: kubernetes.claims.iter().map(|(ordinal, claim)| (*ordinal, see_claim(claim))).collect(),
        members: members(&pods, world, kubernetes),
        pods,
        machines: BTreeMap::new(),
        token_refused: BTreeSet::new(),
    }
}

fn time(step: u64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + (step / STEPS_A_SECOND) as i64).unwrap()
}

fn see_claim(claim: &Claim) -> ClaimSeen {
    ClaimSeen {
        uid: claim.uid.to_string(),
        resource_version: claim.version.to_string(),
        created: time(0),
        by_set: true,
        cluster_uid: claim.labelled.then(|| UID.to_string()),
        owner: claim.owner,
        terminating: claim.terminating,
        bound: true,
        machine: None,
    }
}

fn see_pod(node: &SimNode, pod: &Pod, revision: u64, answers: bool) -> PodSeen {
    let status = status(node).filter(|_| answers);
    let serves = node.running().is_some_and(|running| {
        let status = running.driver.status();
        running.view().is_some() && status.leader != 0 && status.membership.votes(status.id)
    });
    PodSeen {
        uid: pod.uid.to_string(),
        resource_version: "1".to_string(),
        outdated: pod.revision != revision,
        terminating: pod.terminating,
        ready: serves,
        container: Container::Running,
        machine: None,
        eviction: Eviction::Possible,
        node: status.map_or_else(
            || NodeSeen::Unreachable("no answer".to_string()),
            |status| {
                let says = if serves { Serves::Yes } else { Serves::NoRead };
                NodeSeen::Answered(Box::new(Status { serves: Some(says), ..status }))
            },
        ),
    }
}

/// The linearizable membership: that of the newest leader that was reached. A leader has none if it was deposed and
/// does not know that, or has not yet applied what another member has.
fn members(pods: &BTreeMap<Ordinal, PodSeen>, world: &World, kubernetes: &Kubernetes) -> Option<Members> {
    let leads = |(ordinal, pod): (&Ordinal, &PodSeen)| match &pod.node {
        NodeSeen::Answered(status) if status.leader_id.is_some() && status.leader_id == status.member_id => {
            Some((*ordinal, status.term))
        }
        NodeSeen::Answered(_) | NodeSeen::Unreachable(_) => None,
    };
    let (ordinal, _) = pods.iter().filter_map(leads).max_by_key(|(_, term)| *term)?;
    let status = world.nodes()[kubernetes.slot(ordinal)?].status()?;
    let others = || world.nodes().iter().filter_map(SimNode::status);
    let deposed = others().any(|other| other.role == Role::Leader && other.term > status.term);
    if deposed || others().any(|other| other.membership.conf_index > status.membership.conf_index) {
        return None;
    }
    Some(members_answer(CLUSTER_ID, &status, |_| None))
}

/// What a node answers; `None` while no process runs.
fn status(node: &SimNode) -> Option<Status> {
    let mut status = empty(node);
    match &node.life {
        Life::Down | Life::Lost => return None,
        Life::Blank => status.state = NodeState::Blank,
        Life::Quarantined(why) => (status.state, status.reason) = (NodeState::Quarantined, Some(why.clone())),
        Life::Removed => status.state = NodeState::Removed,
        Life::Running(running) => fill(&mut status, &running.driver.status()),
    }
    Some(status)
}

fn fill(status: &mut Status, driver: &DriverStatus) {
    let membership = &driver.membership;
    status.state = match (driver.removed, membership.votes(driver.id)) {
        (true, _) => NodeState::Removed,
        (false, true) => NodeState::Voter,
        (false, false) => NodeState::Learner,
    };
    status.term = driver.term;
    status.leader_id = (driver.leader != 0).then_some(DecimalId(driver.leader));
    status.conf_index = membership.conf_index;
    status.durable_conf_index = driver.durable_conf_index;
    status.can_lead = driver.can_lead;
    status.formed = membership.formed;
    status.members = describe_members(membership, |_| None);
    status.joint = membership.is_joint();
    if driver.role == Role::Leader {
        status.peers = driver.peers.iter().map(|peer| describe_peer(membership, peer)).collect();
    }
}

fn empty(node: &SimNode) -> Status {
    let id = node.identity;
    Status {
        incarnation: Some(node.incarnation),
        cluster_id: id.map(|id| id.cluster_id),
        genesis: id.map(|id| id.genesis),
        member_id: id.map(|id| DecimalId(id.member_id)),
        kv: KvState::Ready,
        peer_url: node.peer().url(),
        ..Status::opening(node.name.clone(), "0.1.0")
    }
}

//! Clusters in some states, as Kubernetes and the nodes show them, for tests to look at.
//!
//! A world is made healthy and then changed. What it shows as a `RaftKvCluster` must parse as the custom resource of
//! `raftkv-crds`, which is strict, so that a field that is renamed there fails a test here.

use crate::kube::testing::FakeKubectl;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use raftkv_api::{DecimalId, Hex128, LeaderRef, Member, MemberRole, Members, NodeState, Peer, Status, Writes};
use raftkv_client::testing::{Reply, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// When all tests happen.
pub(crate) const NOW: &str = "2026-01-01T12:00:00Z";
/// The uid of the cluster.
pub(crate) const UID: &str = "5b3e9f0c-0000-4000-8000-000000000001";
/// The token in its Secret.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CREATED: &str = "2026-01-01T09:00:00Z";
const CLUSTER_ID: Hex128 = Hex128([7; 16]);

/// Everything that can be seen of a cluster `demo` in namespace `prod`.
pub(crate) struct World {
    pub cluster: Value,
    pub pods: BTreeMap<String, Value>,
    pub claims: BTreeMap<String, Value>,
    pub events: Vec<Value>,
    pub operators: Vec<Value>,
    /// By pod; a pod without one does not answer.
    pub nodes: BTreeMap<String, Status>,
    /// What a majority says, if there is one.
    pub members: Option<Members>,
}

/// A world that is being looked at.
pub(crate) struct Shown {
    pub fake: FakeKubectl,
    _servers: Vec<Server>,
}

impl World {
    /// Three members, of which the second leads.
    pub(crate) fn healthy() -> World {
        let names = ["demo-0", "demo-1", "demo-2"];
        let members: Vec<Member> = (1..).zip(names).map(|(id, name)| member(id, name, MemberRole::Voter)).collect();
        let mut world = World {
            cluster: cluster(&members),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            events: vec![
                event(
                    "RaftKvCluster",
                    "demo",
                    "Normal",
                    "MemberPromoted",
                    "2026-01-01T11:57:30Z",
                    "member 3 (demo-2) votes",
                ),
                event(
                    "Pod",
                    "demo-2",
                    "Normal",
                    "Started",
                    "2026-01-01T11:57:00Z",
                    "a pod's normal events are not shown",
                ),
            ],
            operators: vec![operator(1)],
            nodes: BTreeMap::new(),
            members: None,
        };
        for (id, name) in (1..).zip(names) {
            world.add_pod(name, &format!("worker-{id}"));
            world.claims.insert(format!("raftkv-{name}"), claim(name, Some(id)));
            world.nodes.insert(name.to_string(), node(id, name, 63_446));
        }
        world.set_members(members);
        world
    }

    /// Gives the membership to a majority and to every node.
    pub(crate) fn set_members(&mut self, members: Vec<Member>) {
        for status in self.nodes.values_mut() {
            status.members = members.clone();
        }
        let (joint, leader) = (false, Some(DecimalId(2)));
        self.members =
            Some(Members { cluster_id: CLUSTER_ID, conf_index: 5, joint, leader, members, removed: Vec::new() });
    }

    /// A pod that is ready.
    pub(crate) fn add_pod(&mut self, name: &str, machine: &str) {
        self.pods.insert(name.to_string(), pod(name, machine));
    }

    /// The pod is there and does not run, for this reason.
    pub(crate) fn stop_pod(&mut self, name: &str, reason: &str) {
        let status = json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason}}}]});
        self.pods.get_mut(name).unwrap()["status"] = status;
        self.nodes.remove(name);
    }

    /// Status, reason and message of a condition.
    pub(crate) fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let conditions = self.cluster["status"]["conditions"].as_array_mut().unwrap();
        let found = conditions.iter_mut().find(|condition| condition["type"] == kind).unwrap();
        *found = condition(kind, status, reason, message);
    }

    pub(crate) fn status(&mut self) -> &mut Value {
        &mut self.cluster["status"]
    }

    /// Starts what shows it.
    pub(crate) async fn show(&self) -> Shown {
        serde_json::from_value::<raftkv_crds::RaftKvCluster>(self.cluster.clone()).unwrap();
        let fake = FakeKubectl::new();
        let list = |items: Vec<&Value>| json!({"items": items}).to_string();
        fake.answer("get raftkvclusters.raftkv.dev", &list(vec![&self.cluster]));
        fake.answer("get raftkvclusters.raftkv.dev demo", &self.cluster.to_string());
        fake.answer("get pods", &list(self.pods.values().collect()));
        fake.answer("get persistentvolumeclaims", &list(self.claims.values().collect()));
        fake.answer("get events", &list(self.events.iter().collect()));
        fake.answer("get deployments.apps --all-namespaces", &list(self.operators.iter().collect()));
        let token = json!({"data": {"token": STANDARD.encode(format!("{TOKEN}\n"))}});
        fake.answer("get secret demo-auth", &token.to_string());
        let mut servers = Vec::new();
        for (pod, status) in &self.nodes {
            let mut script = vec![Reply::json(200, status)];
            if status.leader_id.is_some() && status.leader_id == status.member_id {
                script.extend(self.members.iter().map(|members| Reply::json(200, members)));
            }
            script.push(Reply::Answer(200, vec![], "raftkv_is_leader 1\n".into()));
            let server = Server::start(script).await;
            fake.forward(pod, server.url());
            servers.push(server);
        }
        Shown { fake, _servers: servers }
    }
}

/// The moment of all tests.
pub(crate) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(crate) fn member(id: u64, name: &str, role: MemberRole) -> Member {
    Member {
        id: DecimalId(id),
        name: name.to_string(),
        peer_url: format!("http://{name}.demo-peers.prod.svc.cluster.local:2380"),
        incarnation: Hex128([id as u8; 16]),
        role,
        client_url: None,
        admin_url: Some(format!("http://{name}.demo-peers.prod.svc.cluster.local:2381")),
    }
}

/// A voter that follows member 2, or is it.
pub(crate) fn node(id: u64, name: &str, applied: u64) -> Status {
    let mut status = raftkv_client::testing::status(id);
    status.name = name.to_string();
    status.version = "0.1.0".to_string();
    status.leader_id = Some(DecimalId(2));
    status.leader = Some(LeaderRef { name: "demo-1".to_string(), client_url: None, admin_url: None });
    (status.commit, status.applied, status.last_index) = (63_446, applied, 63_446);
    status.state_hash = status.state_hash.map(|hash| raftkv_api::StateHash { applied, ..hash });
    if id == 2 {
        let peer = |id: u64| Peer {
            id: DecimalId(id),
            name: format!("demo-{}", id - 1),
            active: true,
            caught_up: true,
            matched: 63_446,
            applied: 63_446,
            durable_conf_index: 5,
            free_bytes: 1,
            headroom_bytes: 1,
            reserve_bytes: 0,
            stalled_ms: 0,
            volume_bytes: 1 << 30,
        };
        status.peers = vec![peer(1), peer(3)];
    }
    leads(&mut status, id == 2);
    status
}

/// Whether it is the leader and takes writes.
pub(crate) fn leads(status: &mut Status, leads: bool) {
    (status.writes, status.quorum_contact_ms) = (leads.then_some(Writes::Ok), leads.then_some(50));
}

/// A node on an empty disk.
pub(crate) fn blank(name: &str) -> Status {
    let mut status = node(9, name, 0);
    status.state = NodeState::Blank;
    (status.cluster_id, status.member_id, status.leader_id, status.leader) = (None, None, None, None);
    (status.members, status.state_hash, status.term) = (Vec::new(), None, 0);
    status
}

fn cluster(members: &[Member]) -> Value {
    let row = |member: &Member| {
        json!({
            "id": member.id, "name": member.name, "incarnation": member.incarnation, "state": "Voter", "ready": true,
            "role": if member.id.0 == 2 { "Leader" } else { "Voter" }, "caughtUp": true, "version": "0.1.0",
            "node": format!("worker-{}", member.id.0), "claim": format!("raftkv-{}", member.name),
        })
    };
    json!({
        "apiVersion": "raftkv.dev/v1alpha1",
        "kind": "RaftKvCluster",
        "metadata": {"name": "demo", "namespace": "prod", "uid": UID, "generation": 1, "creationTimestamp": CREATED},
        "spec": {"replicas": 3},
        "status": {
            "observedGeneration": 1, "clusterID": CLUSTER_ID, "bootstrapped": true, "replicas": 3, "readyReplicas": 3,
            "voters": 3, "learners": 0, "quorum": 2, "leader": {"name": "demo-1", "memberID": "2"},
            "members": members.iter().map(row).collect::<Vec<_>>(),
            "conditions": [
                condition("Ready", "True", "AllMembersReady", "3 members serve"),
                condition("Available", "True", "QuorumHealthy", "a quorum of the voters answers and has a leader"),
                condition("Progressing", "False", "UpToDate", "nothing is to be done"),
                condition("Degraded", "False", "Healthy", "nothing is wrong"),
            ],
        },
    })
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let since = "2026-01-01T11:57:40Z";
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
}

fn pod(name: &str, machine: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-of-{name}")},
        "spec": {"nodeName": machine, "containers": [{"name": "raftkv", "env": [{"name": "STRANGE", "value": "strange value"}]}]},
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"restartCount": 0, "state": {"running": {}}}],
        },
    })
}

/// The claim of a pod, with this member's data.
pub(crate) fn claim(pod: &str, member: Option<u64>) -> Value {
    let mut claim = json!({
        "metadata": {
            "name": format!("raftkv-{pod}"), "namespace": "prod", "creationTimestamp": CREATED,
            "labels": {"raftkv.dev/cluster-uid": UID}, "annotations": {},
        },
        "spec": {"storageClassName": "standard", "resources": {"requests": {"storage": "10Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}},
    });
    if let Some(id) = member {
        claim["metadata"]["annotations"] =
            json!({"raftkv.dev/cluster-id": CLUSTER_ID, "raftkv.dev/member-id": id.to_string()});
    }
    claim
}

pub(crate) fn event(kind: &str, name: &str, class: &str, reason: &str, at: &str, message: &str) -> Value {
    json!({
        "metadata": {"name": format!("{name}.{reason}"), "namespace": "prod"},
        "involvedObject": {"kind": kind, "name": name}, "type": class, "reason": reason, "message": message,
        "eventTime": at, "firstTimestamp": null, "lastTimestamp": null,
    })
}

/// The operator's Deployment, with so many pods available.
pub(crate) fn operator(available: u32) -> Value {
    json!({
        "metadata": {"name": "raftkv-operator", "namespace": "raftkv-system"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"env": [{"name": "RAFTKV_WATCH_NAMESPACE", "value": ""}]}]}}},
        "status": {"availableReplicas": available},
    })
}

//! What an operator sees of the world: [`Desired`] and [`Observed`], as its reads would give them.

use super::kube::STRANGER;
use super::raft::Conf;
use super::{Claim, NAME, Pod, Stage, World, hex, time};
use raftkv_api::{DecimalId, Member, MemberRole, Members, NodeState, Peer, RemovedMember, Serves, Status};
use raftkv_crds::child;
use raftkv_operator::plan::{
    Child, ChildSeen, ClaimSeen, Container, Desired, Eviction, Machine, NodeSeen, Observed, Ordinal, PodSeen, Set,
    SetSeen,
};
use std::collections::{BTreeMap, BTreeSet};

/// How long disruption budgets have a say about a pod.
const EVICTION_S_MAX: i64 = 60;

/// Uid of the custom resource, in words.
pub fn uid(uid: u32) -> String {
    format!("cr-{uid}")
}

/// What follows a pod's name in its URL.
fn peer_domain(namespace: u32) -> String {
    match namespace {
        0 => "demo-peers.ns.svc.cluster.local".to_string(),
        other => format!("demo-peers.ns-{other}.svc.cluster.local"),
    }
}

/// The name of a machine.
pub fn machine(at: usize) -> String {
    format!("worker-{at}")
}

impl World {
    pub fn desired(&self) -> Desired {
        Desired {
            name: NAME.to_string(),
            uid: uid(self.uid),
            generation: self.generation,
            generation_in_force: Some(self.generation),
            replicas: self.spec.replicas,
            suspend: self.spec.suspend,
            paused: self.spec.paused,
            strict_budget: self.spec.strict,
            replace: self.spec.replace,
            progress_deadline_s: 600,
            lost_node_s: 300,
            image: format!("raftkv:{}", self.spec.template.revision),
            peer_domain: peer_domain(self.namespace),
            invalid: self.faults.invalid.then(|| "spec.config.quota: it is no number".to_string()),
        }
    }

    pub fn observe(&self) -> Observed {
        let children = [Child::Auth, Child::Peers, Child::Client, Child::Budget];
        Observed {
            now: self.now(),
            fresh_cluster_id: hex(self.counter + 500_000),
            latch: self.latch.clone(),
            memory: self.memory.clone(),
            children: children.into_iter().map(|child| (child, self.see_child(child))).collect(),
            set: self.see_set(),
            claims: self.claims.iter().map(|(at, claim)| (*at, see_claim(claim))).collect(),
            pods: self.pods.iter().map(|(at, pod)| (*at, self.see_pod(*at, pod))).collect(),
            members: self.see_members(),
            machines: self.see_machines(),
            token_refused: BTreeSet::new(),
        }
    }

    fn see_child(&self, child: Child) -> ChildSeen {
        match self.children.get(&child) {
            None => ChildSeen::Absent,
            Some(None) => ChildSeen::Taken("it has no owner".to_string()),
            Some(Some(owner)) if *owner == self.uid => ChildSeen::Good,
            Some(Some(_)) => ChildSeen::Leaving,
        }
    }

    fn see_set(&self) -> SetSeen {
        let Some(set) = &self.set else { return SetSeen::Absent };
        if set.owner == STRANGER {
            return SetSeen::Taken("it has no owner".to_string());
        }
        if set.owner != self.uid {
            return SetSeen::Leaving;
        }
        // While the newest spec cannot come into force, the last good one stays, and nothing differs from it.
        let keeps = self.faults.invalid || self.memory.failed.is_some();
        SetSeen::Ours(Set {
            resource_version: set.version.to_string(),
            created: time(set.created),
            replicas: set.replicas,
            differs: !keeps && set.template != self.spec.template,
            held: self.memory.failed.is_some(),
            settled: set.seen_template == set.template,
            bootstrap: set.bootstrap,
            budget: self.budget,
        })
    }

    fn see_pod(&self, ordinal: Ordinal, pod: &Pod) -> PodSeen {
        let container = match pod.stage {
            Stage::Unscheduled => Container::Unscheduled("0/3 nodes are available".to_string()),
            Stage::Starting => Container::Starting,
            Stage::Failing => Container::Failing("ImagePullBackOff".to_string()),
            Stage::Opening | Stage::Running { .. } => Container::Running,
        };
        let seen = !self.cut && !self.faults.unseen.contains(&ordinal);
        let reachable = seen && pod.machine.is_some_and(|machine| self.machines[machine].up);
        let node = match pod.stage {
            Stage::Opening | Stage::Running { .. } if reachable => {
                NodeSeen::Answered(Box::new(self.see_node(ordinal, pod)))
            }
            Stage::Opening | Stage::Running { .. } => NodeSeen::Unreachable("connection timed out".to_string()),
            Stage::Unscheduled | Stage::Starting | Stage::Failing => {
                NodeSeen::Unreachable("it has no address".to_string())
            }
        };
        PodSeen {
            uid: pod.uid.to_string(),
            resource_version: pod.version.to_string(),
            outdated: self.set.as_ref().is_some_and(|set| set.template != pod.template),
            terminating: pod.terminating,
            ready: pod.ready,
            container,
            machine: pod.machine.map(machine),
            eviction: match self.refused.get(&pod.uid) {
                None => Eviction::Possible,
                Some(since) if self.clock - since < EVICTION_S_MAX => Eviction::Refused,
                Some(_) => Eviction::GivenUp,
            },
            node,
        }
    }

    fn see_node(&self, ordinal: Ordinal, pod: &Pod) -> Status {
        let mut status = Status::opening(child::pod(NAME, ordinal), "0.1.0");
        let (Some(applied), Some(disk)) = (self.applied(pod), self.disk(ordinal)) else { return status };
        status.incarnation = Some(hex(disk.incarnation));
        let Some(member) = &disk.member else {
            status.state = NodeState::Blank;
            return status;
        };
        let raft = &self.rafts[&member.genesis];
        status.cluster_id = Some(raft.cluster_id);
        status.genesis = Some(hex(member.genesis));
        status.member_id = Some(DecimalId(member.id));
        if member.quarantined || member.told_removed {
            status.state = if member.quarantined { NodeState::Quarantined } else { NodeState::Removed };
            status.diverged = member.diverged;
            status.reason = Some("the log is behind its proof".to_string());
            return status;
        }
        let (conf, conf_index) = raft.conf_at(applied.max(1));
        status.state = match (applied, conf.votes(member.id)) {
            (0, _) => NodeState::Learner,
            (_, true) => NodeState::Voter,
            (_, false) if conf.members.contains_key(&member.id) => NodeState::Learner,
            (_, false) => NodeState::Removed,
        };
        if applied > 0 {
            status.members = members(conf);
            status.joint = conf.joint();
            status.conf_index = conf_index as u64;
            status.formed = conf.formed;
            status.can_lead = true;
        }
        status.serves = Some(if pod.ready { Serves::Yes } else { Serves::NoRead });
        status.last_index = member.matched as u64;
        status.stalled_ms = if self.hung.contains(&pod.uid) { 60_000 } else { 0 };
        status.no_space = self.faults.full.contains(&ordinal).then(|| "puts are refused: no space".to_string());
        status.reserve_bytes = u64::from(self.faults.full.contains(&ordinal));
        status.durable_conf_index = if member.durable == 0 { 0 } else { raft.conf_at(member.durable).1 as u64 };
        status.term = raft.term;
        status.leader_id = raft.leader.map(DecimalId);
        if raft.leader == Some(member.id) {
            status.peers = self.see_peers(member.genesis, member.id, conf);
        }
        status
    }

    fn see_peers(&self, genesis: u64, leader: u64, conf: &Conf) -> Vec<Peer> {
        let raft = &self.rafts[&genesis];
        let peer = |(id, identity): (&u64, &super::raft::Identity)| {
            let disks = self.claims.values().filter_map(|claim| claim.disk.as_ref()?.member.as_ref());
            let disk = disks.into_iter().find(|member| member.genesis == genesis && member.id == *id);
            let durable = disk.map_or(0, |member| member.durable);
            Peer {
                id: DecimalId(*id),
                name: identity.name.clone(),
                active: self.is_active(genesis, *id),
                caught_up: self.is_caught_up(genesis, *id),
                matched: disk.map_or(0, |member| member.matched as u64),
                applied: 0,
                durable_conf_index: if durable == 0 { 0 } else { raft.conf_at(durable).1 as u64 },
                free_bytes: 0,
                headroom_bytes: 0,
                reserve_bytes: 0,
                stalled_ms: 0,
                volume_bytes: 0,
            }
        };
        conf.members.iter().filter(|(id, _)| **id != leader).map(peer).collect()
    }

    /// The linearizable membership, from a leader that works and is reached.
    fn see_members(&self) -> Option<Members> {
        let (genesis, raft) = self.rafts.iter().find(|(_, raft)| Some(raft.cluster_id) == self.latch.cluster_id)?;
        let leader = raft.leader.filter(|id| !self.cut && self.leads(*genesis, *id))?;
        let conf = raft.conf();
        let removed = |(id, (identity, index)): (&u64, &(super::raft::Identity, usize))| RemovedMember {
            id: DecimalId(*id),
            name: identity.name.clone(),
            incarnation: hex(identity.incarnation),
            index: *index as u64,
        };
        Some(Members {
            cluster_id: raft.cluster_id,
            conf_index: raft.conf_index() as u64,
            joint: conf.joint(),
            leader: Some(DecimalId(leader)),
            members: members(conf),
            removed: conf.removed.iter().map(removed).collect(),
        })
    }

    fn see_machines(&self) -> BTreeMap<String, Machine> {
        let state = |state: &super::MachineState| match (state.present, state.out_of_service) {
            (false, _) => Machine::Gone,
            (true, true) => Machine::OutOfService,
            (true, false) => Machine::Present,
        };
        self.machines.iter().enumerate().map(|(at, it)| (machine(at), state(it))).collect()
    }
}

fn see_claim(claim: &Claim) -> ClaimSeen {
    ClaimSeen {
        uid: claim.uid.to_string(),
        resource_version: claim.version.to_string(),
        created: time(claim.created),
        by_set: true,
        cluster_uid: claim.cluster_uid.map(uid),
        owner: claim.owner,
        terminating: claim.terminating,
        bound: claim.machine.is_some() || claim.disk.is_some(),
        machine: claim.machine.map(machine),
    }
}

fn members(conf: &Conf) -> Vec<Member> {
    let role = |id: &u64| match (conf.voters.contains(id), conf.outgoing.contains(id)) {
        (true, _) => MemberRole::Voter,
        (false, true) => MemberRole::Outgoing,
        (false, false) => MemberRole::Learner,
    };
    let member = |(id, identity): (&u64, &super::raft::Identity)| Member {
        id: DecimalId(*id),
        name: identity.name.clone(),
        peer_url: format!("http://{}.{}:2380", identity.name, peer_domain(identity.home)),
        incarnation: hex(identity.incarnation),
        role: role(id),
        client_url: None,
        admin_url: None,
    };
    conf.members.iter().map(member).collect()
}

//! How every scenario ends: nothing is lost, members match the pods by member id, no learner is left over, and volumes
//! are as expected.

use crate::harness::api::Kind;
use crate::harness::cluster::Cluster;
use crate::harness::load_pod::LoadPod;
use crate::harness::wait::holds;
use anyhow::{Result, bail, ensure};
use raftkv_api::{MemberRole, NodeState};
use raftkv_crds::{annotation, label};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a cluster must be like at the end of a scenario.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Number of its members.
    pub replicas: u32,
    /// Volume claims that may be left over: those of pods that never joined, which the operator does not delete.
    pub spare_claims: Vec<u32>,
}

impl Ending {
    /// This many members, each with its volume, and nothing else.
    pub fn with(replicas: u32) -> Ending {
        Ending { replicas, spare_claims: Vec::new() }
    }

    /// Allows these claims to be left over.
    pub fn and_spare_claims(self, ordinals: impl IntoIterator<Item = u32>) -> Ending {
        Ending { spare_claims: ordinals.into_iter().collect(), ..self }
    }

    /// Waits until the cluster is like this, ends its load, and checks that nothing was lost.
    pub fn check(&self, cluster: &Cluster<'_>, load: &LoadPod<'_>) -> Result<()> {
        load.wait_for_some_more()?;
        self.check_members(cluster)?;
        let report = load.stop(self.replicas)?;
        cluster.scene.say(format!(
            "{} writes ({} once unknown), {} reads; longest time without a write {} ms, without a read {} ms",
            report.acked, report.unknown, report.reads, report.longest_write_gap_ms, report.longest_read_gap_ms
        ));
        let faults = report.faults();
        if !faults.is_empty() {
            bail!("the load found:\n  {}", faults.join("\n  "));
        }
        Ok(())
    }

    /// The same without a load.
    pub fn check_members(&self, cluster: &Cluster<'_>) -> Result<()> {
        cluster.wait_ready(self.replicas)?;
        cluster.scene.wait("members, pods and volumes to agree", || self.agree(cluster))
    }

    fn agree(&self, cluster: &Cluster<'_>) -> Result<()> {
        cluster.is_ready(self.replicas)?;
        let names: BTreeSet<String> = (0..self.replicas).map(|ordinal| cluster.pod_name(ordinal)).collect();
        let pods = cluster.pods()?;
        let found: BTreeSet<String> = pods.keys().cloned().collect();
        holds(found == names, || format!("pods are {found:?}"))?;
        for pod in pods.values() {
            holds(pod.ready && !pod.terminating, || format!("{} is not ready", pod.name))?;
        }
        let told = told_members(cluster)?;
        self.agree_with_nodes(cluster, &told)?;
        self.agree_with_claims(cluster, &told)?;
        budget(cluster, self.replicas)
    }

    /// Checks that the status, the leader's membership and what each node says of itself name the same members.
    fn agree_with_nodes(&self, cluster: &Cluster<'_>, told: &BTreeSet<Identity>) -> Result<()> {
        let asked = cluster.pod_name(0);
        let members = cluster.members(&asked)?;
        ensure!(!members.joint, "a joint change is in flight");
        let mut led = BTreeSet::new();
        for member in &members.members {
            ensure!(member.role == MemberRole::Voter, "member {} is {:?}", member.id.0, member.role);
            led.insert(Identity::of(member.id.0, &member.name, &member.incarnation.to_string()));
        }
        holds(led == *told, || format!("members are {led:?}, and the status tells {told:?}"))?;
        let (statuses, verdict) = cluster.node_statuses(&asked)?;
        let mut own = BTreeSet::new();
        for status in &statuses {
            holds(status.state == NodeState::Voter, || format!("{} is {:?}", status.name, status.state))?;
            let (Some(id), Some(incarnation)) = (status.member_id, status.incarnation) else {
                bail!("{} votes without an id", status.name);
            };
            own.insert(Identity::of(id.0, &status.name, &incarnation.to_string()));
        }
        holds(own == *told, || format!("nodes say {own:?}, and the status tells {told:?}"))?;
        holds(verdict == "healthy", || format!("`raftkvctl status` says {verdict}"))
    }

    /// Checks that each member has its volume, annotated with its id, and that no other volume is there.
    fn agree_with_claims(&self, cluster: &Cluster<'_>, told: &BTreeSet<Identity>) -> Result<()> {
        let mut claims = cluster.claims()?;
        for ordinal in &self.spare_claims {
            claims.remove(&cluster.claim_name(*ordinal));
        }
        let mut held = BTreeSet::new();
        for (name, claim) in &claims {
            let (Some(id), Some(incarnation)) = (&claim.member_id, &claim.incarnation) else {
                bail!("claim {name} lacks {} or {}", annotation::MEMBER_ID, annotation::INCARNATION);
            };
            ensure!(!claim.terminating, "claim {name} is being deleted");
            let pod = name.strip_prefix("raftkv-").unwrap_or(name).to_string();
            held.insert(Identity { id: id.clone(), name: pod, incarnation: incarnation.clone() });
        }
        holds(held == *told, || format!("volumes hold {held:?}, and the status tells {told:?}"))
    }
}

/// A member, as everyone must know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    id: String,
    name: String,
    incarnation: String,
}

impl Identity {
    fn of(id: u64, name: &str, incarnation: &str) -> Identity {
        Identity { id: id.to_string(), name: name.to_string(), incarnation: incarnation.to_string() }
    }
}

fn told_members(cluster: &Cluster<'_>) -> Result<BTreeSet<Identity>> {
    let status = cluster.status()?;
    ensure!(status.pods.is_empty(), "pods without a member: {:?}", status.pods);
    let mut told = BTreeSet::new();
    for member in status.members {
        ensure!(member.role == "Leader" || member.role == "Voter", "{} is {}", member.name, member.role);
        told.insert(Identity { id: member.id, name: member.name, incarnation: member.incarnation });
    }
    Ok(told)
}

/// Checks the disruption budget (rule O12).
fn budget(cluster: &Cluster<'_>, voters: u32) -> Result<()> {
    let wanted = if voters <= 2 { voters - 1 } else { voters / 2 + 1 };
    let scene = cluster.scene;
    let budget: Value = scene.object(Kind::Budget, &cluster.name)?;
    let found = &budget["spec"]["minAvailable"];
    holds(found == &Value::from(wanted), || {
        format!("minAvailable is {found}, and {wanted} is right for {voters} voters")
    })?;
    let selector = &budget["spec"]["selector"]["matchLabels"];
    holds(selector[label::CLUSTER] == cluster.name.as_str(), || format!("the budget selects {selector}"))
}

//! The rows of the screen: members and pods, volume claims, conditions, the operation, events. PURE.
//!
//! A member is known by its id. Pods, claims and names are only where it is at the moment: during a replacement two
//! members have one name, and a pod may answer as a member that nobody expects there.

use crate::kube::cluster;
use crate::kube::objects::{ANNOTATION_MACHINE, Claim, Event, Pod, claim_of, is_claim_of, is_pod_of};
use crate::kube::screen::{ClaimRow, ConditionRow, EventRow, MemberRow, OperationRow};
use crate::kube::seen::{Nodes, Seen};
use jiff::Timestamp;
use raftkv_api::{KvState, MemberRole, NodeState, Status};
use raftkv_crds::{Condition, annotation, label};

/// Events that are shown.
const EVENTS_MAX: usize = 5;

/// The state of a member whose pod is not there.
pub(crate) const NO_POD: &str = "no pod";

/// A member as somebody has it, before it is looked up everywhere else.
struct Known {
    id: String,
    name: String,
    role: String,
}

/// The members by the place of their pods, and the pods that are no member.
pub(crate) fn members(seen: &Seen) -> Vec<MemberRow> {
    let known = known(seen);
    let mut rows: Vec<MemberRow> = known.iter().map(|member| member_row(seen, member)).collect();
    let pods = seen.pods.as_deref().unwrap_or_default();
    let ours = pods.iter().filter(|pod| is_pod_of(&pod.metadata.name, &seen.cluster.metadata.name));
    rows.extend(ours.filter(|pod| is_stranger(seen, &known, pod)).map(|pod| pod_row(seen, pod)));
    rows.sort_by_key(|row| (ordinal(&row.pod), row.id.as_ref().map(|id| id.parse::<u64>().unwrap_or(u64::MAX))));
    rows
}

/// The leader's pod, and the number of voters.
pub(crate) fn leadership(seen: &Seen, rows: &[MemberRow]) -> (Option<String>, u32) {
    let status = &seen.cluster.status;
    let voters = rows.iter().filter(|row| ["leader", "voter", "outgoing"].contains(&row.role.as_str())).count();
    match &seen.nodes {
        Nodes::NotAsked(_) => {
            (status.leader.as_ref().map(|leader| leader.name.clone()), u32::try_from(status.voters).unwrap_or(0))
        }
        Nodes::Asked(..) => {
            let leader = rows.iter().find(|row| row.role == "leader").map(|row| row.pod.clone());
            (leader, u32::try_from(voters).unwrap_or(u32::MAX))
        }
    }
}

/// The newest membership that somebody knows of: read from a majority, else a node's own, else the operator's.
fn known(seen: &Seen) -> Vec<Known> {
    let ours = |member: &raftkv_api::Member| Known {
        id: member.id.0.to_string(),
        name: member.name.clone(),
        role: role(member.role).to_string(),
    };
    if let Nodes::Asked(_, Some(members)) = &seen.nodes {
        return members.members.iter().map(ours).collect();
    }
    let own_view = statuses(seen).filter(|status| !status.members.is_empty()).max_by_key(|status| status.conf_index);
    if let Some(status) = own_view {
        return status.members.iter().map(ours).collect();
    }
    let theirs = seen.cluster.status.members.iter();
    theirs.map(|member| Known { id: member.id.clone(), name: member.name.clone(), role: lower(&member.role) }).collect()
}

fn member_row(seen: &Seen, member: &Known) -> MemberRow {
    let told = seen.cluster.status.members.iter().find(|told| told.id == member.id);
    let live = statuses(seen).find(|status| has_id(status, &member.id));
    let (pod, claim) = (pod(seen, &member.name), claim(seen, &member.name));
    let leads = live.is_some_and(|status| leads(seen, status));
    let state = match (live, &seen.nodes) {
        (Some(status), _) => state(status),
        (None, Nodes::Asked(..)) => silence(seen, &member.name, pod),
        (None, Nodes::NotAsked(_)) => {
            told.map(|told| lower(&told.state)).unwrap_or_else(|| silence(seen, &member.name, pod))
        }
    };
    let role = match &seen.nodes {
        _ if leads => "leader",
        // That it led is the operator's word, and the nodes do not confirm it.
        Nodes::Asked(..) if member.role == "leader" => "voter",
        Nodes::Asked(..) | Nodes::NotAsked(_) => member.role.as_str(),
    };
    MemberRow {
        id: Some(member.id.clone()),
        pod: member.name.clone(),
        role: role.to_string(),
        state,
        lag: live.and_then(|status| lag(seen, status)),
        applied: live.map(|status| status.applied),
        version: live.map(|status| status.version.clone()).or_else(|| told?.version.clone()),
        node: pod
            .and_then(|pod| pod.spec.node_name.clone())
            .or_else(|| told?.node.clone())
            .or_else(|| claim?.metadata.annotations.get(ANNOTATION_MACHINE).cloned()),
        claim: claim.map(|claim| claim.metadata.name.clone()).or_else(|| told?.claim.clone()),
    }
}

fn pod_row(seen: &Seen, pod: &Pod) -> MemberRow {
    let name = &pod.metadata.name;
    let live = answer(seen, name);
    let told = seen.cluster.status.pods.iter().find(|told| told.name == *name);
    let state = match (live, &seen.nodes) {
        (Some(status), _) => state(status),
        (None, Nodes::Asked(..)) => silence(seen, name, Some(pod)),
        (None, Nodes::NotAsked(_)) => pod.trouble().or_else(|| Some(lower(&told?.state))).unwrap_or_default(),
    };
    MemberRow {
        pod: name.clone(),
        state,
        applied: live.filter(|status| status.member_id.is_some()).map(|status| status.applied),
        version: live.map(|status| status.version.clone()),
        node: pod.spec.node_name.clone(),
        claim: claim(seen, name).map(|claim| claim.metadata.name.clone()),
        ..MemberRow::default()
    }
}

/// A pod that answers as no member, or that bears no member's name.
fn is_stranger(seen: &Seen, known: &[Known], pod: &Pod) -> bool {
    match answer(seen, &pod.metadata.name) {
        Some(status) => !known.iter().any(|member| has_id(status, &member.id)),
        None => !known.iter().any(|member| member.name == pod.metadata.name),
    }
}

/// Why a member's node says nothing, in a word or two.
fn silence(seen: &Seen, name: &str, pod: Option<&Pod>) -> String {
    match pod {
        // The pod of that name runs, and answers as somebody else: what it was is not on its disk any more.
        Some(_) if answer(seen, name).is_some() => "disk lost".to_string(),
        Some(pod) => pod.trouble().unwrap_or_else(|| "unreachable".to_string()),
        None if seen.pods.is_ok() => NO_POD.to_string(),
        None => "unreachable".to_string(),
    }
}

/// The volume claims that bear this cluster's names, with what is to be known of each.
pub(crate) fn claims(seen: &Seen, members: &[MemberRow]) -> Vec<ClaimRow> {
    let claims = seen.claims.as_deref().unwrap_or_default();
    let ours = |claim: &&Claim| is_claim_of(&claim.metadata.name, &seen.cluster.metadata.name);
    let mut rows: Vec<ClaimRow> = claims.iter().filter(ours).map(|claim| claim_row(seen, members, claim)).collect();
    rows.sort_by_key(|row| ordinal(&row.name));
    rows
}

fn claim_row(seen: &Seen, members: &[MemberRow], claim: &Claim) -> ClaimRow {
    let meta = &claim.metadata;
    let member = meta.annotations.get(annotation::MEMBER_ID).cloned();
    ClaimRow {
        name: meta.name.clone(),
        status: claim.status.phase.clone(),
        size: claim.size().cloned(),
        class: claim.spec.storage_class_name.clone(),
        note: claim_note(members, claim, member.as_deref(), is_foreign(seen, claim)),
        member,
        foreign: is_foreign(seen, claim),
    }
}

/// It is another cluster's. One that was made a moment ago has no label yet.
fn is_foreign(seen: &Seen, claim: &Claim) -> bool {
    match claim.metadata.labels.get(label::CLUSTER_UID) {
        Some(uid) => *uid != seen.cluster.metadata.uid,
        None => claim.metadata.creation_timestamp < seen.cluster.metadata.creation_timestamp,
    }
}

fn claim_note(members: &[MemberRow], claim: &Claim, member: Option<&str>, foreign: bool) -> String {
    let meta = &claim.metadata;
    let row_of = |id: &str| members.iter().find(|row| row.id.as_deref() == Some(id));
    let used = members.iter().any(|row| row.claim.as_ref() == Some(&meta.name));
    match (foreign, member) {
        _ if meta.deletion_timestamp.is_some() => "is being deleted".to_string(),
        (true, _) => match meta.annotations.get(annotation::CLUSTER_ID) {
            Some(id) => format!("FOREIGN: data of cluster {id}"),
            None => "FOREIGN: it was there before this cluster".to_string(),
        },
        _ if claim.status.phase == "Lost" => "its volume is lost".to_string(),
        (false, Some(id)) if row_of(id).is_none() => format!("left by member {id}, which is no member any more"),
        (false, _) if !used => "no pod uses it".to_string(),
        (false, Some(_)) => String::new(),
        (false, None) => "of no member yet".to_string(),
    }
}

/// The conditions, in the order of the status.
pub(crate) fn conditions(seen: &Seen) -> Vec<ConditionRow> {
    let row = |condition: &Condition| ConditionRow {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        age: cluster::since(condition).map(|at| age(seen.now, at)).unwrap_or_default(),
        message: one_line(&condition.message),
    };
    seen.cluster.status.conditions.iter().map(row).collect()
}

/// The change that is under way.
pub(crate) fn operation(seen: &Seen) -> Option<OperationRow> {
    let operation = seen.cluster.operation.as_ref()?;
    Some(OperationRow {
        kind: operation.kind.clone(),
        step: operation.step.clone(),
        member: operation.member.clone(),
        age: operation.since.parse().map(|since| age(seen.now, since)).unwrap_or_default(),
    })
}

/// The last events: all about the cluster, and warnings about its pods, claims and StatefulSet. The newest is last.
pub(crate) fn events(seen: &Seen) -> Vec<EventRow> {
    let cluster = &seen.cluster.metadata.name;
    let concerns = |event: &&Event| {
        let (object, warning) = (&event.involved_object, event.kind == "Warning");
        match object.kind.as_str() {
            "RaftKvCluster" => object.name == *cluster,
            "Pod" => warning && is_pod_of(&object.name, cluster),
            "PersistentVolumeClaim" => warning && is_claim_of(&object.name, cluster),
            "StatefulSet" => warning && object.name == *cluster,
            _ => false,
        }
    };
    let mut events: Vec<&Event> = seen.events.as_deref().unwrap_or_default().iter().filter(concerns).collect();
    events.sort_by_key(|event| event.at());
    let row = |event: &&Event| EventRow {
        age: event.at().map(|at| age(seen.now, at)).unwrap_or_default(),
        kind: event.kind.clone(),
        reason: event.reason.clone(),
        object: format!("{}/{}", event.involved_object.kind.to_lowercase(), event.involved_object.name),
        message: one_line(&event.message),
    };
    events[events.len().saturating_sub(EVENTS_MAX)..].iter().map(row).collect()
}

/// How long ago, as kubectl writes it.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The nodes that answered.
fn statuses(seen: &Seen) -> impl Iterator<Item = &Status> {
    let nodes = match &seen.nodes {
        Nodes::Asked(nodes, _) => nodes.as_slice(),
        Nodes::NotAsked(_) => &[],
    };
    nodes.iter().filter_map(|node| node.status.as_ref().ok())
}

/// What the node in this pod said.
fn answer<'a>(seen: &'a Seen, pod: &str) -> Option<&'a Status> {
    match &seen.nodes {
        Nodes::Asked(nodes, _) => nodes.iter().find(|node| node.url == pod)?.status.as_ref().ok(),
        Nodes::NotAsked(_) => None,
    }
}

fn has_id(status: &Status, id: &str) -> bool {
    status.member_id.is_some_and(|own| own.0.to_string() == id)
}

/// The node that leads, if it answered and a majority follows it.
fn leader(seen: &Seen) -> Option<&Status> {
    let Nodes::Asked(_, Some(members)) = &seen.nodes else { return None };
    let newest = statuses(seen).filter(|status| status.leader_id.is_some()).max_by_key(|status| status.term);
    let id = newest.and_then(|status| status.leader_id).or(members.leader)?;
    statuses(seen).find(|status| status.member_id == Some(id))
}

fn leads(seen: &Seen, status: &Status) -> bool {
    leader(seen).is_some_and(|leader| leader.member_id == status.member_id)
}

fn lag(seen: &Seen, status: &Status) -> Option<u64> {
    leader(seen).map(|leader| leader.commit.saturating_sub(status.applied))
}

fn pod<'a>(seen: &'a Seen, name: &str) -> Option<&'a Pod> {
    seen.pods.as_deref().unwrap_or_default().iter().find(|pod| pod.metadata.name == name)
}

/// The claim of the pod, if it is there.
fn claim<'a>(seen: &'a Seen, pod: &str) -> Option<&'a Claim> {
    let name = claim_of(pod);
    seen.claims.as_deref().unwrap_or_default().iter().find(|claim| claim.metadata.name == name)
}

fn role(role: MemberRole) -> &'static str {
    crate::members::role(role)
}

/// A node's state; what its store is doing, where it is not serving yet.
fn state(status: &Status) -> String {
    let state = match status.state {
        NodeState::Opening => "opening",
        NodeState::Blank => "blank",
        NodeState::Learner => "learner",
        NodeState::Voter => "voter",
        NodeState::Removed => "removed",
        NodeState::Quarantined if status.diverged => "quarantined, diverged",
        NodeState::Quarantined => "quarantined",
    };
    match status.kv {
        KvState::Proving => format!("{state}, proving"),
        KvState::Rebuilding => format!("{state}, rebuilding"),
        KvState::Installing => format!("{state}, installing"),
        KvState::Absent | KvState::Ready => state.to_string(),
    }
}

/// The number at the end of a pod's or a claim's name.
fn ordinal(name: &str) -> u64 {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}

/// The operator writes `Unreachable`, a node `unreachable`; one screen shows one of them.
fn lower(word: &str) -> String {
    word.to_lowercase()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let ago = |seconds: i64| age(now, Timestamp::from_second(now.as_second() - seconds).unwrap());
        assert_eq!([-5, 0, 119, 120, 7_199, 7_200, 172_800].map(ago), ["0s", "0s", "119s", "2m", "119m", "2h", "2d"]);
    }

    #[test]
    fn ten_comes_after_nine() {
        assert!(ordinal("demo-9") < ordinal("raftkv-demo-10"));
        assert_eq!(ordinal("demo"), u64::MAX);
    }
}

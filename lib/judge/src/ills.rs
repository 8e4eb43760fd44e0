//! Finds what is wrong: with the cluster as clients see it, and with each of its members. PURE.

use crate::illness::{Ill, Illness, Next};
use crate::view::{Heard, Node, View, is_in_raft};
use crate::{CAUGHT_UP_ENTRIES, LEADER_CONTACT_MS, rows};
use raftkv_api::{DecimalId, Hex128, KvState, NodeState, StalledOn, Status, Twin, Writes};
use std::collections::BTreeMap;

/// What must not be done while a quorum is missing.
const AS_THEY_ARE: &str = "with their data directories as they are, and delete nothing";

/// Everything that is wrong, the worst first.
pub(crate) fn all(view: &View<'_>) -> Vec<Ill> {
    let mut ills: Vec<Ill> = divergence(view).into_iter().chain(service(view)).collect();
    ills.extend(view.doubled.iter().map(|(at, status)| doubled(view, at, status)));
    ills.extend(told_twins(view));
    ills.extend(view.deaf.iter().map(|(name, at, why)| deaf(name, at, why)));
    ills.extend(view.nodes.iter().flat_map(|node| of_node(view, node)));
    ills.sort_by_key(|ill| ill.illness);
    ills
}

fn clusters(illness: Illness, what: impl Into<String>, next: impl Into<String>) -> Ill {
    Ill { illness, who: None, what: what.into(), next: Next::Do(next.into()) }
}

/// Two members whose hashes differ at an equal index (rule N15), or nodes of two clusters.
pub(crate) fn divergence(view: &View<'_>) -> Option<Ill> {
    if let Some((_, stranger)) = view.foreign.first() {
        let id = |id: Option<Hex128>| id.map_or_else(|| "none".to_string(), |id| id.to_string());
        let ours = view.cluster.and_then(|(cluster_id, _)| cluster_id);
        let what = format!(
            "the nodes belong to different clusters: {} to {}, most others to {}",
            stranger.name,
            id(stranger.cluster_id),
            id(ours)
        );
        let next = "name one cluster's endpoints with --endpoints";
        return Some(Ill { who: Some(stranger.name.clone()), ..clusters(Illness::OtherCluster, what, next) });
    }
    let mut seen: BTreeMap<u64, (Hex128, &str)> = BTreeMap::new();
    for status in view.running() {
        for (index, hash) in rows::hashes(status) {
            let (other_hash, other) = *seen.entry(index).or_insert((hash, &status.name));
            if other_hash != hash {
                let what = format!("DATA DIFFERS between {other} and {} at index {index}", status.name);
                let next = "stop writing, keep every data directory, and compare `raftkvctl export --node URL` of both";
                return Some(clusters(Illness::DataDiffers, what, next));
            }
        }
    }
    None
}

/// What keeps the cluster from reading, or from writing.
fn service(view: &View<'_>) -> Option<Ill> {
    if !view.nodes.iter().any(|node| node.status().is_some()) {
        let next = "start the nodes, or name their client URLs with --endpoints";
        return Some(clusters(Illness::NobodyAnswers, "no node says how it is", next));
    }
    let Some(newest) = view.newest else {
        return Some(no_leader(view));
    };
    if !newest.formed {
        let what = "the cluster is forming: it has not had the voters that init asked for";
        return Some(clusters(Illness::Forming, what, "`raftkvctl add` and `raftkvctl promote` more members"));
    }
    let leader = view.leader?;
    let name = &leader.name;
    let refused = || leader.no_space.as_deref().unwrap_or("it does not say why");
    match leader.writes? {
        Writes::Ok | Writes::Forming => None,
        Writes::NoLeader => {
            let what = format!("{name} leads, as far as it knows, but no majority answers it");
            Some(clusters(Illness::NoQuorum, what, format!("start the members that do not answer, {AS_THEY_ARE}")))
        }
        Writes::NoSpace => {
            let what = format!("writes are refused by {name}: {}", refused());
            let next =
                "make room on the volumes that are named, or enlarge them; deletes and compaction may still work";
            Some(clusters(Illness::NoSpace, what, next))
        }
        Writes::Quota => {
            let what = format!("writes are refused by {name}: {}", refused());
            let next = "delete keys, and let history go with --compact-retention; or raise --quota on every node";
            Some(clusters(Illness::OverQuota, what, next))
        }
        Writes::Stalled => {
            let stalled = view.nodes.iter().filter(|node| node.stalled().is_some()).map(|node| node.name);
            let names: Vec<&str> = stalled.collect();
            let what = format!("writes stall: the disks of {} do not answer", names.join(" and "));
            let next = "look at these disks (`dmesg`, the volume's provider); writes go on when a quorum of them works";
            Some(clusters(Illness::WritesStall, what, next))
        }
    }
}

/// Nobody leads, or nobody who answers has heard of a leader lately.
fn no_leader(view: &View<'_>) -> Ill {
    let blank = view.nodes.iter().find(|node| is_state(node, NodeState::Blank));
    if let Some(blank) = blank.filter(|_| !has_cluster(view)) {
        let next = Next::Init { at: blank.at.to_string() };
        return Ill { next, ..clusters(Illness::NoCluster, "there is no cluster yet", "") };
    }
    let (voters, working) = view.voters();
    let needed = voters / 2 + 1;
    let answer = if working == 1 { "answers" } else { "answer" };
    if voters > 0 && working >= needed {
        let what = format!("there is no leader; {working} of {voters} voters {answer}");
        let next = "wait for an election (2 s); if there is none, look at the logs of the voters";
        return clusters(Illness::NoLeader, what, next);
    }
    let what = match voters {
        0 => "there is no leader, and nobody says who the voters are".to_string(),
        _ => format!("there is no leader; {working} of {voters} voters {answer}, and {needed} are needed"),
    };
    let next = format!("start the nodes that do not answer, {AS_THEY_ARE}");
    clusters(Illness::NoQuorum, what, next)
}

fn has_cluster(view: &View<'_>) -> bool {
    view.cluster.is_some()
}

fn is_state(node: &Node<'_>, state: NodeState) -> bool {
    node.status().is_some_and(|status| status.state == state)
}

/// Nothing is advised that destroys a directory: which of the two is the older is not known here (rule N27).
fn doubled(view: &View<'_>, at: &str, status: &Status) -> Ill {
    let first = view.nodes.iter().find(|node| node.status().is_some_and(|other| other.member_id == status.member_id));
    let first = first.map_or("another place", |node| node.at);
    Ill {
        illness: Illness::Doubled,
        who: Some(status.name.clone()),
        what: format!("{} runs twice, at {first} and at {at}", status.name),
        next: Next::Do("stop the one that is not meant to run, and delete neither data directory".to_string()),
    }
}

/// Members that others hear from two processes, one of which nobody here was asked for.
fn told_twins(view: &View<'_>) -> Vec<Ill> {
    let told = view.nodes.iter().filter_map(|node| Some((node.name, &node.status()?.twins)));
    let told = told.flat_map(|(by, twins)| twins.iter().map(move |twin| (twin.id, (by, twin))));
    let by_member: BTreeMap<DecimalId, (&str, &Twin)> = told.collect();
    let name = |id: DecimalId| {
        let node = view.nodes.iter().find(|node| node.member.is_some_and(|member| member.id == id));
        node.map_or_else(|| format!("member {}", id.0), |node| node.name.to_string())
    };
    let is_new = |id: &DecimalId| view.doubled.iter().all(|(_, status)| status.member_id != Some(*id));
    let new = by_member.into_iter().filter(|(id, _)| is_new(id));
    new.map(|(id, (by, twin))| Ill {
        illness: Illness::Doubled,
        who: Some(name(id)),
        what: format!("{} runs twice", name(id)),
        next: Next::Do(format!("as {by} says: {}", twin.detail)),
    })
    .collect()
}

fn deaf(name: &str, at: &str, why: &str) -> Ill {
    Ill {
        illness: Illness::Deaf,
        who: Some(name.to_string()),
        what: format!("{name} does not answer its clients at {at}"),
        next: Next::Do(format!("see who holds the connections of {name}'s client port ({why})")),
    }
}

/// What is wrong with one node.
fn of_node(view: &View<'_>, node: &Node<'_>) -> Vec<Ill> {
    let own = match node.heard {
        Heard::Status(status) => of_status(view, node, status),
        Heard::Unreachable(why) => Some(unreachable(view, node, why)),
        Heard::Unauthorized => {
            let next = format!("compare the token file of {} with --token-file", node.name);
            Some(ill(node, Illness::Unauthorized, "refuses the token", Next::Do(next)))
        }
        Heard::Overloaded(why) => {
            let next = format!("ask again; if it stays so, look for who keeps {} busy ({why})", node.name);
            Some(ill(node, Illness::Overloaded, "has no room for another call", Next::Do(next)))
        }
        Heard::Replaced(by) => Some(disk_lost(node, by)),
        Heard::NotAsked => not_asked(view, node),
    };
    stalled(view, node).into_iter().chain(own).collect()
}

fn ill(node: &Node<'_>, illness: Illness, what: &str, next: Next) -> Ill {
    Ill { illness, who: Some(node.name.to_string()), what: format!("{} {what}", node.name), next }
}

fn stalled(view: &View<'_>, node: &Node<'_>) -> Option<Ill> {
    let (ms, on) = node.stalled()?;
    let thing = match on {
        StalledOn::Log => "a sync of its log",
        StalledOn::Store => "its store",
    };
    let heard = if node.status().is_some() { "" } else { ", as its leader last heard" };
    let what = format!("has a disk that does not answer: {thing} has waited for {} s{heard}", ms / 1000);
    let (voters, working) = view.voters();
    let next = match working > voters / 2 {
        true => format!("look at the disk of {}; the others do without it: stop it, or replace it", node.name),
        false => format!("look at the disk of {}; without it there is no quorum: keep its data", node.name),
    };
    Some(ill(node, Illness::DiskStalled, &what, Next::Do(next)))
}

fn unreachable(view: &View<'_>, node: &Node<'_>, why: &str) -> Ill {
    let what = match node.peer {
        Some(peer) if peer.active => "is unreachable from here, and its leader hears it",
        Some(_) | None => "is unreachable",
    };
    let next = match node.peer {
        Some(peer) if peer.active => format!("look at the way from here to {} ({why})", node.name),
        Some(_) | None => format!("start {}, or look at its log ({why})", node.name),
    };
    let next = if view.may_fail() == 0 && node.member.is_some() { format!("{next}; keep its data") } else { next };
    ill(node, Illness::Unreachable, what, Next::Do(next))
}

fn disk_lost(node: &Node<'_>, by: &Status) -> Ill {
    let id = node.member.map_or(0, |member| member.id.0);
    let what = format!("lost its disk, as member {id}");
    let next = match by.state {
        NodeState::Blank => Next::AddInPlaceOf { at: node.at.to_string(), id },
        NodeState::Learner => {
            let learner = by.member_id.map_or(0, |id| id.0);
            Next::Do(format!("when {learner} has caught up: raftkvctl promote {learner} --replaces {id}"))
        }
        NodeState::Opening | NodeState::Voter | NodeState::Removed | NodeState::Quarantined => {
            Next::Do(format!("raftkvctl remove {id}, unless its data directory comes back"))
        }
    };
    ill(node, Illness::DiskLost, &what, next)
}

/// A member that nobody asked is as well as its leader says.
fn not_asked(view: &View<'_>, node: &Node<'_>) -> Option<Ill> {
    let is_unheard = node.member.is_some_and(|member| member.admin_url.is_none());
    match node.peer {
        Some(peer) if !peer.active && is_unheard => {
            let next = Next::Do(format!("wait; if it stays so, see whether {} runs at {}", node.name, node.at));
            Some(ill(node, Illness::Unheard, "has not told the leader yet where it can be asked", next))
        }
        Some(peer) if !peer.active => Some(unreachable(view, node, "its leader does not hear it")),
        Some(peer) if !peer.caught_up => Some(behind(node, "does not follow the log, its leader says")),
        Some(_) | None => None,
    }
}

fn behind(node: &Node<'_>, what: &str) -> Ill {
    let next = format!("wait; if it stays so, look at the log and the disk of {}", node.name);
    ill(node, Illness::Behind, what, Next::Do(next))
}

fn of_status(view: &View<'_>, node: &Node<'_>, status: &Status) -> Option<Ill> {
    let id = status.member_id.map_or(0, |id| id.0);
    let (at, why) = (node.at.to_string(), status.reason.clone().unwrap_or_else(|| "no reason given".to_string()));
    let found = |illness, what: &str, next| Some(ill(node, illness, what, next));
    match status.state {
        NodeState::Opening => found(Illness::Opening, "is opening its data", Next::Do(format!("wait: {why}"))),
        NodeState::Blank if !has_cluster(view) => None,
        NodeState::Blank => found(Illness::Blank, "is no member", Next::Add { at }),
        NodeState::Learner => found(Illness::Learner, "does not vote yet", Next::Promote { id }),
        NodeState::Removed => found(Illness::Removed, "was removed", Next::ResetRemoved { at, why }),
        NodeState::Quarantined => {
            let is_safe = view.can_write().is_yes() && !status.diverged;
            let keep = || Next::Do(format!("keep its data directory: it may hold the only copy ({why})"));
            let next = if is_safe { Next::ResetQuarantined { at, id, why } } else { keep() };
            found(Illness::Quarantined, "cannot trust its data", next)
        }
        NodeState::Voter => of_voter(view, node, status),
    }
}

/// A voter that is not where it should be.
fn of_voter(view: &View<'_>, node: &Node<'_>, status: &Status) -> Option<Ill> {
    let lag = view.lag(node);
    let is_leader = view.leader.is_some_and(|leader| leader.member_id == status.member_id);
    let is_short = status.reserve_bytes > 0 && status.headroom_bytes < status.reserve_bytes;
    let room = Next::Do(format!("enlarge the volume of {}, or make room on it", node.name));
    if is_short {
        let (left, needed) = (status.headroom_bytes >> 20, status.reserve_bytes >> 20);
        let what = format!("is short of space: {left} MiB are left, and puts need {needed} MiB");
        return Some(ill(node, Illness::ShortOfSpace, &what, room));
    }
    // A quota holds for all members alike, and is the leader's to tell.
    let leader_tells = is_leader || view.leader.is_some_and(|leader| leader.writes == Some(Writes::Quota));
    if let Some(why) = status.no_space.as_ref().filter(|_| !leader_tells) {
        return Some(ill(node, Illness::ShortOfSpace, &format!("lacks room: {why}"), room));
    }
    if status.kv != KvState::Ready {
        let next = Next::Do("wait; it votes meanwhile".to_string());
        return Some(ill(node, Illness::StoreOpening, "is bringing its store up to date", next));
    }
    match node.peer {
        Some(peer) if !peer.active => {
            let next = format!("look at the network between {} and its leader, and at the logs of both", node.name);
            return Some(ill(node, Illness::CutOff, "answers, and its leader does not hear it", Next::Do(next)));
        }
        Some(peer) if !peer.caught_up => return Some(behind(node, "does not follow the log, its leader says")),
        Some(_) | None => {}
    }
    if lag > CAUGHT_UP_ENTRIES {
        return Some(behind(node, &format!("is {lag} entries behind")));
    }
    if hears_no_leader(view, status) {
        let next = format!("look at the network between {} and its leader, and at the logs of both", node.name);
        return Some(ill(node, Illness::CutOff, "hears of no leader", Next::Do(next)));
    }
    let reason = status.reason.as_ref().filter(|reason| status.twins.iter().all(|twin| twin.detail != **reason))?;
    let next = Next::Do(format!("as it says: {reason}"));
    Some(ill(node, Illness::Misplaced, "was started with another name or URL than the members know", next))
}

/// Somebody else knows a leader, and this voter has not heard of one for too long.
fn hears_no_leader(view: &View<'_>, status: &Status) -> bool {
    let lately = status.leader_contact_ms.is_some_and(|ms| ms <= LEADER_CONTACT_MS);
    view.newest.is_some() && is_in_raft(status) && !lately && status.leader_id.is_none()
}

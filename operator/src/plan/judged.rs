//! What the judgement of the nodes' reports adds to the conditions: whether puts are taken, and whose disks are ill.
//! PURE.
//!
//! Enters: what the nodes in the pods answer. Leaves: reasons and texts. The texts name members and hold no numbers, so
//! that a status does not move with traffic (rule O21).

use crate::plan::action::Problem;
use crate::plan::facts::Facts;
use crate::plan::world::NodeSeen;
use raftkv_api::Writes;
use raftkv_crds::Reason;
use raftkv_judge::{Answer, Illness, Judgement, Report};

/// A disk that has not answered for longer than this is told. Slow disks take a second or two.
const STALLED_MS: u64 = 5_000;

/// What the nodes' reports mean together.
pub(crate) fn judgement(facts: &Facts<'_>) -> Judgement {
    let pods = facts.seen.pods.iter();
    let asked: Vec<_> = pods.map(|(ordinal, pod)| (facts.desired.pod(*ordinal), &pod.node)).collect();
    let mut reports = Vec::new();
    for (pod, node) in &asked {
        let answer = match node {
            NodeSeen::Answered(status) => Answer::Status(status),
            NodeSeen::Unreachable(why) => Answer::Unreachable(why),
        };
        reports.push(Report { at: pod, answer });
    }
    raftkv_judge::judge(&reports)
}

/// Why a put would fail at the leader, if it would.
pub(crate) fn refused(facts: &Facts<'_>, judgement: &Judgement) -> Option<(Reason, String)> {
    let leader = facts.leader?;
    let name = facts.desired.pod(leader.ordinal);
    match leader.status.writes? {
        Writes::Ok => None,
        Writes::Forming => Some((Reason::Forming, "waiting for the voters that make a write safe".to_string())),
        Writes::NoLeader => Some((Reason::Electing, format!("{name} leads, and no quorum of the voters answers it"))),
        Writes::NoSpace => {
            let text = format!("puts are refused: {}; reads and deletes go on", short(judgement));
            Some((Reason::WritesRefused, text))
        }
        Writes::Quota => {
            let text = "puts are refused: the database is over its quota; reads and deletes go on";
            Some((Reason::WritesRefused, text.to_string()))
        }
        Writes::Stalled => {
            let text = format!("writes get no answer: {}; reads go on", disks(&judgement.names(Illness::DiskStalled)));
            Some((Reason::DiskStalled, text))
        }
    }
}

fn short(judgement: &Judgement) -> String {
    let names = judgement.names(Illness::ShortOfSpace);
    if names.is_empty() {
        "there is too little room".to_string()
    } else {
        format!("{} is short of space", names.join(" and "))
    }
}

fn disks(names: &[&str]) -> String {
    match names {
        [] => "disks do not answer".to_string(),
        [name] => format!("the disk of {name} does not answer"),
        names => format!("the disks of {} do not answer", names.join(" and ")),
    }
}

/// What is wrong with disks and the room on them, the worst first.
pub(crate) fn problems(facts: &Facts<'_>, judgement: &Judgement) -> Vec<Problem> {
    let stalled: Vec<&str> =
        judgement.stalled.iter().filter(|(_, ms)| *ms > STALLED_MS).map(|(name, _)| name.as_str()).collect();
    let stalled = (!stalled.is_empty()).then(|| Problem {
        reason: Reason::DiskStalled,
        text: format!(
            "{}: look at the volume and its Kubernetes node. The data may be good, and nothing is replaced by itself",
            disks(&stalled)
        ),
    });
    let short = judgement.names(Illness::ShortOfSpace).into_iter().map(|name| Problem {
        reason: Reason::NoSpace,
        text: format!("{name} is short of space on its volume: delete keys, or make room there"),
    });
    let over_quota = facts.leader.is_some_and(|leader| leader.status.writes == Some(Writes::Quota));
    let quota = over_quota.then(|| Problem {
        reason: Reason::QuotaExceeded,
        text: "the database is over its quota: delete keys, or raise spec.config.quota".to_string(),
    });
    stalled.into_iter().chain(short).chain(quota).collect()
}

//! What the judgement of the nodes' reports adds to the conditions: whether puts are taken, and whose disks are ill.
//! PURE.
//!
//! Enters: what the nodes in the pods answer. Leaves: reasons and texts. The texts name members and hold no numbers, so
//! that a status does not move with traffic (rule O21).

use crate::plan::action::Problem;
use crate::plan::facts::{Facts, Seat};
use crate::plan::machines;
use raftkv_api::Writes;
use raftkv_crds::Reason;
use raftkv_judge::{Illness, Judgement};

/// A disk that has not answered for longer than this is told. Slow disks take a second or two.
const STALLED_MS: u64 = 5_000;

/// Whether the disk of the member of this name has not answered for so long that it is told.
pub(crate) fn is_hung(facts: &Facts<'_>, name: &str) -> bool {
    facts.judgement.stalled.iter().any(|(stalled, ms)| stalled == name && *ms > STALLED_MS)
}

/// Whether this member has too little room for a put, or leads and says that the database is over its quota.
pub(crate) fn is_short(facts: &Facts<'_>, seat: &Seat) -> bool {
    let short = facts.judgement.names(Illness::ShortOfSpace).contains(&seat.name.as_str());
    short || facts.leads(seat.id) && is_over_quota(facts)
}

fn is_over_quota(facts: &Facts<'_>) -> bool {
    facts.leader.is_some_and(|leader| leader.status.writes == Some(Writes::Quota))
}

/// Why a put would fail at the leader, if it would.
pub(crate) fn refused(facts: &Facts<'_>) -> Option<(Reason, String)> {
    let judgement = &facts.judgement;
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
pub(crate) fn problems(facts: &Facts<'_>) -> Vec<Problem> {
    let hung: Vec<&str> =
        facts.judgement.stalled.iter().map(|(name, _)| name.as_str()).filter(|name| is_hung(facts, name)).collect();
    let stalled = (!hung.is_empty()).then(|| Problem { reason: Reason::DiskStalled, text: hung_words(facts, &hung) });
    let short = facts.judgement.names(Illness::ShortOfSpace).into_iter().map(|name| Problem {
        reason: Reason::NoSpace,
        text: format!("{name} is short of space on its volume: delete keys, or make room there"),
    });
    let quota = is_over_quota(facts).then(|| Problem {
        reason: Reason::QuotaExceeded,
        text: "the database is over its quota: delete keys, or raise spec.config.quota".to_string(),
    });
    stalled.into_iter().chain(short).chain(quota).collect()
}

/// A voter that does not lead can be given up by a person, and by nobody else.
fn hung_words(facts: &Facts<'_>, hung: &[&str]) -> String {
    let followers = facts.roster.voters().filter(|seat| hung.contains(&seat.name.as_str()) && !facts.leads(seat.id));
    let give_up: Vec<String> = followers.map(|seat| machines::replace_command(facts, seat)).collect();
    let give_up = match give_up.is_empty() {
        true => String::new(),
        false => format!(". To give a member up: {}", give_up.join(" or ")),
    };
    format!(
        "{}: look at the volume and its Kubernetes node. The data may be good, and nothing is replaced by itself{give_up}",
        disks(hung)
    )
}

//! In which row of the table each member and the cluster is. PURE.

use crate::plan::facts::{Certainty, ELECTING_S_MAX, Facts, Seat, quorum};
use crate::plan::lost::{self, Service};
use crate::plan::table::Row;
use crate::plan::world::{ChildSeen, Container, NodeSeen, Ordinal, PodSeen, SetSeen};
use crate::plan::{former, judged, machines};
use raftkv_api::{NodeState, Status};

/// With fewer voters than this, a lost member is a lost quorum, and a restart a moment without service.
pub(crate) const VOTERS_MIN: usize = 3;
/// A member that is silent for longer is not about to come.
pub(crate) const COMING_S_MAX: i64 = 300;

/// The row of a member: the first that is true of it.
pub(crate) fn member(facts: &Facts<'_>, seat: &Seat) -> Row {
    // A member that somebody added under another name is nobody's business but that person's.
    let Some(ordinal) = seat.ordinal else { return Row::None };
    if !seat.votes() {
        return learner(facts, seat, ordinal);
    }
    if machines::machine_lost(facts, seat, ordinal).is_some() && !is_needed(facts, seat) {
        return Row::LostNode;
    }
    if is_doomed(facts, ordinal) {
        return Row::Doomed;
    }
    let Some(pod) = facts.pod(ordinal) else {
        let waits = facts.silent_s(ordinal) < COMING_S_MAX || is_on_lost_machine(facts, ordinal);
        return if waits { Row::Coming } else { Row::Silent };
    };
    match &pod.node {
        NodeSeen::Unreachable(_) => silent(facts, ordinal, pod),
        NodeSeen::Answered(status) => answering(facts, seat, pod, status),
    }
}

/// Whether a member that answers is one of so few voters that it cannot be given up, also when a person names it.
pub(crate) fn is_needed(facts: &Facts<'_>, seat: &Seat) -> bool {
    facts.answers(seat).is_some() && facts.roster.voters().count() < VOTERS_MIN
}

/// For how many seconds a member has been in its row; 0 when that is not known.
pub(crate) fn since_s(facts: &Facts<'_>, seat: &Seat) -> i64 {
    let before = facts.seen.memory.rows.get(&seat.id).filter(|(row, _)| *row == member(facts, seat));
    before.map_or(0, |(_, since)| facts.seen.now.as_second() - since.as_second())
}

/// Whether only the running pod keeps the data of a claim that is being deleted.
pub(crate) fn is_doomed(facts: &Facts<'_>, ordinal: Ordinal) -> bool {
    let holds = facts.pod(ordinal).is_some_and(|pod| pod.machine.is_some());
    holds && facts.claim(ordinal).is_some_and(|claim| claim.terminating)
}

/// A learner that is on its way is no fault: only its promotion waits.
fn learner(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Row {
    if is_doomed(facts, ordinal) {
        return Row::Doomed;
    }
    let heard = facts.status(ordinal).is_some() || facts.peer(seat.id).is_some_and(|peer| peer.active);
    if !heard && facts.silent_s(ordinal) >= COMING_S_MAX { Row::LearnerSilent } else { Row::None }
}

/// Whether its volume's machine is gone, so that no pod can be made before the clock has run out.
fn is_on_lost_machine(facts: &Facts<'_>, ordinal: Ordinal) -> bool {
    facts.is_tied_to_lost(ordinal) && facts.silent_s(ordinal) < facts.desired.lost_node_s.max(COMING_S_MAX)
}

fn silent(facts: &Facts<'_>, ordinal: Ordinal, pod: &PodSeen) -> Row {
    let outdated = pod.outdated && facts.is_settled();
    let young = facts.silent_s(ordinal) < COMING_S_MAX;
    match &pod.container {
        _ if pod.terminating && young => Row::Coming,
        Container::Running if pod.ready => Row::Unseen,
        Container::Running if young => Row::Coming,
        Container::Running => Row::Silent,
        Container::Unscheduled(_) | Container::Failing(_) if is_on_lost_machine(facts, ordinal) => Row::Coming,
        Container::Starting if young && !outdated => Row::Coming,
        Container::Unscheduled(_) | Container::Failing(_) | Container::Starting if outdated => Row::BrokenOld,
        Container::Unscheduled(_) | Container::Failing(_) | Container::Starting => Row::BrokenNew,
    }
}

fn answering(facts: &Facts<'_>, seat: &Seat, pod: &PodSeen, status: &Status) -> Row {
    if facts.answers(seat).is_none() {
        return match status.state {
            NodeState::Opening => Row::Coming,
            NodeState::Blank if status.incarnation == seat.incarnation => Row::Coming,
            NodeState::Blank => Row::Blank,
            // What is left of a former member, or a node of another cluster.
            NodeState::Learner | NodeState::Voter | NodeState::Removed | NodeState::Quarantined => {
                let former = former::is_former(facts, status) || former::is_untold(facts, status);
                if former || facts.is_ours(status) { Row::Blank } else { Row::Silent }
            }
        };
    }
    match status.state {
        NodeState::Quarantined => Row::Quarantined,
        // It has not applied its promotion yet, or it stops.
        NodeState::Opening | NodeState::Blank | NodeState::Learner | NodeState::Removed => Row::Coming,
        NodeState::Voter if pod.terminating => Row::Coming,
        NodeState::Voter => voting(facts, seat, pod),
    }
}

fn voting(facts: &Facts<'_>, seat: &Seat, pod: &PodSeen) -> Row {
    if judged::is_hung(facts, &seat.name) {
        return Row::Hung;
    }
    // Without a leader nobody knows who has caught up, and nobody is ready.
    if facts.leader.is_none() || facts.roster.certainty != Certainty::Linearizable {
        return Row::None;
    }
    match facts.is_well(seat) {
        false => Row::Behind,
        true if judged::is_short(facts, seat) => Row::Short,
        true if !pod.ready && pod.outdated && facts.is_settled() => Row::UnreadyOld,
        true if !pod.ready => Row::UnreadyNew,
        true => Row::None,
    }
}

/// The rows that are true of the cluster.
pub(crate) fn cluster(facts: &Facts<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    if facts.roster.joint {
        rows.push(Row::Joint);
    }
    rows.extend(leadership(facts));
    match &facts.seen.set {
        SetSeen::Absent | SetSeen::Leaving => rows.push(Row::SetGone),
        SetSeen::Taken(_) => rows.push(Row::SetTaken),
        SetSeen::Ours(_) => {}
    }
    let taken = |seen: &ChildSeen| match seen {
        ChildSeen::Taken(_) => true,
        ChildSeen::Absent | ChildSeen::Good | ChildSeen::Differs | ChildSeen::Leaving => false,
    };
    if facts.seen.children.values().any(taken) {
        rows.push(Row::ChildTaken);
    }
    if facts.desired.invalid.is_some() || facts.seen.memory.refused.is_some() {
        rows.push(Row::BadSpec);
    }
    if facts.seen.memory.failed.is_some() {
        rows.push(Row::Refusing);
    }
    rows
}

/// What the lack of a leader is; `None` while there is one, or while the cluster is not formed.
fn leadership(facts: &Facts<'_>) -> Option<Row> {
    let led = facts.leader.is_some() && facts.roster.certainty == Certainty::Linearizable;
    if led || !facts.seen.latch.bootstrapped {
        return None;
    }
    let voters = facts.roster.voters().count();
    let voting = facts.roster.voters().filter(|seat| says_voter(facts, seat)).count();
    match lost::service(facts) {
        _ if facts.leaderless_s() < ELECTING_S_MAX => Some(Row::Electing),
        // A member hears a leader that the operator does not reach: the cluster works.
        _ if facts.roster.voters().any(|seat| hears_a_leader(facts, seat)) => Some(Row::Electing),
        // The kubelets say that the members are well. Nobody knows.
        Service::Unknown(_) => Some(Row::Electing),
        _ if voters > 0 && voting >= quorum(voters) => Some(Row::Leaderless),
        Service::QuorumLost(_) => Some(Row::QuorumLost),
        Service::NotYet(..) if is_stuck(facts) => Some(Row::QuorumLost),
        Service::Available | Service::NotYet(..) => Some(Row::Electing),
    }
}

fn hears_a_leader(facts: &Facts<'_>, seat: &Seat) -> bool {
    facts.answers(seat).is_some_and(|status| status.leader_id.is_some())
}

/// Whether no voter that does not vote has come any further for a minute.
fn is_stuck(facts: &Facts<'_>) -> bool {
    let mut missing = facts.roster.voters().filter(|seat| !says_voter(facts, seat));
    missing.all(|seat| since_s(facts, seat) >= ELECTING_S_MAX)
}

/// Whether a voter says that it votes. One whose disk hangs does not count.
pub(crate) fn says_voter(facts: &Facts<'_>, seat: &Seat) -> bool {
    let votes = facts.answers(seat).is_some_and(|status| status.state == NodeState::Voter);
    votes && !judged::is_hung(facts, &seat.name)
}

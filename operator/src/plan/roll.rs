//! Restarts pods with a newer template (rule O8): broken pods at once, the others one at a time, the leader last. PURE.

use crate::plan::action::{Action, Step, Turn, Underway};
use crate::plan::change;
use crate::plan::facts::{Certainty, Facts, Leader, Seat};
use crate::plan::world::{Container, NodeSeen, Ordinal, PodSeen};
use raftkv_api::NodeState;
use raftkv_crds::OperationKind;

/// With this many voters or fewer, no member can be restarted without a moment of no service.
const FRAGILE_VOTERS_MAX: usize = 2;

/// The outdated pods. Which are outdated is known only when the StatefulSet's controller has seen the newest template.
fn outdated<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (Ordinal, &'a PodSeen)> {
    let settled = facts.seen.ours().is_some_and(|set| set.settled && !set.differs);
    let pods = facts.seen.pods.iter().map(|(ordinal, pod)| (*ordinal, pod));
    pods.filter(move |(_, pod)| settled && pod.outdated && !pod.terminating)
}

/// Whether a pod waits for its restart.
pub(crate) fn is_due(facts: &Facts<'_>) -> bool {
    outdated(facts).next().is_some()
}

/// Deletes an outdated pod if nothing is lost with it. So a good image mends a bad one, whatever else is under way.
pub(crate) fn broken(facts: &Facts<'_>) -> Turn {
    let Some((ordinal, pod)) = outdated(facts).find(|(ordinal, pod)| is_broken(facts, *ordinal, pod)) else {
        return Turn::Nothing;
    };
    let why = facts.trouble(ordinal);
    delete(facts, ordinal, pod, &format!("it has an older template, and {why}"))
}

/// Whether its container does not run, or its node is not a voter according to a quorum's membership, and knows that. A
/// pod that the kubelet calls ready is never broken. While there is no leader, a pod that answers is not broken either,
/// since its vote may be needed.
fn is_broken(facts: &Facts<'_>, ordinal: Ordinal, pod: &PodSeen) -> bool {
    if pod.ready {
        return false;
    }
    let may_vote = facts.roster.certainty != Certainty::Linearizable || facts.roster.voter_at(ordinal).is_some();
    match (&pod.container, &pod.node) {
        (Container::Unscheduled(_) | Container::Failing(_) | Container::Starting, _) => true,
        (Container::Running, NodeSeen::Unreachable(_)) => !may_vote,
        (Container::Running, NodeSeen::Answered(status)) => match status.state {
            NodeState::Voter => false,
            // A learner may just have been promoted, and the vote of a removed member may be needed to confirm its
            // removal.
            NodeState::Opening | NodeState::Learner | NodeState::Removed => !may_vote,
            // Its data may be the only copy of acknowledged writes: it is left alone (rule N7).
            NodeState::Quarantined => !status.diverged,
            NodeState::Blank => true,
        },
    }
}

/// Restarts the next outdated member, if every voter serves.
pub(crate) fn turn(facts: &Facts<'_>, leader: Leader<'_>) -> Turn {
    let due: Vec<&Seat> = {
        let seat = |(ordinal, _): (Ordinal, &PodSeen)| facts.roster.voter_at(ordinal);
        outdated(facts).filter_map(seat).collect()
    };
    let Some(next) = due.iter().min_by_key(|seat| (facts.leads(seat.id), std::cmp::Reverse(seat.ordinal))) else {
        return Turn::Nothing;
    };
    let waiting: Vec<String> =
        facts.roster.voters().filter(|seat| !facts.serves(seat)).map(|seat| words(facts, seat)).collect();
    if !waiting.is_empty() {
        let text = format!("waiting before {} is restarted: {}", next.name, waiting.join("; "));
        return Turn::Wait(underway("WaitForHealthyMembers", Some(next.name.clone()), text));
    }
    let (Some(ordinal), voters) = (next.ordinal, facts.roster.voters().count()) else { return Turn::Nothing };
    if voters <= FRAGILE_VOTERS_MAX && facts.is_doomed(next) {
        let text = format!(
            "{} is not restarted: its volume claim {} is being deleted, and with {voters} voters its data would be lost for good. \
             Scale up to 3 members first",
            next.name,
            facts.desired.claim(ordinal)
        );
        return Turn::Wait(underway("WaitForClaim", Some(next.name.clone()), text));
    }
    if facts.leads(next.id) && voters > 1 {
        return change::transfer(facts, leader, OperationKind::Roll, &format!("{} is to be restarted", next.name));
    }
    let Some(pod) = facts.pod(ordinal) else { return Turn::Nothing };
    let outage = if voters <= FRAGILE_VOTERS_MAX { "; the cluster is without service until it is back" } else { "" };
    delete(facts, ordinal, pod, &format!("it has an older template{outage}"))
}

fn words(facts: &Facts<'_>, seat: &Seat) -> String {
    match seat.ordinal {
        Some(_) if facts.is_well(seat) => format!("{} is not ready yet", seat.name),
        Some(_) if facts.is_healthy(seat) => format!("{} has not caught up", seat.name),
        Some(ordinal) => format!("{}: {}", seat.name, facts.trouble(ordinal)),
        None => format!("{} does not answer", seat.name),
    }
}

fn delete(facts: &Facts<'_>, ordinal: Ordinal, pod: &PodSeen, why: &str) -> Turn {
    let name = facts.desired.pod(ordinal);
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    let action = Action::DeletePod { ordinal, uid, resource_version, now: false };
    let step = Step::told(action, "PodRestarted", format!("restarted {name}: {why}"));
    Turn::Act(underway("RestartPod", Some(name.clone()), format!("restarting {name}: {why}")), vec![step])
}

fn underway(step: &'static str, member: Option<String>, text: String) -> Underway {
    Underway { kind: OperationKind::Roll, step, member, text }
}

//! Whether clients are served. If not, it says to a person what is missing, what to bring back in which order, and what
//! must not be deleted. PURE. Nothing here ever leads to a step.

use crate::plan::facts::{Certainty, ELECTING_S_MAX, Facts, Seat, quorum};
use crate::plan::world::{Container, Machine, NodeSeen};
use raftkv_api::NodeState;
use raftkv_crds::Reason;

/// How long pods that are being made are waited for before the quorum is called lost.
const STARTING_S_MAX: i64 = 60;

/// Whether clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// They are.
    Available,
    /// They are not, for a reason that goes away by itself.
    NotYet(Reason, String),
    /// Too few voters answer.
    QuorumLost(String),
    /// The kubelets say that they are, but the operator cannot check it.
    Unknown(String),
}

pub(crate) fn service(facts: &Facts<'_>) -> Service {
    if facts.desired.suspend && facts.seen.pods.is_empty() {
        return Service::NotYet(Reason::Suspended, "no pods run, because spec.suspend is true".to_string());
    }
    let no_pods = facts.seen.pods.is_empty() && facts.seen.ours().is_some_and(|set| set.replicas == 0);
    if facts.desired.paused && no_pods {
        let text = "no pods run since it was suspended, and spec.paused keeps it so: set it to false";
        return Service::NotYet(Reason::Paused, text.to_string());
    }
    if !facts.seen.latch.bootstrapped {
        return Service::NotYet(Reason::Forming, "the cluster is not formed yet".to_string());
    }
    if let Some(leader) = facts.leader.filter(|_| facts.roster.certainty == Certainty::Linearizable) {
        return match leader.status.formed {
            true => Service::Available,
            false => Service::NotYet(Reason::Forming, "waiting for the voters that make a write safe".to_string()),
        };
    }
    if facts.desired.suspend {
        return Service::NotYet(Reason::Suspended, "pods are stopping, because spec.suspend is true".to_string());
    }
    without_leader(facts)
}

fn without_leader(facts: &Facts<'_>) -> Service {
    let voters: Vec<&Seat> = facts.roster.voters().collect();
    let (answering, silent): (Vec<&Seat>, Vec<&Seat>) = voters.iter().partition(|seat| answers_as_voter(facts, seat));
    let needed = quorum(voters.len());
    if !voters.is_empty() && answering.len() >= needed {
        return electing(facts);
    }
    let ready =
        |seat: &&&Seat| seat.ordinal.and_then(|at| facts.pod(at)).is_some_and(|pod| pod.ready && !pod.terminating);
    let ready = silent.iter().filter(ready).count();
    if !voters.is_empty() && answering.len() + ready >= needed {
        return Service::Unknown(format!(
            "the kubelets call enough members ready, but the operator cannot reach them: {}. Look for a NetworkPolicy or a route \
             between the operator and port 2381 of the pods",
            list(facts, &silent)
        ));
    }
    let coming = silent.iter().filter(|seat| is_coming(facts, seat)).count();
    if answering.len() + ready + coming >= needed {
        let text = format!("waiting for {needed} of the {} voters to answer: {}", voters.len(), list(facts, &silent));
        return Service::NotYet(Reason::StartingPods, text);
    }
    Service::QuorumLost(text(facts, voters.len(), &silent))
}

/// An election takes a second or two. One that does not end has a cause.
fn electing(facts: &Facts<'_>) -> Service {
    let (reason, text) = match facts.leaderless_s() < ELECTING_S_MAX {
        true => (Reason::Electing, "a quorum of the voters answers; they have no leader yet"),
        false => (
            Reason::NoLeader,
            "a quorum of the voters answers, and for a minute none of them has become leader: see whether they reach each other on \
             port 2380, and whether their disks are full or hang",
        ),
    };
    Service::NotYet(reason, text.to_string())
}

/// Whether the node of this voter may still answer in a moment.
fn is_coming(facts: &Facts<'_>, seat: &Seat) -> bool {
    let Some(ordinal) = seat.ordinal else { return false };
    let Some(pod) = facts.pod(ordinal) else { return facts.silent_s(ordinal) < STARTING_S_MAX };
    match (&pod.container, &pod.node) {
        (Container::Unscheduled(_) | Container::Failing(_), _) => false,
        (Container::Running, NodeSeen::Answered(status)) => status.state == NodeState::Opening,
        (Container::Running, NodeSeen::Unreachable(_)) if !pod.terminating => facts.is_new_to_silence(ordinal),
        (Container::Starting, _) | (Container::Running, _) => facts.silent_s(ordinal) < STARTING_S_MAX,
    }
}

fn answers_as_voter(facts: &Facts<'_>, seat: &Seat) -> bool {
    facts.answers(seat).is_some_and(|status| status.state == NodeState::Voter)
}

fn list(facts: &Facts<'_>, seats: &[&Seat]) -> String {
    let trouble = |seat: &&Seat| match seat.ordinal {
        Some(ordinal) => format!("{}: {}", seat.name, facts.trouble(ordinal)),
        None => seat.name.clone(),
    };
    seats.iter().map(trouble).collect::<Vec<_>>().join("; ")
}

fn text(facts: &Facts<'_>, voters: usize, silent: &[&Seat]) -> String {
    let needed = quorum(voters).saturating_sub(voters - silent.len()).max(1);
    let place = |seat: &&Seat| {
        let ordinal = seat.ordinal?;
        let machine = facts.machine(ordinal).map_or(String::new(), |(name, machine)| match machine {
            Machine::Gone => format!(", whose Kubernetes node {name} does not exist"),
            Machine::OutOfService => format!(", whose Kubernetes node {name} is marked as out of service"),
            Machine::Present | Machine::Unknown => format!(", on the Kubernetes node {name}"),
        });
        Some(format!(
            "{} with its volume claim {}{machine} ({})",
            seat.name,
            facts.desired.claim(ordinal),
            facts.trouble(ordinal)
        ))
    };
    let places: Vec<String> = silent.iter().filter_map(place).collect();
    let claims: Vec<String> = silent.iter().filter_map(|seat| seat.ordinal).map(|at| facts.desired.claim(at)).collect();
    let missing = match (silent.len(), voters) {
        (1, 1) => "the only voter does not answer".to_string(),
        (1, _) => format!("1 of the {voters} voters does not answer, and it must come back"),
        (n, _) if n == needed => format!("{n} of the {voters} voters do not answer, and all of them must come back"),
        (n, _) => format!("{n} of the {voters} voters do not answer, and {needed} of them must come back"),
    };
    let empty = silent.iter().any(|seat| seat.ordinal.and_then(|ordinal| facts.blank(ordinal)).is_some());
    let empty = if empty { " An empty volume brings no member back: only the old one does." } else { "" };
    format!(
        "{missing}: {}.{empty} First bring back their Kubernetes nodes, then see that the pods run. Nothing is changed meanwhile. Do not delete \
         these volume claims, which may hold the only copies: {}",
        places.join("; "),
        claims.join(", ")
    )
}

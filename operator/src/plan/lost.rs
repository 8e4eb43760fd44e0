//! Whether clients are served, and when not, what a person is told: what is missing, what to bring back in which order,
//! and what must not be deleted. PURE. Nothing here ever leads to a step.

use crate::plan::facts::{Certainty, Facts, Seat, quorum};
use crate::plan::world::Machine;
use raftkv_api::NodeState;
use raftkv_crds::Reason;

/// Whether clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// They are.
    Available,
    /// They are not, for a reason that ends by itself.
    NotYet(Reason, String),
    /// Too few voters answer.
    QuorumLost(String),
    /// The kubelet says that they are; the operator cannot tell.
    Unknown(String),
}

pub(crate) fn service(facts: &Facts<'_>) -> Service {
    if facts.desired.suspend && facts.seen.pods.is_empty() {
        return Service::NotYet(Reason::Suspended, "no pods run, because spec.suspend is true".to_string());
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
    without_leader(facts)
}

fn without_leader(facts: &Facts<'_>) -> Service {
    let voters: Vec<&Seat> = facts.roster.voters().collect();
    let (answering, silent): (Vec<&Seat>, Vec<&Seat>) = voters.iter().partition(|seat| answers_as_voter(facts, seat));
    let needed = quorum(voters.len());
    if !voters.is_empty() && answering.len() >= needed {
        return Service::NotYet(
            Reason::Electing,
            "a quorum of the voters answers; they have no leader yet".to_string(),
        );
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
    Service::QuorumLost(text(facts, voters.len(), &silent))
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
    format!(
        "{} of the {voters} voters do not answer; {needed} of them must come back: {}. First bring back their Kubernetes nodes, then see \
         that the pods run. Nothing is changed meanwhile. Do not delete these volume claims, which may hold the only copies: {}",
        silent.len(),
        places.join("; "),
        claims.join(", ")
    )
}

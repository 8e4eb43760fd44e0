//! Makes the status (members, conditions, what is under way), and the events of what changed since the last pass. PURE.
//!
//! Nothing here changes with traffic (rule O21): a pass that saw nothing new gives the same status, byte for byte, and
//! then nothing is written.

use crate::plan::action::{Note, Pace, Plan, Problem, Underway};
use crate::plan::facts::{Certainty, Facts, Seat, answer, quorum};
use crate::plan::lost::{Service, service};
use crate::plan::world::{Child, ChildSeen, Memory, Ordinal, PodSeen, SetSeen};
use crate::plan::{Decision, form, judged, repair, roll, waits};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use raftkv_api::{MemberRole, NodeState};
use raftkv_crds::{
    Bootstrap, ConditionType, Leader, MemberStatus, Operation, OperationKind, PodStatus, RaftKvClusterStatus, Reason,
    label,
};
use std::collections::BTreeSet;

/// Longest message of a condition. Kubernetes refuses more than 32 KiB, and nobody reads so much.
const MESSAGE_CHARS_MAX: usize = 2_000;

pub(crate) fn report(facts: &Facts<'_>, decision: Decision) -> Plan {
    let underway = decision.underway();
    let operation = underway.filter(|_| !facts.desired.paused).map(|underway| operation(facts, underway));
    let verdicts = verdicts(facts, underway, operation.as_ref());
    let conditions: Vec<Condition> = verdicts.iter().map(|verdict| condition(facts, verdict)).collect();
    let notes = notes(facts, &conditions);
    let waits = waits::waits(facts, &decision);
    let status = RaftKvClusterStatus { waits, ..status(facts, &verdicts, underway, operation, conditions) };
    let calm = decision.steps.is_empty() && underway.is_none() && is(&verdicts, ConditionType::Ready);
    let pace = if calm { Pace::Calm } else { Pace::Brisk };
    Plan { pace, memory: memory(facts, &status), steps: decision.steps, status, notes }
}

/// A condition before it has a time.
struct Verdict {
    kind: ConditionType,
    status: &'static str,
    reason: Reason,
    message: String,
}

fn is(verdicts: &[Verdict], kind: ConditionType) -> bool {
    verdicts.iter().any(|verdict| verdict.kind == kind && verdict.status == "True")
}

fn verdicts(facts: &Facts<'_>, underway: Option<&Underway>, operation: Option<&Operation>) -> Vec<Verdict> {
    let service = service(facts);
    let available = available(facts, &service);
    let progressing = progressing(facts, underway, operation);
    let degraded = degraded(facts, &service);
    let ready = ready(facts, &[&available, &progressing, &degraded]);
    vec![ready, available, progressing, degraded]
}

fn available(facts: &Facts<'_>, service: &Service) -> Verdict {
    let kind = ConditionType::Available;
    let refused = judged::refused(facts).filter(|_| *service == Service::Available);
    if let Some((reason, message)) = refused {
        return Verdict { kind, status: "False", reason, message };
    }
    let (status, reason, message) = match service {
        Service::Available => ("True", Reason::QuorumHealthy, "a quorum of the voters answers and has a leader"),
        Service::NotYet(reason, text) => ("False", *reason, text.as_str()),
        Service::QuorumLost(text) => ("False", Reason::QuorumLost, text.as_str()),
        Service::Unknown(text) => ("Unknown", Reason::OperatorCannotReachPods, text.as_str()),
    };
    Verdict { kind, status, reason, message: message.to_string() }
}

fn progressing(facts: &Facts<'_>, underway: Option<&Underway>, operation: Option<&Operation>) -> Verdict {
    let verdict = |status, reason, message: &str| Verdict {
        kind: ConditionType::Progressing,
        status,
        reason,
        message: message.to_string(),
    };
    if facts.desired.paused {
        return verdict("False", Reason::Paused, "nothing is changed, because spec.paused is true");
    }
    if facts.desired.suspend {
        return match facts.seen.pods.is_empty() {
            true => verdict("False", Reason::Suspended, "no pods run, because spec.suspend is true"),
            false => {
                verdict("True", Reason::Suspending, underway.map_or("pods are stopping", |underway| &underway.text))
            }
        };
    }
    let Some(underway) = underway else { return idle(facts) };
    let began = operation.and_then(|operation| operation.since.parse::<Timestamp>().ok()).unwrap_or(facts.seen.now);
    if facts.seen.now.as_second() - began.as_second() > facts.desired.progress_deadline_s {
        let text = format!("no step forward since {began}: {}", underway.text);
        return verdict("False", Reason::DeadlineExceeded, &text);
    }
    verdict("True", reason_of(underway.kind), &underway.text)
}

/// No change is under way, but pods may still be starting.
fn idle(facts: &Facts<'_>) -> Verdict {
    let kind = ConditionType::Progressing;
    let wanted = facts.seen.ours().map_or(0, |set| set.replicas);
    let unready: Vec<String> = (0..wanted)
        .filter(|ordinal| facts.pod(*ordinal).is_none_or(|pod| !pod.ready))
        .map(|ordinal| format!("{}: {}", facts.desired.pod(ordinal), start_words(facts, ordinal)))
        .collect();
    match unready.is_empty() && facts.seen.latch.bootstrapped {
        true => {
            Verdict { kind, status: "False", reason: Reason::UpToDate, message: "nothing is to be done".to_string() }
        }
        false => Verdict {
            kind,
            status: "True",
            reason: Reason::StartingPods,
            message: match unready.is_empty() {
                true => "waiting until what the cluster needs can be made".to_string(),
                false => format!("waiting for {}", unready.join("; ")),
            },
        },
    }
}

fn start_words(facts: &Facts<'_>, ordinal: Ordinal) -> String {
    let votes = facts.status(ordinal).is_some_and(|status| status.state == NodeState::Voter);
    if votes { "it is not ready yet".to_string() } else { facts.trouble(ordinal) }
}

fn reason_of(kind: OperationKind) -> Reason {
    match kind {
        OperationKind::Bootstrap => Reason::Bootstrapping,
        OperationKind::Adopt => Reason::Adopting,
        OperationKind::ScaleUp => Reason::ScalingUp,
        OperationKind::ScaleDown => Reason::ScalingDown,
        OperationKind::Replace => Reason::ReplacingMember,
        OperationKind::Roll => Reason::RollingUpdate,
    }
}

fn degraded(facts: &Facts<'_>, service: &Service) -> Verdict {
    let problems = problems(facts, service);
    let kind = ConditionType::Degraded;
    match problems.first() {
        None => Verdict { kind, status: "False", reason: Reason::Healthy, message: "nothing is wrong".to_string() },
        Some(worst) => {
            let message = problems.iter().map(|problem| problem.text.as_str()).collect::<Vec<_>>().join(" | ");
            Verdict { kind, status: "True", reason: worst.reason, message }
        }
    }
}

/// What is wrong, the worst first.
fn problems(facts: &Facts<'_>, service: &Service) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Service::QuorumLost(text) = service
        && !facts.desired.suspend
    {
        problems.push(Problem { reason: Reason::QuorumLost, text: text.clone() });
    }
    problems.extend(judged::problems(facts));
    problems.extend(form::problem(facts));
    problems.extend(taken(facts));
    // Without a quorum nobody is replaced, and the text about the lost quorum names them all.
    let replaced = |problem: &Problem| !matches!(problem.reason, Reason::MemberUnreachable | Reason::DiskLost);
    let lost = matches!(service, Service::QuorumLost(_));
    problems.extend(repair::problems(facts).into_iter().filter(|problem| !lost || replaced(problem)));
    problems.extend(stranger_nodes(facts));
    problems.extend(not_starting(facts));
    problems.extend(token_refused(facts));
    let refused = facts.desired.invalid.iter().chain(&facts.seen.memory.refused);
    problems.extend(refused.map(|text| Problem { reason: Reason::InvalidSpec, text: text.clone() }));
    let failed = facts.seen.memory.failed.iter();
    problems.extend(failed.map(|text| Problem { reason: Reason::StepFailed, text: text.clone() }));
    problems
}

fn taken(facts: &Facts<'_>) -> Vec<Problem> {
    let name = &facts.desired.name;
    let children = facts.seen.children.iter().filter_map(|(child, seen)| match seen {
        ChildSeen::Taken(whose) => Some((facts.desired.object(*child), whose)),
        ChildSeen::Absent | ChildSeen::Good | ChildSeen::Differs | ChildSeen::Leaving => None,
    });
    let set = match &facts.seen.set {
        SetSeen::Taken(whose) => Some((format!("StatefulSet {name}"), whose)),
        SetSeen::Absent | SetSeen::Leaving | SetSeen::Ours(_) => None,
    };
    let text = |(object, whose)| {
        format!("{object} is not this cluster's: {whose}. It is left alone: rename it, or name the cluster otherwise")
    };
    children.chain(set).map(|found| Problem { reason: Reason::NameTaken, text: text(found) }).collect()
}

/// Pods without a member that answer as nodes of another cluster.
fn stranger_nodes(facts: &Facts<'_>) -> Vec<Problem> {
    let strange = |(ordinal, pod): (&Ordinal, &PodSeen)| {
        let status = answer(pod)?;
        let strange = facts.seen.latch.bootstrapped && status.cluster_id.is_some() && !facts.is_ours(status);
        (strange && !facts.roster.has(*ordinal)).then(|| repair::foreign_node(&facts.desired.pod(*ordinal)))
    };
    facts.seen.pods.iter().filter_map(strange).collect()
}

fn not_starting(facts: &Facts<'_>) -> Vec<Problem> {
    use crate::plan::world::Container;
    let stuck = |(ordinal, pod): (&Ordinal, &PodSeen)| match &pod.container {
        Container::Unscheduled(_) | Container::Failing(_) if !pod.terminating => Some(Problem {
            reason: Reason::PodNotStarting,
            text: format!("{} does not start: {}", facts.desired.pod(*ordinal), facts.trouble(*ordinal)),
        }),
        Container::Unscheduled(_) | Container::Failing(_) | Container::Starting | Container::Running => None,
    };
    facts.seen.pods.iter().filter_map(stuck).collect()
}

fn token_refused(facts: &Facts<'_>) -> Option<Problem> {
    let pods: Vec<String> = facts.seen.token_refused.iter().map(|ordinal| facts.desired.pod(*ordinal)).collect();
    let secret = facts.desired.object(Child::Auth);
    (!pods.is_empty()).then(|| Problem {
        reason: Reason::TokenRefused,
        text: format!(
            "{} refuses every token in {secret}: add the token with which it runs as another line. A node reads the \
             Secret again within some two minutes of a change",
            pods.join(" ")
        ),
    })
}

fn ready(facts: &Facts<'_>, others: &[&Verdict; 3]) -> Verdict {
    let kind = ConditionType::Ready;
    let [available, progressing, degraded] = others;
    let voters: Vec<Option<Ordinal>> = {
        let mut voters: Vec<_> = facts.roster.voters().map(|seat| seat.ordinal).collect();
        voters.sort_unstable();
        voters
    };
    let wanted: Vec<Option<Ordinal>> = (0..facts.desired.replicas).map(Some).collect();
    let complete = voters == wanted && facts.roster.learners().next().is_none();
    let serving = facts.roster.voters().all(|seat| facts.serves(seat));
    let settled = facts.desired.paused || progressing.status == "False" && progressing.reason == Reason::UpToDate;
    if available.status == "True"
        && complete
        && serving
        && settled
        && degraded.status == "False"
        && facts.desired.is_in_force()
        && !roll::is_due(facts)
    {
        let message = match voters.len() {
            1 => "the only member serves".to_string(),
            members => format!("{members} members serve"),
        };
        return Verdict { kind, status: "True", reason: Reason::AllMembersReady, message };
    }
    let worst = others.iter().find(|verdict| match verdict.kind {
        ConditionType::Available => verdict.status != "True",
        ConditionType::Progressing | ConditionType::Degraded => verdict.status == "True",
        ConditionType::Ready => false,
    });
    let (reason, message) = match worst {
        Some(verdict) if verdict.kind == ConditionType::Available => (verdict.reason, verdict.message.clone()),
        Some(_) if degraded.status == "True" => (degraded.reason, degraded.message.clone()),
        Some(verdict) => (Reason::MembersNotReady, verdict.message.clone()),
        None if progressing.reason == Reason::UpToDate => (Reason::MembersNotReady, unready(facts, complete)),
        None => (Reason::MembersNotReady, progressing.message.clone()),
    };
    Verdict { kind, status: "False", reason, message }
}

/// Nothing is under way and nothing is wrong, but the cluster is not yet what the spec asks for: a moment between two
/// steps.
fn unready(facts: &Facts<'_>, complete: bool) -> String {
    if !facts.desired.is_in_force() {
        return "the newest spec is not in force yet".to_string();
    }
    if !complete {
        let (voters, learners) = (facts.roster.voters().count(), facts.roster.learners().count());
        return format!(
            "{voters} voters and {learners} learners, and {} members are asked for",
            facts.desired.replicas
        );
    }
    let silent: Vec<&str> =
        facts.roster.voters().filter(|seat| !facts.serves(seat)).map(|seat| seat.name.as_str()).collect();
    match silent.is_empty() {
        true => "pods with an older template are about to be made anew".to_string(),
        false => format!("not ready: {}", silent.join(", ")),
    }
}

/// A condition keeps its time as long as its status is the same.
fn condition(facts: &Facts<'_>, verdict: &Verdict) -> Condition {
    let before = facts.seen.memory.conditions.iter().find(|old| old.type_ == verdict.kind.as_str());
    let last_transition_time = match before {
        Some(before) if before.status == verdict.status => before.last_transition_time.clone(),
        Some(_) | None => Time(facts.seen.now),
    };
    Condition {
        type_: verdict.kind.as_str().to_string(),
        status: verdict.status.to_string(),
        reason: verdict.reason.as_str().to_string(),
        message: verdict.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        last_transition_time,
        observed_generation: Some(facts.desired.generation),
    }
}

/// An event when something went wrong, and another when it is over.
fn notes(facts: &Facts<'_>, conditions: &[Condition]) -> Vec<Note> {
    let before = |kind: &str| facts.seen.memory.conditions.iter().find(|old| old.type_ == kind);
    let note = |condition: &Condition| {
        let before = before(&condition.type_);
        let was = before.map(|old| (old.status.as_str(), old.reason.as_str()));
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == condition.reason)?.as_str();
        let text = condition.message.clone();
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Degraded", "True") if was != Some(("True", reason)) => Some(Note { warning: true, reason, text }),
            ("Degraded", "False") if was.is_some_and(|(status, _)| status == "True") => {
                Some(Note { warning: false, reason, text })
            }
            ("Ready", "True") if was.is_some_and(|(status, _)| status != "True") => {
                Some(Note { warning: false, reason, text })
            }
            ("Progressing", "False")
                if reason == Reason::DeadlineExceeded.as_str() && was != Some(("False", reason)) =>
            {
                Some(Note { warning: true, reason, text })
            }
            _ => None,
        }
    };
    conditions.iter().filter_map(note).collect()
}

/// A step keeps its time as long as it is the same step for the same member.
fn operation(facts: &Facts<'_>, underway: &Underway) -> Operation {
    let before = facts.seen.memory.operation.as_ref();
    let same =
        before.filter(|old| old.kind == underway.kind && old.step == underway.step && old.member == underway.member);
    Operation {
        kind: underway.kind,
        step: underway.step.to_string(),
        member: underway.member.clone(),
        since: same.map_or_else(|| facts.seen.now.to_string(), |old| old.since.clone()),
    }
}

fn status(
    facts: &Facts<'_>,
    verdicts: &[Verdict],
    underway: Option<&Underway>,
    operation: Option<Operation>,
    conditions: Vec<Condition>,
) -> RaftKvClusterStatus {
    let (latch, count) = (&facts.seen.latch, |n: usize| i32::try_from(n).unwrap_or(i32::MAX));
    let voters = facts.roster.voters().count();
    let serving = facts.roster.voters().filter(|seat| facts.serves(seat)).count();
    let versions =
        facts.roster.seats.iter().filter_map(|seat| facts.answers(seat)).map(|status| status.version.clone());
    RaftKvClusterStatus {
        observed_generation: Some(facts.desired.generation),
        generation_in_force: facts.desired.generation_in_force,
        cluster_id: latch.cluster_id.map(|id| id.to_string()),
        bootstrap: latch.bootstrap.map(|seed| Bootstrap {
            cluster_id: seed.cluster_id.to_string(),
            incarnation: seed.incarnation.to_string(),
        }),
        bootstrapped: latch.bootstrapped,
        replicas: count(facts.seen.pods.len()),
        ready_replicas: count(serving),
        ready: Some(format!("{serving}/{}", facts.desired.replicas)),
        selector: Some(format!("{}={}", label::CLUSTER, facts.desired.name)),
        voters: count(voters),
        learners: count(facts.roster.learners().count()),
        quorum: count(if voters == 0 { 0 } else { quorum(voters) }),
        leader: facts
            .leader
            .map(|leader| Leader { name: facts.desired.pod(leader.ordinal), member_id: leader.id.to_string() }),
        version: versions.min_by(|a, b| version_key(a).cmp(&version_key(b))),
        image: Some(facts.desired.image.clone()),
        summary: Some(summary(verdicts)),
        message: underway.map(|underway| underway.text.chars().take(MESSAGE_CHARS_MAX).collect()),
        members: facts.roster.seats.iter().map(|seat| member(facts, seat)).collect(),
        pods: facts
            .seen
            .pods
            .iter()
            .filter(|(ordinal, _)| !facts.roster.has(**ordinal))
            .map(|(ordinal, pod)| pod_status(facts, *ordinal, pod))
            .collect(),
        operation,
        waits: vec![],
        conditions,
    }
}

/// `0.10.0` is newer than `0.9.0`.
fn version_key(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// One word for the column STATUS: the most important thing to know.
fn summary(verdicts: &[Verdict]) -> String {
    let reason =
        |kind, status| verdicts.iter().find(|it| it.kind == kind && it.status == status).map(|it| it.reason.as_str());
    if is(verdicts, ConditionType::Ready) {
        return verdicts
            .iter()
            .find(|it| it.reason == Reason::Paused)
            .map_or("Ready", |it| it.reason.as_str())
            .to_string();
    }
    let progress = reason(ConditionType::Progressing, "False").filter(|reason| *reason != Reason::UpToDate.as_str());
    let word = reason(ConditionType::Degraded, "True")
        .or(progress)
        .or_else(|| reason(ConditionType::Progressing, "True"))
        .or_else(|| reason(ConditionType::Available, "False"))
        .or_else(|| reason(ConditionType::Available, "Unknown"));
    word.unwrap_or("NotReady").to_string()
}

fn member(facts: &Facts<'_>, seat: &Seat) -> MemberStatus {
    let answers = facts.answers(seat);
    let role = match seat.role {
        MemberRole::Voter if facts.leads(seat.id) => "Leader",
        MemberRole::Voter => "Voter",
        MemberRole::Learner => "Learner",
        MemberRole::Outgoing => "Outgoing",
    };
    let pod = seat.ordinal.and_then(|ordinal| facts.pod(ordinal));
    MemberStatus {
        id: seat.id.to_string(),
        name: seat.name.clone(),
        incarnation: seat.incarnation.map(|incarnation| incarnation.to_string()).unwrap_or_default(),
        role: role.to_string(),
        state: seat
            .ordinal
            .and_then(|ordinal| facts.status(ordinal))
            .map_or("Unreachable", |status| state(status.state))
            .to_string(),
        ready: facts.serves(seat),
        caught_up: answers.is_some() && facts.is_caught_up(seat),
        version: answers.map(|status| status.version.clone()),
        node: pod.and_then(|pod| pod.machine.clone()),
        claim: seat
            .ordinal
            .filter(|ordinal| facts.claim(*ordinal).is_some())
            .map(|ordinal| facts.desired.claim(ordinal)),
    }
}

fn pod_status(facts: &Facts<'_>, ordinal: Ordinal, pod: &PodSeen) -> PodStatus {
    let silent = if pod.terminating { "Stopping" } else { "NotAnswering" };
    PodStatus {
        name: facts.desired.pod(ordinal),
        state: answer(pod).map_or(silent, |status| state(status.state)).to_string(),
        message: answer(pod).is_none().then(|| facts.trouble(ordinal)),
        node: pod.machine.clone(),
    }
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Opening => "Opening",
        NodeState::Blank => "Blank",
        NodeState::Learner => "Learner",
        NodeState::Voter => "Voter",
        NodeState::Removed => "Removed",
        NodeState::Quarantined => "Quarantined",
    }
}

fn memory(facts: &Facts<'_>, status: &RaftKvClusterStatus) -> Memory {
    let blank = facts.seen.pods.keys().filter_map(|ordinal| Some((*ordinal, facts.blank(*ordinal)?))).collect();
    let since = |ordinal: &Ordinal| facts.seen.memory.silent.get(ordinal).copied().unwrap_or(facts.seen.now);
    // The pods that exist, and those that should exist.
    let wanted = 0..facts.seen.ours().map_or(0, |set| set.replicas);
    let pods: BTreeSet<Ordinal> = facts.seen.pods.keys().copied().chain(wanted).collect();
    let silent = pods.into_iter().filter(|ordinal| facts.status(*ordinal).is_none());
    let members = match facts.roster.certainty {
        Certainty::Linearizable | Certainty::Reported => {
            facts.roster.seats.iter().filter_map(|seat| Some((seat.id, seat.ordinal?))).collect()
        }
        Certainty::Remembered => facts.seen.memory.members.clone(),
    };
    Memory {
        operation: status.operation.clone(),
        waits: status.waits.clone(),
        conditions: status.conditions.clone(),
        members,
        blank,
        silent: silent.map(|ordinal| (ordinal, since(&ordinal))).collect(),
        mute: waits::mute(facts),
        rows: waits::rows(facts),
        refused: facts.seen.memory.refused.clone(),
        failed: facts.seen.memory.failed.clone(),
    }
}

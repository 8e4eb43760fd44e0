//! What was seen of a cluster becomes what a person is shown: one verdict, rows, and what to do next. PURE.
//!
//! There are two witnesses. The operator's status says what is wanted and what is being done, and is as old as the
//! operator's last pass. The nodes say how they are at this moment. Where both speak of service, the nodes are right:
//! so the screen is true with the operator down, and with quorum lost.

use crate::judged;
use crate::kube::screen::{Level, Numbers, OperatorRow, Screen};
use crate::kube::seen::{Nodes, Seen};
use crate::kube::{next, rows};
use raftkv_client::admin::NodeStatus;
use raftkv_crds::{Condition, Reason};

/// Judges what was seen.
pub(crate) fn judge(seen: &Seen) -> Screen {
    let status = &seen.cluster.status;
    let members = rows::members(seen);
    let (leader, voters) = rows::leadership(seen, &members);
    let mut screen = Screen {
        cluster: seen.cluster.metadata.name.clone(),
        namespace: seen.cluster.metadata.namespace.clone(),
        level: Level::Unknown,
        summary: String::new(),
        conditions: rows::conditions(seen),
        numbers: match &seen.nodes {
            Nodes::NotAsked(why) => Numbers::Status(why.clone()),
            Nodes::Asked(..) => Numbers::Nodes,
        },
        claims: rows::claims(seen, &members),
        members,
        leader,
        voters,
        quorum: if voters == 0 { 0 } else { voters / 2 + 1 },
        operation: rows::operation(seen),
        message: status.message.clone().filter(|message| !message.is_empty()),
        events: rows::events(seen),
        operator: operator(seen),
        notes: notes(seen),
        next: Vec::new(),
        more: None,
    };
    (screen.level, screen.summary) = verdict(seen, &screen);
    screen.next = next::advise(seen, &screen);
    screen.more = next::more(&screen);
    screen
}

fn notes(seen: &Seen) -> Vec<String> {
    let part = |part: &str, why: Option<&String>| why.map(|why| format!("{part} could not be read: {why}"));
    // Without the pods no node is asked, and that is said already.
    let parts = [part("volume claims", seen.claims.as_ref().err()), part("events", seen.events.as_ref().err())];
    parts.into_iter().flatten().collect()
}

fn operator(seen: &Seen) -> OperatorRow {
    let operators = match &seen.operators {
        Ok(operators) => operators,
        Err(why) => return OperatorRow::Unknown { why: why.clone() },
    };
    let ours = operators.iter().filter(|operator| operator.watches(&seen.cluster.metadata.namespace));
    let Some(best) = ours.max_by_key(|operator| operator.status.available_replicas) else { return OperatorRow::Absent };
    let (namespace, name) = (best.metadata.namespace.clone(), best.metadata.name.clone());
    match (best.status.available_replicas, best.spec.replicas) {
        (0, wanted) => OperatorRow::Down { namespace, name, wanted },
        (available, wanted) => OperatorRow::Up { namespace, name, available, wanted },
    }
}

/// How it is, and one sentence about it.
fn verdict(seen: &Seen, screen: &Screen) -> (Level, String) {
    let told = operators_view(seen);
    let unattended = match screen.operator {
        OperatorRow::Down { .. } | OperatorRow::Absent => Level::Degraded,
        OperatorRow::Up { .. } | OperatorRow::Unknown { .. } => Level::Healthy,
    };
    if told == Level::Unknown && screen.members.is_empty() {
        return (Level::Unknown, "no operator has looked at it yet".to_string());
    }
    let (nodes, members) = match &seen.nodes {
        Nodes::Asked(nodes, members) if told != Level::Suspended => (nodes, members),
        Nodes::Asked(..) | Nodes::NotAsked(_) => return (told.max(unattended), operators_words(seen)),
    };
    // A pod that starts and is no member yet is not missed by anybody.
    let is_missed = |node: &&NodeStatus| {
        let known = members.as_ref().is_none_or(|members| members.members.iter().any(|member| member.name == node.url));
        node.status.is_ok() || known
    };
    let verdict = judged::judge(nodes.iter().filter(is_missed));
    let shall_serve = has_served(seen) && !seen.cluster.spec.suspend;
    // Of a cluster that is being formed or stopped the nodes can only say that; the operator says why.
    let why = operators_words(seen);
    let excused = verdict.level == judged::Level::Down && !shall_serve && !why.is_empty();
    let summary = if excused { why } else { verdict.summary() };
    (both(verdict.level, told, shall_serve).max(unattended), summary)
}

/// The nodes' word and the operator's, together.
fn both(nodes: judged::Level, told: Level, shall_serve: bool) -> Level {
    match (nodes, told) {
        // A cluster that is being formed or stopped serves nobody, and nothing is wrong with that.
        (judged::Level::Down, Level::Changing) if !shall_serve => Level::Changing,
        (judged::Level::Down, _) => Level::Down,
        // A learner, or a node that is no member, is what a change looks like.
        (judged::Level::Degraded, Level::Changing) => Level::Changing,
        (judged::Level::Degraded, _) => Level::Degraded,
        (judged::Level::Healthy, Level::Healthy | Level::Unknown) => Level::Healthy,
        (judged::Level::Healthy, Level::Changing) => Level::Changing,
        // They serve, whatever the operator saw at last.
        (judged::Level::Healthy, Level::Suspended | Level::Degraded | Level::Down) => Level::Degraded,
    }
}

/// The conditions as a level.
fn operators_view(seen: &Seen) -> Level {
    let is = |kind: &str, status: &str| condition(seen, kind).is_some_and(|found| found.status == status);
    let unavailable = is("Available", "False");
    if seen.cluster.status.conditions.is_empty() {
        Level::Unknown
    } else if unavailable && seen.cluster.spec.suspend && !is("Degraded", "True") {
        Level::Suspended
    } else if unavailable && has_served(seen) {
        Level::Down
    } else if is("Degraded", "True") || is("Available", "Unknown") {
        Level::Degraded
    } else if unavailable || is("Progressing", "True") || !is("Ready", "True") {
        Level::Changing
    } else {
        Level::Healthy
    }
}

/// What the operator says in one sentence: what is wrong, else what it waits for.
fn operators_words(seen: &Seen) -> String {
    let conditions = &seen.cluster.status.conditions;
    let is = |kind: &str, good: &str| conditions.iter().find(|found| found.type_ == kind && found.status != good);
    let wrong = is("Degraded", "False").or(is("Available", "True")).map(|found| &found.message);
    let first = conditions.first().map(|found| &found.message);
    let message = seen.cluster.status.message.as_ref().filter(|message| !message.is_empty());
    wrong.or(message).or(first).cloned().unwrap_or_default()
}

/// It had, once, the voters that make its writes safe.
fn has_served(seen: &Seen) -> bool {
    let forming = condition(seen, "Available").is_some_and(|found| found.reason == Reason::Forming.as_str());
    seen.cluster.status.bootstrapped && !forming
}

fn condition<'a>(seen: &'a Seen, kind: &str) -> Option<&'a Condition> {
    seen.cluster.status.conditions.iter().find(|condition| condition.type_ == kind)
}

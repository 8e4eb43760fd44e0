//! The screen: what a person or a program is shown of a cluster, and its text. PURE.
//!
//! The text has the verdict first, what to do last, and the evidence in between.

use crate::table::{Align, Table};
use serde::Serialize;
use std::collections::BTreeSet;

/// Longest message in a table; `kubectl describe` and JSON have all of it.
const MESSAGE_CHARS_MAX: usize = 120;

/// How the cluster is, the better the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Nothing to do.
    Healthy,
    /// No pods run, because they shall not.
    Suspended,
    /// Something is under way.
    Changing,
    /// It serves, and something needs attention.
    Degraded,
    /// It does not serve, or its members' data differs.
    Down,
    /// Nobody has said anything yet.
    Unknown,
}

/// Where the numbers of the members come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "source", content = "why")]
pub(crate) enum Numbers {
    /// From the nodes themselves.
    Nodes,
    /// There are none, since the nodes could not be asked; the rest is the operator's.
    Status(String),
}

/// What is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Screen {
    pub cluster: String,
    pub namespace: String,
    pub level: Level,
    pub summary: String,
    pub conditions: Vec<ConditionRow>,
    pub numbers: Numbers,
    pub members: Vec<MemberRow>,
    pub leader: Option<String>,
    pub voters: u32,
    pub quorum: u32,
    pub operation: Option<OperationRow>,
    pub message: Option<String>,
    pub claims: Vec<ClaimRow>,
    pub events: Vec<EventRow>,
    pub operator: OperatorRow,
    /// What could not be read, and why.
    pub notes: Vec<String>,
    pub next: Vec<Advice>,
    /// Where the runbook has more about the worst reason.
    pub more: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConditionRow {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub age: String,
    pub message: String,
}

/// A member, or a pod that is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MemberRow {
    pub id: Option<String>,
    pub pod: String,
    pub role: String,
    pub state: String,
    pub lag: Option<u64>,
    pub applied: Option<u64>,
    pub version: Option<String>,
    pub node: Option<String>,
    pub claim: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct OperationRow {
    pub kind: String,
    pub step: String,
    pub member: Option<String>,
    pub age: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClaimRow {
    pub name: String,
    pub status: String,
    pub size: Option<String>,
    pub class: Option<String>,
    pub member: Option<String>,
    pub foreign: bool,
    pub note: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct EventRow {
    pub age: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    pub object: String,
    pub message: String,
}

/// The operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(crate) enum OperatorRow {
    /// It runs.
    Up { namespace: String, name: String, available: u32, wanted: u32 },
    /// There is one, and no pod of it is available.
    Down { namespace: String, name: String, wanted: u32 },
    /// There is none.
    Absent,
    /// Deployments may not be listed.
    Unknown { why: String },
}

/// A sentence, and the commands that go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Advice {
    pub text: String,
    pub run: Vec<String>,
}

impl Advice {
    pub(crate) fn new(text: impl Into<String>, run: impl IntoIterator<Item = String>) -> Self {
        Advice { text: text.into(), run: run.into_iter().collect() }
    }
}

impl Level {
    /// The word in the first line.
    fn word(self) -> &'static str {
        match self {
            Level::Healthy => "healthy",
            Level::Suspended => "suspended",
            Level::Changing => "changing",
            Level::Degraded => "degraded",
            Level::Down => "DOWN",
            Level::Unknown => "unknown",
        }
    }
}

/// The whole screen.
pub(crate) fn text(screen: &Screen) -> String {
    let mut parts = vec![head(screen)];
    parts.extend(conditions(screen));
    parts.extend(members(screen));
    parts.push(facts(screen));
    parts.extend(claims(screen));
    parts.extend(events(&screen.events));
    parts.push(next(screen));
    parts.join("\n")
}

fn head(screen: &Screen) -> String {
    let colon = if screen.summary.is_empty() { "" } else { ": " };
    format!("{}/{} is {}{colon}{}\n", screen.namespace, screen.cluster, screen.level.word(), shortened(&screen.summary))
}

fn conditions(screen: &Screen) -> Option<String> {
    let mut table = left(&["CONDITION", "STATUS", "REASON", "FOR", "MESSAGE"]);
    let mut said = BTreeSet::new();
    for row in &screen.conditions {
        // Ready repeats what another condition says, and a lost quorum is said by three.
        let message = if said.insert(&row.message) { shortened(&row.message) } else { "(as above)".to_string() };
        let cells = [&row.kind, &row.status, &row.reason, &row.age, &message];
        table.row(cells.map(String::clone).to_vec());
    }
    (!screen.conditions.is_empty()).then(|| table.render())
}

fn members(screen: &Screen) -> Option<String> {
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("POD", Align::Left),
        ("ROLE", Align::Left),
        ("STATE", Align::Left),
        ("LAG", Align::Right),
        ("APPLIED", Align::Right),
        ("VERSION", Align::Left),
        ("NODE", Align::Left),
        ("CLAIM", Align::Left),
    ]);
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    for row in &screen.members {
        table.row(vec![
            row.id.clone().unwrap_or_default(),
            row.pod.clone(),
            row.role.clone(),
            row.state.clone(),
            number(row.lag),
            number(row.applied),
            row.version.clone().unwrap_or_default(),
            row.node.clone().unwrap_or_default(),
            row.claim.clone().unwrap_or_default(),
        ]);
    }
    (!screen.members.is_empty()).then(|| table.render())
}

/// What fits in a line each.
fn facts(screen: &Screen) -> String {
    let mut lines = Vec::new();
    if let Numbers::Status(why) = &screen.numbers {
        lines.push(format!("nodes:     not asked, so that roles and states are the operator's last word: {why}"));
    }
    let leader = screen.leader.as_deref().unwrap_or("none");
    let s = if screen.voters == 1 { "" } else { "s" };
    lines.push(format!("leader:    {leader}; {} voter{s}, quorum {}", screen.voters, screen.quorum));
    lines.push(format!("operation: {}", operation(screen)));
    if let Some(message) = &screen.message {
        lines.push(format!("message:   {message}"));
    }
    lines.push(format!("operator:  {}", operator(&screen.operator)));
    lines.extend(screen.notes.iter().map(|note| format!("note:      {note}")));
    lines.join("\n") + "\n"
}

fn operation(screen: &Screen) -> String {
    let Some(operation) = &screen.operation else { return "none".to_string() };
    let member = operation.member.as_ref().map(|member| format!(" {member}")).unwrap_or_default();
    let age = if operation.age.is_empty() { String::new() } else { format!(", for {}", operation.age) };
    format!("{}: {}{member}{age}", operation.kind, operation.step)
}

fn operator(operator: &OperatorRow) -> String {
    match operator {
        OperatorRow::Up { namespace, name, available, wanted } => {
            format!("{namespace}/{name}, {available} of {wanted} pods available")
        }
        OperatorRow::Down { namespace, name, wanted } => {
            format!("{namespace}/{name} is DOWN, 0 of {wanted} pods available; the conditions above are its last word")
        }
        OperatorRow::Absent => "none that watches this namespace".to_string(),
        OperatorRow::Unknown { why } => format!("not known: {why}"),
    }
}

fn claims(screen: &Screen) -> Option<String> {
    let mut table = left(&["CLAIM", "STATUS", "SIZE", "CLASS", "MEMBER", "NOTE"]);
    for row in &screen.claims {
        table.row(vec![
            row.name.clone(),
            row.status.clone(),
            row.size.clone().unwrap_or_default(),
            row.class.clone().unwrap_or_default(),
            row.member.clone().unwrap_or_default(),
            row.note.clone(),
        ]);
    }
    (!screen.claims.is_empty()).then(|| table.render())
}

fn events(events: &[EventRow]) -> Option<String> {
    let mut table = left(&["AGE", "EVENT", "REASON", "OBJECT", "MESSAGE"]);
    for row in events {
        let message = shortened(&row.message);
        let cells = [&row.age, &row.kind, &row.reason, &row.object, &message];
        table.row(cells.map(String::clone).to_vec());
    }
    (!events.is_empty()).then(|| table.render())
}

fn next(screen: &Screen) -> String {
    if screen.next.is_empty() {
        return "next: nothing to do\n".to_string();
    }
    let advice = screen.next.iter().map(|advice| {
        let commands: String = advice.run.iter().map(|run| format!("  {run}\n")).collect();
        format!("next: {}\n{commands}", advice.text)
    });
    let more = screen.more.as_ref().map(|url| format!("more: {url}\n"));
    advice.chain(more).collect()
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_string(),
    }
}

fn left(columns: &[&str]) -> Table {
    Table::new(&columns.iter().map(|name| (*name, Align::Left)).collect::<Vec<_>>())
}

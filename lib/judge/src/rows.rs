//! One row for each node, and the hashes by which members' data are compared (rule N15). PURE.

use crate::view::{Heard, Node, View};
use crate::{Report, ills};
use raftkv_api::{Hex128, NodeState, Status};
use std::collections::{BTreeMap, BTreeSet};

/// Digits of a hash that a table shows.
const HASH_DIGITS: usize = 12;

/// One node, in words and numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its name, or where it was asked.
    pub name: String,
    /// Its state, or why that is not known.
    pub state: &'static str,
    /// What it does in the cluster.
    pub role: &'static str,
    /// Raft term.
    pub term: Option<u64>,
    /// Applied index.
    pub applied: Option<u64>,
    /// Entries between the leader's commit index and what is applied here.
    pub lag: Option<u64>,
    /// Revision of its store.
    pub revision: Option<u64>,
    /// Bytes of its kv db.
    pub db_bytes: Option<u64>,
    /// The state hash at [`crate::Judgement::hash_index`], shortened.
    pub hash: Option<String>,
}

/// Whether members hold different data, or are not of one cluster: the one finding that cannot wait.
pub fn data_differs(reports: &[Report<'_>]) -> bool {
    ills::divergence(&View::new(reports)).is_some()
}

pub(crate) fn all(view: &View<'_>, hash_index: Option<u64>) -> Vec<Row> {
    let foreign = view.foreign.iter().map(|(at, status)| foreign_node(at, status));
    let nodes: Vec<Node<'_>> = view.nodes.iter().copied().chain(foreign).collect();
    let mut rows: Vec<Row> = nodes.iter().map(|node| row(view, node, hash_index)).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

fn foreign_node<'a>(at: &'a str, status: &'a Status) -> Node<'a> {
    Node { name: &status.name, at, member: None, heard: Heard::Status(status), peer: None }
}

fn row(view: &View<'_>, node: &Node<'_>, hash_index: Option<u64>) -> Row {
    let name = node.name.to_string();
    let status = match node.heard {
        Heard::Status(status) => status,
        Heard::Unreachable(_) => return Row { name, state: "unreachable", ..Row::default() },
        Heard::Unauthorized => return Row { name, state: "unauthorized", ..Row::default() },
        Heard::Overloaded(_) => return Row { name, state: "overloaded", ..Row::default() },
        Heard::NotAsked => return Row { name, state: "not asked", ..Row::default() },
        Heard::Replaced(_) => return Row { name, state: "gone", ..Row::default() },
    };
    let lag = view.leader.filter(|_| node.member.is_some());
    let hash = hash_index.and_then(|index| hashes(status).get(&index).copied());
    Row {
        name,
        state: state(status.state),
        role: role(view, status),
        term: Some(status.term),
        applied: Some(status.applied),
        lag: lag.map(|leader| leader.commit.saturating_sub(status.applied)),
        revision: Some(status.revision),
        db_bytes: Some(status.db_bytes),
        hash: hash.map(|hash| hash.to_string()[..HASH_DIGITS].to_string()),
    }
}

fn role(view: &View<'_>, status: &Status) -> &'static str {
    let leads = view.leader.is_some_and(|leader| leader.member_id == status.member_id);
    match status.state {
        NodeState::Voter if leads => "leader",
        NodeState::Voter => "follower",
        NodeState::Learner => "learner",
        NodeState::Opening | NodeState::Blank | NodeState::Removed | NodeState::Quarantined => "",
    }
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Opening => "opening",
        NodeState::Blank => "blank",
        NodeState::Learner => "learner",
        NodeState::Voter => "voter",
        NodeState::Removed => "removed",
        NodeState::Quarantined => "quarantined",
    }
}

pub(crate) fn common_hash_index(view: &View<'_>) -> Option<u64> {
    let indexes = |status: &Status| hashes(status).into_keys().collect::<BTreeSet<_>>();
    let common = view.running().map(indexes).reduce(|a, b| a.intersection(&b).copied().collect());
    common.and_then(|indexes| indexes.last().copied())
}

/// All hashes that a node shows, by applied index.
pub(crate) fn hashes(status: &Status) -> BTreeMap<u64, Hex128> {
    status.state_hashes.iter().chain(&status.state_hash).map(|hash| (hash.applied, hash.log_hash)).collect()
}

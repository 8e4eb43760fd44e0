//! One judgement of what the nodes of a cluster say of themselves: whether it can write and read at this moment, how many
//! more members may fail, who is ill with what, and what a person does about it. PURE.
//!
//! Enters: for each node that was asked, its status, or why there is none. Of members that do not answer, what the leader
//! last heard of them, which its own status holds. Leaves: a [`Judgement`]. The command line, the operator and a node's
//! own readiness all judge by [`judge`], so that none of them calls a cluster healthy that the others call ill.
//!
//! Nothing is asked, and nothing is known besides the reports: a cluster that is judged by one report is judged as far as
//! that node can know.
//!
//! ```text
//!   reports ──► view: who is a member, who leads, what of each is known ──► ills ──► Judgement
//!                                                                      └──► rows
//! ```

mod illness;
mod ills;
mod rows;
#[cfg(test)]
mod tests;
mod view;

pub use illness::{Ill, Illness, Next};
pub use rows::{Row, data_differs};

use raftkv_api::Status;

/// Entries by which a member may be behind and still count as caught up (rule O6).
pub const CAUGHT_UP_ENTRIES: u64 = 1000;
/// From so many milliseconds on a sync of the log hangs (rule N26).
pub const HANG_MS: u64 = 700;
/// A store that has applied nothing for so many milliseconds, although there is something to apply, stands still.
pub const APPLY_STALL_MS: u64 = 5_000;
/// A member that heard of its leader within so many milliseconds has one.
const LEADER_CONTACT_MS: u64 = 2_000;

/// What came of asking one node.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Where it was asked: a URL, or the name of a pod.
    pub at: &'a str,
    /// What came back.
    pub answer: Answer<'a>,
}

/// What a node said, or why it said nothing.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// Its status.
    Status(&'a Status),
    /// It could not be reached, for this reason.
    Unreachable(&'a str),
    /// It runs, and refuses our token.
    Unauthorized,
    /// It runs, and has no room for this call, as it says.
    Overloaded(&'a str),
}

/// Whether something can be done at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Can {
    /// It can.
    Yes,
    /// It cannot, for this reason.
    No(String),
    /// Nobody who would know was heard, for this reason.
    Unknown(String),
}

impl Can {
    /// Whether it certainly can.
    pub fn is_yes(&self) -> bool {
        *self == Can::Yes
    }

    /// A word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Can::Yes => "yes",
            Can::No(_) => "no",
            Can::Unknown(_) => "unknown",
        }
    }
}

/// How well the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to do.
    Healthy,
    /// It reads and writes, and something needs attention.
    Degraded,
    /// It does not write, or not even read, or its members' data differ.
    Down,
}

impl Level {
    /// A word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Healthy => "healthy",
            Level::Degraded => "degraded",
            Level::Down => "down",
        }
    }
}

/// How the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// In one word.
    pub level: Level,
    /// Whether a put would be taken.
    pub can_write: Can,
    /// Whether a linearizable read would be answered.
    pub can_read: Can,
    /// How many more voters may fail, whichever they are, before there is no quorum.
    pub may_fail: usize,
    /// What is wrong, the worst first.
    pub ills: Vec<Ill>,
    /// Members whose disks do not answer, with the milliseconds for which they have not; of one that is silent, as its
    /// leader last heard.
    pub stalled: Vec<(String, u64)>,
    /// One row for each member and each other node that was asked, by name.
    pub rows: Vec<Row>,
    /// The highest applied index at which every member that answered has a hash.
    pub hash_index: Option<u64>,
    /// Who leads how many voters; `None` without a leader.
    leads: Option<String>,
}

impl Judgement {
    /// The names of the nodes that have this illness.
    pub fn names(&self, illness: Illness) -> Vec<&str> {
        self.ills.iter().filter(|ill| ill.illness == illness).filter_map(|ill| ill.who.as_deref()).collect()
    }

    /// In one sentence.
    pub fn summary(&self) -> String {
        let leads = self.leads.as_ref().map(|leads| format!("{leads}; {} more may fail", self.may_fail));
        let told = self.ills.iter().map(|ill| ill.what.clone());
        let parts: Vec<String> = match self.level {
            Level::Down if !self.can_read.is_yes() => told.collect(),
            Level::Down => told.chain(leads).collect(),
            Level::Degraded | Level::Healthy => leads.into_iter().chain(told).collect(),
        };
        parts.join("; ")
    }
}

/// Judges what was reported.
pub fn judge(reports: &[Report<'_>]) -> Judgement {
    let view = view::View::new(reports);
    let (can_write, can_read, may_fail) = (view.can_write(), view.can_read(), view.may_fail());
    let ills = ills::all(&view);
    let refused = matches!(can_write, Can::No(_)) || matches!(can_read, Can::No(_));
    let level = if refused || ills.first().is_some_and(|worst| worst.illness.is_the_clusters()) {
        Level::Down
    } else if ills.is_empty() {
        Level::Healthy
    } else {
        Level::Degraded
    };
    let hash_index = rows::common_hash_index(&view);
    let rows = rows::all(&view, hash_index);
    let stalled = view.stalled();
    Judgement { level, can_write, can_read, may_fail, ills, stalled, rows, hash_index, leads: view.leads() }
}

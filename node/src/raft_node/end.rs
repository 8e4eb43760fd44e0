//! How the member phase ends, and how the process ends.
//!
//! The member phase is ended by `turns`, which leaves an [`End`]; `phases` makes the next phase or an [`Exit`] of it.

use raftkv_core::identity::Finding;

/// How the member phase ends.
#[derive(Debug)]
pub enum End {
    /// Raft stops for good; the node lives on as Removed.
    Removed { index: u64, term: u64 },
    /// Raft stops for good; the node lives on as Quarantined.
    Quarantined(Finding),
    /// The process ends or starts anew.
    Exit(Exit),
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended cleanly.
    Stopped,
    /// It must start anew.
    Restart(RestartWhy),
    /// It must not go on; the sentence says why and what to do.
    Fatal(String),
}

/// Why the process starts anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartWhy {
    /// The kv db is not what it claims: set it aside first (rule N8).
    DistrustKv(String),
    /// The kv db met a full disk, and there is space again: open it and prove it once more (rule N11).
    Reopen(String),
    /// The data were set aside: begin as Blank.
    Reset,
}

//! Commands that clients replicate, and what they do. The encoding is part of the log format.

use crate::types::Revision;
use bytes::Bytes;

/// When a write takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// `If-Match: "<rev>"`: the key exists with this mod_revision.
    ModRevision(Revision),
    /// `If-Match: *`: the key exists.
    Exists,
    /// `If-None-Match: *`: the key does not exist.
    Absent,
}

/// A replicated command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes a value.
    Put { key: Bytes, value: Bytes, condition: Condition },
    /// Removes a key.
    Delete { key: Bytes, condition: Condition },
    /// Makes revisions at or below this unreadable; the leader proposes it, so that all members agree (rule N15).
    Compact { revision: Revision },
}

/// What a command did, decided at apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value was written.
    Put { revision: Revision, version: u64 },
    /// `deleted` is false when there was no such key; the revision did not change then.
    Deleted { revision: Revision, deleted: bool },
    /// The condition did not hold; `current` is the key's mod_revision, `None` when it does not exist.
    ConditionFailed { revision: Revision, current: Option<Revision> },
    /// The compacted revision after the command.
    Compacted { revision: Revision },
}

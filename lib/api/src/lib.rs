//! The wire types that raftkv's nodes, its command line and its operator agree on.
//!
//! Everything here is JSON on the HTTP API v1 (design: client port 2379, admin port 2381). There is no logic beyond
//! encoding and the table of advice, and no raft or storage type appears.
//!
//! Conventions: 64-bit ids are decimal strings in JSON, since a u64 does not fit a JavaScript number; revisions,
//! indexes and terms are JSON numbers; `cluster_id`, `genesis` and `incarnation` are 128 random bits as 32 lower-case
//! hex digits; bytes that are not UTF-8 travel as base64.

mod advice;
mod hex128;
mod kv;
mod members;
mod problem;
mod status;

pub use advice::Advice;
pub use hex128::{Hex128, ParseHexError};
pub use kv::{Deleted, KEY_BYTES_MAX, KeyValue, Put, Range, VALUE_BYTES_MAX};
pub use members::{
    AddMember, DecimalId, Init, InitDone, LeaderRef, Member, MemberAdded, MemberRole, Members, Promote, RemovedMember,
    Reset, Transfer, Transferred,
};
pub use problem::{Code, Outcome, Problem};
pub use status::{KvState, NodeState, Peer, Serves, StalledOn, StateHash, Status, Stream, Twin, Version, Writes};

/// Header of a mutating admin call: the cluster id of the node it is sent to (32 hex digits, or `none` for a Blank
/// node).
pub const HEADER_CLUSTER: &str = "x-raftkv-cluster";
/// Header of a mutating admin call: the name of the node it is sent to.
pub const HEADER_NAME: &str = "x-raftkv-name";
/// Header of a mutating admin call: the incarnation of the node it is sent to.
pub const HEADER_INCARNATION: &str = "x-raftkv-incarnation";
/// Header of a read: the revision of the store that was read.
pub const HEADER_REVISION: &str = "x-raftkv-revision";
/// Header of a stale read: the applied index of the node that answered.
pub const HEADER_APPLIED: &str = "x-raftkv-applied";
/// Header of a stale read: milliseconds since the node last heard of a leader.
pub const HEADER_LEADER_CONTACT_MS: &str = "x-raftkv-leader-contact-ms";

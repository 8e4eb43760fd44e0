//! The messages that members send to each other, and their bytes. PURE.
//!
//! Enters: bytes of a peer's stream. Leaves: a [`Frame`], or why the stream cannot go on. `frame` is the codec;
//! `protobuf_guard` and `raft_shape` refuse what would harm protobuf or raft before either sees it. Sockets are the
//! transport's business.

mod frame;
mod one_process;
mod protobuf_guard;
mod raft_shape;

pub use frame::{FrameError, HEAD_BYTES, Incoming, Sign, decode, encode, encode_sign, payload_bytes};
pub use one_process::{Run, is_of_another_run, runs_twice};

use crate::membership::Removed;
use crate::space::Room;
use crate::types::{Index, MemberId, RequestId, Term};
use bytes::Bytes;
use raft::prelude::Message;
use raftkv_api::Hex128;
use serde::{Deserialize, Serialize};

/// Version of the peer protocol, and of the [`Hello`] that begins it. Members of this format and of all later ones talk to
/// each other: each leaves out what it does not know, and a log holds nothing new before all of them know it.
pub const HELLO_FORMAT: u32 = 2;
/// What this version can read in a log; `level_max` in its hello.
pub const LEVEL_MAX: u16 = 1;

/// The header `X-Raftkv-Hello`, as JSON on one line, of a peer stream (peer protocol v1) and of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`HELLO_FORMAT`].
    pub format: u32,
    /// The sender's cluster.
    pub cluster_id: Hex128,
    /// The cluster's genesis, drawn at init.
    pub genesis: Hex128,
    /// The cluster's generation: 0.
    pub generation: u64,
    /// The sender.
    pub from: MemberId,
    /// Its name.
    pub from_name: String,
    /// Its data directory.
    pub from_incarnation: Hex128,
    /// The receiver that is meant.
    pub to: MemberId,
    /// The data directory that is meant.
    pub to_incarnation: Hex128,
    /// Random per start of the sender's process: distinguishes the first hello of a run from later ones (rule N20).
    pub boot: u64,
    /// The sender's durable term.
    pub term: Term,
    /// The sender's durable last index.
    pub last_index: Index,
    /// The peer URL that the sender advertises.
    pub peer_url: String,
    /// The client URL that the sender advertises.
    pub client_url: String,
    /// The admin URL that the sender advertises.
    pub admin_url: String,
    /// What the sender can read in a log: its [`LEVEL_MAX`].
    pub level_max: u16,
}

impl Hello {
    /// Whether the sender speaks a protocol that we do not.
    pub fn is_older(&self) -> bool {
        self.format < HELLO_FORMAT
    }
}

/// Proof that the receiver was removed (rule N4); kind 4, and the body of a 410.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedRecord {
    /// The cluster. The receiver checks this and each of the ids below.
    pub cluster_id: Hex128,
    /// The cluster's genesis, drawn at init.
    pub genesis: Hex128,
    /// The cluster's generation: 0.
    pub generation: u64,
    /// The member that was removed.
    pub member_id: MemberId,
    /// Its data directory, and index and term of the removal.
    pub removed: Removed,
}

/// A client's command sent to the leader by another member (rule N5); never sent twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The term in which the origin believes that the receiver leads.
    pub term: Term,
    /// The request; its origin is the sender.
    pub request: RequestId,
    /// The encoded command.
    pub data: Bytes,
}

/// The leader's answer to a [`Forward`].
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardReply {
    /// Not appended: outcome none.
    Refused { request: RequestId, why: String },
    /// Refused for lack of space: outcome none.
    NoSpace { request: RequestId, why: String },
    /// Appended there; the result comes with the origin's own apply.
    Appended { request: RequestId, index: Index, term: Term },
}

/// What a member reports to the others every second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Applied index.
    pub applied: Index,
    /// Index of the newest membership change that is applied durably.
    pub durable_conf_index: Index,
    /// Commit index.
    pub commit: Index,
    /// Free bytes on the data volume.
    pub free_bytes: u64,
    /// Whether the member may take over leadership.
    pub can_lead: bool,
    /// Free bytes and those of the reserve file together (rule N11). A member of an earlier version does not report
    /// them, and is not called short.
    #[serde(default)]
    pub headroom_bytes: u64,
    /// Below this no put should come.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// For how long the oldest sync of its log has been running; 0 while none is (rule N26).
    #[serde(default)]
    pub stalled_ms: u64,
    /// Bytes of the data volume; 0 when unknown.
    #[serde(default)]
    pub volume_bytes: u64,
}

impl Report {
    /// The member's room.
    pub fn room(&self) -> Room {
        Room { headroom_bytes: self.headroom_bytes, reserve_bytes: self.reserve_bytes }
    }
}

/// One frame of a peer stream: u32 length, u32 crc32c, u8 kind, payload of at most 8 MiB.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Kind 1, protobuf.
    Raft(Box<Message>),
    /// Kind 2.
    Forward(Forward),
    /// Kind 3.
    ForwardReply(ForwardReply),
    /// Kind 4.
    Removed(Box<RemovedRecord>),
    /// Kind 5.
    Report(Report),
}

/// What a node answers to a hello.
#[derive(Clone, Debug, PartialEq)]
pub enum HelloVerdict {
    /// The stream is accepted, with the answering hello; a Blank node has durably joined by then.
    Accept(Box<Hello>),
    /// 409 with the reason: another cluster, genesis, generation, incarnation, member, or format.
    Differs(String),
    /// 409 that tells the dialler to stop for good: it was rolled back (rule N20).
    RolledBack(String),
    /// 410: the dialler was removed.
    Gone(Box<RemovedRecord>),
    /// 503: still opening.
    Later(String),
}

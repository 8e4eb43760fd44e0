//! Peers over HTTP: long-lived streams, one bounded queue and one task per peer.
//!
//! Enters: frames to send, streams that peers open. Leaves: frames received, through [`PeerEvents`]. The transport
//! decides nothing about raft: it drops what does not fit and says so. It never sends a frame twice.
//!
//! ```text
//!   Transport::send ─► outbox ─► stream (one task each) ─► peer          dialler: streams that we open, again and again
//!                         └────► its socket, when it is little ─► peer
//!   PeerEvents::on_frame ◄────── stream (one task each) ◄─ peer          listener: streams that peers open, and bodies
//!   PeerEvents::on_snapshot_fetched ◄── snapshot_fetch ◄── snapshot_body of the peer that offered it
//! ```

mod bounds;
mod connect;
mod dialler;
mod frame;
mod handle;
mod hello;
mod listener;
mod outbox;
mod pace;
mod protobuf_guard;
mod raft_shape;
mod snapshot_body;
mod snapshot_fetch;
mod stall;
mod stream;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_snapshot;

pub use bounds::TransportLimits;
pub use frame::{FrameError, Incoming, decode, encode};
pub use handle::{Counts, Credentials, Queued, Transport};
pub use hello::{failure as dial_failure, from_header as hello_from_header, to_header as hello_to_header};
pub use outbox::Dropped;

use crate::disk::LogDisk;
use crate::membership::Removed;
use crate::snapshot::SnapshotMeta;
use crate::space::Room;
use crate::types::{Index, MemberId, RequestId, Term};
use bytes::Bytes;
use raft::prelude::Message;
use raftkv_api::Hex128;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The header `X-Raftkv-Hello`, as JSON on one line, of a peer stream (peer protocol v1) and of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// 1.
    pub format: u32,
    /// The sender's cluster.
    pub cluster_id: Hex128,
    /// Drawn at init.
    pub genesis: Hex128,
    /// 0.
    pub generation: u64,
    /// The sender.
    pub from: MemberId,
    /// Its name.
    pub from_name: String,
    /// Its data directory.
    pub from_incarnation: Hex128,
    /// Who is meant.
    pub to: MemberId,
    /// Which data directory is meant.
    pub to_incarnation: Hex128,
    /// Random per start of the sender's process: tells the first hello of a run from later ones (rule N20).
    pub boot: u64,
    /// The sender's durable term.
    pub term: Term,
    /// The sender's durable last index.
    pub last_index: Index,
    /// As advertised.
    pub peer_url: String,
    /// As advertised.
    pub client_url: String,
    /// As advertised.
    pub admin_url: String,
}

/// Proof that the receiver was removed (rule N4); kind 4, and the body of a 410.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedRecord {
    /// All six are checked by the receiver.
    pub cluster_id: Hex128,
    /// Drawn at init.
    pub genesis: Hex128,
    /// 0.
    pub generation: u64,
    /// The member that was removed.
    pub member_id: MemberId,
    /// Its data directory; index and term of the removal.
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
    /// The same and the reserve file (rule N11). A member of an earlier version does not say; it is not called short.
    #[serde(default)]
    pub headroom_bytes: u64,
    /// Under it no put should come.
    #[serde(default)]
    pub reserve_bytes: u64,
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
    /// The stream stands (a Blank node has joined by then, durably); the answering hello.
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

/// Why a stream that we dialled does not stand.
#[derive(Clone, Debug, PartialEq)]
pub enum DialFailure {
    /// DNS, connect, reset, timeout: dialled again after a pause.
    Unreachable(String),
    /// 401: the token is wrong.
    Unauthorized,
    /// 409: the peer says that we do not belong together.
    Differs(String),
    /// 409: the peer has proof that our directory was rolled back.
    RolledBack(String),
    /// 410.
    Gone(Box<RemovedRecord>),
}

/// A member that we dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Who.
    pub id: MemberId,
    /// `http://host:port`; DNS is looked up again at every reconnect.
    pub peer_url: String,
    /// Which data directory.
    pub incarnation: Hex128,
}

/// What the transport tells the node. Every method but `check_snapshot` returns at once.
pub trait PeerEvents: Send + Sync + 'static {
    /// The hello that we send to (`to`, `to_incarnation`); `None` while we are no member.
    fn our_hello(&self, to: MemberId, to_incarnation: Hex128) -> Option<Hello>;
    /// A peer opened a stream; `verdict` is sent when the answer is durable (a join writes first).
    fn on_hello(&self, hello: Hello, verdict: oneshot::Sender<HelloVerdict>);
    /// The peer that we dialled answered with its hello (its client and admin URLs are news).
    fn on_connected(&self, hello: Hello);
    /// A frame arrived; raft messages whose from/to are not the stream's, and MsgPropose, were dropped already.
    fn on_frame(&self, from: MemberId, frame: Frame);
    /// A dialled stream could not be opened or broke; once per failure.
    fn on_dial_failed(&self, to: MemberId, failure: DialFailure);
    /// `to` has begun to take the body of a snapshot that we offered; [`PeerEvents::on_snapshot_body`] follows for sure.
    fn on_snapshot_begun(&self, to: MemberId, index: Index);
    /// The body of a snapshot that we offered to `to` went out whole, or broke or stalled 30 s.
    fn on_snapshot_body(&self, to: MemberId, index: Index, whole: bool);
    /// Reads a snapshot file that arrived, under a temporary name; an error throws it away. Blocks, and is called where
    /// that may be. Once the log restarts behind a snapshot there is no way back (rules N13, N14).
    fn check_snapshot(&self, disk: &dyn LogDisk, name: &str, meta: &SnapshotMeta) -> Result<(), String>;
    /// A snapshot fetched for us is verified, fsynced and renamed, or why not. `done`/`total` progress goes to the log.
    fn on_snapshot_fetched(&self, from: MemberId, meta: SnapshotMeta, result: Result<(), String>);
    /// Round trip on a stream that we dialled, queueing included: the answer to one of our probes; for the metric.
    fn on_rtt(&self, to: MemberId, micros: u64);
}

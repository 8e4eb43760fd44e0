//! Peers over HTTP: long-lived streams, one bounded queue and one task per peer.
//!
//! Enters: frames to send, streams that peers open. Leaves: frames received, through [`PeerEvents`]. The transport
//! decides nothing about raft: it drops what does not fit and reports it. It never sends a frame twice.
//!
//! ```text
//!   Transport::send ─► outbox ─► stream (one task each) ─► peer          dialler: streams that we open, and open again
//!                         └────► its socket, when little waits ─► peer
//!   PeerEvents::on_frame ◄────── stream (one task each) ◄─ peer          listener: streams that peers open, and bodies
//!   PeerEvents::on_snapshot_fetched ◄── snapshot_fetch ◄── snapshot_body of the peer that offered it
//! ```

mod bounds;
mod connect;
mod dialler;
mod handle;
mod handshake;
mod listener;
mod one_process;
mod outbox;
mod pace;
mod shared;
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
pub use handle::{Counts, Queued, Transport};
pub use handshake::{failure as dial_failure, from_header as hello_from_header, to_header as hello_to_header};
pub use outbox::Dropped;
pub use shared::Credentials;
pub use snapshot_body::BodyProgress;

use raftkv_api::Hex128;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::types::{Index, MemberId};
use raftkv_core::wire::{Frame, Hello, HelloVerdict, RemovedRecord};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why a stream that we dialled is not up.
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
    /// 410: this member was removed.
    Gone(Box<RemovedRecord>),
    /// 409: another process with this member's data directory answers the peer (rule N27).
    Twin(String),
    /// 503: the peer's node has nothing to say to us at present; dialled again after a pause.
    Later(String),
}

/// A member that we dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The member's id.
    pub id: MemberId,
    /// `http://host:port`; DNS is looked up again at every reconnect.
    pub peer_url: String,
    /// Which data directory it must have.
    pub incarnation: Hex128,
}

/// What the transport tells the node. Every method but `check_snapshot` returns at once.
pub trait PeerEvents: Send + Sync + 'static {
    /// The hello that we send to (`to`, `to_incarnation`); `None` while this node is not a member.
    fn our_hello(&self, to: MemberId, to_incarnation: Hex128) -> Option<Hello>;
    /// A peer opened a stream; `verdict` is sent when the answer is durable (a join writes first).
    fn on_hello(&self, hello: Hello, verdict: oneshot::Sender<HelloVerdict>);
    /// The peer that we dialled answered with its hello (its client and admin URLs may be new).
    fn on_connected(&self, hello: Hello);
    /// A frame arrived; raft messages whose from/to are not the stream's, and MsgPropose, were dropped already.
    fn on_frame(&self, from: MemberId, frame: Frame);
    /// A frame of a kind that this version does not know was skipped.
    fn on_unknown_frame(&self, from: MemberId, kind: u8);
    /// A dialled stream could not be opened or broke; once per failure.
    fn on_dial_failed(&self, to: MemberId, failure: DialFailure);
    /// Two processes say that they are this member; the second was refused (rule N27). Each time that it says hello.
    fn on_twin(&self, of: MemberId, words: String);
    /// `to` has begun to take the body of a snapshot that we offered; [`PeerEvents::on_snapshot_body`] always follows.
    /// `progress` is dropped when the body has ended.
    fn on_snapshot_begun(&self, to: MemberId, index: Index, progress: &Arc<BodyProgress>);
    /// The body of a snapshot that we offered to `to` was sent whole, or it broke or stalled for 30 s.
    fn on_snapshot_body(&self, to: MemberId, index: Index, whole: bool);
    /// Checks a snapshot file that arrived, under its temporary name; after an error it is thrown away. Blocks, and is
    /// called on a thread that may block. Once the log restarts after a snapshot there is no way back (rules N13, N14).
    fn check_snapshot(&self, disk: &dyn LogDisk, name: &str, meta: &SnapshotMeta) -> Result<(), String>;
    /// A snapshot that we fetched was verified, fsynced and renamed, or why not. Its progress goes to the log.
    fn on_snapshot_fetched(&self, from: MemberId, meta: SnapshotMeta, result: Result<(), String>);
    /// The round trip time of one of our probes on a stream that we dialled, queueing included; for the metric.
    fn on_rtt(&self, to: MemberId, micros: u64);
}

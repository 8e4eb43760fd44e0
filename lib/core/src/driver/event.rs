//! What enters the driver ([`Event`]) and what leaves it ([`Effect`]).
//!
//! Both are plain data: the raft thread, or the simulator, reports events and carries out effects. An effect leaves
//! nothing to decide.

use crate::driver::{ChangeDone, MembershipCall};
use crate::identity::Finding;
use crate::kvstore::Committed;
use crate::log::{LogOp, ReadFailed, ReadPlan};
use crate::membership::Membership;
use crate::refusal::Refusal;
use crate::snapshot::SnapshotMeta;
use crate::space::OwnSpace;
use crate::types::{Index, MemberId, RequestId};
use crate::wire::{Forward, ForwardReply, Frame, RemovedRecord, Report};
use bytes::Bytes;
use raft::prelude::{Entry, Message, MessageType};
use std::sync::Arc;

/// Something that happened. Events are stepped one after another; [`super::Driver::effects`] is called after a batch of
/// them.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug)]
pub enum Event {
    /// 50 ms passed; ticks lost to a stall are not made up for.
    Tick,
    /// A raft message from a peer arrived.
    Message(Box<Message>),
    /// A client's command arrived at this node. `grows`: it needs space (a put).
    Propose { request: RequestId, data: Bytes, grows: bool },
    /// Another member forwarded a client's command to this one, which it believes to be the leader.
    Forwarded { from: MemberId, forward: Forward, grows: bool },
    /// The leader's answer to a command that we forwarded.
    ForwardReply { from: MemberId, reply: ForwardReply },
    /// The transport could not take a forward, so nobody saw it.
    ForwardDropped { request: RequestId },
    /// A linearizable read waits; `read` is its number.
    Read { read: u64 },
    /// A membership call, fenced by the conf index that its caller read.
    Change { request: RequestId, call: MembershipCall, if_match: Index },
    /// A call to move leadership; if `to` is `None`, to the best successor.
    Transfer { request: RequestId, to: Option<MemberId> },
    /// The [`Effect::Persist`] with this number is durable.
    Persisted { batch: u64 },
    /// Everything up to `index` of this generation of [`Effect::Apply`] is applied and published.
    Applied { index: Index, generation: u64 },
    /// The kv db is proved (or rebuilt, or installed): the node may campaign and cut.
    KvReady,
    /// An [`Effect::Cut`] ended; `None` when it failed (after a pause, the next one that is due is tried).
    CutDone { meta: Option<Box<SnapshotMeta>> },
    /// An [`Effect::Fetch`] ended. `whole`: the file is verified and durable under its name; otherwise it is not there.
    Fetched { meta: Box<SnapshotMeta>, whole: bool },
    /// The member has begun to fetch the body of the snapshot that we offered; [`Event::SnapshotSent`] always follows.
    SnapshotBegun { to: MemberId, index: Index },
    /// The body of the snapshot that we offered went out whole; or it broke off or stalled, or the offer was dropped.
    SnapshotSent { to: MemberId, index: Index, whole: bool },
    /// A frame to this peer was dropped, or its stream broke.
    Unreachable { to: MemberId },
    /// A member answered this member's hello, with whatever verdict.
    HelloAnswered { by: MemberId },
    /// A peer reports about itself.
    Report { from: MemberId, report: Report },
    /// A peer says that this member was removed.
    Removed(Box<RemovedRecord>),
    /// How much space this node has.
    Space { own: OwnSpace },
    /// An [`Effect::ReadLog`] from this index on ended.
    LogRead { first: Index, result: Result<Vec<Entry>, ReadFailed> },
    /// The [`Effect::MakeSpare`] of this name is done.
    SpareMade { name: String },
    /// The process stops cleanly: write a closing batch.
    Close,
}

impl Event {
    /// The event for the driver when the transport did not take `frame`. There is none for frames that raft sends
    /// again, or whose loss is ended by a timeout of the side that waits.
    pub fn of_lost_frame(to: MemberId, frame: &Frame) -> Option<Event> {
        match frame {
            Frame::Raft(message) => match message.get_msg_type() {
                MessageType::MsgSnapshot => {
                    let index = message.get_snapshot().get_metadata().index;
                    Some(Event::SnapshotSent { to, index, whole: false })
                }
                MessageType::MsgAppend => Some(Event::Unreachable { to }),
                _ => None,
            },
            Frame::Forward(forward) => Some(Event::ForwardDropped { request: forward.request }),
            Frame::ForwardReply(_) | Frame::Removed(_) | Frame::Report(_) => None,
        }
    }
}

/// The answer to a request of a local client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not done, or not known to be done.
    Refused(Refusal),
    /// The membership change is applied (a joint one: left).
    Changed(ChangeDone),
    /// Leadership moved.
    Transferred(MemberId),
}

/// Something to do. Effects are started in order, and none of them needs a decision.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug)]
pub enum Effect {
    /// Hand the message to the transport. A dropped MsgSnapshot is reported as an [`Event::SnapshotSent`] that is not
    /// `whole`, a dropped MsgAppend as [`Event::Unreachable`].
    Send(Box<Message>),
    /// Send a client's command to the leader; if the transport does not take it, report [`Event::ForwardDropped`].
    Forward { to: MemberId, forward: Forward },
    /// Tell the origin what became of its forward; may be lost.
    ForwardReply { to: MemberId, reply: ForwardReply },
    /// Tell a member that it was removed, if a stream to it exists.
    TellRemoved { to: MemberId, record: Box<RemovedRecord> },
    /// Execute the steps on the log's disk in order, after all earlier `Persist`s; then report [`Event::Persisted`]. An
    /// error is final.
    Persist { batch: u64, ops: Vec<LogOp> },
    /// Execute the steps after the `Persist`s that came before; nothing waits for them.
    Housekeep { ops: Vec<LogOp> },
    /// Execute the steps anywhere, since they are slow; then report [`Event::SpareMade`].
    MakeSpare { name: String, ops: Vec<LogOp> },
    /// Read these entries of the log anywhere, since they are on the disk alone; then report [`Event::LogRead`].
    ReadLog { plan: ReadPlan },
    /// Apply the items in order; then report [`Event::Applied`] with the last index.
    Apply { generation: u64, items: Vec<Committed> },
    /// Cut a snapshot after everything handed to apply so far; then report [`Event::CutDone`].
    Cut,
    /// Fetch the file from this member, even if a file of that name is there, since nobody knows whether it is durable.
    /// Then report [`Event::Fetched`].
    Fetch { from: MemberId, meta: Box<SnapshotMeta> },
    /// Replace the kv db by this snapshot; later `Apply`s have this generation. Then report [`Event::KvReady`].
    Install { generation: u64, meta: Box<SnapshotMeta> },
    /// Remove all snapshot files with a lower index; a newer one may be arriving.
    DropSnapshots { below: Index },
    /// Answer a local request; does nothing when nobody waits.
    Answer { request: RequestId, answer: Answer },
    /// These reads may be served once `index` is applied.
    ReadReady { reads: Vec<u64>, index: Index },
    /// These reads cannot be served here.
    ReadFailed { reads: Vec<u64>, why: Refusal },
    /// The membership changed: dial its members and publish it.
    Members(Arc<Membership>),
    /// This member's removal is safe to act on (rule N10): write it to the identity file and stop raft.
    Gone { index: Index, term: u64 },
    /// The process cannot go on, and nothing is wrong with the data: say why and end.
    Fatal { why: String },
    /// The data cannot be trusted: stop raft at once and say why.
    Quarantine { finding: Finding },
    /// The kv db's claim was wrong: set the kv db aside and restart (rule N8).
    DistrustKv { why: String },
    /// The closing batch, the last `Persist`, is durable: stop.
    Closed { batch: u64 },
}

//! What enters the driver and what leaves it. Both are plain data: the raft thread and the simulator carry them out.

use crate::driver::{ChangeDone, MembershipCall};
use crate::kvstore::Committed;
use crate::log::LogOp;
use crate::membership::Membership;
use crate::refusal::Refusal;
use crate::snapshot::SnapshotMeta;
use crate::space::OwnSpace;
use crate::types::{Index, MemberId, RequestId};
use crate::wire::{Forward, ForwardReply, Frame, RemovedRecord, Report};
use bytes::Bytes;
use raft::prelude::{Message, MessageType};
use std::sync::Arc;

/// Something happened. Events are stepped one after another; [`super::Driver::effects`] follows a batch of them.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug)]
pub enum Event {
    /// 50 ms passed; ticks lost to a stall are not made up.
    Tick,
    /// A raft message of a peer arrived.
    Message(Box<Message>),
    /// A client's command was taken here. `grows`: it needs space (a put).
    Propose { request: RequestId, data: Bytes, grows: bool },
    /// Another member sent a client's command to us, whom it believes to lead.
    Forwarded { from: MemberId, forward: Forward, grows: bool },
    /// The leader's word on a command that we forwarded.
    ForwardReply { from: MemberId, reply: ForwardReply },
    /// The transport could not take a forward: nobody saw it.
    ForwardDropped { request: RequestId },
    /// A linearizable read waits under this number.
    Read { read: u64 },
    /// A membership call, fenced by the conf index that its caller read.
    Change { request: RequestId, call: MembershipCall, if_match: Index },
    /// A call to move leadership; to the most caught-up voter if `to` is `None`.
    Transfer { request: RequestId, to: Option<MemberId> },
    /// [`Effect::Persist`] of this number is durable.
    Persisted { batch: u64 },
    /// Everything up to `index` of this generation of [`Effect::Apply`] is applied and published.
    Applied { index: Index, generation: u64 },
    /// The kv db is proved (or rebuilt, or installed): the node may campaign and cut.
    KvReady,
    /// [`Effect::Cut`] ended; `None` when it failed (it is tried again when wished for again).
    CutDone { meta: Option<Box<SnapshotMeta>> },
    /// [`Effect::Fetch`] ended: the file is verified and durable under its name, or not there.
    Fetched { meta: Box<SnapshotMeta>, whole: bool },
    /// The member has begun to take the body of the snapshot that we offered: [`Event::SnapshotSent`] follows for sure.
    SnapshotBegun { to: MemberId, index: Index },
    /// The body of the snapshot that we offered went out whole, or broke, stalled, or the offer was dropped.
    SnapshotSent { to: MemberId, index: Index, whole: bool },
    /// A frame to this peer was dropped, or its stream broke.
    Unreachable { to: MemberId },
    /// A peer reports about itself.
    Report { from: MemberId, report: Report },
    /// A peer says that we were removed.
    Removed(Box<RemovedRecord>),
    /// What there is of space here.
    Space { own: OwnSpace },
    /// [`Effect::MakeSpare`] is done.
    SpareMade { name: String },
    /// The process stops cleanly: write a closing batch.
    Close,
}

impl Event {
    /// What the driver has to hear when the transport did not take `frame`; everything else is sent again by raft, or
    /// ended by a timeout of whoever waits.
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

/// Something to do, in this order. None of them needs a decision.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug)]
pub enum Effect {
    /// Hand to the transport. A dropped MsgSnapshot is reported as [`Event::SnapshotSent`] with `whole: false`; a
    /// dropped MsgAppend as [`Event::Unreachable`].
    Send(Box<Message>),
    /// Send a client's command to the leader; if the transport does not take it: [`Event::ForwardDropped`].
    Forward { to: MemberId, forward: Forward },
    /// Tell the origin what became of its forward; may be lost.
    ForwardReply { to: MemberId, reply: ForwardReply },
    /// Tell a removed member so, if a stream to it exists.
    TellRemoved { to: MemberId, record: Box<RemovedRecord> },
    /// Execute on the log's disk in order, after all earlier `Persist`; then [`Event::Persisted`]. An error is final.
    Persist { batch: u64, ops: Vec<LogOp> },
    /// Execute behind the `Persist`s that came before; nothing waits for it.
    Housekeep { ops: Vec<LogOp> },
    /// Execute anywhere, it is slow; then [`Event::SpareMade`].
    MakeSpare { name: String, ops: Vec<LogOp> },
    /// Apply in order; then [`Event::Applied`] with the last index.
    Apply { generation: u64, items: Vec<Committed> },
    /// Cut a snapshot behind everything handed to apply so far; then [`Event::CutDone`].
    Cut,
    /// Fetch the file from this member, also if one of that name is there: nobody knows whether it is durable. Then
    /// [`Event::Fetched`].
    Fetch { from: MemberId, meta: Box<SnapshotMeta> },
    /// Replace the kv db by this snapshot; later `Apply`s have this generation. Then [`Event::KvReady`].
    Install { generation: u64, meta: Box<SnapshotMeta> },
    /// Remove all snapshot files with a lower index. (A newer one may be on its way in.)
    DropSnapshots { below: Index },
    /// Answer a local request; no-op when nobody waits.
    Answer { request: RequestId, answer: Answer },
    /// These reads may be served once `index` is applied.
    ReadReady { reads: Vec<u64>, index: Index },
    /// These reads cannot be served here.
    ReadFailed { reads: Vec<u64>, why: Refusal },
    /// The membership changed: dial its members, publish it.
    Members(Arc<Membership>),
    /// Our removal is safe to act on (rule N10): write it to the identity file, stop raft.
    Gone { index: Index, term: u64 },
    /// The data cannot be trusted: stop raft at once, say why.
    Quarantine { why: String },
    /// The kv db's claim was wrong: set it aside and restart (rule N8).
    DistrustKv { why: String },
    /// The closing batch was handed out as the last `Persist`: stop when it is durable.
    Closed { batch: u64 },
}

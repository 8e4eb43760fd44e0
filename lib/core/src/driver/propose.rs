//! Commands of clients: proposed by the leader alone, forwarded by everyone else, each at most once (rule N5). PURE.
//!
//! Enters: commands of clients and of other members, and the leader's replies. Leaves: proposals, forwards, refusals.
//! It must never propose on a member that does not lead, and never send a command twice.

use super::proposals::Waiting;
use super::{Driver, Effect};
use crate::limits;
use crate::refusal::Refusal;
use crate::types::{MemberId, RequestId, Term};
use crate::wire::{Forward, ForwardReply};
use bytes::Bytes;
use raft::prelude::{Entry, Message, MessageType};

/// What is reported as full when a command does not fit.
const QUEUE: &str = "the propose queue";

/// Where a command came from, for the answer.
enum From {
    Client,
    Member(MemberId),
}

impl Driver {
    pub(super) fn propose(&mut self, request: RequestId, data: Bytes, grows: bool) {
        if self.is_leader() {
            if !self.proposals.wait(Waiting::Command { request, data, grows }) {
                self.refuse(request, Refusal::Overloaded(QUEUE));
            }
        } else {
            self.forward(request, data);
        }
    }

    /// Takes a command from another member, which believes that this one leads.
    pub(super) fn forwarded(&mut self, from: MemberId, forward: Forward, grows: bool) {
        let Forward { term, request, data } = forward;
        // A duplicated frame: the first one has been answered, and a second answer could contradict that one. What a
        // removed member forwarded is remembered no more, so nothing of it is taken: its clients hear "unknown".
        let duplicate = self.proposals.may_have_taken(term, &request);
        if request.origin != from || duplicate || self.membership.is_removed(from) {
            return;
        }
        if !self.leads(term) {
            return self.reply_refused(from, request, "the member asked does not lead that term");
        }
        self.proposals.is_new_forward(term, &request);
        if !self.proposals.wait(Waiting::Forwarded { from, term, request, data, grows }) {
            self.reply_refused(from, request, "the leader's propose queue is full");
        }
    }

    pub(super) fn forward_reply(&mut self, _from: MemberId, reply: ForwardReply) {
        match reply {
            ForwardReply::Refused { request, why } => self.forward_refused(request, Refusal::Dropped(why)),
            ForwardReply::NoSpace { request, why } => self.forward_refused(request, Refusal::NoSpace(why)),
            ForwardReply::Appended { request, index, term } => {
                if !self.proposals.forward_ended(&request) {
                    return;
                }
                if index > self.apply.handed_out {
                    self.proposals.appended(request, index, term);
                } else if index < self.log().first_index() {
                    self.refuse(request, Refusal::Unknown("a snapshot was installed over its index".to_string()));
                } else if !self.log_has(index, term) {
                    self.refuse(request, Refusal::Dropped("another leader's entry took its place".to_string()));
                }
            }
        }
    }

    pub(super) fn forward_dropped(&mut self, request: RequestId) {
        self.forward_refused(request, Refusal::NoLeader);
    }

    /// Steps the commands that wait, as one MsgPropose for as many as a batch may hold.
    pub(super) fn step_waiting(&mut self) {
        let mut batch = Vec::new();
        while self.may_step_entries()
            && let Some(waiting) = self.proposals.next_waiting()
        {
            let bytes = waiting.bytes();
            match waiting {
                Waiting::Command { request, data, .. } if !self.is_leader() => self.forward(request, data),
                Waiting::Command { request, grows, .. } if self.refused_for_space(grows).is_some() => {
                    let why = self.refused_for_space(grows).unwrap_or_default().to_string();
                    self.refuse(request, Refusal::NoSpace(why));
                }
                Waiting::Command { request, data, .. } => {
                    self.unstable_bytes += bytes;
                    batch.push((From::Client, request, data));
                }
                Waiting::Forwarded { from, term, request, .. } if !self.leads(term) => {
                    self.reply_refused(from, request, "leadership moved before the command was proposed");
                }
                Waiting::Forwarded { from, request, grows, .. } if self.refused_for_space(grows).is_some() => {
                    let why = self.refused_for_space(grows).unwrap_or_default().to_string();
                    self.emit(Effect::ForwardReply { to: from, reply: ForwardReply::NoSpace { request, why } });
                }
                Waiting::Forwarded { from, request, data, .. } => {
                    self.unstable_bytes += bytes;
                    batch.push((From::Member(from), request, data));
                }
                Waiting::Change { request, call, if_match } => {
                    // Commands that came before the change stand before it in the log.
                    self.step_batch(std::mem::take(&mut batch));
                    self.step_change(request, &call, if_match);
                }
            }
        }
        self.step_batch(batch);
    }

    fn step_batch(&mut self, batch: Vec<(From, RequestId, Bytes)>) {
        if batch.is_empty() {
            return;
        }
        let entry = |(_, request, data): &(From, RequestId, Bytes)| Entry {
            context: Bytes::copy_from_slice(&request.encode()),
            data: data.clone(),
            ..Entry::default()
        };
        let first = self.node.raft.raft_log.last_index() + 1;
        let result = self.step_proposal(batch.iter().map(entry).collect());
        for ((from, request, _), index) in batch.into_iter().zip(first..) {
            let term = self.node.raft.term;
            match (&result, from) {
                (Ok(()), From::Client) => self.proposals.appended(request, index, term),
                (Ok(()), From::Member(to)) => {
                    self.emit(Effect::ForwardReply { to, reply: ForwardReply::Appended { request, index, term } });
                }
                (Err(why), From::Client) => self.refuse(request, Refusal::Dropped(why.clone())),
                (Err(why), From::Member(to)) => self.reply_refused(to, request, why),
            }
        }
    }

    /// The one place where entries are proposed; the caller has made sure that this member leads.
    pub(super) fn step_proposal(&mut self, entries: Vec<Entry>) -> Result<(), String> {
        assert!(self.is_leader(), "only a leader proposes");
        let mut message = Message { from: self.identity.member_id, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(entries.into());
        self.node.step(message).map_err(|e| match e {
            raft::Error::ProposalDropped => format!(
                "a leadership transfer is in flight, or {} MiB are not committed yet",
                limits::UNCOMMITTED_BYTES_MAX >> 20
            ),
            other => other.to_string(),
        })
    }

    fn forward(&mut self, request: RequestId, data: Bytes) {
        let (term, leader) = (self.node.raft.term, self.node.raft.leader_id);
        if self.removed.is_some() {
            self.refuse(request, Refusal::Removed);
        } else if !self.membership.votes(self.identity.member_id) {
            self.refuse(request, Refusal::NotAVoter);
        } else if leader == 0 {
            self.refuse(request, Refusal::NoLeader);
        } else {
            self.proposals.forwarded(request, self.now_tick);
            self.emit(Effect::Forward { to: leader, forward: Forward { term, request, data } });
        }
    }

    fn forward_refused(&mut self, request: RequestId, refusal: Refusal) {
        if self.proposals.forward_ended(&request) {
            self.refuse(request, refusal);
        }
    }

    fn reply_refused(&mut self, to: MemberId, request: RequestId, why: &str) {
        let reply = ForwardReply::Refused { request, why: why.to_string() };
        self.emit(Effect::ForwardReply { to, reply });
    }

    fn leads(&self, term: Term) -> bool {
        self.is_leader() && self.node.raft.term == term
    }
}

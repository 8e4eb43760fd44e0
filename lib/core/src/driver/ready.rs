//! The order in which a Ready is carried out (rule N9), with raft-rs's asynchronous calls. PURE.
//!
//! One batch is being made durable at a time. Meanwhile a Ready is taken only if it holds nothing to write, so that a
//! leader's heartbeats, commit messages and read states never wait for the disk.

use super::{Driver, Effect};
use crate::limits;
use crate::log::{Batch, LogOp, Mark};
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::snapshot::SnapshotMeta;
use crate::types::{Index, MemberId, Term};
use raft::Ready;
use raft::Storage as _;
use raft::prelude::{Entry, HardState, Message, MessageType};

/// What is durable here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Last index of the log.
    pub index: Index,
    /// Term of the HardState.
    pub term: Term,
    /// Vote of the HardState.
    pub vote: MemberId,
    /// Newest conf change that a restart would find applied or committed.
    pub conf_index: Index,
}

/// The batch that is being made durable.
#[derive(Debug)]
pub struct Syncing {
    batch: u64,
    /// raft's number of the newest Ready that is durable with this batch: the batch's own, or a later one without a
    /// write.
    ready: u64,
    /// What is durable once this batch is.
    durable: Durable,
    /// Its Ready changes the term or the vote, so no later Ready may send anything (rule N6).
    changes_term: bool,
    /// The snapshot after which the log restarts.
    installs: Option<Box<SnapshotMeta>>,
    /// Messages to be sent when it is durable.
    messages: Vec<Message>,
    closing: bool,
    /// Tick at which it was begun, or at which there was space for it at last.
    since_tick: u64,
}

impl Syncing {
    /// Tick at which it was begun.
    pub fn since_tick(&self) -> u64 {
        self.since_tick
    }

    /// There is space for it at last: the time before was spent waiting for that, not syncing (rule N26).
    pub fn begins_anew(&mut self, now_tick: u64) {
        self.since_tick = now_tick;
    }

    /// Whether the log begins after a snapshot once this batch is durable.
    pub fn restarts_log(&self) -> bool {
        self.installs.is_some()
    }
}

impl Driver {
    /// Steps what waited into raft, takes Readies, and starts what they ask for, until nothing more may be done.
    pub(super) fn pump(&mut self) {
        loop {
            if self.syncing.is_none() {
                self.step_deferred();
                if self.halted {
                    return;
                }
                self.step_waiting();
            } else if self.own_space.stuck.is_some() {
                // The batch waits for space, and nobody knows how long. Nothing is stepped: everything that waits is
                // refused (rule N11).
                self.step_waiting();
            }
            self.start_read_round();
            if !self.may_take_ready() {
                if self.syncing.is_none() && self.unstable_bytes > 0 {
                    // What was stepped held nothing new (duplicates, rejections), so no batch will take it.
                    self.unstable_bytes = 0;
                    continue;
                }
                break;
            }
            let ready = self.node.ready();
            self.take_ready(ready);
            if self.halted {
                return;
            }
        }
        self.start_log_reads();
        self.release_reads();
        self.write_commit_if_due();
        self.send_ranges_to_apply();
        self.start_cut_if_due();
        self.make_spare_if_missing();
        self.close_if_asked();
    }

    fn may_take_ready(&self) -> bool {
        if !self.node.has_ready() {
            return false;
        }
        let Some(syncing) = &self.syncing else { return true };
        let raft = &self.node.raft;
        let hard_state = raft.hard_state();
        let writes = !raft.raft_log.unstable_entries().is_empty()
            || self.node.snap().is_some()
            || (hard_state.term, hard_state.vote) != (syncing.durable.term, syncing.durable.vote);
        !writes && !syncing.changes_term
    }

    fn take_ready(&mut self, mut ready: Ready) {
        self.notice_leader();
        let number = ready.number();
        let hard_state = self.node.raft.hard_state();
        let changes_term = (hard_state.term, hard_state.vote) != (self.durable.term, self.durable.vote);
        let early = ready.take_messages();
        let late = ready.take_persisted_messages();
        let entries = ready.take_entries();
        let committed = ready.take_committed_entries();
        let read_states = ready.take_read_states();
        let installs = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        let must_sync = ready.must_sync();

        // 1. A leader's messages leave while its entries are being made durable, unless the term or the vote is new.
        let mut held = late;
        if mutant::is(Mutant::EarlyMessages) {
            self.send(early);
            self.send(std::mem::take(&mut held));
        } else if changes_term {
            held.splice(0..0, early);
        } else {
            self.send(early);
            // A follower's answer to a heartbeat promises nothing but its term: it does not wait for the disk, or two
            // slow disks would cost a healthy leader its quorum (rule N26).
            let (answers, rest) = held.into_iter().partition(is_heartbeat_answer);
            self.send(answers);
            held = rest;
        }
        // 2. Entries and HardState go into one batch and are readable at once. 3. raft may go on.
        if must_sync {
            let installs = installs.map(|snapshot| {
                Box::new(SnapshotMeta::from_raft(&snapshot).expect("checked before it was stepped into raft"))
            });
            self.write(entries, hard_state, installs, number, changes_term, held);
            self.node.advance_append_async(ready);
        } else {
            self.node.advance_append_async(ready);
            self.settle_writeless(number, held);
        }
        // 4. Committed entries are handed out in log order, conf changes by rule N3.
        self.hand_out(committed);
        for state in read_states {
            self.read_answered(&state.request_ctx, state.index);
        }
    }

    fn write(
        &mut self,
        entries: Vec<Entry>,
        hard_state: HardState,
        installs: Option<Box<SnapshotMeta>>,
        ready: u64,
        changes_term: bool,
        messages: Vec<Message>,
    ) {
        assert!(self.syncing.is_none(), "one batch is made durable at a time");
        let mark = installs.as_ref().map(|meta| Mark { index: meta.index, term: meta.term });
        let index = entries.last().map(|e| e.index).or(mark.map(|m| m.index)).unwrap_or(self.durable.index);
        let conf_index = self.membership.conf_index.min(hard_state.commit).max(self.durable.conf_index);
        let durable = Durable { index, term: hard_state.term, vote: hard_state.vote, conf_index };
        let ops = self.append(mark, entries, hard_state);
        let batch = self.next_batch;
        self.next_batch += 1;
        self.unstable_bytes = 0;
        let since_tick = self.now_tick;
        self.syncing =
            Some(Syncing { batch, ready, durable, changes_term, installs, messages, closing: false, since_tick });
        self.emit(Effect::Persist { batch, ops });
    }

    fn append(&mut self, mark: Option<Mark>, entries: Vec<Entry>, mut hard_state: HardState) -> Vec<LogOp> {
        let log = &mut self.node.mut_store().log;
        if mutant::is(Mutant::VoteNotPersisted) {
            hard_state.vote = 0;
        }
        if mutant::is(Mutant::HardStateFirst) && mark.is_none() {
            let mut ops = log.append(Batch { hard_state: Some(hard_state), ..Batch::default() });
            ops.extend(log.append(Batch { entries, ..Batch::default() }));
            return ops;
        }
        log.append(Batch { mark, entries, hard_state: Some(hard_state), closing: false })
    }

    /// A Ready without a write is durable as soon as everything before it is.
    fn settle_writeless(&mut self, number: u64, messages: Vec<Message>) {
        match &mut self.syncing {
            Some(syncing) => {
                syncing.ready = number;
                syncing.messages.extend(messages);
            }
            None => {
                self.node.on_persist_ready(number);
                self.send(messages);
            }
        }
    }

    /// 5. A batch is durable: raft is told, then its messages leave.
    pub(super) fn persisted(&mut self, batch: u64) {
        let Some(syncing) = self.syncing.take_if(|syncing| syncing.batch == batch) else { return };
        self.durable = syncing.durable;
        self.note_safe_removals();
        if syncing.closing {
            return self.halt(Effect::Closed { batch });
        }
        self.node.on_persist_ready(syncing.ready);
        if mutant::is(Mutant::AckBeforeCommit) && self.is_leader() {
            self.node.raft.raft_log.commit_to(self.durable.index);
        }
        if let Some(meta) = syncing.installs {
            self.install(*meta);
        }
        self.send(syncing.messages);
    }

    /// The apply thread has applied everything up to `index`. raft does not wait for it.
    pub(super) fn applied(&mut self, index: Index, generation: u64) {
        if generation != self.apply.generation {
            return;
        }
        self.apply.applied(index);
        if mutant::is(Mutant::AppliedIsTheStores) && index > self.node.raft.raft_log.applied() {
            self.node.advance_apply_to(index);
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        for mut message in messages {
            if matches!(message.get_msg_type(), MessageType::MsgAppend | MessageType::MsgHeartbeat) {
                // A leader says what is on its own disk, where raft has no use for the field: others remember it, and
                // object when that disk is put back (rule N20).
                message.reject_hint = self.durable.index;
            }
            self.note_snapshot_offer(&message);
            self.emit(Effect::Send(Box::new(message)));
        }
    }

    fn hand_out(&mut self, committed: Vec<Entry>) {
        for entry in &committed {
            for request in self.proposals.handed_out(entry.index, entry.term) {
                self.refuse(request, Refusal::Dropped("another leader's entry took its place".to_string()));
            }
            self.change_handed_out(entry);
            if self.halted {
                // Nobody may apply what could not be taken here, nor anything behind it: after a restart it would count
                // as applied.
                return;
            }
        }
        let last = committed.last().map(|entry| entry.index);
        if let Some(items) = self.apply.hand_out(committed) {
            self.emit(Effect::Apply { generation: self.apply.generation, items });
        }
        // 6. For raft they are applied: it may campaign, and appends the entry that leaves a joint configuration. Every
        // conf change among them has been applied to raft by now.
        if let Some(last) = last
            && !mutant::is(Mutant::AppliedIsTheStores)
        {
            self.node.advance_apply_to(last);
        }
    }

    fn send_ranges_to_apply(&mut self) {
        while let Some((low, high)) = self.apply.waiting() {
            let bytes_max = limits::COMMITTED_BYTES_PER_READY_MAX;
            let entries = match self.log().entries(low, high, bytes_max) {
                Ok(entries) => entries,
                Err(e) => return self.halt_unreadable("committed entries", e.into()),
            };
            let items = self.apply.send(entries);
            self.emit(Effect::Apply { generation: self.apply.generation, items });
        }
    }

    /// Rule N10: after a conf change the commit index is made durable before that change is reported.
    fn write_commit_if_due(&mut self) {
        let hard_state = self.node.raft.hard_state();
        let due =
            self.membership.conf_index > self.durable.conf_index && hard_state.commit >= self.membership.conf_index;
        let settled = (hard_state.term, hard_state.vote) == (self.durable.term, self.durable.vote)
            && self.node.raft.raft_log.unstable_entries().is_empty()
            && self.node.snap().is_none();
        if due && settled && self.syncing.is_none() {
            self.write(Vec::new(), hard_state, None, 0, false, Vec::new());
        }
    }

    fn close_if_asked(&mut self) {
        if !self.closing || self.syncing.is_some() {
            return;
        }
        let mut hard_state = self.node.raft.hard_state();
        let log = &mut self.node.mut_store().log;
        hard_state.commit = hard_state.commit.min(log.last_index());
        let ops = log.append(Batch { hard_state: Some(hard_state), closing: true, ..Batch::default() });
        let batch = self.next_batch;
        self.next_batch += 1;
        let durable = self.durable;
        self.syncing = Some(Syncing {
            batch,
            ready: 0,
            durable,
            changes_term: true,
            installs: None,
            messages: Vec::new(),
            closing: true,
            since_tick: self.now_tick,
        });
        self.emit(Effect::Persist { batch, ops });
    }

    fn make_spare_if_missing(&mut self) {
        if let Some((name, ops)) = self.node.mut_store().log.make_spare() {
            self.emit(Effect::MakeSpare { name, ops });
        }
    }

    /// Whether more entries may be stepped; bounds what raft holds and no batch has taken, hence the next batch (rule
    /// N2).
    pub(super) fn may_step_entries(&self) -> bool {
        self.unstable_bytes < limits::UNSTABLE_BYTES_MAX.min(self.log().batch_bytes_max() / 2)
    }

    /// Whether the log holds exactly this entry.
    pub(super) fn log_has(&self, index: Index, term: Term) -> bool {
        self.node.store().term(index).is_ok_and(|own| own == term)
    }
}

fn is_heartbeat_answer(message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgHeartbeatResponse
}

//! Snapshots: cut, offered to members, fetched, installed; and how far the log may be compacted (rules N12-N14). PURE.
//!
//! Enters: offers, and what became of cuts, fetches and bodies. Leaves: effects, and for each offer exactly one report
//! to raft. An offer must never reach raft before its file is durable.

use super::{Driver, Effect};
use crate::limits;
use crate::log::Mark;
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::snapshot::SnapshotMeta;
use crate::types::{Index, MemberId};
use raft::prelude::{Message, MessageType};
use raft::{ProgressState, SnapshotStatus};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An offer that is not settled yet; until it is, raft sends the member nothing else.
#[derive(Clone, Copy, Debug)]
struct Offer {
    index: Index,
    since_tick: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The member has not asked for the body.
    Offered,
    /// The body is on its way; the transport breaks off a stalled one and reports it.
    Begun,
    /// The body broke off; the member may ask for the rest of it.
    Broken,
    /// The whole body went out; the member is verifying and installing it.
    Delivered,
}

impl Offer {
    /// A body went out whole or broke off, or the offer itself was lost; returns what raft is told at once.
    fn body_ended(&mut self, whole: bool, now_tick: u64) -> Option<SnapshotStatus> {
        let stage = match (whole, self.stage) {
            (true, _) => Stage::Delivered,
            (false, Stage::Begun) => Stage::Broken,
            (false, Stage::Broken) => return None,
            (false, Stage::Offered | Stage::Delivered) => return Some(SnapshotStatus::Failure),
        };
        (self.stage, self.since_tick) = (stage, now_tick);
        None
    }

    /// What raft is told when the member's own answer has not ended the offer in time.
    fn overdue(&self, now_tick: u64) -> Option<SnapshotStatus> {
        let age_ms = (now_tick - self.since_tick) * limits::TICK_MS;
        match self.stage {
            Stage::Offered => (age_ms > limits::SNAPSHOT_OFFER_TIMEOUT_MS).then_some(SnapshotStatus::Failure),
            Stage::Begun => None,
            Stage::Broken => (age_ms > limits::SNAPSHOT_RESUME_MS).then_some(SnapshotStatus::Failure),
            Stage::Delivered => (age_ms > limits::SNAPSHOT_ANSWER_MS).then_some(SnapshotStatus::Finish),
        }
    }
}

/// What the driver knows about snapshots.
#[derive(Debug)]
pub struct Snapshots {
    /// Valid files, newest first; at most [`limits::SNAPSHOTS_KEPT`].
    files: Vec<SnapshotMeta>,
    cutting: bool,
    /// No cut begins before this tick, because the last one failed.
    cut_again_tick: u64,
    sending: BTreeMap<MemberId, Offer>,
    /// The MsgSnapshot whose file is being fetched.
    fetching: Option<Message>,
}

impl Snapshots {
    /// `files` as opening found them, newest first.
    pub fn new(files: Vec<SnapshotMeta>) -> Snapshots {
        Snapshots { files, cutting: false, cut_again_tick: 0, sending: BTreeMap::new(), fetching: None }
    }

    /// The newest file.
    pub fn newest(&self) -> Option<&SnapshotMeta> {
        self.files.first()
    }

    /// Leadership was lost, so the offers are void.
    pub fn stop_sending(&mut self) {
        self.sending.clear();
    }

    fn has(&self, meta: &SnapshotMeta) -> bool {
        self.files.iter().any(|file| (file.index, file.term) == (meta.index, meta.term))
    }

    /// Adds a file if it is newer than all others; true if so.
    fn add(&mut self, meta: SnapshotMeta) -> bool {
        if self.newest().is_some_and(|newest| newest.index >= meta.index) {
            return false;
        }
        self.files.insert(0, meta);
        self.files.truncate(limits::SNAPSHOTS_KEPT);
        true
    }

    /// Drops files older than the kept ones. A file that is on its way to a member stays until its offer has ended; the
    /// next cut tries again.
    fn drop_older(&self) -> Effect {
        let offered = self.sending.values().map(|offer| offer.index);
        let kept = self.files.last().map_or(0, |oldest| oldest.index);
        Effect::DropSnapshots { below: offered.fold(kept, Index::min) }
    }

    /// A cut ended without a file, most likely because there was no space for it. Tried again at once, it would fill
    /// the rest of the space over and over, and keep compaction, which makes space, paused.
    fn cut_failed(&mut self, now_tick: u64) {
        self.cut_again_tick = now_tick + limits::SNAPSHOT_RETRY_MS / limits::TICK_MS;
    }

    fn may_cut(&self, now_tick: u64) -> bool {
        !self.cutting && now_tick >= self.cut_again_tick
    }
}

impl Driver {
    /// A leader offers a snapshot: its file is fetched first, and the message is stepped when the file is durable (rule
    /// N13).
    pub(super) fn snapshot_offered(&mut self, message: Message) {
        let Ok(meta) = SnapshotMeta::from_raft(message.get_snapshot()) else { return };
        let old = meta.index <= self.node.raft.raft_log.committed || message.term < self.node.raft.term;
        if old || self.snapshots.has(&meta) {
            return self.defer(message);
        }
        if mutant::is(Mutant::SnapshotBeforeFile) {
            self.defer(message.clone());
        }
        let from = message.from;
        let offered = message.get_snapshot().clone();
        // Two members' snapshots at the same position are different files.
        let is_same = |old: &Message| *old.get_snapshot() == offered;
        // The newest offer is the one to answer; a file that is already being fetched is not fetched twice.
        if !self.snapshots.fetching.replace(message).is_some_and(|old| is_same(&old)) {
            self.emit(Effect::Fetch { from, meta: Box::new(meta) });
        }
    }

    pub(super) fn fetched(&mut self, meta: &SnapshotMeta, whole: bool) {
        let fits = |message: &mut Message| {
            let offered = message.get_snapshot().get_metadata();
            (offered.index, offered.term) == (meta.index, meta.term)
        };
        if let Some(message) = self.snapshots.fetching.take_if(fits)
            && whole
        {
            self.defer(message);
        }
    }

    /// The log has durably restarted after a snapshot. For raft the snapshot is applied at once; it is served when the
    /// kv db has it.
    pub(super) fn install(&mut self, meta: SnapshotMeta) {
        self.node.advance_apply_to(meta.index);
        self.apply.install(meta.index);
        self.can_lead = false;
        self.stores_opening += 1;
        self.membership = Arc::new(meta.membership.clone());
        self.peers.retain(|id| meta.membership.members.contains_key(&id));
        self.proposals.retain_origins(|id| !meta.membership.is_removed(id));
        let store = self.node.mut_store();
        store.added_at = meta.membership.added_at.clone();
        store.newest = Some(meta.clone());
        self.snapshots.add(meta.clone());
        self.durable.conf_index = meta.membership.conf_index;
        let why = || Refusal::Unknown("a snapshot was installed over its index".to_string());
        for request in self.proposals.installed(meta.index) {
            self.refuse(request, why());
        }
        if let Some(pending) = self.change.take_if(|pending| pending.index <= meta.index) {
            self.refuse(pending.request, why());
        }
        self.reads.abandon_all();
        self.note_safe_removals();
        self.emit(Effect::Members(self.membership.clone()));
        self.emit(Effect::Install { generation: self.apply.generation, meta: Box::new(meta) });
        self.emit(self.snapshots.drop_older());
    }

    pub(super) fn note_snapshot_offer(&mut self, message: &Message) {
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let index = message.get_snapshot().get_metadata().index;
            let offer = Offer { index, since_tick: self.now_tick, stage: Stage::Offered };
            self.snapshots.sending.insert(message.to, offer);
        }
    }

    pub(super) fn snapshot_begun(&mut self, to: MemberId, index: Index) {
        if let Some(offer) = self.snapshots.sending.get_mut(&to).filter(|offer| offer.index == index) {
            offer.stage = Stage::Begun;
        }
    }

    /// When the body went out whole, raft is told by the member's own answer, after it has installed the snapshot. Told
    /// earlier, raft would probe, be refused by a log that is still empty, and offer the snapshot again.
    pub(super) fn snapshot_sent(&mut self, to: MemberId, index: Index, whole: bool) {
        let now_tick = self.now_tick;
        let Some(offer) = self.snapshots.sending.get_mut(&to).filter(|offer| offer.index == index) else { return };
        if let Some(status) = offer.body_ended(whole, now_tick) {
            self.end_offer(to, status);
        }
    }

    /// A frame to this member was dropped, or its stream broke.
    pub(super) fn unreachable(&mut self, to: MemberId) {
        self.node.report_unreachable(to);
        self.offer_lost(to);
    }

    /// What was on its way to this member is lost with its stream, or with the run of its process that would have read
    /// it. An offer whose body the member has not asked for may be lost too. If it arrived after all, the next offer
    /// finds its file there.
    pub(super) fn offer_lost(&mut self, to: MemberId) {
        if let Some(Offer { stage: Stage::Offered, .. }) = self.snapshots.sending.get(&to) {
            self.end_offer(to, SnapshotStatus::Failure);
        }
    }

    /// Tells raft exactly once what became of an offer, since raft sends the member nothing until then.
    fn end_offer(&mut self, to: MemberId, status: SnapshotStatus) {
        self.snapshots.sending.remove(&to);
        self.node.report_snapshot(to, status);
    }

    pub(super) fn tick_snapshots(&mut self) {
        for (to, offer) in self.snapshots.sending.clone() {
            let progress = self.node.raft.prs().get(to);
            if progress.is_none_or(|progress| progress.state != ProgressState::Snapshot) {
                self.snapshots.sending.remove(&to);
            } else if let Some(status) = offer.overdue(self.now_tick) {
                self.end_offer(to, status);
            }
        }
    }

    /// Starts a cut if raft wished for one, or the log since the newest snapshot exceeds max(minimum, its size). So
    /// cuts at most double what is written.
    pub(super) fn start_cut_if_due(&mut self) {
        if !self.snapshots.may_cut(self.now_tick) || !self.can_lead {
            return;
        }
        let wished = self.node.store().take_wish();
        let newest = self.snapshots.newest();
        let limit = newest.map_or(0, |meta| meta.size).max(self.config.snapshot_log_bytes_min);
        let grown = newest.is_some_and(|meta| self.log().bytes_since(meta.index) > limit);
        if wished || grown {
            self.snapshots.cutting = true;
            self.emit(Effect::Cut);
        }
    }

    pub(super) fn cut_done(&mut self, meta: Option<SnapshotMeta>) {
        self.snapshots.cutting = false;
        let Some(meta) = meta else { return self.snapshots.cut_failed(self.now_tick) };
        if self.snapshots.add(meta.clone()) {
            self.node.mut_store().newest = Some(meta);
        }
        self.emit(self.snapshots.drop_older());
        self.compact_log();
    }

    /// Compacts the log up to the older kept snapshot, but never past a snapshot that is on its way to a member.
    fn compact_log(&mut self) {
        let [_, older] = self.snapshots.files.as_slice() else { return };
        let pinned = self.snapshots.sending.values().any(|offer| offer.index < older.index);
        let mark = Mark { index: older.index, term: older.term };
        let behind_applied = mark.index <= self.apply.applied;
        if !pinned && behind_applied && mark.index > self.log().base().index {
            let ops = self.node.mut_store().log.compact(mark);
            self.emit(Effect::Housekeep { ops });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Membership;

    fn meta(index: Index) -> SnapshotMeta {
        let membership = Membership::default();
        SnapshotMeta { index, term: 1, membership, revision: 1, compacted: 0, size: 99, sha256: String::new() }
    }

    #[test]
    fn a_file_on_its_way_to_a_member_is_not_dropped() {
        let mut snapshots = Snapshots::new(vec![meta(20), meta(10)]);
        snapshots.sending.insert(2, Offer { index: 20, since_tick: 0, stage: Stage::Offered });
        for index in [30, 40] {
            snapshots.add(meta(index));
        }
        let below = |snapshots: &Snapshots| match snapshots.drop_older() {
            Effect::DropSnapshots { below } => below,
            other => panic!("{other:?}"),
        };
        assert_eq!(below(&snapshots), 20);
        snapshots.stop_sending();
        assert_eq!(below(&snapshots), 30);
    }

    #[test]
    fn a_body_that_broke_may_go_on_before_the_member_is_offered_another() {
        let offer = |stage| Offer { index: 20, since_tick: 0, stage };
        let ticks = |ms| ms / limits::TICK_MS;
        let mut broken = offer(Stage::Begun);
        assert_eq!(broken.body_ended(false, 100), None);
        assert_eq!(broken.overdue(100 + ticks(limits::SNAPSHOT_RESUME_MS)), None);
        assert_eq!(broken.overdue(101 + ticks(limits::SNAPSHOT_RESUME_MS)), Some(SnapshotStatus::Failure));
        broken.stage = Stage::Begun;
        assert_eq!(broken.body_ended(true, 200), None, "the rest went out");
        assert_eq!(broken.overdue(201 + ticks(limits::SNAPSHOT_ANSWER_MS)), Some(SnapshotStatus::Finish));
        assert_eq!(offer(Stage::Offered).body_ended(false, 1), Some(SnapshotStatus::Failure), "a lost offer");
    }

    #[test]
    fn a_cut_that_failed_is_not_tried_again_at_once() {
        let mut snapshots = Snapshots::new(vec![meta(10)]);
        assert!(snapshots.may_cut(5));
        snapshots.cut_failed(5);
        assert!(!snapshots.may_cut(6));
        assert!(snapshots.may_cut(5 + limits::SNAPSHOT_RETRY_MS / limits::TICK_MS));
    }
}

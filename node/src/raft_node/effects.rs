//! Carries out what the driver decided, in one match on [`Effect`].
//!
//! Enters: effects, in order. Leaves: jobs, frames, answers and published state, or the end of the member phase.
//! Decides nothing.

use super::Input;
use super::apply_thread::ApplyJob;
use super::disk_space::Part;
use super::end::{End, Exit, RestartWhy};
use super::log_thread::LogJob;
use super::shared::Shared;
use super::spare::{self, SpareDelays};
use super::waiters::Reply;
use crate::crash_point::{self, Place, Side};
use crate::disk::bulk_disk::BulkDisk;
use crate::metrics::{WHY_DOWN, WHY_FULL};
use crate::transport::{Dropped, PeerAddress, Queued, Transport};
use raftkv_api::KvState;
use raftkv_core::driver::{Effect, Event};
use raftkv_core::limits;
use raftkv_core::log::{self, ReadPlan};
use raftkv_core::membership::Membership;
use raftkv_core::types::MemberId;
use raftkv_core::wire::Frame;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Where effects go: the counterpart of [`Input`].
pub struct Outputs {
    /// Published state, waiters, the input queue.
    pub shared: Arc<Shared>,
    /// Peers.
    pub transport: Transport,
    /// The log thread.
    pub log: mpsc::Sender<LogJob>,
    /// The thread that reads the log for members that catch up.
    pub log_reads: mpsc::Sender<ReadPlan>,
    /// The apply thread.
    pub apply: mpsc::Sender<ApplyJob>,
    /// The disk for spare segments.
    pub bulk: BulkDisk,
    /// This member's id.
    pub own: MemberId,
    /// The membership that the driver announced last.
    pub membership: Arc<Membership>,
    /// When raft began to run.
    pub member_since: Instant,
    /// Streams that hold frames of the effects being carried out.
    pub queued: Vec<Queued>,
    /// Dropped when raft ends: a spare that is not begun by then is not made. Whatever becomes of the directory next, a
    /// segment from its past must not appear in it.
    pub spare: Option<mpsc::Sender<()>>,
}

impl Outputs {
    /// Carries out effects in order; `Some` ends the member phase.
    pub fn carry_out(&mut self, effects: Vec<Effect>) -> Option<End> {
        let end = effects.into_iter().find_map(|effect| self.carry_out_one(effect));
        // All frames of one turn leave together.
        for queued in self.queued.drain(..) {
            queued.flush();
        }
        end
    }

    fn carry_out_one(&mut self, effect: Effect) -> Option<End> {
        match effect {
            Effect::Send(message) => self.send(message.to, Frame::Raft(message)),
            Effect::Forward { to, forward } => self.send(to, Frame::Forward(forward)),
            Effect::ForwardReply { to, reply } => self.send(to, Frame::ForwardReply(reply)),
            Effect::TellRemoved { to, record } => self.send(to, Frame::Removed(record)),
            Effect::Persist { batch, ops } => self.log_job(LogJob::Persist { batch, ops }),
            Effect::Housekeep { ops } => self.log_job(LogJob::Housekeep { ops }),
            Effect::MakeSpare { name, ops } => self.make_spare(name, ops),
            // If the thread has ended, raft has, too.
            Effect::ReadLog { plan } => drop(self.log_reads.send(plan)),
            Effect::Apply { generation, items } => self.apply_job(ApplyJob::Apply { generation, items }),
            Effect::Cut => self.apply_job(ApplyJob::Cut),
            Effect::Fetch { from, meta } => self.fetch(from, *meta),
            Effect::Install { generation: _, meta } => {
                self.shared.set_kv(KvState::Installing, format!("installing the snapshot at index {}", meta.index));
                self.shared.set_view(None);
                self.apply_job(ApplyJob::Install(meta));
            }
            Effect::DropSnapshots { below } => self.log_job(LogJob::DropSnapshots { below }),
            Effect::Answer { request, answer } => self.shared.waiters.reply(request.seq, Reply::Decided(answer)),
            Effect::ReadReady { reads, index } => {
                let shared = &self.shared;
                let applied = || shared.view().map_or(0, |view| view.applied());
                shared.waiters.reads_ready(&reads, index, applied, || shared.space.refusal(Part::Kv));
            }
            Effect::ReadFailed { reads, why } => self.shared.waiters.reads_failed(&reads, &why),
            Effect::Members(membership) => {
                crash_point::pass(Place::Membership, Side::Before);
                self.members(membership);
                crash_point::pass(Place::Membership, Side::After);
            }
            Effect::Gone { index, term } => return Some(End::Removed { index, term }),
            Effect::Fatal { why } => return Some(End::Exit(Exit::Fatal(why))),
            Effect::Quarantine { finding } => return Some(End::Quarantined(finding)),
            Effect::DistrustKv { why } => return Some(End::Exit(Exit::Restart(RestartWhy::DistrustKv(why)))),
            Effect::Closed { batch: _ } => return Some(End::Exit(Exit::Stopped)),
        }
        None
    }

    fn send(&mut self, to: MemberId, frame: Frame) {
        let if_lost = Event::of_lost_frame(to, &frame);
        let queued = self.transport.queue(to, frame);
        let metrics = &self.shared.metrics;
        match queued {
            Ok(queued) => {
                metrics.peer_sent_frames_total.with_label_values(&[to.to_string()]).inc();
                if !self.queued.iter().any(|known| known.is_same(&queued)) {
                    self.queued.push(queued);
                }
            }
            Err(dropped) => {
                let why = match dropped {
                    Dropped::NotConnected => WHY_DOWN,
                    Dropped::Full | Dropped::TooLarge => WHY_FULL,
                };
                metrics.peer_dropped_frames_total.with_label_values(&[&to.to_string(), why]).inc();
                if let Some(event) = if_lost {
                    self.input(event);
                }
            }
        }
    }

    fn input(&self, event: Event) {
        self.shared.send(Input::Event(event));
    }

    /// If the thread has ended, it has reported why before, and the report is on its way to us.
    fn log_job(&self, job: LogJob) {
        let _ended = self.log.send(job);
    }

    fn apply_job(&self, job: ApplyJob) {
        if self.shared.apply_given.fetch_add(1, Ordering::Relaxed) == self.shared.apply_done.load(Ordering::Relaxed) {
            self.shared.apply_moved();
        }
        let _ended = self.apply.send(job);
    }

    fn make_spare(&mut self, name: String, ops: Vec<log::LogOp>) {
        let (bulk, shared) = (self.bulk.clone(), self.shared.clone());
        let delays = SpareDelays {
            first: Duration::from_millis(limits::SPARE_AFTER_MS).saturating_sub(self.member_since.elapsed()),
            again: Duration::from_millis(limits::SPARE_RETRY_MS),
        };
        let (raft_runs, until_raft_ends) = mpsc::channel();
        self.spare = Some(raft_runs);
        let make = move || {
            if spare::make(&bulk, (&name, &ops), delays, &until_raft_ends) {
                shared.send(Input::Event(Event::SpareMade { name }));
            }
        };
        if let Err(e) = std::thread::Builder::new().name("spare".to_string()).spawn(make) {
            tracing::warn!(error = %e, "no thread for a spare log segment");
        }
    }

    fn fetch(&self, from: MemberId, meta: raftkv_core::snapshot::SnapshotMeta) {
        // A joiner does not know the members yet, but has heard where the leader is.
        let known = self.membership.members.get(&from).map(|member| member.peer.url());
        match known.or_else(|| self.shared.advertised(from).map(|urls| urls.peer_url)) {
            Some(url) => self.transport.fetch_snapshot(from, &url, meta),
            None => self.input(Event::Fetched { meta: Box::new(meta), whole: false }),
        }
    }

    fn members(&mut self, membership: Arc<Membership>) {
        let others = membership.members.iter().filter(|(id, _)| **id != self.own);
        let address = |(id, member): (&MemberId, &raftkv_core::membership::Member)| PeerAddress {
            id: *id,
            peer_url: member.peer.url(),
            incarnation: member.incarnation,
        };
        let mut peers: Vec<PeerAddress> = others.map(address).collect();
        if membership.members.is_empty() {
            // A joiner knows nobody but the member that spoke to it. It dials back, so that it can be told when it is
            // removed before it has a membership (rule N4).
            peers.extend(self.shared.speaker());
        }
        if self.shared.is_elsewhere(self.own, &membership) {
            peers.clear();
        }
        self.transport.set_peers(peers);
        self.shared.forget_removed(&membership);
        self.membership = membership;
    }
}

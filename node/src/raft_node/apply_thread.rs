//! The apply thread: owns the store, applies committed entries, answers those who waited for them, cuts and installs
//! snapshots.
//!
//! Enters: [`ApplyJob`]s in log order. Leaves: answers to waiters, `Applied` and `KvReady` events. Waiters are answered
//! after the atomic batch and before the flush (rule N23): sled need not be durable, since the log is.
//!
//! A full disk stops the thread but not the node (rule N11): reads go on with the state that was published. When there
//! is space, an opening or an installation begins again. A db that was being written is opened and proved by a new
//! process: nobody knows how much it has kept of what it took, so raft has to begin again from what it claims.

use super::Input;
use super::disk_space::Part;
use super::end::RestartWhy;
use super::shared::Shared;
use super::waiters::Reply;
use crate::disk::bulk_disk::BulkDisk;
use raftkv_api::KvState;
use raftkv_core::driver::Event;
use raftkv_core::kvstore::{Applied, Committed, Store, StoreError};
use raftkv_core::limits;
use raftkv_core::open::{self, KvPlan};
use raftkv_core::ports::KvHome;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::{self, SnapshotMeta};
use raftkv_core::types::MemberIdentity;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A job; jobs are done in order.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
pub enum ApplyJob {
    /// Open the store.
    Open(KvPlan),
    /// Apply, then report how far.
    Apply { generation: u64, items: Vec<Committed> },
    /// Cut a snapshot at the present applied index.
    Cut,
    /// The cut's file was written, or why not.
    CutWritten(Result<Box<SnapshotMeta>, StoreError>),
    /// Replace the store by this snapshot.
    Install(Box<SnapshotMeta>),
}

/// How long to wait for a job before physical compaction goes on.
const IDLE_MS: u64 = 100;
/// Under load, physical compaction takes a step after this many jobs.
const JOBS_PER_COMPACTION_STEP: u64 = 16;

/// What the thread waits for.
enum WaitsFor {
    /// Jobs.
    Jobs,
    /// Space, to open a store.
    SpaceToOpen(KvPlan),
    /// Space, to start the process anew, since a write met a full disk.
    SpaceToReopen(String),
}

/// The apply thread.
pub struct ApplyThread {
    /// Jobs in order.
    jobs: mpsc::Receiver<ApplyJob>,
    /// A sender to itself: the thread that writes a cut reports here.
    to_self: mpsc::Sender<ApplyJob>,
    /// Published state and waiters.
    shared: Arc<Shared>,
    /// Snapshot files, CURRENT.
    disk: Arc<dyn LogDisk>,
    /// The same disk, for writing snapshots.
    bulk: Arc<BulkDisk>,
    /// The databases.
    home: Arc<dyn KvHome>,
    /// For snapshot headers.
    identity: MemberIdentity,
    /// The store, once open.
    store: Option<Store>,
    waits_for: WaitsFor,
    /// Physical compaction has more to do.
    more_to_compact: bool,
    jobs_done: u64,
    /// Bytes of the newest snapshot that was seen, 0 if none was: a cut will need about as many.
    snapshot_bytes: u64,
}

impl ApplyThread {
    /// The thread before its first job; no store is open.
    pub fn new(
        (jobs, to_self): (mpsc::Receiver<ApplyJob>, mpsc::Sender<ApplyJob>),
        shared: Arc<Shared>,
        disk: Arc<dyn LogDisk>,
        home: Arc<dyn KvHome>,
        identity: MemberIdentity,
    ) -> ApplyThread {
        let bulk = Arc::new(BulkDisk::new(disk.clone(), shared.space.reserve.clone()));
        let (store, waits_for, more_to_compact) = (None, WaitsFor::Jobs, false);
        let (jobs_done, snapshot_bytes) = (0, 0);
        ApplyThread {
            jobs,
            to_self,
            shared,
            disk,
            bulk,
            home,
            identity,
            store,
            waits_for,
            more_to_compact,
            jobs_done,
            snapshot_bytes,
        }
    }

    /// Runs until an error ends it, or until the raft thread hangs up (drops the sender of `stop`).
    pub fn run(mut self, stop: &mpsc::Receiver<()>) {
        loop {
            if matches!(stop.try_recv(), Err(mpsc::TryRecvError::Disconnected)) {
                return;
            }
            let result = match std::mem::replace(&mut self.waits_for, WaitsFor::Jobs) {
                WaitsFor::Jobs => match self.turn() {
                    Some(result) => result,
                    None => return,
                },
                waits_for => self.wait_for_space(waits_for, stop),
            };
            match result {
                Ok(()) => {}
                Err(StoreError::Io(e)) if self.shared.space.is_full(&e) => {
                    self.meets_full_disk(&e);
                    self.waits_for = WaitsFor::SpaceToReopen(e.to_string());
                }
                Err(e @ StoreError::Newer(_)) => {
                    self.shared.send(Input::Fatal(e.to_string()));
                    return;
                }
                Err(e @ (StoreError::Io(_) | StoreError::Unproved(_))) => {
                    // The error names the record or the file. Nothing is lost: the log and the snapshots have
                    // everything.
                    self.shared.send(Input::Restart(RestartWhy::DistrustKv(e.to_string())));
                    return;
                }
            }
        }
    }

    /// Records that the disk is full; reads that wait for something to be applied are refused at once.
    fn meets_full_disk(&self, error: &std::io::Error) {
        self.shared.space.met_full_disk(Part::Kv, &error.to_string());
        if let Some(why) = self.shared.space.refusal(Part::Kv) {
            self.shared.waiters.fail_parked(&why);
        }
    }

    /// Does a job, or a step of compaction; `None` when there will be no more jobs.
    fn turn(&mut self) -> Option<Result<(), StoreError>> {
        let wait = Duration::from_millis(if self.more_to_compact { 0 } else { IDLE_MS });
        match self.jobs.recv_timeout(wait) {
            Ok(job) => {
                self.jobs_done += 1;
                let mut result = self.job(job);
                if result.is_ok() && self.jobs_done.is_multiple_of(JOBS_PER_COMPACTION_STEP) {
                    result = self.compact();
                }
                self.shared.apply_done.fetch_add(1, Ordering::Relaxed);
                self.shared.apply_moved();
                Some(result)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Some(self.idle()),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Pauses once, then does what waits if there is space.
    fn wait_for_space(&mut self, waits_for: WaitsFor, stop: &mpsc::Receiver<()>) -> Result<(), StoreError> {
        // A thread that waits for space is not stuck: a new process would wait, too.
        self.shared.apply_moved();
        let pause = Duration::from_millis(limits::FULL_DISK_RETRY_MS);
        if stop.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Disconnected) {
            // The loop in `run` sees it, too.
            return Ok(());
        }
        match waits_for {
            WaitsFor::Jobs => {}
            WaitsFor::SpaceToOpen(plan) => self.open(plan)?,
            WaitsFor::SpaceToReopen(why) if self.shared.space.reserve.has_working_space() => {
                self.shared.send(Input::Restart(RestartWhy::Reopen(why.clone())));
                // It waits on until the raft thread hangs up.
                self.waits_for = WaitsFor::SpaceToReopen(why);
            }
            WaitsFor::SpaceToReopen(why) => self.waits_for = WaitsFor::SpaceToReopen(why),
        }
        Ok(())
    }

    fn job(&mut self, job: ApplyJob) -> Result<(), StoreError> {
        match job {
            ApplyJob::Open(plan) => self.open(plan),
            ApplyJob::Apply { generation, items } => self.apply(generation, &items),
            ApplyJob::Cut => self.cut(),
            ApplyJob::CutWritten(result) => self.cut_written(result),
            ApplyJob::Install(meta) => {
                self.shared.metrics.snapshot_install_total.inc();
                self.store = None;
                self.shared.set_view(None);
                self.open(KvPlan::Rebuild { meta })
            }
        }
    }

    /// Opens the store now, or later when there is space for it.
    fn open(&mut self, plan: KvPlan) -> Result<(), StoreError> {
        if let KvPlan::Rebuild { meta } = &plan {
            self.snapshot_bytes = meta.size;
            if let Err(e) = self.bulk.room_for(meta.size) {
                self.shared.space.wait_for_space(Part::Kv, &format!("{}: {e}", meta.file_name()));
                self.waits_for = WaitsFor::SpaceToOpen(plan);
                return Ok(());
            }
        }
        match self.try_open(&plan) {
            Err(StoreError::Io(e)) if self.shared.space.is_full(&e) => {
                self.meets_full_disk(&e);
                self.waits_for = WaitsFor::SpaceToOpen(plan);
                Ok(())
            }
            opened => opened,
        }
    }

    fn try_open(&mut self, plan: &KvPlan) -> Result<(), StoreError> {
        let state = match plan {
            KvPlan::Absent => return Ok(()),
            KvPlan::Prove { .. } => KvState::Proving,
            KvPlan::Rebuild { .. } => KvState::Rebuilding,
        };
        let shared = self.shared.clone();
        let started = Instant::now();
        let mut progress = |what: &str, done: u64, total: u64| {
            shared.set_kv(state, format!("{what}: {done} of {total} records"));
        };
        let Some(store) = open::open_kv(plan, &*self.disk, &*self.home, &mut progress)? else { return Ok(()) };
        let view = store.view();
        tracing::info!(
            applied = view.applied(),
            revision = view.revision(),
            keys = view.keys(),
            millis = started.elapsed().as_millis() as u64,
            "the kv db is open"
        );
        let applied = view.applied();
        self.shared.space.has_space(Part::Kv);
        self.shared.set_view(Some(view));
        self.shared.set_kv(KvState::Ready, String::new());
        self.shared.waiters.applied(applied);
        self.store = Some(store);
        self.shared.send(Input::Event(Event::KvReady));
        Ok(())
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("the driver hands out nothing before a store is opened or installed")
    }

    fn apply(&mut self, generation: u64, items: &[Committed]) -> Result<(), StoreError> {
        let started = Instant::now();
        let applied = self.store().apply(items)?;
        let Some(last) = applied.last() else { return Ok(()) };
        let index = last.index;
        self.answer(applied);
        self.shared.waiters.applied(index);
        self.shared.metrics.apply_duration_seconds.observe(started.elapsed().as_secs_f64());
        self.shared.send(Input::Event(Event::Applied { index, generation }));
        self.store().flush()
    }

    fn answer(&self, applied: Vec<Applied>) {
        let id = self.identity.member_id;
        let nonce = self.shared.nonce;
        let ours = applied.into_iter().filter_map(|applied| {
            let request = applied.request.filter(|request| (request.origin, request.nonce) == (id, nonce))?;
            Some((request.seq, Reply::Applied(applied.outcome?)))
        });
        self.shared.waiters.reply_all(ours);
    }

    /// Freezes the store between two batches; a thread of its own writes the file while writes go on (rule N16).
    fn cut(&mut self) -> Result<(), StoreError> {
        if let Err(e) = self.bulk.room_for(self.snapshot_bytes) {
            // It is not even begun: what it wrote before it failed would take space from others.
            return self.cut_written(Err(e.into()));
        }
        let cut = self.store().freeze();
        let (disk, identity, to_self) = (self.bulk.clone(), self.identity, self.to_self.clone());
        let shared = self.shared.clone();
        let write = move || {
            let started = Instant::now();
            let write = || snapshot::write(&*disk, &identity, &cut, &mut |_, _| {}).map(Box::new);
            let Ok(result) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)) else {
                shared.send(Input::Fatal("the snapshot thread panicked; its last words are above".to_string()));
                return;
            };
            shared.metrics.snapshot_save_total_duration_seconds.observe(started.elapsed().as_secs_f64());
            shared.apply_given.fetch_add(1, Ordering::Relaxed);
            // The apply thread may have ended: then nobody needs the cut.
            let _ended = to_self.send(ApplyJob::CutWritten(result));
        };
        std::thread::Builder::new().name("snapshot".to_string()).spawn(write).map_err(StoreError::Io)?;
        Ok(())
    }

    fn cut_written(&mut self, result: Result<Box<SnapshotMeta>, StoreError>) -> Result<(), StoreError> {
        if let Some(store) = &mut self.store {
            store.cut_done();
        }
        let meta = match result {
            Ok(meta) => {
                tracing::info!(index = meta.index, bytes = meta.size, "snapshot cut");
                self.snapshot_bytes = meta.size;
                self.shared.metrics.snapshot_index.set(meta.index as i64);
                Some(meta)
            }
            // Every cut also proves the kv db while it runs: a mismatch means that the db is not what was applied.
            Err(e @ (StoreError::Unproved(_) | StoreError::Newer(_))) => return Err(e),
            Err(StoreError::Io(e)) => {
                tracing::error!(error = %e, "the snapshot could not be written; it will be tried again");
                None
            }
        };
        self.shared.send(Input::Event(Event::CutDone { meta }));
        Ok(())
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        if let Some(store) = &mut self.store {
            store.idle()?;
        }
        self.compact()
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        self.more_to_compact = self.store.as_mut().map_or(Ok(false), Store::compact_step)?;
        Ok(())
    }
}

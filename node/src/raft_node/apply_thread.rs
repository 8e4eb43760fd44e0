//! The apply thread: owns the store, applies committed entries, answers who waited for them, cuts and installs.
//!
//! Enters: [`ApplyJob`]s in log order. Leaves: answers to waiters, `Applied` and `KvReady` events. Waiters are answered
//! after the atomic batch and before the flush (rule N23): sled need not be durable, the log is.

use super::shared::Shared;
use super::waiters::Reply;
use super::{Input, RestartWhy};
use crate::disk::LogDisk;
use crate::driver::Event;
use crate::kvstore::{Applied, Committed, KvHome, Store, StoreError};
use crate::open::{self, KvPlan};
use crate::snapshot::{self, SnapshotMeta};
use crate::types::MemberIdentity;
use raftkv_api::KvState;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A job; done in order.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
pub enum ApplyJob {
    /// Open the store.
    Open(KvPlan),
    /// Apply, then say how far.
    Apply { generation: u64, items: Vec<Committed> },
    /// Cut a snapshot at the present applied index.
    Cut,
    /// The cut's file is written, or not.
    CutWritten(Result<Box<SnapshotMeta>, StoreError>),
    /// Replace the store by this snapshot.
    Install(Box<SnapshotMeta>),
}

/// How long to wait for a job before physical compaction goes on.
const IDLE_MS: u64 = 100;
/// Under load, physical compaction takes a step after this many jobs.
const JOBS_PER_COMPACTION_STEP: u64 = 16;

/// The thread's state.
pub struct ApplyThread {
    /// Jobs in order.
    pub jobs: mpsc::Receiver<ApplyJob>,
    /// To itself: the cut's writer reports here.
    pub to_self: mpsc::Sender<ApplyJob>,
    /// Published state and waiters.
    pub shared: Arc<Shared>,
    /// Snapshot files, CURRENT.
    pub disk: Arc<dyn LogDisk>,
    /// The databases.
    pub home: Arc<dyn KvHome>,
    /// For snapshot headers.
    pub identity: MemberIdentity,
    /// The store, once open.
    pub store: Option<Store>,
}

impl ApplyThread {
    /// Runs until told to stop by an error, or until the raft thread hangs up (`stop` is dropped).
    pub fn run(mut self, stop: &mpsc::Receiver<()>) {
        let mut more_to_compact = false;
        let mut jobs: u64 = 0;
        loop {
            if matches!(stop.try_recv(), Err(mpsc::TryRecvError::Disconnected)) {
                return;
            }
            let wait = Duration::from_millis(if more_to_compact { 0 } else { IDLE_MS });
            let result = match self.jobs.recv_timeout(wait) {
                Ok(job) => {
                    jobs += 1;
                    let mut result = self.job(job);
                    if result.is_ok() && jobs.is_multiple_of(JOBS_PER_COMPACTION_STEP) {
                        result = self.compact().map(|more| more_to_compact = more);
                    }
                    self.shared.apply_done.fetch_add(1, Ordering::Relaxed);
                    self.shared.apply_moved();
                    result
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.idle().map(|more| more_to_compact = more),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if let Err(e) = result {
                // Its own words name the record or the file; the log and the snapshots have everything.
                self.shared.send(Input::Restart(RestartWhy::DistrustKv(e.to_string())));
                return;
            }
        }
    }

    fn job(&mut self, job: ApplyJob) -> Result<(), StoreError> {
        match job {
            ApplyJob::Open(plan) => self.open(&plan),
            ApplyJob::Apply { generation, items } => self.apply(generation, &items),
            ApplyJob::Cut => self.cut(),
            ApplyJob::CutWritten(result) => self.cut_written(result),
            ApplyJob::Install(meta) => {
                self.shared.metrics.snapshot_install_total.inc();
                self.store = None;
                self.shared.set_view(None);
                self.open(&KvPlan::Rebuild { meta })
            }
        }
    }

    fn open(&mut self, plan: &KvPlan) -> Result<(), StoreError> {
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

    /// Freezes between two batches; the file is written by a thread of its own while writes go on (rule N16).
    fn cut(&mut self) -> Result<(), StoreError> {
        let cut = self.store().freeze();
        let (disk, identity, to_self) = (self.disk.clone(), self.identity, self.to_self.clone());
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
                self.shared.metrics.snapshot_index.set(meta.index as i64);
                Some(meta)
            }
            // Every cut also proves the kv db while it runs: a mismatch means that it is not what was applied.
            Err(e @ StoreError::Unproved(_)) => return Err(e),
            Err(StoreError::Io(e)) => {
                tracing::error!(error = %e, "the snapshot could not be written; it is tried again");
                None
            }
        };
        self.shared.send(Input::Event(Event::CutDone { meta }));
        Ok(())
    }

    fn idle(&mut self) -> Result<bool, StoreError> {
        if let Some(store) = &mut self.store {
            store.idle()?;
        }
        self.compact()
    }

    fn compact(&mut self) -> Result<bool, StoreError> {
        match &mut self.store {
            Some(store) => store.compact_step(),
            None => Ok(false),
        }
    }
}

//! The two slow threads of a simulated node, one small step at a time: the log thread, which writes the disk, and
//! apply.

use crate::node::{Out, plan_name};
use crate::rng::Rng;
use raftkv_api::StateHash;
use raftkv_core::driver::Event;
use raftkv_core::kvstore::{Applied, Committed, Cut, Store, StoreError, View};
use raftkv_core::log::{LogOp, execute_from, may_try_again};
use raftkv_core::open::{KvPlan, open_kv};
use raftkv_core::ports::KvHome;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::{self, SnapshotMeta};
use raftkv_core::types::{Index, MemberIdentity, Term};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What follows the last step of a job on the disk.
#[derive(Debug)]
pub enum DiskJob {
    /// Tell the driver that the batch is durable. `last_index` was the log's end when the batch was handed out, `term`
    /// was raft's.
    Persisted { batch: u64, last_index: Index, term: Term },
    /// Tell the driver that this spare may become a segment.
    Spare(String),
    /// Remove all snapshot files below this index.
    DropSnapshots(Index),
    /// Nothing follows.
    Nothing,
}

/// The result of a turn of the log thread.
#[derive(Debug)]
pub enum DiskTurn {
    /// Nobody has to know of it.
    Worked,
    /// The batch is durable, and with it the log up to `last_index` and this term.
    Durable { batch: u64, last_index: Index, term: Term },
    /// A spare is durable.
    SpareMade { name: String },
}

/// The log thread: it executes steps in order, and makes spares when it has nothing else to do.
#[derive(Debug, Default)]
pub struct DiskThread {
    queue: VecDeque<(VecDeque<LogOp>, DiskJob)>,
    spares: VecDeque<(VecDeque<LogOp>, DiskJob)>,
}

impl DiskThread {
    /// Queues the steps of a job and what follows them.
    pub fn push(&mut self, ops: Vec<LogOp>, then: DiskJob) {
        self.queue.push_back((ops.into(), then));
    }

    /// Queues the making of a spare segment.
    pub fn push_spare(&mut self, ops: Vec<LogOp>, name: String) {
        self.spares.push_back((ops.into(), DiskJob::Spare(name)));
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.spares.is_empty()
    }

    /// Whether making spares is the only work left.
    pub fn has_only_spares(&self) -> bool {
        self.queue.is_empty() && !self.spares.is_empty()
    }

    /// Executes at most `ops` steps of the first job. What follows a job takes a turn of its own, so that a crash can
    /// fall between the last sync and the report of it.
    pub fn turn(&mut self, disk: &dyn LogDisk, ops: usize) -> io::Result<DiskTurn> {
        let queue = if self.queue.is_empty() { &mut self.spares } else { &mut self.queue };
        let Some((steps, _)) = queue.front_mut() else { return Ok(DiskTurn::Worked) };
        let now: Vec<LogOp> = (0..ops).map_while(|_| steps.pop_front()).collect();
        let mut done = 0;
        match execute_from(disk, &now, &mut done) {
            Ok(()) => {}
            // The step waits for space (rule N11).
            Err(e) if may_try_again(&now[done], &e) => {
                now[done..].iter().rev().for_each(|op| steps.push_front(op.clone()))
            }
            Err(e) => return Err(e),
        }
        if !now.is_empty() {
            return Ok(DiskTurn::Worked);
        }
        let (_, then) = queue.pop_front().expect("the front was looked at");
        match then {
            DiskJob::Persisted { batch, last_index, term } => Ok(DiskTurn::Durable { batch, last_index, term }),
            DiskJob::Spare(name) => Ok(DiskTurn::SpareMade { name }),
            DiskJob::DropSnapshots(below) => snapshot::drop_below(disk, below).map(|()| DiskTurn::Worked),
            DiskJob::Nothing => Ok(DiskTurn::Worked),
        }
    }
}

/// A job of the apply thread; the jobs are done in order.
#[derive(Debug)]
pub enum ApplyJob {
    /// Prove or rebuild the kv db.
    Open(KvPlan),
    /// Apply these entries.
    Items(u64, VecDeque<Committed>),
    /// Freeze a cut and start writing it.
    Cut,
    /// Replace the store by this snapshot.
    Install(u64, Box<SnapshotMeta>),
}

/// The result of a turn of the apply thread.
#[derive(Default)]
pub struct Turn {
    events: Vec<Event>,
    outs: Vec<Out>,
}

impl Turn {
    /// The events for the driver; all other outputs go to `out`.
    pub fn into_outs(self, out: &mut Vec<Out>) -> Vec<Event> {
        out.extend(self.outs);
        self.events
    }
}

/// The apply thread, and the thread that writes cuts.
pub struct ApplyThread {
    queue: VecDeque<ApplyJob>,
    store: Option<Store>,
    view: Option<Arc<View>>,
    /// A frozen cut, and the number of turns until it is written.
    cut: Option<(Cut, u64)>,
    /// Turns until the first job is done, once this number was drawn.
    slow: Option<u64>,
    kv_name: Option<String>,
}

impl ApplyThread {
    /// Starts with the plan that opening the node made.
    pub fn new(plan: KvPlan) -> ApplyThread {
        let queue = VecDeque::from([ApplyJob::Open(plan)]);
        ApplyThread { queue, store: None, view: None, cut: None, slow: None, kv_name: None }
    }

    /// Queues a job.
    pub fn push(&mut self, job: ApplyJob) {
        self.queue.push_back(job);
    }

    /// Hides the readers' side: a snapshot will replace the store, so nothing is served until then.
    pub fn hide_view(&mut self) {
        self.view = None;
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.cut.is_none()
    }

    /// The readers' side of the store, once it is proved.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    /// Name of the kv db in use.
    pub fn kv_name(&self) -> Option<String> {
        self.kv_name.clone()
    }

    /// Does one small thing.
    pub fn turn(
        &mut self,
        identity: &MemberIdentity,
        disk: &dyn LogDisk,
        home: &dyn KvHome,
        items: usize,
        rng: &mut Rng,
    ) -> Turn {
        let mut turn = Turn::default();
        if self.cut.is_some() && (self.queue.is_empty() || rng.chance(300)) {
            self.write_cut(identity, disk, &mut turn);
            return turn;
        }
        match self.queue.pop_front() {
            None => {}
            Some(ApplyJob::Open(plan)) => {
                if self.is_slow(rng) {
                    self.queue.push_front(ApplyJob::Open(plan));
                } else {
                    self.open(&plan, disk, home, &mut turn);
                }
            }
            Some(ApplyJob::Install(generation, meta)) => {
                if self.is_slow(rng) {
                    self.queue.push_front(ApplyJob::Install(generation, meta));
                } else {
                    self.open(&KvPlan::Rebuild { meta }, disk, home, &mut turn);
                }
            }
            Some(ApplyJob::Items(generation, queue)) => self.apply(generation, queue, items, &mut turn),
            Some(ApplyJob::Cut) => {
                let store = self.store.as_mut().expect("a cut is asked for behind the proof");
                self.cut = Some((store.freeze(), rng.below(12)));
            }
        }
        turn
    }

    /// Whether the job takes another turn: proof, rebuild and installation take several.
    fn is_slow(&mut self, rng: &mut Rng) -> bool {
        let left = *self.slow.get_or_insert_with(|| rng.below(8));
        self.slow = left.checked_sub(1);
        self.slow.is_some()
    }

    fn open(&mut self, plan: &KvPlan, disk: &dyn LogDisk, home: &dyn KvHome, turn: &mut Turn) {
        self.store = None;
        self.view = None;
        self.kv_name = Some(plan_name(plan));
        match open_kv(plan, disk, home, &mut |_, _, _| {}) {
            // There is nothing to serve before a leader's snapshot comes.
            Ok(None) => {}
            Ok(Some(store)) => {
                let view = store.view();
                turn.outs.push(Out::StoreReady { index: view.applied() });
                turn.events.push(Event::KvReady);
                self.view = Some(view);
                self.store = Some(store);
            }
            Err(e @ (StoreError::Io(_) | StoreError::Newer(_))) => turn.outs.push(Out::DiskFailed(e.to_string())),
            Err(StoreError::Unproved(why)) => turn.outs.push(Out::DistrustsKv(why)),
        }
    }

    fn apply(&mut self, generation: u64, mut queue: VecDeque<Committed>, items: usize, turn: &mut Turn) {
        let piece: Vec<Committed> = queue.drain(..items.clamp(1, queue.len())).collect();
        let store = self.store.as_mut().expect("entries follow the proof");
        let results: Vec<Applied> = match store.apply(&piece) {
            Ok(results) => results,
            // The process ends, and leaves everything as it is.
            Err(newer @ StoreError::Newer(_)) => return turn.outs.push(Out::DiskFailed(newer.to_string())),
            Err(error) => panic!("the simulated kv db does not fail: {error}"),
        };
        let hash: StateHash = store.view().state_hash();
        // Waiters are answered before the flush (rule N23).
        let index = results.last().expect("a piece is not empty").index;
        turn.outs.push(Out::Applied { items: piece, results, hash });
        store.flush().expect("the simulated kv db does not fail");
        if self.cut.is_none() {
            store.compact_step().expect("the simulated kv db does not fail");
        }
        turn.events.push(Event::Applied { index, generation });
        if !queue.is_empty() {
            self.queue.push_front(ApplyJob::Items(generation, queue));
        }
    }

    fn write_cut(&mut self, identity: &MemberIdentity, disk: &dyn LogDisk, turn: &mut Turn) {
        let Some((cut, turns)) = &mut self.cut else { return };
        if *turns > 0 {
            *turns -= 1;
            return;
        }
        match snapshot::write(disk, identity, cut, &mut |_, _| {}) {
            Ok(meta) => self.end_cut(turn, Some(meta)),
            Err(StoreError::Io(e)) if e.to_string().contains("no power") => {
                turn.outs.push(Out::DiskFailed(e.to_string()));
            }
            // Nothing depends on the cut: it is tried again.
            Err(StoreError::Io(_)) => self.end_cut(turn, None),
            Err(e @ (StoreError::Unproved(_) | StoreError::Newer(_))) => {
                panic!("a proved store does not write what was frozen: {e}")
            }
        }
    }

    fn end_cut(&mut self, turn: &mut Turn, meta: Option<SnapshotMeta>) {
        self.cut = None;
        if let Some(store) = &mut self.store {
            store.cut_done();
        }
        turn.outs.extend(meta.as_ref().map(|meta| Out::Cut { index: meta.index }));
        turn.events.push(Event::CutDone { meta: meta.map(Box::new) });
    }
}

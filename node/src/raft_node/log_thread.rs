//! The log thread: executes the driver's disk steps in order and reports when a batch is durable. Decides nothing.
//!
//! Enters: [`LogJob`]s. Leaves: `Persisted` events, or the error that ends the process. Never skips a step or repeats a
//! failed sync.

use super::Input;
use super::disk_space::Part;
use super::shared::Shared;
use raftkv_core::driver::Event;
use raftkv_core::limits;
use raftkv_core::log::{self, LogOp};
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot;
use raftkv_core::types::Index;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A job; jobs are executed in order.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
pub enum LogJob {
    /// Execute the steps, then report that the batch is durable.
    Persist { batch: u64, ops: Vec<LogOp> },
    /// Execute the steps.
    Housekeep { ops: Vec<LogOp> },
    /// Remove snapshot files with a lower index.
    DropSnapshots { below: Index },
}

/// How a run of steps ended.
enum Done {
    Executed,
    /// The disk is full, and the raft thread has hung up.
    HungUp,
}

/// Runs until the sender is dropped. An error is final: after a failed fsync nobody knows what is on the disk, and a
/// second one may claim success for pages that were lost. So it is sent to the raft thread, which ends the process.
/// Only a step that found the disk full is executed again, as often as it takes; meanwhile nothing after it is
/// executed, and the batch is not reported.
pub fn run(jobs: &mpsc::Receiver<LogJob>, disk: &Arc<dyn LogDisk>, shared: &Shared) {
    let mut thread = LogThread { jobs, behind: VecDeque::new(), disk: &**disk, shared };
    while let Some(job) = thread.next() {
        match thread.execute(job) {
            Ok(Done::Executed) => {}
            Ok(Done::HungUp) => return,
            Err(e) => {
                let why = format!("the log cannot be written: {e}; this process ends and must not retry");
                shared.send(Input::Fatal(why));
                return;
            }
        }
    }
}

struct LogThread<'a> {
    jobs: &'a mpsc::Receiver<LogJob>,
    /// Jobs that came while a step waited for space.
    behind: VecDeque<LogJob>,
    disk: &'a dyn LogDisk,
    shared: &'a Shared,
}

impl LogThread<'_> {
    fn next(&mut self) -> Option<LogJob> {
        self.behind.pop_front().or_else(|| self.jobs.recv().ok())
    }

    fn execute(&mut self, job: LogJob) -> io::Result<Done> {
        match job {
            LogJob::Persist { batch, ops } => {
                let started = Instant::now();
                if let Done::HungUp = self.steps(&ops)? {
                    return Ok(Done::HungUp);
                }
                self.shared.metrics.wal_fsync_duration_seconds.observe(started.elapsed().as_secs_f64());
                self.shared.metrics.wal_batch_bytes.observe(bytes_of(&ops));
                self.shared.send(Input::Event(Event::Persisted { batch }));
                Ok(Done::Executed)
            }
            LogJob::Housekeep { ops } => self.steps(&ops),
            LogJob::DropSnapshots { below } => snapshot::drop_below(self.disk, below).map(|()| Done::Executed),
        }
    }

    fn steps(&mut self, ops: &[LogOp]) -> io::Result<Done> {
        let mut done = 0;
        loop {
            match log::execute_from(self.disk, ops, &mut done) {
                Ok(()) => {
                    self.shared.space.has_space(Part::Log);
                    return Ok(Done::Executed);
                }
                Err(e) if log::may_try_again(&ops[done], &e) => {
                    // The reserve exists for this.
                    let is_news = self.shared.space.met_full_disk(Part::Log, &e.to_string());
                    if !is_news && !self.wait() {
                        return Ok(Done::HungUp);
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits until it is time to try again; false when the raft thread has hung up.
    fn wait(&mut self) -> bool {
        let until = Instant::now() + Duration::from_millis(limits::FULL_DISK_RETRY_MS);
        loop {
            match self.jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => self.behind.push_back(job),
                Err(mpsc::RecvTimeoutError::Timeout) => return true,
                Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

fn bytes_of(ops: &[LogOp]) -> f64 {
    let bytes = |op: &LogOp| match op {
        LogOp::Write { bytes, .. } => bytes.len(),
        LogOp::Create { .. } | LogOp::Sync { .. } | LogOp::Rename { .. } | LogOp::Remove { .. } | LogOp::SyncDir => 0,
    };
    ops.iter().map(bytes).sum::<usize>() as f64
}

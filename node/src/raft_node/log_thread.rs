//! The log thread: executes the driver's disk steps in order and says when a batch is durable. Decides nothing.

use super::Input;
use super::shared::Shared;
use crate::disk::LogDisk;
use crate::driver::Event;
use crate::log::{self, LogOp};
use crate::snapshot;
use crate::types::Index;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// A job; executed in order.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
pub enum LogJob {
    /// Execute, then say that the batch is durable.
    Persist { batch: u64, ops: Vec<LogOp> },
    /// Execute.
    Housekeep { ops: Vec<LogOp> },
    /// Remove snapshot files with a lower index.
    DropSnapshots { below: Index },
}

/// Runs until the sender goes. An error is final: after a failed fsync nobody knows what is on the disk, and a second
/// one may claim success for pages that were lost. So it is sent to the raft thread, which ends the process.
pub fn run(jobs: &mpsc::Receiver<LogJob>, disk: &Arc<dyn LogDisk>, shared: &Shared) {
    for job in jobs {
        if let Err(e) = execute(job, &**disk, shared) {
            shared.send(Input::Fatal(format!("the log cannot be written: {e}; this process ends and must not retry")));
            return;
        }
    }
}

fn execute(job: LogJob, disk: &dyn LogDisk, shared: &Shared) -> io::Result<()> {
    match job {
        LogJob::Persist { batch, ops } => {
            let started = Instant::now();
            log::execute(disk, &ops)?;
            shared.metrics.wal_fsync_duration_seconds.observe(started.elapsed().as_secs_f64());
            shared.metrics.wal_batch_bytes.observe(bytes_of(&ops));
            shared.send(Input::Event(Event::Persisted { batch }));
            Ok(())
        }
        LogJob::Housekeep { ops } => log::execute(disk, &ops),
        LogJob::DropSnapshots { below } => snapshot::drop_below(disk, below),
    }
}

fn bytes_of(ops: &[LogOp]) -> f64 {
    let bytes = |op: &LogOp| match op {
        LogOp::Write { bytes, .. } => bytes.len(),
        LogOp::Create { .. } | LogOp::Sync { .. } | LogOp::Rename { .. } | LogOp::Remove { .. } | LogOp::SyncDir => 0,
    };
    ops.iter().map(bytes).sum::<usize>() as f64
}

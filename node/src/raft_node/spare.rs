//! Makes one spare log segment off the write path, and tries again while there is no space for it (rule N11).
//!
//! Enters: the steps that make the segment. Leaves: the file, or nothing. A sync that failed is never tried again.

use raftkv_core::log::{self, LogOp};
use raftkv_core::ports::LogDisk;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long the first attempt waits, and each one after a full disk.
#[derive(Clone, Copy, Debug)]
pub struct SpareDelays {
    /// A node that has just started has other things to write.
    pub first: Duration,
    /// Space does not become free at once.
    pub again: Duration,
}

/// Returns whether the spare was made. Nothing is ever sent on `raft_runs`: its sender is dropped when raft ends, which
/// ends this too. Any error other than a full disk also ends it: without a spare the next segment is made on the write
/// path, which is slower but safe.
pub fn make(disk: &dyn LogDisk, (name, ops): (&str, &[LogOp]), delays: SpareDelays, raft_runs: &Receiver<()>) -> bool {
    let (mut wait, mut told) = (delays.first, false);
    while raft_runs.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let mut done = 0;
        let Err(e) = log::execute_from(disk, ops, &mut done) else { return true };
        if !told {
            tracing::warn!(name, error = %e, "a spare log segment could not be made");
        }
        if !log::may_try_again(&ops[done], &e) {
            return false;
        }
        (wait, told) = (delays.again, true);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::kvstore::testing::MemFiles;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;

    fn make_soon(disk: &MemFiles) -> bool {
        let ops = [
            LogOp::Create { file: "spare.tmp".into(), len: 8 },
            LogOp::Sync { file: "spare.tmp".into() },
            LogOp::Rename { from: "spare.tmp".into(), to: "spare".into() },
            LogOp::SyncDir,
        ];
        let soon = Duration::from_millis(1);
        let (_runs, raft_runs) = mpsc::channel();
        make(disk, ("spare", &ops), SpareDelays { first: soon, again: soon }, &raft_runs)
    }

    #[test]
    fn a_spare_that_found_no_space_is_made_when_there_is_some() {
        let disk = MemFiles { creates_fail: 2.into(), ..MemFiles::default() };
        assert!(make_soon(&disk));
        assert_eq!((disk.creates_fail.load(Ordering::Relaxed), disk.len("spare").unwrap()), (0, 8));
    }

    #[test]
    fn a_sync_that_failed_is_not_tried_again_whatever_it_says() {
        let disk = MemFiles { syncs_fail: 1.into(), ..MemFiles::default() };
        assert!(!make_soon(&disk), "the next attempt would not fail");
        assert_eq!(disk.syncs_fail.load(Ordering::Relaxed), 0);
        assert!(disk.len("spare").is_err());
    }

    #[test]
    fn nothing_is_made_when_raft_has_ended() {
        let disk = MemFiles::default();
        let (runs, raft_runs) = mpsc::channel();
        drop(runs);
        let hour = Duration::from_secs(3600);
        let ops = [LogOp::Create { file: "spare".into(), len: 8 }];
        assert!(!make(&disk, ("spare", &ops), SpareDelays { first: hour, again: hour }, &raft_runs));
        assert!(disk.files().is_empty());
    }
}

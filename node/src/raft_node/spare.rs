//! Makes one spare log segment, off the write path, and again while there is no space for it (rule N11).

use crate::disk::LogDisk;
use crate::log::{self, LogOp};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long the first attempt waits, and each one after a full disk.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Whoever has just started has other things to write.
    pub first: Duration,
    /// Space does not come at once.
    pub again: Duration,
}

/// Whether the spare was made. What is never said on `raft_runs` says by its end that raft has ended, which ends this
/// too. Any other error than a full disk ends it as well: without a spare the next segment is made on the write path,
/// which is slower, and safe.
pub fn make(disk: &dyn LogDisk, (name, ops): (&str, &[LogOp]), waits: Waits, raft_runs: &Receiver<()>) -> bool {
    let (mut wait, mut told) = (waits.first, false);
    while raft_runs.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let mut done = 0;
        let Err(e) = log::execute_from(disk, ops, &mut done) else { return true };
        if !told {
            tracing::warn!(name, error = %e, "a spare log segment could not be made");
        }
        if !log::may_try_again(&ops[done], &e) {
            return false;
        }
        (wait, told) = (waits.again, true);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvstore::testing::MemFiles;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    /// Fails the first attempts to make or sync a file.
    struct Failing {
        files: MemFiles,
        creates: AtomicUsize,
        syncs: AtomicUsize,
        tries: AtomicUsize,
    }

    impl Failing {
        fn new(creates: usize, syncs: usize) -> Failing {
            let [creates, syncs, tries] = [creates, syncs, 0].map(AtomicUsize::new);
            Failing { files: MemFiles::default(), creates, syncs, tries }
        }

        fn make(&self) -> bool {
            let ops = [
                LogOp::Create { file: "spare.tmp".into(), len: 8 },
                LogOp::Sync { file: "spare.tmp".into() },
                LogOp::Rename { from: "spare.tmp".into(), to: "spare".into() },
                LogOp::SyncDir,
            ];
            let soon = Duration::from_millis(1);
            let (_runs, raft_runs) = mpsc::channel();
            make(self, ("spare", &ops), Waits { first: soon, again: soon }, &raft_runs)
        }
    }

    fn full(left: &AtomicUsize) -> io::Result<()> {
        let took = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        took.map_or(Ok(()), |_| Err(io::ErrorKind::StorageFull.into()))
    }

    impl LogDisk for Failing {
        fn list(&self) -> io::Result<Vec<String>> {
            self.files.list()
        }
        fn len(&self, name: &str) -> io::Result<u64> {
            self.files.len(name)
        }
        fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            self.files.read(name, offset, buf)
        }
        fn create(&self, name: &str, len: u64) -> io::Result<()> {
            self.tries.fetch_add(1, Ordering::Relaxed);
            full(&self.creates)?;
            self.files.create(name, len)
        }
        fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.files.write(name, offset, bytes)
        }
        fn sync(&self, name: &str) -> io::Result<()> {
            full(&self.syncs)?;
            self.files.sync(name)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.files.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.files.remove(name)
        }
        fn sync_dir(&self) -> io::Result<()> {
            self.files.sync_dir()
        }
    }

    #[test]
    fn a_spare_that_found_no_space_is_made_when_there_is_some() {
        let disk = Failing::new(2, 0);
        assert!(disk.make());
        assert_eq!((disk.tries.into_inner(), disk.files.len("spare").unwrap()), (3, 8));
    }

    #[test]
    fn a_sync_that_failed_is_not_tried_again_whatever_it_says() {
        let disk = Failing::new(0, 1);
        assert!(!disk.make());
        assert_eq!(disk.tries.into_inner(), 1);
        assert!(disk.files.len("spare").is_err());
    }

    #[test]
    fn nothing_is_made_when_raft_has_ended() {
        let disk = MemFiles::default();
        let (runs, raft_runs) = mpsc::channel();
        drop(runs);
        let hour = Duration::from_secs(3600);
        let ops = [LogOp::Create { file: "spare".into(), len: 8 }];
        assert!(!make(&disk, ("spare", &ops), Waits { first: hour, again: hour }, &raft_runs));
        assert!(disk.files().is_empty());
    }
}

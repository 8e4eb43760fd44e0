//! A disk for writes that can wait: snapshots (this node's own and those of a leader) and spare log segments.
//!
//! Enters: calls of [`LogDisk`]. Leaves: the same calls to the disk below. A write that would take the last space of
//! the volume is refused as if the volume were full, so that the log and the kv db, which cannot wait, are the last to
//! find no space (rule N11).

use crate::disk::reserve::Reserve;
use raftkv_core::ports::LogDisk;
use raftkv_core::space::mib;
use std::io;
use std::sync::Arc;

/// The disk of a data directory, without its last space.
#[derive(Clone)]
pub struct BulkDisk {
    disk: Arc<dyn LogDisk>,
    reserve: Arc<Reserve>,
}

impl BulkDisk {
    /// Writes to `disk` as long as the working space of `reserve` stays free.
    pub fn new(disk: Arc<dyn LogDisk>, reserve: Arc<Reserve>) -> BulkDisk {
        BulkDisk { disk, reserve }
    }
}

impl LogDisk for BulkDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.disk.read(name, offset, buf)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<()> {
        self.room_for(len)?;
        self.disk.create(name, len)
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.room_for(bytes)?;
        self.disk.allocate(name, bytes)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.room_for(bytes.len() as u64)?;
        self.disk.write(name, offset, bytes)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.disk.sync(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn room_for(&self, bytes: u64) -> io::Result<()> {
        let (free, kept) = (self.reserve.free_bytes()?, self.reserve.sizes().working());
        if free >= bytes.saturating_add(kept) {
            return Ok(());
        }
        let what = format!(
            "{} are free, {} are needed and {} stay for the log and the database: enlarge the volume or make room on it",
            mib(free),
            mib(bytes),
            mib(kept)
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::file_disk::FileDisk;
    use raftkv_core::space::Sizes;

    #[test]
    fn the_last_space_is_not_for_snapshots() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk: Arc<dyn LogDisk> = Arc::new(FileDisk::open(dir.path()).expect("opens"));
        let bulk = |least_bytes| {
            let reserve = Arc::new(Reserve::new(dir.path(), Sizes { least_bytes }));
            BulkDisk::new(disk.clone(), reserve)
        };
        let with_room = bulk(4096);
        with_room.create("snapshot", 0).expect("there is room");
        with_room.write("snapshot", 0, b"bytes").expect("there is room");
        let without = bulk(1 << 62);
        let refused = [
            without.write("snapshot", 5, b"more"),
            without.create("other", 0),
            without.allocate("other", 0),
            without.room_for(1),
        ];
        for refused in refused {
            assert_eq!(refused.expect_err("no room").kind(), io::ErrorKind::StorageFull);
        }
        assert_eq!(without.len("snapshot").expect("reads go on"), 5);
        disk.write("snapshot", 5, b"more").expect("the log's own writes are not asked");
    }
}

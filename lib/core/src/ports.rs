//! The ports: the only ways to persistent state. Each call says what is durable, and when. PURE.
//!
//! [`LogDisk`]: the files of one data directory (the log, the snapshots, the identity). Enters: names, offsets, bytes.
//! Leaves: bytes and IO errors. The simulator's disk loses everything that is not promised here.
//!
//! [`KvDisk`] and [`KvHome`]: the kv db, an ordered map with atomic batches. An implementation may lose any number of
//! its last batches in a crash, flushed or not, but never half of one; what it loses or damages is found when it is
//! opened.

use std::io;
use std::sync::Arc;

/// Files of one data directory. Names are plain file names (no `/`); an implementation may keep other things there.
///
/// `Send + Sync`: the raft thread reads old entries while the log thread writes.
pub trait LogDisk: Send + Sync {
    /// Names of all files and directories, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Length of a file in bytes.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Fills `buf` from `offset`; fewer bytes than asked for means that the file ends there.
    fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Creates (or empties) a file of `len` zero bytes that are really written, so that a later overwrite needs no
    /// metadata. Durable after [`LogDisk::sync`] and [`LogDisk::sync_dir`].
    fn create(&self, name: &str, len: u64) -> io::Result<()>;
    /// Creates (or empties) a file of no length, and takes room on the volume for so many bytes of it, as far as the
    /// file system can: writing them meets no full disk then.
    fn allocate(&self, name: &str, _bytes: u64) -> io::Result<()> {
        self.create(name, 0)
    }
    /// Overwrites or extends. Durable after [`LogDisk::sync`].
    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// `fdatasync`: on return all earlier writes to the file are durable. An error is final: the process must end,
    /// since a second fsync may claim success for pages that were lost.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Atomic replacement of `to`. Durable after [`LogDisk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable after [`LogDisk::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// fsync of the directory: creations, renames and removals before it are durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// An error of kind `StorageFull` if this many more bytes would not fit, as far as that can be known beforehand.
    fn room_for(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

/// An ordered map of bytes. Nothing in it needs to be durable: the log and the snapshots are (design section 5).
pub trait KvDisk: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Calls `visit` for each record with start <= key < end (no end: to the last), ascending, until it returns false.
    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()>;
    /// Writes (`Some`) and removes (`None`), all or nothing, also across a crash.
    fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> io::Result<()>;
    /// Hands buffered writes to the operating system; called after each batch, before the next one. An implementation
    /// may put that off while more batches come.
    fn flush(&self) -> io::Result<()>;
    /// Called when no batch comes: what was put off is done now.
    fn idle(&self) -> io::Result<()> {
        self.flush()
    }
    /// Makes all of it durable, as far as the implementation can: once, at the end of an installation (rule N14, step
    /// 4).
    fn sync(&self) -> io::Result<()> {
        self.flush()
    }
    /// Bytes on disk.
    fn bytes(&self) -> u64;
}

/// The databases of one data directory, by name (`kv-<index>`).
pub trait KvHome: Send + Sync {
    /// Opens a database, or creates it.
    fn open(&self, name: &str) -> io::Result<Arc<dyn KvDisk>>;
    /// Renames a database that cannot be trusted out of the way, keeping at most one such.
    fn set_aside(&self, name: &str) -> io::Result<()>;
    /// Removes a database; no error when there is none.
    fn remove(&self, name: &str) -> io::Result<()>;
}

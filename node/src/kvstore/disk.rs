//! The port to the kv db: an ordered map with atomic batches.
//!
//! Enters: keys and values as bytes. Leaves: the same, and IO errors. An implementation may lose any number of its last
//! batches in a crash, flushed or not, but never half of one; what it loses or damages is found when it is opened.

use std::io;
use std::sync::Arc;

/// An ordered map of bytes. Nothing in it needs to be durable: the log and the snapshots are (design section 5).
pub trait KvDisk: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Calls `visit` for each record with start <= key < end (no end: to the last), ascending, until it returns false.
    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()>;
    /// Writes (`Some`) and removes (`None`), all or nothing, also across a crash.
    fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> io::Result<()>;
    /// Hands buffered writes to the operating system; called after each batch, before the next one. An implementation
    /// may put that off while batches come.
    fn flush(&self) -> io::Result<()>;
    /// Called when no batch comes: nothing is put off any more.
    fn idle(&self) -> io::Result<()> {
        self.flush()
    }
    /// Makes all of it durable, as far as the implementation can: once, at the end of an installation (rule N14, step 4).
    fn sync(&self) -> io::Result<()> {
        self.flush()
    }
    /// Bytes on disk.
    fn bytes(&self) -> u64;
}

/// The databases of one data directory, by name (`kv-<index>`).
pub trait KvHome: Send + Sync {
    /// Opens or creates.
    fn open(&self, name: &str) -> io::Result<Arc<dyn KvDisk>>;
    /// Renames a database that cannot be trusted out of the way, keeping at most one such.
    fn set_aside(&self, name: &str) -> io::Result<()>;
    /// Removes a database; no error when there is none.
    fn remove(&self, name: &str) -> io::Result<()>;
}

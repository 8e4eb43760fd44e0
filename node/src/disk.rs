//! The port to the files of one data directory: the log, the snapshots, the identity.
//!
//! Enters: names relative to the directory, offsets, bytes. Leaves: bytes and IO errors. What is durable, and when,
//! is said for each call; the simulator's disk loses everything that these words do not promise.

use std::io;

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
    /// An error of kind `StorageFull` if so many bytes more would be too many, as far as anybody can say beforehand.
    fn room_for(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

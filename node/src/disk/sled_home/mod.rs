//! The kv db on disk: stock sled 0.34.7 behind [`KvHome`] and [`KvDisk`], one directory per db.
//!
//! sled may lose what it acknowledged, may fail to open, may panic on damaged files, and its calls (opening included)
//! may never return. So a db is opened on a thread of its own with a time limit, panics become errors, and whoever
//! opens a db must prove it (rules N8, N23).
//!
//! # Caveats
//!
//! A thread whose opening timed out stays, and so does its lock on that directory: the process should restart after
//! setting the db aside. Catching panics needs `panic = "unwind"`.

use raftkv_core::kvstore::write_behind::{Gathers, WriteBehind};
use raftkv_core::limits::{
    HEAD_OPEN_TIMEOUT_MS, HEAD_SLED_SEGMENT_BYTES, SLED_ACCESS_BYTES, SLED_CACHE_BYTES, SLED_OPEN_TIMEOUT_MS,
};
use raftkv_core::ports::{KvDisk, KvHome};
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Name of the one db that is kept although it could not be trusted.
const ASIDE: &str = "kv-aside";
/// A db that this process closed a moment ago is still locked until sled's threads have let go of it.
const LOCK_RETRY: Duration = Duration::from_millis(20);
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);

/// The dbs of one data directory.
pub struct SledHome {
    dir: PathBuf,
    open_timeout: Duration,
}

impl SledHome {
    /// `dir` is the data directory, which must exist.
    pub fn new(dir: impl Into<PathBuf>) -> SledHome {
        SledHome { dir: dir.into(), open_timeout: Duration::from_millis(SLED_OPEN_TIMEOUT_MS) }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if plain { Ok(self.dir.join(name)) } else { Err(invalid(format!("'{name}' is no plain file name"))) }
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Opens a head (`head-<number>`), or creates it. Nothing is gathered in front of it: what it is given is a batch of
    /// its own. It has no file beside sled's own as long as no value is longer than `HEAD_VALUE_BYTES_MAX` (rule D27).
    pub fn open_head(&self, name: &str) -> io::Result<Arc<dyn KvDisk>> {
        let path = self.path(name)?;
        let config = config(&path).segment_size(HEAD_SLED_SEGMENT_BYTES);
        let db = open_within(Duration::from_millis(HEAD_OPEN_TIMEOUT_MS), name, &path, config)?;
        Ok(Arc::new(SledDisk { db, dir: path }))
    }
}

impl KvHome for SledHome {
    fn open(&self, name: &str) -> io::Result<Arc<dyn KvDisk>> {
        let path = self.path(name)?;
        // `segment_size` stays at its default, since it is fixed for a db's life.
        let db = open_within(self.open_timeout, name, &path, config(&path))?;
        Ok(Arc::new(WriteBehind::new(SledDisk { db, dir: path }, Gathers::default())))
    }

    fn set_aside(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        if !path.try_exists()? {
            return Ok(());
        }
        self.remove(ASIDE)?;
        fs::rename(path, self.dir.join(ASIDE))?;
        self.sync_dir()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.path(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => self.sync_dir(),
        }
    }
}

/// `mode` stays at its default: sled reads it nowhere.
fn config(path: &Path) -> sled::Config {
    sled::Config::new().path(path).cache_capacity(SLED_CACHE_BYTES).flush_every_ms(None)
}

fn open_within(limit: Duration, name: &str, path: &Path, config: sled::Config) -> io::Result<sled::Db> {
    let (opened_tx, opened) = sync_channel(1);
    let thread = thread::Builder::new().name("sled-open".into()).spawn({
        let path = path.to_path_buf();
        // The receiver is gone only after the time limit; nobody wants the answer then.
        move || drop(opened_tx.send(open_db(&path, &config)))
    })?;
    match opened.recv_timeout(limit) {
        Ok(db) => db,
        Err(RecvTimeoutError::Timeout) => {
            let message = format!("{name} did not open within {} s", limit.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
        Err(RecvTimeoutError::Disconnected) => {
            let panic = thread.join().err().map(|panic| panicked(panic.as_ref()));
            Err(panic.unwrap_or_else(|| io::Error::other("the opening thread ended without an answer")))
        }
    }
}

fn open_db(path: &Path, config: &sled::Config) -> io::Result<sled::Db> {
    remove_half_written_snapshots(path)?;
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_lock(&error) && Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            opened => return opened.map_err(into_io),
        }
    }
}

/// sled takes a torn `snap.*.generating` for a snapshot and refuses to open (its issues 1527, 1533); without that file
/// it reads its log instead.
fn remove_half_written_snapshots(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// One open db; its only tree is sled's default one, since a batch is atomic only within one tree.
struct SledDisk {
    db: sled::Db,
    dir: PathBuf,
}

impl KvDisk for SledDisk {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(guarded(|| self.db.get(key))?.map(|value| value.to_vec()))
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let mut records = match end {
            Some(end) => self.db.range(start..end.max(start)),
            None => self.db.range(start..),
        };
        while let Some((key, value)) = guarded(|| records.next().transpose())? {
            if !visit(&key, &value) {
                break;
            }
            self.count_more(&key, value.len())?;
        }
        Ok(())
    }

    fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> io::Result<()> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        guarded(|| self.db.apply_batch(writes))
    }

    fn flush(&self) -> io::Result<()> {
        guarded(|| self.db.flush()).map(|_| ())
    }

    /// sled itself syncs no file on Linux, so each of its files is synced here, then the directories that name them.
    fn sync(&self) -> io::Result<()> {
        self.flush()?;
        sync_tree(&self.dir)?;
        self.dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }

    fn bytes(&self) -> u64 {
        guarded(|| self.db.size_on_disk()).unwrap_or(0)
    }
}

impl SledDisk {
    /// sled evicts pages by the number of accesses (64 of each 256th part of all pages) and not by their size: while it
    /// scans large records, it would keep 16,384 of them beyond its cache. So a large record is counted as several
    /// accesses.
    fn count_more(&self, key: &[u8], bytes: usize) -> io::Result<()> {
        for _ in 0..bytes / SLED_ACCESS_BYTES {
            guarded(|| self.db.contains_key(key))?;
        }
        Ok(())
    }
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => sync_file(&entry.path())?,
        }
    }
    File::open(dir)?.sync_all()
}

/// sled removes old files meanwhile, so a missing file is no error.
fn sync_file(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        file => file?.sync_all(),
    }
}

/// sled panics on some damage instead of returning an error. Its state is suspect then, but after an error the db is
/// not used again until it has been opened and proved anew.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(into_io),
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> io::Error {
    let message = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    io::Error::other(format!("sled panicked: {message}"))
}

fn into_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

/// Whether a lock failed, which sled reports in words of its own.
fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests;

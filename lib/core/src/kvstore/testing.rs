//! Shared by the tests of the store and of snapshots: disks in memory, a membership, and entries to apply.
//!
//! The disks keep every write, and fail only when a test tells them to be full.

use super::{Command, Committed, Condition, Store};
use crate::host_port::HostPort;
use crate::membership::{Member, Membership};
use crate::ports::KvDisk;
use crate::ports::LogDisk;
use crate::types::{Index, MemberIdentity, RequestId};
use bytes::Bytes;
use raftkv_api::Hex128;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A kv db in memory.
#[derive(Default)]
pub struct MemKv {
    /// Its records.
    pub map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// While set, every write finds the disk full.
    pub fail_writes: AtomicBool,
    written: AtomicUsize,
}

impl MemKv {
    /// Its records, locked.
    pub fn map(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.map.lock().expect("no test panics under this lock")
    }

    /// Bytes of keys and values that were ever written.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// A copy of what a restart would find.
    pub fn copy(&self) -> Arc<MemKv> {
        Arc::new(MemKv { map: Mutex::new(self.map().clone()), ..MemKv::default() })
    }
}

impl KvDisk for MemKv {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.map().get(key).cloned())
    }

    /// One key at a time and without the lock while `visit` runs, as in sled.
    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let mut from = start.to_vec();
        loop {
            let next = self.map().range(from.clone()..).next().map(|(key, value)| (key.clone(), value.clone()));
            let Some((key, value)) = next.filter(|(key, _)| end.is_none_or(|end| key.as_slice() < end)) else {
                return Ok(());
            };
            if !visit(&key, &value) {
                return Ok(());
            }
            from = key;
            from.push(0);
        }
    }

    fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> io::Result<()> {
        if self.fail_writes.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let mut map = self.map();
        for (key, value) in batch {
            self.written.fetch_add(key.len() + value.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.map().iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

/// Files in memory, all durable at once.
#[derive(Default)]
pub struct MemFiles {
    /// Contents by name.
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// This many further creations find the disk full.
    pub creates_fail: AtomicUsize,
    /// This many further syncs find the disk full.
    pub syncs_fail: AtomicUsize,
}

fn fail_if_left(left: &AtomicUsize) -> io::Result<()> {
    let took = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    took.map_or(Ok(()), |_| Err(io::ErrorKind::StorageFull.into()))
}

impl MemFiles {
    /// Contents by name, locked.
    pub fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().expect("no test panics under this lock")
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl LogDisk for MemFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.files().get(name).ok_or_else(missing)?.len() as u64)
    }

    fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let files = self.files();
        let file = files.get(name).ok_or_else(missing)?;
        let rest = file.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<()> {
        fail_if_left(&self.creates_fail)?;
        self.files().insert(name.to_string(), vec![0; len as usize]);
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let file = files.get_mut(name).ok_or_else(missing)?;
        let end = offset as usize + bytes.len();
        file.resize(file.len().max(end), 0);
        file[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        fail_if_left(&self.syncs_fail)?;
        self.len(name).map(|_| ())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or_else(missing)?;
        files.insert(to.to_string(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(|_| ()).ok_or_else(missing)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A membership of `members` members, of which the first votes.
pub fn membership(members: u64) -> Membership {
    let member = |id: u64| Member {
        name: format!("n{id}"),
        peer: HostPort::stored(format!("n{id}:2380")),
        incarnation: Hex128([id as u8; 16]),
    };
    let mut all = Membership::first(member(1), 1);
    for id in 2..=members {
        all.learners.insert(id);
        all.members.insert(id, member(id));
        all.added_at.insert(id, id);
        all.next_member_id = id + 1;
    }
    all
}

/// Member 1 of a cluster.
pub fn identity() -> MemberIdentity {
    let id = |byte| Hex128([byte; 16]);
    MemberIdentity { cluster_id: id(1), genesis: id(2), generation: 0, member_id: 1, incarnation: id(3) }
}

/// A new store at index 1.
pub fn new_store(disk: &Arc<MemKv>) -> Store {
    Store::create(disk.clone(), 1, 1, &membership(1)).expect("the disk is empty")
}

/// The store that a restart would open from `disk`.
pub fn reopen(disk: &MemKv) -> Store {
    Store::open(disk.copy(), &mut |_, _| ()).expect("nothing damaged it")
}

/// The command as the committed entry at this index.
pub fn entry(index: Index, command: &Command) -> Committed {
    let request = Some(RequestId { origin: 1, nonce: 1, seq: index });
    Committed::Normal { index, term: 1, request, data: command.encode() }
}

/// An unconditional put.
pub fn put(key: &str, value: &[u8]) -> Command {
    put_if(key, value, Condition::None)
}

/// A put under a condition.
pub fn put_if(key: &str, value: &[u8], condition: Condition) -> Command {
    Command::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::copy_from_slice(value), condition }
}

/// An unconditional delete.
pub fn delete(key: &str) -> Command {
    delete_if(key, Condition::None)
}

/// A delete under a condition.
pub fn delete_if(key: &str, condition: Condition) -> Command {
    Command::Delete { key: Bytes::copy_from_slice(key.as_bytes()), condition }
}

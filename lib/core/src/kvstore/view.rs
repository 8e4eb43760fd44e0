//! The readers' side of the store: the published state behind a lock that readers share.
//!
//! A read finds the version in the index under the lock, then fetches its value from the disk without the lock. Records
//! never change, so what it fetches is right whatever was written meanwhile. But a record at or below the compacted
//! revision may be gone by then, and such a read starts over: at a given revision it ends in [`ReadError::Compacted`],
//! at the newest one it finds a newer version.

use super::index::KeyIndex;
use super::keys::{Head, RecordKey};
use super::meta::Numbers;
use super::place::RecordAt;
use super::versions::{KeyVersion, Visible};
use crate::ports::KvDisk;
use crate::types::{Index, Revision};
use bytes::{Bytes, BytesMut};
use raftkv_api::StateHash;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// One key at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// Revision that created the key.
    pub create_revision: Revision,
    /// Revision of this value.
    pub mod_revision: Revision,
    /// Writes since creation.
    pub version: u64,
}

/// Which keys, at which revision.
#[derive(Clone, Debug, Default)]
pub struct RangeQuery {
    /// First key, inclusive.
    pub start: Bytes,
    /// End, exclusive; `None` is no end.
    pub end: Option<Bytes>,
    /// Start after this key instead.
    pub after: Option<Bytes>,
    /// Most keys to return; 0 is none.
    pub limit: usize,
    /// Most bytes of keys and values to return; at least one key is returned.
    pub bytes_max: usize,
    /// Leave values out.
    pub keys_only: bool,
    /// Return no keys, and `more` as false.
    pub count_only: bool,
    /// The revision to read; 0 is the newest.
    pub revision: Revision,
}

/// Answer to a [`RangeQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The revision that was read.
    pub revision: Revision,
    /// Ascending by key.
    pub records: Vec<KeyRecord>,
    /// Number of keys in start..end at this revision, whatever `after` and the limits say.
    pub count: u64,
    /// Whether keys remain after the last one returned.
    pub more: bool,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Above the store's revision.
    #[error("revision {asked} is above the store's revision {current}")]
    Future {
        /// The revision that was asked for.
        asked: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// Below the compacted revision.
    #[error("revision {asked} was compacted; the oldest readable is {oldest}")]
    Compacted {
        /// The revision that was asked for.
        asked: Revision,
        /// The compacted revision, which itself stays readable.
        oldest: Revision,
    },
    /// The disk failed.
    #[error("kv db: {0}")]
    Io(#[from] io::Error),
}

/// What readers see; each change publishes a whole batch.
pub(super) struct Published {
    pub(super) index: KeyIndex,
    pub(super) numbers: Numbers,
    pub(super) hashes: Vec<StateHash>,
}

/// The readers' side; every method may be called from any thread while writes go on.
pub struct View {
    disk: Arc<dyn KvDisk>,
    published: RwLock<Published>,
}

/// Most keys that a range visits while it holds the lock: a long range must not keep the apply thread from publishing.
pub(super) const WALK_KEYS_MAX: usize = 4096;

impl View {
    pub(super) fn new(disk: Arc<dyn KvDisk>, published: Published) -> View {
        View { disk, published: RwLock::new(published) }
    }

    pub(super) fn published(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().expect("a panic while publishing ends the process")
    }

    pub(super) fn publish(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.published.write().expect("a panic while publishing ends the process"));
    }

    /// The key at `revision` (0: the newest), with the revision that was read; `None` when it does not exist there.
    pub fn get(&self, key: &[u8], revision: Revision) -> Result<(Revision, Option<KeyRecord>), ReadError> {
        loop {
            let (at, found) = {
                let published = self.published();
                let at = published.resolve(revision)?;
                (at, published.index.at(key, at))
            };
            let Some(version) = found else { return Ok((at, None)) };
            match self.record(&Bytes::copy_from_slice(key), version.at())? {
                Some(record) => return Ok((at, Some(record))),
                None => self.expect_compacted(at, version)?,
            }
        }
    }

    /// A range at one revision.
    pub fn range(&self, query: &RangeQuery) -> Result<RangeAnswer, ReadError> {
        loop {
            let at = self.published().resolve(query.revision)?;
            if let Some(selected) = self.select(query, at)
                && let Some(answer) = self.fetch(query, at, selected)?
            {
                return Ok(answer);
            }
        }
    }

    /// Published applied index: everything up to it can be read.
    pub fn applied(&self) -> Index {
        self.published().numbers.applied
    }

    /// Published revision.
    pub fn revision(&self) -> Revision {
        self.published().numbers.revision
    }

    /// The oldest revision that can be read; those below it were compacted (0: none).
    pub fn compacted(&self) -> Revision {
        self.published().numbers.compacted
    }

    /// The state hash and its applied index, taken at one moment.
    pub fn state_hash(&self) -> StateHash {
        let Numbers { applied, log_hash, .. } = self.published().numbers;
        StateHash { applied, log_hash: log_hash.to_hex() }
    }

    /// State hashes at the last multiples of 1024, ascending.
    pub fn state_hashes(&self) -> Vec<StateHash> {
        self.published().hashes.clone()
    }

    /// Bytes of the in-memory key index.
    pub fn index_bytes(&self) -> u64 {
        self.published().index.bytes()
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.disk.bytes()
    }

    /// Keys that exist at the newest revision.
    pub fn keys(&self) -> u64 {
        self.published().index.live()
    }

    /// Walks the index; `None` when a compaction overtook the walk.
    fn select(&self, query: &RangeQuery, at: Revision) -> Option<Selected> {
        let mut selected = Selected::default();
        let mut from = Bound::Included(query.start.clone());
        loop {
            let published = self.published();
            if published.numbers.compacted > at {
                return None;
            }
            let mut last = None;
            let mut visited = 0;
            for (key, versions) in published.index.walk(borrowed(&from), query.end.as_deref()).take(WALK_KEYS_MAX) {
                visited += 1;
                last = Some(key);
                if let Some(version) = versions.visible(at) {
                    selected.add(query, key, version);
                }
            }
            match last {
                Some(last) if visited == WALK_KEYS_MAX => from = Bound::Excluded(Bytes::copy_from_slice(last)),
                Some(_) | None => return Some(selected),
            }
        }
    }

    /// Adds the values; `None` when one of them has been compacted away meanwhile.
    fn fetch(&self, query: &RangeQuery, at: Revision, selected: Selected) -> Result<Option<RangeAnswer>, ReadError> {
        let Selected { keys, count, more } = selected;
        let mut answer = RangeAnswer { revision: at, records: Vec::with_capacity(keys.len()), count, more };
        let mut bytes = 0;
        for (key, version) in keys {
            let record = match version {
                Visible::Newest(version) if query.keys_only => Some(without_value(key, version)),
                Visible::Newest(_) | Visible::Older(_) => self.record(&key, version.at())?,
            };
            let Some(mut record) = record else {
                self.expect_compacted(at, version)?;
                return Ok(None);
            };
            if query.keys_only {
                record.value = Bytes::new();
            }
            bytes += record.key.len() + record.value.len();
            if bytes > query.bytes_max && !answer.records.is_empty() {
                answer.more = true;
                break;
            }
            answer.records.push(record);
        }
        Ok(Some(answer))
    }

    /// A record from the disk; `None` when it is not there, in whole or in part.
    fn record(&self, key: &Bytes, at: RecordAt) -> io::Result<Option<KeyRecord>> {
        let first = at.key();
        let Some(chunk) = self.disk.get(&first.encode())? else { return Ok(None) };
        let head = Head::decode(&chunk).filter(|head| head.key == key).ok_or_else(|| damaged(at))?;
        let Head { kind: _, create_revision, version, key: _, value_len, part } = head;
        let mut value = BytesMut::with_capacity(value_len);
        value.extend_from_slice(part);
        if head.chunks() > 1 {
            let second = RecordKey { chunk: 1, ..first };
            self.disk.scan(&second.encode(), Some(&first.end_of_write()), &mut |_, part| {
                value.extend_from_slice(part);
                true
            })?;
        }
        let whole = value.len() == value_len;
        let (key, value, mod_revision) = (key.clone(), value.freeze(), at.revision);
        let record = KeyRecord { key, value, create_revision, mod_revision, version };
        Ok(whole.then_some(record))
    }

    /// A missing record is damage, unless a compaction has passed the revision that is read.
    fn expect_compacted(&self, at: Revision, version: Visible) -> io::Result<()> {
        if self.compacted() > at { Ok(()) } else { Err(damaged(version.at())) }
    }
}

impl Published {
    /// The revision that a read of `asked` reads.
    fn resolve(&self, asked: Revision) -> Result<Revision, ReadError> {
        let Numbers { revision: current, compacted: oldest, .. } = self.numbers;
        match asked {
            0 => Ok(current),
            _ if asked > current => Err(ReadError::Future { asked, current }),
            _ if asked < oldest => Err(ReadError::Compacted { asked, oldest }),
            _ => Ok(asked),
        }
    }
}

/// The keys of an answer, before their values are fetched.
#[derive(Default)]
pub(super) struct Selected {
    pub(super) keys: Vec<(Bytes, Visible)>,
    pub(super) count: u64,
    pub(super) more: bool,
}

impl Selected {
    pub(super) fn add(&mut self, query: &RangeQuery, key: &[u8], version: Visible) {
        self.count += 1;
        if query.count_only || query.after.as_ref().is_some_and(|after| *key <= **after) {
            return;
        }
        if self.keys.len() < query.limit {
            self.keys.push((Bytes::copy_from_slice(key), version));
        } else {
            self.more = true;
        }
    }
}

pub(super) fn without_value(key: Bytes, version: KeyVersion) -> KeyRecord {
    let KeyVersion { at, create_revision, version, tombstone: _ } = version;
    KeyRecord { key, value: Bytes::new(), create_revision, mod_revision: at.revision, version }
}

pub(super) fn borrowed(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| key.as_ref())
}

fn damaged(at: RecordAt) -> io::Error {
    let message = format!("the record of {at} is missing or damaged");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

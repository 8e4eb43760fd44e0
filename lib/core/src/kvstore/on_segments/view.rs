//! The readers' side of the store: the published state behind a lock that readers share.
//!
//! A read finds the version in the index under the lock, and takes the bytes of its record from the head, or the file
//! that has it, which then stays until the read is done. What was read is compared: a record of another key or revision,
//! or with a wrong crc, is never served (rule D11).

use super::files::File;
use crate::kvstore::hash::Sum;
use crate::kvstore::index::KeyIndex;
use crate::kvstore::moment::Moment;
use crate::kvstore::place::{Place, RecordAt};
use crate::kvstore::versions::Visible;
use crate::kvstore::view::{Selected, WALK_KEYS_MAX, borrowed, without_value};
use crate::kvstore::window::Head;
use crate::kvstore::{KeyRecord, RangeAnswer, RangeQuery, ReadError};
use crate::mutant::{self, Mutant};
use crate::ports::LogDisk;
use crate::segment::file::file_name;
use crate::segment::{RECORD_FIXED_BYTES, Record};
use crate::types::{Index, Revision};
use bytes::Bytes;
use raftkv_api::StateHash;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// What readers see; each change publishes a whole batch.
#[derive(Default)]
pub(super) struct Published {
    pub(super) index: KeyIndex,
    pub(super) moment: Moment,
    /// The newest compaction that is carried out; 0 is none.
    pub(super) swept: Revision,
    pub(super) hashes: Vec<StateHash>,
    pub(super) head: Head,
    /// The segments that are files, by their numbers in this run.
    pub(super) files: BTreeMap<u32, Arc<File>>,
}

/// The readers' side; every method may be called from any thread while writes go on.
pub struct View {
    disk: Arc<dyn LogDisk>,
    published: RwLock<Published>,
}

/// Where the bytes of a record are.
enum Found {
    Here(Bytes),
    In(Arc<File>, Place),
}

impl View {
    pub(super) fn new(disk: Arc<dyn LogDisk>, published: Published) -> View {
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
        let (at, found) = {
            let published = self.published();
            let at = published.resolve(revision)?;
            let found = published.index.at(key, at).map(|version| (version.at(), published.locate(version.at())));
            (at, found)
        };
        let Some((version, place)) = found else { return Ok((at, None)) };
        let place = place.ok_or_else(|| damaged(version, "is in no segment"))?;
        Ok((at, Some(self.record(&Bytes::copy_from_slice(key), version, place)?)))
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
        self.published().moment.applied
    }

    /// Published revision.
    pub fn revision(&self) -> Revision {
        self.published().moment.revision
    }

    /// The oldest revision that can be read; those below it were compacted (0: none).
    pub fn compacted(&self) -> Revision {
        self.published().moment.compacted
    }

    /// The sum over the keys that exist, and their number.
    pub fn keys_sum(&self) -> (u64, Sum) {
        let published = self.published();
        (published.moment.keys, published.moment.keys_sum)
    }

    /// The state hash and its applied index, taken at one moment.
    pub fn state_hash(&self) -> StateHash {
        let published = self.published();
        StateHash { applied: published.moment.applied, log_hash: published.moment.log_hash.to_hex() }
    }

    /// State hashes at the last multiples of 1024, ascending.
    pub fn state_hashes(&self) -> Vec<StateHash> {
        self.published().hashes.clone()
    }

    /// Memory of the index and the head.
    pub fn memory_bytes(&self) -> u64 {
        self.published().bytes()
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
            if published.moment.compacted > at {
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

    /// Adds the values; `None` when a record was moved meanwhile.
    fn fetch(&self, query: &RangeQuery, at: Revision, selected: Selected) -> Result<Option<RangeAnswer>, ReadError> {
        let Selected { keys, count, more } = selected;
        let mut answer = RangeAnswer { revision: at, records: Vec::with_capacity(keys.len()), count, more };
        let mut bytes = 0;
        for (key, version) in keys {
            let mut record = match version {
                Visible::Newest(version) if query.keys_only => without_value(key, version),
                Visible::Newest(_) | Visible::Older(_) => {
                    let place = self.published().locate(version.at());
                    let Some(place) = place else { return Ok(None) };
                    self.record(&key, version.at(), place)?
                }
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

    /// The record of `key` at `at`, whose bytes are there.
    fn record(&self, key: &Bytes, at: RecordAt, place: Found) -> io::Result<KeyRecord> {
        let bytes = match place {
            Found::Here(bytes) => bytes,
            Found::In(file, place) => {
                let mut bytes = vec![0; place.len as usize];
                let read = self.disk.read(&file_name(file.n), place.offset.into(), &mut bytes)?;
                bytes.truncate(read);
                bytes.into()
            }
        };
        let decoded = Record::decode(at.place.offset, &bytes);
        if mutant::is(Mutant::ReadUnchecked) && decoded.is_err() {
            let value = bytes.slice(bytes.len().min(RECORD_FIXED_BYTES + key.len())..);
            let (create_revision, version, mod_revision) = (at.revision, 1, at.revision);
            return Ok(KeyRecord { key: key.clone(), value, create_revision, mod_revision, version });
        }
        let (record, len) = decoded.map_err(|why| damaged(at, &why.to_string()))?;
        if record.key != key || record.stamp.at.main != at.revision || len != bytes.len() {
            return Err(damaged(at, "is another one"));
        }
        let value = bytes.slice(len - record.value.len()..len);
        let (create_revision, mod_revision, version) = (record.stamp.create, at.revision, record.stamp.version);
        Ok(KeyRecord { key: key.clone(), value, create_revision, mod_revision, version })
    }
}

impl Published {
    /// The revision that a read of `asked` reads.
    fn resolve(&self, asked: Revision) -> Result<Revision, ReadError> {
        let Moment { revision: current, compacted: oldest, .. } = self.moment;
        match asked {
            0 => Ok(current),
            _ if asked > current => Err(ReadError::Future { asked, current }),
            _ if asked < oldest => Err(ReadError::Compacted { asked, oldest }),
            _ => Ok(asked),
        }
    }

    /// Where the bytes of a record are; `None` when it was moved since it was looked up.
    fn locate(&self, at: RecordAt) -> Option<Found> {
        let place = at.place;
        let here = self.head.read(place).map(Found::Here);
        here.or_else(|| self.files.get(&place.segment).map(|file| Found::In(file.clone(), place)))
    }
}

fn damaged(at: RecordAt, why: &str) -> io::Error {
    let RecordAt { revision, place: Place { offset, .. } } = at;
    let message = format!("the record of revision {revision} at offset {offset} of its segment {why}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

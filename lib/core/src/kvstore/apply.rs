//! Apply: what committed entries do, decided from the store's state alone. PURE apart from the one batch it writes.
//!
//! [`Batch`] decides: entries go in one by one, and each sees what the ones before it did; out come the records to
//! write and the numbers that result. [`Store::apply`] writes these as one atomic batch and then publishes them under
//! one lock, so a reader sees all of a batch or nothing. The result depends on the entries only, never on how they were
//! cut into batches.

use super::hash::{self, RevisionRecord};
use super::index::KeyIndex;
use super::keys::{HASHES_KEY, MEMBERS_KEY, Record, RecordKind, STATE_KEY};
use super::members;
use super::meta::{self, Numbers};
use super::place::RecordAt;
use super::versions::KeyVersion;
use super::view::Published;
use super::{Applied, Command, Committed, Condition, Outcome, Store, StoreError};
use crate::limits::{HASH_EVERY, HASHES_KEPT};
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::types::{Index, Revision, Term};
use bytes::Bytes;
use raftkv_api::StateHash;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys and their new values (`None` removes), as [`crate::ports::KvDisk::apply_batch`] takes them.
pub(super) type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Store {
    /// Applies committed entries with one atomic disk batch (split where a conf change ends one), publishes it, and
    /// returns what became of each. The caller answers waiters, then calls [`Store::flush`].
    ///
    /// An entry that is no command stops apply with [`StoreError::Newer`]: the log's checksums are right, so a program wrote
    /// it, and not this one.
    pub fn apply(&mut self, committed: &[Committed]) -> Result<Vec<Applied>, StoreError> {
        let mut applied = Vec::with_capacity(committed.len());
        for (i, part) in committed.split_inclusive(|entry| matches!(entry, Committed::Conf { .. })).enumerate() {
            if i > 0 {
                self.flush()?;
            }
            applied.append(&mut self.apply_batch(part)?);
        }
        Ok(applied)
    }

    fn apply_batch(&mut self, entries: &[Committed]) -> Result<Vec<Applied>, StoreError> {
        let view = self.view();
        let decided = {
            let published = view.published();
            let mut batch = Batch::new(&published);
            entries.iter().try_for_each(|entry| batch.entry(entry))?;
            batch.finish()
        };
        let (mut numbers, mut writes) = (decided.numbers, decided.writes);
        if let Some(membership) = decided.membership {
            let (before, record) = (members::encode(self.membership()), members::encode(&membership));
            numbers.disk_hash.subtract(hash::of_record(MEMBERS_KEY, &before));
            numbers.disk_hash.add(hash::of_record(MEMBERS_KEY, &record));
            numbers.members_crc = members::crc(&record);
            writes.push((MEMBERS_KEY.to_vec(), Some(record)));
            self.set_membership(membership);
        }
        if mutant::is(Mutant::AppliedOutsideBatch) {
            self.write(std::mem::take(&mut writes))?;
        }
        writes.push((STATE_KEY.to_vec(), Some(meta::encode(&numbers))));
        self.write(writes)?;
        view.publish(|published| {
            for (key, version) in &decided.versions {
                published.index.push(key, *version);
            }
            published.numbers = numbers;
            published.hashes = decided.hashes;
        });
        Ok(decided.applied)
    }
}

/// Entries that are decided but not written.
struct Batch<'a> {
    published: &'a Published,
    /// The newest version of each key that this batch wrote; it takes precedence over the index.
    newest: BTreeMap<Bytes, KeyVersion>,
    numbers: Numbers,
    hashes: Vec<StateHash>,
    writes: Writes,
    versions: Vec<(Bytes, KeyVersion)>,
    applied: Vec<Applied>,
    membership: Option<Arc<Membership>>,
}

/// The result of a batch.
struct Decided {
    numbers: Numbers,
    hashes: Vec<StateHash>,
    /// Everything but the meta record and the membership's.
    writes: Writes,
    versions: Vec<(Bytes, KeyVersion)>,
    applied: Vec<Applied>,
    membership: Option<Arc<Membership>>,
}

impl<'a> Batch<'a> {
    fn new(published: &'a Published) -> Batch<'a> {
        Batch {
            published,
            newest: BTreeMap::new(),
            numbers: published.numbers,
            hashes: published.hashes.clone(),
            writes: Vec::new(),
            versions: Vec::new(),
            applied: Vec::new(),
            membership: None,
        }
    }

    fn entry(&mut self, entry: &Committed) -> Result<(), StoreError> {
        let applied = match entry {
            Committed::Normal { index, term, request, data } => {
                let outcome = match data.is_empty() {
                    true => None,
                    false => Some(self.command(&decode(*index, data)?)),
                };
                self.advance(*index, *term);
                Applied { index: *index, request: *request, outcome }
            }
            Committed::Conf { index, term, membership } => {
                self.membership = Some(membership.clone());
                self.advance(*index, *term);
                Applied { index: *index, request: None, outcome: None }
            }
        };
        self.applied.push(applied);
        Ok(())
    }

    fn advance(&mut self, index: Index, term: Term) {
        assert_eq!(index, self.numbers.applied + 1, "entries are applied without a gap and never twice");
        assert!(term >= self.numbers.term, "terms never fall along the log");
        self.numbers.applied = index;
        self.numbers.term = term;
        if index.is_multiple_of(HASH_EVERY) {
            if self.hashes.len() == HASHES_KEPT {
                self.hashes.remove(0);
            }
            self.hashes.push(StateHash { applied: index, log_hash: self.numbers.log_hash.to_hex() });
        }
    }

    fn command(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Put { key, value, condition } => self.put(key, value, condition),
            Command::Delete { key, condition } => self.delete(key, condition),
            Command::Compact { revision } => self.compact(*revision),
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, condition: &Condition) -> Outcome {
        let current = self.current(key);
        if let Some(failed) = self.refuse(condition, current) {
            return failed;
        }
        let revision = self.numbers.revision + 1;
        let (create_revision, version) = match current {
            Some(current) => (current.create_revision, current.version + 1),
            None => (revision, 1),
        };
        let at = RecordAt::new(revision, 0);
        self.record(key, value, KeyVersion { at, create_revision, version, tombstone: false });
        Outcome::Put { revision, version }
    }

    fn delete(&mut self, key: &Bytes, condition: &Condition) -> Outcome {
        let current = self.current(key);
        if let Some(failed) = self.refuse(condition, current) {
            return failed;
        }
        if current.is_none() {
            return Outcome::Deleted { revision: self.numbers.revision, deleted: false };
        }
        let revision = self.numbers.revision + 1;
        let at = RecordAt::new(revision, 0);
        let gone = KeyVersion { at, create_revision: 0, version: 0, tombstone: true };
        self.record(key, &Bytes::new(), gone);
        Outcome::Deleted { revision, deleted: true }
    }

    /// Only moves the compacted revision: what lies below it is removed later, in steps (rule N15).
    fn compact(&mut self, revision: Revision) -> Outcome {
        if revision > self.numbers.compacted && revision <= self.numbers.revision {
            self.numbers.compacted = revision;
        }
        Outcome::Compacted { revision: self.numbers.compacted }
    }

    /// The newest version of a key that exists.
    fn current(&self, key: &Bytes) -> Option<KeyVersion> {
        let index: &KeyIndex = &self.published.index;
        let newest = self.newest.get(key).copied().or_else(|| index.newest(key))?;
        (!newest.tombstone).then_some(newest)
    }

    fn refuse(&self, condition: &Condition, current: Option<KeyVersion>) -> Option<Outcome> {
        let current = current.map(|version| version.at.revision);
        let failed = Outcome::ConditionFailed { revision: self.numbers.revision, current };
        (!condition.holds(current)).then_some(failed)
    }

    /// Records one write of one key, which is of the next revision.
    fn record(&mut self, key: &Bytes, value: &Bytes, version: KeyVersion) {
        let KeyVersion { at, create_revision, version: writes, tombstone } = version;
        let kind = if tombstone { RecordKind::Tombstone } else { RecordKind::Value };
        for (chunk, part) in (Record { kind, create_revision, version: writes, key, value }).encode(at.key()) {
            let hash = hash::of_record(&chunk, &part);
            self.numbers.disk_hash.add(hash);
            self.numbers.records_sum.add(hash);
            self.numbers.records += 1;
            self.writes.push((chunk, Some(part)));
        }
        self.numbers.log_hash.add(hash::of_revision(&RevisionRecord {
            key,
            value,
            tombstone,
            revision: at.revision,
            sub: at.sub(),
            create_revision,
            version: writes,
            lease: 0,
        }));
        self.numbers.revision = at.revision;
        self.newest.insert(key.clone(), version);
        self.versions.push((key.clone(), version));
    }

    fn finish(mut self) -> Decided {
        if self.hashes != self.published.hashes {
            let before = &self.published.hashes;
            if !before.is_empty() {
                self.numbers.disk_hash.subtract(hash::of_record(HASHES_KEY, &meta::encode_hashes(before)));
            }
            let record = meta::encode_hashes(&self.hashes);
            self.numbers.disk_hash.add(hash::of_record(HASHES_KEY, &record));
            self.writes.push((HASHES_KEY.to_vec(), Some(record)));
        }
        let Batch { published: _, newest: _, numbers, hashes, writes, versions, applied, membership } = self;
        Decided { numbers, hashes, writes, versions, applied, membership }
    }
}

fn decode(index: Index, data: &Bytes) -> Result<Command, StoreError> {
    Command::decode(data).map_err(|error| StoreError::Newer(format!("the entry at index {index}: {error}")))
}

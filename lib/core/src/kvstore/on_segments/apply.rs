//! Apply: what committed entries do, decided from the store's state alone. PURE.
//!
//! [`Batch`] decides: entries go in one by one, and each sees what the ones before it did; out come the bytes of records
//! and the numbers that result. The result depends on the entries only, never on how they were cut into batches.

use super::store::Store;
use super::view::Published;
use crate::kvstore::hash::{self, RevisionRecord};
use crate::kvstore::moment::{Moment, PENDING_MAX, Pending};
use crate::kvstore::place::RecordAt;
use crate::kvstore::versions::KeyVersion;
use crate::kvstore::window::{Fresh, Pen};
use crate::kvstore::{Applied, Command, Committed, Condition, Outcome, StoreError};
use crate::limits::{HASH_EVERY, HASHES_KEPT};
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::segment::{Position, Record, Stamp};
use crate::types::{Index, Revision, Term};
use bytes::Bytes;
use raftkv_api::StateHash;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Store {
    /// Applies committed entries, publishes what they did under one lock, and returns what became of each. It writes
    /// nothing: that is left to [`Store::next_set`] and to the jobs.
    ///
    /// An entry that is no command stops apply with [`StoreError::Newer`]: the log's checksums are right, so a program
    /// wrote it, and not this one.
    pub fn apply(&mut self, committed: &[Committed]) -> Result<Vec<Applied>, StoreError> {
        assert!(!self.must_wait(), "apply waits while the head has no room");
        let view = self.view();
        let decided = {
            let published = view.published();
            let mut batch = Batch::new(&published, self.pen());
            committed.iter().try_for_each(|entry| batch.entry(entry))?;
            if mutant::is(Mutant::SealAtBatch) {
                batch.decided.pen.end_window(&mut batch.decided.fresh);
            }
            batch.decided
        };
        Ok(self.publish(decided))
    }
}

/// What entries came to.
pub(super) struct Decided {
    pub(super) moment: Moment,
    pub(super) hashes: Vec<StateHash>,
    pub(super) pen: Pen,
    pub(super) fresh: Vec<Fresh>,
    pub(super) versions: Vec<(Bytes, KeyVersion)>,
    pub(super) applied: Vec<Applied>,
    pub(super) membership: Option<Arc<Membership>>,
}

/// Entries that are decided but not published.
struct Batch<'a> {
    published: &'a Published,
    /// The newest version of each key that this batch wrote; it takes precedence over the index.
    newest: BTreeMap<Bytes, KeyVersion>,
    decided: Decided,
}

impl<'a> Batch<'a> {
    fn new(published: &'a Published, pen: Pen) -> Batch<'a> {
        let decided = Decided {
            moment: published.moment.clone(),
            hashes: published.hashes.clone(),
            pen,
            fresh: Vec::new(),
            versions: Vec::new(),
            applied: Vec::new(),
            membership: None,
        };
        Batch { published, newest: BTreeMap::new(), decided }
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
                self.decided.membership = Some(membership.clone());
                self.advance(*index, *term);
                Applied { index: *index, request: None, outcome: None }
            }
        };
        self.decided.applied.push(applied);
        Ok(())
    }

    fn advance(&mut self, index: Index, term: Term) {
        let Decided { moment, hashes, .. } = &mut self.decided;
        assert_eq!(index, moment.applied + 1, "entries are applied without a gap and never twice");
        assert!(term >= moment.term, "terms never fall along the log");
        (moment.applied, moment.term) = (index, term);
        if index.is_multiple_of(HASH_EVERY) {
            if hashes.len() == HASHES_KEPT {
                hashes.remove(0);
            }
            hashes.push(StateHash { applied: index, log_hash: moment.log_hash.to_hex() });
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
        let revision = self.decided.moment.revision + 1;
        let (create, version) = current.map_or((revision, 1), |current| (current.create_revision, current.version + 1));
        let at = Position { main: revision, sub: 0 };
        self.record(key, value, Stamp { at, create, version, lease: None, tombstone: false }, current);
        Outcome::Put { revision, version }
    }

    fn delete(&mut self, key: &Bytes, condition: &Condition) -> Outcome {
        let current = self.current(key);
        if let Some(failed) = self.refuse(condition, current) {
            return failed;
        }
        if current.is_none() {
            return Outcome::Deleted { revision: self.decided.moment.revision, deleted: false };
        }
        let revision = self.decided.moment.revision + 1;
        let at = Position { main: revision, sub: 0 };
        let gone = Stamp { at, create: 0, version: 0, lease: None, tombstone: true };
        self.record(key, &Bytes::new(), gone, current);
        Outcome::Deleted { revision, deleted: true }
    }

    /// Only moves the compacted revision: what lies below it is removed later, in steps (rule N15).
    fn compact(&mut self, compacted: Revision) -> Outcome {
        let begun = self.begun_window();
        let moment = &mut self.decided.moment;
        if compacted > moment.compacted && compacted <= moment.revision {
            moment.compacted = compacted;
            if moment.pending.len() == PENDING_MAX {
                moment.pending.pop();
            }
            moment.pending.push(Pending { compacted, upto: begun });
        }
        Outcome::Compacted { revision: moment.compacted }
    }

    /// The revision of the first record of the window being filled, or of the next record if none has begun.
    fn begun_window(&self) -> Revision {
        let Decided { pen, fresh, moment, .. } = &self.decided;
        let begun_before = self.published.head.window(pen.segment).map(|window| window.first().main);
        let begun_here = || fresh.iter().find(|fresh| fresh.segment == pen.segment).map(|fresh| fresh.first.main);
        begun_before.or_else(begun_here).unwrap_or(moment.revision + 1)
    }

    /// The newest version of a key that exists.
    fn current(&self, key: &Bytes) -> Option<KeyVersion> {
        let newest = self.newest.get(key).copied().or_else(|| self.published.index.newest(key))?;
        (!newest.tombstone).then_some(newest)
    }

    fn refuse(&self, condition: &Condition, current: Option<KeyVersion>) -> Option<Outcome> {
        let current = current.map(|version| version.at.revision);
        let failed = Outcome::ConditionFailed { revision: self.decided.moment.revision, current };
        (!condition.holds(current)).then_some(failed)
    }

    /// Records one write of one key, of which `before` is the version that exists.
    fn record(&mut self, key: &Bytes, value: &Bytes, stamp: Stamp, before: Option<KeyVersion>) {
        let Stamp { at: Position { main, sub }, create, version, lease, tombstone } = stamp;
        let place = self.decided.pen.write(&Record { stamp, key, value }, &mut self.decided.fresh);
        let moment = &mut self.decided.moment;
        moment.log_hash.add(hash::of_revision(&RevisionRecord {
            key,
            value,
            tombstone,
            revision: main,
            sub,
            create_revision: create,
            version,
            lease: lease.map_or(0, i64::from),
        }));
        moment.revision = main;
        let at = RecordAt { revision: main, place };
        let newest = KeyVersion { at, create_revision: create, version, tombstone };
        if let Some(before) = before {
            moment.keys_sum.subtract(hash::of_key(key, &before));
            moment.keys -= 1;
        }
        if !tombstone {
            moment.keys_sum.add(hash::of_key(key, &newest));
            moment.keys += 1;
        }
        self.newest.insert(key.clone(), newest);
        self.decided.versions.push((key.clone(), newest));
    }
}

fn decode(index: Index, data: &Bytes) -> Result<Command, StoreError> {
    Command::decode(data).map_err(|error| StoreError::Newer(format!("the entry at index {index}: {error}")))
}

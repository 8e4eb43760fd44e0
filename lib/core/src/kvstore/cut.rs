//! A frozen cut (rule N16): the whole state at one applied index, independent of later writes.
//!
//! Records up to the frozen revision never change, so the scan of a cut may run in parallel with the apply thread;
//! everything that is overwritten in place was copied when the cut was frozen. Physical compaction pauses until the cut
//! is done.

use super::hash::{self, Sum};
use super::keys::{self, HASHES_KEY, MEMBERS_KEY, RecordKey};
use super::members;
use super::meta::{self, Numbers};
use super::{Store, StoreError};
use crate::membership::Membership;
use crate::ports::KvDisk;
use crate::types::{Index, Revision, Term};
use raftkv_api::{Hex128, StateHash};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;

/// A frozen cut (rule N16): what the scan needs, independent of later writes.
pub struct Cut {
    frozen: Frozen,
    disk: Arc<dyn KvDisk>,
}

/// The state besides its records; the header of a snapshot file holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Frozen {
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    /// The compaction whose physical removal was complete; the records still hold what later compactions have to
    /// remove.
    pub(crate) swept: Revision,
    pub(crate) membership: Membership,
    pub(crate) log_hash: Hex128,
    /// Kept state hashes.
    pub(crate) hashes: Vec<StateHash>,
    /// Number of records, and the sum over them.
    pub(crate) records: u64,
    pub(crate) records_sum: Hex128,
}

impl Store {
    /// Freezes a cut at the present applied index and pauses physical compaction until [`Store::cut_done`].
    pub fn freeze(&mut self) -> Cut {
        self.pause_compaction();
        let view = self.view();
        let published = view.published();
        let Numbers { applied, term, revision, compacted, swept, records, records_sum, log_hash, .. } =
            published.numbers;
        let frozen = Frozen {
            index: applied,
            term,
            revision,
            compacted,
            swept,
            membership: self.membership().clone(),
            log_hash: log_hash.to_hex(),
            hashes: published.hashes.clone(),
            records,
            records_sum: records_sum.to_hex(),
        };
        Cut { frozen, disk: self.disk().clone() }
    }

    /// The cut ended, successfully or not; compaction may go on.
    pub fn cut_done(&mut self) {
        self.resume_compaction();
    }
}

impl Cut {
    /// The applied index at which it was frozen.
    pub fn index(&self) -> Index {
        self.frozen.index
    }

    /// The term of that index.
    pub fn term(&self) -> Term {
        self.frozen.term
    }

    pub(crate) fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    /// Visits each record of the frozen state, ascending, until `visit` returns false.
    pub(crate) fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let end = keys::end_of_revision(self.frozen.revision);
        self.disk.scan(&RecordKey::first(0).encode(), Some(&end), visit)
    }
}

impl Frozen {
    /// A store without keys.
    pub(crate) fn empty(index: Index, term: Term, membership: &Membership) -> Frozen {
        Frozen {
            index,
            term,
            revision: 1,
            compacted: 0,
            swept: 0,
            membership: membership.clone(),
            log_hash: Sum::default().to_hex(),
            hashes: Vec::new(),
            records: 0,
            records_sum: Sum::default().to_hex(),
        }
    }

    /// Turns a tree that holds exactly the frozen records into a store's tree: writes everything that is not a record.
    pub(crate) fn seal(&self, disk: &dyn KvDisk) -> Result<(), StoreError> {
        let members = members::encode(&self.membership);
        let members_crc = members::crc(&members);
        let mut disk_hash = Sum::from_hex(self.records_sum);
        disk_hash.add(hash::of_record(MEMBERS_KEY, &members));
        let mut batch = vec![(MEMBERS_KEY.to_vec(), Some(members))];
        if !self.hashes.is_empty() {
            let record = meta::encode_hashes(&self.hashes);
            disk_hash.add(hash::of_record(HASHES_KEY, &record));
            batch.push((HASHES_KEY.to_vec(), Some(record)));
        }
        let numbers = Numbers {
            applied: self.index,
            term: self.term,
            revision: self.revision,
            compacted: self.compacted,
            swept: self.swept,
            records: self.records,
            records_sum: Sum::from_hex(self.records_sum),
            disk_hash,
            log_hash: Sum::from_hex(self.log_hash),
            members_crc,
        };
        batch.push((keys::STATE_KEY.to_vec(), Some(meta::encode(&numbers))));
        disk.apply_batch(batch)?;
        Ok(disk.flush()?)
    }
}

//! Physical compaction: removes records that no read at or above the compacted revision sees, a bounded step at a time.
//!
//! The compacted revision is replicated (rule N15); each member removes the records in its own time. A sweep walks the
//! key index once for the compacted revision it started with, then notes that revision as `swept` in the meta record.
//! After a restart an unfinished sweep walks again from the first key, and finds only what it had not removed. A step
//! removes the oldest records of a key first (see [`super::versions::Versions::dead`]).

use super::apply::Writes;
use super::hash;
use super::index::KeyIndex;
use super::keys::STATE_KEY;
use super::meta::{self, Numbers};
use super::place::RecordAt;
use super::{Store, StoreError};
use crate::limits::COMPACTION_STEP_RECORDS;
use crate::ports::KvDisk;
use crate::types::Revision;
use bytes::Bytes;
use std::ops::Bound;

/// Most keys that a step looks at: it must end soon, even where there is nothing to remove.
const STEP_KEYS_MAX: usize = 4 * COMPACTION_STEP_RECORDS;

/// A sweep that has begun.
pub(super) struct Sweep {
    compacted: Revision,
    from: Bound<Bytes>,
}

/// What one step found in the index.
struct Found {
    /// At most [`COMPACTION_STEP_RECORDS`], ordered by key, the oldest of a key first.
    dead: Vec<(Bytes, RecordAt)>,
    /// Where the next step continues when all of `dead` has been removed; `None` at the end of the index.
    next: Option<Bound<Bytes>>,
}

impl Store {
    /// Does one step of physical compaction if one is due; true when there is more to do. Does nothing during a cut.
    pub fn compact_step(&mut self) -> Result<bool, StoreError> {
        let view = self.view();
        let before = view.published().numbers;
        if self.compaction_paused() || before.swept == before.compacted {
            return Ok(false);
        }
        let begun = self.sweep.take();
        let sweep = begun.unwrap_or(Sweep { compacted: before.compacted, from: Bound::Unbounded });
        let mut found = find(&view.published().index, &sweep);

        let mut numbers = before;
        let mut writes = Writes::new();
        let removed = remove_records(self.disk().as_ref(), &found.dead, &mut numbers, &mut writes)?;
        if let Some((key, _)) = found.dead.get(removed) {
            found.next = Some(Bound::Included(key.clone()));
        }
        if found.next.is_none() {
            numbers.swept = sweep.compacted;
        }
        if numbers != before {
            writes.push((STATE_KEY.to_vec(), Some(meta::encode(&numbers))));
            self.write(writes)?;
            view.publish(|published| {
                for versions in found.dead[..removed].chunk_by(|(a, _), (b, _)| a == b) {
                    published.index.forget_oldest(&versions[0].0, versions.len());
                }
                published.numbers = numbers;
            });
            self.flush()?;
        }
        self.sweep = found.next.map(|from| Sweep { from, ..sweep });
        Ok(numbers.swept < numbers.compacted)
    }
}

fn find(index: &KeyIndex, sweep: &Sweep) -> Found {
    let mut found = Found { dead: Vec::new(), next: None };
    let from = sweep.from.as_ref().map(|key| key.as_ref());
    for (visited, (key, versions)) in index.walk(from, None).enumerate() {
        let dead = versions.dead(sweep.compacted);
        let room = COMPACTION_STEP_RECORDS - found.dead.len();
        let last = visited == STEP_KEYS_MAX || dead > room;
        if dead > 0 || last {
            let key = Bytes::copy_from_slice(key);
            found.dead.extend(versions.records().take(dead.min(room)).map(|at| (key.clone(), at)));
            found.next = last.then_some(Bound::Included(key));
        }
        if last {
            break;
        }
    }
    found
}

/// Removes the first of the `dead` records from the sums and the tree: as many as have no more chunks than one step may
/// remove, but at least one. Returns their number.
fn remove_records(
    disk: &dyn KvDisk,
    dead: &[(Bytes, RecordAt)],
    numbers: &mut Numbers,
    writes: &mut Writes,
) -> Result<usize, StoreError> {
    for (removed, (_, at)) in dead.iter().enumerate() {
        let first = at.key();
        let mut chunks = Vec::new();
        disk.scan(&first.encode(), Some(&first.end_of_write()), &mut |key, value| {
            chunks.push((key.to_vec(), hash::of_record(key, value)));
            true
        })?;
        if chunks.is_empty() {
            return Err(StoreError::Unproved(format!("the record of {at} is missing")));
        }
        if removed > 0 && writes.len() + chunks.len() > COMPACTION_STEP_RECORDS {
            return Ok(removed);
        }
        for (key, hash) in chunks {
            numbers.records -= 1;
            numbers.records_sum.subtract(hash);
            numbers.disk_hash.subtract(hash);
            writes.push((key, None));
        }
    }
    Ok(dead.len())
}

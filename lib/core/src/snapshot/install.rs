//! Fills an empty kv db from a snapshot file (rule N14, step 4).
//!
//! The meta record comes last, after the whole file was found right: a db whose installation was cut short claims nothing
//! and cannot be opened, so it is removed and filled again.

use super::SnapshotMeta;
use super::read::{Block, Reader};
use crate::kvstore::{Store, StoreError, require_empty};
use crate::ports::KvDisk;
use crate::ports::LogDisk;
use std::sync::Arc;

/// Fills an empty kv db from a file in bounded batches and returns the opened store, proved. `progress` gets records
/// done and in all; each record counts twice, when it is written and when it is proved.
pub fn install(
    disk: &dyn LogDisk,
    meta: &SnapshotMeta,
    into: Arc<dyn KvDisk>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Store, StoreError> {
    require_empty(into.as_ref())?;
    let name = meta.file_name();
    let mut reader = Reader::open(disk, &name)?;
    let state = reader.state().clone();
    let all = state.records.saturating_mul(2);
    while let Some(block) = reader.next_block()? {
        fill(into.as_ref(), &block)?;
        progress(reader.records(), all);
    }
    if reader.finish()? != *meta {
        return Err(StoreError::Unproved(format!("{name} is not the file that was announced")));
    }
    state.seal(into.as_ref())?;
    let store = Store::open(into.clone(), &mut |proved, _| progress(state.records + proved, all))?;
    into.sync()?;
    Ok(store)
}

/// One batch, flushed at once as rule N23 wants it.
fn fill(into: &dyn KvDisk, block: &Block) -> Result<(), StoreError> {
    into.apply_batch(block.records().map(|(key, value)| (key.to_vec(), Some(value.to_vec()))).collect())?;
    Ok(into.flush()?)
}

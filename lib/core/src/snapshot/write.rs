//! Writes a snapshot file from a frozen cut, a block at a time, and accepts it only if it holds what was frozen.
//!
//! Enters: a cut, or the membership of a new cluster. Leaves: a durable file under its final name and its description.
//! A file that is not whole must never get that name.

use super::format::{self, BLOCK_BYTES, FrameKind, Header, MAGIC};
use super::{SnapshotMeta, TEMPORARY, file_name};
use crate::kvstore::hash::{self, Sum};
use crate::kvstore::{Cut, Frozen, StoreError};
use crate::membership::Membership;
use crate::ports::LogDisk;
use crate::types::MemberIdentity;
use sha2::{Digest, Sha256};
use std::io;

/// Writes the first snapshot of a cluster (index 1, no keys), durably.
pub fn write_initial(
    disk: &dyn LogDisk,
    identity: &MemberIdentity,
    membership: &Membership,
) -> Result<SnapshotMeta, StoreError> {
    let state = Frozen::empty(1, 1, membership);
    write_state(disk, identity, &state, |_| Ok(()))
}

/// Scans the frozen cut and writes its file, durably. `progress` gets the records written and in all. Fails with
/// `Unproved` when the sum of what was written is not the frozen one.
pub fn write(
    disk: &dyn LogDisk,
    identity: &MemberIdentity,
    cut: &Cut,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SnapshotMeta, StoreError> {
    write_state(disk, identity, cut.frozen(), |writer| {
        let mut failed = None;
        cut.scan(&mut |key, value| {
            match writer.record(key, value) {
                Ok(true) => progress(writer.records, cut.frozen().records),
                Ok(false) => (),
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)
    })
}

fn write_state(
    disk: &dyn LogDisk,
    identity: &MemberIdentity,
    state: &Frozen,
    records: impl FnOnce(&mut Writer<'_>) -> io::Result<()>,
) -> Result<SnapshotMeta, StoreError> {
    let name = file_name(state.term, state.index);
    let temporary = format!("{name}{TEMPORARY}");
    let written = fill(disk, &temporary, &Header::new(identity, state), records);
    if written.is_err() {
        // The error that is returned says more than a second one from the same disk would; opening removes what stays.
        let _ = disk.remove(&temporary);
        return written;
    }
    disk.rename(&temporary, &name)?;
    disk.sync_dir()?;
    written
}

/// Writes the whole file under its temporary name, and makes its bytes durable.
fn fill(
    disk: &dyn LogDisk,
    temporary: &str,
    header: &Header,
    records: impl FnOnce(&mut Writer<'_>) -> io::Result<()>,
) -> Result<SnapshotMeta, StoreError> {
    let state = &header.state;
    let mut writer = Writer::create(disk, temporary)?;
    writer.bytes(MAGIC)?;
    writer.frame(FrameKind::Header, &serde_json::to_vec(header).map_err(io::Error::from)?)?;
    records(&mut writer)?;
    writer.end_block()?;
    let (count, sum) = (writer.records, writer.sum.to_hex());
    if (count, sum) != (state.records, state.records_sum) {
        let (frozen, frozen_sum) = (state.records, state.records_sum);
        let message = format!("the cut at index {} gave {count} records with sum {sum}", state.index);
        return Err(StoreError::Unproved(format!("{message}, frozen were {frozen} with {frozen_sum}")));
    }
    writer.frame(FrameKind::End, &format::end(count, sum))?;
    disk.sync(temporary)?;
    Ok(SnapshotMeta {
        index: state.index,
        term: state.term,
        membership: state.membership.clone(),
        revision: state.revision,
        compacted: state.compacted,
        size: writer.offset,
        sha256: hex(&writer.sha256.finalize()),
    })
}

struct Writer<'a> {
    disk: &'a dyn LogDisk,
    name: &'a str,
    offset: u64,
    sha256: Sha256,
    block: Vec<u8>,
    records: u64,
    sum: Sum,
}

impl<'a> Writer<'a> {
    fn create(disk: &'a dyn LogDisk, name: &'a str) -> io::Result<Writer<'a>> {
        disk.create(name, 0)?;
        let block = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 64);
        Ok(Writer { disk, name, offset: 0, sha256: Sha256::new(), block, records: 0, sum: Sum::default() })
    }

    /// Adds a record; true when that ended a block.
    fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        format::push_record(&mut self.block, key, value);
        self.records += 1;
        self.sum.add(hash::of_record(key, value));
        if self.block.len() < BLOCK_BYTES {
            return Ok(false);
        }
        self.end_block()?;
        Ok(true)
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let mut block = std::mem::take(&mut self.block);
        self.frame(FrameKind::Records, &block)?;
        block.clear();
        self.block = block;
        Ok(())
    }

    fn frame(&mut self, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
        let frame = format::frame(self.offset, kind, payload);
        self.bytes(&frame)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(self.name, self.offset, bytes)?;
        self.sha256.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

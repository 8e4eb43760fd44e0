//! Reads a snapshot file a frame at a time and checks each: to verify the file, or to fill an empty kv db from it.
//!
//! What a [`Reader`] hands out is verified only once it has reached the end.

use super::SnapshotMeta;
use super::format::{self, FRAME_HEAD_BYTES, FrameHead, FrameKind, Header, MAGIC};
use super::write::hex;
use crate::kvstore::hash::{self, Sum};
use crate::kvstore::{Frozen, Store, StoreError, require_empty};
use crate::ports::{KvDisk, LogDisk};
use crate::types::MemberIdentity;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Opens the file called `name` and verifies every block, without loading the whole file.
pub fn verify(disk: &dyn LogDisk, name: &str) -> Result<SnapshotMeta, StoreError> {
    let mut reader = Reader::open(disk, name)?;
    while reader.next_block()?.is_some() {}
    reader.finish()
}

/// The same, and checks that the file is of this member's cluster, since a foreign one may be whole too.
pub fn verify_ours(disk: &dyn LogDisk, name: &str, identity: &MemberIdentity) -> Result<SnapshotMeta, StoreError> {
    let reader = Reader::open(disk, name)?;
    let Header { cluster_id, genesis, generation, state: _ } = &reader.header;
    if (*cluster_id, *genesis, *generation) != (identity.cluster_id, identity.genesis, identity.generation) {
        let what = format!("is of cluster {cluster_id}, genesis {genesis}, generation {generation}, not of ours");
        return Err(reader.file.bad(&what));
    }
    verify(disk, name)
}

/// Fills an empty kv db from a file in bounded batches and returns the opened store, proved (rule N14, step 4).
/// `progress` gets the records done and in all; each record counts twice, once when it is written and once when it is
/// proved.
///
/// The meta record comes last, after the whole file was verified: a db whose installation was cut short claims nothing
/// and cannot be opened, so it is removed and filled again.
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

/// Writes one batch and flushes it at once, as rule N23 requires.
fn fill(into: &dyn KvDisk, block: &Block) -> Result<(), StoreError> {
    into.apply_batch(block.records().map(|(key, value)| (key.to_vec(), Some(value.to_vec()))).collect())?;
    Ok(into.flush()?)
}

/// A file being read.
struct Reader<'a> {
    file: File<'a>,
    header: Header,
    records: u64,
    sum: Sum,
    last_key: Vec<u8>,
}

/// The records of one frame, checked.
struct Block(Vec<u8>);

impl Block {
    /// Its keys and values.
    fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (key, value, behind) = format::split_record(rest)?;
            rest = behind;
            Some((key, value))
        })
    }
}

impl<'a> Reader<'a> {
    /// Reads up to the end of the header.
    fn open(disk: &'a dyn LogDisk, name: &'a str) -> Result<Reader<'a>, StoreError> {
        let mut file = File { disk, name, len: disk.len(name)?, offset: 0, sha256: Sha256::new() };
        if file.take(MAGIC.len())? != MAGIC {
            return Err(file.bad("does not begin as a snapshot of this format"));
        }
        let (kind, payload) = file.frame()?;
        if kind != FrameKind::Header {
            return Err(file.bad("has no header"));
        }
        let header = serde_json::from_slice(&payload).map_err(|error| file.bad(&format!("header: {error}")))?;
        Ok(Reader { file, header, records: 0, sum: Sum::default(), last_key: Vec::new() })
    }

    /// The state that the header announces.
    fn state(&self) -> &Frozen {
        &self.header.state
    }

    /// Records read so far.
    fn records(&self) -> u64 {
        self.records
    }

    /// The next records; `None` when the end has been reached and everything before it was right.
    fn next_block(&mut self) -> Result<Option<Block>, StoreError> {
        let (kind, payload) = self.file.frame()?;
        match kind {
            FrameKind::Header => Err(self.file.bad("has a second header")),
            FrameKind::Records => self.check(payload).map(Some),
            FrameKind::End => self.check_end(&payload).map(|()| None),
        }
    }

    /// Describes the file, once [`Reader::next_block`] has answered `None`.
    fn finish(self) -> Result<SnapshotMeta, StoreError> {
        let name = self.file.name;
        let state = self.header.state;
        let meta = SnapshotMeta {
            index: state.index,
            term: state.term,
            membership: state.membership,
            revision: state.revision,
            compacted: state.compacted,
            size: self.file.offset,
            sha256: hex(&self.file.sha256.finalize()),
        };
        meta.check().map_err(|reason| StoreError::Unproved(format!("{name}: {reason}")))?;
        Ok(meta)
    }

    fn check(&mut self, payload: Vec<u8>) -> Result<Block, StoreError> {
        let mut rest = &payload[..];
        while !rest.is_empty() {
            let record = format::split_record(rest).filter(|(key, _, _)| *key > self.last_key.as_slice());
            let Some((key, value, behind)) = record else {
                return Err(self.file.bad("holds a block whose records are malformed or out of order"));
            };
            self.sum.add(hash::of_record(key, value));
            self.records += 1;
            self.last_key = key.to_vec();
            rest = behind;
        }
        Ok(Block(payload))
    }

    fn check_end(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        let (records, sum) = (self.records, self.sum.to_hex());
        if (records, sum) != (self.header.state.records, self.header.state.records_sum) {
            return Err(self.file.bad("does not hold the records that its header announces"));
        }
        if payload != format::end(records, sum) {
            return Err(self.file.bad("does not hold the records that its end announces"));
        }
        if self.file.offset != self.file.len {
            return Err(self.file.bad("goes on behind its end"));
        }
        Ok(())
    }
}

/// The bytes that a [`Reader`] reads; every error names the file and the place.
struct File<'a> {
    disk: &'a dyn LogDisk,
    name: &'a str,
    len: u64,
    offset: u64,
    sha256: Sha256,
}

impl File<'_> {
    fn frame(&mut self) -> Result<(FrameKind, Vec<u8>), StoreError> {
        let start = self.offset;
        let head = self.take(FRAME_HEAD_BYTES)?.try_into().expect("as many bytes as were asked for");
        let head = FrameHead::decode(&head).ok_or_else(|| self.bad("holds no frame"))?;
        let payload = self.take(head.payload_len)?;
        if head.fits(start, &payload) { Ok((head.kind, payload)) } else { Err(self.bad("holds a damaged frame")) }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, StoreError> {
        // Checked before the allocation: a damaged length must not ask for more than the file has.
        if len as u64 > self.len - self.offset {
            return Err(self.bad("ends too early"));
        }
        let mut bytes = vec![0; len];
        if self.disk.read(self.name, self.offset, &mut bytes)? != len {
            return Err(self.bad("ends too early"));
        }
        self.sha256.update(&bytes);
        self.offset += len as u64;
        Ok(bytes)
    }

    fn bad(&self, what: &str) -> StoreError {
        StoreError::Unproved(format!("{} {what}, before byte {}", self.name, self.offset))
    }
}

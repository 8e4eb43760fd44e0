//! The proof of a kv db: one scan of every record rebuilds the key index and recomputes `disk_hash` (rules N8, N15).
//!
//! Nothing that was read is believed before the sum is right. What the checks on the way find is reported first only
//! because it says more about the damage than two unequal sums do.

use super::StoreError;
use super::hash::{self, Sum};
use super::index::KeyIndex;
use super::keys::{HASHES_KEY, Head, MEMBERS_KEY, RecordKey, RecordKind, STATE_KEY};
use super::members;
use super::meta::{self, Numbers};
use super::place::RecordAt;
use super::versions::KeyVersion;
use super::view::Published;
use crate::limits::{KEY_BYTES_MAX, NUMBER_MAX, VALUE_CHUNK_BYTES};
use crate::membership::Membership;
use crate::ports::KvDisk;
use raftkv_api::StateHash;

/// Records between two calls of `progress`.
const PROGRESS_EVERY: u64 = 1000;

/// Scans everything; the sums prove the result.
pub(super) fn prove(
    disk: &dyn KvDisk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Published, Membership), StoreError> {
    let state = disk.get(STATE_KEY)?.ok_or_else(|| StoreError::Unproved("there is no meta record".into()))?;
    let numbers = meta::decode(&state).ok_or_else(|| StoreError::Unproved("the meta record fails its check".into()))?;

    let mut scan = Scan::default();
    let mut failed = None;
    progress(0, numbers.records);
    disk.scan(&[], None, &mut |key, value| {
        if scan.records > 0 && scan.records.is_multiple_of(PROGRESS_EVERY) {
            progress(scan.records, numbers.records);
        }
        failed = scan.record(key, value).err();
        failed.is_none()
    })?;
    match failed {
        Some(reason) => Err(StoreError::Unproved(reason)),
        None => {
            scan.compare(&numbers).map_err(StoreError::Unproved)?;
            progress(numbers.records, numbers.records);
            let membership = scan.membership.ok_or_else(|| StoreError::Unproved("there is no membership".into()))?;
            Ok((Published { index: scan.index, numbers, hashes: scan.hashes }, membership))
        }
    }
}

#[derive(Default)]
struct Scan {
    sum: Sum,
    records_sum: Sum,
    records: u64,
    index: KeyIndex,
    hashes: Vec<StateHash>,
    membership: Option<Membership>,
    members_crc: u32,
    newest: Option<RecordAt>,
    unfinished: Option<Unfinished>,
}

/// A value of which chunks are still to come.
struct Unfinished {
    next: RecordKey,
    bytes: usize,
}

impl Scan {
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if key == STATE_KEY {
            return Ok(());
        }
        let hash = hash::of_record(key, value);
        self.sum.add(hash);
        if key == HASHES_KEY {
            self.hashes = meta::decode_hashes(value).ok_or("the record of kept state hashes is malformed")?;
            return Ok(());
        }
        if key == MEMBERS_KEY {
            self.membership = Some(members::decode(value).ok_or("the membership is malformed")?);
            self.members_crc = members::crc(value);
            return Ok(());
        }
        let at = RecordKey::decode(key).ok_or_else(|| format!("an unknown key {key:02x?}"))?;
        self.records += 1;
        self.records_sum.add(hash);
        match self.unfinished.take() {
            Some(unfinished) => self.later_chunk(at, value.len(), &unfinished),
            None => self.first_chunk(at, value),
        }
    }

    fn first_chunk(&mut self, at: RecordKey, value: &[u8]) -> Result<(), String> {
        let head = Head::decode(value).filter(|head| head.key.len() <= KEY_BYTES_MAX);
        let head = head.ok_or_else(|| format!("the record {at:?} is malformed"))?;
        let record = RecordAt::new(at.revision, at.sub);
        let follows = self.newest.is_none_or(|newest| newest < record);
        if at.chunk != 0 || !follows || !(1..=NUMBER_MAX).contains(&at.revision) {
            let after = self.newest.map_or("nothing".to_string(), |newest| newest.to_string());
            return Err(format!("the record {at:?} follows {after}"));
        }
        self.newest = Some(record);
        let version = KeyVersion {
            at: record,
            create_revision: head.create_revision,
            version: head.version,
            tombstone: head.kind == RecordKind::Tombstone,
        };
        self.index.push(head.key, version);
        self.expect(at, head.value_len - head.part.len());
        Ok(())
    }

    fn later_chunk(&mut self, at: RecordKey, len: usize, unfinished: &Unfinished) -> Result<(), String> {
        if at != unfinished.next || len != unfinished.bytes.min(VALUE_CHUNK_BYTES) {
            return Err(format!("the record {at:?} of {len} bytes stands where {:?} is missing", unfinished.next));
        }
        self.expect(at, unfinished.bytes - len);
        Ok(())
    }

    fn expect(&mut self, at: RecordKey, bytes: usize) {
        // The number of chunks was checked with the head, so the next one's number fits.
        let next = RecordKey { chunk: at.chunk.wrapping_add(1), ..at };
        self.unfinished = (bytes > 0).then_some(Unfinished { next, bytes });
    }

    fn compare(&self, numbers: &Numbers) -> Result<(), String> {
        if let Some(unfinished) = &self.unfinished {
            return Err(format!("the record {:?} is missing", unfinished.next));
        }
        if self.records != numbers.records {
            return Err(format!("it holds {} records of {}", self.records, numbers.records));
        }
        if self.members_crc != numbers.members_crc {
            return Err("the membership is not the one that belongs to it".to_string());
        }
        if let Some(newest) = self.newest.filter(|newest| newest.revision > numbers.revision) {
            return Err(format!("a record of {newest} is above revision {}", numbers.revision));
        }
        let (found, stored) = (self.sum.to_hex(), numbers.disk_hash.to_hex());
        if found != stored || self.records_sum != numbers.records_sum {
            return Err(format!("the sum over its records is {found}, stored is {stored}"));
        }
        Ok(())
    }
}

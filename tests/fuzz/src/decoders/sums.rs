//! Makes checksums right after a mutation, and lengths that would otherwise stop a decoder at once.
#![allow(clippy::ptr_arg, reason = "all are of one type, and some make the input longer")]

use crate::archive;
use raftkv_api::Hex128;
use raftkv_core::kvstore::hash::{self, Sum};
use raftkv_core::segment::{self, FOOT_BYTES, MARK_BYTES, RECORD_FIXED_BYTES};
use raftkv_core::snapshot::manifest::hash_of;
use serde_json::Value;

const FRAME_HEAD_BYTES: usize = 9;

/// Repairs the frames of a peer's stream.
pub fn frames(bytes: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(end) = frame_end(bytes, at) {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[at..at + 4]), &bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
}

/// The same, behind a first byte that belongs to no frame.
pub fn frames_behind_a_byte(bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let mut rest = bytes.split_off(1);
    frames(&mut rest);
    bytes.append(&mut rest);
}

/// Where the frame that begins at `at` ends; a frame that is too long is made to end with the input.
fn frame_end(bytes: &mut [u8], at: usize) -> Option<usize> {
    let head = bytes.get(at..at + FRAME_HEAD_BYTES)?;
    let len = u32::from_be_bytes(head[..4].try_into().expect("4 bytes")) as usize;
    let end = at + FRAME_HEAD_BYTES + len;
    if end <= bytes.len() {
        return Some(end);
    }
    let rest = u32::try_from(bytes.len() - at - FRAME_HEAD_BYTES).expect("inputs are small");
    bytes[at..at + 4].copy_from_slice(&rest.to_be_bytes());
    Some(bytes.len())
}

/// Repairs a segment of the log with the number 1.
pub fn wal(bytes: &mut Vec<u8>) {
    segment(bytes, 1);
}

fn segment(bytes: &mut [u8], seq: u64) {
    const PREAMBLE_BYTES: usize = 16;
    const LENGTH_IN_HEADER: usize = PREAMBLE_BYTES + 16 + 3 * 16 + 3 * 8;
    if bytes.len() < LENGTH_IN_HEADER + 8 {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let len = bytes.len() as u64;
    bytes[LENGTH_IN_HEADER..LENGTH_IN_HEADER + 8].copy_from_slice(&len.to_le_bytes());
    let mut at = PREAMBLE_BYTES;
    while let Some(head) = bytes.get(at..at + 16) {
        let len = u32::from_le_bytes(head[4..8].try_into().expect("4 bytes")) as usize;
        let end = at + (16 + len).next_multiple_of(8);
        if head == [0; 16] || end > bytes.len() {
            return;
        }
        let place = crc32c::crc32c_append(crc32c::crc32c(&seq.to_le_bytes()), &(at as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(place, &bytes[at + 4..end]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// Repairs every file of a data directory.
pub fn dir(bytes: &mut Vec<u8>) {
    let mut files = archive::unpack(bytes);
    for (name, content) in &mut files {
        let name = String::from_utf8_lossy(name).into_owned();
        if let Some(seq) = name.strip_prefix("wal-") {
            segment(content, seq.parse().unwrap_or(1));
        } else if name.starts_with("snapshot-") {
            snapshot(content);
        } else if name == "identity" {
            identity(content);
        }
    }
    *bytes = archive::pack(&files);
}

/// Repairs a snapshot file: the sum of every frame, and the count and sum of the records in the header and the end.
pub fn snapshot(bytes: &mut Vec<u8>) {
    const MAGIC_BYTES: usize = 8;
    const HEADER: u8 = 1;
    const RECORDS: u8 = 2;
    const END: u8 = 3;
    if bytes.len() < MAGIC_BYTES {
        return;
    }
    let mut frames = Vec::new();
    let mut at = MAGIC_BYTES;
    while let Some(end) = frame_end(bytes, at) {
        frames.push((bytes[at + 8], bytes[at + FRAME_HEAD_BYTES..end].to_vec()));
        at = end;
    }
    let (mut count, mut sum) = (0, Sum::default());
    for (_, payload) in frames.iter().filter(|(kind, _)| *kind == RECORDS) {
        let mut rest = &payload[..];
        while let Some((key, value, behind)) = record(rest) {
            sum.add(hash::of_record(key, value));
            count += 1;
            rest = behind;
        }
    }
    bytes.truncate(MAGIC_BYTES);
    for (kind, payload) in &mut frames {
        match *kind {
            HEADER => announce(payload, count, sum.to_hex()),
            END => *payload = [&u64::to_be_bytes(count)[..], &sum.to_bytes()[..]].concat(),
            _ => {}
        }
        let place = crc32c::crc32c(&(bytes.len() as u64).to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(place, &[*kind]), payload);
        bytes.extend_from_slice(&u32::try_from(payload.len()).expect("inputs are small").to_be_bytes());
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.push(*kind);
        bytes.extend_from_slice(payload);
    }
}

/// Repairs a manifest's file: it becomes the same half twice, with the sum of every frame and of all that is shared.
pub fn manifest(bytes: &mut Vec<u8>) {
    const MAGIC_BYTES: usize = 8;
    const END: u8 = 4;
    const HASH_AT: usize = 12;
    bytes.truncate(bytes.len() / 2);
    let mut at = MAGIC_BYTES;
    while let Some(head) = bytes.get(at..at + FRAME_HEAD_BYTES) {
        let most = bytes.len() - at - FRAME_HEAD_BYTES;
        let len = (u32::from_le_bytes(head[..4].try_into().expect("4 bytes")) as usize).min(most);
        let (kind, end) = (head[8], at + FRAME_HEAD_BYTES + len);
        bytes[at..at + 4].copy_from_slice(&u32::try_from(len).expect("inputs are small").to_le_bytes());
        if kind == END && len >= HASH_AT + 16 {
            let hash = hash_of(&bytes[..at]).to_le_bytes();
            bytes[at + FRAME_HEAD_BYTES + HASH_AT..][..16].copy_from_slice(&hash);
        }
        let place = crc32c::crc32c(&(at as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(place, &[kind]), &bytes[at + FRAME_HEAD_BYTES..end]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
    bytes.extend_from_within(..);
}

/// Repairs a head: the claim's sum.
pub fn head(bytes: &mut Vec<u8>) {
    let mut records = archive::unpack(bytes);
    for (_, claim) in records.iter_mut().filter(|(key, claim)| key.starts_with(b"m/claim") && claim.len() >= 4) {
        let crc = crc32c::crc32c(&claim[4..]);
        claim[..4].copy_from_slice(&crc.to_le_bytes());
    }
    *bytes = archive::pack(&records);
}

fn record(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lens, rest) = block.split_at_checked(8)?;
    let len = |at: usize| u32::from_be_bytes(lens[at..at + 4].try_into().expect("4 bytes")) as usize;
    let (key, rest) = rest.split_at_checked(len(0))?;
    let (value, rest) = rest.split_at_checked(len(4))?;
    Some((key, value, rest))
}

/// Announces the records in the header; a header that is not JSON stays as it is.
fn announce(header: &mut Vec<u8>, records: u64, sum: Hex128) {
    let Ok(mut json) = serde_json::from_slice::<Value>(header) else { return };
    if let Some(state) = json.get_mut("state").and_then(Value::as_object_mut) {
        state.insert("records".into(), records.into());
        state.insert("records_sum".into(), sum.to_string().into());
        *header = json.to_string().into_bytes();
    }
}

/// Repairs an identity file: its sum is over the compact JSON of its content.
pub fn identity(bytes: &mut Vec<u8>) {
    let Ok(mut json) = serde_json::from_slice::<Value>(bytes) else { return };
    let Ok(identity) = serde_json::from_value::<raftkv_core::identity::Identity>(json["identity"].clone()) else {
        return;
    };
    let crc = crc32c::crc32c(&serde_json::to_vec(&identity).expect("it was JSON"));
    if let Some(file) = json.as_object_mut() {
        file.insert("crc32c".into(), crc.into());
        *bytes = json.to_string().into_bytes();
    }
}

/// Repairs a kv db: the meta record's sum, and in that record the count and sums of the other records, and the
/// membership's.
pub fn kv(bytes: &mut Vec<u8>) {
    const RECORDS: usize = 5 + 5 * 8;
    const SUMS: usize = 5 + 6 * 8;
    const MEMBERS: usize = SUMS + 3 * Sum::BYTES;
    const STATE_BYTES: usize = MEMBERS + 4;
    let mut records = archive::unpack(bytes);
    let (mut count, mut records_sum, mut sum) = (0u64, Sum::default(), Sum::default());
    // Of two records with one key, a map keeps the last.
    let latest: std::collections::BTreeMap<_, _> = records.iter().cloned().collect();
    for (key, value) in latest.iter().filter(|(key, _)| *key != b"m/state") {
        sum.add(hash::of_record(key, value));
        if !key.starts_with(b"m") {
            records_sum.add(hash::of_record(key, value));
            count += 1;
        }
    }
    for (_, state) in records.iter_mut().filter(|(key, state)| key == b"m/state" && state.len() == STATE_BYTES) {
        state[RECORDS..RECORDS + 8].copy_from_slice(&count.to_be_bytes());
        state[SUMS..SUMS + Sum::BYTES].copy_from_slice(&records_sum.to_bytes());
        state[SUMS + Sum::BYTES..SUMS + 2 * Sum::BYTES].copy_from_slice(&sum.to_bytes());
        let members = latest.get(&b"m/members"[..]).map_or(0, |record| crc32c::crc32c(record));
        state[MEMBERS..].copy_from_slice(&members.to_be_bytes());
        let crc = crc32c::crc32c(&state[4..]);
        state[..4].copy_from_slice(&crc.to_be_bytes());
    }
    *bytes = archive::pack(&records);
}

/// Repairs the records of a segment: the length of one that is too long, and every sum.
pub fn records(bytes: &mut Vec<u8>) {
    each_record(bytes);
}

fn each_record(bytes: &mut [u8]) {
    let mut at = 0;
    while bytes.len() - at >= RECORD_FIXED_BYTES {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("4 bytes")) as usize;
        let most = bytes.len() - at;
        let len = if (RECORD_FIXED_BYTES..=most).contains(&len) { len } else { most };
        bytes[at + 4..at + 8].copy_from_slice(&u32::try_from(len).expect("inputs are small").to_le_bytes());
        let place = crc32c::crc32c(&u32::try_from(at).expect("inputs are small").to_le_bytes());
        let crc = crc32c::crc32c_append(place, &bytes[at + 4..at + len]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += len;
    }
}

/// Where numbers stand in the foot of a segment.
mod foot {
    pub const RECORDS_BYTES: usize = 8;
    pub const TABLE_BYTES: usize = 16;
    pub const MARKS: usize = 20;
    pub const TABLE_CRC: usize = 52;
    pub const MARKS_CRC: usize = 56;
    pub const HASH: usize = 60;
    pub const CRC: usize = 76;
}

/// Repairs the foot behind a table: the table's length, its sum and the foot's.
pub fn table(bytes: &mut Vec<u8>) {
    let Some(table_bytes) = bytes.len().checked_sub(FOOT_BYTES) else { return };
    let (table, end) = bytes.split_at_mut(table_bytes);
    put_u32(end, foot::TABLE_BYTES, table.len());
    put_crc(end, foot::TABLE_CRC, table);
    put_foot_crc(end);
}

/// Repairs a segment: the sums of its records, and lengths, sums and hash in its foot.
pub fn sealed(bytes: &mut Vec<u8>) {
    let Some(foot_at) = bytes.len().checked_sub(FOOT_BYTES) else { return };
    let (body, end) = bytes.split_at_mut(foot_at);
    let word = |end: &[u8], at: usize| u32::from_le_bytes(end[at..at + 4].try_into().expect("4 bytes")) as usize;
    let records_bytes = word(end, foot::RECORDS_BYTES).min(body.len());
    let (records, behind) = body.split_at_mut(records_bytes);
    let marks_bytes = word(end, foot::MARKS).saturating_mul(MARK_BYTES).min(behind.len());
    let (table, marks) = behind.split_at(behind.len() - marks_bytes);
    each_record(records);
    end[foot::RECORDS_BYTES..foot::TABLE_BYTES].copy_from_slice(&(records_bytes as u64).to_le_bytes());
    put_u32(end, foot::TABLE_BYTES, table.len());
    put_crc(end, foot::TABLE_CRC, table);
    put_crc(end, foot::MARKS_CRC, marks);
    if let Ok(sealed) = segment::seal([&records[..]]) {
        end[foot::HASH..foot::CRC].copy_from_slice(&sealed.foot.hash.to_le_bytes());
    }
    put_foot_crc(end);
}

fn put_u32(end: &mut [u8], at: usize, number: usize) {
    end[at..at + 4].copy_from_slice(&u32::try_from(number).expect("inputs are small").to_le_bytes());
}

fn put_crc(end: &mut [u8], at: usize, of: &[u8]) {
    end[at..at + 4].copy_from_slice(&crc32c::crc32c(of).to_le_bytes());
}

fn put_foot_crc(end: &mut [u8]) {
    let crc = crc32c::crc32c(&end[..foot::CRC]);
    end[foot::CRC..].copy_from_slice(&crc.to_le_bytes());
}

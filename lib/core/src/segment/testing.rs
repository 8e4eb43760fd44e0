//! Records as tests make them, and the files that these give. PURE.

use super::record::Record;
use super::seal::seal;
use super::stamp::{Position, Stamp};
use super::table::Line;
use crate::limits::NUMBER_MAX;
use proptest::collection::vec;
use proptest::prelude::*;
use std::num::NonZeroI64;

/// A record that owns its bytes.
#[derive(Clone, Debug)]
pub struct Owned {
    pub stamp: Stamp,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Owned {
    pub fn view(&self) -> Record<'_> {
        Record { stamp: self.stamp, key: &self.key, value: &self.value }
    }
}

/// A record of any write.
pub fn any_record() -> impl Strategy<Value = Owned> {
    let at = (1..=NUMBER_MAX, any::<u32>()).prop_map(|(main, sub)| Position { main, sub });
    (at, any_write()).prop_map(|(at, write)| write.at(at))
}

/// Records of one segment. Keys come again, and begin alike; several records have one main.
pub fn any_records(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Owned>> {
    let steps = vec((any_write(), prop_oneof![Just(0), 0..3u64, 0..1u64 << 40], 1..200u32), count);
    (1..1u64 << 40, 0..3u32, steps).prop_map(|(main, sub, steps)| {
        let mut at = Position { main, sub };
        let mut records = Vec::new();
        for (write, mains, subs) in steps {
            records.push(write.at(at));
            at = match mains {
                0 => Position { sub: at.sub + subs, ..at },
                _ => Position { main: at.main + mains, sub: subs - 1 },
            };
        }
        records
    })
}

/// A record that has no position yet.
#[derive(Clone, Debug)]
struct Write {
    create: prop::sample::Index,
    version: u64,
    lease: Option<i64>,
    tombstone: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Write {
    fn at(self, at: Position) -> Owned {
        let Write { create, version, lease, tombstone, key, value } = self;
        let tombstone_of = Stamp { at, create: 0, version: 0, lease: None, tombstone: true };
        if tombstone {
            return Owned { stamp: tombstone_of, key, value: Vec::new() };
        }
        let create = at.main - create.index(at.main as usize) as u64;
        let lease = lease.and_then(NonZeroI64::new);
        Owned { stamp: Stamp { create, version, lease, tombstone, ..tombstone_of }, key, value }
    }
}

fn any_write() -> impl Strategy<Value = Write> {
    let key = prop_oneof![
        6 => "[ab]{0,4}".prop_map(String::into_bytes),
        2 => "/registry/pods/[ab]{1,3}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..300),
    ];
    let version = prop_oneof![1..4u64, 1..=NUMBER_MAX];
    let lease = prop::option::of(prop_oneof![1..3i64, any::<i64>()]);
    let create = any::<prop::sample::Index>();
    (create, version, lease, prop::bool::weighted(0.3), key, vec(any::<u8>(), 0..300)).prop_map(
        |(create, version, lease, tombstone, key, value)| Write { create, version, lease, tombstone, key, value },
    )
}

/// The bytes of these records, and where each begins.
pub fn records_bytes(records: &[Owned]) -> (Vec<u8>, Vec<u32>) {
    let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
    for record in records {
        let offset = bytes.len() as u32;
        offsets.push(offset);
        record.view().encode(offset, &mut bytes);
    }
    (bytes, offsets)
}

/// The whole file.
pub fn file_of(records: &[Owned]) -> Vec<u8> {
    let (mut bytes, _) = records_bytes(records);
    let tail = seal([&bytes[..]]).expect("records ascend").tail();
    bytes.extend(tail);
    bytes
}

/// A line that owns its key.
pub type OwnedLine = (Vec<u8>, Stamp, u32, u32);

pub fn owned(line: Line<'_>) -> OwnedLine {
    (line.key.to_vec(), line.stamp, line.offset, line.len)
}

//! The two sums of rule N15, and the hash that they add up. PURE.
//!
//! A sum is the total mod 2^128 of one 128-bit hash per record, so it does not depend on order and a record can be
//! taken out again. XOR would not do: two equal records would cancel out. The hash is XXH3-128 without a key. The sums
//! find damage and divergence by accident; they are no defence against somebody who chooses records that collide.

use super::versions::KeyVersion;
use raftkv_api::Hex128;
use twox_hash::xxhash3_128::Hasher;

/// A sum mod 2^128 of record hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u128);

impl Sum {
    /// Bytes of the encoding.
    pub const BYTES: usize = 16;

    /// Adds one record.
    pub fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    /// Takes out one record, which must be in the sum.
    pub fn subtract(&mut self, hash: u128) {
        self.0 = self.0.wrapping_sub(hash);
    }

    /// Big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_be_bytes()
    }

    /// Reverses [`Sum::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Sum {
        Sum(u128::from_be_bytes(bytes))
    }

    /// For status answers and JSON headers.
    pub fn to_hex(self) -> Hex128 {
        Hex128(self.to_bytes())
    }

    /// Reverses [`Sum::to_hex`].
    pub fn from_hex(hex: Hex128) -> Sum {
        Sum::from_bytes(hex.0)
    }
}

/// What one record of the tree adds to `disk_hash`.
pub fn of_record(key: &[u8], value: &[u8]) -> u128 {
    of_parts(&[key, value])
}

/// One revision record, as `log_hash` sees it: what the write was, not how it is stored.
#[derive(Clone, Copy, Debug)]
pub struct RevisionRecord<'a> {
    /// The key that was written.
    pub key: &'a [u8],
    /// Its value; empty for a tombstone.
    pub value: &'a [u8],
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The revision of this write.
    pub revision: u64,
    /// Which write of that revision it is.
    pub sub: u32,
    /// The revision that created the key; 0 for a tombstone.
    pub create_revision: u64,
    /// Writes since creation; 0 for a tombstone.
    pub version: u64,
    /// The lease that the key is attached to; 0 is none.
    pub lease: i64,
}

/// What one revision record adds to `log_hash`.
pub fn of_revision(record: &RevisionRecord<'_>) -> u128 {
    let RevisionRecord { key, value, tombstone, revision, sub, create_revision, version, lease } = *record;
    of_parts(&[
        &[u8::from(tombstone)],
        &revision.to_be_bytes(),
        &sub.to_be_bytes(),
        &create_revision.to_be_bytes(),
        &version.to_be_bytes(),
        &lease.to_be_bytes(),
        key,
        value,
    ])
}

/// What a key that exists adds to `keys_sum`.
pub(super) fn of_key(key: &[u8], newest: &KeyVersion) -> u128 {
    let KeyVersion { at, create_revision, version, tombstone: _ } = newest;
    let lease: i64 = 0;
    of_parts(&[
        key,
        &at.revision.to_be_bytes(),
        &create_revision.to_be_bytes(),
        &version.to_be_bytes(),
        &lease.to_be_bytes(),
    ])
}

/// Each part follows its length, so that moving a byte from one part to the next changes the hash.
fn of_parts(parts: &[&[u8]]) -> u128 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.write(&(part.len() as u64).to_be_bytes());
        hasher.write(part);
    }
    hasher.finish_128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const RECORD: RevisionRecord<'_> = RevisionRecord {
        key: b"k",
        value: b"v",
        tombstone: false,
        revision: 2,
        sub: 0,
        create_revision: 2,
        version: 1,
        lease: 0,
    };

    /// Published XXH3-128 vectors: another implementation of the same name must not slip in, since sums are compared
    /// between members and read back from disk.
    #[test]
    fn the_hash_is_xxh3_128() {
        let plain = |bytes: &[u8]| {
            let mut hasher = Hasher::new();
            hasher.write(bytes);
            hasher.finish_128()
        };
        assert_eq!(plain(b""), 0x99aa06d3014798d86001c324468d497f);
        assert_eq!(plain(b"abc"), 0x06b05ab6733a618578af5f94892f3950);
        assert_eq!(plain(b"hello"), 0xb5e9c1ad071b3e7fc779cfaa5e523818);
    }

    #[test]
    fn our_framing_is_frozen() {
        assert_eq!(of_record(b"k", b"v"), 0x50ff45de53f41c348677a3417fa6f860);
        assert_eq!(of_revision(&RECORD), 0xa0d8e68ec0d424a21e23aaa0f6af92e9);
    }

    #[test]
    fn every_field_of_a_write_counts() {
        let others = [
            RevisionRecord { key: b"l", ..RECORD },
            RevisionRecord { value: b"w", ..RECORD },
            RevisionRecord { tombstone: true, ..RECORD },
            RevisionRecord { revision: 3, ..RECORD },
            RevisionRecord { sub: 1, ..RECORD },
            RevisionRecord { create_revision: 1, ..RECORD },
            RevisionRecord { version: 2, ..RECORD },
            RevisionRecord { lease: -1, ..RECORD },
        ];
        let hashes: BTreeSet<u128> = others.iter().chain([&RECORD]).map(of_revision).collect();
        assert_eq!(hashes.len(), others.len() + 1);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(of_record(b"ab", b"c"), of_record(b"a", b"bc"));
        assert_ne!(of_record(b"a", b""), of_record(b"", b"a"));
    }

    #[test]
    fn equal_records_do_not_cancel_and_order_does_not_matter() {
        let (a, b) = (of_record(b"a", b"1"), of_record(b"b", b"2"));
        let mut twice = Sum::default();
        twice.add(a);
        twice.add(a);
        assert_ne!(twice, Sum::default());

        let (mut ab, mut ba) = (Sum::default(), Sum::default());
        ab.add(a);
        ab.add(b);
        ba.add(b);
        ba.add(a);
        assert_eq!(ab, ba);
        ab.subtract(a);
        ab.subtract(b);
        assert_eq!(ab, Sum::default());
        assert_eq!(Sum::from_hex(ba.to_hex()), ba);
    }
}

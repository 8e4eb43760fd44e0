//! Tests of an opening that need a head that is not what its claim says.
#![allow(clippy::unwrap_used)]

use super::{Claimed, Config, Files, Start, write_initial};
use crate::kvstore::testing::{MemFiles, MemKv, entry, identity, membership, put};
use crate::ports::KvDisk;
use crate::types::MemberIdentity;
use std::sync::Arc;

/// A head of which a store has given its batches up to index 4.
fn head(disk: &Arc<MemFiles>) -> Arc<MemKv> {
    write_initial(&identity(), &**disk, (1, 1), &membership(1)).unwrap();
    let start = Start::find(&identity(), &**disk, None).unwrap().unwrap();
    let files = Files::of(&**disk).unwrap();
    let mut store = start.open(disk.clone(), Config::default(), &files, &mut |_, _| ()).unwrap();
    let puts: Vec<_> = (2..=4).map(|index| entry(index, &put("key", b"value"))).collect();
    store.apply(&puts).unwrap();
    let kv = Arc::new(MemKv::default());
    kv.apply_batch(store.next_set()).unwrap();
    kv
}

fn applied(start: &Start) -> u64 {
    let Claimed { applied, .. } = start.claimed();
    applied
}

#[test]
fn a_claim_whose_windows_are_damaged_is_no_start_and_still_a_witness() {
    let disk = Arc::new(MemFiles::default());
    let kv = head(&disk);
    let find = |kv: &MemKv| Start::find(&identity(), &*disk, Some(kv)).unwrap().unwrap();
    let whole = find(&kv);
    assert_eq!((applied(&whole), whole.witness(), whole.keeps_head()), (4, Some((4, 1)), Ok(())));

    let damaged = kv.copy();
    damaged.map().iter_mut().filter(|(key, _)| key.starts_with(b"h/")).for_each(|(_, chunk)| chunk[0] ^= 1);
    let start = find(&damaged);
    assert_eq!((applied(&start), start.witness()), (1, Some((4, 1))));
    assert!(start.keeps_head().is_err());

    let short = kv.copy();
    short.map().retain(|key, _| !key.starts_with(b"h/"));
    assert_eq!(find(&short).witness(), Some((4, 1)));

    let without = kv.copy();
    without.map().retain(|key, _| !key.starts_with(b"m/"));
    assert_eq!((applied(&find(&without)), find(&without).witness()), (1, None));
}

#[test]
fn a_claim_of_another_member_is_no_witness() {
    let disk = Arc::new(MemFiles::default());
    let kv = head(&disk);
    let other = MemberIdentity { member_id: 7, ..identity() };
    let start = Start::find(&other, &*disk, Some(&*kv)).unwrap().unwrap();
    assert_eq!((applied(&start), start.witness()), (1, None));
}

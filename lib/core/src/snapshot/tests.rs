//! Tests that a snapshot is the whole store at one index, and that damage to its file is always found.
//!
//! Files and kv dbs are in memory; damage is a flipped bit, a cut end or a foreign file.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::kvstore::testing::{MemFiles, MemKv, delete, entry, identity, membership, new_store, put, reopen};
use crate::kvstore::{Command, Committed, RangeQuery, Store, claim};
use crate::limits::HASH_EVERY;
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;

fn quiet() -> impl FnMut(u64, u64) {
    |_, _| ()
}

fn empty_entries(range: std::ops::RangeInclusive<Index>) -> Vec<Committed> {
    range.map(|index| Committed::Normal { index, term: 1, request: None, data: Bytes::new() }).collect()
}

/// A store with history, a membership change, kept hashes, one compaction that is done and one that is due.
fn rich_store(disk: &Arc<MemKv>) -> Store {
    let mut store = new_store(disk);
    store.apply(&empty_entries(2..=HASH_EVERY)).unwrap();
    let mut index = HASH_EVERY;
    let mut apply = |store: &mut Store, command: &Command| {
        index += 1;
        store.apply(&[entry(index, command)]).unwrap();
    };
    for i in 0..30u32 {
        apply(&mut store, &put(&format!("key{}", i % 11), &vec![i as u8; 700 * i as usize]));
    }
    apply(&mut store, &delete("key3"));
    apply(&mut store, &Command::Compact { revision: 15 });
    while store.compact_step().unwrap() {}
    apply(&mut store, &Command::Compact { revision: 20 });
    let membership = Arc::new(membership(3));
    store.apply(&[Committed::Conf { index: index + 1, term: 2, membership }]).unwrap();
    store
}

fn later(index: Index) -> Committed {
    Committed::Normal { index, term: 2, request: None, data: put("later", b"v").encode() }
}

fn assert_same(one: &Store, other: &Store) {
    let (a, b) = (one.view(), other.view());
    assert_eq!((a.applied(), a.revision(), a.compacted()), (b.applied(), b.revision(), b.compacted()));
    assert_eq!((a.state_hash(), a.state_hashes(), a.keys()), (b.state_hash(), b.state_hashes(), b.keys()));
    assert_eq!(one.membership(), other.membership());
    for revision in a.compacted().max(1)..=a.revision() {
        let all = RangeQuery { revision, limit: usize::MAX, bytes_max: usize::MAX, ..RangeQuery::default() };
        assert_eq!(a.range(&all).unwrap(), b.range(&all).unwrap());
    }
}

#[test]
fn what_is_installed_is_what_was_frozen_and_goes_on_alike() {
    let (disk, files) = (Arc::new(MemKv::default()), MemFiles::default());
    let mut store = rich_store(&disk);
    let frozen = reopen(&disk);
    let cut = store.freeze();
    // Rule N16: writes after the freeze are not in the cut.
    let next = store.view().applied() + 1;
    store.apply(&[later(next)]).unwrap();
    let meta = write(&files, &identity(), &cut, &mut quiet()).unwrap();
    store.cut_done();
    assert_eq!((meta.index, meta.term, &meta.membership), (next - 1, 2, &membership(3)));
    assert_eq!(meta.size, files.files()[&meta.file_name()].len() as u64);
    assert_eq!(verify(&files, &meta.file_name()).unwrap(), meta);

    let into = Arc::new(MemKv::default());
    let mut progress = Vec::new();
    let mut installed = install(&files, &meta, into.clone(), &mut |done, all| progress.push((done, all))).unwrap();
    assert_same(&frozen, &installed);
    assert!(progress.is_sorted() && progress.last().is_some_and(|(done, all)| done == all));

    installed.apply(&[later(next)]).unwrap();
    assert_same(&store, &installed);
    assert_eq!(*disk.map(), *into.map(), "the very bytes are equal");
    for store in [&mut store, &mut installed] {
        while store.compact_step().unwrap() {}
    }
    assert_eq!(*disk.map(), *into.map(), "the installed one had the same to sweep");
    assert_same(&store, &reopen(&into));
}

#[test]
fn the_first_snapshot_is_the_first_store() {
    let files = MemFiles::default();
    let meta = write_initial(&files, &identity(), &membership(1)).unwrap();
    assert_eq!(meta.file_name(), "snapshot-00000000000000000001-00000000000000000001");
    let into = Arc::new(MemKv::default());
    let installed = install(&files, &meta, into.clone(), &mut quiet()).unwrap();
    let created = Arc::new(MemKv::default());
    assert_same(&new_store(&created), &installed);
    assert_eq!(*into.map(), *created.map());
    assert_eq!(files.files().len(), 1, "no temporary file stays");
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (disk, files) = (Arc::new(MemKv::default()), MemFiles::default());
    let mut store = rich_store(&disk);
    let meta = write(&files, &identity(), &store.freeze(), &mut quiet()).unwrap();
    let name = meta.file_name();
    let good = files.files()[&name].clone();
    for at in (0..good.len()).step_by(97).chain(0..150.min(good.len())).chain(good.len() - 40..good.len()) {
        files.files().get_mut(&name).unwrap()[at] ^= 1 << (at % 8);
        assert!(matches!(verify(&files, &name), Err(StoreError::Unproved(_))), "byte {at}");
        files.files().get_mut(&name).unwrap()[at] = good[at];
    }
    for len in [0, 5, 8, 16, 17, 300, good.len() / 2, good.len() - 33, good.len() - 1] {
        files.files().insert(name.clone(), good[..len].to_vec());
        assert!(matches!(verify(&files, &name), Err(StoreError::Unproved(_))), "cut at {len}");
    }
    files.files().insert(name.clone(), [&good[..], b"x"].concat());
    assert!(matches!(verify(&files, &name), Err(StoreError::Unproved(_))));
}

#[test]
fn every_97th_byte_of_a_small_file_is_guarded_and_an_install_of_it_claims_nothing() {
    let (disk, files) = (Arc::new(MemKv::default()), MemFiles::default());
    let mut store = new_store(&disk);
    let puts: Vec<Committed> = (2..60).map(|i| entry(i, &put(&i.to_string(), &[i as u8; 100]))).collect();
    store.apply(&puts).unwrap();
    let meta = write(&files, &identity(), &store.freeze(), &mut quiet()).unwrap();
    let name = meta.file_name();
    for at in (0..meta.size as usize).step_by(97) {
        files.files().get_mut(&name).unwrap()[at] ^= 0x10;
        assert!(verify(&files, &name).is_err(), "byte {at}");
        let into = Arc::new(MemKv::default());
        assert!(install(&files, &meta, into.clone(), &mut quiet()).is_err());
        assert!(claim(into.as_ref()).unwrap().is_none());
        files.files().get_mut(&name).unwrap()[at] ^= 0x10;
    }
    let other = SnapshotMeta { sha256: "0".repeat(64), ..meta.clone() };
    assert!(install(&files, &other, Arc::new(MemKv::default()), &mut quiet()).is_err());
    assert!(install(&files, &meta, disk, &mut quiet()).is_err(), "a db that holds something is not filled");
}

#[test]
fn many_blocks_are_written_and_cannot_change_places() {
    let (disk, files) = (Arc::new(MemKv::default()), MemFiles::default());
    let mut store = new_store(&disk);
    for index in 2..8 {
        store.apply(&[entry(index, &put(&index.to_string(), &vec![index as u8; 1 << 20]))]).unwrap();
    }
    let mut progress = Vec::new();
    let meta = write(&files, &identity(), &store.freeze(), &mut |done, all| progress.push((done, all))).unwrap();
    assert!(progress.len() >= 5 && progress.iter().all(|(done, all)| done <= all));
    assert_same(&store, &install(&files, &meta, Arc::new(MemKv::default()), &mut quiet()).unwrap());
}

/// Rule N16: every cut also proves the kv db.
#[test]
fn a_cut_whose_records_are_not_the_frozen_ones_leaves_no_file() {
    let (disk, files) = (Arc::new(MemKv::default()), MemFiles::default());
    let mut store = rich_store(&disk);
    let cut = store.freeze();
    *disk.map().iter_mut().next_back().unwrap().1.last_mut().unwrap() ^= 1;
    assert!(matches!(write(&files, &identity(), &cut, &mut quiet()), Err(StoreError::Unproved(_))));
    assert!(files.files().is_empty());
}

#[test]
fn listing_tells_good_files_from_bad_ones_and_ignores_the_rest() {
    let (disk, files) = (Arc::new(MemKv::default()), MemFiles::default());
    let mut store = new_store(&disk);
    let mut metas = vec![write_initial(&files, &identity(), &membership(1)).unwrap()];
    for index in 2..5 {
        store.apply(&[entry(index, &put("k", b"v"))]).unwrap();
        metas.push(write(&files, &identity(), &store.freeze(), &mut quiet()).unwrap());
        store.cut_done();
    }
    let broken = metas.remove(2).file_name();
    files.files().get_mut(&broken).unwrap()[60] ^= 1;
    let renamed = file_name(9, 9);
    let copy = files.files()[&metas[0].file_name()].clone();
    let left = format!("{renamed}.tmp");
    files.files().extend([(renamed.clone(), copy), (left.clone(), vec![]), ("snapshot-1-1".into(), vec![])]);

    metas.reverse();
    assert_eq!(list(&files, &identity()).unwrap(), (metas, vec![broken, renamed]));
    remove_temporary(&files).unwrap();
    assert!(!files.files().contains_key(&left) && files.files().contains_key("snapshot-1-1"));
}

fn a_meta() -> SnapshotMeta {
    write_initial(&MemFiles::default(), &identity(), &membership(3)).unwrap()
}

#[test]
fn a_header_survives_raft_and_a_wrong_one_is_refused() {
    let meta = a_meta();
    assert_eq!(SnapshotMeta::from_raft(&meta.to_raft()), Ok(meta.clone()));
    let refused = |change: &dyn Fn(&mut SnapshotMeta)| {
        let mut meta = meta.clone();
        change(&mut meta);
        SnapshotMeta::from_raft(&meta.to_raft()).unwrap_err()
    };
    refused(&|meta| meta.size = 0);
    refused(&|meta| meta.size = u64::MAX);
    refused(&|meta| meta.sha256 = "../../etc".into());
    refused(&|meta| meta.sha256.make_ascii_uppercase());
    refused(&|meta| meta.revision = 0);
    refused(&|meta| meta.compacted = 2);
    refused(&|meta| meta.index = 0);
    refused(&|meta| meta.membership = Membership::default());
    let mut other = meta.to_raft();
    other.mut_metadata().term = 7;
    assert!(SnapshotMeta::from_raft(&other).is_err());
    let mut other = meta.to_raft();
    other.mut_metadata().mut_conf_state().voters.push(9);
    assert!(SnapshotMeta::from_raft(&other).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn garbage_from_a_peer_is_refused_without_a_panic(data in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut snapshot = a_meta().to_raft();
        let mut near = snapshot.data.to_vec();
        let at = at.index(near.len());
        near[at] = byte;
        snapshot.data = near.into();
        let _ = SnapshotMeta::from_raft(&snapshot);
        snapshot.data = data.into();
        prop_assert!(SnapshotMeta::from_raft(&snapshot).is_err());
    }
}

#[test]
fn a_whole_file_of_another_cluster_is_refused() {
    let files = MemFiles::default();
    let foreign = MemberIdentity { genesis: raftkv_api::Hex128([9; 16]), ..identity() };
    let meta = write_initial(&files, &foreign, &membership(1)).unwrap();
    let name = meta.file_name();
    assert_eq!(verify(&files, &name).unwrap(), meta);
    let error = verify_ours(&files, &name, &identity()).unwrap_err().to_string();
    assert!(error.contains("is of cluster") && error.contains("not of ours"), "{error}");
    assert_eq!(verify_ours(&files, &name, &foreign).unwrap(), meta);
    assert_eq!(list(&files, &identity()).unwrap(), (vec![], vec![name]));
}

#[test]
fn a_header_that_raft_would_panic_at_is_refused() {
    let files = MemFiles::default();
    let good = write_initial(&files, &identity(), &membership(3)).unwrap();
    assert_eq!(SnapshotMeta::from_raft(&good.to_raft()), Ok(good.clone()));
    let change = |change: fn(&mut SnapshotMeta)| {
        let mut meta = good.clone();
        change(&mut meta);
        SnapshotMeta::from_raft(&meta.to_raft())
    };
    for bad in [
        change(|meta| meta.membership.learners.extend([1])),
        change(|meta| meta.membership.learners_next.extend([9])),
        change(|meta| meta.membership.voters.extend([0])),
        change(|meta| meta.membership.auto_leave = true),
        change(|meta| meta.index = u64::MAX),
        change(|meta| meta.term = u64::MAX),
    ] {
        assert!(bad.is_err(), "{bad:?}");
    }
}

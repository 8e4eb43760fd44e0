//! Revisions with several writes: each has a record of its own, which is found, compacted and proved by its place.
//!
//! No command makes such revisions, so the records are made here. The model keeps each revision as a whole map.

use super::*;
use crate::kvstore::hash::Sum;
use crate::kvstore::keys::{Record, RecordKey, RecordKind};
use std::collections::BTreeSet;

/// A write of one key; `None` deletes it.
type Write = (RecordAt, &'static str, Option<Vec<u8>>);

fn write(revision: Revision, sub: u32, key: &'static str, value: Option<&[u8]>) -> Write {
    (RecordAt::new(revision, sub), key, value.map(<[u8]>::to_vec))
}

/// A new store with the records of these writes, which ascend.
fn store_of(disk: &Arc<MemKv>, writes: &[Write], compacted: Revision) -> Store {
    let (mut records, mut sum) = (0, Sum::default());
    for (at, key, value) in writes {
        let (kind, create_revision, version) = match value {
            Some(_) => (RecordKind::Value, at.revision, 1),
            None => (RecordKind::Tombstone, 0, 0),
        };
        let value = value.as_deref().unwrap_or_default();
        let record = Record { kind, create_revision, version, key: key.as_bytes(), value };
        for (chunk, part) in record.encode(at.key()) {
            sum.add(hash::of_record(&chunk, &part));
            records += 1;
            disk.map().insert(chunk, part);
        }
    }
    let revision = writes.last().unwrap().0.revision;
    let empty = Frozen::empty(1, 1, &membership(1));
    Frozen { revision, compacted, records, records_sum: sum.to_hex(), ..empty }.seal(disk.as_ref()).unwrap();
    Store::open(disk.clone(), &mut |_, _| ()).unwrap()
}

fn records(disk: &MemKv) -> BTreeSet<RecordAt> {
    let keys = disk.map().keys().filter_map(|key| RecordKey::decode(key)).collect::<Vec<_>>();
    keys.into_iter().map(|key| RecordAt::new(key.revision, key.sub)).collect()
}

fn value(store: &Store, key: &str, revision: Revision) -> Option<Bytes> {
    store.view().get(key.as_bytes(), revision).unwrap().1.map(|record| record.value)
}

#[test]
fn compaction_removes_the_dead_record_and_no_other_of_its_revision() {
    let disk = Arc::new(MemKv::default());
    let long = vec![7; 3 * VALUE_CHUNK_BYTES];
    let writes = [
        write(2, 0, "a", Some(b"1")),
        write(2, 1, "b", Some(&long)),
        write(2, 2, "c", Some(b"3")),
        write(3, 0, "a", Some(&long)),
        write(3, 1, "c", None),
    ];
    let mut store = store_of(&disk, &writes, 3);
    assert!(!store.compact_step().unwrap());
    assert_eq!(records(&disk), BTreeSet::from([(2, 1), (3, 0), (3, 1)].map(|(main, sub)| RecordAt::new(main, sub))));
    for store in [store, reopen(&disk)] {
        assert_eq!(value(&store, "a", 3).as_deref(), Some(&long[..]));
        assert_eq!(value(&store, "b", 3).as_deref(), Some(&long[..]));
        assert_eq!(value(&store, "c", 3), None);
    }
}

/// A watch from the compacted revision has yet to see the delete.
#[test]
fn a_tombstone_at_the_compacted_revision_stays_until_the_next_compaction() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    let compact = |store: &mut Store, revision| {
        apply(store, &[Command::Compact { revision }]);
        while store.compact_step().unwrap() {}
        records(&disk).into_iter().map(|at| at.revision).collect::<Vec<_>>()
    };
    apply(&mut store, &[put("k", b"2"), delete("k"), put("other", b"4")]);
    assert_eq!(compact(&mut store, 3), [3, 4], "what it hides has gone");
    assert_eq!(compact(&mut store, 4), [4]);
    assert_eq!(store.view().keys(), 1);
}

const NAMES: [&str; 4] = ["a", "ab", "b", "c"];

/// Writes of (name, value's length or a delete, whether a revision begins).
fn any_writes() -> impl Strategy<Value = Vec<Write>> {
    let len = prop_oneof![6 => 0usize..9, 1 => Just(2 * VALUE_CHUNK_BYTES)];
    let one = (proptest::sample::select(&NAMES[..]), proptest::option::of(len), any::<bool>());
    proptest::collection::vec(one, 1..40).prop_map(|all| {
        let mut at = RecordAt::new(2, 0);
        let mut writes = Vec::new();
        for (nth, (name, len, begins)) in all.into_iter().enumerate() {
            if nth > 0 {
                at = if begins { RecordAt::new(at.revision + 1, 0) } else { RecordAt::new(at.revision, at.sub() + 1) };
            }
            writes.push((at, name, len.map(|len| vec![nth as u8; len])));
        }
        writes
    })
}

/// What etcd keeps of a key's writes: all above the compacted revision, and the last one up to there unless it is a
/// tombstone below it.
fn kept(writes: &[Write], compacted: Revision) -> BTreeSet<RecordAt> {
    let stays = |(at, name, value): &&Write| {
        let follows = |(other, same, _): &Write| same == name && other > at && other.revision <= compacted;
        let is_last = !writes.iter().any(follows);
        at.revision > compacted || (is_last && (value.is_some() || at.revision == compacted))
    };
    writes.iter().filter(stays).map(|(at, _, _)| *at).collect()
}

proptest! {
    #[test]
    fn several_writes_in_a_revision_are_read_and_compacted_by_their_places(
        writes in any_writes(), parts in proptest::collection::vec(0u64..=1000, 1..4),
    ) {
        let newest = writes.last().unwrap().0.revision;
        let mut compactions: Vec<Revision> = parts.iter().map(|part| 1 + (newest - 1) * part / 1000).collect();
        compactions.sort_unstable();
        let disk = Arc::new(MemKv::default());
        let mut store = store_of(&disk, &writes, 1);
        for compacted in compactions {
            apply(&mut store, &[Command::Compact { revision: compacted }]);
            while store.compact_step().unwrap() {}
            prop_assert_eq!(records(&disk), kept(&writes, compacted), "compacted at {}", compacted);
            for revision in compacted..=newest {
                let seen = |name: &str| {
                    writes.iter().rfind(|(at, same, _)| *same == name && at.revision <= revision).and_then(|(_, _, value)| value.clone())
                };
                for name in NAMES {
                    let expected = seen(name).map(Bytes::from);
                    prop_assert_eq!(value(&store, name, revision), expected.clone());
                    prop_assert_eq!(value(&reopen(&disk), name, revision), expected);
                }
            }
            prop_assert_eq!(indexed(&reopen(&disk)), indexed(&store));
        }
    }
}

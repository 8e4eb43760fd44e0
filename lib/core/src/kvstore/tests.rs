//! Tests the store against a model that keeps every revision as a whole map, and the rules that a model cannot show.
//!
//! The rules: what members compare, what damage is found, and what compaction, cuts and failed writes leave readable.
#![allow(clippy::unwrap_used)]

mod several_writes;

use super::place::RecordAt;
use super::testing::{MemKv, delete, delete_if, entry, membership, new_store, put, put_if, reopen};
use super::versions::KeyVersion;
use super::*;
use crate::limits::{COMPACTION_STEP_RECORDS, HASH_EVERY, HASHES_KEPT, VALUE_CHUNK_BYTES};
use crate::types::Revision;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::Ordering;

/// The model: every revision as a whole map, too simple to be wrong.
#[derive(Clone)]
struct Model {
    revisions: Vec<BTreeMap<String, KeyRecord>>,
    compacted: Revision,
}

impl Model {
    fn new() -> Model {
        // Revision 0 does not exist; the store starts at 1.
        Model { revisions: vec![BTreeMap::new(); 2], compacted: 0 }
    }

    fn revision(&self) -> Revision {
        self.revisions.len() as Revision - 1
    }

    fn now(&self) -> &BTreeMap<String, KeyRecord> {
        self.revisions.last().unwrap()
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        let revision = self.revision();
        let (key, condition) = match command {
            Command::Put { key, condition, .. } | Command::Delete { key, condition } => (key, condition),
            Command::Compact { revision: asked } => {
                if *asked <= revision {
                    self.compacted = self.compacted.max(*asked);
                }
                return Outcome::Compacted { revision: self.compacted };
            }
        };
        let name = String::from_utf8(key.to_vec()).unwrap();
        let mut next = self.now().clone();
        let old = next.remove(&name);
        let current = old.as_ref().map(|old| old.mod_revision);
        let holds = match condition {
            Condition::None => true,
            Condition::ModRevision(wanted) => current == Some(*wanted),
            Condition::Exists => old.is_some(),
            Condition::Absent => old.is_none(),
        };
        if !holds {
            return Outcome::ConditionFailed { revision, current };
        }
        let mod_revision = revision + 1;
        let outcome = match (command, old) {
            (Command::Put { value, .. }, old) => {
                let (create_revision, version) =
                    old.map_or((mod_revision, 1), |old| (old.create_revision, old.version + 1));
                let (key, value) = (key.clone(), value.clone());
                next.insert(name, KeyRecord { key, value, create_revision, mod_revision, version });
                Outcome::Put { revision: mod_revision, version }
            }
            (_, Some(_)) => Outcome::Deleted { revision: mod_revision, deleted: true },
            (_, None) => return Outcome::Deleted { revision, deleted: false },
        };
        self.revisions.push(next);
        outcome
    }

    /// Compares everything that a reader can ask for.
    fn check(&self, view: &View) {
        assert_eq!((view.revision(), view.compacted()), (self.revision(), self.compacted));
        assert_eq!(view.keys(), self.now().len() as u64);
        for asked in 1..=self.revision() + 1 {
            let answer = view.range(&RangeQuery { revision: asked, ..everything() });
            if asked > self.revision() {
                assert!(matches!(answer, Err(ReadError::Future { current, .. }) if current == self.revision()));
                assert!(matches!(view.get(b"a", asked), Err(ReadError::Future { .. })));
            } else if asked < self.compacted {
                assert!(matches!(answer, Err(ReadError::Compacted { oldest, .. }) if oldest == self.compacted));
                assert!(matches!(view.get(b"a", asked), Err(ReadError::Compacted { .. })));
            } else {
                let map = &self.revisions[asked as usize];
                assert_eq!(answer.unwrap().records, map.values().cloned().collect::<Vec<_>>());
                for key in KEYS {
                    assert_eq!(view.get(key.as_bytes(), asked).unwrap(), (asked, map.get(key).cloned()));
                }
            }
        }
        assert_eq!(view.get(b"a", 0).unwrap(), (self.revision(), self.now().get("a").cloned()));
    }

    fn check_range(&self, view: &View, query: &RangeQuery) {
        if query.revision > self.revision() || (query.revision != 0 && query.revision < self.compacted) {
            return;
        }
        let at = if query.revision == 0 { self.revision() } else { query.revision };
        let inside = |key: &Bytes| *key >= query.start && query.end.as_ref().is_none_or(|end| key < end);
        let all: Vec<&KeyRecord> = self.revisions[at as usize].values().filter(|r| inside(&r.key)).collect();
        let answer = view.range(query).unwrap();
        assert_eq!((answer.revision, answer.count), (at, all.len() as u64));
        if query.count_only {
            assert!(answer.records.is_empty() && !answer.more);
            return;
        }
        let behind: Vec<KeyRecord> = all
            .into_iter()
            .filter(|r| query.after.as_ref().is_none_or(|after| r.key > after))
            .map(|r| if query.keys_only { KeyRecord { value: Bytes::new(), ..r.clone() } } else { r.clone() })
            .collect();
        let returned = answer.records.len();
        assert_eq!(answer.records, behind[..returned]);
        assert_eq!(answer.more, returned < behind.len());
        let bytes = |records: &[KeyRecord]| records.iter().map(|r| r.key.len() + r.value.len()).sum::<usize>();
        assert!(returned <= query.limit && (returned <= 1 || bytes(&answer.records) <= query.bytes_max));
        if answer.more && returned < query.limit {
            assert!(bytes(&behind[..returned + 1]) > query.bytes_max, "it stopped for no reason");
        }
    }
}

fn everything() -> RangeQuery {
    RangeQuery { limit: usize::MAX, bytes_max: usize::MAX, ..RangeQuery::default() }
}

const KEYS: [&str; 5] = ["a", "ab", "b", "c", "d"];

fn any_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => Just(Condition::None),
        1 => (1u64..12).prop_map(Condition::ModRevision),
        1 => Just(Condition::Exists),
        1 => Just(Condition::Absent),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let key = || proptest::sample::select(&KEYS[..]);
    let len = prop_oneof![8 => 0usize..20, 1 => VALUE_CHUNK_BYTES - 2..3 * VALUE_CHUNK_BYTES];
    prop_oneof![
        6 => (key(), len, any::<u8>(), any_condition())
            .prop_map(|(key, len, byte, condition)| put_if(key, &vec![byte; len], condition)),
        3 => (key(), any_condition()).prop_map(|(key, condition)| delete_if(key, condition)),
        1 => (0u64..30).prop_map(|revision| Command::Compact { revision }),
    ]
}

fn any_query() -> impl Strategy<Value = RangeQuery> {
    let key = || {
        proptest::sample::select(&["", "a", "ab", "b", "bb", "d", "e"][..])
            .prop_map(|key| Bytes::from_static(key.as_bytes()))
    };
    let bytes_max = prop_oneof![Just(usize::MAX), 0usize..60];
    (
        key(),
        proptest::option::of(key()),
        proptest::option::of(key()),
        0usize..6,
        bytes_max,
        any::<[bool; 2]>(),
        0u64..20,
    )
        .prop_map(|(start, end, after, limit, bytes_max, [keys_only, count_only], revision)| RangeQuery {
            start,
            end,
            after,
            limit,
            bytes_max,
            keys_only,
            count_only,
            revision,
        })
}

/// A command, an empty entry of raft's own, or a membership change.
#[derive(Clone, Debug)]
enum Step {
    Command(Command),
    Empty,
    Conf(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![12 => any_command().prop_map(Step::Command), 1 => Just(Step::Empty), 1 => (2u64..5).prop_map(Step::Conf)]
}

fn committed(index: Index, step: &Step) -> Committed {
    match step {
        Step::Command(command) => entry(index, command),
        Step::Empty => Committed::Normal { index, term: 1, request: None, data: Bytes::new() },
        Step::Conf(members) => Committed::Conf { index, term: 1, membership: Arc::new(membership(*members)) },
    }
}

fn log(steps: &[Step]) -> Vec<Committed> {
    (2..).zip(steps).map(|(index, step)| committed(index, step)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One entry a batch, a compaction step now and then, and a restart after each batch.
    #[test]
    fn the_store_does_what_the_model_does(
        steps in proptest::collection::vec((any_step(), any::<bool>()), 1..40),
        queries in proptest::collection::vec(any_query(), 12),
    ) {
        let disk = Arc::new(MemKv::default());
        let mut store = new_store(&disk);
        let mut model = Model::new();
        for (index, (step, sweep)) in (2..).zip(&steps) {
            let applied = store.apply(&[committed(index, step)]).unwrap();
            let expected = match step {
                Step::Command(command) => Some(model.apply(command)),
                Step::Empty | Step::Conf(_) => None,
            };
            prop_assert_eq!(&applied[0].outcome, &expected);
            if *sweep {
                store.compact_step().unwrap();
            }
            let again = reopen(&disk);
            prop_assert_eq!(again.view().state_hash(), store.view().state_hash());
            prop_assert_eq!(indexed(&again), indexed(&store));
            prop_assert_eq!(again.membership(), store.membership());
            let claim = claim(disk.as_ref()).unwrap().expect("each batch writes it");
            prop_assert_eq!((claim.applied, claim.term, &claim.membership), (index, 1, store.membership()));
        }
        model.check(&store.view());
        queries.iter().for_each(|query| model.check_range(&store.view(), query));
        while store.compact_step().unwrap() {}
        model.check(&store.view());
        model.check(&reopen(&disk).view());
    }

    /// Rule N15: what members compare depends on the entries alone.
    #[test]
    fn batching_and_sweeping_change_nothing_that_members_compare(
        steps in proptest::collection::vec(any_step(), 1..40),
        cuts in proptest::collection::vec(1usize..6, 40),
    ) {
        let entries = log(&steps);
        let (one, other) = (Arc::new(MemKv::default()), Arc::new(MemKv::default()));
        let mut whole = new_store(&one);
        let at_once = whole.apply(&entries).unwrap();
        let mut parts = new_store(&other);
        let (mut rest, mut in_parts) = (&entries[..], Vec::new());
        for cut in cuts {
            let (batch, behind) = rest.split_at(cut.min(rest.len()));
            in_parts.append(&mut parts.apply(batch).unwrap());
            rest = behind;
        }
        prop_assert_eq!(at_once, in_parts);
        prop_assert_eq!(&*one.map(), &*other.map(), "the very bytes are equal");
        let before = parts.view().state_hash();
        while parts.compact_step().unwrap() {}
        prop_assert_eq!(parts.view().state_hash(), before);
        prop_assert_eq!(whole.view().state_hash(), before);
        prop_assert_eq!(whole.view().range(&everything()).unwrap(), parts.view().range(&everything()).unwrap());
    }

    #[test]
    fn any_one_damaged_byte_is_found_when_it_is_opened(
        steps in proptest::collection::vec(any_step(), 1..20),
        record in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        in_key in any::<bool>(),
    ) {
        let disk = Arc::new(MemKv::default());
        new_store(&disk).apply(&log(&steps)).unwrap();
        {
            let mut map = disk.map();
            let (mut key, mut value) = map.iter().nth(record.index(map.len())).map(|(k, v)| (k.clone(), v.clone())).unwrap();
            map.remove(&key);
            let bytes = if in_key || value.is_empty() { &mut key } else { &mut value };
            let at = byte.index(bytes.len());
            bytes[at] ^= 0x40;
            map.insert(key, value);
        }
        let opened = Store::open(disk, &mut |_, _| ());
        prop_assert!(matches!(opened, Err(StoreError::Unproved(_))));
    }
}

/// What the index of a store holds of each key.
fn indexed(store: &Store) -> Vec<(Vec<u8>, KeyVersion, Vec<RecordAt>)> {
    let (view, mut all) = (store.view(), Vec::new());
    for (key, versions) in view.published().index.walk(Bound::Unbounded, None) {
        all.push((key.to_vec(), versions.newest(), versions.records().collect()));
    }
    all
}

fn apply(store: &mut Store, commands: &[Command]) -> Vec<Option<Outcome>> {
    let first = store.view().applied() + 1;
    let entries: Vec<Committed> = (first..).zip(commands).map(|(index, command)| entry(index, command)).collect();
    store.apply(&entries).unwrap().into_iter().map(|applied| applied.outcome).collect()
}

/// Rule N24: the numbers are etcd's, in one story within one batch.
#[test]
fn revisions_and_versions_follow_etcd() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    assert_eq!(store.view().revision(), 1);
    let outcomes = apply(
        &mut store,
        &[
            put("k", b"1"),
            put("k", b"2"),
            put_if("k", b"x", Condition::ModRevision(2)),
            put_if("k", b"x", Condition::Absent),
            delete("k"),
            delete("k"),
            delete_if("k", Condition::Exists),
            delete_if("k", Condition::ModRevision(3)),
            delete_if("k", Condition::Absent),
            put_if("k", b"x", Condition::Exists),
            put_if("k", b"3", Condition::Absent),
            Command::Compact { revision: 9 },
        ],
    );
    let failed = |revision, current| Outcome::ConditionFailed { revision, current };
    assert_eq!(
        outcomes.into_iter().map(Option::unwrap).collect::<Vec<_>>(),
        [
            Outcome::Put { revision: 2, version: 1 },
            Outcome::Put { revision: 3, version: 2 },
            failed(3, Some(3)),
            failed(3, Some(3)),
            Outcome::Deleted { revision: 4, deleted: true },
            Outcome::Deleted { revision: 4, deleted: false },
            failed(4, None),
            failed(4, None),
            Outcome::Deleted { revision: 4, deleted: false },
            failed(4, None),
            Outcome::Put { revision: 5, version: 1 },
            Outcome::Compacted { revision: 0 },
        ]
    );
    let (_, record) = store.view().get(b"k", 0).unwrap();
    assert_eq!(record.map(|r| (r.create_revision, r.mod_revision, r.version)), Some((5, 5, 1)));
}

#[test]
fn the_compacted_revision_itself_stays_readable() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    apply(&mut store, &[put("k", b"2"), put("k", b"3"), put("gone", b"4"), delete("gone"), put("k", b"6")]);
    let outcomes = apply(&mut store, &[4, 3, 7].map(|revision| Command::Compact { revision }));
    assert!(outcomes.iter().all(|outcome| *outcome == Some(Outcome::Compacted { revision: 4 })));
    for swept in [false, true] {
        let view = store.view();
        assert_eq!(view.get(b"k", 4).unwrap().1.unwrap().value, "3");
        assert_eq!(view.get(b"gone", 4).unwrap().1.unwrap().value, "4");
        assert!(matches!(view.get(b"k", 3), Err(ReadError::Compacted { asked: 3, oldest: 4 })));
        if !swept {
            assert!(!store.compact_step().unwrap());
        }
    }
    assert_eq!(disk.map().keys().filter(|key| key[0] == b'r').count(), 4, "revision 2 went, no other was hidden");
    apply(&mut store, &[delete("k"), Command::Compact { revision: 7 }]);
    while store.compact_step().unwrap() {}
    assert_eq!(disk.map().keys().filter(|key| key[0] == b'r').count(), 1, "the tombstone of revision 7 alone");
    apply(&mut store, &[put("other", b"8"), Command::Compact { revision: 8 }]);
    while store.compact_step().unwrap() {}
    assert_eq!(disk.map().keys().filter(|key| key[0] == b'r').count(), 1, "it went, too");
    assert_eq!(indexed(&store).len(), 1);
    assert_eq!(reopen(&disk).view().revision(), 8);
}

/// Rule N15: hashes are kept at the exact entry, whatever the batches are.
#[test]
fn state_hashes_are_kept_at_multiples_of_1024() {
    let last = (HASHES_KEPT as u64 + 2) * HASH_EVERY + 5;
    let entries: Vec<Committed> = (2..=last)
        .map(|index| match index % 50 {
            0 => entry(index, &put("k", &index.to_be_bytes())),
            _ => Committed::Normal { index, term: 1, request: None, data: Bytes::new() },
        })
        .collect();
    let kept = |batch: usize| {
        let disk = Arc::new(MemKv::default());
        let mut store = new_store(&disk);
        entries.chunks(batch).for_each(|batch| drop(store.apply(batch).unwrap()));
        assert_eq!(reopen(&disk).view().state_hashes(), store.view().state_hashes());
        store.view().state_hashes()
    };
    let hashes = kept(1000);
    assert_eq!(hashes.len(), HASHES_KEPT);
    assert_eq!(hashes[0].applied, 3 * HASH_EVERY);
    assert!(hashes.windows(2).all(|pair| pair[1].applied == pair[0].applied + HASH_EVERY));
    assert_eq!(hashes, kept(7777));
}

/// Rule N15: `disk_hash` covers every record of the tree but the one that holds it.
#[test]
fn damaged_or_missing_kept_hashes_and_memberships_are_found() {
    let disk = Arc::new(MemKv::default());
    let empty = |index| Committed::Normal { index, term: 1, request: None, data: Bytes::new() };
    new_store(&disk).apply(&(2..=HASH_EVERY).map(empty).collect::<Vec<_>>()).unwrap();
    reopen(&disk);
    let damaged = disk.copy();
    damaged.map().get_mut(keys::HASHES_KEY).unwrap()[12] ^= 1;
    assert!(matches!(Store::open(damaged, &mut |_, _| ()), Err(StoreError::Unproved(_))));
    let without = |key: &[u8]| {
        let disk = disk.copy();
        disk.map().remove(key);
        disk
    };
    for key in [keys::HASHES_KEY, keys::MEMBERS_KEY] {
        assert!(matches!(Store::open(without(key), &mut |_, _| ()), Err(StoreError::Unproved(_))));
    }
    // What is claimed is believed before the proof (rule N8).
    assert!(claim(without(keys::MEMBERS_KEY).as_ref()).unwrap().is_none());
    let damaged = disk.copy();
    damaged.map().get_mut(keys::MEMBERS_KEY).unwrap()[7] ^= 2;
    assert!(claim(damaged.as_ref()).unwrap().is_none());
}

#[test]
fn a_conf_change_ends_its_batch_exactly_at_its_index() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    let conf = |index, members| committed(index, &Step::Conf(members));
    let applied = store.apply(&[entry(2, &put("a", b"")), conf(3, 2), conf(4, 3), entry(5, &put("b", b""))]).unwrap();
    assert_eq!(applied.iter().map(|applied| applied.index).collect::<Vec<_>>(), [2, 3, 4, 5]);
    // The model test covers the claim after each batch; this is the claim after the last one.
    assert_eq!(claim(disk.as_ref()).unwrap().map(|claim| (claim.applied, claim.membership)), Some((5, membership(3))));
    assert!(store.apply(&[]).unwrap().is_empty());
}

/// Finding A6: a put costs what it writes, whoever has ever been a member.
#[test]
fn a_batch_of_puts_does_not_write_the_membership() {
    let bytes_of_a_put = |members: u64| {
        let disk = Arc::new(MemKv::default());
        let mut store = new_store(&disk);
        store.apply(&[committed(2, &Step::Conf(members))]).unwrap();
        let before = disk.written();
        store.apply(&[entry(3, &put("a", b"value"))]).unwrap();
        disk.written() - before
    };
    assert_eq!(bytes_of_a_put(1), bytes_of_a_put(40));
    assert!(bytes_of_a_put(1) < 300, "{} bytes", bytes_of_a_put(1));
}

#[test]
fn an_entry_that_is_no_command_stops_the_store_and_is_named() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    let bad = Committed::Normal { index: 3, term: 1, request: None, data: Bytes::from_static(b"\xff") };
    let error = store.apply(&[entry(2, &put("a", b"")), bad]).unwrap_err();
    assert!(error.to_string().contains("the entry at index 3"), "{error}");
    assert_eq!(claim(disk.as_ref()).unwrap().unwrap().applied, 1, "nothing of its batch was written");
}

#[test]
#[should_panic(expected = "without a gap")]
fn a_gap_is_not_applied() {
    let _ = new_store(&Arc::new(MemKv::default())).apply(&[entry(3, &put("a", b""))]);
}

/// Rule N11: reads go on at the last published revision; no write is tried again.
#[test]
fn a_failed_write_ends_writing_and_reading_goes_on() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    apply(&mut store, &[put("k", b"v")]);
    disk.fail_writes.store(true, Ordering::Relaxed);
    assert!(matches!(store.apply(&[entry(3, &put("k", b"w"))]), Err(StoreError::Io(_))));
    disk.fail_writes.store(false, Ordering::Relaxed);
    assert!(matches!(store.apply(&[entry(3, &put("k", b"w"))]), Err(StoreError::Io(_))));
    assert_eq!(store.view().get(b"k", 0).unwrap().1.unwrap().value, "v");
    assert!(apply(&mut reopen(&disk), &[put("k", b"w")])[0].is_some());
}

#[test]
fn a_sweep_goes_in_bounded_steps_pauses_for_a_cut_and_resumes_after_a_restart() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    let writes = 3 * COMPACTION_STEP_RECORDS as u64;
    let puts: Vec<Command> = (0..writes).map(|i| put(if i % 3 == 0 { "hot" } else { "cold" }, b"v")).collect();
    apply(&mut store, &puts);
    apply(&mut store, &[Command::Compact { revision: writes }]);
    let records = |disk: &MemKv| disk.map().keys().filter(|key| key[0] == b'r').count();

    let _cut = store.freeze();
    assert!(!store.compact_step().unwrap());
    assert_eq!(records(&disk), writes as usize);
    store.cut_done();

    assert!(store.compact_step().unwrap());
    assert_eq!(records(&disk), writes as usize - COMPACTION_STEP_RECORDS);
    let mut store = Store::open(disk.clone(), &mut |_, _| ()).unwrap();
    let mut steps = 1;
    while store.compact_step().unwrap() {
        steps += 1;
        reopen(&disk);
    }
    assert_eq!((steps, records(&disk)), (2, 3));
    assert_eq!(store.view().get(b"hot", writes).unwrap().1.unwrap().version, 1 + (writes - 1) / 3);
}

/// A compaction, sweep included, between the lookup and the fetch of a value.
#[test]
fn a_read_that_a_compaction_overtakes_is_compacted_or_sees_the_newest() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    apply(&mut store, &[put("k", b"2")]);
    let view = store.view();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (view, stop) = (view.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) || reads < 50 {
                    let (at, record) = view.get(b"k", 0).unwrap();
                    let record = record.unwrap();
                    assert_eq!((record.mod_revision, record.value), (at, Bytes::from(at.to_string())));
                    match view.get(b"k", at) {
                        Ok((_, record)) => assert_eq!(record.unwrap().mod_revision, at),
                        Err(error) => assert!(matches!(error, ReadError::Compacted { .. }), "{error}"),
                    }
                    let answer = view.range(&everything()).unwrap();
                    assert_eq!(answer.records[0].mod_revision, answer.revision);
                    reads += 1;
                }
            })
        })
        .collect();
    for revision in 3..600u64 {
        apply(&mut store, &[put("k", revision.to_string().as_bytes()), Command::Compact { revision }]);
        while store.compact_step().unwrap() {}
    }
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn a_missing_record_that_no_compaction_explains_is_an_error() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    apply(&mut store, &[put("k", &[7; 9000])]);
    let last = disk.map().keys().next_back().cloned().unwrap();
    disk.map().remove(&last);
    assert!(matches!(store.view().get(b"k", 0), Err(ReadError::Io(_))));
    assert!(matches!(Store::open(disk, &mut |_, _| ()), Err(StoreError::Unproved(_))));
}

#[test]
fn a_long_range_walks_in_several_holds_of_the_lock() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    let puts: Vec<Command> = (0..10_000).map(|i| put(&format!("{i:05}"), b"")).collect();
    apply(&mut store, &puts);
    let query = RangeQuery { keys_only: true, limit: 3, after: Some(Bytes::from_static(b"09000")), ..everything() };
    let answer = store.view().range(&query).unwrap();
    assert_eq!((answer.count, answer.more), (10_000, true));
    assert_eq!(answer.records.iter().map(|record| &record.key[..]).collect::<Vec<_>>(), [b"09001", b"09002", b"09003"]);
}

#[test]
fn no_meta_record_is_no_claim_and_no_store() {
    let disk = Arc::new(MemKv::default());
    assert!(claim(disk.as_ref()).unwrap().is_none());
    assert!(matches!(Store::open(disk.clone(), &mut |_, _| ()), Err(StoreError::Unproved(_))));
    new_store(&disk);
    let twice = Store::create(disk.clone(), 1, 1, &membership(1));
    assert!(matches!(twice, Err(StoreError::Unproved(_))));
    disk.map().get_mut(keys::STATE_KEY).unwrap()[9] ^= 1;
    assert!(claim(disk.as_ref()).unwrap().is_none());
}

#[test]
fn a_record_whose_key_is_too_long_is_refused() {
    let disk = Arc::new(MemKv::default());
    apply(&mut new_store(&disk), &[put("k", b"")]);
    let key = vec![b'k'; 1 << 16];
    let record = keys::Record { kind: keys::RecordKind::Value, create_revision: 3, version: 1, key: &key, value: b"" };
    disk.map().extend(record.encode(keys::RecordKey::first(3)));
    let refused = Store::open(disk, &mut |_, _| ()).err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|why| why.contains("malformed")), "{refused:?}");
}

#[test]
fn opening_reports_its_progress_to_the_end() {
    let disk = Arc::new(MemKv::default());
    apply(&mut new_store(&disk), &(0..2500).map(|i| put(&i.to_string(), b"")).collect::<Vec<_>>());
    let mut seen = Vec::new();
    Store::open(disk, &mut |done, all| seen.push((done, all))).unwrap();
    assert_eq!(seen, [(0, 2500), (1000, 2500), (2000, 2500), (2500, 2500)]);
}

/// A kv db that refuses a batch while the one before it is not flushed.
#[derive(Default)]
struct Strict {
    kv: MemKv,
    unflushed: std::sync::atomic::AtomicBool,
}

impl KvDisk for Strict {
    fn get(&self, key: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        self.kv.get(key)
    }
    fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> std::io::Result<()> {
        self.kv.scan(start, end, visit)
    }
    fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> std::io::Result<()> {
        let unflushed = self.unflushed.swap(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!unflushed, "sled may deadlock when a batch follows one that was not flushed (rule N23)");
        self.kv.apply_batch(batch)
    }
    fn flush(&self) -> std::io::Result<()> {
        self.unflushed.store(false, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
    fn bytes(&self) -> u64 {
        self.kv.bytes()
    }
}

#[test]
fn every_batch_is_flushed_before_the_next() {
    let mut store = Store::create(Arc::new(Strict::default()), 1, 1, &membership(1)).unwrap();
    let conf = Committed::Conf { index: 3, term: 1, membership: Arc::new(membership(2)) };
    store.apply(&[entry(2, &put("a", b"1")), conf, entry(4, &put("a", b"2"))]).unwrap();
    store.flush().unwrap();
    store.apply(&[entry(5, &Command::Compact { revision: 3 })]).unwrap();
    store.flush().unwrap();
    while store.compact_step().unwrap() {}
    store.apply(&[entry(6, &put("b", b"3"))]).unwrap();
}

#[test]
fn an_entry_of_a_newer_version_stops_apply_and_changes_nothing() {
    let disk = Arc::new(MemKv::default());
    let mut store = new_store(&disk);
    let before = disk.map().clone();
    for data in [&b"\x09 of a later version"[..], b"\x01\x09"] {
        let newer = Committed::Normal { index: 3, term: 1, request: None, data: Bytes::from_static(data) };
        let error = store.apply(&[entry(2, &put("k", b"v")), newer]).expect_err("it is no command");
        assert!(matches!(error, StoreError::Newer(_)), "{error}");
        let words = error.to_string();
        assert!(words.contains("index 3") && words.contains("start that one again"), "{words}");
        assert_eq!(*disk.map(), before);
        assert_eq!(store.view().applied(), 1);
    }
    assert_eq!(store.apply(&[entry(2, &put("k", b"v"))]).expect("it goes on where it was").len(), 1);
}

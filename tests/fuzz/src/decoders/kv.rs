//! The contents of the kv db and of entries: commands, the meta record, revision records and their chunks.

use crate::archive;
use bytes::Bytes;
use raftkv_core::kvstore::{self, Command, Committed, Condition, RangeQuery, Store, View};
use raftkv_core::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use raftkv_core::ports::KvHome;
use raftkv_core::types::{Index, RequestId};
use raftkv_sim::kv::MemHome;
use raftkv_sim::lone::voters;

const NAME: &str = "kv-1";

/// Decodes a command as an entry carries it; then the store applies it.
pub fn command(bytes: &[u8]) -> bool {
    let data = Bytes::copy_from_slice(bytes);
    let decoded = Command::decode(&data);
    assert_eq!(Command::grows(&data), matches!(decoded, Ok(Command::Put { .. })));
    if let Ok(command) = &decoded {
        assert_eq!(command.encode(), data, "{command:?}");
    }
    let (mut store, _home) = filled_store();
    let (index, term) = (store.view().applied() + 1, 2);
    let applied = store.apply(&[Committed::Normal { index, term, request: None, data: data.clone() }]);
    assert_eq!(applied.is_ok(), decoded.is_ok() || data.is_empty(), "{decoded:?} {applied:?}");
    decoded.is_ok()
}

/// One of each command and condition.
pub fn commands() -> Vec<Vec<u8>> {
    let conditions = [Condition::None, Condition::ModRevision(3), Condition::Exists, Condition::Absent];
    let put = |condition| Command::Put { key: "key".into(), value: "value".into(), condition };
    let delete = |condition| Command::Delete { key: "key".into(), condition };
    let mut all: Vec<Command> = conditions.into_iter().flat_map(|when| [put(when), delete(when)]).collect();
    all.push(Command::Compact { revision: 2 });
    all.iter().map(|command| command.encode().to_vec()).collect()
}

/// Opens a whole kv db, given as its records.
pub fn kv(bytes: &[u8]) -> bool {
    let home = MemHome::new();
    let disk = home.open(NAME).expect("memory");
    disk.apply_batch(archive::unpack(bytes).into_iter().map(|(key, value)| (key, Some(value))).collect())
        .expect("memory");
    let claim = kvstore::claim(&*disk).expect("memory");
    let Ok(mut store) = Store::open(disk, &mut |_, _| ()) else { return false };
    let claim = claim.expect("what is proved was claimed");
    assert_eq!(claim.applied, store.view().applied());
    assert_eq!(&claim.membership, store.membership());
    read_everything(&store.view());
    go_on(&mut store, claim.applied, claim.term);
    read_everything(&store.view());
    true
}

/// Applies commands to the opened store: a put, a delete, a compaction and its removals.
fn go_on(store: &mut Store, applied: Index, term: u64) {
    let newest = store.view().revision();
    let commands = [
        Command::Put { key: "key".into(), value: vec![7; 5000].into(), condition: Condition::None },
        Command::Delete { key: "key0".into(), condition: Condition::Exists },
        Command::Compact { revision: newest + 1 },
    ];
    let entry = |(command, index): (&Command, Index)| {
        let request = Some(RequestId { origin: 1, nonce: 2, seq: index });
        Committed::Normal { index, term, request, data: command.encode() }
    };
    let committed: Vec<_> = commands.iter().zip(applied + 1..).map(entry).collect();
    let results = store.apply(&committed).expect("memory");
    assert_eq!(results.len(), committed.len());
    // A missing record must end the sweep with an error, not with a panic.
    while store.compact_step().unwrap_or(false) {}
}

/// Reads every key, at the newest revision and at the oldest. A missing value must be an error, not a panic.
pub fn read_everything(view: &View) {
    for revision in [0, view.compacted().max(1), view.revision()] {
        let query = RangeQuery { limit: PAGE_KEYS_MAX, bytes_max: PAGE_BYTES_MAX, revision, ..RangeQuery::default() };
        let Ok(page) = view.range(&query) else { continue };
        assert!(page.records.len() <= PAGE_KEYS_MAX);
        assert!(page.records.windows(2).all(|pair| pair[0].key < pair[1].key), "keys ascend");
        for record in &page.records {
            let (_, one) = view.get(&record.key, page.revision).expect("the range had it");
            assert_eq!(one.as_ref(), Some(record));
        }
    }
}

/// A store with three keys: one is deleted, one has a value of several chunks; it also has kept hashes.
pub fn filled_store() -> (Store, MemHome) {
    let home = MemHome::new();
    let disk = home.open(NAME).expect("memory");
    let mut store = Store::create(disk, 1022, 1, &voters(&[1, 2, 3])).expect("memory");
    let put = |nth: u64, bytes: usize| Command::Put {
        key: format!("key{nth}").into(),
        value: vec![b'v'; bytes].into(),
        condition: Condition::None,
    };
    let delete = Command::Delete { key: "key1".into(), condition: Condition::None };
    let commands = [put(0, 3), put(1, 0), put(2, 4200), put(0, 9), delete, Command::Compact { revision: 3 }];
    for (command, index) in commands.iter().zip(1023..) {
        let entry = Committed::Normal { index, term: 2, request: None, data: command.encode() };
        store.apply(&[entry]).expect("memory");
    }
    (store, home)
}

/// The records of an empty store, of [`filled_store`], and of that store after its compaction.
pub fn seeds() -> Vec<Vec<u8>> {
    let records = |home: &MemHome| {
        let mut records = Vec::new();
        let disk = home.open(NAME).expect("memory");
        disk.scan(&[], None, &mut |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            true
        })
        .expect("memory");
        archive::pack(&records)
    };
    let empty = MemHome::new();
    let disk = empty.open(NAME).expect("memory");
    Store::create(disk, 1, 1, &voters(&[1])).expect("memory");
    let (mut store, home) = filled_store();
    let filled = records(&home);
    while store.compact_step().expect("memory") {}
    vec![records(&empty), filled, records(&home)]
}

#[cfg(test)]
mod tests {
    use super::super::sums;
    use super::*;

    /// The key index keeps a revision in 63 bits, and panics at a larger one.
    #[test]
    fn a_record_of_a_revision_without_a_next_one_is_refused() {
        let mut records = archive::unpack(&seeds()[1]);
        let (key, _) = records.iter_mut().rfind(|(key, _)| key[0] == b'r').expect("it holds records");
        key[1..9].copy_from_slice(&u64::MAX.to_be_bytes());
        let mut bytes = archive::pack(&records);
        sums::kv(&mut bytes);
        assert!(!kv(&bytes));
    }
}

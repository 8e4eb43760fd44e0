//! What sled holds of a store on segments, beside a directory that is whole.

use super::manifest::{filled, work};
use super::wal;
use crate::archive;
use raftkv_core::kvstore::on_segments::{Config, Files, Start};
use raftkv_core::kvstore::{Command, Committed, Condition, RangeQuery};
use raftkv_core::limits::NUMBER_MAX;
use raftkv_core::ports::KvHome;
use raftkv_sim::kv::MemHome;

const NAME: &str = "head-0";

/// Opens a store with this head; what is not believed is not used, and what opens goes on.
pub fn head(bytes: &[u8]) -> bool {
    let (store, disk) = filled();
    drop(store);
    let kv = MemHome::new().open(NAME).expect("memory");
    let writes = archive::unpack(bytes).into_iter().map(|(key, value)| (key, Some(value))).collect();
    kv.apply_batch(writes).expect("memory");
    let Ok(Some(start)) = Start::find(&wal::identity(), &*disk, Some(&*kv)) else { return false };
    let (is_believed, claimed) = (start.keeps_head().is_ok(), start.claimed());
    assert!(!is_believed || start.witness() == Some((claimed.applied, claimed.term)));
    let config = Config { window_bytes: 400, ..Config::default() };
    let files = Files::of(&*disk).expect("memory");
    let Ok(mut store) = start.open(disk.clone(), config, &files, &mut |_, _| ()) else { return false };
    assert_eq!(store.view().applied(), claimed.applied);
    // Sums do not cover what records mean: reads may fail, and do not panic.
    let all = RangeQuery { limit: 100, bytes_max: usize::MAX, ..RangeQuery::default() };
    let _ = store.view().range(&all);
    // A member compares the claim with its log, which has no such index.
    if claimed.applied >= NUMBER_MAX {
        return false;
    }
    let put = Command::Put { key: "key".into(), value: vec![7; 500].into(), condition: Condition::None };
    let (index, term) = (claimed.applied + 1, claimed.term);
    store.apply(&[Committed::Normal { index, term, request: None, data: put.encode() }]).expect("it is a command");
    work(&mut store, &disk);
    store.next_set();
    is_believed
}

/// What a set brings to an empty head.
pub fn seeds() -> Vec<Vec<u8>> {
    let (mut store, _disk) = filled();
    let records: Vec<(Vec<u8>, Vec<u8>)> =
        store.next_set().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    vec![archive::pack(&records)]
}

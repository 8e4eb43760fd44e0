//! Manifests: as files of a directory, and as another member offers them.

use super::wal;
use raftkv_core::kvstore::on_segments::{Arriving, AtHand, Config, Files, Job, Start, Store, write_initial};
use raftkv_core::kvstore::{Command, Committed, Condition};
use raftkv_core::snapshot::manifest::{Manifest, hash_of};
use raftkv_sim::disk::SimDisk;
use raftkv_sim::lone::voters;
use std::sync::Arc;

/// Decodes a manifest's file; one that is accepted may be offered by a member.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok((manifest, own, whole)) = Manifest::decode_file(bytes) else { return false };
    let again = manifest.encode_file(&own);
    assert!(!whole || again == bytes, "{manifest:?} {own:?}");
    assert_eq!(Manifest::decode_file(&again), Ok((manifest.clone(), own, true)));
    let shared = manifest.encode();
    let announced = (shared.len() as u64, hash_of(&shared));
    if let Ok(arriving) = Arriving::begin(&wal::identity(), &shared, announced, &AtHand::default()) {
        assert_eq!((arriving.index(), arriving.term()), (manifest.index(), manifest.term()));
        arriving.lacking();
    }
    true
}

/// A store that has applied some entries, and its directory.
pub fn filled() -> (Store, Arc<SimDisk>) {
    let disk = Arc::new(SimDisk::new());
    write_initial(&wal::identity(), &*disk, (1, 1), &voters(&[1, 2, 3])).expect("memory");
    let start = Start::find(&wal::identity(), &*disk, None).expect("memory").expect("it was written");
    let config = Config { window_bytes: 400, ..Config::default() };
    let files = Files::of(&*disk).expect("memory");
    let mut store = start.open(disk.clone(), config, &files, &mut |_, _| ()).expect("memory");
    for index in 2..20 {
        let key = format!("key{}", index % 5).into();
        let command = match index {
            9 => Command::Delete { key, condition: Condition::None },
            12 => Command::Compact { revision: 4 },
            _ => Command::Put { key, value: vec![index as u8; 40].into(), condition: Condition::None },
        };
        store.apply(&[Committed::Normal { index, term: 1, request: None, data: command.encode() }]).expect("commands");
        work(&mut store, &disk);
    }
    (store, disk)
}

/// Does all that the store left to do.
pub fn work(store: &mut Store, disk: &SimDisk) {
    while let Some(job) = store.next_job() {
        // What a fuzzed store writes anew may be damaged: that is an error, and no panic.
        let Ok(done) = Job::run(&job, disk) else { return };
        store.done(done);
    }
}

/// The first manifest of a cluster, and one with segments and a prefix.
pub fn seeds() -> Vec<Vec<u8>> {
    let newest = |disk: &SimDisk| {
        let name = disk.names().into_iter().find(|name| name.starts_with("snapshot-")).expect("there is one");
        disk.bytes(&name)
    };
    let first = SimDisk::new();
    write_initial(&wal::identity(), &first, (1, 1), &voters(&[1, 2, 3])).expect("memory");
    let (mut store, disk) = filled();
    store.cut();
    work(&mut store, &disk);
    vec![newest(&first), newest(&disk)]
}

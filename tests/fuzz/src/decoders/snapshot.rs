//! Snapshot files: verified, installed, read, and cut again.

use super::kv::{self, filled_store};
use super::wal;
use raftkv_core::ports::KvHome;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::{self, SnapshotMeta};
use raftkv_sim::disk::SimDisk;
use raftkv_sim::kv::MemHome;

const NAME: &str = "snapshot";

/// Verifies a snapshot file; a file that verifies is installed.
pub fn snapshot(bytes: &[u8]) -> bool {
    let disk = wal::disk_with(&[(NAME.into(), bytes.to_vec())]);
    let Ok(meta) = snapshot::verify(&*disk, NAME) else { return false };
    assert_eq!(meta.size, bytes.len() as u64);
    assert_eq!(SnapshotMeta::from_raft(&meta.to_raft()).as_ref(), Ok(&meta), "it could not be offered to anybody");
    disk.rename(NAME, &meta.file_name()).expect("memory");
    let home = MemHome::new();
    let kv = home.open("kv-1").expect("memory");
    // Sums of records do not cover their meaning: the contents are looked at here for the first time.
    let Ok(mut store) = snapshot::install(&*disk, &meta, kv, &mut |_, _| {}) else { return true };
    assert_eq!((store.view().applied(), store.view().revision()), (meta.index, meta.revision));
    kv::read_everything(&store.view());
    let cut = store.freeze();
    let again = snapshot::write(&SimDisk::new(), &wal::identity(), &cut, &mut |_, _| {}).expect("memory");
    let said = |meta: &SnapshotMeta| {
        let SnapshotMeta { index, term, membership, revision, compacted, size: _, sha256: _ } = meta.clone();
        (index, term, membership, revision, compacted)
    };
    assert_eq!(said(&again), said(&meta), "a cut of what was installed is another snapshot");
    true
}

/// The first snapshot of a cluster, and one with records.
pub fn seeds() -> Vec<Vec<u8>> {
    let files = |write: &dyn Fn(&SimDisk) -> SnapshotMeta| {
        let disk = SimDisk::new();
        let meta = write(&disk);
        disk.bytes(&meta.file_name())
    };
    let identity = wal::identity();
    vec![
        files(&|disk| snapshot::write_initial(disk, &identity, &raftkv_sim::lone::voters(&[1, 2, 3])).expect("memory")),
        files(&|disk| {
            let (mut store, _home) = filled_store();
            snapshot::write(disk, &identity, &store.freeze(), &mut |_, _| {}).expect("memory")
        }),
    ]
}

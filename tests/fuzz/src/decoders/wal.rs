//! One segment of the log, as replay reads it.

use raft::prelude::{Entry, HardState};
use raftkv_api::Hex128;
use raftkv_core::limits::NUMBER_MAX;
use raftkv_core::log::{self, Batch, Log, LogConfig, Mark, Replayed};
use raftkv_core::ports::LogDisk;
use raftkv_core::types::MemberIdentity;
use raftkv_sim::disk::SimDisk;
use std::sync::Arc;

/// The smallest log that holds something.
pub const CONFIG: LogConfig =
    LogConfig { segment_bytes: 2048, batch_bytes_max: 1024, cache_bytes_max: 256, spare_segments: 1 };
const SEGMENT: &str = "wal-00000000000000000001";

/// The member whose log the seeds are.
pub fn identity() -> MemberIdentity {
    MemberIdentity {
        cluster_id: Hex128([1; 16]),
        genesis: Hex128([7; 16]),
        generation: 0,
        member_id: 1,
        incarnation: Hex128([5; 16]),
    }
}

/// A disk with these files.
pub fn disk_with(files: &[(Vec<u8>, Vec<u8>)]) -> Arc<SimDisk> {
    let disk = SimDisk::new();
    for (name, content) in files {
        // A directory never yields a name that is not a file name.
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains('/')) else {
            continue;
        };
        disk.create(name, 0).expect("memory");
        disk.write(name, 0, content).expect("memory");
    }
    Arc::new(disk)
}

/// Replays one segment.
pub fn wal(bytes: &[u8]) -> bool {
    let disk = disk_with(&[(SEGMENT.into(), bytes.to_vec())]);
    match Log::replay(CONFIG, disk.clone(), &mut |_, _| ()) {
        Ok(Some(replayed)) => {
            check(replayed, disk);
            true
        }
        Ok(None) => panic!("there is a segment"),
        Err(_) => false,
    }
}

/// Checks that what replay accepted is read back whole, is the same at a second replay, and can be appended to.
pub fn check(replayed: Replayed, disk: Arc<SimDisk>) {
    log::execute(&*disk, &replayed.repairs).expect("memory");
    let first = state(&replayed);
    let again = replay(&disk);
    assert_eq!(state(&again), first, "the second replay is another");
    let mut log = again.log;
    let (last, term) = (log.last_index(), first.3.term.max(1));
    if first.3.commit > last {
        return; // acknowledged entries are lost: opening quarantines such a member (rule N2)
    }
    let last_term = log.term(last).expect("the last entry has a term");
    let term = term.max(last_term);
    if last >= NUMBER_MAX {
        return; // nothing has a number behind the last one there is
    }
    let entry = Entry { index: last + 1, term, data: b"more".to_vec().into(), ..Entry::default() };
    let hard_state = HardState { term, ..first.3.clone() };
    let ops = log.append(Batch { entries: vec![entry], hard_state: Some(hard_state), ..Batch::default() });
    log::execute(&*disk, &ops).expect("memory");
    let longer = replay(&disk);
    assert_eq!(longer.log.last_index(), last + 1, "an appended entry is lost");
}

fn replay(disk: &Arc<SimDisk>) -> Replayed {
    Log::replay(CONFIG, disk.clone(), &mut |_, _| ()).expect("it was accepted once").expect("there is a segment")
}

type Seen = (Mark, u64, Vec<Entry>, HardState, MemberIdentity);

fn state(replayed: &Replayed) -> Seen {
    let log = &replayed.log;
    let (first, last) = (log.first_index(), log.last_index());
    let entries = if first > last { Vec::new() } else { log.entries(first, last + 1, u64::MAX).expect("memory") };
    assert_eq!(entries.len() as u64, last + 1 - first, "entries that the log counts are not in it");
    for (entry, index) in entries.iter().zip(first..) {
        assert_eq!((entry.index, Some(entry.term)), (index, log.term(index)));
    }
    (log.base(), last, entries, replayed.hard_state.clone(), replayed.identity)
}

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, data: vec![b'd'; bytes].into(), context: vec![b'c'; 24].into(), ..Entry::default() }
}

/// Batches of a member that joined, appended, was cut back, and stopped cleanly.
pub fn batches() -> Vec<Batch> {
    let hard_state = |term, commit| Some(HardState { term, vote: 1, commit, ..HardState::default() });
    vec![
        Batch { mark: Some(Mark { index: 1, term: 1 }), hard_state: hard_state(1, 1), ..Batch::default() },
        Batch { entries: vec![entry(2, 1, 0), entry(3, 1, 40)], hard_state: hard_state(1, 2), ..Batch::default() },
        Batch { entries: vec![entry(3, 2, 8), entry(4, 2, 100)], hard_state: hard_state(2, 3), ..Batch::default() },
        Batch { hard_state: hard_state(3, 4), closing: true, ..Batch::default() },
    ]
}

/// The disk after the first `count` of [`batches`].
pub fn disk_after(count: usize) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new());
    let (mut log, ops) = Log::create(CONFIG, identity(), disk.clone());
    log::execute(&*disk, &ops).expect("memory");
    for batch in batches().into_iter().take(count) {
        let ops = log.append(batch);
        log::execute(&*disk, &ops).expect("memory");
    }
    disk
}

/// A segment after each of [`batches`].
pub fn seeds() -> Vec<Vec<u8>> {
    (0..=batches().len()).map(|count| disk_after(count).bytes(SEGMENT)).collect()
}

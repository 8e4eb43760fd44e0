//! Single stories about the log that chance would meet too rarely; each can be read on its own.

use raft::prelude::{Entry, HardState};
use raftkv_api::Hex128;
use raftkv_core::log::{
    Batch, Log, LogConfig, LogError, LogOp, Mark, Replayed, entry_bytes, execute, execute_from, may_try_again,
};
use raftkv_core::ports::LogDisk;
use raftkv_core::types::MemberIdentity;
use raftkv_sim::disk::{Call, CrashModel, Fault, SimDisk};
use std::io;
use std::sync::Arc;

const CONFIG: LogConfig =
    LogConfig { segment_bytes: 8192, batch_bytes_max: 4096, cache_bytes_max: 600, spare_segments: 1 };

/// Bytes of an end record.
const END_BYTES: usize = 24;

#[test]
fn a_batch_is_one_write_and_one_sync() {
    let (_disk, mut log) = new_log();
    let ops = log.append(Batch {
        entries: vec![entry(1, 1, 10), entry(2, 1, 10)],
        hard_state: Some(hard_state(1, 1)),
        ..Batch::default()
    });
    assert!(matches!(&ops[..], [LogOp::Write { .. }, LogOp::Sync { .. }]), "{ops:?}");
}

#[test]
fn a_batch_may_fill_a_segment_to_its_last_byte() {
    let (disk, mut log) = new_log();
    append(&disk, &mut log, vec![entry(1, 1, 2000)]);
    let used = last_write_end(&append(&disk, &mut log, vec![entry(2, 1, 3000)]));
    let left = CONFIG.segment_bytes as usize - used;
    let ops = append(&disk, &mut log, vec![entry(3, 1, left - END_BYTES - entry_bytes(&entry(3, 1, 0)))]);
    assert_eq!((ops.len(), last_write_end(&ops)), (2, CONFIG.segment_bytes as usize));
    assert_eq!(replay(&disk).log.last_index(), 3);
    // A full last segment has no tail to zero, and the next batch begins a segment.
    let mut log = restart(&disk).log;
    let ops = append(&disk, &mut log, vec![entry(4, 1, 0)]);
    assert!(ops.contains(&LogOp::SyncDir));
    disk.crash(1, CrashModel::Reordered);
    assert_eq!(replay(&disk).log.last_index(), 4);
}

#[test]
fn the_largest_batch_is_taken_whatever_is_left_of_the_segment() {
    let largest = CONFIG.batch_bytes_max - END_BYTES - entry_bytes(&entry(1, 1, 0));
    let (disk, mut log) = new_log();
    for index in 1..8 {
        append(&disk, &mut log, vec![entry(index, 1, largest)]);
    }
    assert_eq!(replay(&disk).log.entries(1, 8, u64::MAX).expect("readable").len(), 7);
}

#[test]
#[should_panic(expected = "a batch of 4104 bytes, at most 4096")]
fn a_larger_batch_is_refused() {
    let largest = CONFIG.batch_bytes_max - END_BYTES - entry_bytes(&entry(1, 1, 0));
    new_log().1.append(Batch { entries: vec![entry(1, 1, largest + 1)], ..Batch::default() });
}

#[test]
#[should_panic(expected = "gap")]
fn a_gap_is_refused() {
    new_log().1.append(Batch { entries: vec![entry(2, 1, 0)], ..Batch::default() });
}

#[test]
#[should_panic(expected = "replaces what is committed up to 2")]
fn a_committed_entry_is_never_replaced() {
    let (_disk, mut log) = new_log();
    let entries = vec![entry(1, 1, 0), entry(2, 1, 0)];
    log.append(Batch { entries, hard_state: Some(hard_state(1, 2)), ..Batch::default() });
    log.append(Batch { entries: vec![entry(2, 2, 0)], ..Batch::default() });
}

/// The kernel drops pages whose fdatasync failed, although reads still see them: a restart must write them again.
#[test]
fn what_replay_accepts_survives_although_its_fdatasync_had_failed() {
    let (disk, mut log) = new_log();
    append(&disk, &mut log, vec![entry(1, 1, 100)]);
    disk.inject(Fault { call: Call::Sync, prefix: "wal-".to_string(), skip: 0, kind: io::ErrorKind::Other });
    let ops = log.append(Batch { entries: vec![entry(2, 1, 2000)], ..Batch::default() });
    execute(&*disk, &ops).expect_err("the process ends here");
    disk.kill();
    assert_eq!(restart(&disk).log.last_index(), 2, "from the page cache");
    for seed in 0..20 {
        disk.crash(seed, CrashModel::Reordered);
        assert_eq!(replay(&disk).log.last_index(), 2);
    }
}

/// Rule N1: a batch without its end is cut; the next batch ends exactly where a record of the cut one stood.
#[test]
fn what_is_left_of_a_torn_batch_never_meets_a_later_one() {
    let (disk, mut log) = new_log();
    append(&disk, &mut log, vec![entry(1, 1, 100)]);
    let ops = log.append(Batch { entries: vec![entry(2, 1, 100), entry(3, 1, 100)], ..Batch::default() });
    let [LogOp::Write { file, offset, bytes }, LogOp::Sync { .. }] = &ops[..] else { panic!("{ops:?}") };
    disk.write(file, *offset, &bytes[..bytes.len() - END_BYTES]).expect("write");
    disk.sync(file).expect("sync");
    disk.crash(1, CrashModel::InOrder);
    let mut log = restart(&disk).log;
    assert_eq!(log.last_index(), 1);
    append(&disk, &mut log, vec![entry(2, 1, 100 - END_BYTES)]);
    disk.crash(1, CrashModel::InOrder);
    assert_eq!(replay(&disk).log.last_index(), 2);
}

/// Rule N1: records of equal size from the file's earlier use stand exactly where the log ends.
#[test]
fn a_recycled_segment_brings_no_old_record_back() {
    let (disk, mut log) = new_log();
    let mut index = 0;
    let mut fill_to = |log: &mut Log, files: &str| {
        loop {
            index += 1;
            let ops = append(&disk, log, vec![entry(index, 1, 200)]);
            if ops.iter().any(|op| matches!(op, LogOp::Rename { to, .. } if to == files)) {
                return index;
            }
        }
    };
    let second = fill_to(&mut log, "wal-00000000000000000002");
    let ops = log.compact(Mark { index: second - 1, term: 1 });
    execute(&*disk, &ops).expect("compact");
    assert_eq!(disk.names(), ["spare-00000000000000000001", "wal-00000000000000000002"]);
    let third = fill_to(&mut log, "wal-00000000000000000003");
    assert_eq!(disk.names(), ["wal-00000000000000000002", "wal-00000000000000000003"], "made of the spare");
    let stale = disk.bytes("wal-00000000000000000003")[1000..].iter().any(|byte| *byte != 0);
    assert!(stale, "old records are still there");
    let replayed = restart(&disk);
    assert_eq!((replayed.log.base().index, replayed.log.last_index()), (second - 1, third));
    let stale = disk.bytes("wal-00000000000000000003")[1000..].iter().any(|byte| *byte != 0);
    assert!(!stale, "the rest of the segment is zeroed before the first append");
}

/// Rule N21: an older segment may hold higher indexes than a newer one.
#[test]
fn a_segment_goes_when_its_entries_are_compacted_or_replaced() {
    let (disk, mut log) = new_log();
    let mut index = 0;
    while disk.names().len() < 3 {
        index += 1;
        append(&disk, &mut log, vec![entry(index, 1, 900)]);
    }
    // The third segment replaces nearly everything.
    let entries = vec![entry(3, 2, 0), entry(4, 2, 0)];
    append_batch(&disk, &mut log, Batch { entries, hard_state: Some(hard_state(2, 3)), ..Batch::default() });
    let kept = log.compact(Mark { index: 1, term: 1 });
    assert_eq!(kept, [], "entry 2 is in the first segment");
    let ops = log.compact(Mark { index: 3, term: 2 });
    execute(&*disk, &ops).expect("compact");
    assert_eq!(disk.names(), ["spare-00000000000000000001", "wal-00000000000000000003"]);
    // The third segment began behind an entry that it then replaced: the base is found by the replaced entry's term.
    let log = restart(&disk).log;
    assert_eq!((log.base(), log.last_index()), (Mark { index: 2, term: 1 }, 4));
    assert_eq!(log.term(3), Some(2));
}

/// Rule N14: the log restarts behind an installed snapshot, and the segments before it may go.
#[test]
fn an_installed_snapshot_leaves_the_old_segments_behind() {
    let (disk, mut log) = new_log();
    for index in 1..20 {
        append(&disk, &mut log, vec![entry(index, 1, 900)]);
    }
    let mark = Mark { index: 500, term: 4 };
    let batch = Batch { mark: Some(mark), hard_state: Some(hard_state(4, 500)), ..Batch::default() };
    append_batch(&disk, &mut log, batch);
    assert_eq!((log.base(), log.last_index(), log.term(500), log.term(19)), (mark, 500, Some(4), None));
    let ops = log.compact(mark);
    execute(&*disk, &ops).expect("compact");
    assert_eq!(disk.names().iter().filter(|name| name.starts_with("wal-")).count(), 1);
    append(&disk, &mut log, vec![entry(501, 4, 10)]);
    disk.crash(3, CrashModel::InOrder);
    let replayed = replay(&disk);
    assert_eq!((replayed.log.base(), replayed.log.last_index()), (mark, 501));
    assert_eq!(replayed.hard_state, hard_state(4, 500));
}

/// Rule N21: when a segment goes, the header of the next one carries its HardState.
#[test]
fn term_and_vote_outlive_the_segment_they_were_written_in() {
    let (disk, mut log) = new_log();
    let voted = HardState { term: 7, vote: 2, commit: 0, ..HardState::default() };
    append_batch(&disk, &mut log, Batch { hard_state: Some(voted.clone()), ..Batch::default() });
    for index in 1..12 {
        append(&disk, &mut log, vec![entry(index, 7, 900)]);
    }
    let ops = log.compact(Mark { index: 10, term: 7 });
    execute(&*disk, &ops).expect("compact");
    assert!(!disk.names().contains(&"wal-00000000000000000001".to_string()));
    assert_eq!(replay(&disk).hard_state, voted);
}

#[test]
fn only_what_lies_below_the_window_is_read_from_the_disk() {
    let (disk, mut log) = new_log();
    for index in 1..30 {
        append(&disk, &mut log, vec![entry(index, 1, 100)]);
    }
    let before = disk.calls(Call::Read);
    assert_eq!(log.entries(27, 30, u64::MAX).expect("readable").len(), 3);
    assert_eq!(disk.calls(Call::Read), before);
    assert_eq!(log.entries(1, 30, u64::MAX).expect("readable").len(), 29);
    assert!(disk.calls(Call::Read) > before);
    assert_eq!(log.entries(5, 30, 0).expect("readable"), [entry(5, 1, 100)], "at least one");
}

/// A batch above the window's bound is readable before it has reached the disk.
#[test]
fn the_newest_batch_is_readable_before_it_is_written() {
    let (disk, mut log) = new_log();
    let entries: Vec<Entry> = (1..=3).map(|index| entry(index, 1, 1000)).collect();
    log.append(Batch { entries: entries.clone(), ..Batch::default() });
    assert_eq!(log.entries(1, 4, u64::MAX).expect("readable"), entries);
    assert_eq!(disk.calls(Call::Read), 0);
}

/// Rule N21: a segment goes only after all earlier ones have gone durably.
#[test]
fn a_crash_while_many_segments_go_leaves_no_gap() {
    for seed in 0..100 {
        let (disk, mut log) = new_log();
        for index in 1..60 {
            append(&disk, &mut log, vec![entry(index, 1, 900)]);
        }
        let ops = log.compact(Mark { index: 58, term: 1 });
        execute(&*disk, &ops[..ops.len() * (seed as usize % 10) / 9]).expect("compact");
        disk.crash(seed, CrashModel::Reordered);
        assert_eq!(restart(&disk).log.last_index(), 59);
    }
}

#[test]
fn damage_below_the_window_is_named_when_it_is_read() {
    let (disk, mut log) = new_log();
    for index in 1..30 {
        append(&disk, &mut log, vec![entry(index, 1, 100)]);
    }
    disk.flip("wal-00000000000000000001", 300, 0);
    let error = log.entries(1, 5, u64::MAX).expect_err("damaged");
    assert!(error.to_string().starts_with("wal-00000000000000000001 at offset "), "{error}");
}

#[test]
fn a_clean_stop_is_seen_until_something_follows() {
    let (disk, mut log) = new_log();
    append_batch(&disk, &mut log, Batch { closing: true, ..Batch::default() });
    let replayed = restart(&disk);
    assert!(replayed.clean_stop);
    let mut log = replayed.log;
    append(&disk, &mut log, vec![entry(1, 1, 0)]);
    assert!(!replay(&disk).clean_stop);
}

#[test]
fn a_missing_segment_is_named() {
    let (disk, _log) = three_segments();
    disk.remove("wal-00000000000000000002").expect("remove");
    assert_corrupt(&disk, "wal-00000000000000000002", "missing");
}

#[test]
fn a_shortened_segment_is_named() {
    let (disk, _log) = three_segments();
    let bytes = disk.bytes("wal-00000000000000000003");
    disk.create("wal-00000000000000000003", 0).expect("empties");
    disk.write("wal-00000000000000000003", 0, &bytes[..4000]).expect("write");
    assert_corrupt(&disk, "wal-00000000000000000003", "the file has 4000 bytes");
}

#[test]
fn another_members_segment_is_named() {
    let (disk, _log) = three_segments();
    let theirs = three_segments_of(MemberIdentity { member_id: 9, ..identity() }).0;
    let name = "wal-00000000000000000003";
    disk.write(name, 0, &theirs.bytes(name)).expect("write");
    assert_corrupt(&disk, name, "another member");
}

#[test]
fn damage_before_a_later_segment_is_never_cut() {
    let (disk, _log) = three_segments();
    let last_used = disk.bytes("wal-00000000000000000001").iter().rposition(|byte| *byte != 0).expect("not empty");
    disk.flip("wal-00000000000000000001", last_used as u64, 1);
    assert_corrupt(&disk, "wal-00000000000000000001", "it was acknowledged");
}

#[test]
fn a_directory_without_a_segment_has_no_log() {
    assert!(Log::replay(CONFIG, Arc::new(SimDisk::new()), &mut |_, _| ()).expect("readable").is_none());
}

#[test]
fn unfinished_files_and_spares_of_another_size_are_removed() {
    let (disk, mut log) = new_log();
    let (name, ops) = log.make_spare().expect("one is missing");
    execute(&*disk, &ops).expect("spare");
    log.spare_made(&name);
    for name in ["spare-00000000000000000002", "spare-00000000000000000003.tmp", "wal-00000000000000000002.tmp"] {
        disk.create(name, 100).expect("create");
    }
    disk.create("snapshot-1-1.tmp", 0).expect("create");
    let mut log = restart(&disk).log;
    assert_eq!(disk.names(), ["snapshot-1-1.tmp", "spare-00000000000000000001", "wal-00000000000000000001"]);
    assert!(log.make_spare().is_none(), "the spare is known");
}

fn assert_corrupt(disk: &Arc<SimDisk>, name: &str, part: &str) {
    match Log::replay(CONFIG, disk.clone(), &mut |_, _| ()).map(|_| ()) {
        Err(LogError::Corrupt { file, what, .. }) => {
            assert_eq!(file, name);
            assert!(what.contains(part) && what.contains("replace this member"), "{what}");
        }
        other => panic!("{other:?} is not about damage in {name}"),
    }
}

fn new_log() -> (Arc<SimDisk>, Log) {
    let disk = Arc::new(SimDisk::new());
    let (log, ops) = Log::create(CONFIG, identity(), disk.clone());
    execute(&*disk, &ops).expect("create");
    (disk, log)
}

fn three_segments() -> (Arc<SimDisk>, Log) {
    three_segments_of(identity())
}

fn three_segments_of(identity: MemberIdentity) -> (Arc<SimDisk>, Log) {
    let disk = Arc::new(SimDisk::new());
    let (mut log, ops) = Log::create(CONFIG, identity, disk.clone());
    execute(&*disk, &ops).expect("create");
    (1..).take_while(|_| disk.names().len() < 3).for_each(|index| {
        append(&disk, &mut log, vec![entry(index, 1, 900)]);
    });
    (disk, log)
}

fn append(disk: &SimDisk, log: &mut Log, entries: Vec<Entry>) -> Vec<LogOp> {
    append_batch(disk, log, Batch { entries, ..Batch::default() })
}

fn append_batch(disk: &SimDisk, log: &mut Log, batch: Batch) -> Vec<LogOp> {
    let ops = log.append(batch);
    execute(disk, &ops).expect("append");
    ops
}

fn replay(disk: &Arc<SimDisk>) -> Replayed {
    Log::replay(CONFIG, disk.clone(), &mut |_, _| ()).expect("readable").expect("there is a log")
}

fn restart(disk: &Arc<SimDisk>) -> Replayed {
    let replayed = replay(disk);
    execute(&**disk, &replayed.repairs).expect("repairs");
    replayed
}

/// Two entries in the first segment, and the steps of a third, for which a segment must be made first.
fn before_a_new_segment() -> (Arc<SimDisk>, Vec<LogOp>) {
    let (disk, mut log) = new_log();
    append(&disk, &mut log, vec![entry(1, 1, 3500)]);
    append(&disk, &mut log, vec![entry(2, 1, 3500)]);
    let entries = vec![entry(3, 1, 3500)];
    let ops = log.append(Batch { entries, hard_state: Some(hard_state(1, 1)), ..Batch::default() });
    assert!(matches!(ops[0], LogOp::Create { .. }), "no spare is there");
    (disk, ops)
}

#[test]
fn a_step_that_found_the_disk_full_is_executed_again_and_a_sync_never() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let (_, steps) = before_a_new_segment();
    let mut waits = 0;
    for (at, step) in steps.iter().enumerate() {
        let is_sync = matches!(step, LogOp::Sync { .. } | LogOp::SyncDir);
        assert_eq!(may_try_again(step, &full), !is_sync, "{step:?}");
        assert!(!may_try_again(step, &io::Error::other("a torn cable")), "{step:?}");
        for seed in 0..20 {
            let (disk, ops) = before_a_new_segment();
            execute(&*disk, &ops[..at]).expect("there is space so far");
            disk.set_full(true);
            let mut done = at;
            if execute_from(&*disk, &ops[..at + 1], &mut done).is_ok() {
                continue;
            }
            waits += 1;
            assert_eq!(done, at, "the step is not done");
            if seed % 2 == 0 {
                // The power fails meanwhile: nothing of the batch was acknowledged, and the part that was written is
                // cut.
                disk.crash(seed, CrashModel::Reordered);
                assert_eq!(restart(&disk).log.last_index(), 2, "{step:?}");
                continue;
            }
            disk.set_full(false);
            execute_from(&*disk, &ops, &mut done).expect("there is space again");
            disk.crash(seed, CrashModel::Nothing);
            assert_eq!(restart(&disk).log.last_index(), 3, "{step:?}");
        }
    }
    assert_eq!(waits, 60, "making the segment, its header, and the batch find no space");
}

fn last_write_end(ops: &[LogOp]) -> usize {
    let end = ops.iter().rev().find_map(|op| match op {
        LogOp::Write { offset, bytes, .. } => Some(*offset as usize + bytes.len()),
        _ => None,
    });
    end.expect("a batch is written")
}

fn identity() -> MemberIdentity {
    MemberIdentity {
        cluster_id: Hex128([1; 16]),
        genesis: Hex128([2; 16]),
        generation: 0,
        member_id: 3,
        incarnation: Hex128([4; 16]),
    }
}

fn entry(index: u64, term: u64, data_bytes: usize) -> Entry {
    Entry { index, term, data: vec![7; data_bytes].into(), ..Entry::default() }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term, commit, ..HardState::default() }
}

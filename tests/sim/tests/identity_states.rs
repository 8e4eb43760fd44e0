//! How a data directory is judged (rule N7): after every crash of a join or an init, and with pieces missing.

use raft::prelude::{Entry, HardState};
use raftkv_api::Hex128;
use raftkv_core::identity::{Found, Identity, IdentityError, find, write, write_ops};
use raftkv_core::log::{Batch, Log, LogConfig, LogOp, Mark, execute};
use raftkv_core::ports::LogDisk;
use raftkv_core::types::MemberIdentity;
use raftkv_sim::disk::{CrashModel, SimDisk};
use std::sync::Arc;

const CONFIG: LogConfig =
    LogConfig { segment_bytes: 8192, batch_bytes_max: 4096, cache_bytes_max: 600, spare_segments: 1 };
const INCARNATION: Hex128 = Hex128([4; 16]);
const WAL: &str = "wal-00000000000000000001";
const SNAPSHOT: &str = "snapshot-00000000000000000001-00000000000000000001";
const IDENTITY: MemberIdentity = MemberIdentity {
    cluster_id: Hex128([1; 16]),
    genesis: Hex128([2; 16]),
    generation: 0,
    member_id: 3,
    incarnation: INCARNATION,
};

#[test]
fn a_directory_is_empty_only_if_it_is_proved_to_be() {
    let disk = disk_with(&["lock", "lost+found", "trash-0404", "identity.tmp"]);
    assert_eq!(found(&disk), Found::Empty);
    for name in ["kv-7", "CURRENT", SNAPSHOT, WAL, "spare-00000000000000000001", "notes.txt"] {
        assert_quarantined(&disk_with(&["lock", name]), &format!("{name} is here, but no identity file"));
    }
}

#[test]
fn every_state_is_found_again() {
    let disk = blank();
    assert_eq!(found(&disk), Found::Blank { incarnation: INCARNATION, cut_short: vec![] });
    run(&disk, &join());
    assert_eq!(found(&disk), Found::Member(IDENTITY));
    write(&*disk, &Identity::Removed { identity: IDENTITY, index: 70, term: 6 }).expect("write");
    disk.crash(0, CrashModel::Reordered);
    assert_eq!(found(&disk), Found::Removed { identity: IDENTITY, index: 70, term: 6 });
}

#[test]
fn a_join_cut_short_anywhere_is_blank_and_leaves_nothing() {
    cut_everywhere(&join());
}

#[test]
fn an_init_cut_short_anywhere_is_blank_and_leaves_nothing() {
    cut_everywhere(&init());
}

/// Fails after each operation, in many ways, and again while the rest of what was cut short is removed.
fn cut_everywhere(ops: &[LogOp]) {
    for executed in 0..=ops.len() {
        for seed in 0..60 {
            let model = if seed % 2 == 0 { CrashModel::InOrder } else { CrashModel::Reordered };
            let disk = blank();
            run(&disk, &ops[..executed]);
            disk.crash(seed, model);
            let cut_short = match found(&disk) {
                Found::Member(_) if executed + 1 >= ops.len() => continue,
                Found::Blank { incarnation: INCARNATION, cut_short } => cut_short,
                other => panic!("after {executed} of {} and {seed}: {other:?} of {:?}", ops.len(), disk.names()),
            };
            assert!(executed < ops.len(), "what was answered is lost");
            run(&disk, &cut_short[..cut_short.len() * (seed as usize % 5) / 4]);
            disk.crash(seed, model);
            let Found::Blank { cut_short, .. } = found(&disk) else { panic!("{:?}", found(&disk)) };
            run(&disk, &cut_short);
            disk.crash(seed, model);
            assert_eq!(disk.names(), ["identity"]);
        }
    }
}

#[test]
fn a_blank_identity_tolerates_no_more_than_a_beginning() {
    let with_entry = blank();
    run(
        &with_entry,
        &join_log(Batch { entries: vec![Entry { index: 1, term: 1, ..Entry::default() }], ..Batch::default() }),
    );
    assert_quarantined(&with_entry, &format!("{WAL} holds records"));

    let voted = blank();
    let hard_state = Some(HardState { term: 1, vote: 1, ..HardState::default() });
    run(&voted, &join_log(Batch { hard_state, ..Batch::default() }));
    assert_quarantined(&voted, &format!("{WAL} holds records"));

    let later_mark = blank();
    run(&later_mark, &join_log(Batch { mark: Some(Mark { index: 9, term: 1 }), ..Batch::default() }));
    assert_quarantined(&later_mark, "a snapshot at 9, which is not here");

    let no_snapshot = blank();
    run(&no_snapshot, &join_log(Batch { mark: Some(Mark { index: 1, term: 1 }), ..Batch::default() }));
    assert_quarantined(&no_snapshot, "a snapshot at 1, which is not here");

    let other = blank();
    run(&other, &Log::create(CONFIG, MemberIdentity { incarnation: Hex128([9; 16]), ..IDENTITY }, other.clone()).1);
    assert_quarantined(&other, "of incarnation 09090909");

    for name in ["kv-7", "spare-00000000000000000001", "wal-00000000000000000002", "snapshot-2-7"] {
        let disk = blank();
        disk.create(name, 0).expect("create");
        assert_quarantined(&disk, &format!("{name} is here, but identity says that the directory is blank"));
    }
}

#[test]
fn a_member_without_its_log_or_with_anothers_is_quarantined() {
    let disk = blank();
    write(&*disk, &Identity::Member(IDENTITY)).expect("write");
    assert_quarantined(&disk, "there is no log");

    let other = blank();
    run(&other, &Log::create(CONFIG, MemberIdentity { member_id: 8, ..IDENTITY }, other.clone()).1);
    write(&*other, &Identity::Member(IDENTITY)).expect("write");
    assert_quarantined(&other, WAL);

    let damaged = member();
    damaged.flip(WAL, 40, 0);
    assert_quarantined(&damaged, "the segment's header is damaged");

    let gap = member();
    gap.create("wal-00000000000000000003", 0).expect("create");
    assert_quarantined(&gap, "wal-00000000000000000002");
}

#[test]
fn a_damaged_identity_is_quarantined() {
    for at in 0..member().bytes("identity").len() as u64 {
        for bit in [0, 5] {
            let disk = member();
            disk.flip("identity", at, bit);
            match find(&*disk) {
                // White space and the case of letters that do not count may change; a format may look like another one.
                Ok(Found::Member(IDENTITY)) | Err(IdentityError::Format(_)) => (),
                Ok(Found::Quarantined { finding, .. }) => assert!(finding.why.starts_with("identity"), "{finding:?}"),
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

fn blank() -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new());
    write(&*disk, &Identity::Blank { incarnation: INCARNATION }).expect("write");
    disk
}

fn member() -> Arc<SimDisk> {
    let disk = blank();
    run(&disk, &join());
    disk
}

fn disk_with(names: &[&str]) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new());
    names.iter().for_each(|name| disk.create(name, 3).expect("create"));
    disk
}

/// The steps of a join: segment 1, then identity Member.
fn join() -> Vec<LogOp> {
    let mut ops = Log::create(CONFIG, IDENTITY, Arc::new(SimDisk::new())).1;
    ops.extend(write_ops(&Identity::Member(IDENTITY)));
    ops
}

/// The steps of an init: segment 1, snapshot 1-1, the batch with the mark, then identity Member.
fn init() -> Vec<LogOp> {
    let (mut log, mut ops) = Log::create(CONFIG, IDENTITY, Arc::new(SimDisk::new()));
    let unfinished = format!("{SNAPSHOT}.tmp");
    ops.extend([
        LogOp::Create { file: unfinished.clone(), len: 100 },
        LogOp::Sync { file: unfinished.clone() },
        LogOp::Rename { from: unfinished, to: SNAPSHOT.to_string() },
        LogOp::SyncDir,
    ]);
    let hard_state = HardState { term: 1, commit: 1, ..HardState::default() };
    let mark = Some(Mark { index: 1, term: 1 });
    ops.extend(log.append(Batch { mark, hard_state: Some(hard_state), ..Batch::default() }));
    ops.extend(write_ops(&Identity::Member(IDENTITY)));
    ops
}

fn join_log(batch: Batch) -> Vec<LogOp> {
    let (mut log, mut ops) = Log::create(CONFIG, IDENTITY, Arc::new(SimDisk::new()));
    ops.extend(log.append(batch));
    ops
}

fn run(disk: &SimDisk, ops: &[LogOp]) {
    execute(disk, ops).expect("the disk is well");
}

fn found(disk: &SimDisk) -> Found {
    find(disk).expect("readable")
}

fn assert_quarantined(disk: &SimDisk, part: &str) {
    match found(disk) {
        Found::Quarantined { finding, .. } => assert!(finding.why.contains(part), "{finding:?}"),
        other => panic!("{other:?}, not quarantined for {part}"),
    }
}

//! Directories of other builds: this build stops with words that say what it met, what it knows and what can go on, and
//! changes nothing. And the identity file of its own format, which is read for ever.
//!
//! What stands here was written by hand, byte by byte, so that no format is checked by the code that wrote it.

use raft::prelude::Entry;
use raftkv_api::Hex128;
use raftkv_core::driver::DriverConfig;
use raftkv_core::identity::{Found, Identity, IdentityError, find, write};
use raftkv_core::log::{Batch, Log, LogConfig, LogError, LogOp, execute};
use raftkv_core::open::{OpenConfig, OpenError, open_member};
use raftkv_core::ports::LogDisk;
use raftkv_core::types::MemberIdentity;
use raftkv_sim::disk::SimDisk;
use raftkv_sim::kv::MemHome;
use std::sync::Arc;

const CONFIG: LogConfig =
    LogConfig { segment_bytes: 8192, batch_bytes_max: 4096, cache_bytes_max: 600, spare_segments: 1 };
const WAL: &str = "wal-00000000000000000001";
const IDENTITY: MemberIdentity = MemberIdentity {
    cluster_id: Hex128([1; 16]),
    genesis: Hex128([2; 16]),
    generation: 0,
    member_id: 3,
    incarnation: Hex128([4; 16]),
};

/// A blank directory's identity file as format 1 had it.
const BLANK_OF_FORMAT_1: &str = r#"{
  "format": 1,
  "crc32c": 238215702,
  "identity": {
    "blank": {
      "incarnation": "04040404040404040404040404040404"
    }
  }
}
"#;

#[test]
fn an_identity_of_format_1_is_refused_with_words_and_left_as_it_is() {
    let words = ["identity has format 1", "an earlier raftkv", "reads format 2", "an empty directory"];
    let blank = Arc::new(SimDisk::new());
    put(&blank, "identity", BLANK_OF_FORMAT_1.as_bytes());
    // What a start would remove if the directory were of this build.
    put(&blank, "identity.tmp", b"x");
    assert_refused(&blank, &words);

    let member = member();
    let text = String::from_utf8(member.bytes("identity")).expect("text");
    put(&member, "identity", text.replace("\"format\": 2", "\"format\": 1").as_bytes());
    assert_refused(&member, &words);
}

#[test]
fn a_newer_identity_is_refused_with_words_and_left_as_it_is() {
    let member = member();
    put(&member, "identity", br#"{"format":3,"identity":{"witness":{}}}"#);
    assert_refused(
        &member,
        &["identity", "format 3", "2 is the newest", "a newer raftkv", "the data are as they were"],
    );
}

#[test]
fn a_log_of_another_format_is_refused_with_words_and_left_as_it_is() {
    let ways: [(u32, &[&str]); 2] = [
        (1, &[WAL, "format 1", "an earlier raftkv", "reads format 2", "an empty directory"]),
        (3, &[WAL, "format 3", "2 is the newest", "a newer raftkv", "the data are as they were"]),
    ];
    for (format, words) in ways {
        let mut preamble = [&b"raftkvWL"[..], &format.to_le_bytes()].concat();
        preamble.extend(crc32c_of(&preamble).to_le_bytes());
        let of_a_member = member();
        of_a_member.write(WAL, 0, &preamble).expect("write");
        assert_refused(&of_a_member, words);
        // A join that another build began, and that was cut short before its identity.
        write(&*of_a_member, &Identity::Blank { incarnation: IDENTITY.incarnation }).expect("write");
        assert_refused(&of_a_member, words);
    }
    let of_none = member();
    let mut preamble = [&b"raftkvWL"[..], &0u32.to_le_bytes()].concat();
    preamble.extend(crc32c_of(&preamble).to_le_bytes());
    of_none.write(WAL, 0, &preamble).expect("write");
    assert!(matches!(find(&*of_none), Ok(Found::Quarantined { .. })), "there never was a format 0");
}

#[test]
fn a_header_of_a_newer_kind_is_refused_with_words_and_left_as_it_is() {
    let member = member();
    let payload = member.bytes(WAL)[32..176].to_vec();
    member.write(WAL, 16, &record(9, &payload, (1, 16), 1)).expect("write");
    assert_refused(&member, &[WAL, "offset 16", "kind 9", "6 is the newest", "a newer raftkv"]);
}

#[test]
fn a_record_of_a_newer_kind_is_never_cut() {
    let (disk, end) = with_one_batch();
    put(&disk, "snapshot-00000000000000000001-00000000000000000009.tmp", b"x");
    let before = disk.bytes(WAL);
    // At the beginning of the next batch, in that batch when its beginning is torn, and in a later one.
    for (offset, batch_no) in [(end, 2), (end + 64, 2), (end + 64, 3)] {
        for kind in [7, 255] {
            put(&disk, WAL, &before);
            disk.write(WAL, offset, &record(kind, b"recovery", (1, offset), batch_no)).expect("write");
            let (kind, at) = (format!("kind {kind}"), format!("offset {offset}"));
            assert_not_opened(&disk, &[WAL, &at, &kind, "6 is the newest", "a newer raftkv"]);
        }
    }
}

/// The positive control: what is no record of this use of the file is cut as ever.
#[test]
fn what_only_looks_like_a_newer_kind_is_cut() {
    let (disk, end) = with_one_batch();
    let before = disk.bytes(WAL);
    for record in [record(7, b"recovery", (1, end + 8), 2), record(7, b"recovery", (2, end), 2)] {
        disk.write(WAL, end, &record).expect("write");
        let replayed = Log::replay(CONFIG, disk.clone(), &mut |_, _| ()).expect("readable").expect("there is a log");
        execute(&*disk, &replayed.repairs).expect("repairs");
        assert_eq!(replayed.log.last_index(), 1);
        assert_eq!(disk.bytes(WAL), before, "what follows the last batch is zero again");
    }
}

#[test]
fn each_state_of_an_identity_stays_what_it_is() {
    let member = r#"
      "cluster_id": "01010101010101010101010101010101",
      "genesis": "02020202020202020202020202020202",
      "generation": 0,
      "member_id": 3,
      "incarnation": "04040404040404040404040404040404""#;
    let nested = format!("\n      \"identity\": {{{}\n      }}", member.replace('\n', "\n  "));
    let why = "its log is damaged".to_string();
    for (identity, crc, name, fields) in [
        (
            Identity::Blank { incarnation: IDENTITY.incarnation },
            238_215_702u32,
            "blank",
            "\n      \"incarnation\": \"04040404040404040404040404040404\"".to_string(),
        ),
        (Identity::Member(IDENTITY), 1_335_629_183, "member", member.to_string()),
        (
            Identity::Removed { identity: IDENTITY, index: 70, term: 6 },
            1_276_813_647,
            "removed",
            format!("{nested},\n      \"index\": 70,\n      \"term\": 6"),
        ),
        (
            Identity::Quarantined { identity: IDENTITY, why: why.clone(), diverged: false },
            1_170_345_452,
            "quarantined",
            format!("{nested},\n      \"why\": \"its log is damaged\""),
        ),
        (
            Identity::Quarantined { identity: IDENTITY, why, diverged: true },
            2_781_176_763,
            "quarantined",
            format!("{nested},\n      \"why\": \"its log is damaged\",\n      \"diverged\": true"),
        ),
    ] {
        let disk = SimDisk::new();
        write(&disk, &identity).expect("write");
        let text = format!(
            "{{\n  \"format\": 2,\n  \"crc32c\": {crc},\n  \"identity\": {{\n    \"{name}\": {{{fields}\n    }}\n  }}\n}}\n"
        );
        assert_eq!(String::from_utf8_lossy(&disk.bytes("identity")), text);
    }
}

/// A member with an empty log.
fn member() -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new());
    let (_log, ops) = Log::create(CONFIG, IDENTITY, disk.clone());
    execute(&*disk, &ops).expect("create");
    write(&*disk, &Identity::Member(IDENTITY)).expect("write");
    assert_eq!(find(&*disk).expect("readable"), Found::Member(IDENTITY));
    disk
}

/// A member with one batch in its log, and where it ends.
fn with_one_batch() -> (Arc<SimDisk>, u64) {
    let disk = Arc::new(SimDisk::new());
    let (mut log, mut ops) = Log::create(CONFIG, IDENTITY, disk.clone());
    let entries = vec![Entry { index: 1, term: 1, data: vec![7; 10].into(), ..Entry::default() }];
    ops.extend(log.append(Batch { entries, ..Batch::default() }));
    execute(&*disk, &ops).expect("append");
    write(&*disk, &Identity::Member(IDENTITY)).expect("write");
    let end = ops.iter().rev().find_map(|op| match op {
        LogOp::Write { offset, bytes, .. } => Some(*offset + bytes.len() as u64),
        _ => None,
    });
    (disk, end.expect("a batch is written"))
}

/// A record of a segment, with a right checksum; `place` is its segment and its offset there.
fn record(kind: u8, payload: &[u8], place: (u64, u64), batch_no: u64) -> Vec<u8> {
    let mut covered = (payload.len() as u32).to_le_bytes().to_vec();
    covered.extend((u64::from(kind) << 56 | batch_no).to_le_bytes());
    covered.extend(payload);
    let crc = crc32c_of(&[&place.0.to_le_bytes()[..], &place.1.to_le_bytes(), &covered].concat());
    [&crc.to_le_bytes()[..], &covered].concat()
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    disk.create(name, 0).expect("empties");
    disk.write(name, 0, bytes).expect("write");
}

fn all_of(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.bytes(&name))).collect()
}

/// The first look at the directory stops the process with these words, and changes nothing.
fn assert_refused(disk: &SimDisk, words: &[&str]) {
    let before = all_of(disk);
    match find(disk) {
        Err(IdentityError::Format(said)) => assert_words(&said.to_string(), words),
        other => panic!("{other:?}, not refused"),
    }
    assert_eq!(all_of(disk), before);
}

/// The opening of the member stops the process with these words, and changes nothing.
fn assert_not_opened(disk: &Arc<SimDisk>, words: &[&str]) {
    let before = all_of(disk);
    let driver =
        DriverConfig { nonce: 1, election_ticks_min: 15, election_ticks_max: 16, snapshot_log_bytes_min: 1 << 20 };
    let (config, logger) = (OpenConfig { log: CONFIG, driver }, slog::Logger::root(slog::Discard, slog::o!()));
    match open_member(&IDENTITY, disk.clone(), &MemHome::new(), &config, &logger, &mut |_, _, _| ()).map(|_| ()) {
        Err(OpenError::Log(LogError::Format(said))) => assert_words(&said.to_string(), words),
        other => panic!("{other:?}, not refused"),
    }
    assert_eq!(all_of(disk), before);
}

fn assert_words(said: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(said.contains(word), "'{word}' is missing: {said}"));
}

/// Computed bit by bit.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

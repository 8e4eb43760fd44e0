//! A data directory as a process opens it: identity, log, snapshots, spares, and unfinished files.

use super::wal;
use crate::archive;
use raftkv_core::driver::DriverConfig;
use raftkv_core::host_port::HostPort;
use raftkv_core::identity::{self, Found, Identity};
use raftkv_core::log::{self, Log};
use raftkv_core::membership::Member;
use raftkv_core::open::{self, OpenConfig, Opened};
use raftkv_core::ports::LogDisk;
use raftkv_core::types::MemberIdentity;
use raftkv_sim::disk::SimDisk;
use raftkv_sim::kv::MemHome;
use std::sync::Arc;

/// File names that mean something to a node.
pub const WORDS: &[&[u8]] = &[
    b"\x18wal-00000000000000000002",
    b"\x18wal-18446744073709551615",
    b"\x18wal-00000000000000000000",
    b"\x1aspare-18446744073709551615",
    b"\x1aspare-00000000000000000001",
    b"\x1cwal-00000000000000000002.tmp",
    b"\x0cidentity.tmp",
    b"\x07CURRENT\x04\x00\x00\x00kv-1",
    b"\x32snapshot-00000000000000000001-00000000000000000001",
    b"\x36snapshot-00000000000000000001-00000000000000000002.tmp",
    b"\x0alost+found",
];

/// Opens the directory as far as that is possible.
pub fn dir(bytes: &[u8]) -> bool {
    let disk = wal::disk_with(&archive::unpack(bytes));
    match identity::find(&*disk) {
        Err(_) | Ok(Found::Quarantined { .. }) => false,
        Ok(Found::Empty) => true,
        Ok(Found::Blank { incarnation, cut_short }) => {
            log::execute(&*disk, &cut_short).expect("memory");
            let blank = Found::Blank { incarnation, cut_short: Vec::new() };
            assert_eq!(identity::find(&*disk).expect("memory"), blank, "what was cut short is gone");
            true
        }
        Ok(Found::Member(identity) | Found::Removed { identity, .. }) => member(&identity, &disk),
    }
}

fn member(identity: &MemberIdentity, disk: &Arc<SimDisk>) -> bool {
    let config = OpenConfig {
        log: wal::CONFIG,
        driver: DriverConfig {
            nonce: 1,
            election_ticks_min: 15,
            election_ticks_max: 16,
            snapshot_log_bytes_min: 1 << 20,
        },
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let home = MemHome::new();
    let opened = open::open_member(identity, disk.clone(), &home, &config, &logger, &mut |_, _, _| {});
    let Ok(Opened { driver, kv, applied }) = opened else { return false };
    let status = driver.status();
    assert!(status.commit <= status.last_index, "commit {} behind {}", status.commit, status.last_index);
    assert!(applied <= status.commit);
    if let Ok(Some(store)) = open::open_kv(&kv, &**disk, &home, &mut |_, _, _| {}) {
        assert_eq!(store.view().applied(), applied);
    }
    let replayed = Log::replay(wal::CONFIG, disk.clone(), &mut |_, _| ()).expect("it was opened");
    wal::check(replayed.expect("it was opened"), disk.clone());
    true
}

/// A disk's files as one input.
fn packed(disk: &SimDisk) -> Vec<u8> {
    let files: Vec<_> = disk.names().into_iter().map(|name| (name.clone().into_bytes(), disk.bytes(&name))).collect();
    archive::pack(&files)
}

/// A blank member, a new one, one that joined, one whose init was cut short, a removed one, one with several segments,
/// and an empty directory.
pub fn seeds() -> Vec<Vec<u8>> {
    let identity = wal::identity();
    let disk = || -> Arc<SimDisk> { Arc::new(SimDisk::new()) };
    let blank = disk();
    identity::write(&*blank, &Identity::Blank { incarnation: identity.incarnation }).expect("memory");
    let peer = HostPort::parse("n1:2380").expect("an address");
    let first = Member { name: "n1".into(), peer, incarnation: identity.incarnation };
    let begun = disk();
    let as_disk: Arc<dyn LogDisk> = begun.clone();
    open::init(&identity, first, 1, &as_disk, wal::CONFIG).expect("memory");
    let joined = disk();
    let as_disk: Arc<dyn LogDisk> = joined.clone();
    open::join(&identity, &as_disk, wal::CONFIG).expect("memory");
    let cut_short = wal::disk_after(0);
    identity::write(&*cut_short, &Identity::Blank { incarnation: identity.incarnation }).expect("memory");
    let removed = wal::disk_with(&archive::unpack(&packed(&begun)));
    identity::write(&*removed, &Identity::Removed { identity, index: 4, term: 1 }).expect("memory");
    let longer = wal::disk_with(&archive::unpack(&packed(&begun)));
    let replayed = Log::replay(wal::CONFIG, longer.clone(), &mut |_, _| ()).expect("good").expect("there");
    log::execute(&*longer, &replayed.repairs).expect("memory");
    let mut log = replayed.log;
    for index in 2..12 {
        let entry = raftkv_sim::lone::put(index, 1, 200);
        let ops = log.append(log::Batch { entries: vec![entry], ..log::Batch::default() });
        log::execute(&*longer, &ops).expect("memory");
    }
    let mut seeds: Vec<_> = [&blank, &begun, &joined, &cut_short, &removed, &longer].map(|disk| packed(disk)).into();
    seeds.push(Vec::new());
    seeds
}

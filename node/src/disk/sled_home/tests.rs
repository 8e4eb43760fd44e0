//! Tests that damage a sled db file by file: a db that opens again must be proved or refused, and never hold wrong
//! data.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::disk::file_disk::FileDisk;
use raftkv_core::driver::DriverConfig;
use raftkv_core::kvstore::testing::{MemFiles, delete, entry, identity, membership, put};
use raftkv_core::kvstore::{Committed, RangeAnswer, RangeQuery, Store, StoreError, claim};
use raftkv_core::limits::{BODY_BYTES_MAX, HEAD_VALUE_BYTES_MAX};
use raftkv_core::open::{self, CURRENT, KvPlan, OpenConfig, OpenError, open_kv, set_kv_aside};
use raftkv_core::snapshot;
use raftkv_core::types::Index;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const NAME: &str = "kv-1";
const ENTRIES: Index = 60;

fn everything() -> RangeQuery {
    RangeQuery { limit: usize::MAX, bytes_max: usize::MAX, ..RangeQuery::default() }
}

fn story() -> Vec<Committed> {
    let command = |index: Index| match index % 5 {
        0 => delete(&format!("key{}", (index - 1) % 7)),
        _ => put(&format!("key{}", index % 7), &vec![index as u8; 37 * index as usize % 9000]),
    };
    (2..=ENTRIES).map(|index| entry(index, &command(index))).collect()
}

/// Applies the story, one entry per batch, and keeps what a reader saw after each.
fn fill(home: &SledHome) -> Vec<RangeAnswer> {
    let mut store = Store::create(home.open(NAME).unwrap(), 1, 1, &membership(1)).unwrap();
    let mut seen = vec![RangeAnswer::default(), store.view().range(&everything()).unwrap()];
    for entry in story() {
        store.apply(&[entry]).unwrap();
        store.flush().unwrap();
        seen.push(store.view().range(&everything()).unwrap());
    }
    seen
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

/// Opens a db that may be damaged: `Some(applied)` if it was proved, and then it must be what it was at that index.
fn survives(dir: &Path, seen: &[RangeAnswer]) -> Option<Index> {
    let disk = SledHome::new(dir).open(NAME).ok()?;
    let claimed = claim(disk.as_ref()).ok()?;
    match Store::open(disk, &mut |_, _| ()) {
        Ok(store) => {
            let applied = store.view().applied();
            assert_eq!(claimed.map(|claim| claim.applied), Some(applied));
            assert_eq!(store.view().range(&everything()).unwrap(), seen[applied as usize]);
            Some(applied)
        }
        Err(StoreError::Io(_) | StoreError::Unproved(_) | StoreError::Newer(_)) => None,
    }
}

#[test]
fn a_db_that_was_closed_opens_again_with_all_it_held() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(dir.path());
    let seen = fill(&home);
    fs::write(dir.path().join(NAME).join("snap.00000000000000FF.generating"), b"torn").unwrap();
    assert_eq!(survives(dir.path(), &seen), Some(ENTRIES));
    assert!(home.open(NAME).unwrap().bytes() > 0);
}

#[test]
fn a_damaged_file_is_never_read_as_good_data() {
    let dir = TempDir::new().unwrap();
    let seen = fill(&SledHome::new(dir.path()));
    let origin = dir.path().join(NAME);
    let mut refused = 0;
    for file in files(&origin) {
        let len = fs::metadata(&file).unwrap().len();
        let name = file.strip_prefix(&origin).unwrap();
        let cuts = [0, 1, len / 3, len / 2, len.saturating_sub(1)].map(Damage::Cut);
        let flips = (0..12).map(|i| Damage::Flip(len * i / 12 + i));
        let zeros = [0, len / 4, len / 2].map(Damage::Zero);
        for damage in cuts.into_iter().chain(flips).chain(zeros) {
            let copy = TempDir::new().unwrap();
            copy_dir(&origin, &copy.path().join(NAME));
            damage.hit(&copy.path().join(NAME).join(name), len);
            refused += usize::from(survives(copy.path(), &seen) != Some(ENTRIES));
        }
    }
    assert!(refused > 0, "the damage was seen at least once");
}

#[derive(Clone, Copy)]
enum Damage {
    Cut(u64),
    Flip(u64),
    Zero(u64),
}

impl Damage {
    fn hit(self, path: &Path, len: u64) {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        match self {
            Damage::Cut(at) => file.set_len(at).unwrap(),
            Damage::Flip(at) if at < len => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            }
            Damage::Zero(at) => file.write_all_at(&vec![0; (len - at).min(4096) as usize], at).unwrap(),
            Damage::Flip(_) => (),
        }
    }
}

/// Rule N14, step 4, with a real db.
#[test]
fn a_snapshot_is_cut_from_sled_and_installed_into_sled() {
    let (dir, files) = (TempDir::new().unwrap(), MemFiles::default());
    let home = SledHome::new(dir.path());
    let seen = fill(&home);
    let mut store = Store::open(home.open(NAME).unwrap(), &mut |_, _| ()).unwrap();
    let meta = snapshot::write(&files, &identity(), &store.freeze(), &mut |_, _| ()).unwrap();
    drop(snapshot::install(&files, &meta, home.open("kv-60").unwrap(), &mut |_, _| ()).unwrap());
    let installed = Store::open(home.open("kv-60").unwrap(), &mut |_, _| ()).unwrap();
    assert_eq!(installed.view().state_hash(), store.view().state_hash());
    assert_eq!(installed.view().range(&everything()).unwrap(), seen[ENTRIES as usize]);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = entries.filter(|name| name.starts_with("kv-")).collect();
    names.sort();
    names
}

#[test]
fn a_db_that_claims_another_index_when_it_is_proved_is_refused() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(dir.path());
    fill(&home);
    let files = MemFiles::default();
    let prove = |applied| open_kv(&KvPlan::Prove { name: NAME.into(), applied }, &files, &home, &mut |_, _, _| ());
    let error = prove(ENTRIES + 1).map(|_| ()).unwrap_err();
    assert!(matches!(&error, StoreError::Unproved(what) if what.contains("claimed applied index 61")), "{error}");
    assert!(prove(ENTRIES).unwrap().is_some());
}

#[test]
fn dbs_of_installations_that_were_cut_short_go_when_another_one_is_in_use() {
    let dir = TempDir::new().unwrap();
    let (disk, home) = (FileDisk::open(dir.path()).unwrap(), SledHome::new(dir.path()));
    let meta = snapshot::write_initial(&disk, &identity(), &membership(1)).unwrap();
    let left = || ["kv-0", "kv-7", ASIDE].map(|name| drop(home.open(name).unwrap()));
    for plan in [KvPlan::Rebuild { meta: Box::new(meta) }, KvPlan::Prove { name: NAME.into(), applied: 1 }] {
        left();
        drop(open_kv(&plan, &disk, &home, &mut |_, _, _| ()).unwrap().unwrap());
        assert_eq!(names(dir.path()), [NAME, ASIDE], "{plan:?}");
    }
}

#[test]
fn the_first_db_that_could_not_be_filled_is_no_obstacle_to_starting_anew() {
    let dir = TempDir::new().unwrap();
    let (disk, home) = (FileDisk::open(dir.path()).unwrap(), SledHome::new(dir.path()));
    drop(home.open("kv-7").unwrap());
    set_kv_aside(&disk, &home).unwrap();
    fs::write(dir.path().join(CURRENT), b"\xff torn").unwrap();
    set_kv_aside(&disk, &home).unwrap();
    assert_eq!(names(dir.path()), ["kv-7"]);
    fs::write(dir.path().join(CURRENT), b"kv-7").unwrap();
    set_kv_aside(&disk, &home).unwrap();
    assert_eq!(names(dir.path()), [ASIDE]);
}

/// A home in which no db opens in time.
struct Stuck;

impl KvHome for Stuck {
    fn open(&self, _name: &str) -> io::Result<Arc<dyn KvDisk>> {
        Err(io::ErrorKind::TimedOut.into())
    }
    fn set_aside(&self, name: &str) -> io::Result<()> {
        panic!("{name} is in use by the thread that still opens it")
    }
    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A thread that hangs in sled writes by path, so it would write into a new db of the same name.
#[test]
fn a_db_that_does_not_open_in_time_is_set_aside_by_a_new_process() {
    let dir = TempDir::new().unwrap();
    let disk: Arc<dyn raftkv_core::ports::LogDisk> = Arc::new(FileDisk::open(dir.path()).unwrap());
    let log = raftkv_core::log::LogConfig {
        segment_bytes: 1 << 20,
        batch_bytes_max: 1 << 16,
        cache_bytes_max: 1 << 16,
        spare_segments: 0,
    };
    let first = membership(1).members[&1].clone();
    open::init(&identity(), first, 1, &disk, log).unwrap();
    fs::write(dir.path().join(CURRENT), b"kv-1").unwrap();
    let driver =
        DriverConfig { nonce: 1, election_ticks_min: 15, election_ticks_max: 16, snapshot_log_bytes_min: 1 << 20 };
    let (config, logger) = (OpenConfig { log, driver }, slog::Logger::root(slog::Discard, slog::o!()));
    let opened = open::open_member(&identity(), disk, &Stuck, &config, &logger, &mut |_, _, _| ());
    assert!(matches!(opened, Err(OpenError::KvStuck(_))));
}

/// Writes values of 1.5 MiB, cut into parts as a head has them, many times, and removes each after the next one. Returns
/// the most files that were beside sled's own, and how many are left.
fn files_beside(disk: &dyn KvDisk, dir: &Path) -> (usize, usize) {
    let parts = BODY_BYTES_MAX / HEAD_VALUE_BYTES_MAX;
    let key = |window: u64, part: usize| [&window.to_be_bytes()[..], &(part as u32).to_be_bytes()].concat();
    let beside = || fs::read_dir(dir.join("blobs")).unwrap().count();
    let mut most = 0;
    for window in 1..=30 {
        let written = (0..parts).map(|part| (key(window, part), Some(vec![window as u8; HEAD_VALUE_BYTES_MAX])));
        let removed = (0..parts).map(|part| (key(window - 1, part), None));
        disk.apply_batch(written.chain(removed).collect()).unwrap();
        disk.idle().unwrap();
        most = most.max(beside());
    }
    disk.apply_batch((0..parts).map(|part| (key(30, part), None)).collect()).unwrap();
    disk.idle().unwrap();
    (most, beside())
}

/// Rule D27.
#[test]
fn a_head_has_no_file_beside_sleds_own() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(dir.path());
    let head = home.open_head("head-1").unwrap();
    assert_eq!(files_beside(head.as_ref(), &dir.path().join("head-1")), (0, 0));
    drop(head);
    let head = home.open_head("head-1").unwrap();
    assert!(head.get(&[0; 12]).unwrap().is_none());
    head.scan(b"", None, &mut |key, _| panic!("{key:?} was removed")).unwrap();
    let (most, _) = files_beside(home.open(NAME).unwrap().as_ref(), &dir.path().join(NAME));
    assert!(most > 0, "with sled's own settings there are such files, or this test shows nothing");
    assert!(home.open_head("../elsewhere").is_err());
}

#[test]
fn what_a_head_was_given_is_a_batch_of_its_own() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(dir.path());
    let head = home.open_head("head-1").unwrap();
    head.apply_batch(vec![(b"k".to_vec(), Some(b"v".to_vec()))]).unwrap();
    head.flush().unwrap();
    let copy = TempDir::new().unwrap();
    copy_dir(&dir.path().join("head-1"), &copy.path().join("head-1"));
    let copied = SledHome::new(copy.path()).open_head("head-1").unwrap();
    assert_eq!(copied.get(b"k").unwrap(), Some(b"v".to_vec()), "nothing was held back");
}

#[test]
fn a_panic_becomes_an_error() {
    let error = guarded(|| -> sled::Result<()> { panic!("page {} is torn", 7) }).unwrap_err();
    assert_eq!(error.to_string(), "sled panicked: page 7 is torn");
}

#[test]
fn setting_aside_keeps_the_last_one_and_removing_nothing_is_fine() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(dir.path());
    for (name, value) in [("kv-1", b"old"), ("kv-2", b"new")] {
        home.open(name).unwrap().apply_batch(vec![(b"k".to_vec(), Some(value.to_vec()))]).unwrap();
        home.set_aside(name).unwrap();
    }
    home.set_aside("kv-3").unwrap();
    assert_eq!(home.open(ASIDE).unwrap().get(b"k").unwrap(), Some(b"new".to_vec()));
    home.remove(ASIDE).unwrap();
    home.remove(ASIDE).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(home.open("../elsewhere").is_err());
}

#[test]
fn ranges_are_half_open_and_batches_write_and_remove() {
    let dir = TempDir::new().unwrap();
    let disk = SledHome::new(dir.path()).open(NAME).unwrap();
    let write = |key: &str| (key.as_bytes().to_vec(), Some(b"v".to_vec()));
    disk.apply_batch(vec![write("a"), write("b"), write("c")]).unwrap();
    disk.apply_batch(vec![(b"b".to_vec(), None), write("d")]).unwrap();
    let keys = |start: &[u8], end: Option<&[u8]>| {
        let mut keys = Vec::new();
        disk.scan(start, end, &mut |key, _| {
            keys.push(String::from_utf8(key.to_vec()).unwrap());
            keys.len() < 2
        })
        .unwrap();
        keys
    };
    assert_eq!(keys(b"", Some(b"c")), ["a"]);
    assert_eq!(keys(b"a", None), ["a", "c"]);
    assert!(keys(b"d", Some(b"a")).is_empty());
    disk.sync().unwrap();
}

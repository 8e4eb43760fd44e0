//! The kv dbs of one simulated node: they are in memory, apply each batch whole or not at all, and can be trusted after
//! a crash no more than sled.
//!
//! A [`MemHome`] is what stays of a node between its runs. [`MemHome::crash`] ends the run: from then on handles opened
//! before return only errors, and each db may have lost any number of its last batches, flushed or not, may hold a
//! wrong byte, or may be gone. The design says that none of this may lose an acknowledged write; the simulator puts
//! that to the test.

use raftkv_core::kvstore::write_behind::{Gathers, WriteBehind};
use raftkv_core::ports::{KvDisk, KvHome};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A crash can take back this many batches; older ones are lost only with the whole db.
const UNDO_BATCHES_MAX: usize = 512;
/// These are small, so that a run sees every case.
const GATHERS: Gathers = Gathers { bytes: 2048, batches: 8, bytes_max: 8192 };
/// Name of the one db that is kept although it could not be trusted.
const ASIDE: &str = "kv-aside";

/// What a crash did to one db.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// This many of the last batches are as if they had never been.
    LostBatches(usize),
    /// One byte of one record is wrong.
    Corrupted,
    /// The whole db is gone.
    LostAll,
}

/// The dbs of one node's data directory, by name.
#[derive(Default)]
pub struct MemHome {
    dbs: Mutex<BTreeMap<String, Arc<Mutex<Db>>>>,
    run: Arc<AtomicU64>,
}

type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Clone, Default)]
struct Db {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    /// For each of the last batches, what its keys held before it; newest last.
    undo: VecDeque<Batch>,
}

impl MemHome {
    /// An empty data directory.
    pub fn new() -> MemHome {
        MemHome::default()
    }

    /// A db without the layer that gathers batches.
    fn plain(&self, name: &str) -> MemKv {
        let db = self.dbs().entry(name.to_string()).or_default().clone();
        MemKv { db, run: self.run.clone(), opened_in: self.run.load(Ordering::Relaxed) }
    }

    /// The node dies. Each db draws its own damage from `seed`; the result says which, by name.
    pub fn crash(&self, seed: u64) -> Vec<(String, Damage)> {
        let mut random = SplitMix(seed);
        let names: Vec<String> = self.dbs().keys().cloned().collect();
        let drawn = names.into_iter().map(|name| {
            let batches = self.dbs().get(&name).map_or(0, |db| lock(db).undo.len());
            let damage = match random.below(20) {
                0..=7 => Damage::None,
                8..=12 => Damage::LostBatches(random.below(4).min(batches)),
                13..=16 => Damage::LostBatches(random.below(batches + 1)),
                17..=18 => Damage::Corrupted,
                _ => Damage::LostAll,
            };
            (name, damage)
        });
        let drawn: Vec<(String, Damage)> = drawn.collect();
        self.end_run();
        for (name, damage) in &drawn {
            self.damage(name, *damage, random.next());
        }
        drawn
    }

    /// A copy of all dbs.
    pub fn copy(&self) -> MemHome {
        let copied = |(name, db): (&String, &Arc<Mutex<Db>>)| (name.clone(), Arc::new(Mutex::new(lock(db).clone())));
        MemHome { dbs: Mutex::new(self.dbs().iter().map(copied).collect()), run: Arc::default() }
    }

    /// The node dies or ends, and its dbs stay as they are.
    pub fn end_run(&self) {
        self.run.fetch_add(1, Ordering::Relaxed);
    }

    /// Does the given damage to a db that nobody has open; `seed` picks the byte that is corrupted.
    pub fn damage(&self, name: &str, damage: Damage, seed: u64) {
        let Some(db) = self.dbs().get(name).cloned() else { return };
        match damage {
            Damage::None => (),
            Damage::LostBatches(count) => (0..count).for_each(|_| lock(&db).take_back()),
            Damage::Corrupted => lock(&db).corrupt(&mut SplitMix(seed)),
            Damage::LostAll => drop(self.dbs().remove(name)),
        }
    }

    /// Names of the dbs that exist.
    pub fn names(&self) -> Vec<String> {
        self.dbs().keys().cloned().collect()
    }

    fn dbs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Db>>>> {
        self.dbs.lock().expect("nothing panics under this lock")
    }
}

fn lock(db: &Mutex<Db>) -> MutexGuard<'_, Db> {
    db.lock().expect("nothing panics under this lock")
}

impl KvHome for MemHome {
    fn open(&self, name: &str) -> io::Result<Arc<dyn KvDisk>> {
        // Every other run has no layer that gathers batches: it would hide a store that splits one batch into two
        // writes.
        Ok(match self.run.load(Ordering::Relaxed) % 2 {
            0 => Arc::new(self.plain(name)),
            _ => Arc::new(WriteBehind::new(self.plain(name), GATHERS)),
        })
    }

    fn set_aside(&self, name: &str) -> io::Result<()> {
        let mut dbs = self.dbs();
        if let Some(db) = dbs.remove(name) {
            dbs.insert(ASIDE.to_string(), db);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dbs().remove(name);
        Ok(())
    }
}

impl Db {
    fn write(&mut self, batch: Batch) {
        let mut before = Vec::with_capacity(batch.len());
        for (key, value) in batch {
            let old = match value {
                Some(value) => self.map.insert(key.clone(), value),
                None => self.map.remove(&key),
            };
            before.push((key, old));
        }
        if self.undo.len() == UNDO_BATCHES_MAX {
            self.undo.pop_front();
        }
        self.undo.push_back(before);
    }

    fn take_back(&mut self) {
        // Backwards, since a batch may write a key twice.
        for (key, old) in self.undo.pop_back().into_iter().flatten().rev() {
            match old {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
    }

    fn corrupt(&mut self, random: &mut SplitMix) {
        let at = random.below(self.map.len().max(1));
        let Some(value) = self.map.values_mut().nth(at).filter(|value| !value.is_empty()) else { return };
        let byte = random.below(value.len());
        value[byte] ^= 1 << random.below(8);
    }
}

/// An open db.
struct MemKv {
    db: Arc<Mutex<Db>>,
    run: Arc<AtomicU64>,
    opened_in: u64,
}

impl MemKv {
    fn db(&self) -> io::Result<MutexGuard<'_, Db>> {
        if self.run.load(Ordering::Relaxed) != self.opened_in {
            return Err(io::Error::other("opened before the crash"));
        }
        Ok(lock(&self.db))
    }
}

impl KvDisk for MemKv {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.db()?.map.get(key).cloned())
    }

    /// One key at a time, as in sled: a scan is no snapshot, and can see writes that come meanwhile.
    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let mut from = Bound::Included(start.to_vec());
        loop {
            let next = self.db()?.map.range((from, Bound::Unbounded)).next().map(|(k, v)| (k.clone(), v.clone()));
            match next.filter(|(key, _)| end.is_none_or(|end| key.as_slice() < end)) {
                Some((key, value)) if visit(&key, &value) => from = Bound::Excluded(key),
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn apply_batch(&self, batch: Batch) -> io::Result<()> {
        self.db()?.write(batch);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.db().map(|_| ())
    }

    fn bytes(&self) -> u64 {
        lock(&self.db).map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

/// SplitMix64: each crash has its own stream, so that a seed means the same whatever else draws random numbers.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raftkv_api::Hex128;
    use raftkv_core::host_port::HostPort;
    use raftkv_core::kvstore::{Command, Committed, Condition, Store, StoreError, claim};
    use raftkv_core::membership::{Member, Membership};

    const LAST: u64 = 40;

    fn home() -> MemHome {
        let home = MemHome::new();
        let peer = HostPort::parse("n1:2380").expect("an address");
        let member = Member { name: "n1".into(), peer, incarnation: Hex128([1; 16]) };
        let disk = Arc::new(home.plain("kv-1"));
        let mut store = Store::create(disk, 1, 1, &Membership::first(member, 1)).expect("it is empty");
        for index in 2..=LAST {
            let key = Bytes::from(format!("key{}", index % 7));
            let put = Command::Put { key, value: Bytes::from(index.to_string()), condition: Condition::None };
            store.apply(&[Committed::Normal { index, term: 1, request: None, data: put.encode() }]).expect("memory");
            store.flush().expect("memory");
        }
        home
    }

    /// `Some(applied)` when the db's content is proved.
    fn open(home: &MemHome) -> Option<u64> {
        let disk = Arc::new(home.plain("kv-1"));
        match Store::open(disk.clone(), &mut |_, _| ()) {
            Ok(store) => {
                let applied = store.view().applied();
                assert_eq!(store.view().revision(), applied);
                assert_eq!(claim(disk.as_ref()).expect("memory").map(|claim| claim.applied), Some(applied));
                Some(applied)
            }
            Err(StoreError::Unproved(_)) => None,
            Err(error @ (StoreError::Io(_) | StoreError::Newer(_))) => panic!("{error}"),
        }
    }

    #[test]
    fn a_crash_loses_whole_batches_from_the_end_or_is_found_out() {
        let mut drawn = Vec::new();
        for seed in 0..200 {
            let home = home();
            let damage = home.crash(seed);
            assert_eq!(damage[0].0, "kv-1");
            let expected = match damage[0].1 {
                Damage::None => Some(LAST),
                Damage::LostBatches(count) => LAST.checked_sub(count as u64).filter(|applied| *applied > 0),
                Damage::Corrupted | Damage::LostAll => None,
            };
            assert_eq!(open(&home), expected, "seed {seed}: {:?}", damage[0].1);
            drawn.push(damage[0].1);
        }
        for wanted in [Damage::None, Damage::LostBatches(1), Damage::Corrupted, Damage::LostAll] {
            assert!(drawn.contains(&wanted), "{wanted:?} was never drawn");
        }
        assert!(drawn.iter().any(|damage| matches!(damage, Damage::LostBatches(10..))));
    }

    #[test]
    fn one_seed_is_one_crash() {
        assert_eq!(home().crash(7), home().crash(7));
    }

    #[test]
    fn a_dead_run_reads_and_writes_nothing() {
        let home = home();
        let old = Arc::new(home.plain("kv-1"));
        home.end_run();
        assert!(old.get(b"k").is_err() && old.apply_batch(vec![]).is_err() && old.flush().is_err());
        assert_eq!(open(&home), Some(LAST));
    }

    #[test]
    fn one_db_is_kept_aside() {
        let home = home();
        home.set_aside("kv-1").expect("memory");
        home.set_aside("kv-1").expect("nothing to do");
        home.open("kv-2").expect("memory");
        home.set_aside("kv-2").expect("memory");
        assert_eq!(home.names(), [ASIDE]);
        home.remove(ASIDE).expect("memory");
        home.remove(ASIDE).expect("nothing to do");
        assert!(home.names().is_empty());
    }
}

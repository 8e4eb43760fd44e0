//! One store over simulated disks, without raft: entries of a log that never fails are applied, its jobs and sets are
//! done when the seed says, and it crashes at any call, and opens again.
//!
//! ```text
//! Log (entries, and what each key was at each revision) ──► Solo: store, SimDisk, MemHome ──► compared at each step
//! ```
//!
//! Whatever was lost with a crash must be made good by the log behind the newest durable manifest, since the log forgets
//! what is before it.

use crate::disk::{Call, CrashModel, SimDisk, Trap};
use crate::kv::{Damage, MemHome};
use crate::rng::Rng;
use bytes::Bytes;
use raftkv_api::{Hex128, StateHash};
use raftkv_core::host_port::HostPort;
use raftkv_core::kvstore::on_segments::{Config, Done, Job, Start, Store, write_initial};
use raftkv_core::kvstore::{Command, Committed, Condition, Outcome, RangeQuery, ReadError, StoreError};
use raftkv_core::membership::{Member, Membership};
use raftkv_core::ports::{KvDisk, KvHome};
use raftkv_core::segment::file::SegmentError;
use raftkv_core::types::{Index, MemberIdentity, RequestId, Revision};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What a key was from a revision on; `None` is deleted.
type Version = (Revision, Option<(Bytes, Revision, u64)>);

/// The log, and the model of what it does. Index 1 is the beginning of a cluster.
pub struct Log {
    entries: Vec<Committed>,
    outcomes: Vec<Option<Outcome>>,
    keys: BTreeMap<Bytes, Vec<Version>>,
    revision: Revision,
    compacted: Revision,
    /// What stores showed at each applied index.
    seen: BTreeMap<Index, (StateHash, (u64, Hex128))>,
}

const KEYS: u64 = 12;
/// Bytes of the largest value.
const LARGEST: u64 = 9000;

impl Default for Log {
    fn default() -> Log {
        Log {
            entries: Vec::new(),
            outcomes: Vec::new(),
            keys: BTreeMap::new(),
            revision: 1,
            compacted: 0,
            seen: BTreeMap::new(),
        }
    }
}

impl Log {
    /// Index of the last entry.
    pub fn last(&self) -> Index {
        1 + self.entries.len() as Index
    }

    /// Appends a random entry.
    pub fn grow(&mut self, rng: &mut Rng) {
        let (index, term) = (self.last() + 1, 1 + self.last() / 40);
        if rng.chance(20) {
            let membership = Arc::new(membership(index));
            self.entries.push(Committed::Conf { index, term, membership });
            self.outcomes.push(None);
            return;
        }
        let key = Bytes::from(format!("key{}", rng.below(KEYS)));
        let command = match rng.below(100) {
            0..=4 => Command::Compact { revision: rng.between(1, self.revision + 2) },
            5..=29 => Command::Delete { key, condition: Condition::None },
            _ => {
                let len = if rng.chance(30) { rng.between(2000, LARGEST) } else { rng.below(300) };
                Command::Put { key, value: vec![index as u8; len as usize].into(), condition: Condition::None }
            }
        };
        let data = if rng.chance(50) { Bytes::new() } else { command.encode() };
        let outcome = (!data.is_empty()).then(|| self.command(&command));
        self.outcomes.push(outcome);
        let request = Some(RequestId { origin: 1, nonce: 1, seq: index });
        self.entries.push(Committed::Normal { index, term, request, data });
    }

    /// Appends a write, and a compaction of all before it.
    pub fn compact_all(&mut self) {
        self.push(&Command::Put { key: "key0".into(), value: "v".into(), condition: Condition::None });
        self.push(&Command::Compact { revision: self.revision });
    }

    /// Deletes all keys, and compacts twice, with writes between: what was deleted at last is dead then.
    pub fn delete_all(&mut self) {
        for nth in 0..KEYS {
            self.push(&Command::Delete { key: format!("key{nth}").into(), condition: Condition::None });
        }
        self.compact_all();
        self.compact_all();
    }

    fn push(&mut self, command: &Command) {
        let (index, term) = (self.last() + 1, 1 + self.last() / 40);
        let outcome = Some(self.command(command));
        self.outcomes.push(outcome);
        let request = Some(RequestId { origin: 1, nonce: 1, seq: index });
        self.entries.push(Committed::Normal { index, term, request, data: command.encode() });
    }

    fn command(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Put { key, value, .. } => {
                self.revision += 1;
                let before = self.newest(key);
                let (create, version) = before.map_or((self.revision, 1), |(_, create, version)| (create, version + 1));
                let versions = self.keys.entry(key.clone()).or_default();
                versions.push((self.revision, Some((value.clone(), create, version))));
                Outcome::Put { revision: self.revision, version }
            }
            Command::Delete { key, .. } => {
                let deleted = self.newest(key).is_some();
                if deleted {
                    self.revision += 1;
                    self.keys.entry(key.clone()).or_default().push((self.revision, None));
                }
                Outcome::Deleted { revision: self.revision, deleted }
            }
            Command::Compact { revision } => {
                if (self.compacted + 1..=self.revision).contains(revision) {
                    self.compacted = *revision;
                }
                Outcome::Compacted { revision: self.compacted }
            }
        }
    }

    fn membership_at(&self, index: Index) -> Membership {
        let applied = self.entries.iter().take((index - 1) as usize);
        let of = |entry: &Committed| match entry {
            Committed::Conf { membership, .. } => Some((**membership).clone()),
            Committed::Normal { .. } => None,
        };
        applied.filter_map(of).next_back().unwrap_or_else(|| membership(1))
    }

    fn newest(&self, key: &Bytes) -> Option<(Bytes, Revision, u64)> {
        self.keys.get(key)?.last()?.1.clone()
    }

    fn at(&self, key: &Bytes, revision: Revision) -> Option<(Bytes, Revision, u64)> {
        let versions = self.keys.get(key)?;
        versions[..versions.partition_point(|(at, _)| *at <= revision)].last()?.1.clone()
    }
}

fn identity() -> MemberIdentity {
    let id = |byte| Hex128([byte; 16]);
    MemberIdentity { cluster_id: id(1), genesis: id(2), generation: 0, member_id: 1, incarnation: id(3) }
}

fn membership(conf_index: Index) -> Membership {
    let member = Member {
        name: "n1".into(),
        peer: HostPort::parse("n1:2380").expect("it is one"),
        incarnation: Hex128([3; 16]),
    };
    Membership { conf_index, ..Membership::first(member, 1) }
}

/// A store, and what it stands on.
pub struct Solo {
    pub disk: Arc<SimDisk>,
    home: MemHome,
    /// The number of the head in use.
    head: u64,
    kv: Option<Arc<dyn KvDisk>>,
    pub store: Option<Store>,
    config: Config,
    /// Index of the newest manifest that was said to be durable: the log has forgotten what is before it.
    forgot: Index,
    /// The applied index of the last set that sled has.
    given: Index,
    /// The highest applied index there ever was.
    reached: Index,
    /// Whether sled is as it was when the process ended.
    is_intact: bool,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Solo {
    /// A new cluster's first member.
    pub fn new(config: Config) -> Solo {
        let disk = Arc::new(SimDisk::new());
        write_initial(&identity(), &*disk, (1, 1), &membership(1)).expect("the disk is good");
        let mut solo = Solo {
            disk,
            home: MemHome::new(),
            head: 0,
            kv: None,
            store: None,
            config,
            forgot: 1,
            given: 0,
            reached: 1,
            is_intact: false,
            counts: BTreeMap::new(),
        };
        solo.open().expect("the disk is good");
        solo
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn name(&self) -> String {
        format!("head-{}", self.head)
    }

    /// Opens what the disks hold. An error is the disk's.
    pub fn open(&mut self) -> Result<(), StoreError> {
        let kv = self.home.open(&self.name()).expect("the simulated home does not fail");
        let start = Start::find(&identity(), &*self.disk, Some(&*kv))?.expect("a member has a manifest");
        let claimed = start.claimed();
        assert!(start.manifest_index() >= self.forgot, "a durable manifest is gone");
        assert!((self.forgot..=self.reached).contains(&claimed.applied), "from {} on it can't go on", claimed.applied);
        match start.keeps_head() {
            Ok(()) => {
                (self.kv, self.given) = (Some(kv), claimed.applied);
                self.count("claims believed");
            }
            Err(why) => {
                let is_owed = self.is_intact && self.given >= start.manifest_index();
                assert!(!is_owed, "the claim at {} does not prove itself: {why}", self.given);
                self.home.remove(&self.name()).expect("the simulated home does not fail");
                (self.head, self.given) = (self.head + 1, 0);
                self.kv = Some(self.home.open(&self.name()).expect("the simulated home does not fail"));
                self.count("claims not believed");
            }
        }
        let store = start.open(self.disk.clone(), self.config, &mut |_, _| ())?;
        assert_eq!((store.view().applied(), store.membership()), (claimed.applied, &claimed.membership));
        self.store = Some(store);
        Ok(())
    }

    /// Applies some of the entries that follow, and compares what became of them.
    pub fn apply(&mut self, log: &mut Log, most: u64) {
        let store = self.store.as_mut().expect("it is open");
        if store.must_wait() {
            return self.count("applies that waited");
        }
        let applied = store.view().applied();
        let from = (applied - 1) as usize;
        let upto = log.entries.len().min(from + most as usize);
        if from == upto {
            return;
        }
        let results = store.apply(&log.entries[from..upto]).expect("they are commands");
        for (result, outcome) in results.iter().zip(&log.outcomes[from..upto]) {
            assert_eq!(result.outcome, *outcome, "at index {}", result.index);
        }
        self.reached = self.reached.max(upto as Index + 1);
        self.show(log);
    }

    /// What it shows at an applied index is what every store shows there.
    fn show(&self, log: &mut Log) {
        let view = self.store.as_ref().expect("it is open").view();
        let hash = view.state_hash();
        let (keys, sum) = view.keys_sum();
        let shown = (hash, (keys, sum.to_hex()));
        let seen = log.seen.entry(hash.applied).or_insert(shown);
        assert_eq!(*seen, shown);
        assert_eq!(view.keys(), keys);
        let store = self.store.as_ref().expect("it is open");
        assert_eq!(*store.membership(), log.membership_at(hash.applied));
    }

    /// Compares a read of one key, and a range, at a random revision.
    pub fn read(&mut self, log: &Log, rng: &mut Rng) {
        let view = self.store.as_ref().expect("it is open").view();
        let (revision, oldest) = (view.revision(), view.compacted());
        let at = rng.between(0, revision);
        let key = Bytes::from(format!("key{}", rng.below(KEYS)));
        match view.get(&key, at) {
            Ok((read, found)) => {
                assert_eq!(read, if at == 0 { revision } else { at });
                let found = found.map(|record| (record.value, record.create_revision, record.version));
                assert_eq!(found, log.at(&key, read), "{key:?} at revision {read}");
            }
            Err(ReadError::Compacted { .. }) => assert!(at < oldest),
            Err(error) => panic!("{key:?} at revision {at}: {error}"),
        }
        let all = RangeQuery { revision: at, limit: 100, bytes_max: usize::MAX, ..RangeQuery::default() };
        if let Ok(answer) = view.range(&all) {
            let model = |key: &Bytes| log.at(key, answer.revision).map(|(value, ..)| (key.clone(), value));
            let model: Vec<_> = log.keys.keys().filter_map(model).collect();
            let found: Vec<_> = answer.records.into_iter().map(|record| (record.key, record.value)).collect();
            assert_eq!(found, model, "all at revision {}", answer.revision);
        }
    }

    /// Gives sled what it lacks.
    pub fn give(&mut self) {
        let store = self.store.as_mut().expect("it is open");
        let set = store.next_set();
        self.given = store.view().applied();
        let kv = self.kv.as_ref().expect("it is open");
        kv.apply_batch(set).expect("the simulated kv db does not fail");
        kv.idle().expect("the simulated kv db does not fail");
        self.count("sets");
    }

    /// Does the next job, if there is one. False when the disk failed.
    pub fn job(&mut self) -> bool {
        match self.try_job() {
            Ok(()) => true,
            Err(SegmentError::Io(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn try_job(&mut self) -> Result<(), SegmentError> {
        let store = self.store.as_mut().expect("it is open");
        let Some(job) = store.next_job() else { return Ok(()) };
        let what = match &job {
            Job::Prepare { .. } => "files prepared",
            Job::Seal(_) => "windows sealed",
            Job::Cut(_) => "manifests",
            Job::Rewrite(_) => "groups written anew",
            Job::Unlink { .. } => "files unlinked",
        };
        let done = job.run(&*self.disk)?;
        if let Done::Cut(cut) = &done {
            self.forgot = cut.index();
        }
        store.done(done);
        self.count(what);
        Ok(())
    }

    /// Applies the rest of the log and carries out its compactions, until that meets damage.
    fn compacts_until_damage(&mut self, log: &mut Log) {
        for _ in 0..200 {
            self.apply(log, 50);
            let store = self.store.as_mut().expect("it is open");
            if store.wants_cut() {
                store.cut();
            }
            match self.try_job() {
                Ok(()) => self.step(),
                Err(SegmentError::Damaged(_)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads all keys at some revisions: what is served must be right. Returns how many reads failed.
    fn reads_that_fail(&self, log: &Log, rng: &mut Rng) -> u64 {
        let view = self.store.as_ref().expect("it is open").view();
        let mut failed = 0;
        for revision in [0, rng.between(1, view.revision()), rng.between(1, view.revision())] {
            for key in log.keys.keys() {
                match view.get(key, revision) {
                    Ok((read, found)) => {
                        let found = found.map(|record| (record.value, record.create_revision, record.version));
                        assert_eq!(found, log.at(key, read), "{key:?} at revision {read}, with a bit flipped");
                    }
                    Err(ReadError::Compacted { .. }) => {}
                    Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => failed += 1,
                    Err(error) => panic!("{key:?} at revision {revision}: {error}"),
                }
            }
        }
        failed
    }

    /// Takes a step of compaction, if there is one to take.
    pub fn step(&mut self) {
        let store = self.store.as_mut().expect("it is open");
        if store.has_steps() {
            store.step().expect("nothing is damaged");
            self.count("steps");
        }
    }

    /// Does everything that is left to do, on a disk that does not fail.
    pub fn settle(&mut self, log: &mut Log) {
        self.disk.take_trap();
        loop {
            self.apply(log, 50);
            let store = self.store.as_mut().expect("it is open");
            let before = (store.view().applied(), store.has_steps(), store.wants_cut());
            if before == (log.last(), false, false) && !store.has_jobs() {
                break;
            }
            if store.wants_cut() {
                store.cut();
            }
            assert!(self.job(), "nothing fails here");
            self.step();
        }
    }

    /// The process dies: of power loss, or alone.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.store = None;
        self.kv = None;
        self.disk.take_trap();
        if rng.chance(300) {
            self.disk.kill();
            self.home.end_run();
            self.is_intact = true;
            self.count("kills");
            return;
        }
        let models = [CrashModel::Nothing, CrashModel::InOrder, CrashModel::Torn, CrashModel::Reordered];
        self.disk.crash(rng.bits(), models[rng.index(models.len())]);
        let damage = self.home.crash(rng.bits());
        self.is_intact = damage.iter().all(|(_, damage)| *damage == Damage::None);
        for (_, damage) in damage {
            self.count(match damage {
                Damage::None => "heads kept",
                Damage::LostBatches(_) => "heads put back",
                Damage::Corrupted => "heads damaged",
                Damage::LostAll => "heads lost",
            });
        }
    }

    /// Every file is one that something names (rule D21).
    pub fn check_names(&self) {
        let names = self.disk.names();
        let manifests = names.iter().filter(|name| name.starts_with("snapshot-")).count();
        assert_eq!(manifests, 1, "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("snapshot-") || name.starts_with("kv-")), "{names:?}");
    }
}

/// A quiet store with all that there is: segments, a prefix, a window, a compaction, deleted keys.
fn quiet(rng: &mut Rng, log: &mut Log) -> Solo {
    let mut solo = Solo::new(Config { window_bytes: 2500, set_bytes: 1, set_batches: 1, small_bytes: 600 });
    for _ in 0..12 {
        (0..10).for_each(|_| log.grow(rng));
        while solo.store.as_ref().expect("it is open").view().applied() < log.last() {
            solo.apply(log, 5);
            (0..3).for_each(|_| assert!(solo.job(), "nothing fails here"));
        }
        solo.store.as_mut().expect("it is open").cut();
        (0..4).for_each(|_| solo.step());
        (0..6).for_each(|_| assert!(solo.job(), "nothing fails here"));
        (0..5).for_each(|_| log.grow(rng));
        solo.apply(log, 5);
        solo.give();
    }
    solo
}

/// Flips bits of the files of a quiet store, one at a time. A store that opens with one serves what is right, or fails
/// the read. Returns how many bits were flipped, how often it did not open, and how many reads failed.
pub fn flips(seed: u64, count: u64) -> (u64, u64, u64) {
    let (mut rng, mut log) = (Rng::new(seed), Log::default());
    let quiet = quiet(&mut rng, &mut log);
    log.compact_all();
    let (mut closed, mut failed) = (0, 0);
    for _ in 0..count {
        let mut solo = Solo { disk: Arc::new(quiet.disk.copy(1, CrashModel::Nothing)), ..Solo::new(quiet.config) };
        (solo.home, solo.head, solo.reached) = (quiet.home.copy(), quiet.head, quiet.reached);
        let names = solo.disk.names();
        let name = rng.pick(&names).expect("there are files").clone();
        let len = solo.disk.bytes(&name).len() as u64;
        if len > 0 {
            solo.disk.flip(&name, rng.below(len), rng.below(8) as u8);
        }
        match solo.open() {
            Ok(()) => {}
            Err(StoreError::Unproved(_)) => {
                closed += 1;
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        }
        failed += solo.reads_that_fail(&log, &mut rng);
        // What is damaged is found by a compaction, too, and not written anew.
        solo.compacts_until_damage(&mut log);
        failed += solo.reads_that_fail(&log, &mut rng);
    }
    (count, closed, failed)
}

/// Steps of a run.
pub const STEPS: u64 = 600;

/// Runs one seed, and says how often what happened.
pub fn run(seed: u64, steps: u64) -> BTreeMap<&'static str, u64> {
    let mut rng = Rng::new(seed);
    let config = Config {
        window_bytes: rng.between(200, 6000) as u32,
        set_bytes: rng.between(1, 3000),
        set_batches: rng.between(1, 20),
        small_bytes: rng.below(2000),
    };
    let mut log = Log::default();
    let mut solo = Solo::new(config);
    for _ in 0..steps {
        for _ in 0..rng.below(4) {
            log.grow(&mut rng);
        }
        let alive = match rng.below(100) {
            0..=39 => {
                solo.apply(&mut log, rng.between(1, 8));
                true
            }
            40..=54 => solo.job(),
            55..=59 => {
                (0..rng.between(1, 3)).for_each(|_| solo.step());
                true
            }
            60..=74 => {
                if rng.chance(300) || solo.store.as_ref().is_some_and(Store::set_is_due) {
                    solo.give();
                }
                true
            }
            75..=79 => {
                let store = solo.store.as_mut().expect("it is open");
                if rng.chance(300) || store.wants_cut() {
                    store.cut();
                }
                true
            }
            80..=93 => {
                solo.read(&log, &mut rng);
                true
            }
            94..=96 => {
                lay_trap(&solo.disk, &mut rng);
                true
            }
            _ => false,
        };
        if !alive {
            reopen(&mut solo, &mut rng);
            solo.show(&mut log);
        }
    }
    // All is compacted: what is left is what keys are now, and no key's history.
    log.compact_all();
    solo.settle(&mut log);
    let (live, all) = solo.store.as_ref().expect("it is open").live_bytes();
    let window = u64::from(config.window_bytes) + LARGEST;
    assert!(all <= 2 * live + 2 * window, "{all} bytes for {live} live ones in windows of {window}");
    log.delete_all();
    solo.settle(&mut log);
    let (live, all) = solo.store.as_ref().expect("it is open").live_bytes();
    assert!(all <= 2 * window, "{all} bytes, {live} of them live, when all keys are deleted");
    for _ in 0..20 {
        solo.read(&log, &mut rng);
    }
    solo.counts
}

/// Crashes, and opens again until no trap springs meanwhile.
fn reopen(solo: &mut Solo, rng: &mut Rng) {
    solo.crash(rng);
    if rng.chance(300) {
        lay_trap(&solo.disk, rng);
    }
    loop {
        match solo.open() {
            Ok(()) => break,
            Err(StoreError::Io(_)) => solo.crash(rng),
            Err(error) => panic!("what is durable can't be opened: {error}"),
        }
    }
    if solo.disk.take_trap().is_none() {
        solo.count("traps");
    }
    solo.check_names();
}

/// The power will fail at a call of a job or an opening.
fn lay_trap(disk: &SimDisk, rng: &mut Rng) {
    let calls = [Call::Create, Call::Write, Call::Sync, Call::Rename, Call::Remove, Call::SyncDir];
    let call = calls[rng.index(calls.len())];
    let prefix = if call == Call::SyncDir { "" } else { ["kv-", "snapshot-"][rng.index(2)] };
    disk.set_trap(Trap { call, prefix, after: rng.chance(500), left: rng.between(1, 4) });
}

/// Applies one log to two members whose jobs, sets, cuts and crashes differ, and compares their segments (rule D8).
pub fn equal_layouts(seed: u64) -> usize {
    let mut rng = Rng::new(seed);
    let window_bytes = rng.between(300, 4000) as u32;
    let config = Config { window_bytes, set_bytes: 1000, set_batches: 5, small_bytes: 400 };
    let mut log = Log::default();
    (0..300).for_each(|_| log.grow(&mut rng));
    let mut layouts = Vec::new();
    for _ in 0..2 {
        let mut solo = Solo::new(config);
        while solo.store.as_ref().expect("it is open").view().applied() < log.last() {
            solo.apply(&mut log, rng.between(1, 30));
            (0..rng.below(4)).for_each(|_| assert!(solo.job(), "nothing fails here"));
            if rng.chance(200) {
                solo.give();
            }
            if rng.chance(200) {
                solo.store.as_mut().expect("it is open").cut();
            }
            (0..rng.below(4)).for_each(|_| solo.step());
            // Who crashes within a pass groups what is left of it in another way, and shares less.
            if rng.chance(50) && !solo.store.as_ref().expect("it is open").in_pass() {
                solo.crash(&mut rng);
                solo.open().expect("nothing fails here");
            }
        }
        solo.settle(&mut log);
        layouts.push(solo.store.as_ref().expect("it is open").layout());
    }
    assert_eq!(layouts[0], layouts[1], "seed {seed}");
    layouts[0].len()
}

/// All that a seed can find.
pub fn everything(seed: u64) {
    run(seed, STEPS);
    equal_layouts(seed);
    flips(seed, 60);
}

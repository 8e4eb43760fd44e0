//! One store over simulated disks, without raft: entries of a log that never fails are applied, its jobs and sets are
//! done when the seed says, and it crashes at any call, and opens again.
//!
//! ```text
//! Log (entries, and what each key was at each revision) ──► Solo: store, SimDisk, MemHome ──► compared at each step
//! ```
//!
//! Whatever was lost with a crash must be made good by the log behind the newest durable manifest, since the log forgets
//! what is before it.

mod log;
mod runs;

pub use runs::{STEPS, equal_layouts, everything, flips, overtaken, run};

use crate::disk::{CrashModel, SimDisk};
use crate::kv::{Damage, MemHome};
use crate::rng::Rng;
use bytes::Bytes;
use log::{KEYS, Log, membership};
use raftkv_api::Hex128;
use raftkv_core::kvstore::on_segments::{
    After, Arrived, Arriving, AtHand, Config, Damaged, Files, Hands, Held, Hurry, Incoming, Job, Start, Store, Task,
    install, write_initial,
};
use raftkv_core::kvstore::{RangeQuery, ReadError, StoreError};
use raftkv_core::ports::{KvDisk, KvHome, LogDisk};
use raftkv_core::segment::Listed;
use raftkv_core::types::{Index, MemberIdentity};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

fn identity() -> MemberIdentity {
    let id = |byte| Hex128([byte; 16]);
    MemberIdentity { cluster_id: id(1), genesis: id(2), generation: 0, member_id: 1, incarnation: id(3) }
}

/// Fetches a segment from the files that somebody holds, some bytes at a time; `None` when that broke off.
fn fetch(
    (disk, files): (&dyn LogDisk, &Files),
    (from, held): (&dyn LogDisk, &Held),
    listed: Listed,
    piece: usize,
    mut breaks_off: impl FnMut() -> bool,
) -> Result<Option<Arrived>, StoreError> {
    let mut incoming = Incoming::begin(disk, files, listed)?;
    let mut piece = vec![0; piece];
    while let Some(read @ 1..) = held.read(from, listed.hash, incoming.bytes(), &mut piece)? {
        incoming.push(&piece[..read])?;
        if breaks_off() {
            return Ok(None);
        }
    }
    Ok(Some(incoming.finish()?))
}

/// A store, and what it stands on.
pub struct Solo {
    pub disk: Arc<SimDisk>,
    home: MemHome,
    /// The number of the head in use.
    head: u64,
    kv: Option<Arc<dyn KvDisk>>,
    pub store: Option<Store>,
    hands: Hands,
    files: Arc<Files>,
    /// Snapshots that were fetched, oldest first; each is installed a while later, if at all.
    waiting: VecDeque<Arriving>,
    config: Config,
    /// Index and term behind which the log restarted last, for a snapshot of another member.
    mark: (u64, Index),
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
            hands: Hands::default(),
            files: Files::of(&SimDisk::new()).expect("the disk is good"),
            waiting: VecDeque::new(),
            config,
            mark: (1, 1),
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
        install(&*self.disk, self.mark)?;
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
        self.files = Files::of(&*self.disk)?;
        let store = start.open(self.disk.clone(), self.config, &self.files, &mut |_, _| ())?;
        assert_eq!((store.view().applied(), store.membership()), (claimed.applied, &claimed.membership));
        (self.store, self.hands) = (Some(store), Hands::default());
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

    /// Whether nothing is on its way, and there is nothing to do but to go on.
    fn is_at_rest(&self) -> bool {
        self.hands.are_free() && !self.store.as_ref().expect("it is open").has_jobs()
    }

    /// Gives sled what it lacks.
    pub fn give(&mut self) -> bool {
        self.works(Hurry::Now)
    }

    /// Does the next job, if there is one, and gives sled what it lacks if that is due. False when the disk failed.
    pub fn job(&mut self) -> bool {
        self.works(Hurry::WhenDue)
    }

    fn works(&mut self, hurry: Hurry) -> bool {
        match self.work(hurry) {
            Ok(None) => true,
            Err(StoreError::Io(_)) => false,
            Ok(Some(damaged)) => panic!("{damaged:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// What the two threads do next. Returns what a job found damaged.
    fn work(&mut self, hurry: Hurry) -> Result<Option<Damaged>, StoreError> {
        let mut found = None;
        let store = self.store.as_mut().expect("it is open");
        let again = self.hands.again();
        for task in again.into_iter().chain(self.hands.next(store, hurry)) {
            match task {
                Task::Run(job) => found = self.run(job)?.or(found),
                Task::Give(set) => {
                    self.given = self.store.as_ref().expect("it is open").view().applied();
                    let kv = self.kv.as_ref().expect("it is open");
                    kv.apply_batch(set).expect("the simulated kv db does not fail");
                    kv.idle().expect("the simulated kv db does not fail");
                    self.hands.set_ended();
                    self.count("sets");
                }
            }
        }
        Ok(found)
    }

    fn run(&mut self, job: Job) -> Result<Option<Damaged>, StoreError> {
        let what = match &job {
            Job::Prepare { .. } => "files prepared",
            Job::Seal(_) => "windows sealed",
            Job::Cut(_) => "manifests",
            Job::Rewrite(_) => "groups written anew",
            Job::Scrub(_) => "segments read whole",
            Job::Unlink { .. } => "files unlinked",
        };
        let result = job.run(&*self.disk);
        let store = self.store.as_mut().expect("it is open");
        match self.hands.job_ended(store, job, result)? {
            After::Nothing => self.count(what),
            After::Cut(held) => {
                self.forgot = held.index();
                self.count(what);
            }
            After::CutFailed(_) | After::Waits(_) => self.count("jobs that found no room"),
            After::Damaged(damaged) => return Ok(Some(damaged)),
        }
        Ok(None)
    }

    /// Reads all segments, applies the rest of the log, and carries out its compactions; what is damaged meanwhile is
    /// fetched from another store. Returns how many segments were healed.
    fn heals(&mut self, log: &mut Log, other: &Solo) -> u64 {
        let mut scrubbed = None;
        let store = self.store.as_mut().expect("it is open");
        for _ in 0..store.layout().len() {
            scrubbed = store.scrub(scrubbed);
        }
        let mut healed = 0;
        for _ in 0..400 {
            self.apply(log, 50);
            let store = self.store.as_mut().expect("it is open");
            if store.wants_cut() {
                store.cut();
            }
            let found = self.work(Hurry::WhenDue).expect("the disk does not fail");
            if let Some(hash) = found.and_then(|damaged| damaged.hash) {
                self.heal(hash, other);
                healed += 1;
            }
            self.step();
        }
        let store = self.store.as_ref().expect("it is open");
        assert_eq!((store.damaged(), store.view().applied()), (vec![], log.last()));
        assert!(!store.in_pass(), "a compaction waits for nothing that is damaged any more");
        healed
    }

    fn heal(&mut self, hash: u128, other: &Solo) {
        let held = other.store.as_ref().expect("it is open").held();
        let store = self.store.as_mut().expect("it is open");
        let listed = store.damaged().into_iter().find(|listed| listed.hash == hash).expect("it was found");
        let arrived = fetch((&*self.disk, &self.files), (&*other.disk, &held), listed, 700, || false);
        assert!(store.heal(arrived.expect("the other store is whole").expect("nothing breaks off")));
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

    /// A store that nothing happens to: it applies a little, and does a little of what is to be done.
    fn goes_on(&mut self, log: &mut Log, rng: &mut Rng) {
        self.apply(log, rng.between(1, 3));
        let store = self.store.as_mut().expect("it is open");
        if store.wants_cut() || rng.chance(30) {
            store.cut();
        }
        assert!(self.job(), "nothing fails here");
        self.step();
    }

    /// Does everything that is left to do, on a disk that does not fail.
    pub fn settle(&mut self, log: &mut Log) {
        self.disk.take_trap();
        self.disk.set_full(false);
        loop {
            self.apply(log, 50);
            let store = self.store.as_mut().expect("it is open");
            let before = (store.view().applied(), store.has_steps(), store.wants_cut());
            if before == (log.last(), false, false) && !store.has_jobs() && self.hands.are_free() {
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
        self.waiting.clear();
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

    /// Fetches the newest manifest of another store, with what it lacks of its segments, and installs it, if it is newer
    /// than what is applied here. The transfer may break off. False when the disk failed.
    pub fn install_from(&mut self, other: &Solo, rng: &mut Rng) -> bool {
        match self.try_install_from(other, rng) {
            Ok(()) => true,
            Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::NotFound => panic!("{error}"),
            Err(StoreError::Io(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn try_install_from(&mut self, other: &Solo, rng: &mut Rng) -> Result<(), StoreError> {
        if rng.chance(500)
            && let Some(arriving) = self.waiting.pop_front()
        {
            return self.install_in_run(&arriving);
        }
        let held = other.store.as_ref().expect("it is open").held();
        let store = self.store.as_ref().expect("it is open");
        if held.index() <= store.view().applied() {
            return Ok(());
        }
        let mut arriving = self.begin_fetch(&held, None);
        let lacking = arriving.lacking();
        self.count(if lacking.len() < held.segments().len() { "segments shared" } else { "segments all fetched" });
        for listed in lacking {
            let piece = rng.between(1, 1500) as usize;
            let (to, from) = ((&*self.disk as &dyn LogDisk, &*self.files), (&*other.disk as &dyn LogDisk, &*held));
            match fetch(to, from, listed, piece, || rng.chance(10))? {
                Some(arrived) => arriving.arrived(arrived),
                None => {
                    self.store.as_mut().expect("it is open").keep_fetched(&arriving);
                    self.count("transfers broken off");
                    return Ok(());
                }
            }
        }
        if rng.chance(300) {
            self.waiting.push_back(arriving);
            return Ok(());
        }
        if rng.chance(500) {
            return self.install_in_run(&arriving);
        }
        arriving.complete(&*self.disk, &self.files)?;
        if rng.chance(100) {
            self.store.as_mut().expect("it is open").keep_fetched(&arriving);
            self.count("offers not installed");
            return Ok(());
        }
        self.log_restarts(&arriving);
        self.store = None;
        self.waiting.clear();
        self.new_head();
        self.count("installations");
        self.open()
    }

    /// Fetches at most so many segments of what another store holds.
    fn fetch_some(&self, arriving: &mut Arriving, (other, held): (&Solo, &Held), most: usize) {
        for listed in arriving.lacking().into_iter().take(most) {
            let arrived = fetch((&*self.disk, &self.files), (&*other.disk, held), listed, 900, || false);
            arriving.arrived(arrived.expect("the disk does not fail").expect("nothing breaks off"));
        }
    }

    /// Begins to fetch what another store holds, with what is at hand here or was fetched for another snapshot.
    fn begin_fetch(&self, held: &Held, before: Option<&Arriving>) -> Arriving {
        let mut at_hand = AtHand::of(self.store.as_ref().expect("it is open"));
        before.into_iter().for_each(|before| at_hand.add(before));
        Arriving::begin(&identity(), &held.bytes(), held.size_and_hash(), &at_hand).expect("it is whole")
    }

    /// The log restarts behind a snapshot, durably.
    fn log_restarts(&mut self, arriving: &Arriving) {
        self.mark = (arriving.term(), arriving.index());
        (self.forgot, self.reached) = (arriving.index(), self.reached.max(arriving.index()));
    }

    fn new_head(&mut self) {
        self.home.remove(&self.name()).expect("the simulated home does not fail");
        (self.head, self.given) = (self.head + 1, 0);
    }

    /// Installs a snapshot that was fetched while the store went on, in the run that fetched it. If the store has come
    /// further meanwhile, what was fetched stays at hand.
    fn install_in_run(&mut self, arriving: &Arriving) -> Result<(), StoreError> {
        let store = self.store.as_mut().expect("it is open");
        if arriving.index() <= store.view().applied() || !self.hands.are_free() {
            store.keep_fetched(arriving);
            return Ok(());
        }
        arriving.complete(&*self.disk, &self.files)?;
        self.log_restarts(arriving);
        install(&*self.disk, self.mark)?;
        let before = self.store.take();
        self.new_head();
        self.kv = Some(self.home.open(&self.name()).expect("the simulated home does not fail"));
        let start = Start::find(&identity(), &*self.disk, None)?.expect("it was installed");
        assert_eq!(start.claimed().applied, arriving.index());
        let store = start.succeed(self.disk.clone(), self.config, &self.files, before, &mut |_, _| ())?;
        (self.store, self.hands) = (Some(store), Hands::default());
        self.count("installations in a run");
        Ok(())
    }

    /// Every file is one that something names (rule D21).
    pub fn check_names(&self) {
        let names = self.disk.names();
        let manifests = names.iter().filter(|name| name.starts_with("snapshot-")).count();
        assert_eq!(manifests, 1, "{names:?}");
        let known = |name: &String| ["snapshot-", "kv-", "offer-"].iter().any(|known| name.starts_with(known));
        assert!(names.iter().all(known), "{names:?}");
    }
}

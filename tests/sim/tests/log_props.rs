//! The log against a disk that loses what was not synced (rules N1, N2, N14, N17, N21).
//!
//! A random story of appends, replacements, marks, compactions, spares and crashes runs on the log and on a model that
//! is a plain vector. After every crash the replayed log must equal the model after the last acknowledged batch, or
//! with the one batch more that was being written; nothing else is right, and an error never is.

use proptest::prelude::*;
use raft::prelude::{Entry, HardState};
use raftkv_api::Hex128;
use raftkv_core::log::{Batch, Log, LogConfig, LogError, LogOp, Mark, Replayed, execute};
use raftkv_core::types::MemberIdentity;
use raftkv_sim::disk::{CrashModel, SimDisk};
use std::sync::Arc;

const CONFIG: LogConfig =
    LogConfig { segment_bytes: 8192, batch_bytes_max: 4096, cache_bytes_max: 600, spare_segments: 2 };

const IDENTITY: MemberIdentity = MemberIdentity {
    cluster_id: Hex128([1; 16]),
    genesis: Hex128([2; 16]),
    generation: 0,
    member_id: 3,
    incarnation: Hex128([4; 16]),
};

/// One step of a story. Fractions are of 256.
#[derive(Clone, Debug)]
enum Step {
    Append { replace: u8, count: u8, data_bytes: u16, new_term: bool, commit: Option<u8>, closing: bool },
    Install { ahead: u8, entries: u8 },
    Compact { fraction: u8 },
    Spare,
}

/// The power fails after this fraction of a step's disk operations, and perhaps again during the repairs.
#[derive(Clone, Debug)]
struct Failure {
    fraction: u8,
    seed: u64,
    model: CrashModel,
    kill: bool,
    again: Option<(u8, u64)>,
}

fn step() -> impl Strategy<Value = Step> {
    let append = (any::<u8>(), 0u8..7, 0u16..500, any::<u8>(), any::<Option<u8>>(), any::<u8>()).prop_map(
        |(replace, count, data_bytes, new_term, commit, closing)| Step::Append {
            replace: if replace < 60 { replace } else { 0 },
            count,
            data_bytes,
            new_term: new_term < 50,
            commit,
            closing: closing < 10,
        },
    );
    prop_oneof![
        12 => append,
        1 => (any::<u8>(), 0u8..3).prop_map(|(ahead, entries)| Step::Install { ahead, entries }),
        3 => any::<u8>().prop_map(|fraction| Step::Compact { fraction }),
        2 => Just(Step::Spare),
    ]
}

fn failure() -> impl Strategy<Value = Option<Failure>> {
    let model = prop_oneof![Just(CrashModel::InOrder), Just(CrashModel::Reordered)];
    let failure = (any::<u8>(), any::<u64>(), model, any::<u8>(), any::<Option<(u8, u64)>>())
        .prop_map(|(fraction, seed, model, kill, again)| Failure { fraction, seed, model, kill: kill < 60, again });
    prop_oneof![3 => Just(None), 1 => failure.prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replayed_log_is_what_was_acknowledged(story in proptest::collection::vec((step(), failure()), 1..60)) {
        let mut world = World::new();
        for (step, failure) in story {
            world.take(&step, failure.as_ref());
        }
        world.crash(None, &Failure { fraction: 255, seed: 1, model: CrashModel::Reordered, kill: false, again: None });
    }

    /// Rule N2: only the last batch may be cut.
    #[test]
    fn a_flipped_bit_of_an_acknowledged_batch_is_never_cut(
        sizes in proptest::collection::vec(0usize..1500, 3..20),
        victim in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (disk, writes) = filled(&sizes);
        let (file, offset, length) = &writes[victim.index(writes.len() - 1)];
        disk.flip(file, offset + at.index(*length) as u64, bit);
        match replay(&disk) {
            Err(LogError::Corrupt { file: named, what, .. }) => {
                prop_assert_eq!(&named, file);
                prop_assert!(what.contains("replace this member"), "{}", what);
            }
            other => prop_assert!(false, "a damaged batch was taken: {:?}", other.map(|log| log.batches)),
        }
    }

    #[test]
    fn a_damaged_last_batch_is_cut_and_nothing_else(
        sizes in proptest::collection::vec(0usize..1500, 2..12),
        at in any::<prop::sample::Index>(),
    ) {
        let (disk, writes) = filled(&sizes);
        let (file, offset, length) = &writes[writes.len() - 1];
        disk.flip(file, offset + at.index(*length) as u64, 0);
        let mut replayed = replay(&disk).expect("one torn batch is no damage");
        prop_assert_eq!(replayed.log.last_index(), sizes.len() as u64 - 1);
        prop_assert_eq!(replayed.batches, sizes.len() as u64 - 1);
        execute(&*disk, &replayed.repairs).expect("repairs");
        // A shorter batch must not bring back to life what stood behind it.
        let ops = replayed.log.append(Batch { hard_state: Some(hard_state(1, 0)), ..Batch::default() });
        execute(&*disk, &ops).expect("append");
        disk.crash(at.index(1000) as u64, CrashModel::Reordered);
        let replayed = replay(&disk).expect("replays");
        prop_assert_eq!(replayed.batches, sizes.len() as u64);
        prop_assert_eq!(replayed.log.last_index(), sizes.len() as u64 - 1);
    }
}

/// The log, its disk, and the model of what the log must hold.
struct World {
    disk: Arc<SimDisk>,
    log: Log,
    model: Model,
}

#[derive(Clone, Debug, Default)]
struct Model {
    base: Mark,
    entries: Vec<Entry>,
    hard_state: HardState,
    clean_stop: bool,
    /// Makes every entry's bytes unique.
    salt: u64,
}

impl World {
    fn new() -> World {
        let disk = Arc::new(SimDisk::new());
        let (log, ops) = Log::create(CONFIG, IDENTITY, disk.clone());
        execute(&*disk, &ops).expect("create");
        World { disk, log, model: Model::default() }
    }

    fn take(&mut self, step: &Step, failure: Option<&Failure>) {
        let mut next = self.model.clone();
        let ops = match step {
            Step::Append { .. } | Step::Install { .. } => self.log.append(next.batch(step)),
            Step::Compact { fraction } => {
                let mark = next.compact(*fraction);
                self.log.compact(mark)
            }
            Step::Spare => match self.log.make_spare() {
                None => return,
                Some((name, ops)) => {
                    if failure.is_none() {
                        self.log.spare_made(&name);
                    }
                    ops
                }
            },
        };
        let Some(failure) = failure else {
            execute(&*self.disk, &ops).expect("the disk is well");
            self.model = next;
            return self.model.check(&self.log);
        };
        let executed = (ops.len() * usize::from(failure.fraction)).div_ceil(255);
        execute(&*self.disk, &ops[..executed]).expect("the disk is well");
        let is_batch = matches!(step, Step::Append { .. } | Step::Install { .. });
        let on_its_way = if is_batch && executed < ops.len() {
            Some(next)
        } else {
            // What a compaction forgets may be missing from the moment the compaction was asked for.
            self.model = next;
            None
        };
        self.crash(on_its_way, failure);
    }

    /// Power loss or kill, then replay, perhaps with a second power loss during the repairs; then the log goes on.
    fn crash(&mut self, on_its_way: Option<Model>, failure: &Failure) {
        match failure.kill {
            true => self.disk.kill(),
            false => {
                self.disk.crash(failure.seed, failure.model);
            }
        }
        let mut replayed = self.replay_one_of(on_its_way.as_ref());
        if let Some((fraction, seed)) = failure.again {
            let executed = replayed.repairs.len() * usize::from(fraction) / 255;
            execute(&*self.disk, &replayed.repairs[..executed]).expect("the disk is well");
            self.disk.crash(seed, failure.model);
            replayed = self.replay_one_of(on_its_way.as_ref());
        }
        execute(&*self.disk, &replayed.repairs).expect("the disk is well");
        if let Some(next) = on_its_way
            && next.is_said_by(&replayed)
        {
            self.model = next;
        }
        self.log = replayed.log;
        // A node does the same once it knows its snapshots.
        let ops = self.log.compact(self.model.base);
        execute(&*self.disk, &ops).expect("the disk is well");
        self.model.check(&self.log);
    }

    fn replay_one_of(&self, on_its_way: Option<&Model>) -> Replayed {
        let replayed = replay(&self.disk).expect("a crash never makes a log unreadable");
        assert_eq!(replayed.identity, IDENTITY);
        if on_its_way.is_none_or(|next| !next.is_said_by(&replayed)) {
            let said = (replayed.log.base(), replayed.log.last_index(), &replayed.hard_state, replayed.clean_stop);
            let model = (self.model.base, self.model.last_index(), &self.model.hard_state, self.model.clean_stop);
            assert!(self.model.is_said_by(&replayed), "replayed {said:?}, acknowledged {model:?}");
        }
        replayed
    }
}

impl Model {
    fn last_index(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    fn term(&self, index: u64) -> u64 {
        match index - self.base.index {
            0 => self.base.term,
            position => self.entries[position as usize - 1].term,
        }
    }

    fn floor(&self) -> u64 {
        self.base.index.max(self.hard_state.commit)
    }

    /// A batch that raft could ask for; the model becomes what the log must hold after it.
    fn batch(&mut self, step: &Step) -> Batch {
        let mut batch = Batch::default();
        match *step {
            Step::Append { replace, count, data_bytes, new_term, commit, closing } => {
                let mut hard_state = self.hard_state.clone();
                if new_term || hard_state.term == 0 {
                    hard_state.term += 1;
                    hard_state.vote = self.salt % 3;
                }
                let replaceable = self.last_index() - self.floor();
                let replaced = if count == 0 { 0 } else { replaceable * u64::from(replace) / 60 };
                self.entries.truncate(self.entries.len() - replaced as usize);
                batch.entries = self.extend(count, usize::from(data_bytes), hard_state.term);
                if let Some(fraction) = commit {
                    let (low, high) = (self.floor(), self.last_index());
                    hard_state.commit = low + (high - low) * u64::from(fraction) / 255;
                }
                if hard_state != self.hard_state {
                    batch.hard_state = Some(hard_state.clone());
                    self.hard_state = hard_state;
                }
                batch.closing = closing;
                self.clean_stop = closing;
            }
            Step::Install { ahead, entries } => {
                let index = self.floor() + 1 + u64::from(ahead);
                let term = self.hard_state.term.max(1);
                self.base = Mark { index, term };
                self.entries.clear();
                (self.hard_state.term, self.hard_state.commit) = (term, index);
                batch.mark = Some(self.base);
                batch.entries = self.extend(entries, 20, term);
                batch.hard_state = Some(self.hard_state.clone());
                self.clean_stop = false;
            }
            Step::Compact { .. } | Step::Spare => unreachable!("not batches"),
        }
        batch
    }

    fn extend(&mut self, count: u8, data_bytes: usize, term: u64) -> Vec<Entry> {
        let from = self.entries.len();
        for _ in 0..count {
            self.salt += 1;
            let mut entry = Entry { index: self.last_index() + 1, term, ..Entry::default() };
            entry.data = vec![self.salt as u8; data_bytes].into();
            entry.context = self.salt.to_be_bytes().to_vec().into();
            self.entries.push(entry);
        }
        self.entries[from..].to_vec()
    }

    fn compact(&mut self, fraction: u8) -> Mark {
        let committed = self.hard_state.commit.clamp(self.base.index, self.last_index());
        let index = self.base.index + (committed - self.base.index) * u64::from(fraction) / 255;
        let mark = Mark { index, term: self.term(index) };
        self.entries.drain(..(index - self.base.index) as usize);
        self.base = mark;
        mark
    }

    fn is_said_by(&self, replayed: &Replayed) -> bool {
        let log = &replayed.log;
        // The compaction point is not durable: a replay may know more of the past, never less.
        log.base().index <= self.base.index
            && log.term(self.base.index) == Some(self.base.term)
            && log.last_index() == self.last_index()
            && replayed.hard_state == self.hard_state
            && (replayed.clean_stop == self.clean_stop || replayed.batches == 0)
            && all_entries(log, self.base.index + 1, u64::MAX) == self.entries
    }

    fn check(&self, log: &Log) {
        assert_eq!((log.base(), log.last_index()), (self.base, self.last_index()));
        assert_eq!(all_entries(log, log.first_index(), 700), self.entries, "by window and disk");
        let mut bytes = log.bytes_since(self.base.index);
        for index in self.base.index..=self.last_index() {
            assert_eq!(log.term(index), Some(self.term(index)));
            assert!(log.bytes_since(index) <= bytes);
            bytes = log.bytes_since(index);
        }
        assert_eq!(log.term(self.last_index() + 1), None);
        assert_eq!(bytes, 0);
    }
}

/// Entries from `low` to the end, in as many calls as `bytes_max` requires.
fn all_entries(log: &Log, low: u64, bytes_max: u64) -> Vec<Entry> {
    let (mut low, high) = (low, log.last_index() + 1);
    let mut all = Vec::new();
    while low < high {
        let entries = log.entries(low, high, bytes_max).expect("readable");
        assert!(!entries.is_empty());
        low += entries.len() as u64;
        all.extend(entries);
    }
    all
}

fn replay(disk: &Arc<SimDisk>) -> Result<Replayed, LogError> {
    let mut seen = (0, 0);
    let replayed = Log::replay(CONFIG, disk.clone(), &mut |read, all| {
        assert!(read > seen.0 && read <= all);
        seen = (read, all);
    })?;
    assert_eq!(seen.0, seen.1, "progress ends at the end");
    Ok(replayed.expect("there is a log"))
}

/// A log with a batch of one entry for each of `sizes`, and the places of these batches.
fn filled(sizes: &[usize]) -> (Arc<SimDisk>, Vec<(String, u64, usize)>) {
    let disk = Arc::new(SimDisk::new());
    let (mut log, ops) = Log::create(CONFIG, IDENTITY, disk.clone());
    execute(&*disk, &ops).expect("create");
    let mut writes = Vec::new();
    for (at, size) in sizes.iter().enumerate() {
        let ops = log.append(Batch { entries: vec![entry(at as u64 + 1, 1, *size)], ..Batch::default() });
        execute(&*disk, &ops).expect("append");
        writes.extend(ops.iter().rev().find_map(|op| match op {
            LogOp::Write { file, offset, bytes } => Some((file.clone(), *offset, bytes.len())),
            _ => None,
        }));
    }
    (disk, writes)
}

fn entry(index: u64, term: u64, data_bytes: usize) -> Entry {
    Entry { index, term, data: vec![index as u8; data_bytes].into(), ..Entry::default() }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term, commit, ..HardState::default() }
}

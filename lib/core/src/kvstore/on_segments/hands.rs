//! The threads that work for a store: which job and which set they are given next, and what follows from what came of
//! them. PURE.
//!
//! ```text
//! Store ─► Hands::next ─► Task::Run(job) ─► segment thread ─► Hands::job_ended ─► Store, After
//!                    └──► Task::Give(set) ─► head thread ───► Hands::set_ended
//! ```
//!
//! Each thread has one thing at a time. A job that met a full disk is tried again when its pause is over, and nothing else
//! goes before it; a manifest that could not be written is no loss, and is frozen anew. Whatever else goes wrong ends the
//! process: a failed sync is never tried again (rule N11), since the kernel tells of it once. Sled is the exception: when
//! it fails, it is given up, and nothing waits for it (rule D15).

use super::held::Held;
use super::job::{Done, Job, Scrub};
use super::store::Store;
use crate::kvstore::StoreError;
use crate::kvstore::set::Writes;
use crate::segment::file::SegmentError;
use crate::space;
use std::sync::Arc;

/// Something for a thread.
pub enum Task {
    /// For the segment thread.
    Run(Job),
    /// For the head thread: one batch, flushed before the next.
    Give(Writes),
}

/// How much of a hurry there is to give sled what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hurry {
    /// When it is worth a batch.
    WhenDue,
    /// Now: nothing is applied at the moment, or an only voter waits for it.
    Now,
}

/// What follows when a job has ended.
#[derive(Debug)]
pub enum After {
    /// Nothing that others have to know.
    Nothing,
    /// A manifest is durable: the log may forget what is before it.
    Cut(Arc<Held>),
    /// A manifest could not be written; the text says why.
    CutFailed(String),
    /// A segment is not what its hash says: it is to be fetched from another member. The text names file and place.
    Damaged(Damaged),
    /// The disk is full: the job is tried again when the pause is over. The text says what was to be written.
    Waits(String),
}

/// What was found damaged.
#[derive(Debug)]
pub struct Damaged {
    /// The hash by which another member knows the segment; `None` while it is still to be found which one it is.
    pub hash: Option<u128>,
    /// Which file, and where.
    pub what: String,
}

#[derive(Debug, Default)]
enum Hand {
    #[default]
    Free,
    Busy,
    /// A job waits for room.
    Holds(Job),
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Sled {
    #[default]
    Free,
    Busy,
    GivenUp,
}

/// The threads of one store.
#[derive(Debug, Default)]
pub struct Hands {
    segments: Hand,
    sled: Sled,
}

impl Hands {
    /// What the threads are given now. Call it after each change of the store.
    pub fn next(&mut self, store: &mut Store, hurry: Hurry) -> Vec<Task> {
        let mut tasks = Vec::new();
        if let Hand::Free = self.segments
            && let Some(job) = store.next_job()
        {
            self.segments = Hand::Busy;
            tasks.push(Task::Run(job));
        }
        let is_due = store.set_is_due() || (hurry == Hurry::Now && store.lacks_set());
        if self.sled == Sled::Free && is_due {
            self.sled = Sled::Busy;
            tasks.push(Task::Give(store.next_set()));
        }
        tasks
    }

    /// The job that waits for room, whose pause is over.
    pub fn again(&mut self) -> Option<Task> {
        match std::mem::take(&mut self.segments) {
            Hand::Holds(job) => {
                self.segments = Hand::Busy;
                Some(Task::Run(job))
            }
            other => {
                self.segments = other;
                None
            }
        }
    }

    /// A job has ended. An error ends the process.
    pub fn job_ended(
        &mut self,
        store: &mut Store,
        job: Job,
        result: Result<Done, SegmentError>,
    ) -> Result<After, StoreError> {
        self.segments = Hand::Free;
        let error = match result {
            Ok(done) => {
                if let Job::Scrub(Scrub { file, .. }) = &job {
                    store.found_sound(file);
                }
                let cut = if let Done::Cut(held) = &done { Some(held.clone()) } else { None };
                store.done(done);
                return Ok(cut.map_or(After::Nothing, After::Cut));
            }
            Err(SegmentError::Io(error)) if space::is_full(&error) => error,
            Err(SegmentError::Damaged(what)) => return met_damage(store, &job, what),
            Err(error) => return Err(error.into()),
        };
        match job {
            // The window takes its room when it is written.
            Job::Prepare { .. } => Ok(After::Nothing),
            Job::Cut(_) => {
                store.cut_failed();
                Ok(After::CutFailed(error.to_string()))
            }
            job @ (Job::Seal(_) | Job::Rewrite(_) | Job::Scrub(_) | Job::Unlink { .. }) => {
                let what = match &job {
                    Job::Seal(_) => "records that were applied, of which a segment is made",
                    Job::Rewrite(_) => "what a compaction leaves of some segments",
                    Job::Prepare { .. } | Job::Cut(_) | Job::Scrub(_) | Job::Unlink { .. } => {
                        "a change of the directory"
                    }
                };
                self.segments = Hand::Holds(job);
                Ok(After::Waits(format!("{what}: {error}")))
            }
        }
    }

    /// Sled has what it was given.
    pub fn set_ended(&mut self) {
        if self.sled == Sled::Busy {
            self.sled = Sled::Free;
        }
    }

    /// Sled failed, or hangs: it is given nothing more.
    pub fn give_sled_up(&mut self) {
        self.sled = Sled::GivenUp;
    }

    /// A new, empty sled takes the place of one that was given up.
    pub fn take_sled(&mut self, store: &mut Store) {
        self.sled = Sled::Free;
        store.begin_head();
    }

    /// Whether sled has all that was applied: what an only voter waits for before it answers.
    pub fn sled_has_all(&self, store: &Store) -> bool {
        self.sled == Sled::GivenUp || (self.sled == Sled::Free && !store.lacks_set())
    }

    /// Whether nothing is on its way.
    pub fn are_free(&self) -> bool {
        matches!(self.segments, Hand::Free) && self.sled != Sled::Busy
    }
}

/// What a job read is not what it must be. In what was just written there can be no damage but a bug.
fn met_damage(store: &mut Store, job: &Job, what: String) -> Result<After, StoreError> {
    match job {
        Job::Scrub(Scrub { listed, .. }) => {
            store.found_damaged(listed.hash);
            Ok(After::Damaged(Damaged { hash: Some(listed.hash), what }))
        }
        Job::Rewrite(rewrite) => {
            store.rewriting_met_damage(rewrite);
            Ok(After::Damaged(Damaged { hash: None, what }))
        }
        Job::Prepare { .. } | Job::Seal(_) | Job::Cut(_) | Job::Unlink { .. } => Err(StoreError::Unproved(what)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Config, Files, Start, write_initial};
    use super::*;
    use crate::kvstore::testing::{MemFiles, entry, identity, membership, put};
    use std::sync::atomic::Ordering;

    struct Bench {
        disk: Arc<MemFiles>,
        store: Store,
        hands: Hands,
    }

    impl Bench {
        fn new() -> Bench {
            let disk = Arc::new(MemFiles::default());
            write_initial(&identity(), &*disk, (1, 1), &membership(1)).unwrap();
            let start = Start::find(&identity(), &*disk, None).unwrap().unwrap();
            let config = Config { window_bytes: 500, set_bytes: 300, ..Config::default() };
            let files = Files::of(&*disk).unwrap();
            let store = start.open(disk.clone(), config, &files, &mut |_, _| ()).unwrap();
            Bench { disk, store, hands: Hands::default() }
        }

        fn put(&mut self, count: u64) {
            for _ in 0..count {
                let index = self.store.view().applied() + 1;
                self.store.apply(&[entry(index, &put("key", b"a value of some length"))]).unwrap();
            }
        }

        fn job(&mut self) -> Job {
            let mut jobs = self.hands.next(&mut self.store, Hurry::WhenDue).into_iter();
            let job = jobs.find_map(|task| if let Task::Run(job) = task { Some(job) } else { None });
            job.expect("there is a job")
        }

        fn ends(&mut self, job: Job) -> Result<After, StoreError> {
            let result = job.run(&*self.disk);
            self.hands.job_ended(&mut self.store, job, result)
        }

        /// Does jobs until the one that `is` the wanted.
        fn until(&mut self, is: fn(&Job) -> bool) -> Job {
            loop {
                let job = self.job();
                if is(&job) {
                    return job;
                }
                assert!(matches!(self.ends(job), Ok(After::Nothing)));
            }
        }
    }

    #[test]
    fn each_thread_has_one_thing_at_a_time() {
        let mut bench = Bench::new();
        bench.put(8);
        let tasks = bench.hands.next(&mut bench.store, Hurry::WhenDue);
        assert!(matches!(&tasks[..], [Task::Run(Job::Prepare { .. }), Task::Give(_)]));
        bench.put(2);
        assert!(bench.hands.next(&mut bench.store, Hurry::Now).is_empty(), "both are busy");
        bench.hands.set_ended();
        assert!(!bench.hands.sled_has_all(&bench.store));
        assert!(matches!(&bench.hands.next(&mut bench.store, Hurry::Now)[..], [Task::Give(_)]));
        bench.hands.set_ended();
        assert!(bench.hands.sled_has_all(&bench.store));
        assert!(bench.hands.next(&mut bench.store, Hurry::Now).is_empty(), "a set without news is not given");
    }

    #[test]
    fn a_window_that_finds_no_room_is_written_when_there_is_some() {
        let mut bench = Bench::new();
        bench.put(8);
        let seal = bench.until(|job| matches!(job, Job::Seal(_)));
        bench.disk.files().clear();
        bench.disk.creates_fail.store(1, Ordering::Relaxed);
        assert!(matches!(bench.ends(seal), Ok(After::Waits(what)) if what.starts_with("records that were applied")));
        assert!(!bench.hands.are_free());
        bench.store.cut();
        assert!(bench.hands.next(&mut bench.store, Hurry::WhenDue).iter().all(|task| matches!(task, Task::Give(_))));
        let Some(Task::Run(again)) = bench.hands.again() else { panic!("it waits") };
        assert!(bench.hands.again().is_none());
        assert!(matches!(bench.ends(again), Ok(After::Nothing)));
    }

    #[test]
    fn a_manifest_that_finds_no_room_is_frozen_anew() {
        let mut bench = Bench::new();
        bench.put(1);
        assert_eq!(bench.store.cut(), Some(2));
        let cut = bench.until(|job| matches!(job, Job::Cut(_)));
        bench.disk.creates_fail.store(1, Ordering::Relaxed);
        assert!(matches!(bench.ends(cut), Ok(After::CutFailed(_))));
        bench.put(1);
        assert!(bench.store.wants_cut());
        assert_eq!(bench.store.cut(), Some(3));
        let cut = bench.until(|job| matches!(job, Job::Cut(_)));
        assert!(matches!(bench.ends(cut), Ok(After::Cut(held)) if held.index() == 3));
    }

    #[test]
    fn a_failed_sync_is_not_tried_again_even_when_it_is_for_want_of_room() {
        let mut bench = Bench::new();
        bench.put(8);
        let seal = bench.until(|job| matches!(job, Job::Seal(_)));
        bench.disk.syncs_fail.store(1, Ordering::Relaxed);
        assert!(matches!(bench.ends(seal), Err(StoreError::Io(_))));
    }

    #[test]
    fn a_sled_that_is_given_up_holds_nothing_up_and_a_new_one_is_given_all() {
        let mut bench = Bench::new();
        bench.put(1);
        assert!(!bench.hands.next(&mut bench.store, Hurry::Now).is_empty());
        bench.hands.give_sled_up();
        bench.hands.set_ended();
        assert!(bench.hands.sled_has_all(&bench.store));
        bench.put(2);
        let tasks = bench.hands.next(&mut bench.store, Hurry::Now);
        assert!(tasks.iter().all(|task| matches!(task, Task::Run(_))));
        bench.hands.take_sled(&mut bench.store);
        let tasks = bench.hands.next(&mut bench.store, Hurry::Now);
        let Some(Task::Give(set)) = tasks.into_iter().next() else { panic!("it has nothing yet") };
        assert!(set.iter().any(|(key, _)| key.starts_with(b"s/")) && set.iter().any(|(key, _)| key.starts_with(b"h/")));
    }
}

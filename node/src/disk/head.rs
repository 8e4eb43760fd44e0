//! The head thread: it writes sets to the head in sled, one after the other, so that nobody else waits for sled (rule
//! D15).
//!
//! Enters: sets, each of which is one batch. Leaves: a call when a set is done, and a state for whoever asks. What
//! fails, panics or does not return is *given up*, for good: sled's own threads are one pool in a process, so a second
//! head would hang with the first. Nothing is lost by that, since the log has everything.
//!
//! # Caveats
//!
//! A hang is noticed when somebody asks for the state or waits. The thread that hangs is left alone, and what it holds
//! stays as it is until the process ends.

use raftkv_core::limits::{HEAD_WRITE_MAX_MS, LONE_HEAD_WAIT_MS, WINDOW_BYTES};
use raftkv_core::ports::KvDisk;
use raftkv_core::space::mib;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Keys and their new values (`None` removes), as [`KvDisk::apply_batch`] takes them.
pub type Set = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What the head is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadState {
    /// All sets that it was given are in sled.
    Idle,
    /// The last set is on its way.
    Writing {
        /// When it was given.
        since: Instant,
    },
    /// Sled is not used until the next start.
    GivenUp {
        /// What happened.
        why: String,
    },
}

/// The head in sled, and the thread that writes to it.
pub struct Head {
    sets: Option<SyncSender<Set>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    write_max: Duration,
    /// How long whoever drops it waits for a set under way, and for sled to be closed.
    drop_max: Duration,
}

struct Shared {
    now: Mutex<Now>,
    changed: Condvar,
}

struct Now {
    state: HeadState,
    /// The thread has let go of sled.
    ended: bool,
}

impl Head {
    /// Starts the thread. It calls `on_done` after each set, written or not; a set that hangs is never done.
    pub fn begin(kv: Arc<dyn KvDisk>, on_done: impl Fn() + Send + 'static) -> io::Result<Head> {
        let [write_max, drop_max] = [HEAD_WRITE_MAX_MS, LONE_HEAD_WAIT_MS].map(Duration::from_millis);
        Head::begin_within(kv, on_done, write_max, drop_max)
    }

    fn begin_within(
        kv: Arc<dyn KvDisk>,
        on_done: impl Fn() + Send + 'static,
        write_max: Duration,
        drop_max: Duration,
    ) -> io::Result<Head> {
        let now = Mutex::new(Now { state: HeadState::Idle, ended: false });
        let shared = Arc::new(Shared { now, changed: Condvar::new() });
        let (sets_tx, sets) = sync_channel(1);
        let thread = thread::Builder::new().name("head".to_string()).spawn({
            let shared = shared.clone();
            move || run(kv, &sets, &shared, on_done)
        })?;
        Ok(Head { sets: Some(sets_tx), shared, thread: Some(thread), write_max, drop_max })
    }

    /// Begins to write a set, when the one before it is done. Does nothing after the head was given up.
    pub fn give(&mut self, set: Set) {
        let state = self.state();
        if let HeadState::GivenUp { .. } = state {
            return;
        }
        assert_eq!(state, HeadState::Idle, "one set at a time is on its way");
        self.shared.lock().state = HeadState::Writing { since: Instant::now() };
        let sent = self.sets.as_ref().is_some_and(|sets| sets.try_send(set).is_ok());
        if !sent {
            self.shared.lock().give_up("its thread has ended".to_string());
        }
    }

    /// What it is doing. Whoever is the first to ask when a set takes too long gives it up.
    pub fn state(&self) -> HeadState {
        self.look(&mut self.shared.lock());
        self.shared.lock().state.clone()
    }

    /// Waits until the last set is done, and returns whether it is in sled. An only voter waits so before it
    /// acknowledges, [`LONE_HEAD_WAIT_MS`] at most. Without sled it does not wait.
    pub fn wait_done(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut now = self.shared.lock();
        loop {
            self.look(&mut now);
            let since = match now.state {
                HeadState::Idle => return true,
                HeadState::GivenUp { .. } => return false,
                HeadState::Writing { since } => since,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // It is given up a moment after its time.
            let hangs_in = self.write_max.saturating_sub(since.elapsed()) + Duration::from_millis(1);
            now = self.shared.wait(now, left.min(hangs_in));
        }
    }

    fn look(&self, now: &mut Now) {
        if let HeadState::Writing { since } = now.state
            && since.elapsed() > self.write_max
        {
            now.give_up(format!("a write to it has not returned within {} ms", self.write_max.as_millis()));
        }
    }
}

/// A set under way may take as long as an only voter would wait for it; then the thread is left alone, as one that
/// hangs. It holds nothing that is needed.
impl Drop for Head {
    fn drop(&mut self) {
        self.sets = None;
        let deadline = Instant::now() + self.drop_max;
        let mut now = self.shared.lock();
        while !now.ended && !matches!(now.state, HeadState::GivenUp { .. }) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            now = self.shared.wait(now, left);
        }
        let ended = now.ended;
        drop(now);
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            // It has nothing left to do; a panic of `on_done` was reported when it happened.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, now: MutexGuard<'a, Now>, timeout: Duration) -> MutexGuard<'a, Now> {
        self.changed.wait_timeout(now, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Now {
    fn give_up(&mut self, why: String) {
        if let HeadState::GivenUp { .. } = self.state {
            return;
        }
        let replayed = mib(2 * u64::from(WINDOW_BYTES));
        tracing::error!(
            why,
            "the head of the kv db (sled) is given up until the next start: this node goes on without it, nothing waits \
             for it, and nothing is lost, since the log has everything; the next start replays at most {replayed} of the \
             log. Look at the disk if it fails again"
        );
        self.state = HeadState::GivenUp { why };
    }

    /// A set that is written late, but before anybody asked, is written all the same.
    fn written(&mut self, result: Result<(), String>) {
        match (result, &self.state) {
            (_, HeadState::GivenUp { .. }) => {}
            (Ok(()), HeadState::Idle | HeadState::Writing { .. }) => self.state = HeadState::Idle,
            (Err(why), HeadState::Idle | HeadState::Writing { .. }) => self.give_up(why),
        }
    }
}

/// Writes sets until there are no more, or the head is given up.
fn run(kv: Arc<dyn KvDisk>, sets: &mpsc::Receiver<Set>, shared: &Shared, on_done: impl Fn()) {
    for set in sets {
        let result = write(&*kv, set);
        let mut now = shared.lock();
        now.written(result);
        let is_given_up = matches!(now.state, HeadState::GivenUp { .. });
        drop(now);
        shared.changed.notify_all();
        on_done();
        if is_given_up {
            break;
        }
    }
    // Closing sled may hang, too, and whoever drops the head must not wait for that.
    drop(kv);
    shared.lock().ended = true;
    shared.changed.notify_all();
}

/// Writes a set as one batch and flushes it before the next one: batches that come faster than sled writes them can
/// end in a deadlock.
fn write(kv: &dyn KvDisk, set: Set) -> Result<(), String> {
    // `idle` is a flush, and one that puts nothing off.
    let write = || kv.apply_batch(set).and_then(|()| kv.idle());
    match catch_unwind(AssertUnwindSafe(write)) {
        Ok(result) => result.map_err(|error| format!("a write to it failed: {error}")),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(format!("a write to it panicked: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SOON: Duration = Duration::from_secs(30);
    /// For tests in which something hangs.
    const WRITE_MAX: Duration = Duration::from_millis(50);

    /// What a database was asked to do.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Call {
        Batch(Set),
        Flush,
        Closed,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Trouble {
        None,
        BatchFails,
        FlushFails,
        Panics,
        /// The call returns only when the test opens the gate.
        BatchHangs,
        ClosingHangs,
    }

    struct FakeKv {
        trouble: Trouble,
        calls: Arc<Mutex<Vec<Call>>>,
        gate: Arc<Gate>,
    }

    /// Opens at the end of a test, so that no thread is left.
    #[derive(Default)]
    struct Gate {
        is_open: Mutex<bool>,
        opened: Condvar,
    }

    impl Gate {
        fn open(&self) {
            *self.is_open.lock().expect("no holder panics") = true;
            self.opened.notify_all();
        }

        fn pass(&self) {
            let is_open = self.is_open.lock().expect("no holder panics");
            drop(self.opened.wait_while(is_open, |is_open| !*is_open).expect("no holder panics"));
        }
    }

    impl FakeKv {
        fn note(&self, call: Call) {
            self.calls.lock().expect("no holder panics").push(call);
        }
    }

    impl KvDisk for FakeKv {
        fn get(&self, _: &[u8]) -> io::Result<Option<Vec<u8>>> {
            unreachable!("a head is only written")
        }

        fn scan(&self, _: &[u8], _: Option<&[u8]>, _: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
            unreachable!("a head is only written")
        }

        fn apply_batch(&self, batch: Set) -> io::Result<()> {
            self.note(Call::Batch(batch));
            match self.trouble {
                Trouble::BatchFails => return Err(io::ErrorKind::StorageFull.into()),
                Trouble::Panics => panic!("page {} is torn", 7),
                Trouble::BatchHangs => self.gate.pass(),
                Trouble::None | Trouble::FlushFails | Trouble::ClosingHangs => {}
            }
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            self.note(Call::Flush);
            if self.trouble == Trouble::FlushFails { Err(io::Error::other("no flush")) } else { Ok(()) }
        }

        fn bytes(&self) -> u64 {
            unreachable!("a head is only written")
        }
    }

    impl Drop for FakeKv {
        fn drop(&mut self) {
            if self.trouble == Trouble::ClosingHangs {
                self.gate.pass();
            }
            self.note(Call::Closed);
        }
    }

    /// A head over such a database, and what was seen of it.
    struct Fixture {
        head: Head,
        calls: Arc<Mutex<Vec<Call>>>,
        gate: Arc<Gate>,
        done: Arc<AtomicUsize>,
    }

    impl Fixture {
        fn new(trouble: Trouble, write_max: Duration) -> Fixture {
            let (calls, gate, done) = (Arc::default(), Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
            let kv = FakeKv { trouble, calls: Arc::clone(&calls), gate: gate.clone() };
            let on_done = {
                let done = done.clone();
                move || _ = done.fetch_add(1, Ordering::SeqCst)
            };
            let head = Head::begin_within(Arc::new(kv), on_done, write_max, write_max).expect("a thread");
            Fixture { head, calls, gate, done }
        }

        fn calls(&self) -> Vec<Call> {
            self.calls.lock().expect("no holder panics").clone()
        }

        fn why(&self) -> String {
            match self.head.state() {
                HeadState::GivenUp { why } => why,
                state => panic!("{state:?}"),
            }
        }
    }

    fn set(nth: u8) -> Set {
        vec![(vec![nth], Some(vec![nth; 9])), (vec![nth - 1], None)]
    }

    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + SOON;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            thread::yield_now();
        }
    }

    #[test]
    fn sets_arrive_whole_and_in_order_and_each_is_flushed_before_the_next() {
        let mut fixture = Fixture::new(Trouble::None, SOON);
        assert_eq!(fixture.head.state(), HeadState::Idle);
        for nth in 1..=20 {
            fixture.head.give(set(nth));
            assert!(fixture.head.wait_done(SOON), "set {nth}");
            assert_eq!(fixture.head.state(), HeadState::Idle);
        }
        let expected: Vec<Call> = (1..=20).flat_map(|nth| [Call::Batch(set(nth)), Call::Flush]).collect();
        assert_eq!(fixture.calls(), expected);
        eventually("each set is reported", || fixture.done.load(Ordering::SeqCst) == 20);
    }

    #[test]
    fn an_idle_head_closes_sled_before_it_is_gone() {
        let mut fixture = Fixture::new(Trouble::None, SOON);
        fixture.head.give(set(1));
        let Fixture { head, calls, done, .. } = fixture;
        drop(head);
        let calls = calls.lock().expect("no holder panics").clone();
        assert_eq!(calls, [Call::Batch(set(1)), Call::Flush, Call::Closed], "the set under way was written");
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_head_that_fails_or_panics_is_given_up_for_good() {
        let full = io::Error::from(io::ErrorKind::StorageFull).to_string();
        for (trouble, expected, calls) in [
            (Trouble::BatchFails, format!("a write to it failed: {full}"), vec![Call::Batch(set(1))]),
            (Trouble::FlushFails, "a write to it failed: no flush".into(), vec![Call::Batch(set(1)), Call::Flush]),
            (Trouble::Panics, "a write to it panicked: page 7 is torn".into(), vec![Call::Batch(set(1))]),
        ] {
            let mut fixture = Fixture::new(trouble, SOON);
            fixture.head.give(set(1));
            assert!(!fixture.head.wait_done(SOON), "{trouble:?}");
            assert_eq!(fixture.why(), expected);
            fixture.head.give(set(2));
            assert!(!fixture.head.wait_done(SOON), "{trouble:?}");
            assert_eq!(fixture.why(), expected);
            eventually("sled is closed", || fixture.calls().last() == Some(&Call::Closed));
            assert_eq!(fixture.calls(), [calls, vec![Call::Closed]].concat(), "{trouble:?}");
            assert_eq!(fixture.done.load(Ordering::SeqCst), 1, "the set that failed is reported, too");
        }
    }

    #[test]
    fn a_head_that_hangs_is_given_up_and_stays_so_when_the_call_returns() {
        let mut fixture = Fixture::new(Trouble::BatchHangs, WRITE_MAX);
        fixture.head.give(set(1));
        eventually("it is given up", || matches!(fixture.head.state(), HeadState::GivenUp { .. }));
        assert_eq!(fixture.why(), "a write to it has not returned within 50 ms");
        fixture.head.give(set(2));
        fixture.gate.open();
        eventually("its thread ends", || fixture.calls().last() == Some(&Call::Closed));
        assert_eq!(fixture.calls(), [Call::Batch(set(1)), Call::Flush, Call::Closed]);
        assert_eq!(fixture.why(), "a write to it has not returned within 50 ms");
    }

    #[test]
    fn who_waits_for_a_head_that_hangs_waits_no_longer_than_he_wants_or_it_may_take() {
        let mut fixture = Fixture::new(Trouble::BatchHangs, SOON);
        fixture.head.give(set(1));
        assert!(!fixture.head.wait_done(Duration::from_millis(1)));
        assert!(matches!(fixture.head.state(), HeadState::Writing { .. }), "it is not given up for that");
        fixture.gate.open();
        assert!(fixture.head.wait_done(SOON));

        let mut fixture = Fixture::new(Trouble::BatchHangs, WRITE_MAX);
        fixture.head.give(set(1));
        assert!(!fixture.head.wait_done(Duration::from_secs(3600)));
        assert!(fixture.why().contains("has not returned"));
        fixture.gate.open();
    }

    #[test]
    fn nobody_waits_long_for_a_head_that_hangs_when_it_is_dropped() {
        for trouble in [Trouble::BatchHangs, Trouble::ClosingHangs] {
            let mut fixture = Fixture::new(trouble, WRITE_MAX);
            fixture.head.give(set(1));
            let Fixture { head, gate, calls, .. } = fixture;
            let begun = Instant::now();
            drop(head);
            assert!(begun.elapsed() < SOON, "{trouble:?}");
            assert!(!calls.lock().expect("no holder panics").contains(&Call::Closed), "{trouble:?}: it was left alone");
            gate.open();
            eventually("its thread ends", || calls.lock().expect("no holder panics").last() == Some(&Call::Closed));
        }
    }
}

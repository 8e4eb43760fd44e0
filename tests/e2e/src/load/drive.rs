//! Runs the writers and the readers, and reads everything back at the end. It does not decide what was right: the
//! account does.

use crate::load::account::{Account, Found, Key, PREFIX, Settled, Write};
use crate::load::report::Report;
use anyhow::{Context, Result};
use raftkv_api::{Code, Outcome};
use raftkv_client::{Cause, Client, Condition, Error, Policy, RangeQuery, ReadOptions};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Number of keys of each writer.
const KEYS_PER_WRITER: u32 = 4;
/// A node answers within 5 s, even if only that the outcome is unknown; its answer says more than silence.
const ATTEMPT_MAX: Duration = Duration::from_millis(5_500);
/// The pause between two attempts at the same thing, which makes the measured gaps less exact by as much.
const AGAIN_EVERY: Duration = Duration::from_millis(20);
/// A writer that is told to stop goes on settling its last write for this time.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// One place is read back within this time.
const READ_BACK_MAX: Duration = Duration::from_secs(20);
/// Keys of one page when everything is read back.
const PAGE_KEYS: u64 = 1_000;

/// The load to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The client URL, usually that of a Service.
    pub endpoint: String,
    /// Writers, each with its own keys.
    pub writers: u32,
    /// Readers, each of which reads all keys.
    pub readers: u32,
    /// A writer begins a write this often, at most.
    pub write_every: Duration,
    /// A reader begins a read this often, at most.
    pub read_every: Duration,
}

/// A load that runs or has run.
#[derive(Clone)]
pub struct Load {
    shared: Arc<Shared>,
}

struct Shared {
    plan: Plan,
    begun: Instant,
    account: Mutex<Account>,
    stopping: AtomicBool,
    /// What was read back, once that is done.
    ended: Mutex<Option<ReadBack>>,
}

#[derive(Clone, Default)]
struct ReadBack {
    done: Vec<String>,
    failed: Vec<String>,
}

impl Load {
    /// Starts writers and readers on the current runtime.
    pub fn start(plan: Plan) -> Result<(Load, JoinSet<()>)> {
        let shared = Shared {
            begun: Instant::now(),
            account: Mutex::default(),
            stopping: AtomicBool::new(false),
            ended: Mutex::default(),
            plan,
        };
        let load = Load { shared: Arc::new(shared) };
        let mut tasks = JoinSet::new();
        for writer in 0..load.shared.plan.writers {
            tasks.spawn(load.clone().write(writer, load.line()?));
        }
        for _ in 0..load.shared.plan.readers {
            tasks.spawn(load.clone().read(load.line()?));
        }
        Ok((load, tasks))
    }

    /// Tells writers and readers to end.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// Measures gaps from here on only.
    pub fn mark(&self) {
        let at_ms = self.now_ms();
        self.account().mark(at_ms);
    }

    /// The report so far.
    pub fn report(&self) -> Report {
        let ended = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let report = self.account().report(self.now_ms());
        match ended {
            None => report,
            Some(ReadBack { done, failed }) => {
                Report { stopped: true, read_back: done, not_read_back: failed, ..report }
            }
        }
    }

    /// Waits until writers and readers have ended, then reads everything back, from the endpoint and from `others`.
    pub async fn read_back(&self, mut tasks: JoinSet<()>, others: Vec<String>) {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                self.account().failed(format!("a writer or reader ended badly: {error}"));
            }
        }
        let mut result = ReadBack::default();
        for place in std::iter::once(self.shared.plan.endpoint.clone()).chain(others) {
            match all_keys(&place).await {
                Ok(all) => {
                    self.account().read_back(&place, &all);
                    result.done.push(place);
                }
                Err(error) => result.failed.push(format!("{place}: {error:#}")),
            }
        }
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    async fn write(self, writer: u32, mut line: Line) {
        let mut pace = ticker(self.shared.plan.write_every);
        for nth in 0_u32.. {
            pace.tick().await;
            let key = Key { writer, slot: nth % KEYS_PER_WRITER };
            if self.is_stopping() || !self.write_one(key, &mut line).await {
                return;
            }
        }
    }

    /// Sends one write until it has taken effect; `false` when this writer cannot go on.
    async fn write_one(&self, key: Key, line: &mut Line) -> bool {
        let write = self.account().begin_write(key);
        let condition = match write.after_revision {
            0 => Condition::Absent,
            revision => Condition::Revision(revision),
        };
        let value = key.value(write.sequence);
        let mut again = ticker(AGAIN_EVERY);
        let mut doubtful = false;
        let mut deadline = None;
        loop {
            again.tick().await;
            let error = match line.client.put(key.name().as_bytes(), value.clone().into(), condition).await {
                Ok(put) => {
                    let at_ms = self.now_ms();
                    self.account().acknowledged(&write, put.revision, put.version, at_ms);
                    return true;
                }
                Err(error) => error,
            };
            line.after(&error);
            match after(&error) {
                After::Again => self.account().failed(error.to_string()),
                After::Unknown => {
                    doubtful = true;
                    self.account().outcome_unknown(error.to_string());
                }
                After::Refused if doubtful => {}
                After::Refused => {
                    self.account().chain_broken(&write, &error.to_string());
                    return false;
                }
            }
            if doubtful {
                match self.settle(&write, line).await {
                    Some(Settled::Took) => return true,
                    Some(Settled::NotYet) => {}
                    Some(Settled::Broken) | None => return false,
                }
            }
            if self.is_late(&mut deadline) {
                // Nothing is unknown here: an unknown outcome was just settled.
                return false;
            }
        }
    }

    /// Reads until there is an answer, and settles the write; `None` when the load stops first.
    async fn settle(&self, write: &Write, line: &mut Line) -> Option<Settled> {
        let mut again = ticker(AGAIN_EVERY);
        let mut deadline = None;
        loop {
            again.tick().await;
            if let Some(found) = self.read_one(write.key, line).await {
                let at_ms = self.now_ms();
                return Some(self.account().settle(write, found.as_ref(), at_ms));
            }
            if self.is_late(&mut deadline) {
                self.account().left_open();
                return None;
            }
        }
    }

    async fn read(self, mut line: Line) {
        let mut pace = ticker(self.shared.plan.read_every);
        for nth in 0_usize.. {
            pace.tick().await;
            if self.is_stopping() {
                return;
            }
            let key = {
                let account = self.account();
                let keys: Vec<Key> = account.keys().collect();
                keys.get(nth % keys.len().max(1)).copied()
            };
            if let Some(key) = key {
                self.read_one(key, &mut line).await;
            }
        }
    }

    /// Makes one linearizable read and enters it into the account; `None` when it was not answered.
    async fn read_one(&self, key: Key, line: &mut Line) -> Option<Option<Found>> {
        let read = self.account().begin_read(key);
        let answer = line.client.get(key.name().as_bytes(), ReadOptions::default()).await;
        let at_ms = self.now_ms();
        match answer {
            Ok(Some(answer)) => {
                let found = Found { value: answer.value.to_vec(), revision: answer.mod_revision };
                self.account().ended(&read, Some(&found), answer.revision, at_ms);
                Some(Some(found))
            }
            Ok(None) => {
                self.account().ended_absent(&read, at_ms);
                Some(None)
            }
            Err(error) => {
                line.after(&error);
                self.account().failed(error.to_string());
                None
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// Whether the load has been stopping for [`SETTLE_MAX`], counted from this caller's first question.
    fn is_late(&self, deadline: &mut Option<Instant>) -> bool {
        if !self.is_stopping() {
            return false;
        }
        Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + SETTLE_MAX)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.shared.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> Result<Line> {
        let endpoint = self.shared.plan.endpoint.clone();
        Ok(Line { client: client(&endpoint)?, endpoint })
    }
}

/// The client of one writer or reader.
struct Line {
    endpoint: String,
    client: Client,
}

impl Line {
    /// Drops a connection to a foreign server: before the machines know where a new Service leads, its address may
    /// reach whoever listens outside.
    fn after(&mut self, error: &Error) {
        if let (Cause::Foreign { .. }, Ok(client)) = (&error.cause, client(&self.endpoint)) {
            self.client = client;
        }
    }
}

/// What to do after a failed write.
enum After {
    /// It had no effect: send the same again.
    Again,
    /// It may have had an effect.
    Unknown,
    /// The condition did not hold.
    Refused,
}

fn after(error: &Error) -> After {
    if error.code() == Some(Code::ConditionFailed) {
        return After::Refused;
    }
    match error.outcome() {
        Outcome::None => After::Again,
        Outcome::Unknown => After::Unknown,
    }
}

/// Makes one attempt per call: the loops here decide what comes next.
fn client(endpoint: &str) -> Result<Client> {
    let policy = Policy { attempt_timeout: ATTEMPT_MAX, retry_for: Duration::ZERO };
    Client::with_policy(&[endpoint], policy).with_context(|| format!("endpoint {endpoint}"))
}

/// A ticker whose first tick comes at once; a late tick delays the next one.
fn ticker(every: Duration) -> Interval {
    let mut ticker = interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// Every key below [`PREFIX`] with its version, read linearizably.
async fn all_keys(endpoint: &str) -> Result<BTreeMap<String, (Found, u64)>> {
    let client = client(endpoint)?;
    let deadline = Instant::now() + READ_BACK_MAX;
    let mut again = ticker(AGAIN_EVERY);
    loop {
        again.tick().await;
        match all_pages(&client).await {
            Err(_) if Instant::now() < deadline => {}
            result => return result.with_context(|| format!("not within {READ_BACK_MAX:?}")),
        }
    }
}

async fn all_pages(client: &Client) -> Result<BTreeMap<String, (Found, u64)>, Error> {
    let query = RangeQuery { prefix: PREFIX.into(), ..RangeQuery::default() };
    let mut pages = client.pages(query, PAGE_KEYS);
    let mut all = BTreeMap::new();
    while let Some(page) = pages.next(u64::MAX).await? {
        for kv in page.kvs {
            let value = kv.value.unwrap_or_default().into_bytes();
            let found = Found { value, revision: kv.mod_revision };
            // A key that is not UTF-8 is not ours, and is reported as such by its base64.
            all.insert(kv.key.or(kv.key_b64).unwrap_or_default(), (found, kv.version));
        }
    }
    Ok(all)
}

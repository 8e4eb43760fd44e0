//! Clients that put and delete at random, and the account that must come out: the store numbers its writes, so the
//! order of a million writes is known, and a replay in that order says what every member must hold.
//!
//! A write without an answer, or with outcome unknown, is not settled: it may have taken one of the revisions that no
//! client was told, or none.

use crate::http::{Broken, Kept, Request};
use crate::wait::{eventually_within, holds, pause};
use crate::{Entry, Export};
use anyhow::{Context, Result, anyhow, bail, ensure};
use raftkv_api::{Deleted, Outcome, Put};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A client gives up waiting for an answer after this time.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// This many of a hundred writes are deletes.
const DELETES: u32 = 15;
/// The prefix of each key; in a URL its slash is escaped.
const PREFIX: &str = "o/";

/// A write that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Number of its key.
    pub key: u32,
    /// The number of its client, and its number among that client's writes: a put's value is made of both.
    pub author: (u32, u32),
    /// Whether it is a put; else it is a delete.
    pub put: bool,
    /// Its acknowledged revision; `None` if that is unknown.
    pub revision: Option<u64>,
}

impl Write {
    fn value(&self) -> String {
        format!("client {} write {}", self.author.0, self.author.1)
    }
}

/// The totals of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Writes that were acknowledged and took a revision.
    pub acked: usize,
    /// Writes whose outcome nobody was told.
    pub unknown: usize,
    /// Revisions that no acknowledged write has.
    pub gaps: usize,
    /// Number of keys at the end.
    pub keys: usize,
}

/// Clients at work.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result<Vec<Write>>>>,
}

impl Clients {
    /// Starts this many clients on this many keys; each begins at another node.
    pub fn start(clients: usize, keys: u32, urls: &[String]) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let threads = (0..clients).map(|number| {
            let client = Client {
                number: number as u32,
                keys,
                urls: urls.to_vec(),
                at: number,
                kept: Kept::default(),
                newest: 0,
            };
            let (stopped, done) = (stop.clone(), done.clone());
            thread::spawn(move || client.run(&stopped, &done))
        });
        Clients { threads: threads.collect(), stop, done }
    }

    /// Waits until this many writes are acknowledged.
    pub fn wait_for(&self, writes: usize, deadline: Duration) -> Result<()> {
        eventually_within(deadline, &format!("{writes} writes"), || {
            if self.threads.iter().any(JoinHandle::is_finished) {
                return Ok(Err(anyhow!("a client has given up: stop them to see why")));
            }
            let done = self.done.load(Ordering::Relaxed);
            holds(done >= writes, || format!("{done} are acknowledged")).map(Ok)
        })?
    }

    /// Stops the clients; every write that was sent.
    pub fn stop(self) -> Result<Vec<Write>> {
        self.stop.store(true, Ordering::Release);
        let mut all = Vec::new();
        for thread in self.threads {
            all.append(&mut thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(all)
    }
}

struct Client {
    number: u32,
    keys: u32,
    urls: Vec<String>,
    at: usize,
    kept: Kept,
    /// The highest revision that the client was told.
    newest: u64,
}

/// The result of one call.
enum Answered {
    Done(u64),
    /// A delete of a key that was not there, with the store's revision.
    Nothing(u64),
    None,
    Unknown,
}

impl Client {
    fn run(mut self, stopped: &AtomicBool, done: &AtomicUsize) -> Result<Vec<Write>> {
        let mut random = rand::rng();
        let mut writes = Vec::new();
        let mut sent = 0;
        while !stopped.load(Ordering::Acquire) {
            sent += 1;
            let put = random.random_range(0..100) >= DELETES;
            let key = random.random_range(0..self.keys);
            let write = Write { key, author: (self.number, sent), put, revision: None };
            match self.call(&write)? {
                Answered::Done(revision) => {
                    let newest = self.newest;
                    ensure!(revision > newest, "{write:?} got revision {revision} after {newest}");
                    self.newest = revision;
                    done.fetch_add(1, Ordering::Relaxed);
                    writes.push(Write { revision: Some(revision), ..write });
                }
                Answered::Nothing(revision) => {
                    let newest = self.newest;
                    ensure!(revision >= newest, "{write:?} was at revision {revision} after {newest}");
                    self.newest = revision;
                }
                Answered::Unknown => writes.push(write),
                Answered::None => pause(),
            }
        }
        Ok(writes)
    }

    fn call(&mut self, write: &Write) -> Result<Answered> {
        let url = self.urls[self.at % self.urls.len()].clone();
        let method = if write.put { "PUT" } else { "DELETE" };
        let body = if write.put { write.value() } else { String::new() };
        let target = format!("{url}/v1/kv/{}", key_of(write.key).replace('/', "%2F"));
        let answer = match self.kept.exchange(&url, &Request::new(method, &target).body(body), ANSWER_MAX) {
            Ok(answer) => answer,
            Err(broken) => {
                self.at += 1;
                return Ok(match broken {
                    Broken::NotSent(_) => Answered::None,
                    Broken::NoAnswer(_) => Answered::Unknown,
                });
            }
        };
        match answer.status {
            200 if write.put => Ok(Answered::Done(answer.json::<Put>()?.revision)),
            200 => {
                let Deleted { revision, deleted } = answer.json()?;
                Ok(if deleted { Answered::Done(revision) } else { Answered::Nothing(revision) })
            }
            429 | 503 | 504 => {
                self.at += 1;
                let unknown = answer.problem()?.outcome == Outcome::Unknown;
                Ok(if unknown { Answered::Unknown } else { Answered::None })
            }
            status => bail!("{write:?} was answered {status}: {}", answer.text()),
        }
    }
}

fn key_of(number: u32) -> String {
    format!("{PREFIX}{number:08}")
}

/// What a key must be according to the acknowledged writes, and the writes to it whose outcome is unknown.
#[derive(Default)]
struct Account {
    /// The last acknowledged write.
    last: Option<Write>,
    /// The state after that write: revision of the creation and number of writes; (0, 0) when the key is deleted.
    create_revision: u64,
    version: u64,
    unknown: Vec<Write>,
}

/// Replays all writes since revision `begun` in the order of their revisions, and compares the result with what a
/// member holds.
pub fn check(writes: &[Write], begun: u64, export: &Export) -> Result<Summary> {
    let mut acked: Vec<&Write> = writes.iter().filter(|write| write.revision.is_some()).collect();
    acked.sort_by_key(|write| write.revision);
    for pair in acked.windows(2) {
        ensure!(pair[0].revision < pair[1].revision, "{:?} and {:?} were given one revision", pair[0], pair[1]);
    }
    let first = acked.first().and_then(|write| write.revision).unwrap_or(begun + 1);
    let last = acked.last().and_then(|write| write.revision).unwrap_or(begun);
    let end = export.revision;
    ensure!(begun < first && last <= end, "revisions {first} to {last} are not within {begun} to {end}");
    let unknown = writes.len() - acked.len();
    let gaps = (end - begun) as usize - acked.len();
    ensure!(gaps <= unknown, "{gaps} revisions belong to no acknowledged write, and {unknown} are unknown");

    let mut accounts: BTreeMap<u32, Account> = BTreeMap::new();
    acked.iter().for_each(|write| accounts.entry(write.key).or_default().replay(write));
    for write in writes.iter().filter(|write| write.revision.is_none()) {
        accounts.entry(write.key).or_default().unknown.push(*write);
    }
    let told: BTreeSet<u64> = acked.iter().filter_map(|write| write.revision).collect();
    for (key, account) in &accounts {
        let found = export.entries.get(key_of(*key).as_bytes());
        account.check(found, &told).with_context(|| key_of(*key))?;
    }
    let known: BTreeSet<String> = accounts.keys().map(|key| key_of(*key)).collect();
    let stranger = export.entries.keys().find(|key| !known.contains(&*String::from_utf8_lossy(key)));
    ensure!(stranger.is_none(), "nobody wrote key {:?}", stranger.map(|key| key.escape_ascii().to_string()));
    Ok(Summary { acked: acked.len(), unknown, gaps, keys: export.entries.len() })
}

impl Account {
    fn replay(&mut self, write: &Write) {
        let revision = write.revision.unwrap_or(0);
        let created = if self.version == 0 { revision } else { self.create_revision };
        (self.create_revision, self.version) = if write.put { (created, self.version + 1) } else { (0, 0) };
        self.last = Some(*write);
    }

    fn check(&self, found: Option<&Entry>, told: &BTreeSet<u64>) -> Result<()> {
        let last = self.last.as_ref().filter(|write| write.put);
        let Some(entry) = found else {
            let gone = last.is_none() || self.unknown.iter().any(|write| !write.put);
            ensure!(gone, "{last:?} was acknowledged, nobody deleted it, and it is lost");
            return Ok(());
        };
        let value = String::from_utf8_lossy(&entry.value);
        let told_last = self.last.and_then(|write| write.revision).unwrap_or(0);
        if entry.mod_revision == told_last {
            let wanted = last.map(Write::value).unwrap_or_default();
            ensure!(value == wanted, "'{value}' stands at revision {told_last}, where '{wanted}' was written");
            let numbers = (entry.create_revision, entry.version);
            let exact = self.unknown.is_empty();
            ensure!(!exact || numbers == (self.create_revision, self.version), "{entry:?} has had other writes");
            return Ok(());
        }
        ensure!(entry.mod_revision > told_last, "{entry:?} hides {:?}: it is lost", self.last);
        ensure!(!told.contains(&entry.mod_revision), "{entry:?} has the revision of a write to another key");
        let ours = self.unknown.iter().any(|write| write.put && write.value() == value);
        ensure!(ours, "nobody wrote '{value}'");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: u32, number: u32, revision: Option<u64>) -> Write {
        Write { key, author: (0, number), put: true, revision }
    }

    fn entry(write: Write, mod_revision: u64, create_revision: u64, version: u64) -> (Vec<u8>, Entry) {
        let entry = Entry { value: write.value().into_bytes(), mod_revision, create_revision, version };
        (key_of(write.key).into_bytes(), entry)
    }

    fn export(revision: u64, entries: &[(Vec<u8>, Entry)]) -> Export {
        Export { revision, entries: entries.iter().cloned().collect() }
    }

    #[test]
    fn a_replay_gives_what_is_there_with_unknown_writes_in_the_gaps() {
        let first = write(1, 1, Some(5));
        let second = write(1, 2, Some(7));
        let deleted = Write { put: false, ..write(2, 3, Some(8)) };
        let unknown = write(2, 4, None);
        let writes = [second, first, deleted, unknown, write(2, 5, Some(6))];
        let now = entry(second, 7, 5, 2);
        let summary = Summary { acked: 4, unknown: 1, gaps: 0, keys: 1 };
        assert_eq!(check(&writes, 4, &export(8, std::slice::from_ref(&now))).unwrap(), summary);
        let summary = Summary { acked: 4, unknown: 1, gaps: 1, keys: 2 };
        assert_eq!(check(&writes, 4, &export(9, &[now, entry(unknown, 9, 9, 1)])).unwrap(), summary);
    }

    #[test]
    fn whatever_is_lost_doubled_or_strange_is_noticed() {
        let (first, second) = (write(1, 1, Some(5)), write(1, 2, Some(6)));
        let writes = [first, second];
        let bad = |writes: &[Write], export: &Export| check(writes, 4, export).unwrap_err().to_string();
        check(&writes, 4, &export(6, &[entry(second, 6, 5, 2)])).unwrap();
        let wrong = [
            ("lost", export(6, &[])),
            ("an older write", export(6, &[entry(first, 5, 5, 1)])),
            ("another value", export(6, &[entry(first, 6, 5, 2)])),
            ("applied twice", export(6, &[entry(second, 6, 5, 3)])),
            ("a newer write of nobody", export(7, &[entry(second, 7, 5, 3)])),
            ("a revision of nobody", export(7, &[entry(second, 6, 5, 2)])),
            ("a key of nobody", export(6, &[entry(second, 6, 5, 2), entry(write(9, 9, None), 6, 6, 1)])),
            ("a revision too few", export(5, &[entry(second, 6, 5, 2)])),
        ];
        for (what, export) in &wrong {
            assert!(check(&writes, 4, export).is_err(), "{what}");
        }
        let twice = [first, write(2, 3, Some(5))];
        assert!(bad(&twice, &export(6, &[entry(first, 5, 5, 1)])).contains("one revision"));
    }
}

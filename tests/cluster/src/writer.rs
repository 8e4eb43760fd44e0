//! A client that writes one key after another and keeps account of every write that was acknowledged.
//!
//! A write whose outcome is unknown is settled before the next one (rule N5): the client reads linearizably; if the
//! wanted value is there, the write is done; else it writes again with `If-None-Match: *`, and on 412 it reads again.
//! So at the end every key that was begun is known to be there, whatever was killed in between.

use crate::http::{Answer, Broken, Kept, Request, SILENCE_MAX};
use crate::wait::{eventually, holds, pause};
use crate::{Cluster, Entry};
use anyhow::{Context, Result, anyhow, bail, ensure};
use raftkv_api::{Outcome, Put};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Each key must be written within this time, whatever happens to the cluster.
const KEY_MAX: Duration = Duration::from_secs(30);

/// Everything that a writer knows to be in the store.
#[derive(Debug, Default)]
pub struct Written {
    /// Value and revision by key.
    pub keys: BTreeMap<String, (String, u64)>,
    /// Writes whose outcome had to be settled.
    pub unknown: usize,
    /// The longest time that one key took.
    pub longest: Duration,
}

/// A thread that writes.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    urls: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<Result<Written>>,
}

impl Writer {
    /// Starts a writer of `<name>/00000000`, `<name>/00000001`, ... through whichever of `urls` answers.
    pub fn start(name: &str, urls: Vec<String>) -> Writer {
        let writer_urls = Arc::new(Mutex::new(urls));
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut client = Client { urls: writer_urls.clone(), at: 0, kept: Kept::default() };
        let (name, stopped, count) = (name.to_string(), stop.clone(), acknowledged.clone());
        let thread = thread::spawn(move || {
            let mut written = Written::default();
            while !stopped.load(Ordering::Acquire) {
                let nth = written.keys.len();
                let (key, value) = (format!("{name}/{nth:08}"), format!("{name} wrote {nth}"));
                let begun = Instant::now();
                let revision = client.write(&key, &value, &mut written.unknown).with_context(|| key.clone())?;
                written.longest = written.longest.max(begun.elapsed());
                written.keys.insert(key, (value, revision));
                count.store(written.keys.len(), Ordering::Release);
            }
            Ok(written)
        });
        Writer { stop, acknowledged, urls: writer_urls, thread }
    }

    /// Number of writes acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until `more` further writes are acknowledged.
    pub fn wait_for(&self, more: usize) -> Result<()> {
        let goal = self.acknowledged() + more;
        eventually(&format!("{more} further writes"), || {
            if self.thread.is_finished() {
                return Ok(Err(anyhow!("the writer has given up: stop it to see why")));
            }
            let got = self.acknowledged();
            holds(got >= goal, || format!("{got} of {goal} writes are acknowledged")).map(Ok)
        })?
    }

    /// Changes the endpoints, from the next request on.
    pub fn use_urls(&self, urls: Vec<String>) {
        *self.urls.lock().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// Stops the writer after the key that it is writing.
    pub fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the writer panicked"))?
    }
}

impl Written {
    /// Checks that every node holds every acknowledged write as it was acknowledged, and nothing else under these
    /// names.
    pub fn verify(&self, cluster: &mut Cluster) -> Result<()> {
        let prefix = self.keys.keys().next().and_then(|key| key.split('/').next()).context("nothing was written")?;
        let export = cluster.export(&format!("{prefix}%2F"))?;
        for (key, (value, revision)) in &self.keys {
            let found = export.entries.get(key.as_bytes());
            let entry = found.with_context(|| format!("{key} was acknowledged at revision {revision} and is lost"))?;
            check(key, value, *revision, entry)?;
        }
        ensure!(export.entries.len() == self.keys.len(), "{} keys for {}", export.entries.len(), self.keys.len());
        Ok(())
    }
}

fn check(key: &str, value: &str, revision: u64, entry: &Entry) -> Result<()> {
    let found = String::from_utf8_lossy(&entry.value);
    ensure!(found == value, "{key} is '{found}' and '{value}' was acknowledged");
    ensure!(entry.mod_revision == revision, "{key} is of revision {}, acknowledged was {revision}", entry.mod_revision);
    // Each key is written once: a second version is a write that was applied twice.
    ensure!(entry.version == 1, "{key} was written {} times", entry.version);
    Ok(())
}

/// The result of one attempt.
enum Attempt {
    Acknowledged(u64),
    /// The write had no effect and will have none.
    NotTaken(String),
    /// The condition of a conditional write did not hold.
    ConditionFailed,
    Unknown,
}

struct Client {
    urls: Arc<Mutex<Vec<String>>>,
    at: usize,
    kept: Kept,
}

impl Client {
    fn write(&mut self, key: &str, value: &str, unknown: &mut usize) -> Result<u64> {
        let deadline = Instant::now() + KEY_MAX;
        let mut condition = false;
        loop {
            let late = Instant::now() > deadline;
            match self.put(key, value, condition)? {
                Attempt::Acknowledged(revision) => return Ok(revision),
                Attempt::NotTaken(why) if late => bail!("not within {KEY_MAX:?}: {why}"),
                Attempt::NotTaken(_) => pause(),
                Attempt::ConditionFailed | Attempt::Unknown => {
                    *unknown += 1;
                    if let Some(revision) = self.settle(key, value, deadline)? {
                        return Ok(revision);
                    }
                    condition = true;
                }
            }
        }
    }

    fn put(&mut self, key: &str, value: &str, only_new: bool) -> Result<Attempt> {
        let url = self.url();
        let mut request = Request::new("PUT", &format!("{url}/v1/kv/{key}")).body(value);
        if only_new {
            request = request.header("If-None-Match", "*");
        }
        let answer = match self.exchange(&url, &request) {
            Ok(answer) => answer,
            Err(Broken::NotSent(why)) => return Ok(Attempt::NotTaken(why)),
            Err(Broken::NoAnswer(_)) => return Ok(Attempt::Unknown),
        };
        if answer.status == 200 {
            return Ok(Attempt::Acknowledged(answer.json::<Put>()?.revision));
        }
        let problem = answer.problem()?;
        self.elsewhere();
        match (problem.outcome, answer.status) {
            (Outcome::None, 412) if only_new => Ok(Attempt::ConditionFailed),
            (Outcome::None, 429 | 503 | 504 | 507) => Ok(Attempt::NotTaken(problem.detail)),
            (Outcome::Unknown, 503 | 504) => Ok(Attempt::Unknown),
            (Outcome::None | Outcome::Unknown, _) => Err(anyhow!("a plain write was answered {problem:?}")),
        }
    }

    /// Reads until there is an answer: the revision if the value is there, `None` if the key is not there.
    fn settle(&mut self, key: &str, value: &str, deadline: Instant) -> Result<Option<u64>> {
        loop {
            let url = self.url();
            let why = match self.exchange(&url, &Request::new("GET", &format!("{url}/v1/kv/{key}"))) {
                Ok(answer) if answer.status == 200 => {
                    ensure!(answer.text() == value, "it holds '{}', which nobody wrote", answer.text());
                    return answer.etag().map(Some);
                }
                Ok(answer) if answer.status == 404 => return Ok(None),
                Ok(answer) => answer.text(),
                Err(Broken::NotSent(why) | Broken::NoAnswer(why)) => why,
            };
            ensure!(Instant::now() < deadline, "not settled within {KEY_MAX:?}: {why}");
            self.elsewhere();
            pause();
        }
    }

    fn url(&self) -> String {
        let urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        urls[self.at % urls.len()].clone()
    }

    fn elsewhere(&mut self) {
        self.at += 1;
    }

    fn exchange(&mut self, url: &str, request: &Request) -> Result<Answer, Broken> {
        let answer = self.kept.exchange(url, request, SILENCE_MAX);
        if answer.is_err() {
            self.elsewhere();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_notices_a_wrong_value_a_wrong_revision_and_a_second_write() {
        let entry = Entry { value: b"v".to_vec(), mod_revision: 7, create_revision: 7, version: 1 };
        check("k", "v", 7, &entry).unwrap();
        assert!(check("k", "w", 7, &entry).is_err());
        assert!(check("k", "v", 8, &entry).is_err());
        assert!(check("k", "v", 7, &Entry { version: 2, ..entry }).is_err());
    }
}

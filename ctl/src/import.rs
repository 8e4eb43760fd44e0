//! `import`: a whole input, many keys at once, each one settled.
//!
//! The input is read into memory, parsed and checked before the first write: a repeated key or a malformed
//! record changes nothing. Then a fixed number of workers take records from one list. The first key that
//! cannot be written stops them all; those in flight are finished, so that every outcome is known or told.
//!
//! # Caveats
//! Memory is the size of the input, plus the decoded values with `jsonl`, plus some 100 bytes a record.

use crate::args::{self, FileFormat, Output};
use crate::context::Context;
use crate::progress::{Progress, per_second};
use crate::record::{FormatError, Record, check, without_mark};
use crate::report::Failed;
use crate::streams::{print_done, stdin, warn};
use crate::table::bytes;
use crate::{deb822, jsonl};
use bytes::Bytes;
use raftkv_api::Outcome;
use raftkv_client::settle::{self, Unsettled};
use raftkv_client::{Client, Policy};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// For how long the client itself goes through the endpoints before the settling logic looks at the result.
const RETRY_FOR_MS: u64 = 2_000;
/// How often progress is shown.
const PROGRESS_EVERY_MS: u64 = 200;

pub(crate) async fn import(context: &Context, args: args::Import) -> Result<(), Failed> {
    let input = without_mark(read(&args.file).await?)?;
    let records = match args.format {
        FileFormat::Jsonl => jsonl::parse(&input)?,
        FileFormat::Deb822 => deb822::parse(&input)?,
    };
    check(&records)?;
    let policy = Policy { retry_for: Duration::from_millis(RETRY_FOR_MS), ..Policy::default() };
    let client = Client::with_policy(&context.global.endpoints, policy)?;
    let work = Arc::new(Work::new(client, records, Duration::from_secs(args.timeout_s)));
    let mut progress = Progress::start("imported", work.records.len() as u64);
    let unfinished = Unfinished(&work);
    let failure = run(&work, args.concurrency, &mut progress).await;
    unfinished.ended();
    let told = tell(&work, progress.finish(), context.output);
    // Why keys are missing matters more than that nobody could be told how many are there.
    failure.map_or(told, Err)
}

/// Says how far an import has come that is dropped before its end, which a signal does.
struct Unfinished<'a>(&'a Work);

impl Unfinished<'_> {
    /// It has come to its end, and tells of it otherwise.
    fn ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let (keys, total) = (self.0.keys.load(Ordering::Relaxed), self.0.records.len());
        warn(&format!(
            "interrupted: {keys} of {total} keys are written, and of those in flight nothing is known; the same import \
             again is harmless\n"
        ));
    }
}

async fn read(file: &Path) -> Result<Bytes, Failed> {
    if file != Path::new("-") {
        let bytes = std::fs::read(file).map_err(Failed::io(file.display().to_string()))?;
        return Ok(bytes.into());
    }
    Ok(stdin().await?.into())
}

/// What the workers share.
struct Work {
    client: Client,
    records: Vec<Record>,
    key_timeout: Duration,
    next: AtomicUsize,
    stop: AtomicBool,
    keys: AtomicU64,
    bytes: AtomicU64,
    settled: AtomicU64,
}

impl Work {
    fn new(client: Client, records: Vec<Record>, key_timeout: Duration) -> Self {
        Work {
            client,
            records,
            key_timeout,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            keys: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            settled: AtomicU64::new(0),
        }
    }

    /// Takes records until there are none, or one of them fails anywhere.
    async fn take(self: Arc<Self>) -> Result<(), Failed> {
        while !self.stop.load(Ordering::Relaxed)
            && let Some(record) = self.records.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let deadline = Instant::now() + self.key_timeout;
            match settle::put(&self.client, &record.key, &record.value, deadline).await {
                Ok(unknown) => {
                    self.keys.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add((record.key.len() + record.value.len()) as u64, Ordering::Relaxed);
                    self.settled.fetch_add(unknown, Ordering::Relaxed);
                }
                Err(Unsettled { error, outcome }) => {
                    self.stop.store(true, Ordering::Relaxed);
                    let key = FormatError::quote(&record.key);
                    return Err(Failed::Import { key, line: record.line, error, outcome });
                }
            }
        }
        Ok(())
    }
}

/// Runs the workers to their end; of several failures, one with an unknown outcome is returned first.
async fn run(work: &Arc<Work>, concurrency: usize, progress: &mut Progress) -> Option<Failed> {
    let mut workers = JoinSet::new();
    for _ in 0..concurrency.min(work.records.len()) {
        workers.spawn(work.clone().take());
    }
    let mut ticks = interval(Duration::from_millis(PROGRESS_EVERY_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failure = None;
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => break,
                Some(result) => if let Err(failed) = result.expect("a worker neither panics nor is aborted") {
                    failure = Some(worse(failure, failed));
                },
            },
            _ = ticks.tick() => progress.update(work.keys.load(Ordering::Relaxed), work.bytes.load(Ordering::Relaxed)),
        }
    }
    failure
}

fn worse(first: Option<Failed>, second: Failed) -> Failed {
    match (first, &second) {
        (Some(first), Failed::Import { outcome: Outcome::None, .. }) => first,
        (Some(_) | None, _) => second,
    }
}

fn tell(work: &Work, elapsed: Duration, output: Output) -> Result<(), Failed> {
    let (keys, settled) = (work.keys.load(Ordering::Relaxed), work.settled.load(Ordering::Relaxed));
    let (size, total) = (work.bytes.load(Ordering::Relaxed), work.records.len());
    let (seconds, rate) = (elapsed.as_secs_f64(), per_second(keys, elapsed));
    let json = json!({
        "keys": keys, "keys_in_input": total, "bytes": size, "seconds": seconds, "keys_per_s": rate,
        "unknown_outcomes_settled": settled,
    });
    let size = bytes(size);
    let words = format!(
        "imported {keys} of {total} keys, {size} in {seconds:.1} s ({rate:.0} keys/s), {settled} unknown outcomes settled"
    );
    print_done(output, &json, &words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_api::Code;
    use raftkv_client::testing::{Reply, Server};

    fn work(server: &Server, keys: &[&'static str]) -> Arc<Work> {
        let client = Client::new(&[server.url()]).unwrap();
        let record = |key: &&'static str| Record { key: (*key).into(), value: "v".into(), line: 1 };
        Arc::new(Work::new(client, keys.iter().map(record).collect(), Duration::from_secs(20)))
    }

    #[tokio::test]
    async fn every_record_is_written_once_and_settled() {
        let server = Server::start([Reply::put(1), Reply::Hangup, Reply::found("v", 2), Reply::put(3)]).await;
        let work = work(&server, &["a", "b", "c"]);
        assert!(run(&work, 1, &mut Progress::start("imported", 3)).await.is_none());
        assert_eq!(server.targets(), ["PUT /v1/kv/a", "PUT /v1/kv/b", "GET /v1/kv/b", "PUT /v1/kv/c"]);
        assert_eq!(work.settled.load(Ordering::Relaxed), 1);
        assert_eq!((work.keys.load(Ordering::Relaxed), work.bytes.load(Ordering::Relaxed)), (3, 6));
    }

    #[tokio::test]
    async fn a_refused_key_stops_the_import_and_is_named() {
        let server = Server::start([Reply::put(1), Reply::problem(Code::BodyTooLarge, Outcome::None)]).await;
        let work = work(&server, &["a", "b", "c"]);
        let failed = run(&work, 1, &mut Progress::start("imported", 3)).await.unwrap();
        assert!(failed.to_string().starts_with("key 'b' (line 1)"), "{failed}");
        assert_eq!(server.targets().len(), 2);
    }
}

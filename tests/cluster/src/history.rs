//! Clients that read and write a few keys at random and note each call and each answer, for a linearizability checker.
//!
//! A call that was not answered in time, or was answered with outcome unknown, may take effect at any later time. A
//! call that was answered with outcome none did not happen and is left out.

use crate::http::{Answer, Broken, Kept, Request};
use anyhow::{Context, Result, anyhow, bail, ensure};
use raftkv_api::{Deleted, Outcome, Put};
use rand::Rng;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Clients of a history.
const CLIENTS: usize = 8;
/// A client gives up waiting for an answer after this time.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Longest pause of a client between two calls.
const PAUSE_MS_MAX: u64 = 20;
/// Name of the checker's directory and of its binary.
const CHECKER: &str = "porcupine";

/// An operation as it was called and answered; see `porcupine/main.go`, which reads it.
#[derive(Clone, Debug, Serialize)]
struct Operation {
    client: usize,
    key: String,
    call_ns: u64,
    return_ns: Option<u64>,
    kind: &'static str,
    value: String,
    r#if: Option<u64>,
    outcome: &'static str,
    revision: u64,
    got: String,
    deleted: bool,
}

/// Clients that run.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Operation>>>>,
}

impl Clients {
    /// Starts the clients on keys `<prefix>/0` to `<prefix>/<keys - 1>`; for each call a client picks a node at random.
    pub fn start(prefix: &str, keys: usize, urls: &[String]) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let threads = (0..CLIENTS).map(|number| {
            let client = Client {
                number,
                begun,
                keys: (0..keys).map(|key| format!("{prefix}%2F{key}")).collect(),
                urls: urls.to_vec(),
                kept: Kept::default(),
                seen: vec![0; keys],
            };
            let stopped = stop.clone();
            thread::spawn(move || client.run(&stopped))
        });
        Clients { threads: threads.collect(), stop }
    }

    /// Stops the clients and writes their history into a file; the number of operations.
    pub fn stop(self, path: &Path) -> Result<usize> {
        self.stop.store(true, Ordering::Release);
        let mut file = BufWriter::new(File::create(path).with_context(|| format!("{}", path.display()))?);
        let mut count = 0;
        for thread in self.threads {
            let operations = thread.join().map_err(|_| anyhow!("a client panicked"))??;
            count += operations.len();
            for operation in &operations {
                serde_json::to_writer(&mut file, operation)?;
                file.write_all(b"\n")?;
            }
        }
        file.flush()?;
        Ok(count)
    }
}

struct Client {
    number: usize,
    begun: Instant,
    keys: Vec<String>,
    urls: Vec<String>,
    kept: Kept,
    /// The newest revision of each key that this client saw: conditions that never hold would test nothing.
    seen: Vec<u64>,
}

impl Client {
    fn run(mut self, stopped: &AtomicBool) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        let mut random = rand::rng();
        let mut writes = 0;
        while !stopped.load(Ordering::Acquire) {
            let key = random.random_range(0..self.keys.len());
            let (kind, r#if) = match random.random_range(0..10) {
                0..4 => ("get", None),
                4..7 => ("put", None),
                7..9 => ("put", Some(self.seen[key])),
                _ => ("delete", None),
            };
            writes += 1;
            let value = if kind == "put" { format!("c{}-{writes}", self.number) } else { String::new() };
            let node = random.random_range(0..self.urls.len());
            operations.extend(self.call(node, key, kind, value, r#if)?);
            thread::park_timeout(Duration::from_millis(random.random_range(0..PAUSE_MS_MAX)));
        }
        Ok(operations)
    }

    /// Makes one call; `None` when it did not happen.
    fn call(
        &mut self,
        node: usize,
        key: usize,
        kind: &'static str,
        value: String,
        r#if: Option<u64>,
    ) -> Result<Option<Operation>> {
        let (method, name) = match kind {
            "get" => ("GET", &self.keys[key]),
            "put" => ("PUT", &self.keys[key]),
            _ => ("DELETE", &self.keys[key]),
        };
        let mut request = Request::new(method, &format!("{}/v1/kv/{name}", self.urls[node])).body(value.clone());
        request = match r#if {
            None => request,
            Some(0) => request.header("If-None-Match", "*"),
            Some(revision) => request.header("If-Match", format!("\"{revision}\"")),
        };
        let mut operation = Operation {
            client: self.number,
            key: name.clone(),
            call_ns: self.now_ns(),
            return_ns: None,
            kind,
            value,
            r#if,
            outcome: "unknown",
            revision: 0,
            got: String::new(),
            deleted: false,
        };
        let answer = match self.kept.exchange(&self.urls[node], &request, ANSWER_MAX) {
            Ok(answer) => answer,
            // A read without an answer tells nothing.
            Err(Broken::NoAnswer(_)) if kind != "get" => return Ok(Some(operation)),
            Err(Broken::NoAnswer(_) | Broken::NotSent(_)) => return Ok(None),
        };
        let returned = self.now_ns();
        if !note(&mut operation, &answer)? {
            return Ok(None);
        }
        if operation.outcome != "unknown" {
            operation.return_ns = Some(returned);
            let gone = kind == "delete";
            self.seen[key] = if gone { 0 } else { operation.revision };
        }
        Ok(Some(operation))
    }

    fn now_ns(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }
}

/// Notes an answer; false when the call had no effect and tells nothing.
fn note(operation: &mut Operation, answer: &Answer) -> Result<bool> {
    match (operation.kind, answer.status) {
        ("get", 200) => (operation.revision, operation.got) = (answer.etag()?, answer.text()),
        ("get", 404) => {}
        ("put", 200) => operation.revision = answer.json::<Put>()?.revision,
        ("delete", 200) => operation.deleted = answer.json::<Deleted>()?.deleted,
        ("put", 412) => {
            let problem = answer.problem()?;
            operation.outcome = "failed";
            operation.revision = problem.current_revision.context("412 without current_revision")?.unwrap_or(0);
            return Ok(true);
        }
        ("get", 429 | 503 | 504) => return Ok(false),
        (_, 429 | 503 | 504 | 507) => {
            let outcome = answer.problem()?.outcome;
            return Ok(outcome == Outcome::Unknown);
        }
        (kind, status) => bail!("a {kind} was answered {status}: {}", answer.text()),
    }
    operation.outcome = "done";
    Ok(true)
}

/// Builds Porcupine from its Go module and lets it check these histories; returns its output.
///
/// # Errors
/// When a history is not linearizable, or was not decided.
pub fn check(histories: &[PathBuf]) -> Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHECKER);
    let checker = histories.first().and_then(|path| path.parent()).context("no history")?.join(CHECKER);
    let built = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&checker)
        .current_dir(&source)
        .output()
        .context("the checker must be built, and there is no go: install Go 1.26 or newer")?;
    ensure!(built.status.success(), "the checker does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    let said = Command::new(&checker).args(histories).output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
    Ok(text)
}

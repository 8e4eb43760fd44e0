//! Thousands of clients in one thread: bad ones that hold connections and give nothing, and many that write at once.
//!
//! Enters: addresses and a number of clients. Leaves, when the crowd is sent home: what it was told, and every write
//! that was acknowledged to it. What comes back is read as far as is needed to tell one answer from the next.

use crate::export::Export;
use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Files that the test needs for itself besides its crowd.
const OTHER_FILES: u64 = 200;
/// How often a dripping client sends its next byte.
const DRIP: Duration = Duration::from_secs(1);
/// Longer than a node waits for somebody who takes nothing of an answer.
const UNREAD_SECONDS: usize = 12;
/// Who is refused pauses for so long, as `Retry-After` would have it.
const RETRY: Duration = Duration::from_millis(200);

/// In which way a client is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Connects and says nothing.
    Silent,
    /// Sends one byte of its head a second.
    Dripping,
    /// Asks for everything under a prefix and takes none of the answer.
    Unread(&'static str),
}

/// What a crowd was told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Refusals by the problem's code.
    pub codes: BTreeMap<String, u64>,
    /// Connections that ended without the answer to what was asked. One that never had an answer does not count: where more
    /// come at once than the system queues, it lets some go that no node has seen.
    pub broken: u64,
    /// The longest time that one answer took.
    pub longest: Duration,
    /// Revision by key, of every write that was acknowledged.
    pub written: BTreeMap<String, u64>,
}

/// A crowd at work.
pub struct Crowd {
    home: watch::Sender<bool>,
    told: Arc<Mutex<Told>>,
    thread: JoinHandle<Result<()>>,
}

/// Lets this process have so many connections, as far as the system allows, and says how many it may have.
pub fn room_for(connections: usize) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHER_FILES;
    let wanted = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current.is_some_and(|current| current < wanted) {
        // Refused, it is as it was: the caller is told how many there are.
        let _refused = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES)
}

impl Crowd {
    /// So many bad clients of each of these kinds at `address`; whoever is hung up on comes back.
    pub fn bad(address: &str, kinds: &[Bad], each: usize) -> Crowd {
        let clients = kinds.iter().flat_map(|kind| std::iter::repeat_n(*kind, each)).collect::<Vec<_>>();
        let address = address.to_string();
        Crowd::gather(move |home, _told| {
            for kind in clients {
                let (address, mut home) = (address.clone(), home.clone());
                tokio::spawn(async move {
                    while !*home.borrow() {
                        tokio::select! {
                            _ = home.changed() => {}
                            _ = be_bad(&address, kind) => tokio::task::yield_now().await,
                        }
                    }
                });
            }
        })
    }

    /// So many clients that each write one key after another, `<name>/<client>/<nth>`, at one of `addresses`, with values of
    /// so many bytes.
    pub fn writers(name: &str, addresses: Vec<String>, clients: usize, value_bytes: usize) -> Crowd {
        let name = name.to_string();
        Crowd::gather(move |home, told| {
            for client in 0..clients {
                let address = addresses[client % addresses.len()].clone();
                let (home, told, prefix) = (home.clone(), told.clone(), format!("{name}/{client:05}"));
                tokio::spawn(write_on(address, (prefix, value_bytes), home, told));
            }
        })
    }

    fn gather(begin: impl FnOnce(watch::Receiver<bool>, Arc<Mutex<Told>>) + Send + 'static) -> Crowd {
        let (home, at_home) = watch::channel(false);
        let told = Arc::new(Mutex::new(Told::default()));
        let shared = told.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut end = at_home.clone();
                begin(at_home, shared);
                end.wait_for(|home| *home).await.map(drop)
            })?;
            // Whatever is in flight is dropped with the runtime: its outcome is unknown, as to any client that leaves.
            Ok(())
        });
        Crowd { home, told, thread }
    }

    /// What it was told so far.
    pub fn told(&self) -> Told {
        lock(&self.told).clone()
    }

    /// Ends it.
    pub fn go_home(self) -> Result<Told> {
        self.home.send(true).context("the crowd has left")?;
        self.thread.join().map_err(|_| anyhow!("the crowd panicked"))??;
        let told = lock(&self.told).clone();
        Ok(told)
    }
}

impl Told {
    /// Every write of a key with this prefix that was acknowledged to the crowd is there as it was acknowledged.
    pub fn verify(&self, prefix: &str, export: &Export) -> Result<()> {
        for (key, revision) in self.written.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let entry =
                export.entries.get(key.as_bytes()).with_context(|| format!("{key} was acknowledged and is lost"))?;
            ensure!(entry.mod_revision == *revision, "{key} is of revision {}, not {revision}", entry.mod_revision);
            ensure!(entry.version == 1, "{key} was written {} times", entry.version);
        }
        Ok(())
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the node hangs up.
async fn be_bad(address: &str, kind: Bad) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    match kind {
        Bad::Silent => {}
        Bad::Dripping => {
            let mut drops = interval(DRIP);
            drops.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for byte in b"GET /v1/kv/k HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
                drops.tick().await;
                stream.write_all(&[*byte]).await?;
            }
        }
        Bad::Unread(prefix) => {
            let ask = format!("GET /v1/kv?prefix={prefix} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
            stream.write_all(ask.as_bytes()).await?;
            // Nobody who doesn't read learns that the node has hung up: ask again when it has.
            let mut checks = interval(DRIP);
            for _ in 0..UNREAD_SECONDS {
                checks.tick().await;
            }
            return Ok(());
        }
    }
    stream.read(&mut [0; 64]).await.map(drop)
}

async fn write_on(
    address: String,
    (prefix, value_bytes): (String, usize),
    home: watch::Receiver<bool>,
    told: Arc<Mutex<Told>>,
) {
    let mut nth = 0;
    while !*home.borrow() {
        let Ok(stream) = TcpStream::connect(&address).await else {
            lock(&told).broken += 1;
            let _pause = timeout(RETRY, std::future::pending::<()>()).await;
            continue;
        };
        let (mut stream, mut is_taken) = (BufReader::new(stream), false);
        loop {
            let key = format!("{prefix}/{nth}");
            nth += 1;
            let begun = Instant::now();
            let Ok(answer) = put(&mut stream, &key, value_bytes).await else {
                lock(&told).broken += u64::from(is_taken);
                break;
            };
            is_taken = true;
            let (refused, closes) = (answer.status != 200, answer.closes);
            note(&told, key, answer, begun.elapsed());
            if refused {
                let _pause = timeout(RETRY, std::future::pending::<()>()).await;
            }
            if closes {
                break;
            }
        }
    }
}

struct Answer {
    status: u16,
    /// The node hangs up after it, as when it has not read all of the body.
    closes: bool,
    revision: Option<u64>,
    body: Vec<u8>,
}

fn note(told: &Mutex<Told>, key: String, answer: Answer, took: Duration) {
    let mut told = lock(told);
    *told.statuses.entry(answer.status).or_default() += 1;
    told.longest = told.longest.max(took);
    match (answer.status, answer.revision) {
        (200, Some(revision)) => _ = told.written.insert(key, revision),
        _ => {
            let code = serde_json::from_slice::<raftkv_api::Problem>(&answer.body);
            let code = code.map_or("no problem document".to_string(), |problem| format!("{:?}", problem.code));
            *told.codes.entry(code).or_default() += 1;
        }
    }
}

async fn put(stream: &mut BufReader<TcpStream>, key: &str, value_bytes: usize) -> std::io::Result<Answer> {
    let head = format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {value_bytes}\r\n\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + value_bytes, b'v');
    stream.get_mut().write_all(&request).await?;
    let garbled = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let (mut status, mut length, mut revision, mut closes) = (None, 0, None, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest.get(..3).and_then(|status| status.parse().ok());
        } else if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.parse().map_err(|_| garbled())?;
        } else if let Some(tag) = line.strip_prefix("etag: ") {
            revision = tag.trim_matches('"').parse().ok();
        } else if line == "connection: close" {
            closes = true;
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Answer { status: status.ok_or_else(garbled)?, closes, revision, body })
}

//! Fetches the body of a snapshot that a peer offered, and keeps it durably once it is proved (rule N13).
//!
//! Enters: the meta data that the MsgSnapshot carried. Leaves: a file under its name and one `on_snapshot_fetched`. The
//! network side passes chunks to one blocking thread that owns the temporary file, hashes, and either renames it or
//! removes it; so whatever breaks, nobody else writes to that file. A broken transfer starts again from its beginning.
//!
//! One fetch at a time: a second offer of the same file is ignored, a newer one takes the place of an older one.

use super::connect::{ConnectError, Connection};
use super::handle::Inner;
use super::{Hello, PeerEvents, hello, snapshot_body};
use crate::disk::LogDisk;
use crate::limits::{PEER_PROBLEM_BYTES_MAX, SNAPSHOT_PROGRESS_MS};
use crate::snapshot::SnapshotMeta;
use crate::types::{Index, MemberId, Term};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// Why a snapshot is not here.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("a newer snapshot was offered meanwhile")]
    Replaced,
    #[error("member {0} is not known by address and incarnation")]
    Unknown(MemberId),
    #[error("this node is no member")]
    NotAMember,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the peer answered {0}")]
    Refused(String),
    #[error("the transfer broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("nothing arrived for {0} ms")]
    Stalled(u128),
    #[error("{got} bytes arrived, {want} were offered")]
    Size { got: u64, want: u64 },
    #[error("the sha256 of what arrived is {got}, offered was {want}")]
    Sha256 { got: String, want: String },
    #[error("what arrived is not to be installed: {0}")]
    Unfit(String),
    #[error("{name}: {source}")]
    Disk { name: String, source: io::Error },
    #[error("the thread that writes the file ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// The fetch that is under way.
pub(super) struct Fetching {
    /// Tells it from a later one of the same file.
    pub serial: u64,
    /// Position of the snapshot.
    pub at: (Index, Term),
    /// Never sent: the fetch ends when this is dropped.
    #[expect(dead_code, reason = "it is held to be dropped")]
    pub cancel: oneshot::Sender<()>,
}

/// Who offers.
pub(super) struct Offer {
    pub from: MemberId,
    pub url: String,
    pub hello: Hello,
    pub meta: SnapshotMeta,
}

/// Fetches one snapshot to its end, good or bad.
pub(super) async fn fetch(inner: &Inner, offer: &Offer, cancelled: oneshot::Receiver<()>) -> Result<(), FetchError> {
    let (chunk_tx, chunk_rx) = mpsc::channel(2);
    let (disk, events, meta) = (Arc::clone(&inner.disk), Arc::clone(&inner.events), offer.meta.clone());
    let stored = tokio::task::spawn_blocking(move || store(&*disk, &*events, &meta, chunk_rx));
    // Both arms drop `chunk_tx`, which is what ends the thread that stores.
    let downloaded = tokio::select! {
        biased;
        _ = cancelled => Err(FetchError::Replaced),
        result = download(inner, offer, chunk_tx) => result,
    };
    match stored.await? {
        Ok(()) => Ok(()),
        // Too short is only the consequence of what befell the download, if something did.
        Err(short @ FetchError::Size { .. }) => Err(downloaded.err().unwrap_or(short)),
        Err(error) => Err(error),
    }
}

async fn download(inner: &Inner, offer: &Offer, chunk_tx: mpsc::Sender<Bytes>) -> Result<(), FetchError> {
    let stall = inner.limits.stall;
    let stalled = |_| FetchError::Stalled(stall.as_millis());
    let path = snapshot_body::path(offer.meta.term, offer.meta.index);
    let mut connection = Connection::open(&offer.url, &inner.limits).await?;
    let answer = connection.get(inner, &offer.hello, &path, |request| request);
    let response = timeout(inner.limits.handshake, answer)
        .await
        .map_err(|_| FetchError::Stalled(inner.limits.handshake.as_millis()))??;
    if response.status() != StatusCode::OK {
        return Err(timeout(stall, refused(response)).await.unwrap_or_else(stalled));
    }
    let mut body = response.into_body();
    if body.size_hint().exact() != Some(offer.meta.size) {
        return Err(FetchError::Size { got: body.size_hint().lower(), want: offer.meta.size });
    }
    let mut progress = Progress::new(offer);
    while let Some(frame) = timeout(stall, body.frame()).await.map_err(stalled)? {
        // Trailers carry nothing for us.
        let Ok(chunk) = frame?.into_data() else { continue };
        progress.add(chunk.len() as u64);
        if chunk_tx.send(chunk).await.is_err() {
            break; // the thread that stores has ended, and says why
        }
    }
    Ok(())
}

async fn refused(response: Response<Incoming>) -> FetchError {
    let status = response.status();
    // A body that is too large or broken is one that says nothing.
    let body = Limited::new(response.into_body(), PEER_PROBLEM_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    FetchError::Refused(match serde_json::from_slice::<hello::Refusal>(&body) {
        Ok(refusal) => format!("{status}: {}", refusal.problem.detail),
        Err(_) => status.to_string(),
    })
}

/// Writes what arrives, proves it, and makes it durable under its name. Blocks.
fn store(
    disk: &dyn LogDisk,
    events: &dyn PeerEvents,
    meta: &SnapshotMeta,
    chunks: mpsc::Receiver<Bytes>,
) -> Result<(), FetchError> {
    let name = meta.file_name();
    let temporary = format!("{name}.tmp");
    let result = receive(disk, meta, &temporary, chunks).and_then(|()| {
        let failed = |source| FetchError::Disk { name: name.clone(), source };
        events.check_snapshot(disk, &temporary, meta).map_err(FetchError::Unfit)?;
        disk.sync(&temporary).map_err(failed)?;
        disk.rename(&temporary, &name).map_err(failed)?;
        disk.sync_dir().map_err(failed)
    });
    if result.is_err()
        && let Err(error) = disk.remove(&temporary)
    {
        tracing::warn!(name = temporary, %error, "cannot remove the rest of a snapshot transfer");
    }
    result
}

fn receive(
    disk: &dyn LogDisk,
    meta: &SnapshotMeta,
    temporary: &str,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<(), FetchError> {
    let failed = |source| FetchError::Disk { name: temporary.to_string(), source };
    disk.create(temporary, 0).map_err(failed)?;
    let mut sum = Sha256::new();
    let mut got = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        disk.write(temporary, got, &chunk).map_err(failed)?;
        sum.update(&chunk);
        got += chunk.len() as u64;
    }
    if got != meta.size {
        return Err(FetchError::Size { got, want: meta.size });
    }
    let sum = hex(&sum.finalize());
    if sum != meta.sha256 {
        return Err(FetchError::Sha256 { got: sum, want: meta.sha256.clone() });
    }
    Ok(())
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every write");
        text
    })
}

/// Tells the log every few seconds how far a transfer is.
struct Progress<'a> {
    offer: &'a Offer,
    done: u64,
    said: Instant,
}

impl Progress<'_> {
    fn new(offer: &Offer) -> Progress<'_> {
        tracing::info!(from = offer.from, index = offer.meta.index, total = offer.meta.size, "fetching a snapshot");
        Progress { offer, done: 0, said: Instant::now() }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.said.elapsed() >= Duration::from_millis(SNAPSHOT_PROGRESS_MS) {
            self.said = Instant::now();
            let (from, meta) = (self.offer.from, &self.offer.meta);
            tracing::info!(from, index = meta.index, done = self.done, total = meta.size, "fetching a snapshot");
        }
    }
}

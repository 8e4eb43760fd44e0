//! Fetches the body of a snapshot that a peer offered, and keeps it durably once it is proved (rule N13).
//!
//! Enters: the meta data that the MsgSnapshot carried. Leaves: a file under its name and one `on_snapshot_fetched`. The
//! network side passes chunks to one blocking thread that owns the temporary file, hashes, and either renames it or
//! removes it; so whatever breaks, nobody else writes to that file. After a connection breaks, the rest of the file is
//! asked for over a new one, unless nothing has arrived for too long. The sum over the whole file tells whether it is
//! the one that was offered; if not, it is fetched from its beginning when it is offered again.
//!
//! There is one fetch at a time: a second offer of the same file is ignored, a newer one replaces an older one.
//!
//! # Caveats
//! What has arrived is forgotten when the process ends.

use super::connect::{ConnectError, Connection};
use super::shared::Inner;
use super::{PeerEvents, handshake, snapshot_body};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::{Response, StatusCode};
use raftkv_core::limits::{PEER_PROBLEM_BYTES_MAX, SNAPSHOT_PROGRESS_MS, SNAPSHOT_SYNC_BYTES};
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::types::MemberId;
use raftkv_core::wire::Hello;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// Why a snapshot was not fetched.
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
    #[error("the peer answered {why}")]
    Refused { status: StatusCode, why: String },
    #[error("the rest of the file is of another one: '{got}', wanted was '{want}'")]
    Range { got: String, want: String },
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

impl FetchError {
    /// Whether the rest may still come from the same peer, over another connection.
    fn may_resume(&self) -> bool {
        match self {
            FetchError::Connect(_) | FetchError::Broken(_) | FetchError::Stalled(_) => true,
            // The peer is starting, or stopping.
            FetchError::Refused { status, .. } => status.is_server_error(),
            FetchError::Replaced
            | FetchError::Unknown(_)
            | FetchError::NotAMember
            | FetchError::Range { .. }
            | FetchError::Size { .. }
            | FetchError::Sha256 { .. }
            | FetchError::Unfit(_)
            | FetchError::Disk { .. }
            | FetchError::Thread(_) => false,
        }
    }
}

/// An offered snapshot, and the member that offers it.
pub(super) struct Offer {
    pub from: MemberId,
    pub url: String,
    pub hello: Hello,
    pub meta: SnapshotMeta,
}

/// Fetches one snapshot to its end, good or bad.
pub(super) async fn fetch(inner: &Inner, offer: &Offer, cancelled: oneshot::Receiver<()>) -> Result<(), FetchError> {
    if let Err(source) = inner.disk.room_for(offer.meta.size) {
        // Checked before anything is asked for: otherwise the file would be sent again and again.
        return Err(FetchError::Disk { name: offer.meta.file_name(), source });
    }
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
        // If the download failed, a file that is too short is only the consequence.
        Err(short @ FetchError::Size { .. }) => Err(downloaded.err().unwrap_or(short)),
        Err(error) => Err(error),
    }
}

/// Downloads the whole file, over as many connections as it takes.
async fn download(inner: &Inner, offer: &Offer, chunk_tx: mpsc::Sender<Bytes>) -> Result<(), FetchError> {
    let mut progress = Progress::new(offer);
    let (mut moved, mut pause) = (Instant::now(), inner.limits.redial_min);
    loop {
        let before = progress.done;
        let Err(broke) = download_rest(inner, offer, &mut progress, &chunk_tx).await else { return Ok(()) };
        if progress.done > before {
            (moved, pause) = (Instant::now(), inner.limits.redial_min);
        }
        // If nothing has arrived yet, it is better to let the leader offer what it has by then.
        let too_long = moved.elapsed() + pause >= inner.limits.resume;
        if progress.done == 0 || !broke.may_resume() || too_long {
            return Err(broke);
        }
        progress.broke(&broke);
        sleep(pause).await;
        pause = (2 * pause).min(inner.limits.redial_max);
    }
}

/// Downloads what is missing of the file, over one connection.
async fn download_rest(
    inner: &Inner,
    offer: &Offer,
    progress: &mut Progress<'_>,
    chunk_tx: &mpsc::Sender<Bytes>,
) -> Result<(), FetchError> {
    let stall = inner.limits.stall;
    let stalled = |_| FetchError::Stalled(stall.as_millis());
    let path = snapshot_body::path(offer.meta.term, offer.meta.index);
    let offset = progress.done;
    let mut connection = Connection::open(&offer.url, &inner.limits).await?;
    let answer = connection.get(inner, &offer.hello, &path, |request| match offset {
        0 => request,
        _ => request.header(RANGE, snapshot_body::range_from(offset)),
    });
    let response = timeout(inner.limits.handshake, answer)
        .await
        .map_err(|_| FetchError::Stalled(inner.limits.handshake.as_millis()))??;
    if !response.status().is_success() {
        return Err(timeout(stall, refused(response)).await.unwrap_or_else(stalled));
    }
    // A peer that knows no ranges sends the whole file, whose beginning is here already.
    let mut skip =
        if response.status() == StatusCode::PARTIAL_CONTENT { check_range(&response, offer, offset)? } else { offset };
    let mut body = response.into_body();
    let want = offer.meta.size - offset + skip;
    if body.size_hint().exact() != Some(want) {
        return Err(FetchError::Size { got: body.size_hint().lower(), want });
    }
    while let Some(frame) = timeout(stall, body.frame()).await.map_err(stalled)? {
        // Trailers carry nothing for us.
        let Ok(mut chunk) = frame?.into_data() else { continue };
        let known = chunk.split_to(usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len())));
        skip -= known.len() as u64;
        progress.add(chunk.len() as u64);
        if !chunk.is_empty() && chunk_tx.send(chunk).await.is_err() {
            break; // the thread that stores has ended, and says why
        }
    }
    Ok(())
}

/// Checks that the answer is the rest of a file of the offered size; nothing of it is to be skipped.
fn check_range(response: &Response<Incoming>, offer: &Offer, offset: u64) -> Result<u64, FetchError> {
    let want = snapshot_body::content_range(offset, offer.meta.size);
    let got = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    if got == want { Ok(0) } else { Err(FetchError::Range { got: got.to_string(), want }) }
}

async fn refused(response: Response<Incoming>) -> FetchError {
    let status = response.status();
    // A body that is too large or broken counts as an empty one.
    let body = Limited::new(response.into_body(), PEER_PROBLEM_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let why = match serde_json::from_slice::<handshake::Refusal>(&body) {
        Ok(refusal) => format!("{status}: {}", refusal.problem.detail),
        Err(_) => status.to_string(),
    };
    FetchError::Refused { status, why }
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
    let (mut got, mut synced) = (0, 0);
    while let Some(chunk) = chunks.blocking_recv() {
        disk.write(temporary, got, &chunk).map_err(failed)?;
        sum.update(&chunk);
        got += chunk.len() as u64;
        if got - synced >= SNAPSHOT_SYNC_BYTES {
            // A little at a time: one sync of everything at the end would delay the log's own syncs.
            disk.sync(temporary).map_err(failed)?;
            synced = got;
        }
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

/// Logs every few seconds how far a transfer is.
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

    fn broke(&self, why: &FetchError) {
        let (from, meta) = (self.offer.from, &self.offer.meta);
        tracing::warn!(from, index = meta.index, done = self.done, total = meta.size, %why, "fetching the rest of a snapshot");
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

//! Serves the body of a snapshot: the file's bytes, in chunks, as fast as the peer reads them and [`Pace`] allows
//! (rule N13).
//!
//! Enters: term and index from the path, and as a `Range` the offset from which a broken body goes on. Leaves: a
//! response body, and exactly one report of how it ended. At most about four chunks are in memory. Reading blocks, so
//! it happens on the runtime's blocking threads.

use super::PeerEvents;
use super::pace::Pace;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use raftkv_core::limits::SNAPSHOT_CHUNK_BYTES;
use raftkv_core::ports::LogDisk;
use raftkv_core::types::{Index, MemberId, Term};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// The path of bodies, up to `{term}/{index}`.
pub(super) const PATH: &str = "/raft/v1/snapshot/";

/// The path of a body.
pub(super) fn path(term: Term, index: Index) -> String {
    format!("{PATH}{term}/{index}")
}

/// Reverses [`path`]; numbers in decimal digits only.
pub(super) fn parse_path(path: &str) -> Option<(Term, Index)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (term, index) = path.strip_prefix(PATH)?.split_once('/')?;
    Some((number(term)?, number(index)?))
}

/// The `Range` of the bytes from `offset` on.
pub(super) fn range_from(offset: u64) -> String {
    format!("bytes={offset}-")
}

/// Reverses [`range_from`]; other ranges are not served.
pub(super) fn parse_range(range: &str) -> Option<u64> {
    let offset = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    offset.bytes().all(|b| b.is_ascii_digit()).then(|| offset.parse().ok())?
}

/// The `Content-Range` of the bytes from `offset` on of a file of `size` bytes; `size` is larger than `offset`.
pub(super) fn content_range(offset: u64, size: u64) -> String {
    format!("bytes {offset}-{}/{size}", size - 1)
}

/// Which part of which file, and how fast.
pub(super) struct Part {
    pub disk: Arc<dyn LogDisk>,
    pub name: String,
    /// Where the part begins; it goes to the end of the file.
    pub offset: u64,
    pub pace: Arc<Pace>,
}

/// How far the body of a snapshot has come: how much of the file the connections have taken.
#[derive(Debug, Default)]
pub struct BodyProgress {
    /// The file is open, and its size is known.
    is_open: AtomicBool,
    sent: AtomicU64,
    total: AtomicU64,
}

impl BodyProgress {
    /// Bytes taken, and bytes of the whole file; the latter is 0 until the file is open.
    pub fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Acquire), self.total.load(Ordering::Acquire))
    }

    fn begins(&self, offset: u64, size: u64) {
        self.sent.store(offset, Ordering::Release);
        self.total.store(size, Ordering::Release);
        self.is_open.store(true, Ordering::Release);
    }

    fn took(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Release);
    }

    /// Whether the last byte was handed to the connection.
    fn is_whole(&self) -> bool {
        let (sent, total) = self.bytes();
        self.is_open.load(Ordering::Acquire) && sent == total
    }
}

/// A file that is being sent; hyper takes `Content-Length` from its size.
pub(super) struct FileBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    progress: Arc<BodyProgress>,
    /// Bytes of the whole file.
    pub size: u64,
}

impl FileBody {
    /// Starts to read. `progress` counts what was handed to the connection. An error of kind `InvalidInput` says that the
    /// file ends before the part begins.
    pub async fn open(part: Part, progress: Arc<BodyProgress>) -> io::Result<FileBody> {
        let (of, wanted) = (Arc::clone(&part.disk), part.name.clone());
        let size = blocking(move || of.len(&wanted)).await?;
        let left = match size.checked_sub(part.offset) {
            Some(left) if left > 0 || part.offset == 0 => left,
            Some(_) | None => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it has {size} bytes"))),
        };
        let (chunk_tx, chunks) = mpsc::channel(1);
        progress.begins(part.offset, size);
        tokio::spawn(read_chunks(part, size, chunk_tx));
        Ok(FileBody { chunks, left, progress, size })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.chunks.poll_recv(cx)) {
            Some(Ok(chunk)) => {
                self.left -= chunk.len() as u64;
                self.progress.took(chunk.len() as u64);
                Ok(Frame::data(chunk))
            }
            Some(Err(error)) => Err(error),
            None => Err(io::Error::other("the reader of the snapshot file ended early")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads ahead by one chunk; ends when the connection that takes the chunks ends.
async fn read_chunks(part: Part, size: u64, chunk_tx: mpsc::Sender<io::Result<Bytes>>) {
    let Part { disk, name, mut offset, pace } = part;
    while offset < size {
        let Ok(place) = chunk_tx.reserve().await else {
            return;
        };
        let (of, wanted) = (Arc::clone(&disk), name.clone());
        let len = usize::try_from(size - offset).map_or(SNAPSHOT_CHUNK_BYTES, |left| left.min(SNAPSHOT_CHUNK_BYTES));
        pace.take(len as u64).await;
        let chunk = blocking(move || {
            let mut chunk = vec![0; len];
            let read = of.read(&wanted, offset, &mut chunk)?;
            if read < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Bytes::from(chunk)) }
        })
        .await;
        let failed = chunk.is_err();
        place.send(chunk);
        if failed {
            return;
        }
        offset += len as u64;
    }
}

/// Runs a disk call on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Reports a body exactly once, also when its task is dropped half-way.
pub(super) struct BodyReport {
    events: Arc<dyn PeerEvents>,
    to: MemberId,
    index: Index,
    progress: Arc<BodyProgress>,
    flushed: bool,
}

impl BodyReport {
    /// The report of a body of the snapshot at `index`, which `to` asked for.
    pub fn new(events: Arc<dyn PeerEvents>, to: MemberId, index: Index) -> BodyReport {
        let progress = Arc::new(BodyProgress::default());
        events.on_snapshot_begun(to, index, &progress);
        BodyReport { events, to, index, progress, flushed: false }
    }

    /// What the body counts as it is taken.
    pub fn progress(&self) -> Arc<BodyProgress> {
        Arc::clone(&self.progress)
    }

    /// The connection ended without an error, so everything that it took was sent.
    pub fn flushed(mut self) {
        self.flushed = true;
    }
}

impl Drop for BodyReport {
    fn drop(&mut self) {
        let whole = self.flushed && self.progress.is_whole();
        tracing::info!(to = self.to, index = self.index, whole, "snapshot body sent");
        self.events.on_snapshot_body(self.to, self.index, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip_and_others_are_refused() {
        assert_eq!(parse_path(&path(7, u64::MAX)), Some((7, u64::MAX)));
        for bad in ["1", "1/", "/1", "1/2/3", "+1/2", "1/-2", "1/..", "1/99999999999999999999999"] {
            assert_eq!(parse_path(&format!("{PATH}{bad}")), None, "{bad}");
        }
    }

    #[test]
    fn a_body_is_whole_when_its_last_byte_was_taken() {
        let progress = BodyProgress::default();
        assert!(!progress.is_whole(), "the file is not open");
        progress.begins(4, 10);
        progress.took(5);
        assert_eq!((progress.bytes(), progress.is_whole()), ((9, 10), false));
        progress.took(1);
        assert!(progress.is_whole());
        let empty = BodyProgress::default();
        empty.begins(0, 0);
        assert!(empty.is_whole(), "there is nothing to take");
    }

    #[test]
    fn ranges_to_the_end_round_trip_and_others_are_refused() {
        assert_eq!(parse_range(&range_from(7)), Some(7));
        for bad in ["bytes=1-2", "bytes=-5", "bytes=+1-", "bytes=1-,3-", "1-", "bytes=", "bytes=99999999999999999999-"]
        {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
        assert_eq!(content_range(7, 10), "bytes 7-9/10");
    }
}

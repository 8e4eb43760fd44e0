//! The accept loop of every HTTP port: hyper's HTTP/1 connections under limits of our own.
//!
//! Enters: a bound listener, a service, and the signal to stop. Each connection is a task of its own and always has a
//! deadline, which depends on what it does: its first or next head must come in time, the answer must be ready in time,
//! and between requests (which includes the time the client takes to read an answer) its silence is limited; a client
//! that takes nothing of an answer has less time. So a client that is slow, half open or gone is dropped whatever it
//! does, and its place under `connections_max` becomes free. Bodies have their own deadline, where they are read.

use crate::httpapi::routes::Port;
use crate::httpapi::unread::{self, Unread};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use raftkv_core::limits;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceExt;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at a time.
    pub connections_max: usize,
    /// hyper's buffer for a head. A service that wants to answer 431 with a body checks a lower limit itself.
    pub head_bytes_max: usize,
    /// Time for a whole head.
    pub head: Duration,
    /// Time between two requests.
    pub idle: Duration,
    /// Time for a client that takes nothing of an answer.
    pub stall: Duration,
    /// Time from a head to its answer; `None` for requests that are long-lived streams.
    pub request: Option<Duration>,
    /// Time for answers in flight when the server stops.
    pub stop: Duration,
}

impl ServerLimits {
    /// The limits of the client port.
    pub fn client() -> Self {
        ServerLimits {
            connections_max: limits::CLIENT_CONNECTIONS_MAX,
            head_bytes_max: 2 * limits::HEADER_BYTES_MAX,
            head: Duration::from_millis(limits::HEAD_TIMEOUT_MS),
            idle: Duration::from_millis(limits::IDLE_TIMEOUT_MS),
            stall: Duration::from_millis(limits::ANSWER_STALL_MS),
            request: Some(Duration::from_millis(limits::REQUEST_TIMEOUT_MS)),
            stop: Duration::from_millis(limits::SERVER_STOP_TIMEOUT_MS),
        }
    }

    /// The limits of each of several threads that share a port.
    pub fn divided_by(self, threads: usize) -> Self {
        ServerLimits { connections_max: self.connections_max.div_ceil(threads), ..self }
    }

    /// The limits of the admin port.
    pub fn admin() -> Self {
        ServerLimits { connections_max: limits::ADMIN_CONNECTIONS_MAX, ..ServerLimits::client() }
    }
}

/// Serves until `stop` becomes true or its sender is gone; then accepts no more, lets requests in flight be answered,
/// and drops what is left after `limits.stop`. `connections` shows how many are open; `port` is what a client whose
/// request cannot be read is told about.
pub async fn serve<S, B>(
    listener: TcpListener,
    port: Port,
    limits: ServerLimits,
    connections: IntGauge,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_ended) = tasks.join_next() => {} // a panic in a service ended only its own connection
            (stream, place) = accept(&listener, &places) => {
                let connection = connection(stream, port, limits, service.clone(), stop.clone());
                let open = Open::new(connections.clone(), place);
                tasks.spawn(async move {
                    connection.await;
                    drop(open);
                });
            }
        }
    }
    drop(listener);
    if timeout(limits.stop, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(connections = tasks.len(), "dropping connections whose requests did not end in time");
    }
    tasks.shutdown().await;
}

/// Takes a place first, then a connection: one that finds no place waits in the kernel's backlog and costs us nothing.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _from)) => return (stream, place),
            // The client gave up while it waited, which is no error of ours.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(limits::ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a reason to stop as well.
    let _gone = stop.wait_for(|stop| *stop).await;
}

/// An open connection: its place and its count, given back when it ends, also by a panic.
struct Open {
    connections: IntGauge,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(connections: IntGauge, place: OwnedSemaphorePermit) -> Self {
        connections.inc();
        Open { connections, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.dec();
    }
}

async fn connection<S, B>(
    stream: TcpStream,
    port: Port,
    limits: ServerLimits,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Small answers must not wait for the client's delayed ACK. If this fails, the connection still works.
    let _slower = stream.set_nodelay(true);
    let deadline = Deadline::new(limits);
    let watched = deadline.clone();
    let service = service_fn(move |request| {
        watched.enter(Phase::Answer);
        let (answer, deadline) = (service.clone().oneshot(request), watched.clone());
        async move { answer.await.map(|response| response.map(|body| WatchedBody { body, deadline })) }
    });
    // Without a timer hyper has no timeouts of its own: ours cover every phase, and hyper's would cost each request a
    // timer that never fires.
    let watched = WatchedStream { stream, deadline: deadline.clone(), refused: false };
    let mut connection = http1::Builder::new()
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max.max(8 * 1024)) // hyper's own lower bound
        .serve_connection(TokioIo::new(watched), service);
    let mut stopping = false;
    loop {
        tokio::select! {
            result = &mut connection => {
                let Err(error) = result else { return };
                tracing::debug!(%error, "a connection broke");
                if error.is_parse() {
                    let http1::Parts { io, read_buf, .. } = connection.into_parts();
                    refuse(io.into_inner(), &error, &read_buf, port, limits).await;
                }
                return;
            }
            () = deadline.passed() => return tracing::debug!("connection dropped: too slow, or idle for too long"),
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
}

/// Answers a request that hyper could not read, where its own answer was kept back or it had none.
async fn refuse(stream: WatchedStream, error: &hyper::Error, read: &[u8], port: Port, limits: ServerLimits) {
    let unread = match Unread::of(read) {
        Some(unread) => unread,
        None if !stream.refused => return,
        None if error.is_parse_too_large() => Unread::TooLarge,
        None => Unread::Malformed,
    };
    unread::refuse(stream.stream, &unread.problem(port.role()), limits.head).await;
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Silent between two requests; the client may still be reading the last answer.
    Idle,
    /// A head has begun to arrive, or the connection is new.
    Head,
    /// The service is at work.
    Answer,
}

/// The phase of one connection and when it must end.
#[derive(Clone)]
struct Deadline {
    limits: ServerLimits,
    now: Arc<Mutex<(Phase, Option<Instant>)>>,
    /// While the client takes nothing: when it must have taken a byte.
    stalled: Arc<Mutex<Option<Instant>>>,
}

impl Deadline {
    fn new(limits: ServerLimits) -> Self {
        let now = Arc::new(Mutex::new((Phase::Head, Some(Instant::now() + limits.head))));
        Deadline { limits, now, stalled: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, (Phase, Option<Instant>)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stalled(&self) -> MutexGuard<'_, Option<Instant>> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client took something of an answer, or the kernel has no room for more of it.
    fn written<T>(&self, taken: &Poll<io::Result<T>>) {
        let mut stalled = self.stalled();
        match taken {
            Poll::Ready(_) => *stalled = None,
            Poll::Pending => _ = stalled.get_or_insert_with(|| Instant::now() + self.limits.stall),
        }
    }

    fn enter(&self, phase: Phase) {
        let allowed = match phase {
            Phase::Idle => Some(self.limits.idle),
            Phase::Head => Some(self.limits.head),
            Phase::Answer => self.limits.request,
        };
        *self.lock() = (phase, allowed.map(|allowed| Instant::now() + allowed));
    }

    /// The first bytes after silence begin a head; further ones do not extend its time.
    fn bytes_arrived(&self) {
        if self.lock().0 == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Waits until a deadline has passed. Looks at the clock ten times within the limit of a head instead of being
    /// woken by each request.
    async fn passed(&self) {
        let pace = self.limits.head / 10;
        loop {
            let now = Instant::now();
            let due = [self.lock().1, *self.stalled()].into_iter().flatten().min();
            match due {
                Some(due) if due <= now => return,
                Some(due) => sleep_until(due.min(now + pace)).await,
                None => sleep(pace).await,
            }
        }
    }
}

/// Tells the deadline when bytes arrive.
struct WatchedStream {
    stream: TcpStream,
    deadline: Deadline,
    /// hyper has refused a request that it cannot read. Its answer was kept back, so that a better one can be given.
    refused: bool,
}

impl WatchedStream {
    fn keeps_back(&mut self, bytes: &[u8]) -> bool {
        self.refused |= unread::is_bare_refusal(bytes);
        self.refused
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.deadline.bytes_arrived();
        }
        result
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.keeps_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let taken = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.deadline.written(&taken);
        taken
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if bufs.first().is_some_and(|first| self.keeps_back(first)) {
            return Poll::Ready(Ok(bytes));
        }
        let taken = if bytes <= limits::SMALL_ANSWER_BYTES {
            // Writing one buffer costs the kernel less than gathering two.
            let mut whole = [0; limits::SMALL_ANSWER_BYTES];
            let mut rest = &mut whole[..];
            for buf in bufs {
                let (part, behind) = rest.split_at_mut(buf.len());
                part.copy_from_slice(buf);
                rest = behind;
            }
            Pin::new(&mut self.stream).poll_write(cx, &whole[..bytes])
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
        };
        self.deadline.written(&taken);
        taken
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Tells the deadline when hyper is done with an answer.
struct WatchedBody<B> {
    body: B,
    deadline: Deadline,
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        self.deadline.enter(Phase::Idle);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;

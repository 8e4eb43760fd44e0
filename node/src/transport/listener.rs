//! The peer port: streams that peers open, and snapshot bodies that they fetch.
//!
//! Enters: connections. Leaves: accepted streams, bodies, and problem documents. A connection carries one request, and
//! its token is checked before anything else (rule O5). The head has a deadline, so has an answer that nobody reads,
//! and the number of connections is limited: half-open ones cost little, and not for long.

use super::handshake::{self, Refusal};
use super::one_process;
use super::shared::{Counters, Inner};
use super::snapshot_body::{self, BodyReport, FileBody, Part};
use super::stall::StallGuard;
use super::stream::{self, Connected, Ends};
use crate::httpapi::routes::PEER_ROLE;
use crate::httpapi::unread::{self, Unread};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use raftkv_api::Code;
use raftkv_core::limits::{HEADER_BYTES_MAX, PEER_ACCEPT_RETRY_MS};
use raftkv_core::snapshot;
use raftkv_core::types::{Index, Term};
use raftkv_core::wire::{HELLO_FORMAT, Hello, HelloVerdict};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

type Answer = Response<Either<Full<Bytes>, FileBody>>;

/// What a connection does after its one answer.
enum Next {
    Stream { theirs: Box<Hello>, ours: Box<Hello>, upgrade: OnUpgrade },
    Body(BodyReport),
}

/// Accepts connections until the task ends.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(inner.limits.connections_max));
    loop {
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer's connection");
                sleep(Duration::from_millis(PEER_ACCEPT_RETRY_MS)).await;
                continue;
            }
        };
        // Closing it at once is better than letting it wait: the peer learns that something is wrong, and dials again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            Counters::count(&inner.counters.connections);
            continue;
        };
        let of = Arc::clone(&inner);
        inner.spawn(async move {
            connection(of, tcp, from).await;
            drop(place);
        });
    }
}

async fn connection(inner: Arc<Inner>, tcp: TcpStream, from: SocketAddr) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "a peer's connection broke before its request");
        return;
    }
    let mut first = [0; 16];
    let Ok(Ok(bytes)) = timeout(inner.limits.handshake, tcp.peek(&mut first)).await else { return };
    if let Some(unread) = Unread::of(&first[..bytes]) {
        return unread::refuse(tcp, &unread.problem(PEER_ROLE), inner.limits.handshake).await;
    }
    let socket = stream::second_handle(&tcp);
    let next = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let (inner, next) = (Arc::clone(&inner), Arc::clone(&next));
        async move { Ok::<_, Infallible>(answer(&inner, request, from, &next).await.unwrap_or_else(problem)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new()) // without it, hyper ignores the timeout below
        .header_read_timeout(inner.limits.handshake)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(StallGuard::new(tcp, inner.limits.stall)), service)
        .with_upgrades()
        .await;
    if let Err(error) = &served {
        tracing::debug!(%error, "a peer's connection broke");
    }
    let next = next.lock().expect("no thread panics while it holds this lock").take();
    match (next, served) {
        (Some(Next::Body(report)), Ok(())) => report.flushed(),
        (Some(Next::Stream { theirs, ours, upgrade }), Ok(())) => match upgrade.await {
            Ok(upgraded) => {
                run_stream(&inner, &theirs, &ours, from, (TokioIo::new(upgraded), socket)).await;
            }
            Err(error) => tracing::debug!(%error, peer = theirs.from, "a peer's stream was not upgraded"),
        },
        (Some(Next::Body(_) | Next::Stream { .. }), Err(_)) | (None, _) => {}
    }
}

async fn run_stream(inner: &Inner, theirs: &Hello, ours: &Hello, from: SocketAddr, connected: Connected) {
    let ends = Ends { ours: ours.from, theirs: theirs.from, dialled: false };
    let outbox = inner.new_outbox();
    let accepted = inner.accepted(theirs, whereabouts(theirs, from), &outbox);
    let end = stream::run(inner, connected, ends, &outbox, || accepted.register()).await;
    tracing::debug!(peer = theirs.from, why = %end, "a stream that the peer opened ended");
}

/// Where a peer says that it is, and where it really dials from.
fn whereabouts(theirs: &Hello, from: SocketAddr) -> String {
    format!("{} (dialling from {})", theirs.peer_url, from.ip())
}

async fn answer(
    inner: &Inner,
    mut request: Request<Incoming>,
    from: SocketAddr,
    next: &Mutex<Option<Next>>,
) -> Result<Answer, Refusal> {
    let path = request.uri().path();
    let body = snapshot_body::parse_path(path);
    // Before the token: a client that is at the wrong port need not look for a token first.
    if (path != handshake::PATH && body.is_none()) || request.method() != Method::GET {
        let why = format!(
            "this is {PEER_ROLE}, where only other nodes have something to ask; use its client or its admin port"
        );
        return Err(Refusal::new(Code::NotFound, why));
    }
    if !bearer(request.headers()).is_some_and(|token| inner.credentials.accepts(token)) {
        return Err(Refusal::new(Code::Unauthorized, format!("this is {PEER_ROLE}, and needs the cluster's token")));
    }
    let theirs = their_hello(request.headers())?;
    let (answer, then) = match body {
        Some((term, index)) => {
            let offset = offset_asked(request.headers())?;
            serve_body(inner, &theirs, (term, index), offset).await?
        }
        None => open_stream(inner, theirs, from, &mut request).await?,
    };
    *next.lock().expect("no thread panics while it holds this lock") = Some(then);
    Ok(answer)
}

async fn open_stream(
    inner: &Inner,
    theirs: Hello,
    from: SocketAddr,
    request: &mut Request<Incoming>,
) -> Result<(Answer, Next), Refusal> {
    let wanted = request.headers().get(UPGRADE);
    if !wanted.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(handshake::PROTOCOL.as_bytes())) {
        return Err(Refusal::new(Code::BadRequest, format!("a stream is opened by Upgrade: {}", handshake::PROTOCOL)));
    }
    if theirs.is_older() {
        let why = format!("hello format {} is older than {HELLO_FORMAT}", theirs.format);
        return Err(Refusal::new(Code::WrongNode, why));
    }
    one_process::check(inner, &theirs, &whereabouts(&theirs, from))
        .await
        .map_err(|why| Refusal { twin: true, ..Refusal::new(Code::WrongState, why) })?;
    let (verdict_tx, verdict_rx) = oneshot::channel();
    inner.events.on_hello(theirs.clone(), verdict_tx);
    let verdict = match timeout(inner.limits.handshake, verdict_rx).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => HelloVerdict::Later("the node is stopping".into()),
        Err(_) => HelloVerdict::Later("the node did not decide in time".into()),
    };
    let ours = handshake::answer(verdict)?;
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(handshake::PROTOCOL));
    answer.headers_mut().insert(handshake::HEADER, handshake::to_header(&ours));
    let upgrade = hyper::upgrade::on(request);
    Ok((answer, Next::Stream { theirs: Box::new(theirs), ours, upgrade }))
}

/// The offset from which a broken body is asked for again; 0 is the whole body.
fn offset_asked(headers: &HeaderMap) -> Result<u64, Refusal> {
    let Some(range) = headers.get(RANGE) else { return Ok(0) };
    let offset = range.to_str().ok().and_then(snapshot_body::parse_range);
    offset.ok_or_else(|| Refusal::new(Code::BadRequest, "a snapshot is served whole, or from an offset to its end"))
}

async fn serve_body(
    inner: &Inner,
    theirs: &Hello,
    (term, index): (Term, Index),
    offset: u64,
) -> Result<(Answer, Next), Refusal> {
    let ours = inner.events.our_hello(theirs.from, theirs.from_incarnation);
    let ours = ours.ok_or_else(|| Refusal::new(Code::NotAMember, "this node has no snapshot to serve"))?;
    handshake::check_requester(&ours, theirs).map_err(|why| Refusal::new(Code::WrongNode, why))?;
    let report = BodyReport::new(Arc::clone(&inner.events), theirs.from, index);
    let name = snapshot::file_name(term, index);
    let (disk, pace) = (Arc::clone(&inner.disk), Arc::clone(&inner.pace));
    let part = Part { disk, name: name.clone(), offset, pace };
    match FileBody::open(part, report.progress()).await {
        Ok(body) => Ok((body_answer(body, offset), Next::Body(report))),
        Err(error) => Err(Refusal::new(Code::NotFound, format!("{name}: {error}"))),
    }
}

fn body_answer(body: FileBody, offset: u64) -> Answer {
    let size = body.size;
    let mut answer = Response::new(Either::Right(body));
    if offset > 0 {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = snapshot_body::content_range(offset, size);
        answer.headers_mut().insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits in ASCII"));
    }
    answer
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn their_hello(headers: &HeaderMap) -> Result<Hello, Refusal> {
    let header = headers.get(handshake::HEADER);
    let header =
        header.ok_or_else(|| Refusal::new(Code::MissingHeader, format!("{} is missing", handshake::HEADER)))?;
    handshake::from_header(header).map_err(|why| Refusal::new(Code::BadRequest, why))
}

fn problem(refusal: Refusal) -> Answer {
    let json = serde_json::to_vec(&refusal).expect("a refusal is a plain struct");
    let mut answer = Response::new(Either::Left(Full::from(json)));
    *answer.status_mut() = StatusCode::from_u16(refusal.problem.status).expect("every code's status is one of HTTP's");
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    answer
}

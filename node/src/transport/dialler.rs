//! The client side of one peer: dials it, runs the stream, and dials it again, for as long as it is a peer.
//!
//! Enters: a [`PeerAddress`]. Leaves: `on_connected`, frames, and `on_dial_failed` once per failure. It goes on after
//! every failure, even a final one such as 410: the node decides when to stop, by `set_peers`.

use super::connect::{ConnectError, Connection};
use super::outbox::Outbox;
use super::shared::Inner;
use super::stream::{self, Connected, Ends};
use super::{DialFailure, PeerAddress, handshake, one_process};
use http_body_util::{BodyExt as _, Limited};
use hyper::StatusCode;
use hyper::header::{CONNECTION, UPGRADE};
use hyper_util::rt::TokioIo;
use raftkv_core::limits::PEER_PROBLEM_BYTES_MAX;
use raftkv_core::wire::Hello;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Dials until the task is aborted.
pub(super) async fn run(inner: Arc<Inner>, peer: PeerAddress, outbox: Arc<Outbox>) {
    let mut pause = inner.limits.redial_min;
    let mut failing = false;
    loop {
        let began = Instant::now();
        // Without a hello this node is not a member, and has nothing to say to anybody.
        if let Some(ours) = inner.events.our_hello(peer.id, peer.incarnation) {
            let (stood, failure) = dial_once(&inner, &peer, &ours, &outbox).await;
            if stood || !failing {
                tracing::warn!(peer = peer.id, url = peer.peer_url, ?failure, "peer stream down");
            } else {
                tracing::debug!(peer = peer.id, url = peer.peer_url, ?failure, "peer not reached");
            }
            failing = true;
            inner.events.on_dial_failed(peer.id, failure);
            if stood && began.elapsed() > inner.limits.redial_max {
                pause = inner.limits.redial_min;
            }
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(inner.limits.redial_max);
    }
}

/// Runs one stream from its beginning to its end. Returns whether it was ever up, and why it is down.
async fn dial_once(inner: &Inner, peer: &PeerAddress, ours: &Hello, outbox: &Outbox) -> (bool, DialFailure) {
    let (theirs, connected) = match shake_hands(inner, peer, ours).await {
        Ok(stream) => stream,
        Err(failure) => return (false, failure),
    };
    if let Err(why) = one_process::check(inner, &theirs, &peer.peer_url).await {
        return (false, DialFailure::Unreachable(why));
    }
    tracing::info!(peer = peer.id, url = peer.peer_url, "peer stream up");
    let ends = Ends { ours: ours.from, theirs: peer.id, dialled: true };
    let end = stream::run(inner, connected, ends, outbox, || {
        inner.dialled(peer.id, theirs.boot);
        inner.events.on_connected(theirs);
    })
    .await;
    (true, DialFailure::Unreachable(end.to_string()))
}

async fn shake_hands(inner: &Inner, peer: &PeerAddress, ours: &Hello) -> Result<(Hello, Connected), DialFailure> {
    let unreachable = |e: ConnectError| DialFailure::Unreachable(e.to_string());
    let mut connection = Connection::open(&peer.peer_url, &inner.limits).await.map_err(unreachable)?;
    match timeout(inner.limits.handshake, upgrade(inner, &mut connection, ours)).await {
        Ok(result) => result,
        Err(_) => {
            let ms = inner.limits.handshake.as_millis();
            Err(DialFailure::Unreachable(format!("no answer to our hello within {ms} ms")))
        }
    }
}

async fn upgrade(inner: &Inner, connection: &mut Connection, ours: &Hello) -> Result<(Hello, Connected), DialFailure> {
    let http = |e: hyper::Error| DialFailure::Unreachable(ConnectError::Http(e).to_string());
    let mut response = connection
        .get(inner, ours, handshake::PATH, |request| {
            request.header(CONNECTION, "upgrade").header(UPGRADE, handshake::PROTOCOL)
        })
        .await
        .map_err(|e| DialFailure::Unreachable(e.to_string()))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        // A body that is too large or broken counts as an empty one.
        let body = Limited::new(response.into_body(), PEER_PROBLEM_BYTES_MAX).collect().await;
        return Err(handshake::failure(status, &body.map(|body| body.to_bytes()).unwrap_or_default()));
    }
    let header = response.headers().get(handshake::HEADER);
    let header = header.ok_or_else(|| DialFailure::Unreachable("the answer has no hello".into()))?;
    let theirs = handshake::from_header(header).map_err(DialFailure::Unreachable)?;
    handshake::check_answer(ours, &theirs).map_err(DialFailure::Differs)?;
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(http)?;
    Ok((theirs, (TokioIo::new(upgraded), connection.socket.take())))
}

/// A random part of `pause`, from half to all of it, so that members that lost a peer together do not dial it together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

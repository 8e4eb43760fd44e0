//! `/livez`, `/readyz` and `/metrics` of the operator.
//!
//! Live means that every loop keeps turning, whether or not its work succeeds: the operator is never killed because an
//! API server or a node does not answer. Ready means that the operator works or stands by to work: an upgrade waits
//! until the new pod is ready, and until then the old one holds the Lease.

use crate::edge::metrics::Metrics;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// A loop that did not turn for this long is stuck, since each request of a pass has its own limit.
const TURN_MAX_S: u64 = 120;
/// Most connections served at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send the head of its request.
const HEADERS_TIMEOUT_MS: u64 = 5_000;
/// The longest that a connection is kept.
const CONNECTION_MAX_S: u64 = 60;
/// The pause after a failed accept, for example when there are no file descriptors left.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What the loops of this process report.
#[derive(Default)]
pub struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    role: Role,
    /// When each loop last turned.
    turned: BTreeMap<String, Instant>,
}

/// What this process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The Lease was not read yet.
    #[default]
    Starting,
    /// Another operator holds the Lease.
    StandsBy,
    /// It holds the Lease and fills its caches.
    FillsCaches,
    /// It works.
    Works,
}

impl Health {
    /// Sets what this process does from here on.
    pub fn role(&self, role: Role) {
        self.lock().role = role;
    }

    /// Notes that a loop turned.
    pub fn turned(&self, who: &str) {
        let mut state = self.lock();
        match state.turned.get_mut(who) {
            Some(at) => *at = Instant::now(),
            None => drop(state.turned.insert(who.to_string(), Instant::now())),
        }
    }

    /// Notes that a loop ended as it should.
    pub fn ended(&self, who: &str) {
        self.lock().turned.remove(who);
    }

    fn live(&self, now: Instant) -> Result<(), String> {
        let limit = Duration::from_secs(TURN_MAX_S);
        let state = self.lock();
        let stuck = state.turned.iter().find(|(_, at)| now.saturating_duration_since(**at) > limit);
        match stuck {
            Some((who, _)) => Err(format!("the loop of {who} did not turn for {TURN_MAX_S} s")),
            None => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        match self.lock().role {
            Role::Works | Role::StandsBy => Ok(()),
            Role::Starting => Err("the lease was not read yet".to_string()),
            Role::FillsCaches => Err("the caches are not filled yet".to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        let (health, metrics) = (health.clone(), metrics.clone());
        let service = service_fn(move |request| {
            let answer = answer(&request, &health, &metrics);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(HEADERS_TIMEOUT_MS))
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // The result does not matter: the client is gone, and can ask again.
            let _ = timeout(Duration::from_secs(CONNECTION_MAX_S), connection).await;
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    let of = |checked: Result<(), String>| match checked {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/livez") => of(health.live(Instant::now())),
        (&Method::GET | &Method::HEAD, "/readyz") => of(health.ready()),
        (&Method::GET | &Method::HEAD, "/metrics") => text(StatusCode::OK, metrics.text()),
        (&Method::GET | &Method::HEAD, _) => text(StatusCode::NOT_FOUND, "there is /livez, /readyz and /metrics\n"),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        .body(Full::new(body.into()))
        .expect("constants make a response")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_is_who_turned_a_moment_ago() {
        let health = Health::default();
        let now = Instant::now();
        assert_eq!(health.live(now), Ok(()));
        health.turned("team/demo");
        health.turned("lease");
        let late = Instant::now() + Duration::from_secs(TURN_MAX_S + 1);
        assert!(health.live(late).is_err_and(|why| why.contains("lease")));
        health.ended("lease");
        assert!(health.live(late).is_err_and(|why| why.contains("team/demo")));
        health.ended("team/demo");
        assert_eq!(health.live(late), Ok(()));
    }

    #[tokio::test]
    async fn who_works_or_stands_by_is_ready() {
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, health.clone(), metrics));
        for (role, ready) in
            [(Role::Starting, false), (Role::StandsBy, true), (Role::FillsCaches, false), (Role::Works, true)]
        {
            health.role(role);
            assert_eq!(crate::edge::probe::probe(&format!("{url}/readyz")).await.is_ok(), ready, "{role:?}");
        }
        crate::edge::probe::probe(&format!("{url}/livez")).await.unwrap();
        crate::edge::probe::probe(&format!("{url}/metrics")).await.unwrap();
        assert!(crate::edge::probe::probe(&url).await.is_err_and(|error| error.to_string().contains("404")));
    }
}

//! A scripted HTTP server on loopback: it gives the answers of a list, in order, and remembers the questions.
//!
//! Running out of script is an answer that no test expects (500 without a problem), so that a call too many
//! fails the test instead of hanging it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use raftkv_api::{Code, Hex128, Outcome, Problem, Status};
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// What the server does with one request.
pub enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, Bytes),
    /// Reads the request and closes the connection: the client cannot know.
    Hangup,
}

impl Reply {
    /// This status with this body.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        Reply::Answer(status, vec![], serde_json::to_vec(body).expect("a test's body serializes").into())
    }

    /// A refusal as a node words it.
    pub fn problem(code: Code, outcome: Outcome) -> Self {
        let problem = Problem { outcome, ..Problem::new(code, "scripted") };
        Reply::json(problem.status, &problem)
    }

    /// The answer of a GET of one key.
    pub fn found(value: &'static str, mod_revision: u64) -> Self {
        let headers = vec![("etag", format!("\"{mod_revision}\"")), ("x-raftkv-revision", "99".to_string())];
        Reply::Answer(200, headers, value.into())
    }

    /// The answer of a PUT.
    pub fn put(revision: u64) -> Self {
        Reply::json(200, &raftkv_api::Put { revision, version: 1 })
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: hyper::HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Seen {
    /// A header's text, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a test's header is text"))
    }
}

/// The server; it ends with the test's runtime.
pub struct Server {
    url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    script: VecDeque<Reply>,
    seen: Vec<Seen>,
    connections: usize,
}

impl Server {
    /// Listens on a free port and answers from this script.
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let shared = Arc::new(Mutex::new(Shared { script: script.into_iter().collect(), ..Shared::default() }));
        tokio::spawn(accept(listener, shared.clone()));
        Server { url, shared }
    }

    /// An endpoint that refuses connections.
    pub async fn refusing() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        format!("http://{}", listener.local_addr().expect("it listens"))
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far, in their order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().expect("no code panics while it holds this lock").seen.clone()
    }

    /// `METHOD target` of each request.
    pub fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.lock().expect("no code panics while it holds this lock").connections
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.lock().expect("no code panics while it holds this lock").connections += 1;
        let shared = shared.clone();
        let service = service_fn(move |request| serve(request, shared.clone()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn serve(
    request: Request<hyper::body::Incoming>,
    shared: Arc<Mutex<Shared>>,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| "the client went away")?.to_bytes();
    let mut shared = shared.lock().expect("no code panics while it holds this lock");
    let (method, target) = (head.method.to_string(), head.uri.to_string());
    shared.seen.push(Seen { method, target, headers: head.headers, body });
    match shared.script.pop_front() {
        // An error of the service makes hyper close the connection without an answer.
        Some(Reply::Hangup) => Err("hang up"),
        Some(Reply::Answer(status, headers, body)) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body)).expect("a test's headers are valid"))
        }
        None => Ok(Response::builder()
            .status(500)
            .body(Full::new("the script is over".into()))
            .expect("a status and a body")),
    }
}

/// The status of a healthy voter named `n<id>` in a cluster that `n1` leads.
pub fn status(id: u64) -> Status {
    serde_json::from_value(json!({
        "name": format!("n{id}"), "version": "0", "state": "voter", "reason": null,
        "incarnation": Hex128([id as u8; 16]), "cluster_id": Hex128([7; 16]), "genesis": Hex128([8; 16]),
        "generation": 0, "member_id": id.to_string(), "leader_id": "1",
        "leader": {"name": "n1", "client_url": null, "admin_url": "http://n1:2381"},
        "term": 4, "commit": 100, "applied": 100, "last_index": 100, "first_index": 1, "snapshot_index": 1,
        "conf_index": 5, "durable_conf_index": 5, "can_lead": true, "formed": true, "kv": "ready",
        "revision": 42, "compacted_revision": 0, "db_bytes": 2048, "free_bytes": 1,
        "state_hash": {"applied": 100, "log_hash": Hex128([9; 16])}, "state_hashes": [], "peers": [],
        "leader_contact_ms": 1, "quorum_contact_ms": (id == 1).then_some(50), "serves": "yes",
        "writes": (id == 1).then_some("ok"), "peer_url": "http://p:2380", "client_url": "", "admin_url": "",
    }))
    .expect("it has every field of a status")
}

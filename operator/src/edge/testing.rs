//! A scripted HTTP server on loopback that stands for the API server or for a node. It gives the answers of a list in
//! order, and remembers the requests. When the script runs out it answers 500, which no test expects.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `METHOD /path?query`.
    pub call: String,
    pub headers: HeaderMap,
    /// Null when there was none.
    pub body: Value,
    /// The status of the answer.
    pub answered: u16,
}

impl Seen {
    /// Whether it changed something.
    pub(crate) fn wrote(&self) -> bool {
        !self.call.starts_with("GET ") && !self.call.contains("dryRun") && (200..300).contains(&self.answered)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The server; it ends with the test's runtime.
pub(crate) struct Script {
    url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    answers: VecDeque<(u16, Value)>,
    seen: Vec<Seen>,
}

impl Script {
    /// Answers with these, one after the other.
    pub(crate) async fn start(answers: impl IntoIterator<Item = (u16, Value)>) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { answers: answers.into_iter().collect(), seen: vec![] }));
        tokio::spawn(accept(listener, shared.clone()));
        Script { url, shared }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::try_from(kube::Config::new(self.url.parse().unwrap())).unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().unwrap().seen.clone()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.call).collect()
    }
}

/// The status of a healthy voter `demo-<ordinal>` with member id `ordinal + 1`, in a cluster that `demo-0` leads.
pub(crate) fn node_status(ordinal: u8) -> raftkv_api::Status {
    use raftkv_api::Hex128;
    serde_json::from_value(serde_json::json!({
        "name": format!("demo-{ordinal}"), "version": "0", "state": "voter", "reason": null,
        "incarnation": Hex128([ordinal; 16]), "cluster_id": Hex128([7; 16]), "genesis": Hex128([8; 16]),
        "generation": 0, "member_id": (ordinal + 1).to_string(), "leader_id": "1", "leader": null,
        "term": 4, "commit": 100, "applied": 100, "last_index": 100, "first_index": 1, "snapshot_index": 1,
        "conf_index": 5, "durable_conf_index": 5, "can_lead": true, "formed": true, "kv": "ready",
        "revision": 42, "compacted_revision": 0, "db_bytes": 2048, "free_bytes": 1,
        "state_hash": null, "state_hashes": [], "peers": [], "members": [], "joint": false,
        "leader_contact_ms": 1, "peer_url": "http://p:2380", "client_url": "", "admin_url": "",
    }))
    .unwrap()
}

/// What the API server answers when it refuses.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = serde_json::json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (code, status)
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let service = service_fn(move |request| serve(request, shared.clone()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn serve(request: Request<Incoming>, shared: Arc<Mutex<Shared>>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut shared = shared.lock().unwrap();
    let (status, answer) = shared.answers.pop_front().unwrap_or((500, Value::from("the script is over")));
    shared.seen.push(Seen {
        call: format!("{} {}", head.method, head.uri),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        answered: status,
    });
    let body = Full::new(Bytes::from(answer.to_string()));
    Ok(Response::builder().status(status).header("content-type", "application/json").body(body).unwrap())
}

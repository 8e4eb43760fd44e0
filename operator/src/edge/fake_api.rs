//! A very small API server for tests: objects by path, resource versions and generations, merge patches, preconditions,
//! dry runs, and webhooks that change what is written. It knows no watches, no defaults and no validation.

use crate::resources::testing::merge;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;

/// The kinds that can be listed.
const LISTED: [&str; 2] = ["/pods", "/persistentvolumeclaims"];

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct FakeApi {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// `METHOD /path` of each request, with `?dryRun` behind it if it is one.
    calls: Vec<String>,
    /// All requests there ever were.
    requests: usize,
    /// The answer to calls that begin like this.
    failures: Vec<(String, u16)>,
    /// Changes the objects whose paths begin like this when they are written.
    webhooks: Vec<(String, Webhook)>,
    /// Whether webhooks take dry runs.
    takes_no_dry_runs: bool,
    /// After how many requests the client's process dies, and whether before or after the last one is carried out.
    death: Option<(usize, Death)>,
}

/// What admission makes of an object.
pub(crate) type Webhook = fn(&mut Value);

/// When the process dies that sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The request never arrives.
    Before,
    /// The request is carried out, and nobody gets the answer.
    After,
}

impl FakeApi {
    pub(crate) async fn start() -> FakeApi {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = FakeApi { url, state: Arc::default() };
        tokio::spawn(accept(listener, api.clone()));
        api
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::try_from(kube::Config::new(self.url.parse().unwrap())).unwrap()
    }

    /// Puts an object at a path, as somebody other than the operator would.
    pub(crate) fn put(&self, path: &str, object: Value) -> Value {
        self.state().store(path, object)
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// The objects whose paths begin like this.
    pub(crate) fn objects(&self, below: &str) -> Vec<Value> {
        let state = self.state();
        let found = state.objects.iter().filter(|(path, _)| path.starts_with(below));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// Calls that begin like this fail from here on.
    pub(crate) fn fail(&self, call: &str, code: u16) {
        self.state().failures.push((call.to_string(), code));
    }

    /// Calls succeed again.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.failures, state.death) = (vec![], None);
    }

    /// Objects at paths that begin like this are changed when they are written.
    pub(crate) fn mutate(&self, path: &str, webhook: Webhook) {
        self.state().webhooks.push((path.to_string(), webhook));
    }

    /// Webhooks take no dry runs from here on.
    pub(crate) fn take_no_dry_runs(&self) {
        self.state().takes_no_dry_runs = true;
    }

    /// The process dies with the request that has this number from here on; later ones never arrive.
    pub(crate) fn die_at(&self, request: usize, when: Death) {
        self.state().death = Some((request, when));
    }

    /// Whether that request was sent.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().death.is_some_and(|(left, _)| left == 0)
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.state().requests
    }

    /// The calls since this was last called.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, api: FakeApi) {
    while let Ok((stream, _)) = listener.accept().await {
        let api = api.clone();
        let service = service_fn(move |request| serve(request, api.clone()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn serve(request: Request<Incoming>, api: FakeApi) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
    let dry_run = head.uri.query().is_some_and(|query| query.contains("dryRun=All"));
    let (code, answer) = api.state().serve(&head.method, head.uri.path(), dry_run, body);
    let body = Full::new(Bytes::from(answer.to_string()));
    Ok(Response::builder().status(code).header("content-type", "application/json").body(body).unwrap())
}

impl State {
    fn serve(&mut self, method: &Method, path: &str, dry_run: bool, body: Value) -> (u16, Value) {
        self.requests += 1;
        let Some((left, when)) = self.death else { return self.answer(method, path, dry_run, body) };
        self.death = Some((left.saturating_sub(1), when));
        match (left, when) {
            (0, _) | (1, Death::Before) => refused(500),
            (1, Death::After) => {
                self.answer(method, path, dry_run, body);
                refused(500)
            }
            (2.., _) => self.answer(method, path, dry_run, body),
        }
    }

    fn answer(&mut self, method: &Method, path: &str, dry_run: bool, body: Value) -> (u16, Value) {
        let call = format!("{method} {path}{}", if dry_run { "?dryRun" } else { "" });
        self.calls.push(call.clone());
        if let Some((_, code)) = self.failures.iter().find(|(failing, _)| call.starts_with(failing)) {
            return refused(*code);
        }
        match *method {
            Method::GET => self.get(path),
            Method::POST if path.ends_with("/eviction") => {
                let pod = path.trim_end_matches("/eviction");
                self.change(&Method::DELETE, pod, dry_run, body["deleteOptions"].clone())
            }
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                match self.objects.contains_key(&path) {
                    true => refused(409),
                    false => (201, self.admit(&path, body)),
                }
            }
            _ => self.change(method, path, dry_run, body),
        }
    }

    /// Stores what admission makes of an object.
    fn admit(&mut self, path: &str, object: Value) -> Value {
        let object = self.admitted(path, object);
        self.store(path, object)
    }

    fn admitted(&self, path: &str, mut object: Value) -> Value {
        self.webhooks.iter().filter(|(of, _)| path.starts_with(of)).for_each(|(_, webhook)| webhook(&mut object));
        object
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let below = format!("{path}/");
        let is_list = LISTED.iter().any(|plural| path.ends_with(plural));
        match self.objects.get(path) {
            Some(object) => (200, object.clone()),
            None if is_list => {
                let items: Vec<_> =
                    self.objects.iter().filter(|(at, _)| at.starts_with(&below)).map(|(_, it)| it).collect();
                (200, json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items}))
            }
            None => refused(404),
        }
    }

    fn change(&mut self, method: &Method, path: &str, dry_run: bool, body: Value) -> (u16, Value) {
        let at = path.strip_suffix("/status").unwrap_or(path);
        let Some(mut object) = self.objects.get(at).cloned() else { return refused(404) };
        let fence = if *method == Method::DELETE { &body["preconditions"] } else { &body["metadata"] };
        for field in ["uid", "resourceVersion"] {
            if !fence[field].is_null() && fence[field] != object["metadata"][field] {
                return refused(409);
            }
        }
        if *method == Method::DELETE {
            self.objects.remove(at);
            return (200, object);
        }
        if *method == Method::PUT {
            object["status"] = body["status"].clone();
            return (200, self.store(at, object));
        }
        if dry_run && self.takes_no_dry_runs {
            return refused(400);
        }
        merge(&mut object, &body);
        match dry_run {
            true => (200, self.admitted(at, object)),
            false => (200, self.admit(at, object)),
        }
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        // What changes nothing is not written.
        let before = self.objects.get(path);
        if before == Some(&object) {
            return object;
        }
        if before.is_some_and(|before| before["spec"] != object["spec"]) {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
            object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        self.objects.insert(path.to_string(), object.clone());
        object
    }
}

fn refused(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        _ => "InternalError",
    };
    (
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "message": "as the test asks", "reason": reason}),
    )
}

//! A very small API server for tests: objects by path, resource versions, merge patches, preconditions. It knows no
//! watches, no defaults and no validation.

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
    /// `METHOD /path` of each request.
    calls: Vec<String>,
    /// The answer to calls that begin like this.
    failures: Vec<(String, u16)>,
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
    let (code, answer) = api.state().answer(&head.method, head.uri.path(), body);
    let body = Full::new(Bytes::from(answer.to_string()));
    Ok(Response::builder().status(code).header("content-type", "application/json").body(body).unwrap())
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let call = format!("{method} {path}");
        self.calls.push(call.clone());
        if let Some((_, code)) = self.failures.iter().find(|(failing, _)| call.starts_with(failing)) {
            return refused(*code);
        }
        match *method {
            Method::GET => self.get(path),
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) { refused(409) } else { (201, self.store(&path, body)) }
            }
            _ => self.change(method, path, body),
        }
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

    fn change(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
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
        } else {
            merge(&mut object, &body);
        }
        (200, self.store(at, object))
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
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

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            value => merge(&mut target[key], value),
        }
    }
}

//! Reads the API server many times a second, through `kubectl proxy`, which has the credentials. One kubectl for each
//! question would keep a core busy with starting kubectl.

use crate::harness::shell::tail;
use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Time limit of one exchange.
const EXCHANGE_MAX: Duration = Duration::from_secs(15);
/// Largest answer in bytes: a list of everything in a namespace is far below it.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Kinds of objects that the scenarios read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `RaftKvCluster`.
    Cluster,
    /// Pod.
    Pod,
    /// PersistentVolumeClaim.
    Claim,
    /// Service.
    Service,
    /// Secret.
    Secret,
    /// StatefulSet.
    Set,
    /// PodDisruptionBudget.
    Budget,
    /// Event.
    Event,
    /// Lease.
    Lease,
    /// Node; the namespace is ignored.
    Node,
}

impl Kind {
    /// The API path of the objects of this kind.
    fn path(self, namespace: &str) -> String {
        let (group, plural) = match self {
            Kind::Cluster => ("apis/raftkv.dev/v1alpha1", "raftkvclusters"),
            Kind::Pod => ("api/v1", "pods"),
            Kind::Claim => ("api/v1", "persistentvolumeclaims"),
            Kind::Service => ("api/v1", "services"),
            Kind::Secret => ("api/v1", "secrets"),
            Kind::Set => ("apis/apps/v1", "statefulsets"),
            Kind::Budget => ("apis/policy/v1", "poddisruptionbudgets"),
            Kind::Event => ("apis/events.k8s.io/v1", "events"),
            Kind::Lease => ("apis/coordination.k8s.io/v1", "leases"),
            Kind::Node => return "/api/v1/nodes".to_string(),
        };
        format!("/{group}/namespaces/{namespace}/{plural}")
    }
}

/// The API server; the proxy ends when this is dropped.
#[derive(Debug)]
pub struct Api {
    proxy: Child,
    authority: String,
    runtime: Runtime,
}

impl Api {
    /// Starts the proxy; `kubectl` has all that it needs to find its cluster.
    pub fn start(mut kubectl: Command) -> Result<Api> {
        kubectl.args(["proxy", "--port=0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut proxy = kubectl.spawn().context("`kubectl proxy` cannot be started")?;
        let stdout = proxy.stdout.take().context("`kubectl proxy` has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(authority) = line.trim().strip_prefix("Starting to serve on ") else {
            // The proxy said why on standard error, which is ours.
            proxy.kill()?;
            proxy.wait()?;
            bail!("`kubectl proxy` does not serve: '{}'", line.trim());
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Api { proxy, authority: authority.to_string(), runtime })
    }

    /// One object.
    pub fn get<T: DeserializeOwned>(&self, kind: Kind, namespace: &str, name: &str) -> Result<T> {
        let path = format!("{}/{name}", kind.path(namespace));
        serde_json::from_slice(&self.exchange(Method::GET, &path, None)?).with_context(|| path)
    }

    /// All objects of a kind, or only those with a label `name=value`.
    pub fn list(&self, kind: Kind, namespace: &str, label: Option<&str>) -> Result<Value> {
        let selector = label
            .map_or(String::new(), |label| format!("?labelSelector={}", label.replace('/', "%2F").replace('=', "%3D")));
        let path = format!("{}{selector}", kind.path(namespace));
        serde_json::from_slice(&self.exchange(Method::GET, &path, None)?).with_context(|| path)
    }

    /// Sends GET without a body, POST with one.
    pub fn raw(&self, path: &str, body: Option<&Value>) -> Result<String> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        Ok(String::from_utf8_lossy(&self.exchange(method, path, body)?).into_owned())
    }

    fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes> {
        let exchange = exchange(&self.authority, method.clone(), path, body.map(Value::to_string).unwrap_or_default());
        let answer = self.runtime.block_on(async { tokio::time::timeout(EXCHANGE_MAX, exchange).await });
        let answer = answer.map_err(|_| anyhow!("no answer within {EXCHANGE_MAX:?}"));
        answer.and_then(|answer| answer).with_context(|| format!("{method} {path}"))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        drop(self.proxy.kill());
        drop(self.proxy.wait());
    }
}

async fn exchange(authority: &str, method: Method, path: &str, body: String) -> Result<Bytes> {
    let stream = TcpStream::connect(authority).await.context("kubectl proxy")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow!("reading the answer: {error}"))?.to_bytes();
    ensure!(status.is_success(), "{}", why(status, &body));
    Ok(body)
}

/// The API server's own message, if the body has one.
fn why(status: hyper::StatusCode, body: &[u8]) -> String {
    let told = serde_json::from_slice::<Value>(body).ok();
    let message = told.as_ref().and_then(|told| told["message"].as_str()).map(String::from);
    message.unwrap_or_else(|| format!("{status}: {}", tail(&String::from_utf8_lossy(body))))
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(Kind::Pod.path("a"), "/api/v1/namespaces/a/pods");
        assert_eq!(Kind::Cluster.path("a"), "/apis/raftkv.dev/v1alpha1/namespaces/a/raftkvclusters");
        assert_eq!(Kind::Node.path("a"), "/api/v1/nodes");
    }
}

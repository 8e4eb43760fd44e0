//! One HTTP/1.1 exchange with one endpoint, over connections that are kept alive and reused.
//!
//! What enters is a whole request, and what leaves is a whole answer or an [`Error`] that says whether the request can
//! have reached the node. The layers above need no more than that distinction to keep rule N5, so it is made here, once,
//! from what hyper tells: a request that hyper hands back was never written.

use crate::bytes_text::printable;
use crate::error::{Cause, Error};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use raftkv_api::Problem;
use serde::de::DeserializeOwned;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

/// A connection that is not established by then counts as refused.
const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// An idle connection older than this is not reused, unless the caller knows better: whoever is at its other end may be
/// about to close it, and a write that crosses with the close would end unknown for nothing.
const IDLE_MAX_MS: u64 = 4_000;
/// Idle connections kept for one endpoint.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// Largest answer: a page of 8 MiB whose every byte was escaped as `\u00xx`, and some room.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest part of an answer that is not raftkv's own which an error quotes.
const EXCERPT_CHARS_MAX: usize = 200;

/// Why an exchange gave no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Nothing of the request was written.
    #[error("no connection: {0}")]
    NotSent(String),
    /// The connection broke after the request was, at least in part, written.
    #[error("the connection was lost before the answer came: {0}")]
    Lost(String),
    /// The request was written; the answer did not come in time.
    #[error("no answer within {after_ms} ms")]
    TimedOut {
        /// How long it was waited for.
        after_ms: u64,
    },
}

/// The text is not the URL of an endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{url}' is not an endpoint: {why}")]
pub struct EndpointError {
    url: String,
    why: &'static str,
}

/// A request that can be sent more than once: where the rules allow it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub target: String,
    /// Headers besides `Host`.
    pub headers: Vec<(HeaderName, String)>,
    /// The body; empty for a read.
    pub body: Bytes,
    /// Whether it can change something, so that its outcome matters.
    pub mutates: bool,
}

impl Call {
    /// A call that only reads.
    pub fn get(target: impl Into<String>) -> Self {
        Call { method: Method::GET, target: target.into(), headers: vec![], body: Bytes::new(), mutates: false }
    }

    /// A call that changes something.
    pub fn change(method: Method, target: impl Into<String>, body: Bytes) -> Self {
        Call { method, target: target.into(), headers: vec![], body, mutates: true }
    }

    /// The call with one more header.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn request(&self, authority: &str) -> Result<Request<Full<Bytes>>, Failure> {
        let bad = |why: &dyn std::fmt::Display| Failure::NotSent(format!("the request cannot be formed: {why}"));
        let mut request = Request::builder().method(self.method.clone()).uri(&self.target).header(HOST, authority);
        for (name, value) in &self.headers {
            request = request.header(name, HeaderValue::from_str(value).map_err(|error| bad(&error))?);
        }
        request.body(Full::new(self.body.clone())).map_err(|error| bad(&error))
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// A node's client or admin port, with its idle connections.
pub struct Endpoint {
    url: String,
    authority: String,
    idle: Mutex<Vec<Idle>>,
    idle_max: Duration,
}

impl Endpoint {
    /// Parses `http://host:port`.
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        let bad = |why| EndpointError { url: url.to_string(), why };
        let uri: Uri = url.trim().parse().map_err(|_| bad("it is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("TLS is not supported")),
            Some(_) | None => return Err(bad("it does not start with http://")),
        }
        if !matches!(uri.path_and_query().map(|p| p.as_str()), None | Some("" | "/")) {
            return Err(bad("it has a path"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.port_u16().is_none() {
            return Err(bad("it has no port"));
        }
        let authority = authority.to_string();
        let idle_max = Duration::from_millis(IDLE_MAX_MS);
        Ok(Endpoint { url: format!("http://{authority}"), authority, idle: Mutex::default(), idle_max })
    }

    /// Idle connections are reused for this long.
    pub fn keeping_idle(self, idle_max: Duration) -> Self {
        Endpoint { idle_max, ..self }
    }

    /// The URL in its normal form: no trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An exchange whose answer is a success; any other answer is an error.
    pub async fn call(&self, call: &Call, attempt_timeout: Duration) -> Result<Answer, Error> {
        let failed = |cause| Error::new(self.url(), call.mutates, cause);
        let answer = self.exchange(call, attempt_timeout).await.map_err(|failure| match failure {
            Failure::NotSent(why) => failed(Cause::NotSent(why)),
            Failure::Lost(_) | Failure::TimedOut { .. } => failed(Cause::NoAnswer(failure.to_string())),
        })?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(failed(match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => Cause::Problem(Box::new(problem)),
            Err(_) => Cause::Foreign { status: answer.status.as_u16(), excerpt: excerpt(&answer.body) },
        }))
    }

    /// Sends the call and reads the whole answer. Sends again only what hyper says was not written.
    async fn exchange(&self, call: &Call, answer_timeout: Duration) -> Result<Answer, Failure> {
        let mut request = call.request(&self.authority)?;
        while let Some(mut sender) = self.take_idle().await {
            match self.send(&mut sender, request, answer_timeout).await {
                Sent::Answered(answer) => {
                    self.give_back(sender);
                    return Ok(answer);
                }
                Sent::Failed(failure) => return Err(failure),
                // The node had closed this connection while it was idle.
                Sent::NotWritten(handed_back, _) => request = *handed_back,
            }
        }
        let mut sender = self.connect().await?;
        match self.send(&mut sender, request, answer_timeout).await {
            Sent::Answered(answer) => {
                self.give_back(sender);
                Ok(answer)
            }
            Sent::Failed(failure) => Err(failure),
            Sent::NotWritten(_, why) => Err(Failure::NotSent(why)),
        }
    }

    async fn send(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
        answer_timeout: Duration,
    ) -> Sent {
        let deadline = tokio::time::Instant::now() + answer_timeout;
        let timed_out = || Sent::Failed(Failure::TimedOut { after_ms: millis(answer_timeout) });
        let response = match timeout_at(deadline, sender.try_send_request(request)).await {
            Err(_elapsed) => return timed_out(),
            Ok(Ok(response)) => response,
            Ok(Err(mut error)) => {
                let handed_back = error.take_message();
                let why = describe(&error.into_error());
                return match handed_back {
                    Some(request) => Sent::NotWritten(Box::new(request), why),
                    None => Sent::Failed(Failure::Lost(why)),
                };
            }
        };
        match timeout_at(deadline, collect(response)).await {
            Err(_elapsed) => timed_out(),
            Ok(Err(why)) => Sent::Failed(Failure::Lost(why)),
            Ok(Ok(answer)) => Sent::Answered(answer),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let establish = async {
            let stream = TcpStream::connect(&self.authority).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| describe(&error))
        };
        let (sender, connection) = timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), establish)
            .await
            .map_err(|_elapsed| Failure::NotSent(format!("not established within {CONNECT_TIMEOUT_MS} ms")))?
            .map_err(Failure::NotSent)?;
        // The task ends when the sender is dropped or the node closes; the error reaches us by the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let idle = self.idle.lock().expect("no code panics while it holds this lock").pop()?;
            let fresh = idle.since.elapsed() < self.idle_max;
            let mut sender = idle.sender;
            let ready = timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), sender.ready());
            if fresh && matches!(ready.await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    fn give_back(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        if !sender.is_closed() && idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

/// The JSON of a successful answer.
pub(crate) fn parse<T: DeserializeOwned>(endpoint: &str, mutates: bool, answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let excerpt = format!("{error} in {}", excerpt(&answer.body));
        Error::new(endpoint, mutates, Cause::Foreign { status: answer.status.as_u16(), excerpt })
    })
}

/// A header that is a number, in quotes or without.
pub(crate) fn header_number(endpoint: &str, answer: &Answer, name: HeaderName) -> Result<u64, Error> {
    let text = answer.headers.get(&name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.trim_matches('"').parse().map_err(|_| {
        let excerpt = format!("header {name} is '{text}', not a number");
        Error::new(endpoint, false, Cause::Foreign { status: answer.status.as_u16(), excerpt })
    })
}

fn excerpt(body: &[u8]) -> String {
    printable(body, EXCERPT_CHARS_MAX)
}

enum Sent {
    Answered(Answer),
    NotWritten(Box<Request<Full<Bytes>>>, String),
    Failed(Failure),
}

async fn collect(response: Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

/// hyper's own text names the step; the cause, which people need, is its source.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_http_host_and_port() {
        for (good, url) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("http://kv-0.kv-peers:2379/", "http://kv-0.kv-peers:2379"),
            ("http://[::1]:2379", "http://[::1]:2379"),
        ] {
            assert_eq!(Endpoint::new(good).map(|endpoint| endpoint.url).as_deref(), Ok(url));
        }
        for bad in ["", "127.0.0.1:2379", "https://h:1", "http://h", "http://h:1/v1", "http://h:1?x", "ftp://h:1"] {
            assert!(Endpoint::new(bad).is_err(), "{bad}");
        }
    }
}

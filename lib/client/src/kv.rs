//! The client of the key-value API: typed calls over a list of endpoints, with failover.
//!
//! A call goes to the endpoint that answered last. When it fails, the rules of rule N5 decide whether the
//! same call may go to another one: a read always may, a write only when it is *known* to have had no
//! effect - it was never sent, or the node said `outcome: none` and that it may work elsewhere. Every
//! other failure of a write is handed to the caller with [`Error::outcome`] `unknown`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use raftkv_client::{Client, Condition, ReadOptions};
//! let client = Client::new(&["http://127.0.0.1:2379"])?;
//! client.put(b"color", "green".into(), Condition::None).await?;
//! let read = client.get(b"color", ReadOptions::default()).await?;
//! assert_eq!(read.map(|found| found.value).as_deref(), Some(&b"green"[..]));
//! # Ok(())
//! # }
//! ```

use crate::bytes_text::{key_target, query_value};
use crate::failover::Failover;
use crate::http::{Answer, Call, Endpoint, Failure};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use raftkv_api::{Code, Deleted, HEADER_REVISION, Outcome, Problem, Put, Range, Version};
use serde::de::DeserializeOwned;
use std::time::Duration;

pub use crate::http::EndpointError;
pub use crate::pages::Pages;

/// Longest part of an answer that is not raftkv's own which an error quotes.
const EXCERPT_CHARS_MAX: usize = 200;

/// How long one call is waited for and how long it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// One exchange with one endpoint; longer than the node's own limit of 5 s, so that the node's
    /// answer, which says more than silence, comes first.
    pub attempt_timeout: Duration,
    /// The endpoints are gone through again, with pauses, until this has passed. Each is tried at least once.
    pub retry_for: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { attempt_timeout: Duration::from_secs(8), retry_for: Duration::from_secs(10) }
    }
}

/// When a write may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// The key was last written at this revision (`If-Match: "<rev>"`).
    Revision(u64),
    /// The key exists (`If-Match: *`).
    Exists,
    /// The key does not exist (`If-None-Match: *`).
    Absent,
}

/// What to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Read the store as it was at this revision.
    pub revision: Option<u64>,
    /// Read what the node has, without asking the leader.
    pub stale: bool,
}

/// A key that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its value.
    pub value: Bytes,
    /// The revision of its last write: what [`Condition::Revision`] takes.
    pub mod_revision: u64,
    /// The revision of the store that was read.
    pub revision: u64,
}

/// Which keys to read, in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeQuery {
    /// Keys that begin with this; when it is not empty, `start` and `end` must be absent.
    pub prefix: Bytes,
    /// Keys from this one on, itself included.
    pub start: Option<Bytes>,
    /// Keys up to this one, itself excluded.
    pub end: Option<Bytes>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// As in a read of one key.
    pub read: ReadOptions,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint}: {cause}")]
pub struct Error {
    /// The endpoint that was asked last.
    pub endpoint: String,
    /// What went wrong there.
    pub cause: Cause,
    mutates: bool,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The request was never sent.
    #[error("{0}")]
    NotSent(String),
    /// The request was sent, and no whole answer came back.
    #[error("{0}")]
    NoAnswer(String),
    /// The node refused, or failed, and says so.
    #[error("{} ({}): {}", .0.title, .0.code.as_str(), .0.detail)]
    Problem(Box<Problem>),
    /// Something answered that does not speak raftkv's API.
    #[error("answered {status}, which is not an answer of raftkv: {excerpt}")]
    Foreign {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body, or what is wrong with it.
        excerpt: String,
    },
}

impl Error {
    /// A failure at this endpoint; `mutates` says whether the call can change something.
    pub fn new(endpoint: &str, mutates: bool, cause: Cause) -> Self {
        Error { endpoint: endpoint.to_string(), cause, mutates }
    }

    /// Whether the call can have had an effect. A read never has one.
    pub fn outcome(&self) -> Outcome {
        if !self.mutates {
            return Outcome::None;
        }
        match &self.cause {
            Cause::NotSent(_) => Outcome::None,
            Cause::Problem(problem) => problem.outcome,
            Cause::NoAnswer(_) | Cause::Foreign { .. } => Outcome::Unknown,
        }
    }

    /// The node's own account of the failure, if it is one.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.cause {
            Cause::Problem(problem) => Some(problem),
            Cause::NotSent(_) | Cause::NoAnswer(_) | Cause::Foreign { .. } => None,
        }
    }

    /// The code of [`Error::problem`].
    pub fn code(&self) -> Option<Code> {
        self.problem().map(|problem| problem.code)
    }

    /// Whether the same call may succeed elsewhere or later, its outcome aside. What stands in the way of one
    /// node (it was removed, say) need not stand in the way of another.
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            Cause::NotSent(_) | Cause::NoAnswer(_) | Cause::Foreign { .. } => true,
            Cause::Problem(problem) => problem.retryable || problem.status >= 500,
        }
    }
}

/// A client of one cluster.
pub struct Client {
    failover: Failover,
}

impl Client {
    /// A client with the default [`Policy`]; `endpoints` are client URLs.
    pub fn new(endpoints: &[impl AsRef<str>]) -> Result<Self, EndpointError> {
        Client::with_policy(endpoints, Policy::default())
    }

    /// A client with a policy of its own.
    pub fn with_policy(endpoints: &[impl AsRef<str>], policy: Policy) -> Result<Self, EndpointError> {
        Ok(Client { failover: Failover::new(endpoints, policy)? })
    }

    /// Reads a key, linearizably unless asked otherwise; `None` when it does not exist.
    pub async fn get(&self, key: &[u8], options: ReadOptions) -> Result<Option<Found>, Error> {
        let mut query = Query::default();
        query.read(options);
        let call = Call::get(query.target(&key_target(key)));
        let (endpoint, answer) = match self.failover.call(&call).await {
            Ok(answered) => answered,
            Err(error) if error.code() == Some(Code::KeyNotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = |name: HeaderName| header_number(endpoint, &answer, name);
        let (mod_revision, revision) = (number(ETAG)?, number(HeaderName::from_static(HEADER_REVISION))?);
        Ok(Some(Found { value: answer.body, mod_revision, revision }))
    }

    /// Writes a key.
    pub async fn put(&self, key: &[u8], value: Bytes, condition: Condition) -> Result<Put, Error> {
        self.change(Method::PUT, key, value, condition).await
    }

    /// Deletes a key.
    pub async fn delete(&self, key: &[u8], condition: Condition) -> Result<Deleted, Error> {
        self.change(Method::DELETE, key, Bytes::new(), condition).await
    }

    /// Reads a range page by page, all pages at the revision of the first one.
    pub fn pages(&self, query: RangeQuery, page_keys: u64) -> Pages<'_> {
        Pages::new(self, query, page_keys)
    }

    /// Reads one page: at most `limit` keys, after the last key of the page before.
    pub(crate) async fn page(&self, range: &RangeQuery, limit: u64, after: Option<&str>) -> Result<Range, Error> {
        let mut query = Query::default();
        query.bytes("prefix", Some(&range.prefix).filter(|prefix| !prefix.is_empty()));
        query.bytes("start", range.start.as_ref());
        query.bytes("end", range.end.as_ref());
        query.flag("keys_only", range.keys_only && !range.count_only);
        query.flag("count_only", range.count_only);
        query.read(range.read);
        if !range.count_only {
            query.text("limit", &limit.to_string());
        }
        if let Some(after) = after {
            query.text("after", after);
        }
        let (endpoint, answer) = self.failover.call(&Call::get(query.target("/v1/kv"))).await?;
        parse(endpoint, false, &answer)
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        key: &[u8],
        body: Bytes,
        condition: Condition,
    ) -> Result<T, Error> {
        let call = Call::change(method, key_target(key), body);
        let call = match condition {
            Condition::None => call,
            Condition::Revision(revision) => call.header(IF_MATCH, format!("\"{revision}\"")),
            Condition::Exists => call.header(IF_MATCH, "*"),
            Condition::Absent => call.header(IF_NONE_MATCH, "*"),
        };
        let (endpoint, answer) = self.failover.call(&call).await?;
        parse(endpoint, true, &answer)
    }
}

/// Asks each endpoint once where its admin API is; those that do not answer are errors in their place.
pub async fn admin_urls(endpoints: &[String], attempt_timeout: Duration) -> Vec<Result<Version, Error>> {
    let ask = |url: String| async move {
        let unusable = |error: EndpointError| Error::new(&url, false, Cause::NotSent(error.to_string()));
        let endpoint = Endpoint::new(&url).map_err(unusable)?;
        let answer = endpoint.call(&Call::get("/version"), attempt_timeout).await?;
        parse(endpoint.url(), false, &answer)
    };
    crate::discover::all(endpoints.iter().cloned().map(ask)).await
}

impl Endpoint {
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
    crate::bytes_text::printable(body, EXCERPT_CHARS_MAX)
}

/// A query string under construction.
#[derive(Default)]
struct Query(Vec<String>);

impl Query {
    fn text(&mut self, name: &str, value: &str) {
        self.0.push(format!("{name}={}", query_value(value.as_bytes())));
    }

    fn bytes(&mut self, name: &str, value: Option<&Bytes>) {
        self.0.extend(value.map(|value| format!("{name}={}", query_value(value))));
    }

    fn flag(&mut self, name: &str, set: bool) {
        self.0.extend(set.then(|| format!("{name}=true")));
    }

    fn read(&mut self, options: ReadOptions) {
        if options.stale {
            self.text("consistency", "stale");
        }
        if let Some(revision) = options.revision {
            self.text("revision", &revision.to_string());
        }
    }

    fn target(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_string() } else { format!("{path}?{}", self.0.join("&")) }
    }
}

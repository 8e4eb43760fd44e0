//! Keys, one at a time: typed calls over a list of endpoints.
//!
//! A call goes to the endpoint that answered last. When it fails, rule N5 decides whether the same call may go to another
//! one: a read always may, a write only when it is *known* to have had no effect, because it was never sent, or because
//! the node said `outcome: none` and that it may work elsewhere. The caller gets every other failure of a write, with
//! [`Error::outcome`] `unknown`.
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
use crate::error::Error;
use crate::failover::{Failover, Policy};
use crate::http::{Call, EndpointError, header_number, parse};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use raftkv_api::{Code, Deleted, HEADER_REVISION, Put};
use serde::de::DeserializeOwned;

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

/// A client of one cluster.
pub struct Client {
    pub(crate) failover: Failover,
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
        match self.find(key, options).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code() == Some(Code::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for a key that should be there: where there is none, the node says at which revision.
    pub async fn find(&self, key: &[u8], options: ReadOptions) -> Result<Found, Error> {
        let mut query = Query::default();
        query.read(options);
        let call = Call::get(query.target(&key_target(key)));
        let (endpoint, answer) = self.failover.call(&call).await?;
        let number = |name: HeaderName| header_number(endpoint, &answer, name);
        let (mod_revision, revision) = (number(ETAG)?, number(HeaderName::from_static(HEADER_REVISION))?);
        Ok(Found { value: answer.body, mod_revision, revision })
    }

    /// Writes a key.
    pub async fn put(&self, key: &[u8], value: Bytes, condition: Condition) -> Result<Put, Error> {
        self.change(Method::PUT, key, value, condition).await
    }

    /// Deletes a key.
    pub async fn delete(&self, key: &[u8], condition: Condition) -> Result<Deleted, Error> {
        self.change(Method::DELETE, key, Bytes::new(), condition).await
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

/// A query string under construction.
#[derive(Default)]
pub(crate) struct Query(Vec<String>);

impl Query {
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.0.push(format!("{name}={}", query_value(value.as_bytes())));
    }

    pub(crate) fn bytes(&mut self, name: &str, value: Option<&Bytes>) {
        self.0.extend(value.map(|value| format!("{name}={}", query_value(value))));
    }

    pub(crate) fn flag(&mut self, name: &str, set: bool) {
        self.0.extend(set.then(|| format!("{name}=true")));
    }

    pub(crate) fn read(&mut self, options: ReadOptions) {
        if options.stale {
            self.text("consistency", "stale");
        }
        if let Some(revision) = options.revision {
            self.text("revision", &revision.to_string());
        }
    }

    pub(crate) fn target(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_string() } else { format!("{path}?{}", self.0.join("&")) }
    }
}

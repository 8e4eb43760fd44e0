//! Turns a request into the one [`Call`] that it means, or into the problem with it. PURE.
//!
//! Enters: the row of the route table, the head, the body. Everything that a handler gets has been checked here, and no
//! part of a request that could change its meaning is ignored.

use crate::httpapi::condition;
use crate::httpapi::query::{self, Query};
use crate::httpapi::routes::{Endpoint, KEY_PREFIX, Route};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use raftkv_api as api;
use raftkv_api::{Code, Problem};
use raftkv_core::driver::MembershipCall;
use raftkv_core::host_port::HostPort;
use raftkv_core::kvstore::{Condition, RangeQuery};
use raftkv_core::limits;
use raftkv_core::membership::Member;
use raftkv_core::types::{Index, MemberId, Revision};
use serde::de::DeserializeOwned;

/// How a read may be served.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Reflects every write acknowledged before it.
    #[default]
    Linearizable,
    /// Reflects what this node has.
    Stale,
}

/// The node that an admin call is meant for, as its headers say (rule O5); compared with the node as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Cluster id, or `none`.
    pub cluster: String,
    /// Node name.
    pub name: String,
    /// Data directory, or `none`.
    pub incarnation: String,
}

/// Everything that can be asked of a node over HTTP.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug)]
pub enum Call {
    /// Writes a key.
    Put { key: Bytes, value: Bytes, condition: Condition },
    /// Deletes a key.
    Delete { key: Bytes, condition: Condition },
    /// Reads a key; revision 0 is the newest. The caller has the value of revision `has`.
    Get { key: Bytes, revision: Revision, consistency: Consistency, has: Option<Revision> },
    /// Reads keys.
    Range { query: RangeQuery, consistency: Consistency },
    /// The node's state.
    Status,
    /// The membership.
    Members,
    /// Changes the membership that the caller saw at `if_match`.
    Change { target: Target, if_match: Index, change: MembershipCall },
    /// Moves leadership.
    Transfer { target: Target, to: Option<MemberId> },
    /// Founds a cluster.
    Init { target: Target, init: api::Init },
    /// Sets data aside.
    Reset { target: Target, reset: api::Reset },
    /// Whether the loops turn.
    Livez,
    /// Whether reads are linearizable here.
    Readyz { verbose: bool },
    /// Prometheus.
    Metrics,
    /// Version and where the admin port is.
    Version,
    /// The OpenAPI document.
    OpenApi,
}

/// Parses and checks a request.
pub fn parse(route: &Route, head: &Parts, body: Bytes) -> Result<Call, Problem> {
    let (uri, headers) = (&head.uri, &head.headers);
    let query = Query::parse(uri.query(), route.parameters)?;
    if !takes_condition(route.endpoint) {
        condition::none(headers)?;
    }
    Ok(match route.endpoint {
        Endpoint::Get => {
            let (consistency, revision) = read_options(&query)?;
            Call::Get { key: key(uri, &query)?, revision, consistency, has: condition::of_read(headers)? }
        }
        Endpoint::Put => Call::Put { key: key(uri, &query)?, value: body, condition: condition::of_write(headers)? },
        Endpoint::Delete => Call::Delete { key: key(uri, &query)?, condition: condition::of_write(headers)? },
        Endpoint::Range => {
            let (consistency, revision) = read_options(&query)?;
            Call::Range { query: range(&query, revision)?, consistency }
        }
        Endpoint::AddMember => change(headers, || add_member(&body))?,
        Endpoint::Promote => change(headers, || {
            let promote: api::Promote = json_or_default(&body)?;
            Ok(MembershipCall::Promote { id: member_id(uri)?, replaces: promote.replaces.map(|id| id.0) })
        })?,
        Endpoint::RemoveMember => change(headers, || Ok(MembershipCall::Remove { id: member_id(uri)? }))?,
        Endpoint::Transfer => {
            let (target, transfer) = (target(headers)?, json_or_default::<api::Transfer>(&body)?);
            Call::Transfer { target, to: transfer.to.map(|id| id.0) }
        }
        Endpoint::Init => Call::Init { target: target(headers)?, init: init(&body)? },
        Endpoint::Reset => {
            let (target, reset) = (target(headers)?, json::<api::Reset>(&body)?);
            Call::Reset { target, reset }
        }
        Endpoint::Status => Call::Status,
        Endpoint::Members => Call::Members,
        Endpoint::Livez => Call::Livez,
        Endpoint::Readyz => Call::Readyz { verbose: query.flag("verbose")? },
        Endpoint::Metrics => Call::Metrics,
        Endpoint::Version => Call::Version,
        Endpoint::OpenApi => Call::OpenApi,
    })
}

/// Whether `If-Match` or `If-None-Match` has a meaning for this endpoint.
pub fn takes_condition(endpoint: Endpoint) -> bool {
    use Endpoint::{AddMember, Delete, Get, Promote, Put, RemoveMember};
    matches!(endpoint, Get | Put | Delete | AddMember | Promote | RemoveMember)
}

/// The key: percent-decoded from the raw path, or `key_b64`. Dots, slashes and bytes that are not UTF-8 belong to the
/// key.
fn key(uri: &Uri, query: &Query) -> Result<Bytes, Problem> {
    let raw = uri.path().strip_prefix(KEY_PREFIX).expect("the router sends only such paths here");
    let in_path = query::percent_decode(raw)
        .ok_or_else(|| Problem::new(Code::BadRequest, "the key: a '%' must be followed by two hex digits"))?;
    let key = match query.base64("key_b64")? {
        Some(_) if !raw.is_empty() => return Err(query::bad("key_b64", "cannot be combined with a key in the path")),
        Some(key) => key,
        None => Bytes::from(in_path),
    };
    match key.len() {
        0 => Err(Problem::new(Code::EmptyKey, "put the key behind /v1/kv/ or into key_b64")),
        1..=limits::KEY_BYTES_MAX => Ok(key),
        bytes => {
            let detail = format!("the key has {bytes} bytes; {} are allowed", limits::KEY_BYTES_MAX);
            Err(Problem::new(Code::KeyTooLarge, detail))
        }
    }
}

fn read_options(query: &Query) -> Result<(Consistency, Revision), Problem> {
    let words = [("linearizable", Consistency::Linearizable), ("stale", Consistency::Stale)];
    let consistency = query.word("consistency", &words)?.unwrap_or_default();
    let revision = query.number("revision", 1, u64::MAX)?.unwrap_or_default();
    Ok((consistency, revision))
}

fn range(query: &Query, revision: Revision) -> Result<RangeQuery, Problem> {
    let (start, end) = match (query.bytes("prefix")?, query.bytes("start")?, query.bytes("end")?) {
        (None, start, end) => (start.unwrap_or_default(), end),
        (Some(prefix), None, None) => {
            let end = prefix_end(&prefix);
            (prefix, end)
        }
        (Some(_), _, _) => return Err(query::bad("prefix", "cannot be combined with start or end")),
    };
    if end.as_ref().is_some_and(|end| *end < start) {
        return Err(query::bad("end", "must not be below start"));
    }
    let after = query.base64("after")?;
    // The store relies on this check: a token of another range would reverse the bounds.
    if after.as_ref().is_some_and(|after| *after < start || end.as_ref().is_some_and(|end| after >= end)) {
        return Err(query::bad("after", "not a `next` token of this range"));
    }
    if query.bytes("limit")?.is_some_and(|limit| &limit[..] == b"0") {
        return Err(query::bad("limit", "0 is no limit here: leave it out for as many keys as a page may have"));
    }
    let limit = query.number("limit", 1, limits::PAGE_KEYS_MAX as u64)?;
    Ok(RangeQuery {
        start,
        end,
        after,
        limit: limit.map_or(limits::PAGE_KEYS_MAX, |limit| limit as usize),
        bytes_max: limits::PAGE_BYTES_MAX,
        keys_only: query.flag("keys_only")?,
        count_only: query.flag("count_only")?,
        revision,
    })
}

/// The first key after all that begin with `prefix`; `None` when there is no such bound.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(Bytes::from(end))
}

fn change(headers: &HeaderMap, call: impl FnOnce() -> Result<MembershipCall, Problem>) -> Result<Call, Problem> {
    let target = target(headers)?;
    let if_match = condition::of_membership(headers)?;
    Ok(Call::Change { target, if_match, change: call()? })
}

fn add_member(body: &[u8]) -> Result<MembershipCall, Problem> {
    let add: api::AddMember = json(body)?;
    check_name(&add.name)?;
    let peer = peer_address(&add.peer_url)?;
    Ok(MembershipCall::Add(Member { name: add.name, peer, incarnation: add.incarnation }))
}

fn init(body: &[u8]) -> Result<api::Init, Problem> {
    let init: api::Init = json(body)?;
    if init.min_voters == 0 {
        return Err(Problem::new(Code::BadRequest, "min_voters must be at least 1"));
    }
    Ok(init)
}

fn target(headers: &HeaderMap) -> Result<Target, Problem> {
    let text = |name: &str| {
        let missing = || Problem::new(Code::MissingHeader, format!("{name} must name the node that is meant, once"));
        let mut values = headers.get_all(name).iter();
        let (first, second) = (values.next().ok_or_else(missing)?, values.next());
        let text = first.to_str().ok().filter(|_| second.is_none());
        text.map(str::to_string).ok_or_else(missing)
    };
    Ok(Target {
        cluster: text(api::HEADER_CLUSTER)?,
        name: text(api::HEADER_NAME)?,
        incarnation: text(api::HEADER_INCARNATION)?,
    })
}

/// The segment after `/v1/members/`, in the form in which the API writes ids.
fn member_id(uri: &Uri) -> Result<MemberId, Problem> {
    let text = uri.path().split('/').nth(3).unwrap_or_default();
    let id = text.parse::<MemberId>().ok().filter(|id| *id > 0 && id.to_string() == text);
    id.ok_or_else(|| Problem::new(Code::BadRequest, format!("'{text}' is not a member id in decimal")))
}

fn json_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { json(body) }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::new(Code::BadRequest, format!("the body: {error}")))
}

/// A name is replicated and shown everywhere, so it must be printable.
fn check_name(name: &str) -> Result<(), Problem> {
    let good =
        !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        return Ok(());
    }
    let detail = format!("name: 1 to {} printable ASCII characters without spaces", limits::NAME_BYTES_MAX);
    Err(Problem::new(Code::BadRequest, detail))
}

/// A peer's address is fixed for the member's life, so a member with a bad one would have to be removed again.
fn peer_address(url: &str) -> Result<HostPort, Problem> {
    HostPort::parse(url).map_err(|wrong| Problem::new(Code::BadRequest, format!("peer_url '{url}': {wrong}")))
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;

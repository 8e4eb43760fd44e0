//! Every answer that this process has got: which port, method, path and status.
//!
//! The API's description lists the statuses of each call. Tests compare it with this record both ways: an answer that is
//! not listed, and a listed one that nothing has produced.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Which of a node's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// Clients.
    Client,
    /// The other members.
    Peer,
    /// Administration.
    Admin,
}

/// One kind of answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// On which port.
    pub port: Port,
    /// `GET`.
    pub method: String,
    /// The path with its variable parts in braces, as in `/v1/kv/{key}`.
    pub path: String,
    /// The HTTP status.
    pub status: u16,
}

static PORTS: Mutex<BTreeMap<u16, Port>> = Mutex::new(BTreeMap::new());
static ANSWERS: Mutex<BTreeSet<Answered>> = Mutex::new(BTreeSet::new());

/// Says what a port number is used for; answers of other ports are not recorded.
pub(crate) fn register(number: u16, port: Port) {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner).insert(number, port);
}

/// Records one answer.
pub(crate) fn record(number: u16, method: &str, target: &str, status: u16) {
    let port = PORTS.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
    if let Some(port) = port {
        let answered = Answered { port, method: method.to_string(), path: pattern(target), status };
        ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).insert(answered);
    }
}

/// All that was recorded so far.
pub fn all() -> BTreeSet<Answered> {
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Recorded answers whose path and method `spec` (OpenAPI) knows, but not their status. Paths that it does not know must
/// have been refused with 404, 405 or a status that any path may get.
pub fn unlisted(spec: &Value, answers: &BTreeSet<Answered>) -> Vec<Answered> {
    let anywhere = [400, 401, 403, 404, 405, 414, 431, 503];
    let known = |answered: &&Answered| match responses(spec, &answered.path, &answered.method) {
        Some(responses) => responses.contains(&answered.status),
        None => anywhere.contains(&answered.status),
    };
    answers.iter().filter(|answered| !known(answered)).cloned().collect()
}

/// Listed answers, as (method, path, status), that were never recorded.
pub fn missing(spec: &Value, answers: &BTreeSet<Answered>) -> Vec<(String, String, u16)> {
    let seen: BTreeSet<_> = answers.iter().map(|a| (a.method.clone(), a.path.clone(), a.status)).collect();
    let mut missing = Vec::new();
    for (path, item) in spec["paths"].as_object().into_iter().flatten() {
        for method in item.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase()) {
            for status in responses(spec, path, &method).into_iter().flatten() {
                let listed = (method.clone(), pattern(path), status);
                if !seen.contains(&listed) {
                    missing.push(listed);
                }
            }
        }
    }
    missing
}

fn responses(spec: &Value, path: &str, method: &str) -> Option<BTreeSet<u16>> {
    let responses = spec["paths"][path].get(method.to_lowercase())?.get("responses")?.as_object()?;
    Some(responses.keys().filter_map(|status| status.parse().ok()).collect())
}

/// The path with its variable parts in braces.
fn pattern(target: &str) -> String {
    let path = target.split('?').next().unwrap_or(target);
    if path.starts_with("/v1/kv/") {
        return "/v1/kv/{key}".into();
    }
    match path.strip_prefix("/v1/members/").map(|rest| rest.split_once('/')) {
        Some(Some((_, call))) => format!("/v1/members/{{id}}/{call}"),
        Some(None) => "/v1/members/{id}".into(),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(method: &str, target: &str, status: u16) -> Answered {
        Answered { port: Port::Client, method: method.into(), path: pattern(target), status }
    }

    #[test]
    fn variable_parts_become_patterns() {
        assert_eq!(pattern("/v1/kv/a/b?x=1"), "/v1/kv/{key}");
        assert_eq!(pattern("/v1/kv?prefix=a"), "/v1/kv");
        assert_eq!(pattern("/v1/members/7"), "/v1/members/{id}");
        assert_eq!(pattern("/v1/members/7/promote"), "/v1/members/{id}/promote");
        assert_eq!(pattern("/v1/members"), "/v1/members");
    }

    #[test]
    fn both_directions_of_the_comparison_can_fail() {
        let spec = serde_json::json!({"paths": {"/v1/kv/{key}": {"get": {"responses": {"200": {}, "404": {}}}}}});
        let seen = BTreeSet::from([answered("GET", "/v1/kv/a", 200), answered("GET", "/nowhere", 404)]);
        assert!(unlisted(&spec, &seen).is_empty());
        assert_eq!(missing(&spec, &seen), [("GET".to_string(), "/v1/kv/{key}".to_string(), 404)]);
        let odd = answered("GET", "/v1/kv/a", 500);
        assert_eq!(unlisted(&spec, &BTreeSet::from([odd.clone()])), [odd]);
    }
}

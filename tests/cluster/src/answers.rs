//! Records every answer that this process has got: on which port, to which method and path, with which status.
//!
//! The API's description lists the statuses of each call. Tests compare the description with this record in both
//! directions: an answer that is not listed, and a listed answer that nothing has produced.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A node's ports.
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
    /// The port that answered.
    pub port: Port,
    /// The method, as in `GET`.
    pub method: String,
    /// The path with its variable parts in braces, as in `/v1/kv/{key}`.
    pub path: String,
    /// The HTTP status.
    pub status: u16,
}

static PORTS: Mutex<BTreeMap<u16, Port>> = Mutex::new(BTreeMap::new());
static ANSWERS: Mutex<BTreeSet<Answered>> = Mutex::new(BTreeSet::new());

/// Registers what a port number is used for; answers of other ports are not recorded.
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

/// All answers that were recorded so far.
pub fn all() -> BTreeSet<Answered> {
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Recorded answers of the client and admin ports that `spec` (OpenAPI, with the ports as tags) does not list.
pub fn unlisted(spec: &Value, answers: &BTreeSet<Answered>) -> Vec<Answered> {
    let listed = listed(spec);
    // These are answered before the route is known.
    let anywhere = [403, 404, 405, 414, 431];
    let known = |answered: &&Answered| {
        let Answered { port, method, path, status } = *answered;
        let method = if method == "HEAD" { "GET" } else { method };
        let of_route = || listed.iter().filter(|l| l.port == *port && l.method == method && l.path == *path);
        match of_route().next() {
            Some(_) => of_route().any(|listed| listed.status == *status),
            None => *port == Port::Peer || anywhere.contains(status),
        }
    };
    answers.iter().filter(|answered| !known(answered)).cloned().collect()
}

/// Listed answers that were never recorded.
pub fn missing(spec: &Value, answers: &BTreeSet<Answered>) -> Vec<Answered> {
    listed(spec).into_iter().filter(|listed| !answers.contains(listed)).collect()
}

/// Every answer that the description lists, by port.
pub fn listed(spec: &Value) -> Vec<Answered> {
    let mut listed = Vec::new();
    for (path, item) in spec["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            for tag in operation["tags"].as_array().into_iter().flatten() {
                let port = if tag == "admin" { Port::Admin } else { Port::Client };
                for status in operation["responses"].as_object().into_iter().flat_map(|responses| responses.keys()) {
                    if let Ok(status) = status.parse() {
                        listed.push(Answered { port, method: method.to_uppercase(), path: pattern(path), status });
                    }
                }
            }
        }
    }
    listed
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
        let get = serde_json::json!({"tags": ["client"], "responses": {"200": {}, "404": {}}});
        let spec = serde_json::json!({"paths": {"/v1/kv/{key}": {"get": get}}});
        let seen = BTreeSet::from([answered("GET", "/v1/kv/a", 200), answered("GET", "/nowhere", 404)]);
        assert!(unlisted(&spec, &seen).is_empty());
        assert_eq!(missing(&spec, &seen), [answered("GET", "/v1/kv/a", 404)]);
        let odd = [answered("GET", "/nowhere", 200), answered("GET", "/v1/kv/a", 500)];
        assert_eq!(unlisted(&spec, &BTreeSet::from(odd.clone())), odd);
        let elsewhere = Answered { port: Port::Admin, ..answered("GET", "/v1/kv/a", 200) };
        assert_eq!(unlisted(&spec, &BTreeSet::from([elsewhere.clone()])), [elsewhere]);
    }
}

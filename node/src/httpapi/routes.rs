//! The one table of routes: path, method, ports, access, parameters and error codes of each.
//!
//! The routers, the OpenAPI document and the tests are made from it, so a route without a row, or a row without a token
//! check, cannot exist.

use axum::http::Method;
use raftkv_api::Code;
use std::collections::BTreeMap;

/// A port that speaks API v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// 2379.
    Client,
    /// 2381.
    Admin,
}

impl Port {
    /// The port's name in metrics and in the OpenAPI document.
    pub fn as_str(self) -> &'static str {
        match self {
            Port::Client => "client",
            Port::Admin => "admin",
        }
    }

    /// What it is called in answers.
    pub fn role(self) -> &'static str {
        match self {
            Port::Client => "the client port of a raftkv node",
            Port::Admin => "the admin port of a raftkv node",
        }
    }
}

/// What the peer port is called in answers.
pub const PEER_ROLE: &str = "the peer port of a raftkv node";

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Reads a key.
    Get,
    /// Writes a key.
    Put,
    /// Deletes a key.
    Delete,
    /// Reads keys.
    Range,
    /// The node's state.
    Status,
    /// The membership.
    Members,
    /// Adds a learner.
    AddMember,
    /// Promotes a learner.
    Promote,
    /// Removes a member.
    RemoveMember,
    /// Moves leadership.
    Transfer,
    /// Founds a cluster.
    Init,
    /// Sets data aside.
    Reset,
    /// Whether the loops turn.
    Livez,
    /// Whether reads are linearizable here.
    Readyz,
    /// Prometheus.
    Metrics,
    /// Version and where the admin port is.
    Version,
    /// The OpenAPI document.
    OpenApi,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone who reaches the port.
    Open,
    /// Callers with the cluster's token.
    Token,
}

/// A row of the table.
#[derive(Debug)]
pub struct Route {
    /// The ports that have it.
    pub ports: &'static [Port],
    /// A GET row serves HEAD too.
    pub method: Method,
    /// `{key}` stands for the rest of the path, whatever it holds; `{id}` for one segment.
    pub path: &'static str,
    /// What it does.
    pub endpoint: Endpoint,
    /// Who may call.
    pub access: Access,
    /// Query parameters that it knows.
    pub parameters: &'static [&'static str],
    /// Every code that it may answer with, in groups.
    codes: &'static [&'static [Code]],
}

impl Route {
    /// The statuses that it answers with, each with the codes that carry it; 200 and 304 have none.
    pub fn statuses(&self) -> BTreeMap<u16, Vec<Code>> {
        let mut statuses = BTreeMap::from([(200, Vec::new())]);
        if self.endpoint == Endpoint::Get {
            statuses.insert(304, Vec::new());
        }
        for code in self.codes.iter().copied().flatten() {
            let codes = statuses.entry(code.status()).or_default();
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        statuses
    }
}

/// One route on one port, for programs that walk the API. The method, or method and path, are `*` in the rows for
/// methods that a path does not know and for paths that do not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDoc {
    /// The port.
    pub port: Port,
    /// The method.
    pub method: String,
    /// The path with its placeholders.
    pub path: String,
    /// Statuses with the codes that carry them.
    pub statuses: Vec<(u16, Vec<Code>)>,
}

/// Every route on every port.
pub fn routes() -> Vec<RouteDoc> {
    let mut docs = Vec::new();
    for port in [Port::Client, Port::Admin] {
        let doc =
            |method: &str, path: &str, statuses| RouteDoc { port, method: method.into(), path: path.into(), statuses };
        let of_port = || table().iter().filter(move |route| route.ports.contains(&port));
        docs.extend(
            of_port().map(|route| doc(route.method.as_str(), route.path, route.statuses().into_iter().collect())),
        );
        let mut paths: Vec<&str> = of_port().map(|route| route.path).collect();
        paths.sort_unstable();
        paths.dedup();
        docs.extend(paths.iter().map(|path| doc("*", path, vec![(405, vec![Code::MethodNotAllowed])])));
        docs.push(doc("*", "*", vec![(404, vec![Code::NotFound])]));
    }
    docs
}

/// What comes before a key in a path; the rest is the key.
pub const KEY_PREFIX: &str = "/v1/kv/";

/// Codes of every route.
const ANY: &[Code] = &[
    Code::BadRequest,
    Code::UnknownParameter,
    Code::BadCondition,
    Code::ForbiddenHost,
    Code::UriTooLong,
    Code::ExpectationFailed,
    Code::HeadersTooLarge,
];
const BODY: &[Code] = &[Code::RequestTimeout, Code::BodyTooLarge];
const KEY: &[Code] = &[Code::BadParameter, Code::EmptyKey, Code::KeyTooLarge];
/// Codes of every call that the cluster answers.
const CLUSTER: &[Code] = &[
    Code::NotAMember,
    Code::Opening,
    Code::Forming,
    Code::NotAVoter,
    Code::Removed,
    Code::Quarantined,
    Code::NoLeader,
    Code::ShuttingDown,
];
const KV: &[Code] = &[Code::Overloaded];
const READ: &[Code] = &[Code::BadParameter, Code::FutureRevision, Code::Compacted];
const WRITE: &[Code] = &[Code::ConditionFailed, Code::Dropped, Code::Timeout, Code::NoSpace];
const ADMIN: &[Code] = &[Code::Unauthorized];
const TARGET: &[Code] = &[Code::MissingHeader, Code::WrongNode];
const LEADER: &[Code] = &[
    Code::NotLeader,
    Code::NotAMember,
    Code::Opening,
    Code::NoLeader,
    Code::Removed,
    Code::Quarantined,
    Code::Dropped,
];
const CHANGE: &[Code] = &[
    Code::ChangePending,
    Code::ChangeRefused,
    Code::MembersMoved,
    Code::WouldLoseQuorum,
    Code::PreconditionRequired,
    Code::ShuttingDown,
    Code::Timeout,
    Code::NoSpace,
];
const NODE: &[Code] = &[Code::WrongState, Code::Opening, Code::ShuttingDown];
const ID: &[Code] = &[Code::MemberNotFound];

const CLIENT: &[Port] = &[Port::Client];
const ADMIN_PORT: &[Port] = &[Port::Admin];
const BOTH: &[Port] = &[Port::Client, Port::Admin];

/// The table.
pub fn table() -> &'static [Route] {
    &TABLE
}

/// The row of calls on one key with this method.
pub fn of_key(method: &Method) -> Option<&'static Route> {
    let is_key = |route: &&Route| matches!(route.endpoint, Endpoint::Get | Endpoint::Put | Endpoint::Delete);
    TABLE.iter().filter(is_key).find(|route| route.method == *method)
}

/// The port that has this path.
pub fn port_of(path: &str) -> Option<Port> {
    let same = |of: &str| match of.strip_suffix("{key}") {
        Some(prefix) => path.starts_with(prefix),
        None => {
            let (mut theirs, mut ours) = (path.split('/'), of.split('/'));
            ours.all(|part| theirs.next().is_some_and(|other| part == other || part == "{id}"))
                && theirs.next().is_none()
        }
    };
    TABLE.iter().find(|route| same(route.path)).and_then(|route| route.ports.first().copied())
}

static TABLE: [Route; 17] = [
    Route {
        ports: CLIENT,
        method: Method::GET,
        path: "/v1/kv/{key}",
        endpoint: Endpoint::Get,
        access: Access::Open,
        parameters: &["consistency", "key_b64", "revision"],
        codes: &[ANY, KEY, READ, KV, &[Code::KeyNotFound], CLUSTER],
    },
    Route {
        ports: CLIENT,
        method: Method::PUT,
        path: "/v1/kv/{key}",
        endpoint: Endpoint::Put,
        access: Access::Open,
        parameters: &["key_b64"],
        codes: &[ANY, KEY, BODY, KV, WRITE, CLUSTER],
    },
    Route {
        ports: CLIENT,
        method: Method::DELETE,
        path: "/v1/kv/{key}",
        endpoint: Endpoint::Delete,
        access: Access::Open,
        parameters: &["key_b64"],
        codes: &[ANY, KEY, KV, WRITE, CLUSTER],
    },
    Route {
        ports: CLIENT,
        method: Method::GET,
        path: "/v1/kv",
        endpoint: Endpoint::Range,
        access: Access::Open,
        parameters: &[
            "after",
            "consistency",
            "count_only",
            "end",
            "end_b64",
            "keys_only",
            "limit",
            "prefix",
            "prefix_b64",
            "revision",
            "start",
            "start_b64",
        ],
        codes: &[ANY, READ, KV, CLUSTER],
    },
    admin(Method::GET, "/v1/status", Endpoint::Status, &[ANY, ADMIN]),
    admin(Method::GET, "/v1/members", Endpoint::Members, &[ANY, ADMIN, CLUSTER]),
    admin(Method::POST, "/v1/members", Endpoint::AddMember, &[ANY, ADMIN, BODY, TARGET, LEADER, CHANGE]),
    admin(Method::POST, "/v1/members/{id}/promote", Endpoint::Promote, &[ANY, ADMIN, BODY, ID, TARGET, LEADER, CHANGE]),
    admin(
        Method::DELETE,
        "/v1/members/{id}",
        Endpoint::RemoveMember,
        &[ANY, ADMIN, ID, TARGET, LEADER, CHANGE, &[Code::LeaderRemoval]],
    ),
    admin(
        Method::POST,
        "/v1/leader/transfer",
        Endpoint::Transfer,
        &[
            ANY,
            ADMIN,
            BODY,
            TARGET,
            LEADER,
            &[Code::MemberNotFound, Code::TransferFailed, Code::ChangePending, Code::ShuttingDown],
        ],
    ),
    admin(
        Method::POST,
        "/v1/init",
        Endpoint::Init,
        &[ANY, ADMIN, BODY, TARGET, NODE, &[Code::AlreadyInitialized, Code::Removed, Code::Quarantined]],
    ),
    admin(Method::POST, "/v1/reset", Endpoint::Reset, &[ANY, ADMIN, BODY, TARGET, NODE]),
    open(BOTH, "/livez", Endpoint::Livez, &[], &[ANY]),
    open(
        BOTH,
        "/readyz",
        Endpoint::Readyz,
        &["verbose"],
        &[
            ANY,
            &[
                Code::BadParameter,
                Code::NotAMember,
                Code::Opening,
                Code::Forming,
                Code::NotAVoter,
                Code::Removed,
                Code::Quarantined,
                Code::NoLeader,
            ],
        ],
    ),
    open(ADMIN_PORT, "/metrics", Endpoint::Metrics, &[], &[ANY]),
    open(BOTH, "/version", Endpoint::Version, &[], &[ANY]),
    open(BOTH, "/openapi.json", Endpoint::OpenApi, &[], &[ANY]),
];

const fn admin(method: Method, path: &'static str, endpoint: Endpoint, codes: &'static [&'static [Code]]) -> Route {
    Route { ports: ADMIN_PORT, method, path, endpoint, access: Access::Token, parameters: &[], codes }
}

const fn open(
    ports: &'static [Port],
    path: &'static str,
    endpoint: Endpoint,
    parameters: &'static [&'static str],
    codes: &'static [&'static [Code]],
) -> Route {
    Route { ports, method: Method::GET, path, endpoint, access: Access::Open, parameters, codes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_port_needs_the_token_except_for_health_and_description() {
        let open: Vec<&str> = table()
            .iter()
            .filter(|r| r.ports.contains(&Port::Admin) && r.access == Access::Open)
            .map(|r| r.path)
            .collect();
        assert_eq!(open, ["/livez", "/readyz", "/metrics", "/version", "/openapi.json"]);
    }

    #[test]
    fn each_route_stands_once() {
        let mut docs: Vec<_> = routes().into_iter().map(|doc| (doc.port, doc.path, doc.method)).collect();
        let all = docs.len();
        docs.sort();
        docs.dedup();
        assert_eq!(docs.len(), all);
    }

    #[test]
    fn parameters_stand_in_alphabetical_order() {
        assert!(table().iter().all(|route| route.parameters.is_sorted()));
    }
}

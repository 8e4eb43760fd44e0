//! The OpenAPI document, made from the route table; `docs/openapi.json` is its committed copy, and a test compares the
//! two.
//!
//! Regenerate with `UPDATE_GOLDENFILES=1 cargo test -p raftkv-node openapi`.

use crate::httpapi::call::takes_condition;
use crate::httpapi::routes::{Access, Endpoint, Port, Route, table};
use crate::httpapi::schemas::{self, reference};
use axum::body::Body;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use bytes::Bytes;
use raftkv_api as api;
use raftkv_api::Code;
use raftkv_core::limits;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The document, as it is served and committed.
pub fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| serde_json::to_string_pretty(&build()).expect("JSON from JSON") + "\n");
    &DOCUMENT
}

/// The document as an answer.
pub fn response() -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(document().as_bytes())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn build() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in table() {
        let path = paths.entry(route.path).or_default();
        path.insert(route.method.as_str().to_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "raftkv",
            "version": "1",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Tags name the port that has an operation: client (2379 by default) or admin (2381). \
                Every GET also takes HEAD. Any other method of a path is answered 405 with Allow, any other path 404. \
                Each error is a Problem; its codes stand with each status.",
        },
        "servers": [
            {"url": "http://localhost:2379", "description": "client"},
            {"url": "http://localhost:2381", "description": "admin"},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let text = describe(route.endpoint);
    let mut operation = json!({
        "operationId": text.id,
        "summary": text.summary,
        "tags": route.ports.iter().map(|port| port.as_str()).collect::<Vec<_>>(),
        "servers": route.ports.iter().map(|port| server(*port)).collect::<Vec<_>>(),
        "parameters": parameters(route),
        "responses": responses(route, &text),
        "security": match route.access {
            Access::Open => json!([]),
            Access::Token => json!([{"token": []}]),
        },
    });
    if let Some(body) = text.body {
        operation["requestBody"] = json!({"required": body.required, "content": body.content.to_value()});
    }
    operation
}

fn server(port: Port) -> Value {
    match port {
        Port::Client => json!({"url": "http://localhost:2379", "description": "client"}),
        Port::Admin => json!({"url": "http://localhost:2381", "description": "admin"}),
    }
}

fn responses(route: &Route, text: &Text) -> Map<String, Value> {
    let response = |status: u16, codes: &[Code]| {
        match status {
            200 => return json!({"description": text.answer, "content": text.content.to_value()}),
            304 => return json!({"description": "The caller has this version: If-None-Match was its ETag. No body."}),
            _ => {}
        }
        let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        json!({
            "description": codes.join(", "),
            "content": {"application/problem+json": {"schema": reference("Problem")}},
        })
    };
    route.statuses().iter().map(|(status, codes)| (status.to_string(), response(*status, codes))).collect()
}

fn parameters(route: &Route) -> Vec<Value> {
    let parameter = |place: &str, name: &str, required: bool, text: &str| json!({"in": place, "name": name, "required": required, "description": text, "schema": parameter_schema(name, route.endpoint)});
    let in_path = [("{key}", "key", KEY_TEXT), ("{id}", "id", "The member's id in decimal.")];
    let in_path = in_path.iter().filter(|(place, _, _)| route.path.contains(place));
    let mut all: Vec<Value> = in_path.map(|(_, name, text)| parameter("path", name, true, text)).collect();
    all.extend(route.parameters.iter().map(|name| parameter("query", name, false, query_text(name))));
    let headers = headers(route);
    all.extend(headers.iter().map(|(name, required, text)| parameter("header", name, *required, text)));
    all
}

/// What a parameter's value may be, as far as a schema can say it.
fn parameter_schema(name: &str, of: Endpoint) -> Value {
    match name {
        "consistency" => json!({"type": "string", "enum": ["linearizable", "stale"]}),
        "limit" => json!({"type": "integer", "minimum": 1, "maximum": limits::PAGE_KEYS_MAX}),
        "revision" => json!({"type": "integer", "format": "uint64", "minimum": 1}),
        "count_only" | "keys_only" | "verbose" => json!({"type": "boolean"}),
        "if-none-match" if of != Endpoint::Get => json!({"type": "string", "enum": ["*"]}),
        _ => json!({"type": "string"}),
    }
}

/// Request headers that mean something to the call: name, whether it is required, text.
fn headers(route: &Route) -> Vec<(&'static str, bool, &'static str)> {
    let named = [CLUSTER, NAME, INCARNATION];
    let mutates = route.method != Method::GET;
    if route.endpoint == Endpoint::Get {
        return vec![("if-none-match", false, "\"<mod_revision>\", an ETag: 304 if the key still has this version.")];
    }
    match (route.ports.contains(&Port::Client), takes_condition(route.endpoint)) {
        (true, true) => vec![
            ("if-match", false, "\"<mod_revision>\": only this version of the key; *: only if the key exists."),
            ("if-none-match", false, "*: only if the key does not exist. Not together with If-Match."),
        ],
        (false, true) => [&named[..], &[("if-match", true, "The ETag of GET /v1/members.")]].concat(),
        (false, false) if mutates => named.to_vec(),
        (true | false, false) => Vec::new(),
    }
}

const CLUSTER: (&str, bool, &str) =
    (api::HEADER_CLUSTER, true, "The cluster id of the node that the call is sent to; none if it has no cluster.");
const NAME: (&str, bool, &str) = (api::HEADER_NAME, true, "The name of the node that the call is sent to.");
const INCARNATION: (&str, bool, &str) =
    (api::HEADER_INCARNATION, true, "The incarnation of the node that the call is sent to.");
const KEY_TEXT: &str = "The percent-decoded rest of the path, whatever bytes it holds, slashes and dots included: \
    nothing is normalised. Empty with key_b64.";

fn query_text(name: &str) -> &'static str {
    match name {
        "after" => "The `next` of the page before; pass that page's revision too.",
        "consistency" => {
            "linearizable (the default) or stale. A stale answer carries x-raftkv-applied and \
            x-raftkv-leader-contact-ms, which is `never` when no leader was ever heard of."
        }
        "count_only" => "true: no keys, only their count.",
        "end" => "Where the range ends, exclusive; no end by default.",
        "end_b64" => "`end` in base64 of either alphabet.",
        "key_b64" => "The key in base64 of either alphabet, instead of one in the path.",
        "keys_only" => "true: no values.",
        "limit" => "Most keys in the page: 1 to 10000, which is the default; 0 is refused. A page also ends at 8 MiB.",
        "prefix" => "The keys that begin with it; instead of start and end.",
        "prefix_b64" => "`prefix` in base64 of either alphabet.",
        "revision" => "Read the state at this revision; the newest by default.",
        "start" => "Where the range begins, inclusive; at the first key by default.",
        "start_b64" => "`start` in base64 of either alphabet.",
        "verbose" => "true: list every check.",
        other => panic!("parameter {other} has no description; the test that builds the document would fail"),
    }
}

/// What a body is.
#[derive(Clone, Copy)]
enum Content {
    Json(&'static str),
    Bytes,
    Text,
    Document,
}

impl Content {
    fn to_value(self) -> Value {
        match self {
            Content::Json(name) => json!({"application/json": {"schema": reference(name)}}),
            Content::Bytes => json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}),
            Content::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
            Content::Document => json!({"application/json": {"schema": {"type": "object"}}}),
        }
    }
}

struct RequestBody {
    required: bool,
    content: Content,
}

/// What the table does not say about an endpoint.
struct Text {
    id: &'static str,
    summary: String,
    answer: &'static str,
    content: Content,
    body: Option<RequestBody>,
}

fn describe(endpoint: Endpoint) -> Text {
    use Content::{Bytes, Document, Json, Text as Plain};
    let (id, summary, answer, content) = match endpoint {
        Endpoint::Get => ("get", "Reads a key", "The value; ETag is \"<mod_revision>\".", Bytes),
        Endpoint::Put => ("put", "Writes a key", "Written, durable on a quorum, and applied here.", Json("Put")),
        Endpoint::Delete => ("delete", "Deletes a key", "Deleted, or there was no such key.", Json("Deleted")),
        Endpoint::Range => ("range", "Reads keys in order", "A page; `next` when there is another.", Json("Range")),
        Endpoint::Status => ("status", "The node's state", "In every state of the node.", Json("Status")),
        Endpoint::Members => ("members", "The membership, linearizable", "ETag is \"<conf_index>\".", Json("Members")),
        Endpoint::AddMember => ("addMember", "Adds a Blank node as a learner", "Added, or was.", Json("MemberAdded")),
        Endpoint::Promote => ("promote", "Makes a learner a voter", "Applied here.", Json("MemberAdded")),
        Endpoint::RemoveMember => ("removeMember", "Removes a member", "Applied here.", Json("MemberAdded")),
        Endpoint::Transfer => ("transfer", "Moves leadership", "Another voter leads.", Json("Transferred")),
        Endpoint::Init => ("init", "Founds a cluster on this Blank node", "Founded, or was.", Json("InitDone")),
        Endpoint::Reset => ("reset", "Sets a Removed or Quarantined node's data aside", "Done.", Json("Reset")),
        Endpoint::Livez => ("livez", "Whether the node's loops turn", "They do.", Plain),
        Endpoint::Readyz => ("readyz", "Whether this is a voter that reads linearizably", "It is.", Plain),
        Endpoint::Metrics => ("metrics", "Metrics for Prometheus", "Text format 0.0.4.", Plain),
        Endpoint::Version => ("version", "Version and admin URL", "Of this node.", Json("Version")),
        Endpoint::OpenApi => ("openapi", "This document", "OpenAPI 3.1.", Document),
    };
    let json_body = |name, required| Some(RequestBody { required, content: Json(name) });
    let body = match endpoint {
        Endpoint::Put => Some(RequestBody { required: false, content: Bytes }),
        Endpoint::AddMember => json_body("AddMember", true),
        Endpoint::Promote => json_body("Promote", false),
        Endpoint::Transfer => json_body("Transfer", false),
        Endpoint::Init => json_body("Init", true),
        Endpoint::Reset => json_body("Reset", true),
        Endpoint::Get
        | Endpoint::Delete
        | Endpoint::Range
        | Endpoint::Status
        | Endpoint::Members
        | Endpoint::RemoveMember
        | Endpoint::Livez
        | Endpoint::Readyz
        | Endpoint::Metrics
        | Endpoint::Version
        | Endpoint::OpenApi => None,
    };
    Text { id, summary: with_limits(endpoint, summary), answer, content, body }
}

fn with_limits(endpoint: Endpoint, summary: &str) -> String {
    let (key, value) = (limits::KEY_BYTES_MAX, limits::BODY_BYTES_MAX);
    let no_repeat = "Without a condition it must not be repeated by a proxy.";
    if endpoint == Endpoint::Put {
        format!("{summary} of at most {key} bytes; the body is its value, of at most {value} bytes. {no_repeat}")
    } else if endpoint == Endpoint::Delete {
        format!("{summary}. {no_repeat}")
    } else {
        summary.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            fs::write(&path, document()).expect("docs/ is writable");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == document(), "docs/openapi.json is old; run with UPDATE_GOLDENFILES=1");
    }

    #[test]
    fn every_reference_has_a_schema_and_every_operation_an_id_of_its_own() {
        let document = build();
        let mut rest = document.to_string();
        while let Some(at) = rest.find("#/components/schemas/") {
            let name: String = rest[at + 21..].chars().take_while(|c| c.is_alphanumeric()).collect();
            assert!(document["components"]["schemas"].get(&name).is_some(), "{name}");
            rest = rest.split_off(at + 21);
        }
        let mut ids: Vec<&str> = table().iter().map(|route| describe(route.endpoint).id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), table().len());
    }
}

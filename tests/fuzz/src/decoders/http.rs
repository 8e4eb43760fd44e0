//! Requests: the head and body as one call, and raw bytes on a connection of the client and the admin port.

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use raftkv_core::limits;
use raftkv_node::httpapi::body::Budget;
use raftkv_node::httpapi::call::{self, Call};
use raftkv_node::httpapi::front::{Entrance, Front, Meters};
use raftkv_node::httpapi::hosts::Hosts;
use raftkv_node::httpapi::routes::{self, Port, Route};
use raftkv_node::metrics::Metrics;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};

/// Parts of HTTP requests.
pub const WORDS: &[&[u8]] = &[
    b"GET ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"POST ",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
    b"/v1/kv/",
    b"/v1/kv?",
    b"/v1/members/",
    b"%",
    b"%2f",
    b"%00",
    b"%ff",
    b"..",
    b"?",
    b"&",
    b"=",
    b"#",
    b"+",
    b"key_b64=",
    b"prefix=",
    b"start=",
    b"end=",
    b"after=",
    b"limit=",
    b"revision=",
    b"keys_only",
    b"count_only=true",
    b"consistency=stale",
    b"If-Match: \"1\"\r\n",
    b"If-Match: *\r\n",
    b"If-None-Match: *\r\n",
    b"Host: localhost\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"X-Raftkv-Name: n1\r\n",
    b"{\"min_voters\":",
    b"\"incarnation\":",
];

/// A call as a small text: the target, headers up to an empty line, the body. Every route that the path fits tries to
/// parse it.
pub fn call(bytes: &[u8]) -> bool {
    let (head, body) = split_at(bytes, b"\n\n");
    let mut lines = head.split(|byte| *byte == b'\n');
    let Some(Ok(target)) = lines.next().map(std::str::from_utf8) else { return false };
    let mut request = Request::builder().uri(target);
    for line in lines {
        let (name, value) = split_at(line, b": ");
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else { return false };
    let (head, ()) = request.into_parts();
    let body = Bytes::copy_from_slice(body);
    let mut accepted = false;
    for route in routes::table() {
        if matches(route, head.uri.path())
            && let Ok(call) = call::parse(route, &head, body.clone())
        {
            check(&call);
            accepted = true;
        }
    }
    accepted
}

/// Whether the router would send this path to this route.
fn matches(route: &Route, path: &str) -> bool {
    match (route.path.split_once("{key}"), route.path.split_once("{id}")) {
        (Some((prefix, _)), _) => path.starts_with(prefix),
        (None, Some((prefix, rest))) => path
            .strip_prefix(prefix)
            .and_then(|id| id.strip_suffix(rest))
            .is_some_and(|id| !id.is_empty() && !id.contains('/')),
        (None, None) => path == route.path,
    }
}

fn split_at<'a>(bytes: &'a [u8], by: &[u8]) -> (&'a [u8], &'a [u8]) {
    match bytes.windows(by.len()).position(|window| window == by) {
        Some(at) => (&bytes[..at], &bytes[at + by.len()..]),
        None => (bytes, &[]),
    }
}

/// Checks what handlers and the store rely on.
fn check(call: &Call) {
    match call {
        Call::Get { key, .. } | Call::Put { key, .. } | Call::Delete { key, .. } => check_key(key),
        Call::Range { query, .. } => {
            assert!((1..=limits::PAGE_KEYS_MAX).contains(&query.limit));
            assert!(query.bytes_max <= limits::PAGE_BYTES_MAX);
            assert!(query.end.as_ref().is_none_or(|end| *end >= query.start));
            if let Some(after) = &query.after {
                assert!(*after >= query.start && query.end.as_ref().is_none_or(|end| after < end));
            }
        }
        Call::Init { init, .. } => assert!(init.min_voters > 0),
        Call::Change { .. }
        | Call::Transfer { .. }
        | Call::Reset { .. }
        | Call::Status
        | Call::Members
        | Call::Livez
        | Call::Readyz { .. }
        | Call::Metrics
        | Call::Version
        | Call::OpenApi => {}
    }
}

/// Checks that a key has a size that may be stored, and that the key as a path is read again as the same key.
fn check_key(key: &Bytes) {
    assert!((1..=limits::KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
    let target = format!("/v1/kv/{}", percent_encode(key, NON_ALPHANUMERIC));
    let (head, ()) = Request::builder().uri(target).body(()).expect("it is ASCII").into_parts();
    let get = routes::table().iter().find(|route| route.path == "/v1/kv/{key}").expect("the first row");
    match call::parse(get, &head, Bytes::new()) {
        Ok(Call::Get { key: again, .. }) => assert_eq!(again, *key),
        other => panic!("{other:?}"),
    }
}

const TARGET: &str = "x-raftkv-cluster: none\nx-raftkv-name: n1\nx-raftkv-incarnation: none";

/// A call for each route.
pub fn calls() -> Vec<Vec<u8>> {
    let init = r#"{"cluster_id":"01010101010101010101010101010101","name":"n1","incarnation":"05050505050505050505050505050505","min_voters":1}"#;
    let add = r#"{"name":"n2","peer_url":"http://n2:2380","incarnation":"05050505050505050505050505050505"}"#;
    let reset = r#"{"incarnation":"05050505050505050505050505050505"}"#;
    let fenced = format!("{TARGET}\nif-match: \"7\"");
    [
        "/v1/kv/a%2Fb?consistency=stale&revision=7".to_string(),
        "/v1/kv/?key_b64=_w".to_string(),
        "/v1/kv/k\nif-match: \"7\"\n\nvalue".to_string(),
        "/v1/kv/k\nif-none-match: *\n\nvalue".to_string(),
        "/v1/kv?prefix=a&limit=10&keys_only&after=YWI".to_string(),
        "/v1/kv?start=a&end=b&count_only=true".to_string(),
        format!("/v1/members\n{fenced}\n\n{add}"),
        format!("/v1/members/2/promote\n{fenced}\n\n{{\"replaces\":\"1\"}}"),
        format!("/v1/members/2\n{fenced}"),
        format!("/v1/leader/transfer\n{TARGET}\n\n{{\"to\":\"2\"}}"),
        format!("/v1/init\n{TARGET}\n\n{init}"),
        format!("/v1/reset\n{TARGET}\n\n{reset}"),
        "/readyz?verbose".to_string(),
        "/v1/status".to_string(),
    ]
    .map(String::into_bytes)
    .into()
}

/// Both ports, with a backend that answers everything with 200, and a runtime for one connection at a time.
struct Ports {
    runtime: Runtime,
    routers: [Entrance; 2],
}

static PORTS: LazyLock<Ports> = LazyLock::new(|| Ports {
    runtime: Builder::new_current_thread().enable_time().build().expect("a runtime"),
    routers: [Port::Client, Port::Admin].map(router),
});

fn router(port: Port) -> Entrance {
    let front = Front {
        port,
        urls: BTreeMap::new(),
        hosts: Hosts::default(),
        token: None,
        metrics: Arc::new(Metrics::new()),
        budget: Budget::new(limits::HTTP_BYTES_MAX),
        meters: Meters::default(),
        backend: Box::new(|call| {
            check(&call);
            Box::pin(async { Ok(axum::response::Response::new(Body::from("done"))) })
        }),
    };
    front.into_service()
}

/// Sends raw bytes on a connection of each port. There must be no answer, or only answers that are not the server's
/// fault.
pub fn connection(bytes: &[u8]) -> bool {
    let ports = &*PORTS;
    let answers = ports.routers.each_ref().map(|router| ports.runtime.block_on(exchange(router.clone(), bytes)));
    answers.iter().map(|answer| check_answers(answer)).max().unwrap_or_default()
}

/// Serves the bytes with hyper as the server sets it up; then the client closes its side.
async fn exchange(router: Entrance, bytes: &[u8]) -> Vec<u8> {
    let (mut client, server) = duplex(1 << 20);
    client.write_all(bytes).await.expect("it fits");
    client.shutdown().await.expect("memory");
    let head_bytes_max = 2 * limits::HEADER_BYTES_MAX;
    let served = http1::Builder::new()
        // Here the end of the client's side means that nothing else comes, not that nobody reads.
        .half_close(true)
        .max_header_size(head_bytes_max)
        .max_buf_size(head_bytes_max)
        .serve_connection(TokioIo::new(server), TowerToHyperService::new(router));
    // An error means that hyper does not take the bytes for HTTP.
    let _refused = served.await;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("memory");
    answer
}

/// Checks the answers; whether one of them was 200.
fn check_answers(mut bytes: &[u8]) -> bool {
    let mut good = false;
    while !bytes.is_empty() {
        let (head, rest) = split_at(bytes, b"\r\n\r\n");
        let head = std::str::from_utf8(head).expect("heads of ours are ASCII").to_ascii_lowercase();
        let status = head.strip_prefix("http/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {head}"));
        assert!(status < 500, "status {status}");
        good |= status == 200;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        // The answer to a HEAD gives the length that the body would have; no body of ours begins like an answer.
        let body = if rest.starts_with(b"HTTP/1.") { 0 } else { length.unwrap_or_default() };
        bytes = rest.get(body..).unwrap_or_default();
    }
    good
}

/// Requests as clients write them, alone and in a row.
pub fn connections() -> Vec<Vec<u8>> {
    let get = "GET /v1/kv/a?consistency=stale HTTP/1.1\r\nHost: localhost:2379\r\n\r\n";
    let put = "PUT /v1/kv/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nIf-Match: \"3\"\r\n\r\nvalue";
    let chunked =
        "PUT /v1/kv/b HTTP/1.1\r\nHost: [::1]:2379\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    let range = "GET /v1/kv?prefix=a&limit=3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let old = "HEAD /readyz?verbose HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let livez = "GET http://localhost/livez HTTP/1.1\r\n\r\n";
    let delete = "DELETE /v1/kv/a%2fb HTTP/1.1\r\nHost: localhost\r\n\r\n";
    [get, put, chunked, range, old, livez, delete, &format!("{get}{put}{delete}")]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

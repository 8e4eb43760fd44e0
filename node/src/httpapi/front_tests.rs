//! Routing and checks, with a backend that only records what it is asked.

use super::*;
use axum::http::{Request as HttpRequest, StatusCode};
use http_body_util::BodyExt;
use std::sync::Mutex;
use tower::ServiceExt;

const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn raw_keys_reach_the_backend_through_the_router() {
    let (router, asked) = front(Port::Client, Budget::new(1 << 20));
    let cases: &[(&str, &[u8])] = &[
        ("/v1/kv/a", b"a"),
        ("/v1/kv/a/", b"a/"),
        ("/v1/kv//", b"/"),
        ("/v1/kv//a//b", b"/a//b"),
        ("/v1/kv/../a", b"../a"),
        ("/v1/kv/.", b"."),
        ("/v1/kv/%ff%fe", b"\xff\xfe"),
        ("/v1/kv/%2F%00", b"/\0"),
        ("/v1/kv/?key_b64=_w", b"\xff"),
    ];
    for (target, key) in cases {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let (status, _, _) = send(&router, method, target, &[]).await;
            assert_eq!(status, 200, "{method} {target}");
            let call = asked.lock().expect("not poisoned").pop().expect("asked");
            let (Call::Get { key: got, .. } | Call::Put { key: got, .. } | Call::Delete { key: got, .. }) = call else {
                panic!("{call:?}")
            };
            assert_eq!(got, *key, "{method} {target}");
        }
    }
    assert_eq!(code(&router, "GET", "/v1/kv/", &[]).await, (400, Some(Code::EmptyKey)));
}

#[tokio::test]
async fn every_row_is_reached_on_its_ports_and_nothing_else_is() {
    for port in [Port::Client, Port::Admin] {
        let (router, asked) = front(port, Budget::new(1 << 20));
        for route in routes::table() {
            let target = route.path.replace("{key}", "k").replace("{id}", "1");
            let here = route.ports.contains(&port);
            let (status, got, _) = send(&router, route.method.as_str(), &target, &[("authorization", TOKEN)]).await;
            let reached = !matches!(got, Some(Code::NotFound | Code::MethodNotAllowed));
            assert_eq!(reached, here, "{port:?} {} {target}: {status}", route.method);
            let (_, got, allow) = send(&router, "PATCH", &target, &[]).await;
            assert_eq!(got == Some(Code::MethodNotAllowed), here, "{port:?} PATCH {target}");
            assert_eq!(allow.is_some_and(|allow| allow.contains(route.method.as_str())), here, "{port:?} {target}");
        }
        for target in ["/", "/v1", "/v1/", "/v1/kvx", "/v1/members/", "/v1/members/1/x", "/v2/kv/a", "/livez/"] {
            assert_eq!(code(&router, "GET", target, &[]).await, (404, Some(Code::NotFound)), "{target}");
        }
        drop(asked);
    }
}

#[tokio::test]
async fn a_path_of_the_other_port_is_refused_with_where_it_is() {
    for (port, target, words) in [
        (
            Port::Client,
            "/v1/status",
            "this is the client port of a raftkv node; this path is on its admin port, http://n1:2381",
        ),
        (Port::Client, "/v1/members/7/promote", "admin port, http://n1:2381"),
        (
            Port::Admin,
            "/v1/kv/a",
            "this is the admin port of a raftkv node; this path is on its client port, http://n1:2379",
        ),
        (Port::Admin, "/v1/kv", "client port, http://n1:2379"),
        (Port::Admin, "/v1/kvx", "/openapi.json"),
        (Port::Client, "/", "/openapi.json"),
    ] {
        let (router, _asked) = front(port, Budget::new(1 << 20));
        let request = HttpRequest::builder().uri(target).header("host", "localhost").body(Body::empty());
        let response = router.oneshot(request.expect("valid")).await.expect("infallible");
        let body = response.into_body().collect().await.expect("no error").to_bytes();
        let problem: Problem = serde_json::from_slice(&body).expect("a problem");
        assert!(problem.code == Code::NotFound && problem.detail.contains(words), "{target}: {}", problem.detail);
    }
}

#[tokio::test]
async fn the_token_is_checked_on_every_row_that_is_not_open() {
    let (router, asked) = front(Port::Admin, Budget::new(1 << 20));
    for route in routes::table().iter().filter(|route| route.ports.contains(&Port::Admin)) {
        let target = route.path.replace("{id}", "1");
        let refused = [
            vec![],
            vec![("authorization", "Bearer")],
            vec![("authorization", "Bearer x")],
            vec![("authorization", TOKEN)],
            vec![("authorization", "Basic abc")],
        ];
        for headers in refused {
            let (status, _) = code(&router, route.method.as_str(), &target, &headers).await;
            let expected = if route.access == Access::Open { 200 } else { 401 };
            assert_eq!(status, expected, "{} {target} {headers:?}", route.method);
        }
        let bearer = format!("bearer  {TOKEN}");
        let (status, _) = code(&router, route.method.as_str(), &target, &[("authorization", &bearer)]).await;
        assert_ne!(status, 401, "{} {target}", route.method);
        let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
        let (status, _) = code(&router, route.method.as_str(), &target, &twice).await;
        assert_eq!(status == 401, route.access == Access::Token, "two headers: {target}");
    }
    let calls = asked.lock().expect("not poisoned").len();
    assert!(calls > 0, "the open ones were asked");
}

#[tokio::test]
async fn a_port_without_a_token_file_opens_no_guarded_row() {
    let (asked_front, _asked) = unrouted(Port::Admin, Budget::new(1 << 20));
    let router = Front { token: None, ..asked_front }.into_service();
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(code(&router, "GET", "/v1/status", &[("authorization", &bearer)]).await.0, 401);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_on_every_row() {
    for port in [Port::Client, Port::Admin] {
        let (router, asked) = front(port, Budget::new(1 << 20));
        for route in routes::table().iter().filter(|route| route.ports.contains(&port)) {
            let target = route.path.replace("{key}", "k").replace("{id}", "1");
            for headers in [[("host", "evil.example")], [("origin", "http://evil.example")]] {
                let got = code(&router, route.method.as_str(), &target, &headers).await;
                assert_eq!(got, (403, Some(Code::ForbiddenHost)), "{target}");
            }
        }
        assert!(asked.lock().expect("not poisoned").is_empty());
    }
}

#[tokio::test]
async fn what_a_request_promises_or_asks_for_and_nobody_keeps_is_refused() {
    let (router, asked) = front(Port::Client, Budget::new(1 << 20));
    for (name, value, expected) in [
        ("expect", "100-continue", (200, None)),
        ("expect", "100-Continue", (200, None)),
        ("expect", "a-miracle", (417, Some(Code::ExpectationFailed))),
        ("transfer-encoding", "chunked", (200, None)),
        ("transfer-encoding", "gzip, chunked", (400, Some(Code::BadRequest))),
        ("transfer-encoding", "gzip", (400, Some(Code::BadRequest))),
    ] {
        assert_eq!(code(&router, "PUT", "/v1/kv/a", &[(name, value)]).await, expected, "{name}: {value}");
    }
    assert_eq!(asked.lock().expect("not poisoned").len(), 3);
}

#[tokio::test]
async fn oversized_targets_and_headers_have_their_statuses() {
    let (router, _asked) = front(Port::Client, Budget::new(1 << 20));
    let key = "%41".repeat(limits::KEY_BYTES_MAX);
    assert_eq!(code(&router, "GET", &format!("/v1/kv/{key}"), &[]).await.0, 200, "the largest key fits");
    let long = format!("/v1/kv/{}", "k".repeat(limits::URI_BYTES_MAX));
    assert_eq!(code(&router, "GET", &long, &[]).await, (414, Some(Code::UriTooLong)));
    let value = "x".repeat(limits::HEADER_BYTES_MAX);
    assert_eq!(code(&router, "GET", "/livez", &[("x-long", &value)]).await, (431, Some(Code::HeadersTooLarge)));
}

#[tokio::test]
async fn bodies_are_limited_by_port() {
    for (port, method, target, limit) in [
        (Port::Client, "PUT", "/v1/kv/a", limits::BODY_BYTES_MAX),
        (Port::Admin, "POST", "/v1/init", limits::ADMIN_BODY_BYTES_MAX),
    ] {
        let (router, _asked) = front(port, Budget::new(1 << 24));
        let bearer = format!("Bearer {TOKEN}");
        for (bytes, too_large) in [(limit, false), (limit + 1, true)] {
            for announced in [true, false] {
                let mut request = HttpRequest::builder().method(method).uri(target).header("host", "localhost");
                request = request.header("authorization", &bearer);
                if announced {
                    request = request.header("content-length", bytes);
                }
                let request = request.body(Body::from(vec![b' '; bytes])).expect("valid");
                let status = router.clone().oneshot(request).await.expect("infallible").status();
                assert_eq!(
                    status == StatusCode::PAYLOAD_TOO_LARGE,
                    too_large,
                    "{target} {bytes} {announced}: {status}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_spent_budget_refuses_keys_but_not_health() {
    let budget = Budget::new(1 << 16);
    let (router, _asked) = front(Port::Client, budget.clone());
    let held = budget.take(1 << 16).map_err(|p| p.code).expect("all of it");
    for (method, target) in [("GET", "/v1/kv/a"), ("PUT", "/v1/kv/a"), ("DELETE", "/v1/kv/a"), ("GET", "/v1/kv")] {
        assert_eq!(code(&router, method, target, &[]).await, (429, Some(Code::Overloaded)), "{method} {target}");
    }
    assert_eq!(code(&router, "GET", "/livez", &[]).await.0, 200);
    drop(held);
    assert_eq!(code(&router, "GET", "/v1/kv/a", &[]).await.0, 200);
}

#[tokio::test]
async fn answers_are_not_cached_and_head_has_no_body() {
    let (router, _asked) = front(Port::Client, Budget::new(1 << 20));
    let request = |method: &str| {
        let request = HttpRequest::builder().method(method).uri("/v1/kv/a").header("host", "localhost");
        request.body(Body::empty()).expect("valid")
    };
    let get = router.clone().oneshot(request("GET")).await.expect("infallible");
    assert_eq!(get.headers()["cache-control"], "no-store");
    let head = router.clone().oneshot(request("HEAD")).await.expect("infallible");
    assert_eq!(head.headers()["content-length"], "4");
    assert!(head.into_body().collect().await.expect("no error").to_bytes().is_empty());
}

#[tokio::test]
async fn requests_are_counted_under_bounded_labels() {
    let (front, _asked) = unrouted(Port::Client, Budget::new(1 << 20));
    let metrics = front.metrics.clone();
    let router = front.into_service();
    for (method, target) in [("GET", "/v1/kv/a"), ("GET", "/v1/kv/b"), ("GET", "/secret"), ("BREW", "/livez")] {
        send(&router, method, target, &[]).await;
    }
    let text = metrics.encode();
    let count = |method: &str, route: &str, status: u16| {
        let line = format!(
            "raftkv_http_requests_total{{method=\"{method}\",port=\"client\",route=\"{route}\",status=\"{status}\"}}"
        );
        text.lines().find_map(|l| l.strip_prefix(&line)).map(str::trim).map(str::to_string)
    };
    assert_eq!(count("GET", "/v1/kv/{key}", 200).as_deref(), Some("2"), "{text}");
    assert_eq!(count("GET", "unmatched", 404).as_deref(), Some("1"));
    assert_eq!(count("other", "unmatched", 405).as_deref(), Some("1"));
    assert!(!text.contains("secret"));
}

#[tokio::test]
async fn a_refused_body_is_taken_so_that_its_sender_reads_the_answer() {
    let address = on_loopback();
    let (limit, kv) = (limits::BODY_BYTES_MAX, "PUT /v1/kv/a HTTP/1.1\r\nHost: ");
    let body = |bytes: usize| vec![b'x'; bytes];
    for (host, sent, status) in [("localhost", limit, 200), ("localhost", limit + 1, 413), ("evil.example", limit, 403)]
    {
        let head = format!("{kv}{host}\r\nContent-Length: {sent}\r\nConnection: close\r\n\r\n");
        let answer = talk(address, &[head.as_bytes(), &body(sent)].concat()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host} {sent}: {answer}");
    }
    let chunked =
        format!("{kv}localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n", limit + 1);
    let answer = talk(address, &[chunked.as_bytes(), &body(limit + 1), b"\r\n0\r\n\r\n"].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
    // A client that asks first is refused before it has sent anything.
    let asking = format!("{kv}localhost\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n", limit + 1);
    let answer = talk(address, asking.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn raw_targets_survive_the_wire() {
    let address = on_loopback();
    for target in ["/v1/kv/..", "/v1/kv//a//", "/v1/kv/%ff%00", "/v1/kv/a%2Fb", "http://localhost/v1/kv/a"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = talk(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
    }
    let answer = talk(address, b"GET /v1/kv/a HTTP/1.1\r\nHost: local\xffhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

/// The client port under its real limits.
fn on_loopback() -> std::net::SocketAddr {
    use crate::httpapi::server::{ServerLimits, serve};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    let address = listener.local_addr().expect("bound");
    let listener = tokio::net::TcpListener::from_std(listener).expect("inside a runtime");
    let (router, _asked) = front(Port::Client, Budget::new(1 << 24));
    tokio::spawn(async move {
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let connections = prometheus::IntGauge::new("connections", "open").expect("valid name");
        serve(listener, Port::Client, ServerLimits::client(), connections, router, stopping).await;
    });
    address
}

/// Sends everything, then reads until the server closes.
async fn talk(address: std::net::SocketAddr, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request).await.expect("the server takes it");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(std::time::Duration::from_secs(10), read)
        .await
        .expect("it closes")
        .expect("and not by a reset");
    String::from_utf8_lossy(&answer).into_owned()
}

type Asked = Arc<Mutex<Vec<Call>>>;

fn front(port: Port, budget: Budget) -> (Entrance, Asked) {
    let (front, asked) = unrouted(port, budget);
    (front.into_service(), asked)
}

fn unrouted(port: Port, budget: Budget) -> (Front, Asked) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("token");
    std::fs::write(&path, TOKEN).expect("temporary file");
    let token = Some(Arc::new(TokenFile::open(&path).expect("good file")));
    let asked = Asked::default();
    let log = asked.clone();
    let backend = Box::new(move |call| -> Answer {
        log.lock().expect("not poisoned").push(call);
        Box::pin(async { Ok(Response::new(Body::from("done"))) })
    });
    let hosts = Hosts::these(&["localhost"]);
    let urls = [(Port::Client, "http://n1:2379".into()), (Port::Admin, "http://n1:2381".into())].into();
    (
        Front {
            port,
            urls,
            hosts,
            token,
            metrics: Arc::new(Metrics::new()),
            budget,
            backend,
            meters: Meters::default(),
        },
        asked,
    )
}

async fn code(router: &Entrance, method: &str, target: &str, headers: &[(&str, &str)]) -> (u16, Option<Code>) {
    let (status, code, _allow) = send(router, method, target, headers).await;
    (status, code)
}

/// Status, code of the problem, and `Allow`.
async fn send(
    router: &Entrance,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> (u16, Option<Code>, Option<String>) {
    let mut request = HttpRequest::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a valid request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let header_text = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("ASCII").to_string());
    let (allow, content_type) = (header_text("allow"), header_text("content-type"));
    let body = response.into_body().collect().await.expect("no error").to_bytes();
    let code = (status != 200 && method != "HEAD").then(|| {
        assert_eq!(content_type.as_deref(), Some("application/problem+json"), "{method} {target}: {status}");
        serde_json::from_slice::<Problem>(&body).expect("a problem").code
    });
    (status, code, allow)
}

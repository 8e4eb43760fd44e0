//! Slow, half-open and too many clients, against short limits on loopback.

use super::*;
use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Longer than any limit here, shorter than a person's patience.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn half_open_and_slow_heads_are_dropped() {
    let server = Server::start(short(), answering());
    for sent in [&b""[..], b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let mut client = server.connect().await;
        client.write_all(sent).await.expect("sent");
        assert_eq!(read_to_close(&mut client).await, "", "{:?}", String::from_utf8_lossy(sent));
    }
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn a_head_that_drips_is_not_prolonged_by_its_drops() {
    let server = Server::start(short(), answering());
    let mut client = server.connect().await;
    let dripping = async {
        client.write_all(b"GET / HTTP/1.1\r\nX: ").await?;
        loop {
            client.write_all(b"x").await?;
            sleep(short().head / 20).await;
        }
    };
    let ended: Result<io::Result<()>, _> = timeout(PATIENCE, dripping).await;
    assert!(ended.expect("the server drops the connection in time").is_err());
}

#[tokio::test]
async fn an_idle_connection_lives_for_idle_and_not_only_for_head() {
    let limits = ServerLimits { idle: short().head * 20, ..short() };
    let server = Server::start(limits, answering());
    let mut client = server.connect().await;
    exchange(&mut client).await;
    sleep(limits.head * 2).await; // a pause longer than a head may take: what is tested is that time passes
    exchange(&mut client).await;
    let since = Instant::now();
    assert_eq!(read_to_close(&mut client).await, "");
    assert!(since.elapsed() >= limits.head * 2, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_second_head_must_be_as_quick_as_the_first() {
    let limits = ServerLimits { idle: PATIENCE * 10, ..short() };
    let server = Server::start(limits, answering());
    let mut client = server.connect().await;
    exchange(&mut client).await;
    client.write_all(b"GET /").await.expect("sent");
    assert_eq!(read_to_close(&mut client).await, "");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_or_is_not_read_is_dropped() {
    let never = Router::new().route("/", get(std::future::pending::<&'static str>));
    let server = Server::start(short(), never);
    let mut client = server.connect().await;
    client.write_all(GET).await.expect("sent");
    assert_eq!(read_to_close(&mut client).await, "");

    let huge = Router::new().route("/", get(async || vec![7u8; 64 << 20]));
    let server = Server::start(short(), huge);
    let mut client = server.connect().await;
    client.write_all(GET).await.expect("sent");
    server.wait_for_connections(1).await;
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_hung_up_on_before_who_takes_it_slowly() {
    let huge = Router::new().route("/", get(async || vec![7u8; 64 << 20]));
    let limits =
        ServerLimits { idle: PATIENCE * 10, request: Some(PATIENCE * 10), stall: Duration::from_secs(1), ..short() };
    let server = Server::start(limits, huge);
    let (mut idle, mut slow) = (server.connect().await, server.connect().await);
    idle.write_all(GET).await.expect("sent");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("sent");
    let begun = Instant::now();
    let mut part = vec![0; 2 << 20];
    // Reads less than the kernel holds at a time, but something within each stall.
    while begun.elapsed() < 4 * limits.stall {
        slow.read_exact(&mut part).await.expect("it goes on");
        sleep(limits.stall / 4).await; // a slow reader lets time pass
    }
    server.wait_for_connections(1).await;
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.expect("to its end");
    drop(idle);
}

#[tokio::test]
async fn a_stream_may_last_when_requests_have_no_deadline() {
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let router = Router::new().route("/", get(async move || held.notified().await));
    let server = Server::start(ServerLimits { request: None, ..short() }, router);
    let mut client = server.connect().await;
    client.write_all(GET).await.expect("sent");
    sleep(short().idle * 2).await; // time must pass to show that no deadline strikes
    release.notify_one();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_oversized_head_is_answered_431() {
    let server = Server::start(short(), answering());
    let mut client = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(short().head_bytes_max));
    // The server may close before it has read all of it.
    let _cut = client.write_all(head.as_bytes()).await;
    let answer = read_to_close(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("\"code\":\"headers_too_large\""), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_with_words_that_name_the_port() {
    let server = Server::start(ServerLimits { head: PATIENCE, ..short() }, answering());
    let hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00";
    for (sent, words) in [
        (hello, "without TLS"),
        (http2, "not HTTP/2"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "cannot be read"),
        (b"nonsense\r\n\r\n", "cannot be read"),
    ] {
        let mut client = server.connect().await;
        client.write_all(sent).await.expect("sent");
        client.write_all(&[0; 4096]).await.expect("more of it, which nobody reads");
        client.shutdown().await.expect("sent");
        let mut answer = String::new();
        // A reset would be an error here.
        timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("in time").expect("no reset");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        let problem: raftkv_api::Problem = serde_json::from_str(body).expect("a problem");
        assert!(problem.detail.contains("the admin port of a raftkv node"), "{}", problem.detail);
        assert!(problem.detail.contains(words), "{}", problem.detail);
    }
    // A request that was answered well is not taken for one.
    exchange(&mut server.connect().await).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let limits = ServerLimits { connections_max: 2, head: PATIENCE, idle: PATIENCE, ..short() };
    let server = Server::start(limits, answering());
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    exchange(&mut first).await;
    exchange(&mut second).await;
    let mut third = server.connect().await;
    third.write_all(GET).await.expect("the kernel takes it");
    assert_eq!(server.connections.get(), 2);
    drop(first);
    assert!(read_head(&mut third).await.starts_with("HTTP/1.1 200"));
    exchange(&mut second).await;
}

#[tokio::test]
async fn healthy_clients_are_served_while_others_hold_half_open_connections() {
    let server = Server::start(ServerLimits { connections_max: 300, ..short() }, answering());
    let mut half_open = Vec::new();
    for i in 0..200 {
        let mut client = server.connect().await;
        let sent: &[u8] = [&b""[..], b"GET", b"GET / HTTP/1.1\r\nHost"][i % 3];
        client.write_all(sent).await.expect("sent");
        half_open.push(client);
    }
    exchange(&mut server.connect().await).await;
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight_and_closes_what_is_idle() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, held) = (entered.clone(), release.clone());
    let slow = async move || {
        inside.notify_one();
        held.notified().await;
        "done"
    };
    let limits = ServerLimits { head: PATIENCE, idle: PATIENCE, request: None, stop: PATIENCE, ..short() };
    let server = Server::start(limits, answering().route("/slow", get(slow)));
    let mut idle = server.connect().await;
    exchange(&mut idle).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    entered.notified().await;
    server.stop.send(true).expect("the server listens");
    assert_eq!(read_to_close(&mut idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err(), "it accepts no more");
    release.notify_one();
    let answer = read_to_close(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    timeout(PATIENCE, server.task).await.expect("it ends").expect("without a panic");
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let limits = ServerLimits { request: None, ..short() };
    let server = Server::start(limits, Router::new().route("/", get(std::future::pending::<&'static str>)));
    let mut client = server.connect().await;
    client.write_all(GET).await.expect("sent");
    server.wait_for_connections(1).await;
    drop(server.stop);
    timeout(PATIENCE, server.task).await.expect("it ends").expect("without a panic");
    assert_eq!(server.connections.get(), 0);
}

struct Server {
    address: SocketAddr,
    connections: IntGauge,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(limits: ServerLimits, router: Router) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let address = listener.local_addr().expect("bound");
        let connections = IntGauge::new("connections", "open").expect("valid name");
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(serve(listener, Port::Admin, limits, connections.clone(), router, stopping));
        Server { address, connections, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    async fn wait_for_connections(&self, expected: i64) {
        let reached = async {
            while self.connections.get() != expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let open = || self.connections.get();
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{} open, not {expected}", open()));
    }
}

fn short() -> ServerLimits {
    ServerLimits {
        connections_max: 10,
        head_bytes_max: 16 * 1024,
        head: Duration::from_millis(200),
        idle: Duration::from_millis(300),
        stall: Duration::from_millis(200),
        request: Some(Duration::from_millis(300)),
        stop: Duration::from_millis(200),
    }
}

fn answering() -> Router {
    Router::new().route("/", get(async || "ok"))
}

async fn exchange(client: &mut TcpStream) {
    client.write_all(GET).await.expect("sent");
    let head = read_head(client).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 2"), "{head}");
    let mut body = [0; 2];
    timeout(PATIENCE, client.read_exact(&mut body)).await.expect("in time").expect("a body");
}

async fn read_head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(PATIENCE, client.read_u8()).await.expect("in time") {
            Ok(byte) => head.push(byte),
            Err(error) => panic!("{error} behind {}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).expect("ASCII")
}

/// A reset counts as closed.
async fn read_to_close(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _closed = timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("closed in time");
    String::from_utf8(bytes).expect("ASCII")
}

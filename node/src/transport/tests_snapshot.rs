//! Snapshot bodies over loopback: whole ones, and every way in which one is not.

use super::fakes::*;
use super::*;
use crate::snapshot;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// Bytes of which no two pieces are alike.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Member 2 has a snapshot at `index`.
fn keep(peer: &Peer, index: Index, content: &[u8]) {
    peer.disk.files.lock().unwrap().insert(snapshot::file_name(1, index), content.to_vec());
}

fn files(peer: &Peer) -> Vec<(String, Vec<u8>)> {
    peer.disk.files.lock().unwrap().clone().into_iter().collect()
}

async fn body_sent(peer: &Peer, to: MemberId, index: Index, whole: bool) {
    let wanted = Event::Body { to, index, whole };
    peer.node.wait_for("body sent", |event| *event == wanted).await;
}

/// Member 1 knows member 2, whose port is answered by hand.
async fn fetcher(limits: TransportLimits) -> (Peer, TcpListener, PeerAddress) {
    let a = Peer::with(1, TOKEN, limits).await;
    let (listener, address) = by_hand(2).await;
    // Nobody needs to answer there: the address is what the fetch needs.
    let (_, elsewhere) = by_hand(2).await;
    a.transport.set_peers(vec![elsewhere]);
    (a, listener, address)
}

async fn accept_fetch(listener: &TcpListener) -> (TcpStream, String) {
    loop {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let head = read_head(&mut tcp).await;
        if head.starts_with("GET /raft/v1/snapshot/") {
            return (tcp, head);
        }
    }
}

async fn answer(tcp: &mut TcpStream, len: usize, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(body).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_arrives_whole_and_is_kept_under_its_name() {
    let (a, b) = (Peer::new(1).await, Peer::new(2).await);
    a.dial(&[&b]);
    for (index, bytes) in [(7, 3 * 1024 * 1024 + 17), (8, 0), (9, crate::limits::SNAPSHOT_CHUNK_BYTES)] {
        let content = content(bytes);
        keep(&b, index, &content);
        a.transport.fetch_snapshot(2, &b.url, meta(index, &content));
        assert_eq!(a.node.fetched(index).await, Ok(()));
        body_sent(&b, 1, index, true).await;
    }
    assert_eq!(files(&a), files(&b));
    assert_eq!(*a.disk.dir_syncs.lock().unwrap(), 3);
}

#[tokio::test]
async fn a_joiner_knows_who_offers_from_the_stream_of_that_peer() {
    let (leader, joiner) = (Peer::new(2).await, Peer::new(1).await);
    keep(&leader, 7, b"content");
    joiner.transport.fetch_snapshot(2, &leader.url, meta(7, b"content"));
    let unknown = "member 2 is not known by address and incarnation".to_string();
    assert_eq!(joiner.node.fetched(7).await, Err(unknown));
    joiner.node.forget();
    leader.dial(&[&joiner]);
    leader.node.connected(1).await;
    leader.transport.send(1, forward(1, 10)).unwrap();
    joiner.node.frame(2, &forward(1, 10)).await;
    joiner.transport.fetch_snapshot(2, &leader.url, meta(7, b"content"));
    assert_eq!(joiner.node.fetched(7).await, Ok(()));
}

#[tokio::test]
async fn a_body_that_is_not_what_was_offered_is_thrown_away() {
    let (a, b) = (Peer::new(1).await, Peer::new(2).await);
    a.dial(&[&b]);
    keep(&b, 7, &content(1_000_000));
    let mut flipped = content(1_000_000);
    flipped[999_999] ^= 1;
    a.transport.fetch_snapshot(2, &b.url, meta(7, &flipped));
    let error = a.node.fetched(7).await.unwrap_err();
    assert!(error.starts_with("the sha256 of what arrived is "), "{error}");
    a.node.forget();
    a.transport.fetch_snapshot(2, &b.url, meta(7, &content(999_999)));
    assert_eq!(a.node.fetched(7).await, Err("1000000 bytes arrived, 999999 were offered".into()));
    assert_eq!(files(&a), []);
}

#[tokio::test]
async fn a_body_that_the_node_finds_unfit_is_thrown_away_though_its_sum_is_right() {
    let (a, b) = (Peer::new(1).await, Peer::new(2).await);
    a.dial(&[&b]);
    keep(&b, 7, b"foreign content");
    a.transport.fetch_snapshot(2, &b.url, meta(7, b"foreign content"));
    let unfit = "what arrived is not to be installed: it is of another cluster".to_string();
    assert_eq!(a.node.fetched(7).await, Err(unfit));
    assert_eq!(files(&a), []);
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let (a, listener, address) = fetcher(quick()).await;
    let content = content(2_000_000);
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, &content));
    let (mut tcp, head) = accept_fetch(&listener).await;
    assert!(head.starts_with("GET /raft/v1/snapshot/1/7 HTTP/1.1\r\n"), "{head}");
    answer(&mut tcp, content.len(), &content[..1_000_000]).await;
    drop(tcp);
    let error = a.node.fetched(7).await.unwrap_err();
    assert!(error.starts_with("the transfer broke: "), "{error}");
    assert_eq!(files(&a), []);
}

#[tokio::test]
async fn a_body_that_stops_moving_is_given_up() {
    let (a, listener, address) = fetcher(TransportLimits { stall: Duration::from_millis(50), ..quick() }).await;
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, b"content"));
    let (mut tcp, _) = accept_fetch(&listener).await;
    answer(&mut tcp, 7, b"con").await;
    assert_eq!(a.node.fetched(7).await, Err("nothing arrived for 50 ms".into()));
    assert_eq!(files(&a), []);
}

#[tokio::test]
async fn a_newer_offer_replaces_an_older_one_and_the_same_is_ignored() {
    let (a, listener, address) = fetcher(quick()).await;
    let fetch = |index| a.transport.fetch_snapshot(2, &address.peer_url, meta(index, b"content"));
    fetch(7);
    let (_never_answered, _) = accept_fetch(&listener).await;
    fetch(7);
    fetch(6);
    let replaced = Err("a newer snapshot was offered meanwhile".to_string());
    assert_eq!(a.node.fetched(6).await, replaced);
    fetch(8);
    assert_eq!(a.node.fetched(7).await, replaced);
    let (mut tcp, head) = accept_fetch(&listener).await;
    assert!(head.starts_with("GET /raft/v1/snapshot/1/8 "), "{head}");
    answer(&mut tcp, 7, b"content").await;
    assert_eq!(a.node.fetched(8).await, Ok(()));
    assert_eq!(files(&a), [(snapshot::file_name(1, 8), b"content".to_vec())]);
    let fetched = a.node.told().into_iter().filter(|event| matches!(event, Event::Fetched { .. }));
    assert_eq!(fetched.count(), 3, "one for each of 6, 7 and 8");
}

#[tokio::test]
async fn a_snapshot_that_is_gone_is_an_error_at_both_ends() {
    let (a, b) = (Peer::new(1).await, Peer::new(2).await);
    a.dial(&[&b]);
    a.transport.fetch_snapshot(2, &b.url, meta(7, b"content"));
    let error = a.node.fetched(7).await.unwrap_err();
    assert!(error.starts_with("the peer answered 404 Not Found: snapshot-"), "{error}");
    body_sent(&b, 1, 7, false).await;
    assert_eq!(files(&a), []);
}

#[tokio::test]
async fn a_requester_that_means_another_member_gets_nothing() {
    let (a, b) = (Peer::new(1).await, Peer::new(3).await);
    a.transport.set_peers(vec![PeerAddress { id: 2, ..b.address() }]);
    keep(&b, 7, b"content");
    a.transport.fetch_snapshot(2, &b.url, meta(7, b"content"));
    let error = a.node.fetched(7).await.unwrap_err();
    assert!(error.starts_with("the peer answered 409 Conflict: "), "{error}");
    assert!(!b.node.told().iter().any(|event| matches!(event, Event::Body { .. })));
}

#[tokio::test]
async fn a_requester_that_does_not_read_is_cut_off_and_reported() {
    let b = Peer::with(1, TOKEN, TransportLimits { stall: Duration::from_millis(100), ..quick() }).await;
    // More than the sockets of loopback take.
    keep(&b, 7, &content(32 * 1024 * 1024));
    let mut tcp = TcpStream::connect(b.url.strip_prefix("http://").unwrap()).await.unwrap();
    tcp.write_all(request(&snapshot_body::path(1, 7), TOKEN, "").as_bytes()).await.unwrap();
    body_sent(&b, 2, 7, false).await;
}

#[tokio::test]
async fn a_requester_that_goes_away_is_reported_at_once() {
    let b = Peer::new(1).await;
    keep(&b, 7, &content(32 * 1024 * 1024));
    let mut tcp = TcpStream::connect(b.url.strip_prefix("http://").unwrap()).await.unwrap();
    tcp.write_all(request(&snapshot_body::path(1, 7), TOKEN, "").as_bytes()).await.unwrap();
    let head = read_head(&mut tcp).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-length: 33554432\r\n"), "{head}");
    drop(tcp);
    body_sent(&b, 2, 7, false).await;
}

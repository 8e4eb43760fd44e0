//! Snapshot bodies over loopback: whole ones, and every way in which a body does not arrive whole.

use super::fakes::*;
use super::*;
use raftkv_core::snapshot;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// Bytes in which no two pieces are alike.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Gives the peer a snapshot at `index`.
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

/// Member 1, which knows member 2, whose port is answered by hand.
async fn fetcher(limits: TransportLimits) -> (Peer, TcpListener, PeerAddress) {
    let a = Peer::with(1, TOKEN, limits).await;
    let (listener, address) = by_hand(2).await;
    // Nobody needs to answer there: the fetch only needs the incarnation in this address.
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

/// Promises the part of `content` from `offset` on, but sends only what is before `end`, where the connection is to
/// break.
async fn answer_rest(tcp: &mut TcpStream, content: &[u8], offset: usize, end: usize) {
    let (len, range) = (content.len() - offset, snapshot_body::content_range(offset as u64, content.len() as u64));
    let head = format!("HTTP/1.1 206 Partial Content\r\ncontent-length: {len}\r\ncontent-range: {range}\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(&content[offset..end]).await.unwrap();
}

/// The offset from which the rest of a body is asked for.
fn offset_in(head: &str) -> usize {
    let range = head.lines().find_map(|line| line.strip_prefix("range: ")).expect("a range is asked for");
    snapshot_body::parse_range(range).expect("to the end") as usize
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
    for (index, bytes) in [(7, 3 * 1024 * 1024 + 17), (8, 0), (9, raftkv_core::limits::SNAPSHOT_CHUNK_BYTES)] {
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
async fn a_body_that_breaks_off_goes_on_from_there_as_often_as_it_takes() {
    let (a, listener, address) = fetcher(quick()).await;
    let content = content(2_000_000);
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, &content));
    let (mut tcp, head) = accept_fetch(&listener).await;
    assert!(!head.contains("range:"), "{head}");
    answer(&mut tcp, content.len(), &content[..500_000]).await;
    drop(tcp);
    let mut last = 0;
    for end in [1_000_000, 1_500_000, 2_000_000] {
        let (mut tcp, head) = accept_fetch(&listener).await;
        let offset = offset_in(&head);
        assert!(last < offset && offset <= end - 500_000, "from {offset} on, after {last}");
        answer_rest(&mut tcp, &content, offset, end).await;
        last = offset;
    }
    assert_eq!(a.node.fetched(7).await, Ok(()));
    assert_eq!(files(&a), [(snapshot::file_name(1, 7), content)]);
}

#[tokio::test]
async fn a_peer_that_knows_no_ranges_sends_all_of_it_once_more() {
    let (a, listener, address) = fetcher(quick()).await;
    let content = content(2_000_000);
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, &content));
    let (mut tcp, _) = accept_fetch(&listener).await;
    answer(&mut tcp, content.len(), &content[..1_000_000]).await;
    drop(tcp);
    let (mut tcp, head) = accept_fetch(&listener).await;
    assert!(offset_in(&head) > 0);
    answer(&mut tcp, content.len(), &content).await;
    assert_eq!(a.node.fetched(7).await, Ok(()));
    assert_eq!(files(&a), [(snapshot::file_name(1, 7), content)]);
}

#[tokio::test]
async fn the_rest_of_another_file_is_not_taken_for_this_one() {
    let (a, listener, address) = fetcher(quick()).await;
    let (content, mut other) = (content(2_000_000), content(2_000_000));
    other[1_999_999] ^= 1;
    let longer = [&content[..], b"more"].concat();
    for (rest, words) in
        [(&other, "the sha256 of what arrived is "), (&longer, "the rest of the file is of another one: ")]
    {
        a.node.forget();
        a.transport.fetch_snapshot(2, &address.peer_url, meta(7, &content));
        let (mut tcp, _) = accept_fetch(&listener).await;
        answer(&mut tcp, content.len(), &content[..1_000_000]).await;
        drop(tcp);
        let (mut tcp, head) = accept_fetch(&listener).await;
        answer_rest(&mut tcp, rest, offset_in(&head), rest.len()).await;
        let error = a.node.fetched(7).await.unwrap_err();
        assert!(error.starts_with(words), "{error}");
        assert_eq!(files(&a), []);
    }
}

#[tokio::test]
async fn another_file_of_the_same_position_begins_when_the_first_is_gone() {
    let (a, listener, address) = fetcher(quick()).await;
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, b"content"));
    let (mut tcp, _) = accept_fetch(&listener).await;
    answer(&mut tcp, 7, b"con").await;
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, b"contort"));
    let both = |event: &Event| matches!(event, Event::Fetched { index: 7, result: Err(_), .. });
    a.node.wait_for("the first and the second ended", |_| a.node.told().iter().filter(|e| both(e)).count() == 2).await;
    a.node.forget();
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, b"contort"));
    let (mut tcp, head) = accept_fetch(&listener).await;
    assert!(!head.contains("range:"), "{head}");
    answer(&mut tcp, 7, b"contort").await;
    assert_eq!(a.node.fetched(7).await, Ok(()));
    assert_eq!(files(&a), [(snapshot::file_name(1, 7), b"contort".to_vec())]);
}

#[tokio::test]
async fn the_rest_of_a_file_is_served_and_nothing_behind_its_end() {
    let b = Peer::new(1).await;
    let content = content(700_000);
    keep(&b, 7, &content);
    let ask = async |range: &str| {
        let mut tcp = TcpStream::connect(b.url.strip_prefix("http://").unwrap()).await.unwrap();
        let head = request(&snapshot_body::path(1, 7), TOKEN, &format!("range: {range}\r\n"));
        tcp.write_all(head.as_bytes()).await.unwrap();
        let head = read_head(&mut tcp).await;
        (head, read_to_close(&mut tcp).await)
    };
    let (head, rest) = ask("bytes=600000-").await;
    assert!(
        head.starts_with("HTTP/1.1 206 ") && head.contains("content-range: bytes 600000-699999/700000\r\n"),
        "{head}"
    );
    assert!(rest == content[600_000..], "{} bytes", rest.len());
    body_sent(&b, 2, 7, true).await;
    for (range, status) in [("bytes=700000-", "404"), ("bytes=1-5", "400"), ("bytes=x-", "400")] {
        let (head, _) = ask(range).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{range}: {head}");
    }
}

#[tokio::test]
async fn bodies_leave_at_the_pace_that_is_set_for_all_of_them() {
    let limits = TransportLimits { snapshot_bytes_per_second: 8 * 1024 * 1024, ..quick() };
    let (a, b) = (Peer::new(1).await, Peer::with(2, TOKEN, limits).await);
    a.dial(&[&b]);
    let content = content(4 * 1024 * 1024);
    keep(&b, 7, &content);
    let begun = std::time::Instant::now();
    a.transport.fetch_snapshot(2, &b.url, meta(7, &content));
    assert_eq!(a.node.fetched(7).await, Ok(()));
    // The last of the sixteen chunks leaves when the others have left.
    assert!(begun.elapsed() >= Duration::from_millis(460), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_body_whose_rest_is_gone_leaves_nothing() {
    let (a, listener, address) = fetcher(quick()).await;
    let content = content(2_000_000);
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, &content));
    let (mut tcp, head) = accept_fetch(&listener).await;
    assert!(head.starts_with("GET /raft/v1/snapshot/1/7 HTTP/1.1\r\n"), "{head}");
    answer(&mut tcp, content.len(), &content[..1_000_000]).await;
    drop(tcp);
    let (mut tcp, _) = accept_fetch(&listener).await;
    tcp.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let error = a.node.fetched(7).await.unwrap_err();
    assert_eq!(error, "the peer answered 404 Not Found");
    assert_eq!(files(&a), []);
}

#[tokio::test]
async fn a_body_that_stops_moving_is_given_up() {
    let soon = Duration::from_millis(500);
    let (a, listener, address) =
        fetcher(TransportLimits { stall: soon, handshake: soon, resume: 2 * soon, ..quick() }).await;
    a.transport.fetch_snapshot(2, &address.peer_url, meta(7, b"content"));
    let (mut tcp, _) = accept_fetch(&listener).await;
    answer(&mut tcp, 7, b"con").await;
    assert_eq!(a.node.fetched(7).await, Err("nothing arrived for 500 ms".into()));
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

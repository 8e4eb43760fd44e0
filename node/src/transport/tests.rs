//! Peer streams over loopback: what arrives, what is refused, and what one peer costs another.

use super::fakes::*;
use super::*;
use raft::prelude::{Message, MessageType};
use raftkv_core::membership::Removed;
use raftkv_core::wire::encode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

fn raft(kind: MessageType, from: MemberId, to: MemberId) -> Frame {
    let mut message = Message { from, to, term: 3, ..Message::default() };
    message.set_msg_type(kind);
    Frame::Raft(Box::new(message))
}

async fn connect(peer: &Peer) -> TcpStream {
    TcpStream::connect(peer.url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Connects two peers in both directions.
async fn pair() -> (Peer, Peer) {
    let (a, b) = (Peer::new(1).await, Peer::new(2).await);
    a.dial(&[&b]);
    b.dial(&[&a]);
    a.node.connected(2).await;
    b.node.connected(1).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_in_order_and_the_round_trip_is_measured() {
    let (a, b) = pair().await;
    let frames: Vec<Frame> = (1..=200).map(|seq| forward(seq, 3000)).collect();
    for frame in &frames {
        assert_eq!(a.transport.send(2, frame.clone()), Ok(()));
    }
    let heartbeat = raft(MessageType::MsgHeartbeat, 2, 1);
    b.transport.send(1, heartbeat.clone()).unwrap();
    a.node.frame(2, &heartbeat).await;
    b.node.frame(1, &frames[199]).await;
    let arrived = b.node.told().into_iter().filter_map(|event| match event {
        Event::Frame(1, frame) => Some(frame),
        _ => None,
    });
    assert_eq!(arrived.collect::<Vec<_>>(), frames);
    a.node.wait_for("rtt", |event| *event == Event::Rtt(2)).await;
}

#[tokio::test]
async fn without_an_address_the_stream_of_the_peer_is_used() {
    let (a, b) = (Peer::new(1).await, Peer::new(2).await);
    assert_eq!(b.transport.send(1, forward(1, 10)), Err(Dropped::NotConnected));
    a.dial(&[&b]);
    a.node.connected(2).await;
    a.transport.send(2, forward(1, 10)).unwrap();
    b.node.frame(1, &forward(1, 10)).await;
    b.transport.send(1, forward(2, 10)).unwrap();
    a.node.frame(2, &forward(2, 10)).await;
    assert_eq!(b.transport.counts().not_connected, 1);
}

#[tokio::test]
async fn frames_up_to_the_limit_pass_and_larger_ones_are_not_taken() {
    let (a, b) = pair().await;
    let largest = forward(1, raftkv_core::limits::FRAME_BYTES_MAX - 32);
    a.transport.send(2, largest.clone()).unwrap();
    b.node.frame(1, &largest).await;
    assert_eq!(a.transport.send(2, forward(2, raftkv_core::limits::FRAME_BYTES_MAX - 31)), Err(Dropped::TooLarge));
}

#[tokio::test]
async fn a_wrong_token_is_refused_before_the_node_hears_of_it() {
    let a = Peer::with(1, "another token", quick()).await;
    let b = Peer::new(2).await;
    a.dial(&[&b]);
    assert_eq!(a.node.dial_failed().await, DialFailure::Unauthorized);
    assert_eq!(b.node.told(), []);
}

#[tokio::test]
async fn every_verdict_reaches_the_dialler() {
    let record = Box::new(RemovedRecord {
        cluster_id: Hex128([1; 16]),
        genesis: Hex128([2; 16]),
        generation: 0,
        member_id: 1,
        removed: Removed { name: "n1".into(), incarnation: incarnation(1), index: 9, term: 2 },
    });
    let other_member = HelloVerdict::Accept(Box::new(hello(3, 1)));
    let verdicts = [
        (HelloVerdict::Gone(record.clone()), DialFailure::Gone(record)),
        (HelloVerdict::Differs("why".into()), DialFailure::Differs("409 Conflict: why".into())),
        (HelloVerdict::RolledBack("why".into()), DialFailure::RolledBack("409 Conflict: why".into())),
        (HelloVerdict::Later("why".into()), DialFailure::Later("503 Service Unavailable: why".into())),
        (other_member, DialFailure::Differs(format!("3/{} answered, not 2/{}", incarnation(3), incarnation(2)))),
    ];
    for (verdict, failure) in verdicts {
        let (a, b) = (Peer::new(1).await, Peer::new(2).await);
        *b.node.verdict.lock().unwrap() = Some(verdict);
        a.dial(&[&b]);
        assert_eq!(a.node.dial_failed().await, failure);
    }
}

/// A copy of member 2's data directory, in a process of its own.
async fn copy_of_2() -> Peer {
    let copy = Peer::new(2).await;
    copy.node.boot.store(2, Ordering::Relaxed);
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_a_member_is_refused_while_the_first_answers() {
    let (a, b) = pair().await;
    let copy = copy_of_2().await;
    a.node.forget();
    copy.dial(&[&a]);
    let failure = copy.node.dial_failed().await;
    let DialFailure::Twin(words) = &failure else { panic!("{failure:?}") };
    let named = words.matches("http://").count();
    assert!(named == 2 && words.contains("dialling from 127.0.0.1"), "both are named: {words}");
    a.node.wait_for("twin", |event| matches!(event, Event::Twin(2, told) if words.ends_with(told))).await;
    assert!(!a.node.told().contains(&Event::Hello(2)), "what is refused here is compared with nothing");
    a.transport.send(2, forward(1, 10)).unwrap();
    b.node.frame(1, &forward(1, 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_that_is_dialled_is_dropped_while_the_first_answers() {
    let (a, b, copy) = (Peer::new(1).await, Peer::new(2).await, copy_of_2().await);
    b.dial(&[&a]);
    b.node.connected(1).await;
    a.transport.set_peers(vec![PeerAddress { peer_url: copy.url.clone(), ..b.address() }]);
    let failure = a.node.dial_failed().await;
    assert!(matches!(&failure, DialFailure::Unreachable(words) if words.contains(&copy.url)), "{failure:?}");
    assert!(!a.node.told().contains(&Event::Connected(2)));
    a.transport.send(2, forward(1, 10)).unwrap();
    b.node.frame(1, &forward(1, 10)).await;
}

#[tokio::test]
async fn a_process_that_does_not_answer_makes_room_for_the_next_one() {
    let (a, next) = (Peer::new(1).await, copy_of_2().await);
    let mut silent = open_by_hand(&a).await;
    next.dial(&[&a]);
    next.node.connected(1).await;
    read_to_close(&mut silent).await;
}

#[tokio::test]
async fn a_peer_that_never_answers_costs_the_others_nothing() {
    let limits = TransportLimits { handshake: Duration::from_secs(1), ..quick() };
    let (a, b) = (Peer::with(1, TOKEN, limits).await, Peer::new(3).await);
    let (_silent, address) = by_hand(2).await;
    a.transport.set_peers(vec![address, b.address()]);
    a.node.connected(3).await;
    assert_eq!(a.transport.send(2, forward(1, 10)), Err(Dropped::NotConnected));
    a.transport.send(3, forward(2, 10)).unwrap();
    b.node.frame(1, &forward(2, 10)).await;
    let failure = DialFailure::Unreachable("no answer to our hello within 1000 ms".into());
    assert_eq!(a.node.dial_failed().await, failure);
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_own_queue_only() {
    let (a, c) = (Peer::new(1).await, Peer::new(3).await);
    let (listener, address) = by_hand(2).await;
    a.transport.set_peers(vec![address, c.address()]);
    let _unread = accept_by_hand(&listener).await;
    a.node.connected(2).await;
    a.node.connected(3).await;
    // The sockets and the queue hold a bounded amount; the writer's task needs turns to fill the sockets.
    let filled = async {
        while a.transport.send(2, forward(1, 1 << 20)) == Ok(()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, filled).await.expect("the queue fills");
    assert_eq!(a.transport.send(2, forward(1, 1 << 20)), Err(Dropped::Full));
    a.transport.send(3, forward(2, 10)).unwrap();
    c.node.frame(1, &forward(2, 10)).await;
    assert_eq!(a.transport.counts().full, 2);
}

#[tokio::test]
async fn a_silent_stream_is_broken_and_dialled_again() {
    let a = Peer::with(1, TOKEN, TransportLimits { idle: Duration::from_millis(100), ..quick() }).await;
    let (listener, address) = by_hand(2).await;
    a.transport.set_peers(vec![address]);
    let _mute = accept_by_hand(&listener).await;
    a.node.connected(2).await;
    let failure = DialFailure::Unreachable("nothing was heard of the peer for 100 ms".into());
    assert_eq!(a.node.dial_failed().await, failure);
    a.node.forget();
    let _mute = accept_by_hand(&listener).await;
    a.node.connected(2).await;
}

#[tokio::test]
async fn an_accepted_stream_that_falls_silent_is_closed() {
    let a = Peer::with(1, TOKEN, TransportLimits { idle: Duration::from_millis(100), ..quick() }).await;
    let mut mute = open_by_hand(&a).await;
    assert_eq!(read_to_close(&mut mute).await, b"");
}

#[tokio::test]
async fn a_stream_with_a_bad_frame_is_closed_and_nothing_after_it_is_read() {
    let mut bad_crc = Vec::new();
    encode(&forward(1, 10), &mut bad_crc);
    bad_crc[20] ^= 1;
    let mut too_large = (raftkv_core::limits::FRAME_BYTES_MAX as u32 + 1).to_be_bytes().to_vec();
    too_large.extend_from_slice(&[0; 5]);
    for mut bad in [bad_crc, too_large] {
        let a = Peer::new(1).await;
        let mut stream = open_by_hand(&a).await;
        encode(&forward(2, 10), &mut bad);
        stream.write_all(&bad).await.unwrap();
        assert_eq!(read_to_close(&mut stream).await, b"");
        assert_eq!(a.node.told(), [Event::Hello(2)]);
    }
}

#[tokio::test]
async fn a_later_version_is_talked_to_and_what_is_unknown_is_left_out() {
    let a = Peer::new(1).await;
    let mut stream = connect(&a).await;
    let later = request("/raft/v1", TOKEN, UPGRADE).replace("\"format\":2", "\"format\":3,\"more\":[1]");
    stream.write_all(later.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // Kind 200, without a payload; the crc covers length and kind.
    let mut bytes = vec![0, 0, 0, 0, 0x0c, 0x26, 0x08, 0x3e, 200];
    encode(&forward(2, 10), &mut bytes);
    stream.write_all(&bytes).await.unwrap();
    a.node.frame(2, &forward(2, 10)).await;
    assert_eq!(a.node.told(), [Event::Hello(2), Event::UnknownFrame(2, 200), Event::Frame(2, forward(2, 10))]);
}

#[tokio::test]
async fn messages_of_others_and_proposals_are_dropped_and_counted() {
    let a = Peer::new(1).await;
    let mut stream = open_by_hand(&a).await;
    let good = raft(MessageType::MsgHeartbeat, 2, 1);
    let frames = [
        raft(MessageType::MsgHeartbeat, 3, 1),
        raft(MessageType::MsgHeartbeat, 2, 3),
        raft(MessageType::MsgPropose, 2, 1),
        good.clone(),
    ];
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| encode(frame, &mut bytes));
    stream.write_all(&bytes).await.unwrap();
    a.node.frame(2, &good).await;
    assert_eq!(a.node.told(), [Event::Hello(2), Event::Frame(2, good)]);
    assert_eq!(a.transport.counts(), Counts { foreign: 2, proposals: 1, ..Counts::default() });
}

#[tokio::test]
async fn the_newest_stream_of_a_peer_replaces_the_one_before() {
    let a = Peer::new(1).await;
    let mut old = open_by_hand(&a).await;
    let mut new = open_by_hand(&a).await;
    assert_eq!(read_to_close(&mut old).await, b"");
    a.transport.send(2, forward(1, 10)).unwrap();
    let mut expected = Vec::new();
    encode(&forward(1, 10), &mut expected);
    let mut got = vec![0; expected.len()];
    timeout(DEADLINE, tokio::io::AsyncReadExt::read_exact(&mut new, &mut got)).await.unwrap().unwrap();
    assert_eq!(got, expected);
}

/// The peer's machine died silently: as far as anybody can tell, the stream to it is still up.
#[tokio::test]
async fn a_peer_that_comes_back_elsewhere_ends_the_stream_to_where_it_was() {
    let a = Peer::with(1, TOKEN, TransportLimits { idle: Duration::from_secs(3600), ..quick() }).await;
    let (listener, address) = by_hand(2).await;
    a.transport.set_peers(vec![address]);
    let mut gone = accept_by_hand(&listener).await;
    a.node.connected(2).await;
    // Another stream of the same run changes nothing: frames still take the one that was dialled.
    let _same_run = open_by_hand(&a).await;
    a.transport.send(2, forward(1, 10)).unwrap();
    read_until(&mut gone, &forward(1, 10)).await;
    let mut new = open_by_hand_in_run(&a, 2).await;
    read_to_close(&mut gone).await;
    a.transport.send(2, forward(2, 10)).unwrap();
    read_until(&mut new, &forward(2, 10)).await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_reaped() {
    let a = Peer::with(1, TOKEN, TransportLimits { handshake: Duration::from_millis(50), ..quick() }).await;
    let mut half = connect(&a).await;
    half.write_all(b"GET /raft/v1 HTTP/1.1\r\nhost: ").await.unwrap();
    let mut mute = connect(&a).await;
    read_to_close(&mut half).await;
    read_to_close(&mut mute).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let a = Peer::with(1, TOKEN, TransportLimits { connections_max: 1, ..quick() }).await;
    let _first = open_by_hand(&a).await;
    let mut second = connect(&a).await;
    assert_eq!(read_to_close(&mut second).await, b"");
    assert_eq!(a.transport.counts().connections, 1);
}

#[tokio::test]
async fn other_requests_get_a_problem_that_says_what_is_wrong() {
    let a = Peer::new(1).await;
    let bare = format!("GET /raft/v1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    let cases = [
        (request("/raft/v1", "wrong", UPGRADE), "401", "unauthorized"),
        ("GET /raft/v1 HTTP/1.1\r\nhost: x\r\n\r\n".into(), "401", "unauthorized"),
        ("GET /v1/kv/k HTTP/1.1\r\nhost: x\r\n\r\n".into(), "404", "not_found"),
        (request("/", TOKEN, ""), "404", "not_found"),
        (request("/raft/v1/snapshot/1/x", TOKEN, ""), "404", "not_found"),
        (request("/raft/v1", TOKEN, "").replace("GET", "POST"), "404", "not_found"),
        (request("/raft/v1", TOKEN, ""), "400", "bad_request"),
        (request("/raft/v1", TOKEN, "connection: upgrade\r\nupgrade: h2c\r\n"), "400", "bad_request"),
        (request("/raft/v1", TOKEN, UPGRADE).replace("\"from\":2", "\"from\":0"), "400", "bad_request"),
        (request("/raft/v1", TOKEN, UPGRADE).replace("\"format\":2", "\"format\":1"), "409", "wrong_node"),
        (bare, "400", "missing_header"),
        (request("/raft/v1", TOKEN, &long), "431", ""),
    ];
    for (request, status, code) in cases {
        let mut tcp = connect(&a).await;
        tcp.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(read_to_close(&mut tcp).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(code.is_empty() || answer.contains(&format!("\"code\":\"{code}\"")), "{request}{answer}");
    }
    assert_eq!(a.node.told(), []);
}

#[tokio::test]
async fn a_peer_that_restarts_is_found_again() {
    let (a, b) = pair().await;
    let at = b.url.strip_prefix("http://").unwrap().to_string();
    drop(b);
    a.node.dial_failed().await;
    a.node.forget();
    let bound = async {
        loop {
            // The port is free once the tasks of the old listener have ended.
            match TcpListener::bind(&at).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let b = Peer::on(2, TOKEN, quick(), timeout(DEADLINE, bound).await.unwrap());
    a.node.connected(2).await;
    a.transport.send(2, forward(1, 10)).unwrap();
    b.node.frame(1, &forward(1, 10)).await;
}

#[tokio::test]
async fn a_peer_that_is_none_any_more_is_left_alone() {
    let (a, b) = pair().await;
    let c = Peer::new(3).await;
    a.dial(&[&b, &c]);
    a.node.connected(3).await;
    assert!(!a.node.told().iter().any(|event| matches!(event, Event::DialFailed(2, _))), "its address is the same");
    a.dial(&[&c]);
    // Without an address, frames to b take the stream that b dialled.
    a.transport.send(2, forward(1, 10)).unwrap();
    b.node.frame(1, &forward(1, 10)).await;
    a.transport.shutdown();
    assert_eq!(a.transport.send(3, forward(1, 10)), Err(Dropped::NotConnected));
}

#[tokio::test]
async fn an_address_that_is_none_is_a_failure_like_others() {
    let a = Peer::new(1).await;
    let nowhere = PeerAddress { id: 2, peer_url: "n2:2380".into(), incarnation: incarnation(2) };
    a.transport.set_peers(vec![nowhere]);
    let failure = DialFailure::Unreachable("'n2:2380' is not http://host:port".into());
    assert_eq!(a.node.dial_failed().await, failure);
}

//! What a peer says around its frames, and what a member does with the frames.

use super::frame;
use super::wal;
use bytes::BytesMut;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use raft::prelude::{Entry, MessageType, Snapshot};
use raftkv_api::{Code, Hex128, Problem};
use raftkv_core::driver::Event;
use raftkv_core::host_port::HostPort;
use raftkv_core::kvstore::Command;
use raftkv_core::limits::FRAME_BYTES_MAX;
use raftkv_core::membership::{Change, Membership};
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::wire::{self, Frame, HELLO_FORMAT, Hello, Incoming, LEVEL_MAX};
use raftkv_node::transport::{self, DialFailure};
use raftkv_sim::lone::{self, Lone, append, message, put, voters};
use serde_json::Value;

/// Parts of JSON.
pub const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"true",
    b"\\u0000",
    b"\\ud800",
    b"1e999",
    b"-0",
    b"[[[[[[[[",
    b"{\"a\":",
    b"\"index\":0",
    b"\"format\":2",
];

/// The header of a peer that opens a stream.
pub fn hello(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    let Ok(hello) = transport::hello_from_header(&value) else { return false };
    assert_eq!(transport::hello_from_header(&transport::hello_to_header(&hello)), Ok(hello));
    true
}

/// Hellos with a plain name and with a name that must be escaped.
pub fn hellos() -> Vec<Vec<u8>> {
    ["n2", "n\u{e9}\u{1f600}\"\\"].map(|name| transport::hello_to_header(&a_hello(name)).as_bytes().to_vec()).into()
}

fn a_hello(name: &str) -> Hello {
    let url = |port: u16| format!("http://n2:{port}");
    let ours = wal::identity();
    Hello {
        format: HELLO_FORMAT,
        cluster_id: ours.cluster_id,
        genesis: ours.genesis,
        generation: 0,
        from: 2,
        from_name: name.into(),
        from_incarnation: Hex128([2; 16]),
        to: 1,
        to_incarnation: ours.incarnation,
        boot: 77,
        term: 2,
        last_index: 5,
        peer_url: url(2380),
        client_url: url(2379),
        admin_url: url(2381),
        level_max: LEVEL_MAX,
    }
}

/// The answer to a dialler: two bytes of status, then the body. A refusal is final only if it says so explicitly.
pub fn refusal(bytes: &[u8]) -> bool {
    let Some((status, body)) = bytes.split_first_chunk() else { return false };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes(*status)) else { return false };
    match transport::dial_failure(status, body) {
        DialFailure::Gone(record) => {
            assert_eq!(status, StatusCode::GONE);
            assert!(body.windows(9).any(|word| word == b"\"removed\""), "{record:?}");
            true
        }
        DialFailure::RolledBack(_) => {
            assert_eq!(status, StatusCode::CONFLICT);
            true
        }
        DialFailure::Differs(_) | DialFailure::Twin(_) | DialFailure::Later(_) => true,
        DialFailure::Unauthorized => true,
        DialFailure::Unreachable(_) => false,
    }
}

/// Every refusal that is not simply tried again, as a peer's listener writes it.
pub fn refusals() -> Vec<Vec<u8>> {
    let record = frame::every_frame().into_iter().find_map(|frame| match frame {
        Frame::Removed(record) => Some(*record),
        _ => None,
    });
    let said = |status: StatusCode, code, name: &str, value: Value| {
        let mut json = serde_json::to_value(Problem::new(code, "why")).expect("plain data");
        json[name] = value;
        [&status.as_u16().to_be_bytes()[..], json.to_string().as_bytes()].concat()
    };
    vec![
        said(StatusCode::CONFLICT, Code::WrongNode, "detail", "another cluster".into()),
        said(StatusCode::CONFLICT, Code::WrongState, "rolled_back", true.into()),
        said(StatusCode::GONE, Code::Removed, "removed", serde_json::to_value(record).expect("plain data")),
        said(StatusCode::UNAUTHORIZED, Code::Unauthorized, "detail", "the token".into()),
    ]
}

/// The content of a MsgSnapshot: the file's description, whose membership raft and the member would take over.
pub fn offer(bytes: &[u8]) -> bool {
    let mut snapshot = Snapshot { data: bytes.to_vec().into(), ..Snapshot::default() };
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return false };
    let metadata = snapshot.mut_metadata();
    metadata.index = json["index"].as_u64().unwrap_or_default();
    metadata.term = json["term"].as_u64().unwrap_or_default();
    if let Ok(membership) = serde_json::from_value::<Membership>(json["membership"].clone()) {
        metadata.set_conf_state(membership.conf_state());
    }
    let Ok(meta) = SnapshotMeta::from_raft(&snapshot) else { return false };
    assert_eq!(SnapshotMeta::from_raft(&meta.to_raft()).as_ref(), Ok(&meta));
    assert!(!meta.file_name().contains(['/', '.']), "{}", meta.file_name());
    goes_on(&meta.membership, meta.index + 1);
    true
}

/// Checks that every change which a membership allows leads to a sound membership.
fn goes_on(membership: &Membership, index: u64) {
    let next = membership.next_member_id;
    let add = Change::AddLearner {
        id: next,
        name: "new".into(),
        peer: HostPort::parse("new:2380").expect("an address"),
        incarnation: Hex128([0xaa; 16]),
    };
    if membership.decide(&add).is_ok() {
        let mut conf_state = membership.conf_state();
        conf_state.learners.push(next);
        let after = membership.applied(Some(&add), &conf_state, index, 1);
        assert_eq!(after.check(), Ok(()));
        assert!(after.next_member_id > next);
    }
    for id in membership.voters.iter().chain(&membership.learners).copied() {
        let change = Change::Remove { id };
        if membership.decide(&change).is_ok() {
            let mut conf_state = membership.conf_state();
            conf_state.voters.retain(|voter| *voter != id);
            conf_state.learners.retain(|learner| *learner != id);
            let after = membership.applied(Some(&change), &conf_state, index, 1);
            assert_eq!(after.check(), Ok(()));
            assert!(after.is_removed(id));
        }
    }
}

/// Descriptions of snapshots.
pub fn offers() -> Vec<Vec<u8>> {
    let mut joint = voters(&[1, 2, 3]);
    joint.outgoing = [1, 2].into();
    joint.auto_leave = true;
    let mut removed = voters(&[1, 2, 3]);
    let conf_state = raft::prelude::ConfState { voters: vec![1, 2], ..Default::default() };
    removed = removed.applied(Some(&Change::Remove { id: 3 }), &conf_state, 5, 2);
    [voters(&[1]), joint, removed]
        .into_iter()
        .map(|membership| {
            let meta = SnapshotMeta {
                index: 9,
                term: 2,
                membership,
                revision: 7,
                compacted: 3,
                size: 4096,
                sha256: "ab".repeat(32),
            };
            meta.to_raft().data.to_vec()
        })
        .collect()
}

/// A member that hears a peer's frames: the first byte says in which state it is then, the frames follow.
///
/// A peer that lies about what it appended may stop a member, by the assertion that names that peer; it must not do
/// anything else.
pub fn stream(bytes: &[u8]) -> bool {
    let Some((kind, frames)) = bytes.split_first() else { return false };
    let mut member = match kind % 4 {
        0 => Lone::running(&voters(&[1, 2, 3])),
        1 => follower(),
        2 => Lone::leading(&voters(&[1, 2, 3]), 2),
        _ => candidate(),
    };
    let mut input = BytesMut::from(frames);
    let mut heard = 0;
    while let Ok(Some(incoming)) = wire::decode(&mut input, FRAME_BYTES_MAX) {
        let Incoming::Frame(frame) = incoming else { continue };
        let Some(event) = event(frame) else { continue };
        heard += 1;
        member.step(event);
        member.step(Event::Tick);
    }
    heard > 0
}

/// Makes an event of a peer's frame as the node does; a message in another peer's name ends the stream.
fn event(frame: Frame) -> Option<Event> {
    const PEER: u64 = 2;
    match frame {
        Frame::Raft(message) => ((message.from, message.to) == (PEER, 1)).then_some(Event::Message(message)),
        Frame::Forward(forward) => {
            let grows = matches!(Command::decode(&forward.data), Ok(Command::Put { .. }));
            Command::decode(&forward.data).ok()?;
            Some(Event::Forwarded { from: PEER, forward, grows })
        }
        Frame::ForwardReply(reply) => Some(Event::ForwardReply { from: PEER, reply }),
        Frame::Removed(record) => Some(Event::Removed(record)),
        Frame::Report(report) => Some(Event::Report { from: PEER, report }),
    }
}

fn follower() -> Lone {
    let mut member = Lone::running(&voters(&[1, 2, 3]));
    member.hear(append(2, 2, (1, 1), vec![Entry { index: 2, term: 2, ..Entry::default() }, put(3, 2, 10)], 2));
    member
}

fn candidate() -> Lone {
    let mut member = Lone::running(&voters(&[1, 2, 3]));
    member.campaign();
    member
}

/// A leader's appends to every kind of member, and one frame of each kind.
pub fn streams() -> Vec<Vec<u8>> {
    let change = lone::change(
        4,
        2,
        &voters(&[1, 2, 3]),
        &Change::AddLearner {
            id: 4,
            name: "n4".into(),
            peer: HostPort::parse("n4:2380").expect("an address"),
            incarnation: Hex128([4; 16]),
        },
    );
    let appends = [
        append(2, 2, (1, 1), vec![Entry { index: 2, term: 2, ..Entry::default() }, put(3, 2, 10)], 1),
        append(2, 2, (3, 2), vec![change], 4),
        append(2, 3, (2, 2), vec![put(3, 3, 5)], 3),
        message(MessageType::MsgHeartbeat, 2, 3),
    ];
    let encoded = |frames: &[Frame]| {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| wire::encode(frame, &mut out));
        out
    };
    let of_leader = encoded(&appends.map(|message| Frame::Raft(Box::new(message))));
    let mut all: Vec<_> = (0..4).map(|kind| [&[kind], &of_leader[..]].concat()).collect();
    for (frame, kind) in frame::every_frame().into_iter().zip((0..4).cycle()) {
        all.push([&[kind], &encoded(&[frame])[..]].concat());
    }
    all
}

//! Frames of a peer's stream: raft messages in protobuf, forwards, their answers, removals and reports.

use bytes::BytesMut;
use raft::prelude::{Entry, Message, MessageType};
use raftkv_api::Hex128;
use raftkv_core::limits::{FRAME_BYTES_MAX, MESSAGE_ENTRY_BYTES_MAX};
use raftkv_core::log::entry_bytes;
use raftkv_core::membership::Removed;
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::types::RequestId;
use raftkv_core::wire::{Forward, ForwardReply, Frame, Incoming, RemovedRecord, Report, decode, encode};
use raftkv_sim::lone::{append, message, put, voters};

/// Tags of protobuf: groups, and the fields of a message that contain other messages.
pub const WORDS: &[&[u8]] = &[
    b"\x0b\x0c",
    b"\xf3\x01\xf4\x01",
    b"\x3a\x00",
    b"\x4a\x04\x12\x02\x0a\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x05",
];

/// Decodes frames until the input ends or is refused.
pub fn frame(bytes: &[u8]) -> bool {
    let mut input = BytesMut::from(bytes);
    let mut frames = 0;
    loop {
        let before = input.clone();
        match decode(&mut input, FRAME_BYTES_MAX) {
            Ok(Some(incoming)) => {
                frames += 1;
                let taken = &before[..before.len() - input.len()];
                assert!(!taken.is_empty(), "a frame takes bytes");
                check(&incoming, taken);
            }
            Ok(None) => return frames > 0 && input.is_empty(),
            Err(_) => return false,
        }
    }
}

fn check(incoming: &Incoming, taken: &[u8]) {
    let Incoming::Frame(frame) = incoming else { return };
    let mut again = Vec::new();
    encode(frame, &mut again);
    assert!(again.len() <= 2 * taken.len() + 1024, "{} bytes became {}", taken.len(), again.len());
    match frame {
        Frame::Forward(_) | Frame::ForwardReply(_) => assert_eq!(again, taken, "{frame:?}"),
        // JSON and protobuf may have been written in another way.
        Frame::Raft(_) | Frame::Removed(_) | Frame::Report(_) => {}
    }
    let decoded = decode(&mut BytesMut::from(&again[..]), FRAME_BYTES_MAX);
    assert_eq!(decoded.as_ref(), Ok(&Some(incoming.clone())), "what was decoded encodes to something else");
    if let Frame::Raft(message) = frame {
        check_message(message);
    }
}

fn check_message(message: &Message) {
    if message.get_msg_type() == MessageType::MsgAppend {
        let bytes: usize = message.entries.iter().map(entry_bytes).sum();
        assert!(bytes <= MESSAGE_ENTRY_BYTES_MAX, "an append of {bytes} bytes");
    }
    if let Ok(meta) = SnapshotMeta::from_raft(message.get_snapshot()) {
        assert_eq!(SnapshotMeta::from_raft(&meta.to_raft()).as_ref(), Ok(&meta));
    }
}

/// A raft message that offers a snapshot of these voters.
pub fn snapshot_message(index: u64) -> Message {
    let meta = SnapshotMeta {
        index,
        term: 2,
        membership: voters(&[1, 2, 3]),
        revision: 7,
        compacted: 3,
        size: 4096,
        sha256: "ab".repeat(32),
    };
    let mut offer = message(MessageType::MsgSnapshot, 2, 2);
    offer.set_snapshot(meta.to_raft());
    offer
}

/// One frame of every kind, and raft messages of the kinds that carry something.
pub fn every_frame() -> Vec<Frame> {
    let request = RequestId { origin: 2, nonce: 9, seq: 4 };
    let removed = Removed { name: "n3".into(), incarnation: Hex128([3; 16]), index: 9, term: 2 };
    let record =
        RemovedRecord { cluster_id: Hex128([1; 16]), genesis: Hex128([7; 16]), generation: 0, member_id: 3, removed };
    let mut read = message(MessageType::MsgReadIndex, 2, 0);
    read.mut_entries().push(Entry { data: request.encode().to_vec().into(), ..Entry::default() });
    let with = |kind, index| Message { index, commit: 1, ..message(kind, 2, 2) };
    let mut frames: Vec<_> = [
        append(2, 2, (1, 1), vec![put(2, 2, 20), put(3, 2, 0)], 1),
        append(2, 2, (1, 1), vec![], 1),
        with(MessageType::MsgAppendResponse, 3),
        Message { reject: true, reject_hint: 1, log_term: 1, ..with(MessageType::MsgAppendResponse, 3) },
        with(MessageType::MsgHeartbeat, 0),
        with(MessageType::MsgHeartbeatResponse, 0),
        Message { log_term: 1, ..with(MessageType::MsgRequestPreVote, 1) },
        Message { log_term: 1, ..with(MessageType::MsgRequestVote, 1) },
        with(MessageType::MsgRequestVoteResponse, 0),
        with(MessageType::MsgTimeoutNow, 0),
        snapshot_message(9),
        read,
    ]
    .into_iter()
    .map(|message| Frame::Raft(Box::new(message)))
    .collect();
    frames.extend([
        Frame::Forward(Forward { term: 2, request, data: put(1, 1, 8).data }),
        Frame::ForwardReply(ForwardReply::Refused { request, why: "not here".into() }),
        Frame::ForwardReply(ForwardReply::NoSpace { request, why: "full".into() }),
        Frame::ForwardReply(ForwardReply::Appended { request, index: 5, term: 2 }),
        Frame::Removed(Box::new(record)),
        Frame::Report(Report {
            applied: 5,
            durable_conf_index: 1,
            commit: 5,
            free_bytes: 1 << 40,
            headroom_bytes: 1 << 40,
            reserve_bytes: 1 << 28,
            can_lead: true,
            stalled_ms: 12_000,
            volume_bytes: 1 << 41,
        }),
    ]);
    frames
}

/// Each frame alone, and a few of them in a row.
pub fn seeds() -> Vec<Vec<u8>> {
    let encoded = |frame: &Frame| {
        let mut out = Vec::new();
        encode(frame, &mut out);
        out
    };
    let mut seeds: Vec<_> = every_frame().iter().map(encoded).collect();
    seeds.push(seeds[..3].concat());
    seeds
}

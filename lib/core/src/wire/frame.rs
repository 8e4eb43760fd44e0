//! The frames of a peer stream as bytes. PURE.
//!
//! u32 length of the payload, u32 crc32c, u8 kind, payload; numbers are big-endian. The crc covers the length, the kind
//! and the payload, so that a flipped bit anywhere is found. Kinds: 1 raft message (protobuf), 2 forward, 3 forward
//! reply, 4 removed (JSON), 5 report (JSON). A report whose payload is one of [`Sign`] is a sign of life between the two
//! ends of a stream, and does not reach the node.
//!
//! What cannot be decoded is an error of the whole stream: after it nothing on the stream can be trusted. A frame of a
//! kind that is not known is none: a member of a newer version may send it, and it is skipped.

use super::protobuf_guard::check_raft_message;
use super::raft_shape;
use super::{Forward, ForwardReply, Frame};
use crate::types::RequestId;
use bytes::{Buf, Bytes, BytesMut};
use protobuf::Message as _;
use raft::prelude::Message;

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 9;

const RAFT: u8 = 1;
const FORWARD: u8 = 2;
const FORWARD_REPLY: u8 = 3;
const REMOVED: u8 = 4;
const REPORT: u8 = 5;

const REFUSED: u8 = 1;
const NO_SPACE: u8 = 2;
const APPENDED: u8 = 3;

/// What arrives on a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A frame for the node.
    Frame(Frame),
    /// For the other end of the stream.
    Sign(Sign),
    /// A frame of a kind that this version does not know: a newer one sent it, and does not rely on its arrival.
    Unknown {
        /// The kind.
        kind: u8,
    },
}

/// A sign of life, or the wish for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// A probe of the side that dialled, or the answer to it: no payload.
    Probe,
    /// Either side asks whether the other one is there: `?`.
    Ask,
    /// It is: `!`.
    Here,
}

impl Sign {
    const ALL: [Sign; 3] = [Sign::Probe, Sign::Ask, Sign::Here];

    fn payload(self) -> &'static [u8] {
        match self {
            Sign::Probe => b"",
            Sign::Ask => b"?",
            Sign::Here => b"!",
        }
    }
}

/// Why a stream's bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is refused before anything is read or allocated for it.
    #[error("a frame of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// The length in the head.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Length, kind or payload changed on the way.
    #[error("the crc of a frame of kind {kind} does not match")]
    Crc {
        /// The kind in the head, which may be what changed.
        kind: u8,
    },
    /// The payload is not what its kind says.
    #[error("a frame of kind {kind} cannot be decoded: {why}")]
    Payload {
        /// The kind in the head.
        kind: u8,
        /// The decoder's reason.
        why: String,
    },
}

/// Bytes of the payload that [`encode`] will write.
pub fn payload_bytes(frame: &Frame) -> usize {
    match frame {
        Frame::Raft(message) => message.compute_size() as usize,
        Frame::Forward(forward) => 8 + RequestId::BYTES + forward.data.len(),
        Frame::ForwardReply(ForwardReply::Refused { why, .. } | ForwardReply::NoSpace { why, .. }) => {
            1 + RequestId::BYTES + why.len()
        }
        Frame::ForwardReply(ForwardReply::Appended { .. }) => 1 + RequestId::BYTES + 16,
        Frame::Removed(record) => json(record).len(),
        Frame::Report(report) => json(report).len(),
    }
}

/// Appends one frame to `out`.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    let kind = encode_payload(frame, out);
    seal(kind, start, out);
}

/// Appends a sign of life to `out`.
pub fn encode_sign(sign: Sign, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.extend_from_slice(sign.payload());
    seal(REPORT, start, out);
}

/// Takes one frame from the front of `input`; `None` while it is not complete.
pub fn decode(input: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Incoming>, FrameError> {
    let Some(head) = input.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let word = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let (len, crc, kind) = (word(0) as usize, word(4), head[8]);
    if len > frame_bytes_max {
        return Err(FrameError::TooLarge { bytes: len, max: frame_bytes_max });
    }
    let Some(frame) = input.get(..HEAD_BYTES + len) else {
        return Ok(None);
    };
    if checksum(frame) != crc {
        return Err(FrameError::Crc { kind });
    }
    let incoming = decode_payload(kind, &frame[HEAD_BYTES..])?;
    input.advance(HEAD_BYTES + len);
    Ok(Some(incoming))
}

fn encode_payload(frame: &Frame, out: &mut Vec<u8>) -> u8 {
    match frame {
        Frame::Raft(message) => {
            message.write_to_vec(out).expect("a proto3 message has no required field, a vector takes every write");
            RAFT
        }
        Frame::Forward(Forward { term, request, data }) => {
            out.extend_from_slice(&term.to_be_bytes());
            out.extend_from_slice(&request.encode());
            out.extend_from_slice(data);
            FORWARD
        }
        Frame::ForwardReply(reply) => {
            encode_reply(reply, out);
            FORWARD_REPLY
        }
        Frame::Removed(record) => {
            out.extend_from_slice(&json(record));
            REMOVED
        }
        Frame::Report(report) => {
            out.extend_from_slice(&json(report));
            REPORT
        }
    }
}

fn encode_reply(reply: &ForwardReply, out: &mut Vec<u8>) {
    let (tag, request) = match reply {
        ForwardReply::Refused { request, .. } => (REFUSED, request),
        ForwardReply::NoSpace { request, .. } => (NO_SPACE, request),
        ForwardReply::Appended { request, .. } => (APPENDED, request),
    };
    out.push(tag);
    out.extend_from_slice(&request.encode());
    match reply {
        ForwardReply::Refused { why, .. } | ForwardReply::NoSpace { why, .. } => out.extend_from_slice(why.as_bytes()),
        ForwardReply::Appended { index, term, .. } => {
            out.extend_from_slice(&index.to_be_bytes());
            out.extend_from_slice(&term.to_be_bytes());
        }
    }
}

/// Fills in the head of the frame that starts at `start`.
fn seal(kind: u8, start: usize, out: &mut [u8]) {
    let frame = &mut out[start..];
    let len = u32::try_from(frame.len() - HEAD_BYTES).expect("payloads are limited to far less than 4 GiB");
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame[8] = kind;
    let crc = checksum(frame);
    frame[4..8].copy_from_slice(&crc.to_be_bytes());
}

/// The crc over everything in the frame except the crc itself.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..])
}

fn decode_payload(kind: u8, payload: &[u8]) -> Result<Incoming, FrameError> {
    let bad = |why: String| FrameError::Payload { kind, why };
    let frame = match kind {
        RAFT => {
            check_raft_message(payload).map_err(|e| bad(e.to_string()))?;
            let message = Message::parse_from_bytes(payload).map_err(|e| bad(e.to_string()))?;
            raft_shape::check(&message).map_err(|e| bad(e.to_string()))?;
            Frame::Raft(Box::new(message))
        }
        FORWARD => Frame::Forward(decode_forward(payload).ok_or_else(|| bad("it is too short".into()))?),
        FORWARD_REPLY => Frame::ForwardReply(decode_reply(payload).map_err(|why| bad(why.into()))?),
        REMOVED => Frame::Removed(serde_json::from_slice(payload).map_err(|e| bad(e.to_string()))?),
        REPORT => match Sign::ALL.into_iter().find(|sign| sign.payload() == payload) {
            Some(sign) => return Ok(Incoming::Sign(sign)),
            None => Frame::Report(serde_json::from_slice(payload).map_err(|e| bad(e.to_string()))?),
        },
        kind => return Ok(Incoming::Unknown { kind }),
    };
    Ok(Incoming::Frame(frame))
}

fn decode_forward(payload: &[u8]) -> Option<Forward> {
    let (term, rest) = payload.split_first_chunk()?;
    let (request, data) = rest.split_at_checked(RequestId::BYTES)?;
    Some(Forward {
        term: u64::from_be_bytes(*term),
        request: RequestId::decode(request)?,
        data: Bytes::copy_from_slice(data),
    })
}

fn decode_reply(payload: &[u8]) -> Result<ForwardReply, &'static str> {
    let short = "it is too short";
    let (tag, rest) = payload.split_first().ok_or(short)?;
    let (request, rest) = rest.split_at_checked(RequestId::BYTES).ok_or(short)?;
    let request = RequestId::decode(request).ok_or(short)?;
    let why = || String::from_utf8(rest.to_vec()).map_err(|_| "its reason is not UTF-8");
    match *tag {
        REFUSED => Ok(ForwardReply::Refused { request, why: why()? }),
        NO_SPACE => Ok(ForwardReply::NoSpace { request, why: why()? }),
        APPENDED => {
            let (index, term) = rest.split_first_chunk().ok_or(short)?;
            let term = term.try_into().map_err(|_| "it has another length")?;
            Ok(ForwardReply::Appended { request, index: u64::from_be_bytes(*index), term: u64::from_be_bytes(term) })
        }
        _ => Err("it is no known answer"),
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs without maps have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvstore::{Command, Condition};
    use crate::limits::FRAME_BYTES_MAX;
    use crate::membership::Removed;
    use crate::wire::{RemovedRecord, Report};
    use proptest::prelude::*;
    use raft::prelude::{Entry, MessageType};
    use raftkv_api::Hex128;

    fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
    }

    fn request() -> impl Strategy<Value = RequestId> {
        any::<(u64, u64, u64)>().prop_map(|(origin, nonce, seq)| RequestId { origin, nonce, seq })
    }

    fn raft() -> impl Strategy<Value = Frame> {
        let command = (bytes(300), any::<bool>()).prop_map(|(value, empty)| match empty {
            true => Bytes::new(),
            false => Command::Put { key: Bytes::from_static(b"k"), value, condition: Condition::None }.encode(),
        });
        let entry = (command, bytes(30)).prop_map(|(data, context)| Entry { data, context, ..Entry::default() });
        let number = || 1u64..1 << 60;
        let numbers = (any::<(u64, u64)>(), number(), number(), number());
        (numbers, proptest::collection::vec(entry, 0..4), bytes(40), any::<bool>()).prop_map(
            |(((from, to), term, index, commit), mut entries, context, reject)| {
                for (entry, next) in entries.iter_mut().zip(index + 1..) {
                    (entry.index, entry.term) = (next, term);
                }
                let log_term = term;
                let entries = entries.into();
                let mut message =
                    Message { from, to, term, log_term, index, commit, context, entries, ..Message::default() };
                message.reject = reject;
                message.set_msg_type(MessageType::MsgAppend);
                Frame::Raft(Box::new(message))
            },
        )
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let removed = (any::<([u8; 16], [u8; 16], u64, u64)>(), ".*").prop_map(|((a, b, member_id, index), name)| {
            Frame::Removed(Box::new(RemovedRecord {
                cluster_id: Hex128(a),
                genesis: Hex128(b),
                generation: 0,
                member_id,
                removed: Removed { name, incarnation: Hex128(b), index, term: index / 2 },
            }))
        });
        let report = any::<([u64; 7], u64, bool)>().prop_map(|(numbers, volume_bytes, can_lead)| {
            let [applied, durable_conf_index, commit, free_bytes, headroom_bytes, reserve_bytes, stalled_ms] = numbers;
            Frame::Report(Report {
                applied,
                durable_conf_index,
                commit,
                free_bytes,
                can_lead,
                headroom_bytes,
                reserve_bytes,
                stalled_ms,
                volume_bytes,
            })
        });
        prop_oneof![
            raft(),
            (any::<u64>(), request(), bytes(300)).prop_map(|(term, request, data)| Frame::Forward(Forward {
                term,
                request,
                data
            })),
            (request(), ".*").prop_map(|(request, why)| Frame::ForwardReply(ForwardReply::Refused { request, why })),
            (request(), ".*").prop_map(|(request, why)| Frame::ForwardReply(ForwardReply::NoSpace { request, why })),
            (request(), any::<(u64, u64)>()).prop_map(|(request, (index, term))| Frame::ForwardReply(
                ForwardReply::Appended { request, index, term }
            )),
            removed,
            report,
        ]
    }

    proptest! {
        #[test]
        fn frames_in_a_row_round_trip_in_any_pieces(frames in proptest::collection::vec(any_frame(), 1..5), step in 1usize..64) {
            let mut encoded = Vec::new();
            for frame in &frames {
                let before = encoded.len();
                encode(frame, &mut encoded);
                prop_assert_eq!(encoded.len() - before, HEAD_BYTES + payload_bytes(frame));
                Sign::ALL.into_iter().for_each(|sign| encode_sign(sign, &mut encoded));
            }
            let mut input = BytesMut::new();
            let mut decoded = Vec::new();
            for piece in encoded.chunks(step) {
                input.extend_from_slice(piece);
                while let Some(incoming) = decode(&mut input, FRAME_BYTES_MAX).unwrap() {
                    decoded.push(incoming);
                }
            }
            let with_signs = |frame| std::iter::once(Incoming::Frame(frame)).chain(Sign::ALL.map(Incoming::Sign));
            let expected: Vec<_> = frames.into_iter().flat_map(with_signs).collect();
            prop_assert_eq!(decoded, expected);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn a_flipped_bit_is_never_a_frame(frame in any_frame(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut encoded = Vec::new();
            encode(&frame, &mut encoded);
            let at = at.index(encoded.len());
            encoded[at] ^= 1 << bit;
            let decoded = decode(&mut BytesMut::from(&encoded[..]), FRAME_BYTES_MAX);
            prop_assert!(!matches!(decoded, Ok(Some(_))), "{:?}", decoded);
        }

        #[test]
        fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..8) {
            let _ = decode(&mut BytesMut::from(&garbage[..]), 100); // any answer will do
            let mut sealed = vec![0; HEAD_BYTES];
            sealed.extend_from_slice(&garbage);
            seal(kind, 0, &mut sealed);
            let _ = decode(&mut BytesMut::from(&sealed[..]), FRAME_BYTES_MAX); // any answer will do
        }
    }

    #[test]
    fn a_frame_of_an_unknown_kind_is_skipped_whole() {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes.extend_from_slice(b"of a later version");
        seal(REPORT + 1, 0, &mut bytes);
        encode_sign(Sign::Ask, &mut bytes);
        let mut input = BytesMut::from(&bytes[..]);
        assert_eq!(decode(&mut input, FRAME_BYTES_MAX), Ok(Some(Incoming::Unknown { kind: REPORT + 1 })));
        assert_eq!(decode(&mut input, FRAME_BYTES_MAX), Ok(Some(Incoming::Sign(Sign::Ask))));
        bytes[HEAD_BYTES] ^= 1;
        let damaged = decode(&mut BytesMut::from(&bytes[..]), FRAME_BYTES_MAX);
        assert_eq!(damaged, Err(FrameError::Crc { kind: REPORT + 1 }), "only its kind is unknown");
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_length_alone() {
        let frame = Frame::Forward(Forward {
            term: 1,
            request: RequestId { origin: 1, nonce: 2, seq: 3 },
            data: vec![0; 100].into(),
        });
        let mut encoded = Vec::new();
        encode(&frame, &mut encoded);
        let len = payload_bytes(&frame);
        assert_eq!(decode(&mut BytesMut::from(&encoded[..]), len), Ok(Some(Incoming::Frame(frame))));
        let refused = Err(FrameError::TooLarge { bytes: len, max: len - 1 });
        assert_eq!(decode(&mut BytesMut::from(&encoded[..HEAD_BYTES]), len - 1), refused);
    }

    #[test]
    fn a_report_of_an_earlier_or_a_later_version_is_read() {
        let earlier = r#"{"applied":1,"durable_conf_index":2,"commit":3,"free_bytes":4,"can_lead":true}"#;
        let report =
            Report { applied: 1, durable_conf_index: 2, commit: 3, free_bytes: 4, can_lead: true, ..Report::default() };
        let read = |payload: &str| decode_payload(REPORT, payload.as_bytes());
        assert_eq!(read(earlier), Ok(Incoming::Frame(Frame::Report(report))));
        let later = earlier.replace('}', r#","headroom_bytes":5,"reserve_bytes":6,"more":7}"#);
        let report = Report { headroom_bytes: 5, reserve_bytes: 6, ..report };
        assert_eq!(read(&later), Ok(Incoming::Frame(Frame::Report(report))));
    }
}

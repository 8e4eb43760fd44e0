//! One peer stream that is up, dialled by us or by the peer: its reader, its writer and its pulse, in one task.
//!
//! Enters: an upgraded connection and an outbox. Leaves: frames to the node, in order, and at last why the stream
//! ended. An error of this stream ends this stream only.
//!
//! The side that dialled probes the stream and the other side answers, so both hear something within each probe
//! interval, and a half-open stream is found by its silence. Bytes that the peer's TCP took after the socket was full
//! are a sign of life too: a slow link that carries a large batch is not a dead one.

use super::bounds::TransportLimits;
use super::outbox::Outbox;
use super::shared::{Counters, Inner};
use crate::crash_point::{self, Place, Side};
use bytes::BytesMut;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use raft::prelude::MessageType;
use raftkv_core::limits::{PEER_READ_BYTES, PEER_WRITE_BYTES};
use raftkv_core::types::MemberId;
use raftkv_core::wire::{self, Frame, FrameError, Incoming, Sign};
use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior};

/// The members at the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub ours: MemberId,
    pub theirs: MemberId,
    /// Whether we opened the stream.
    pub dialled: bool,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamEnd {
    #[error("the peer closed the stream")]
    Closed,
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    #[error("the stream is closed: {0}")]
    Frame(#[from] FrameError),
    #[error("nothing was heard of the peer for {0} ms")]
    Silent(u128),
    #[error("the stream was replaced by a newer one")]
    Replaced,
}

/// A connection that became a stream, and a second handle to its socket ([`second_handle`]).
pub(super) type Connected = (TokioIo<Upgraded>, Option<TcpStream>);

/// Another handle to a connection, for writing without its task; `None` if the process may not open another file.
pub(super) fn second_handle(tcp: &tokio::net::TcpStream) -> Option<TcpStream> {
    tcp.as_fd().try_clone_to_owned().map(TcpStream::from).ok()
}

/// Runs the stream to its end. The outbox is open meanwhile; `standing` is called once it is open.
pub(super) async fn run(
    inner: &Inner,
    (io, socket): Connected,
    ends: Ends,
    outbox: &Outbox,
    standing: impl FnOnce(),
) -> StreamEnd {
    let _open = outbox.open(socket);
    standing();
    let (reader, writer) = tokio::io::split(io);
    let pulse = Pulse::new();
    let end = tokio::select! {
        // The reader goes first: bytes that have arrived count before silence is measured.
        biased;
        end = read(inner, reader, ends, outbox, &pulse) => end,
        end = write(writer, outbox, &pulse) => end,
        end = watch(&inner.limits, ends, outbox, &pulse) => end,
    };
    match end {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

/// Whether a frame may go to the node; one that does not belong on this stream is counted and dropped.
pub(super) fn admit(ends: Ends, frame: &Frame, counters: &Counters) -> bool {
    let Frame::Raft(message) = frame else {
        return true;
    };
    if message.get_msg_type() == MessageType::MsgPropose {
        // It carries no term, so one that comes late or twice would be appended again (rule N5).
        Counters::count(&counters.proposals);
        return false;
    }
    if (message.from, message.to) != (ends.theirs, ends.ours) {
        Counters::count(&counters.foreign);
        return false;
    }
    true
}

enum Never {}

async fn read(
    inner: &Inner,
    mut io: impl AsyncRead + Unpin,
    ends: Ends,
    outbox: &Outbox,
    pulse: &Pulse,
) -> Result<Never, StreamEnd> {
    let mut input = BytesMut::new();
    loop {
        while let Some(incoming) = wire::decode(&mut input, inner.limits.frame_bytes_max)? {
            match incoming {
                Incoming::Frame(frame) if admit(ends, &frame, &inner.counters) => {
                    inner.events.on_frame(ends.theirs, frame);
                }
                Incoming::Frame(_) => {}
                Incoming::Unknown { kind } => inner.events.on_unknown_frame(ends.theirs, kind),
                Incoming::Sign(Sign::Probe) if ends.dialled => {
                    if let Some(sent) = pulse.probe_answered() {
                        let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                        inner.events.on_rtt(ends.theirs, micros);
                    }
                }
                Incoming::Sign(Sign::Probe) => outbox.push_sign(Sign::Probe),
                Incoming::Sign(Sign::Ask) => outbox.push_sign(Sign::Here),
                Incoming::Sign(Sign::Here) => outbox.answered(),
            }
        }
        if input.is_empty() && input.capacity() > PEER_WRITE_BYTES {
            input = BytesMut::new(); // one large frame must not occupy its size for the stream's life
        }
        input.reserve(PEER_READ_BYTES);
        if io.read_buf(&mut input).await? == 0 {
            return Err(StreamEnd::Closed);
        }
        pulse.heard();
    }
}

async fn write(mut io: impl AsyncWrite + Unpin, outbox: &Outbox, pulse: &Pulse) -> Result<Never, StreamEnd> {
    let mut buffer = Vec::new();
    while let Some(batch) = outbox.take(PEER_WRITE_BYTES).await {
        buffer.clear();
        buffer.shrink_to(2 * PEER_WRITE_BYTES);
        buffer.extend_from_slice(&batch.rest);
        batch.signs.into_iter().for_each(|sign| wire::encode_sign(sign, &mut buffer));
        for frame in batch.frames {
            wire::encode(&frame, &mut buffer);
        }
        crash_point::pass(Place::Send, Side::Before);
        write_all(&mut io, &buffer, pulse).await?;
        io.flush().await?;
        crash_point::pass(Place::Send, Side::After);
    }
    Err(StreamEnd::Replaced)
}

async fn write_all(io: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], pulse: &Pulse) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut waited = false;
        let written = poll_fn(|cx| {
            let result = Pin::new(&mut *io).poll_write(cx, bytes);
            waited |= result.is_pending();
            result
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if waited {
            pulse.heard();
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Probes the stream if we dialled it, and ends it if it falls silent.
async fn watch(limits: &TransportLimits, ends: Ends, outbox: &Outbox, pulse: &Pulse) -> Result<Never, StreamEnd> {
    let mut every = tokio::time::interval(limits.probe);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if pulse.last_heard().elapsed() > limits.idle {
            return Err(StreamEnd::Silent(limits.idle.as_millis()));
        }
        if ends.dialled && pulse.begin_probe() {
            outbox.push_sign(Sign::Probe);
        }
    }
}

/// When the peer was last heard, and when the probe under way was sent.
struct Pulse {
    beats: Mutex<Beats>,
}

struct Beats {
    heard: Instant,
    probed: Option<Instant>,
}

impl Pulse {
    fn new() -> Pulse {
        Pulse { beats: Mutex::new(Beats { heard: Instant::now(), probed: None }) }
    }

    fn heard(&self) {
        self.lock().heard = Instant::now();
    }

    fn last_heard(&self) -> Instant {
        self.lock().heard
    }

    /// Whether a probe is due; there is one at a time.
    fn begin_probe(&self) -> bool {
        let mut beats = self.lock();
        let due = beats.probed.is_none();
        beats.probed.get_or_insert_with(Instant::now);
        due
    }

    fn probe_answered(&self) -> Option<Instant> {
        self.lock().probed.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Beats> {
        self.beats.lock().expect("no thread panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_peer_takes_after_a_full_socket_is_a_sign_of_life() {
        let (mut ours, mut theirs) = tokio::io::duplex(2);
        let pulse = Pulse::new();
        let began = pulse.last_heard();
        write_all(&mut ours, &[0; 2], &pulse).await.unwrap();
        assert_eq!(pulse.last_heard(), began, "a buffer that has room says nothing about the peer");
        let mut got = [0; 4];
        let (written, read) = tokio::join!(write_all(&mut ours, &[0; 2], &pulse), theirs.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert!(pulse.last_heard() > began);
    }
}

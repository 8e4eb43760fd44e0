//! The bounded queue of one peer: frames that wait for its stream.
//!
//! Enters: frames from any thread, each taken at once or not at all. Leaves: batches for the one task that writes the
//! stream, or bytes for its socket. It is open only while a stream is up, and empty whenever one begins: a frame meant
//! for a broken stream is never sent on a later one, since raft and the callers can repair a loss but not a frame that
//! arrives late (rule N5).
//!
//! The thread that queues frames also flushes them. If few bytes wait and the task is not writing, that thread writes
//! them to the socket itself, because waking the task costs more than the write. The socket is in nonblocking mode; the
//! task writes what it does not take.

use super::bounds::TransportLimits;
use crate::crash_point::{self, Place, Side};
use raftkv_core::limits::PEER_DIRECT_WRITE_BYTES_MAX;
use raftkv_core::wire::{self, Frame, HEAD_BYTES, Sign, payload_bytes};
use std::collections::{BTreeSet, VecDeque};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Why a frame was not taken. It will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// No stream to that member is up.
    #[error("no stream to the peer stands")]
    NotConnected,
    /// Too many frames, or bytes of frames, wait already.
    #[error("the peer's queue is full")]
    Full,
    /// The frame is larger than the protocol allows.
    #[error("the frame is larger than the protocol allows")]
    TooLarge,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Wakes the one task that writes.
    wake: Notify,
    /// Number of answers to [`Sign::Ask`], of all streams; changes, too, when a stream ends.
    answers: watch::Sender<u64>,
    frames_max: usize,
    bytes_max: usize,
    frame_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    open: bool,
    frames: VecDeque<(usize, Frame)>,
    bytes: usize,
    signs: BTreeSet<Sign>,
    /// The stream's own socket, in nonblocking mode, if there is one.
    socket: Option<TcpStream>,
    /// What the socket did not take of frames that were written directly; it is sent before everything else.
    rest: Vec<u8>,
    /// The task has something to write, or `rest` waits for it: nobody else may write.
    writing: bool,
}

/// What the writer sends next, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    pub rest: Vec<u8>,
    pub signs: BTreeSet<Sign>,
    pub frames: Vec<Frame>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.signs.is_empty() && self.frames.is_empty()
    }
}

impl Outbox {
    /// A closed outbox.
    pub fn new(limits: &TransportLimits) -> Outbox {
        Outbox {
            waiting: Mutex::default(),
            wake: Notify::new(),
            answers: watch::Sender::new(0),
            frames_max: limits.out_frames_max,
            bytes_max: limits.out_bytes_max,
            frame_bytes_max: limits.frame_bytes_max,
        }
    }

    /// Opens the outbox for a new stream, which ends with the guard. `socket` is a second handle to its connection.
    pub fn open(&self, socket: Option<TcpStream>) -> Open<'_> {
        *self.lock() = Waiting { open: true, socket, ..Waiting::default() };
        Open(self)
    }

    /// Drops the frames that wait, takes no more, and ends the stream.
    pub fn close(&self) {
        *self.lock() = Waiting::default();
        self.wake.notify_one();
        self.answers.send_modify(|_| {});
    }

    /// Whether a stream is up.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Queues a frame; [`Outbox::flush`] sends it.
    pub fn push(&self, frame: Frame) -> Result<(), Dropped> {
        let bytes = payload_bytes(&frame);
        if bytes > self.frame_bytes_max {
            return Err(Dropped::TooLarge);
        }
        let bytes = bytes + HEAD_BYTES;
        let mut waiting = self.lock();
        if !waiting.open {
            return Err(Dropped::NotConnected);
        }
        if waiting.frames.len() >= self.frames_max || waiting.bytes + bytes > self.bytes_max {
            return Err(Dropped::Full);
        }
        waiting.bytes += bytes;
        waiting.frames.push_back((bytes, frame));
        Ok(())
    }

    /// Sends the frames that wait, or lets the task do it. Never blocks.
    pub fn flush(&self) {
        let mut waiting = self.lock();
        if waiting.frames.is_empty() || waiting.writing {
            return; // if the task is writing, it takes the frames afterwards
        }
        let little = waiting.bytes <= PEER_DIRECT_WRITE_BYTES_MAX && waiting.signs.is_empty();
        if !little || !waiting.write_directly() {
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Sends a sign of life; it goes before the frames that wait.
    pub fn push_sign(&self, sign: Sign) {
        self.lock().signs.insert(sign);
        self.wake.notify_one();
    }

    /// The other end answered that it is there.
    pub fn answered(&self) {
        self.answers.send_modify(|count| *count += 1);
    }

    /// Asks whether the other end is there; false when it does not answer in time, or the stream ends.
    pub async fn is_answered(&self, within: Duration) -> bool {
        let mut answers = self.answers.subscribe();
        let before = *answers.borrow_and_update();
        self.push_sign(Sign::Ask);
        let answer = async {
            while self.is_open() && *answers.borrow_and_update() == before {
                // The sender lives as long as this outbox.
                let _ended = answers.changed().await;
            }
            *answers.borrow() > before
        };
        timeout(within, answer).await.unwrap_or(false)
    }

    /// Waits for something to send and takes up to `bytes_max` of frames, but at least one if any waits; `None` once
    /// closed. Only the task that writes calls it.
    pub async fn take(&self, bytes_max: usize) -> Option<Batch> {
        loop {
            match self.take_now(bytes_max) {
                Some(batch) if batch.is_empty() => self.wake.notified().await,
                batch => return batch,
            }
        }
    }

    fn take_now(&self, bytes_max: usize) -> Option<Batch> {
        let mut waiting = self.lock();
        if !waiting.open {
            return None;
        }
        let (rest, signs) = (std::mem::take(&mut waiting.rest), std::mem::take(&mut waiting.signs));
        let mut batch = Batch { rest, signs, frames: Vec::new() };
        let mut taken = 0;
        while let Some((bytes, _)) = waiting.frames.front() {
            if taken > 0 && taken + bytes > bytes_max {
                break;
            }
            let (bytes, frame) = waiting.frames.pop_front().expect("the queue has a front");
            taken += bytes;
            batch.frames.push(frame);
        }
        waiting.bytes -= taken;
        waiting.writing = !batch.is_empty();
        Some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no thread panics while it holds this lock")
    }
}

impl Waiting {
    /// Writes all frames to the socket and returns whether it took everything. If not, the task writes the rest, and
    /// meets the error if there was one.
    fn write_directly(&mut self) -> bool {
        let Some(mut socket) = self.socket.as_ref() else { return false };
        let mut bytes = Vec::with_capacity(self.bytes);
        for (_, frame) in self.frames.drain(..) {
            wire::encode(&frame, &mut bytes);
        }
        self.bytes = 0;
        crash_point::pass(Place::Send, Side::Before);
        let taken = socket.write(&bytes).unwrap_or(0);
        crash_point::pass(Place::Send, Side::After);
        self.rest = bytes.split_off(taken);
        self.writing = !self.rest.is_empty();
        !self.writing
    }
}

/// Closes the outbox when its stream ends, in whatever way.
#[derive(Debug)]
pub(super) struct Open<'a>(&'a Outbox);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::fakes::forward;
    use std::io::Read as _;

    fn outbox(frames_max: usize, bytes_max: usize) -> Outbox {
        Outbox::new(&TransportLimits {
            out_frames_max: frames_max,
            out_bytes_max: bytes_max,
            frame_bytes_max: 500,
            ..TransportLimits::default()
        })
    }

    #[test]
    fn frames_are_taken_only_while_a_stream_stands() {
        let outbox = outbox(10, 1000);
        assert_eq!(outbox.push(forward(1, 10)), Err(Dropped::NotConnected));
        let open = outbox.open(None);
        assert_eq!(outbox.push(forward(1, 10)), Ok(()));
        drop(open);
        assert_eq!(outbox.push(forward(2, 10)), Err(Dropped::NotConnected));
        assert_eq!(outbox.take_now(1000), None);
        let _open = outbox.open(None);
        assert_eq!(outbox.take_now(1000), Some(Batch::default()), "nothing stale is left");
    }

    #[test]
    fn the_queue_is_bounded_in_frames_and_in_bytes() {
        let by_frames = outbox(2, 1000);
        let _open = by_frames.open(None);
        assert_eq!([1, 2, 3].map(|seq| by_frames.push(forward(seq, 10))), [Ok(()), Ok(()), Err(Dropped::Full)]);
        let by_bytes = outbox(10, 400);
        let _open = by_bytes.open(None);
        assert_eq!([1, 2].map(|seq| by_bytes.push(forward(seq, 200))), [Ok(()), Err(Dropped::Full)]);
        assert_eq!(by_bytes.push(forward(3, 501)), Err(Dropped::TooLarge));
        assert_eq!(by_bytes.take_now(1000).unwrap().frames.len(), 1);
        assert_eq!(by_bytes.push(forward(2, 200)), Ok(()), "what was taken makes room");
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let outbox = outbox(10, 1000);
        let _open = outbox.open(None);
        for seq in 1..=3 {
            outbox.push(forward(seq, 100)).unwrap();
        }
        outbox.push_sign(Sign::Probe);
        let two = vec![forward(1, 100), forward(2, 100)];
        assert_eq!(outbox.take_now(300), Some(Batch { signs: [Sign::Probe].into(), frames: two, ..Batch::default() }));
        assert_eq!(outbox.take_now(1), Some(Batch { frames: vec![forward(3, 100)], ..Batch::default() }));
    }

    /// Opens the outbox with a socket; also returns the peer's end of it.
    fn connected(outbox: &Outbox) -> (Open<'_>, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        (outbox.open(Some(ours)), theirs)
    }

    fn frames_in(bytes: &[u8]) -> Vec<Frame> {
        let mut input = bytes::BytesMut::from(bytes);
        let mut frames = Vec::new();
        while let Some(wire::Incoming::Frame(frame)) = wire::decode(&mut input, 500).unwrap() {
            frames.push(frame);
        }
        assert!(input.is_empty(), "bytes of no frame are left");
        frames
    }

    #[test]
    fn what_is_little_is_written_at_once_in_its_order() {
        let outbox = outbox(10, 1000);
        let (open, mut theirs) = connected(&outbox);
        for seq in 1..=2 {
            outbox.push(forward(seq, 100)).unwrap();
        }
        outbox.flush();
        assert_eq!(outbox.take_now(1000), Some(Batch::default()), "nothing is left to the task");
        outbox.push(forward(3, 100)).unwrap();
        outbox.flush();
        drop(open); // this drops the only handle, too
        let mut arrived = Vec::new();
        theirs.read_to_end(&mut arrived).unwrap();
        assert_eq!(frames_in(&arrived), [1, 2, 3].map(|seq| forward(seq, 100)));
    }

    #[test]
    fn what_the_socket_does_not_take_is_left_to_the_task_and_nobody_passes_it() {
        let outbox = outbox(10, 1000);
        let (open, mut theirs) = connected(&outbox);
        let mut sent = 0;
        let rest = loop {
            sent += 1;
            outbox.push(forward(sent, 400)).unwrap();
            outbox.flush();
            outbox.push(forward(sent + 1, 10)).unwrap();
            outbox.flush(); // even if the frame before it has not left yet
            sent += 1;
            let batch = outbox.take_now(1000).unwrap();
            if !batch.is_empty() {
                break batch;
            }
        };
        outbox.push(forward(sent + 1, 10)).unwrap();
        outbox.flush(); // while the task writes
        assert!(!rest.rest.is_empty());
        drop(open);
        let mut arrived = Vec::new();
        theirs.read_to_end(&mut arrived).unwrap();
        arrived.extend(rest.rest);
        for frame in rest.frames {
            wire::encode(&frame, &mut arrived);
        }
        let numbers = 1..=sent;
        let expected: Vec<_> = numbers.map(|seq| forward(seq, if seq % 2 == 1 { 400 } else { 10 })).collect();
        assert!(frames_in(&arrived) == expected, "frames are missing, torn or in another order");
    }
}

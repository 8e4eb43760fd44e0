//! The bounded queue of one peer: frames that wait for its stream.
//!
//! Enters: frames from any thread, at once or not at all. Leaves: batches for the one task that writes the stream. It
//! is open only while a stream stands, and empty whenever one begins: a frame meant for a broken stream is never sent
//! on a later one, since raft and the callers repair a loss but not a frame that arrives late (rule N5).

use super::Frame;
use super::bounds::TransportLimits;
use super::frame::{HEAD_BYTES, payload_bytes};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Why a frame was not taken. It will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// No stream to that member stands.
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
    frames_max: usize,
    bytes_max: usize,
    frame_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    open: bool,
    frames: VecDeque<(usize, Frame)>,
    bytes: usize,
    probe: bool,
}

/// What the writer sends next.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    pub probe: bool,
    pub frames: Vec<Frame>,
}

impl Outbox {
    /// Closed.
    pub fn new(limits: &TransportLimits) -> Outbox {
        Outbox {
            waiting: Mutex::default(),
            wake: Notify::new(),
            frames_max: limits.out_frames_max,
            bytes_max: limits.out_bytes_max,
            frame_bytes_max: limits.frame_bytes_max,
        }
    }

    /// A stream begins; it ends with the guard.
    pub fn open(&self) -> Open<'_> {
        *self.lock() = Waiting { open: true, ..Waiting::default() };
        Open(self)
    }

    /// Drops what waits, takes nothing more, and ends the stream.
    pub fn close(&self) {
        *self.lock() = Waiting::default();
        self.wake.notify_one();
    }

    /// Whether a stream stands.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Queues a frame.
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
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Asks for a probe, or for the answer to one; it goes before the frames that wait.
    pub fn push_probe(&self) {
        self.lock().probe = true;
        self.wake.notify_one();
    }

    /// Waits for something to send and takes up to `bytes_max` of it (always one frame at least); `None` once closed.
    /// Only the task that writes calls it.
    pub async fn take(&self, bytes_max: usize) -> Option<Batch> {
        loop {
            match self.take_now(bytes_max) {
                Some(batch) if !batch.probe && batch.frames.is_empty() => self.wake.notified().await,
                batch => return batch,
            }
        }
    }

    fn take_now(&self, bytes_max: usize) -> Option<Batch> {
        let mut waiting = self.lock();
        if !waiting.open {
            return None;
        }
        let mut batch = Batch { probe: std::mem::take(&mut waiting.probe), frames: Vec::new() };
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
        Some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no thread panics while it holds this lock")
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
        let open = outbox.open();
        assert_eq!(outbox.push(forward(1, 10)), Ok(()));
        drop(open);
        assert_eq!(outbox.push(forward(2, 10)), Err(Dropped::NotConnected));
        assert_eq!(outbox.take_now(1000), None);
        let _open = outbox.open();
        assert_eq!(outbox.take_now(1000), Some(Batch { probe: false, frames: vec![] }), "nothing stale is left");
    }

    #[test]
    fn the_queue_is_bounded_in_frames_and_in_bytes() {
        let by_frames = outbox(2, 1000);
        let _open = by_frames.open();
        assert_eq!([1, 2, 3].map(|seq| by_frames.push(forward(seq, 10))), [Ok(()), Ok(()), Err(Dropped::Full)]);
        let by_bytes = outbox(10, 400);
        let _open = by_bytes.open();
        assert_eq!([1, 2].map(|seq| by_bytes.push(forward(seq, 200))), [Ok(()), Err(Dropped::Full)]);
        assert_eq!(by_bytes.push(forward(3, 501)), Err(Dropped::TooLarge));
        assert_eq!(by_bytes.take_now(1000).unwrap().frames.len(), 1);
        assert_eq!(by_bytes.push(forward(2, 200)), Ok(()), "what was taken makes room");
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let outbox = outbox(10, 1000);
        let _open = outbox.open();
        for seq in 1..=3 {
            outbox.push(forward(seq, 100)).unwrap();
        }
        outbox.push_probe();
        assert_eq!(outbox.take_now(300), Some(Batch { probe: true, frames: vec![forward(1, 100), forward(2, 100)] }));
        assert_eq!(outbox.take_now(1), Some(Batch { probe: false, frames: vec![forward(3, 100)] }));
    }
}

//! The inputs of the raft thread, and how full the queues in front of it are.
//!
//! A [`Queue`] holds nothing: it only counts. Whoever sends something that may pile up takes a place first, and is
//! refused when there is none.

use super::end::RestartWhy;
use raftkv_api as api;
use raftkv_core::driver::Event;
use raftkv_core::refusal::Refusal;
use raftkv_core::types::Index;
use raftkv_core::wire::{Hello, HelloVerdict};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// An input of the raft thread.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
pub enum Input {
    /// For the driver.
    Event(Event),
    /// For the driver: all that a client thread has gathered in one turn.
    Events(Vec<Event>),
    /// For the driver, counted in the queue of peers' messages.
    Peer { event: Event, bytes: usize },
    /// A peer opened a stream.
    Hello { hello: Box<Hello>, verdict: oneshot::Sender<HelloVerdict> },
    /// A peer that we dialled answered.
    Connected(Box<Hello>),
    /// A peer has proof that our directory was rolled back (rule N20).
    Quarantine(String),
    /// `POST /v1/init`.
    Init { init: Box<api::Init>, reply: oneshot::Sender<Result<api::InitDone, Refusal>> },
    /// `POST /v1/reset`; `removed` is the index of this member's removal, if it had to ask for it.
    Reset { reset: api::Reset, removed: Option<Index>, reply: oneshot::Sender<Result<(), Refusal>> },
    /// A thread met a condition after which this process may not go on.
    Fatal(String),
    /// The process must start anew.
    Restart(RestartWhy),
    /// Stop cleanly.
    Stop,
}

/// How much waits in a queue.
#[derive(Debug, Default)]
pub struct Queue {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

impl Queue {
    /// Takes a place, if there is one.
    pub fn enter(&self, bytes: usize, count_max: usize, bytes_max: usize) -> bool {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // One thing always fits, whatever its size: otherwise it could never pass.
        let fits = count <= count_max && (total <= bytes_max || count == 1);
        if !fits {
            self.leave(bytes);
        }
        fits
    }

    /// Gives a place back.
    pub fn leave(&self, bytes: usize) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_in_count_and_bytes_but_one_thing_always_fits() {
        let queue = Queue::default();
        assert!(queue.enter(100, 2, 50));
        assert!(!queue.enter(1, 2, 50));
        queue.leave(100);
        assert!(queue.enter(20, 2, 50) && queue.enter(20, 2, 50) && !queue.enter(1, 2, 50));
        assert_eq!(queue.count(), 2);
    }
}

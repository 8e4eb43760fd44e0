//! Where clients' tasks and the raft threads hand things over, many at a time: waking a thread costs more than a read.
//!
//! ```text
//!   tasks of one client thread ──push──► events ──► raft thread, one input for all of a turn
//!   tasks of one client thread ◄─wake─── deliveries ◄── raft thread, apply thread: one wake for all of a batch
//! ```
//!
//! Each client thread has one desk and one task that serves it, which runs behind the tasks that were woken with it: so
//! all requests that arrived together go on together, and all that were answered together come back together. The
//! queues are bounded by those of the node in front of them ([`super::Queue`]).

use super::waiters::{ReadReply, Reply};
use crate::driver::Event;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// An answer on its way to the task that waits for it.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Debug)]
pub enum Delivery {
    /// To a request.
    Request(oneshot::Sender<Reply>, Reply),
    /// To a read.
    Read(oneshot::Sender<ReadReply>, ReadReply),
}

impl Delivery {
    /// Wakes who waits; it may have gone.
    pub fn hand_over(self) {
        match self {
            Delivery::Request(to, reply) => drop(to.send(reply)),
            Delivery::Read(to, reply) => drop(to.send(reply)),
        }
    }
}

/// What lies on the desk.
#[derive(Debug, Default)]
struct Lying {
    events: Vec<Event>,
    deliveries: Vec<Delivery>,
}

/// The desk of one client thread.
#[derive(Debug, Default)]
pub struct Desk {
    lying: Mutex<Lying>,
    bell: Notify,
}

impl Desk {
    /// For the raft thread.
    pub fn push(&self, event: Event) {
        self.change(|lying| lying.events.push(event));
    }

    /// For a task of this client thread.
    pub fn deliver(&self, delivery: Delivery) {
        self.change(|lying| lying.deliveries.push(delivery));
    }

    fn change(&self, change: impl FnOnce(&mut Lying)) {
        let mut lying = self.lying.lock().unwrap_or_else(PoisonError::into_inner);
        let first = lying.events.is_empty() && lying.deliveries.is_empty();
        change(&mut lying);
        drop(lying);
        if first {
            self.bell.notify_one();
        }
    }

    /// Serves the desk for ever; `send` takes all events of one turn.
    pub async fn serve(&self, send: impl Fn(Vec<Event>)) {
        loop {
            self.bell.notified().await;
            let Lying { events, deliveries } =
                std::mem::take(&mut *self.lying.lock().unwrap_or_else(PoisonError::into_inner));
            deliveries.into_iter().for_each(Delivery::hand_over);
            if !events.is_empty() {
                send(events);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    #[tokio::test]
    async fn what_was_pushed_together_arrives_together_and_answers_reach_who_waits() {
        let (send, sent) = mpsc::channel();
        let desk = Arc::new(Desk::default());
        for read in 1..=3 {
            desk.push(Event::Read { read });
        }
        let (to, answer) = oneshot::channel();
        desk.deliver(Delivery::Read(to, Ok(())));
        let serving = tokio::spawn({
            let desk = desk.clone();
            async move { desk.serve(|events| send.send(events).expect("the test receives")).await }
        });
        assert_eq!(answer.await, Ok(Ok(())));
        assert_eq!(sent.recv().expect("one message").len(), 3);
        serving.abort();
    }
}

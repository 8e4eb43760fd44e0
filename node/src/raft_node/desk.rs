//! Where clients' tasks and the raft and apply threads hand things over, many at a time: waking a thread costs more
//! than a read.
//!
//! ```text
//!   tasks of one client thread ──push──► events ──► raft thread, one input for all of a turn
//!   tasks of one client thread ◄─wake─── deliveries ◄── raft thread, apply thread: one wake for all of a batch
//! ```
//!
//! Each client thread has one desk and one task that serves it, which runs after the tasks that were woken with it: so
//! all requests that arrived together go on together, and all that were answered together come back together. To the
//! raft thread, all reads of a turn are one read. The node's queues in front of the desks bound what lies on them
//! ([`super::Queue`]).

use super::waiters::{ReadReply, Reply};
use raftkv_core::driver::Event;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// An answer on its way to the task that waits for it.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Debug)]
pub enum Delivery {
    /// The answer to a request.
    Request(oneshot::Sender<Reply>, Reply),
    /// The same answer to many reads.
    Reads(Vec<oneshot::Sender<ReadReply>>, ReadReply),
}

impl Delivery {
    /// Wakes the task that waits, unless it has gone.
    pub fn hand_over(self) {
        match self {
            Delivery::Request(to, reply) => drop(to.send(reply)),
            Delivery::Reads(to, reply) => to.into_iter().for_each(|to| drop(to.send(reply.clone()))),
        }
    }
}

/// What lies on the desk.
#[derive(Debug, Default)]
struct Lying {
    events: Vec<Event>,
    reads: Vec<oneshot::Sender<ReadReply>>,
    deliveries: Vec<Delivery>,
}

/// The desk of one client thread.
#[derive(Debug, Default)]
pub struct Desk {
    lying: Mutex<Lying>,
    bell: Notify,
}

impl Desk {
    /// Lays down an event for the raft thread.
    pub fn push(&self, event: Event) {
        self.change(|lying| lying.events.push(event));
    }

    /// Lays down a read for the raft thread.
    pub fn read(&self) -> oneshot::Receiver<ReadReply> {
        let (to, receiver) = oneshot::channel();
        self.change(|lying| lying.reads.push(to));
        receiver
    }

    /// Lays down answers for tasks of this client thread.
    pub fn deliver(&self, deliveries: Vec<Delivery>) {
        self.change(|lying| lying.deliveries.extend(deliveries));
    }

    fn change(&self, change: impl FnOnce(&mut Lying)) {
        let mut lying = self.lying.lock().unwrap_or_else(PoisonError::into_inner);
        let first = lying.events.is_empty() && lying.reads.is_empty() && lying.deliveries.is_empty();
        change(&mut lying);
        drop(lying);
        if first {
            self.bell.notify_one();
        }
    }

    /// Serves the desk for ever; `send` takes all events and reads of one turn.
    pub async fn serve(&self, send: impl Fn(Vec<Event>, Vec<oneshot::Sender<ReadReply>>)) {
        loop {
            self.bell.notified().await;
            let Lying { events, reads, deliveries } =
                std::mem::take(&mut *self.lying.lock().unwrap_or_else(PoisonError::into_inner));
            deliveries.into_iter().for_each(Delivery::hand_over);
            if !events.is_empty() || !reads.is_empty() {
                send(events, reads);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::driver::Answer;
    use raftkv_core::refusal::Refusal;
    use std::sync::{Arc, mpsc};

    #[tokio::test]
    async fn what_was_pushed_together_arrives_together_and_answers_reach_who_waits() {
        let (send, sent) = mpsc::channel();
        let desk = Arc::new(Desk::default());
        desk.push(Event::Tick);
        desk.push(Event::Tick);
        let reads = [desk.read(), desk.read(), desk.read()];
        let (to, answer) = oneshot::channel();
        desk.deliver(vec![Delivery::Request(to, Reply::Decided(Answer::Refused(Refusal::NoLeader)))]);
        let serving = tokio::spawn({
            let desk = desk.clone();
            async move { desk.serve(|events, reads| send.send((events, reads)).expect("the test receives")).await }
        });
        assert_eq!(answer.await, Ok(Reply::Decided(Answer::Refused(Refusal::NoLeader))));
        let (events, senders) = sent.recv().expect("one message");
        assert_eq!((events.len(), senders.len()), (2, 3));
        desk.deliver(vec![Delivery::Reads(senders, Ok(()))]);
        for read in reads {
            assert_eq!(read.await, Ok(Ok(())));
        }
        serving.abort();
    }
}

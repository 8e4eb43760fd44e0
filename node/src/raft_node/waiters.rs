//! Who waits for what, outside the pure driver: requests by number, reads by number, then by applied index.
//!
//! Three threads meet here: a client's task waits, the raft thread answers what the driver decided, the apply thread
//! answers what was applied. An answer for somebody who left (a timeout, a closed connection) is no news to anyone. Who
//! waits at a [`Desk`] is told by its thread, together with all others that were answered in this turn.

use super::desk::{Delivery, Desk};
use crate::driver::Answer;
use crate::kvstore::Outcome;
use crate::refusal::Refusal;
use crate::types::Index;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Applied here.
    Applied(Outcome),
    /// Decided by the driver.
    Decided(Answer),
}

/// What became of a read: it may be served, or why not.
pub type ReadReply = Result<(), Refusal>;

/// Who waits, and where.
struct Waiter<T> {
    to: oneshot::Sender<T>,
    desk: Option<Arc<Desk>>,
}

impl<T> Waiter<T> {
    fn tell(self, reply: T, delivery: impl FnOnce(oneshot::Sender<T>, T) -> Delivery) {
        let delivery = delivery(self.to, reply);
        match self.desk {
            Some(desk) => desk.deliver(delivery),
            None => delivery.hand_over(),
        }
    }
}

impl Waiter<Reply> {
    fn reply(self, reply: Reply) {
        self.tell(reply, Delivery::Request);
    }
}

impl Waiter<ReadReply> {
    fn read(self, reply: ReadReply) {
        self.tell(reply, Delivery::Read);
    }
}

#[derive(Default)]
struct Reads {
    /// For their ReadIndex answer.
    waiting: BTreeMap<u64, Waiter<ReadReply>>,
    /// For an applied index.
    parked: BTreeMap<Index, Vec<Waiter<ReadReply>>>,
}

/// The table.
#[derive(Default)]
pub struct Waiters {
    requests: Mutex<BTreeMap<u64, Waiter<Reply>>>,
    reads: Mutex<Reads>,
}

/// A panic elsewhere must not take every client down with it; the tables stay consistent between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiters {
    /// A request waits under `seq`, at a desk or by itself.
    pub fn request(&self, seq: u64, desk: Option<Arc<Desk>>) -> oneshot::Receiver<Reply> {
        let (to, receiver) = oneshot::channel();
        lock(&self.requests).insert(seq, Waiter { to, desk });
        receiver
    }

    /// It does not wait any more.
    pub fn forget_request(&self, seq: u64) {
        lock(&self.requests).remove(&seq);
    }

    /// Answers a request.
    pub fn reply(&self, seq: u64, reply: Reply) {
        if let Some(waiter) = lock(&self.requests).remove(&seq) {
            waiter.reply(reply);
        }
    }

    /// Answers many requests under one lock.
    pub fn reply_all(&self, replies: impl Iterator<Item = (u64, Reply)>) {
        let mut requests = lock(&self.requests);
        for (seq, reply) in replies {
            if let Some(waiter) = requests.remove(&seq) {
                waiter.reply(reply);
            }
        }
    }

    /// A read waits under this number, at a desk or by itself.
    pub fn read(&self, read: u64, desk: Option<Arc<Desk>>) -> oneshot::Receiver<ReadReply> {
        let (to, receiver) = oneshot::channel();
        lock(&self.reads).waiting.insert(read, Waiter { to, desk });
        receiver
    }

    /// It does not wait any more.
    pub fn forget_read(&self, read: u64) {
        lock(&self.reads).waiting.remove(&read);
    }

    /// These reads may be served once `index` is applied. `applied` is read under the lock, so that no publication
    /// falls between the look and the parking.
    pub fn reads_ready(&self, numbers: &[u64], index: Index, applied: impl Fn() -> Index) {
        let mut reads = lock(&self.reads);
        let waiters: Vec<_> = numbers.iter().filter_map(|number| reads.waiting.remove(number)).collect();
        if applied() >= index {
            waiters.into_iter().for_each(|waiter| waiter.read(Ok(())));
        } else {
            reads.parked.entry(index).or_default().extend(waiters);
        }
    }

    /// These reads can't be served.
    pub fn reads_failed(&self, numbers: &[u64], why: &Refusal) {
        let mut reads = lock(&self.reads);
        for number in numbers {
            if let Some(waiter) = reads.waiting.remove(number) {
                waiter.read(Err(why.clone()));
            }
        }
    }

    /// `applied` was published: reads parked at or below it may go.
    pub fn applied(&self, applied: Index) {
        let mut reads = lock(&self.reads);
        let later = reads.parked.split_off(&(applied + 1));
        for waiter in std::mem::replace(&mut reads.parked, later).into_values().flatten() {
            waiter.read(Ok(()));
        }
    }

    /// The node serves nobody any more: every request is unknown, every read refused.
    pub fn fail_all(&self, why: &Refusal) {
        let unknown = Reply::Decided(Answer::Refused(Refusal::Unknown(why.to_string())));
        for waiter in std::mem::take(&mut *lock(&self.requests)).into_values() {
            waiter.reply(unknown.clone());
        }
        let reads = std::mem::take(&mut *lock(&self.reads));
        for waiter in reads.waiting.into_values().chain(reads.parked.into_values().flatten()) {
            waiter.read(Err(why.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_served_when_its_index_is_applied_and_not_before() {
        let waiters = Waiters::default();
        let mut early = waiters.read(1, None);
        let mut late = waiters.read(2, None);
        waiters.reads_ready(&[1], 5, || 5);
        waiters.reads_ready(&[2], 7, || 5);
        assert_eq!(early.try_recv(), Ok(Ok(())));
        waiters.applied(6);
        assert!(late.try_recv().is_err());
        waiters.applied(7);
        assert_eq!(late.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn a_request_is_answered_once_and_unknown_when_the_node_ends() {
        let waiters = Waiters::default();
        let mut first = waiters.request(1, None);
        let mut second = waiters.request(2, None);
        let outcome = Reply::Applied(Outcome::Put { revision: 2, version: 1 });
        waiters.reply(1, outcome.clone());
        waiters.reply(1, Reply::Decided(Answer::Refused(Refusal::NoLeader)));
        assert_eq!(first.try_recv(), Ok(outcome));
        waiters.fail_all(&Refusal::Stopping);
        assert!(matches!(second.try_recv(), Ok(Reply::Decided(Answer::Refused(Refusal::Unknown(_))))));
    }
}

//! Who waits for what, outside the pure driver: requests by number; reads by number, then by applied index.
//!
//! Three threads meet here: a client's task waits, the raft thread answers what the driver decided, the apply thread
//! answers what was applied. An answer for a task that has left (a timeout, a closed connection) is dropped. A task
//! that waits at a [`Desk`] is told by the desk's thread, together with all others that were answered in this turn.

use super::desk::{Delivery, Desk};
use raftkv_core::driver::Answer;
use raftkv_core::kvstore::Outcome;
use raftkv_core::refusal::Refusal;
use raftkv_core::types::Index;
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

/// A task that waits for the answer to a request, and its desk.
struct Asker {
    to: oneshot::Sender<Reply>,
    desk: Option<Arc<Desk>>,
}

/// All tasks that read in one turn of one desk, or one that reads by itself.
struct Readers {
    to: Vec<oneshot::Sender<ReadReply>>,
    desk: Option<Arc<Desk>>,
}

#[derive(Default)]
struct Reads {
    /// Reads that wait for their ReadIndex answer.
    waiting: BTreeMap<u64, Readers>,
    /// Reads that wait for an applied index.
    parked: BTreeMap<Index, Vec<Readers>>,
}

impl Reads {
    /// Takes out the reads whose ReadIndex is answered.
    fn answered(&mut self, numbers: &[u64]) -> Vec<Readers> {
        numbers.iter().filter_map(|number| self.waiting.remove(number)).collect()
    }
}

/// The tables of all who wait.
#[derive(Default)]
pub struct Waiters {
    requests: Mutex<BTreeMap<u64, Asker>>,
    reads: Mutex<Reads>,
}

/// A panic elsewhere must not take every client down with it; the tables stay consistent between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiters {
    /// Registers a request under `seq`, at a desk or by itself.
    pub fn request(&self, seq: u64, desk: Option<Arc<Desk>>) -> oneshot::Receiver<Reply> {
        let (to, receiver) = oneshot::channel();
        lock(&self.requests).insert(seq, Asker { to, desk });
        receiver
    }

    /// Forgets a request that nobody waits for.
    pub fn forget_request(&self, seq: u64) {
        lock(&self.requests).remove(&seq);
    }

    /// Answers a request.
    pub fn reply(&self, seq: u64, reply: Reply) {
        self.reply_all(std::iter::once((seq, reply)));
    }

    /// Answers many requests under one lock.
    pub fn reply_all(&self, replies: impl Iterator<Item = (u64, Reply)>) {
        let mut outgoing = Outgoing::default();
        let mut requests = lock(&self.requests);
        for (seq, reply) in replies {
            if let Some(asker) = requests.remove(&seq) {
                outgoing.add(asker.desk, Delivery::Request(asker.to, reply));
            }
        }
        drop(requests);
        outgoing.deliver();
    }

    /// Registers reads under this number, at a desk or by themselves. Each number is answered once, by the driver or by
    /// the end of raft.
    pub fn reads(&self, number: u64, to: Vec<oneshot::Sender<ReadReply>>, desk: Option<Arc<Desk>>) {
        lock(&self.reads).waiting.insert(number, Readers { to, desk });
    }

    /// These reads may be served once `index` is applied, unless nothing is being applied now: then `stuck` says why.
    /// Both are checked under the lock, so that no publication, and no call of [`Waiters::fail_parked`], falls between
    /// the check and the parking.
    pub fn reads_ready(
        &self,
        numbers: &[u64],
        index: Index,
        applied: impl Fn() -> Index,
        stuck: impl Fn() -> Option<Refusal>,
    ) {
        let mut reads = lock(&self.reads);
        let readers = reads.answered(numbers);
        let reply = match stuck() {
            _ if applied() >= index => Ok(()),
            Some(why) => Err(why),
            None => return reads.parked.entry(index).or_default().extend(readers),
        };
        drop(reads);
        tell(readers, &reply);
    }

    /// These reads can't be served.
    pub fn reads_failed(&self, numbers: &[u64], why: &Refusal) {
        let readers = lock(&self.reads).answered(numbers);
        tell(readers, &Err(why.clone()));
    }

    /// Nothing more is applied for now: reads that wait for an applied index are told why.
    pub fn fail_parked(&self, why: &Refusal) {
        let parked = std::mem::take(&mut lock(&self.reads).parked);
        tell(parked.into_values().flatten(), &Err(why.clone()));
    }

    /// `applied` was published: reads parked at or below it may be served.
    pub fn applied(&self, applied: Index) {
        let mut reads = lock(&self.reads);
        let later = reads.parked.split_off(&(applied + 1));
        let readers = std::mem::replace(&mut reads.parked, later);
        drop(reads);
        tell(readers.into_values().flatten(), &Ok(()));
    }

    /// From now on the node serves nobody: the outcome of every request is unknown, and every read is refused.
    pub fn fail_all(&self, why: &Refusal) {
        let unknown = Reply::Decided(Answer::Refused(Refusal::Unknown(why.to_string())));
        let mut outgoing = Outgoing::default();
        for asker in std::mem::take(&mut *lock(&self.requests)).into_values() {
            outgoing.add(asker.desk, Delivery::Request(asker.to, unknown.clone()));
        }
        outgoing.deliver();
        let reads = std::mem::take(&mut *lock(&self.reads));
        tell(reads.waiting.into_values().chain(reads.parked.into_values().flatten()), &Err(why.clone()));
    }
}

fn tell(readers: impl IntoIterator<Item = Readers>, reply: &ReadReply) {
    let mut outgoing = Outgoing::default();
    for readers in readers {
        outgoing.add(readers.desk, Delivery::Reads(readers.to, reply.clone()));
    }
    outgoing.deliver();
}

/// Answers grouped by the desk that they go to, so that a desk's lock is taken once for all of them.
#[derive(Default)]
struct Outgoing(Vec<(Option<Arc<Desk>>, Vec<Delivery>)>);

impl Outgoing {
    fn add(&mut self, desk: Option<Arc<Desk>>, delivery: Delivery) {
        let same = |at: &Option<Arc<Desk>>| at.as_ref().map(Arc::as_ptr) == desk.as_ref().map(Arc::as_ptr);
        match self.0.iter_mut().find(|(at, _)| same(at)) {
            Some((_, deliveries)) => deliveries.push(delivery),
            None => self.0.push((desk, vec![delivery])),
        }
    }

    fn deliver(self) {
        for (desk, deliveries) in self.0 {
            match desk {
                Some(desk) => desk.deliver(deliveries),
                None => deliveries.into_iter().for_each(Delivery::hand_over),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(waiters: &Waiters, number: u64) -> oneshot::Receiver<ReadReply> {
        let (to, receiver) = oneshot::channel();
        waiters.reads(number, vec![to], None);
        receiver
    }

    #[test]
    fn a_read_is_served_when_its_index_is_applied_and_not_before() {
        let waiters = Waiters::default();
        let (mut early, mut late) = (read(&waiters, 1), read(&waiters, 2));
        waiters.reads_ready(&[1], 5, || 5, || None);
        waiters.reads_ready(&[2], 7, || 5, || None);
        assert_eq!(early.try_recv(), Ok(Ok(())));
        waiters.applied(6);
        assert!(late.try_recv().is_err());
        waiters.applied(7);
        assert_eq!(late.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn a_read_does_not_wait_for_what_is_not_applied_for_now() {
        let waiters = Waiters::default();
        let full = || Refusal::Opening("the disk is full".to_string());
        let (mut parked, mut later, mut served) = (read(&waiters, 1), read(&waiters, 2), read(&waiters, 3));
        waiters.reads_ready(&[1], 7, || 5, || None);
        waiters.fail_parked(&full());
        assert_eq!(parked.try_recv(), Ok(Err(full())));
        waiters.reads_ready(&[2], 7, || 5, || Some(full()));
        assert_eq!(later.try_recv(), Ok(Err(full())));
        waiters.reads_ready(&[3], 5, || 5, || Some(full()));
        assert_eq!(served.try_recv(), Ok(Ok(())), "what was applied before is read");
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

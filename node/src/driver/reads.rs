//! Linearizable reads: many of them share one ReadIndex round (rule N18; Raft thesis, section 6.4). PURE.
//!
//! A read joins only a batch that was not stepped yet: one round is in flight, the next one collects. A context is
//! never used twice, so a late answer to an abandoned round matches nothing.

use crate::mutant::{self, Mutant};
use crate::types::{MemberId, RequestId, Term};

/// A read, and when it came.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    read: u64,
    since_tick: u64,
}

/// A round in flight.
#[derive(Debug)]
struct Round {
    context: Vec<u8>,
    reads: Vec<Waiting>,
    term: Term,
    leader: MemberId,
    age_ticks: usize,
}

/// The reads of one member.
#[derive(Debug)]
pub struct Reads {
    origin: MemberId,
    nonce: u64,
    rounds: u64,
    now_tick: u64,
    collecting: Vec<Waiting>,
    in_flight: Option<Round>,
}

impl Reads {
    /// `nonce` is random per process start: contexts differ across restarts.
    pub fn new(origin: MemberId, nonce: u64) -> Reads {
        Reads { origin, nonce, rounds: 0, now_tick: 0, collecting: Vec::new(), in_flight: None }
    }

    /// A read waits.
    pub fn add(&mut self, read: u64) {
        let waiting = Waiting { read, since_tick: self.now_tick };
        match &mut self.in_flight {
            Some(round) if mutant::is(Mutant::ReadJoinsRound) => round.reads.push(waiting),
            _ => self.collecting.push(waiting),
        }
    }

    /// Whether a round could start.
    pub fn wants_round(&self) -> bool {
        self.in_flight.is_none() && !self.collecting.is_empty()
    }

    /// Starts a round under `leader` in `term`; the context is to be stepped at once.
    pub fn start(&mut self, term: Term, leader: MemberId) -> Vec<u8> {
        assert!(self.wants_round(), "one round is in flight at a time");
        self.rounds += 1;
        let context = RequestId { origin: self.origin, nonce: self.nonce, seq: self.rounds }.encode().to_vec();
        let reads = std::mem::take(&mut self.collecting);
        self.in_flight = Some(Round { context: context.clone(), reads, term, leader, age_ticks: 0 });
        context
    }

    /// raft answered `context`: the reads that may be served, if the leader and term are still those of the step.
    pub fn answered(&mut self, context: &[u8], term: Term, leader: MemberId) -> Vec<u64> {
        match self.in_flight.take_if(|round| round.context == context) {
            Some(round) if round.term == term && round.leader == leader => numbers(round.reads),
            Some(round) => {
                self.collecting.splice(0..0, round.reads);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// The round can't be answered any more: its reads move to the next one.
    pub fn abandon(&mut self) {
        if let Some(round) = self.in_flight.take() {
            self.collecting.splice(0..0, round.reads);
        }
    }

    /// Leader or term changed: a round stepped under another is void.
    pub fn leader_changed(&mut self, term: Term, leader: MemberId) {
        if self.in_flight.as_ref().is_some_and(|round| round.term != term || round.leader != leader) {
            self.abandon();
        }
    }

    /// Counts a tick; a round without an answer for `round_ticks_max` is abandoned (raft drops some without a word).
    /// Returns the reads that no round took for `read_ticks_max`: their clients have given up.
    pub fn tick(&mut self, round_ticks_max: usize, read_ticks_max: u64) -> Vec<u64> {
        self.now_tick += 1;
        if let Some(round) = &mut self.in_flight {
            round.age_ticks += 1;
            if round.age_ticks >= round_ticks_max {
                self.abandon();
            }
        }
        let now_tick = self.now_tick;
        let late = |waiting: &mut Waiting| now_tick - waiting.since_tick >= read_ticks_max;
        numbers(self.collecting.extract_if(.., late).collect())
    }

    /// Everything that waits, taken out: the node can't serve reads.
    pub fn fail_all(&mut self) -> Vec<u64> {
        self.abandon();
        numbers(std::mem::take(&mut self.collecting))
    }
}

fn numbers(reads: Vec<Waiting>) -> Vec<u64> {
    reads.into_iter().map(|waiting| waiting.read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_never_joins_a_round_that_was_stepped() {
        let mut reads = Reads::new(1, 9);
        reads.add(1);
        let first = reads.start(5, 1);
        reads.add(2);
        assert_eq!(reads.answered(&first, 5, 1), [1]);
        let second = reads.start(5, 1);
        assert_ne!(first, second);
        assert_eq!(reads.answered(&first, 5, 1), [] as [u64; 0], "a used context matches nothing");
        assert_eq!(reads.answered(&second, 5, 1), [2]);
    }

    #[test]
    fn a_changed_leader_or_term_moves_reads_to_a_new_round_under_a_new_context() {
        let mut reads = Reads::new(1, 9);
        reads.add(1);
        let first = reads.start(5, 2);
        reads.leader_changed(6, 2);
        assert!(reads.wants_round());
        let second = reads.start(6, 2);
        assert!(reads.answered(&first, 6, 2).is_empty());
        assert!(reads.answered(&second, 6, 3).is_empty(), "answered under another leader than it was stepped");
        assert!(reads.wants_round());
    }

    #[test]
    fn a_round_without_an_answer_is_abandoned() {
        let mut reads = Reads::new(1, 9);
        reads.add(1);
        reads.start(5, 2);
        assert!(reads.tick(2, 3).is_empty());
        assert!(!reads.wants_round());
        assert!(reads.tick(2, 3).is_empty());
        assert!(reads.wants_round());
        assert_eq!(reads.tick(2, 3), [1]);
        assert!(!reads.wants_round());
    }
}

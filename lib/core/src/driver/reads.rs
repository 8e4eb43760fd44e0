//! Linearizable reads: many of them share one ReadIndex round (rule N18; Raft thesis, section 6.4). PURE.
//!
//! A read joins only a round that was not stepped yet: while one round is in flight, the next one collects reads. A
//! context is never used twice, so a late answer to an abandoned round matches nothing.
//!
//! A leader counts the round that a follower asks for as one more read of its own next round. So one heartbeat to each
//! member confirms the reads of all members, where raft-rs would send every member one heartbeat for each follower that
//! asks.

use crate::mutant::{self, Mutant};
use crate::types::{Index, MemberId, RequestId, Term};
use bytes::Bytes;

/// A read of a client of this member, and when it came.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    read: u64,
    since_tick: u64,
}

/// A round that a follower asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The follower.
    pub by: MemberId,
    /// Its context, which goes back with the answer.
    pub context: Bytes,
}

/// What a round is for.
#[derive(Debug, Default)]
struct Gathered {
    reads: Vec<Waiting>,
    asked: Vec<Asked>,
}

/// What may be served now.
#[derive(Debug, Default)]
pub struct Confirmed {
    /// Reads of clients of this member.
    reads: Vec<Waiting>,
    /// Rounds that followers asked for.
    pub asked: Vec<Asked>,
}

#[cfg(test)]
impl Confirmed {
    fn numbers(&self) -> Vec<u64> {
        numbers(self.reads.clone())
    }
}

/// Reads of clients of this member that raft confirmed, until the entry at their index is committed here.
#[derive(Debug)]
pub struct Held {
    /// The read index.
    pub index: Index,
    /// The term of the leader that confirmed it.
    pub term: Term,
    reads: Vec<Waiting>,
}

impl Held {
    /// The numbers of the reads.
    pub fn into_reads(self) -> Vec<u64> {
        numbers(self.reads)
    }
}

/// A round in flight.
#[derive(Debug)]
struct Round {
    context: Vec<u8>,
    gathered: Gathered,
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
    collecting: Gathered,
    in_flight: Option<Round>,
    held: Vec<Held>,
}

impl Reads {
    /// `nonce` is random per process start, so that contexts differ across restarts.
    pub fn new(origin: MemberId, nonce: u64) -> Reads {
        Reads {
            origin,
            nonce,
            rounds: 0,
            now_tick: 0,
            collecting: Gathered::default(),
            in_flight: None,
            held: Vec::new(),
        }
    }

    /// Adds a read to the next round.
    pub fn add(&mut self, read: u64) {
        let waiting = Waiting { read, since_tick: self.now_tick };
        self.gathering().reads.push(waiting);
    }

    /// Adds a follower's round. A follower too has one round in flight at a time, so it has given up an earlier one
    /// that still waits here.
    pub fn ask(&mut self, asked: Asked) {
        let gathering = self.gathering();
        gathering.asked.retain(|earlier| earlier.by != asked.by);
        gathering.asked.push(asked);
    }

    fn gathering(&mut self) -> &mut Gathered {
        match &mut self.in_flight {
            Some(round) if mutant::is(Mutant::ReadJoinsRound) => &mut round.gathered,
            _ => &mut self.collecting,
        }
    }

    /// Whether a round could start.
    pub fn wants_round(&self) -> bool {
        let Gathered { reads, asked } = &self.collecting;
        self.in_flight.is_none() && !(reads.is_empty() && asked.is_empty())
    }

    /// Starts a round under `leader` in `term`; its context must be stepped at once.
    pub fn start(&mut self, term: Term, leader: MemberId) -> Vec<u8> {
        assert!(self.wants_round(), "one round is in flight at a time");
        self.rounds += 1;
        let context = RequestId { origin: self.origin, nonce: self.nonce, seq: self.rounds }.encode().to_vec();
        let gathered = std::mem::take(&mut self.collecting);
        self.in_flight = Some(Round { context: context.clone(), gathered, term, leader, age_ticks: 0 });
        context
    }

    /// raft answered `context`; returns what may be served, if leader and term are still those of the round's start.
    pub fn answered(&mut self, context: &[u8], term: Term, leader: MemberId) -> Confirmed {
        let Some(round) = self.in_flight.take_if(|round| round.context == context) else { return Confirmed::default() };
        if round.term == term && round.leader == leader {
            let Gathered { reads, asked } = round.gathered;
            return Confirmed { reads, asked };
        }
        self.move_on(round);
        Confirmed::default()
    }

    /// Keeps what was confirmed by the leader of `term` until the entry at `index` is committed here.
    pub fn hold(&mut self, confirmed: Confirmed, index: Index, term: Term) {
        if !confirmed.reads.is_empty() {
            self.held.push(Held { index, term, reads: confirmed.reads });
        }
    }

    /// Takes out reads that are held for an index up to `committed`.
    pub fn take_committed(&mut self, committed: Index) -> Option<Held> {
        let at = self.held.iter().position(|held| held.index <= committed)?;
        Some(self.held.remove(at))
    }

    /// Moves held reads to the next round.
    pub fn again(&mut self, held: Held) {
        self.collecting.reads.splice(0..0, held.reads);
    }

    /// Gives up the round in flight, which can get no answer, and what is held; their reads move to the next round.
    pub fn abandon_all(&mut self) {
        while let Some(held) = self.take_committed(Index::MAX) {
            self.again(held);
        }
        self.abandon();
    }

    /// Gives up the round in flight, which can get no answer; its reads move to the next one.
    pub fn abandon(&mut self) {
        if let Some(round) = self.in_flight.take() {
            self.move_on(round);
        }
    }

    /// Moves reads only: followers give up their rounds when a leader does, or sooner.
    fn move_on(&mut self, round: Round) {
        self.collecting.reads.splice(0..0, round.gathered.reads);
    }

    /// Leader or term changed: a round that was stepped under the old ones is void, and so is what followers asked.
    pub fn leader_changed(&mut self, term: Term, leader: MemberId) {
        self.collecting.asked.clear();
        if self.in_flight.as_ref().is_some_and(|round| round.term != term || round.leader != leader) {
            self.abandon();
        }
    }

    /// Counts a tick; a round without an answer for `round_ticks_max` is abandoned (raft drops some silently). Returns
    /// the reads that no round took, or that are held, for `read_ticks_max`: their clients have given up.
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
        let mut all: Vec<Waiting> = self.collecting.reads.extract_if(.., late).collect();
        self.held.iter_mut().for_each(|held| all.extend(held.reads.extract_if(.., late)));
        self.held.retain(|held| !held.reads.is_empty());
        numbers(all)
    }

    /// Takes out all reads of clients that wait, since the node cannot serve them.
    pub fn fail_all(&mut self) -> Vec<u64> {
        self.abandon_all();
        numbers(std::mem::take(&mut self.collecting.reads))
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
        assert_eq!(reads.answered(&first, 5, 1).numbers(), [1]);
        let second = reads.start(5, 1);
        assert_ne!(first, second);
        assert!(reads.answered(&first, 5, 1).numbers().is_empty(), "a used context matches nothing");
        assert_eq!(reads.answered(&second, 5, 1).numbers(), [2]);
    }

    #[test]
    fn a_changed_leader_or_term_moves_reads_to_a_new_round_under_a_new_context() {
        let mut reads = Reads::new(1, 9);
        reads.add(1);
        let first = reads.start(5, 2);
        reads.leader_changed(6, 2);
        assert!(reads.wants_round());
        let second = reads.start(6, 2);
        assert!(reads.answered(&first, 6, 2).numbers().is_empty());
        let other_leader = reads.answered(&second, 6, 3);
        assert!(other_leader.numbers().is_empty(), "answered under another leader than it was stepped");
        assert!(reads.wants_round());
    }

    fn asked(by: MemberId, context: &'static [u8]) -> Asked {
        Asked { by, context: Bytes::from_static(context) }
    }

    #[test]
    fn what_followers_ask_goes_with_the_next_round_and_one_of_each_waits() {
        let mut reads = Reads::new(1, 9);
        reads.ask(asked(2, b"a"));
        let first = reads.start(5, 1);
        reads.ask(asked(3, b"b"));
        reads.ask(asked(2, b"c"));
        reads.ask(asked(2, b"d"));
        reads.add(1);
        let served = reads.answered(&first, 5, 1);
        assert_eq!((served.numbers(), served.asked), (vec![], vec![asked(2, b"a")]));
        let second = reads.start(5, 1);
        let served = reads.answered(&second, 5, 1);
        assert_eq!((served.numbers(), served.asked), (vec![1], vec![asked(3, b"b"), asked(2, b"d")]));
    }

    #[test]
    fn what_followers_asked_of_a_leader_ends_with_its_term_or_its_round() {
        let mut reads = Reads::new(1, 9);
        reads.ask(asked(2, b"a"));
        reads.start(5, 1);
        reads.ask(asked(3, b"b"));
        reads.leader_changed(6, 1);
        assert!(!reads.wants_round());
        reads.ask(asked(2, b"c"));
        reads.start(6, 1);
        reads.abandon();
        assert!(!reads.wants_round());
    }

    #[test]
    fn what_was_confirmed_waits_for_its_entry_but_not_for_ever() {
        let mut reads = Reads::new(1, 9);
        reads.add(1);
        let first = reads.start(5, 2);
        let confirmed = reads.answered(&first, 5, 2);
        reads.hold(confirmed, 7, 5);
        assert!(reads.take_committed(6).is_none());
        let held = reads.take_committed(7).expect("its entry is committed");
        assert_eq!((held.index, held.term), (7, 5));
        reads.hold(Confirmed { reads: held.reads, asked: Vec::new() }, 9, 5);
        assert!(reads.tick(9, 2).is_empty());
        assert_eq!(reads.tick(9, 2), [1]);
        assert!(reads.take_committed(9).is_none() && !reads.wants_round());
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

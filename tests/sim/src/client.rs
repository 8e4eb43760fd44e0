//! Clients and their oracle: all the answers they got must fit one order of all writes, in real time.
//!
//! Revisions make the check cheap. Every change has its own revision, and the model knows the value of each key at each
//! revision. So a history is linearizable if: a change's revision is above all that were answered before the change
//! began; a read saw the state at the revision that it names, and that revision is not below any that was answered
//! before the read began; and a write that was answered `none` never happens (`invariants/exactly_once.rs`).

use crate::invariants::{Check, broken};
use crate::model::Model;
use crate::net::Slot;
use crate::rng::Rng;
use bytes::Bytes;
use raftkv_core::kvstore::{Command, Condition, Outcome};
use raftkv_core::refusal::Refusal;
use raftkv_core::types::{RequestId, Revision};
use std::collections::BTreeMap;

/// Steps after which a client gives up; its call may still take effect.
const PATIENCE_STEPS: u64 = 3_000;

/// What clients do, in per mille of all calls; the remaining calls are reads.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Clients, each with one call at a time.
    pub clients: usize,
    /// Keys that they share.
    pub keys: u64,
    /// Unconditional puts.
    pub put_per_mille: u64,
    /// Puts with a condition.
    pub cas_per_mille: u64,
    /// Deletes, half of them with a condition.
    pub delete_per_mille: u64,
    /// Compactions.
    pub compact_per_mille: u64,
    /// Longest value, without the words that tell it from all others.
    pub value_bytes_max: u64,
    /// Whether all values have that length: then records of equal size overwrite each other's places.
    pub is_uniform: bool,
}

/// Identifies a call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ticket {
    /// A write, by its request id.
    Write(RequestId),
    /// A read at this process, by its number there.
    Read(Slot, u64, u64),
}

/// A call in flight.
#[derive(Clone, Debug)]
struct Call {
    client: usize,
    /// The node that was asked; if its process ends, the connection ends too.
    slot: Slot,
    key: Bytes,
    /// Highest revision that any client was told of before this call began.
    floor: Revision,
    deadline: u64,
}

/// Counts for the closing table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// Writes answered with a result.
    pub written: u64,
    /// Reads answered.
    pub read: u64,
    /// Calls answered with outcome `none`.
    pub none: u64,
    /// Calls whose outcome nobody knows.
    pub unknown: u64,
}

/// All clients and the answers that they got.
#[derive(Debug)]
pub struct Clients {
    traffic: Traffic,
    idle: Vec<usize>,
    calls: BTreeMap<Ticket, Call>,
    /// Highest revision that any client was told of.
    floor: Revision,
    values: u64,
    reads: u64,
    /// Every change that was answered: none of these may be missing at the end.
    answered: BTreeMap<Revision, (Bytes, RequestId)>,
    /// Last revision of each key that a client saw, for conditions.
    last_seen: BTreeMap<Bytes, Revision>,
    /// Counts of the calls so far.
    pub counts: Calls,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A command, its key, and whether it needs space.
    Write { command: Command, key: Bytes, grows: bool },
    /// A linearizable read of a key.
    Read { key: Bytes },
}

/// Whether a refused call may have had an effect: then the client can't know the outcome.
pub fn may_have_happened(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Timeout(_) | Refusal::Unknown(_) | Refusal::Internal(_) => true,
        Refusal::Blank
        | Refusal::Opening(_)
        | Refusal::Forming { .. }
        | Refusal::NotAVoter
        | Refusal::Removed
        | Refusal::Quarantined(_)
        | Refusal::Overloaded(_)
        | Refusal::NoLeader
        | Refusal::Dropped(_)
        | Refusal::NoSpace(_)
        | Refusal::Stopping
        | Refusal::NotLeader
        | Refusal::MembersMoved { .. }
        | Refusal::ChangePending
        | Refusal::ChangeRefused(_)
        | Refusal::MemberNotFound(_)
        | Refusal::WouldLoseQuorum(_)
        | Refusal::LeaderRemoval(_)
        | Refusal::TransferFailed(_)
        | Refusal::AlreadyInitialized(_)
        | Refusal::WrongNode(_)
        | Refusal::WrongState(_) => false,
    }
}

impl Clients {
    /// Clients that have not asked for anything yet.
    pub fn new(traffic: Traffic) -> Clients {
        Clients {
            traffic,
            idle: (0..traffic.clients).collect(),
            calls: BTreeMap::new(),
            floor: 1,
            values: 0,
            reads: 0,
            answered: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            counts: Calls::default(),
        }
    }

    /// Whether some client could make a call.
    pub fn is_any_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Draws the next call.
    pub fn draw(&mut self, rng: &mut Rng, revision: Revision) -> Ask {
        let key = Bytes::from(format!("key-{}", rng.below(self.traffic.keys)));
        let Traffic { put_per_mille, cas_per_mille, delete_per_mille, compact_per_mille, .. } = self.traffic;
        let mut draw = rng.below(1000);
        let mut falls_in = |share: u64| {
            let hit = draw < share;
            draw = draw.saturating_sub(share);
            hit
        };
        if falls_in(put_per_mille) {
            return self.put(rng, key, Condition::None);
        }
        if falls_in(cas_per_mille) {
            let condition = self.condition(rng, &key);
            return self.put(rng, key, condition);
        }
        if falls_in(delete_per_mille) {
            let condition = if rng.chance(500) { Condition::None } else { self.condition(rng, &key) };
            return Ask::Write { command: Command::Delete { key: key.clone(), condition }, key, grows: false };
        }
        if falls_in(compact_per_mille) {
            let command = Command::Compact { revision: rng.below(revision) + 1 };
            return Ask::Write { command, key, grows: false };
        }
        Ask::Read { key }
    }

    fn condition(&self, rng: &mut Rng, key: &Bytes) -> Condition {
        match (rng.below(4), self.last_seen.get(key)) {
            (0, _) | (_, None) => Condition::Absent,
            (1, _) => Condition::Exists,
            (_, Some(revision)) => Condition::ModRevision(*revision),
        }
    }

    /// A put of a value that nobody else writes.
    pub fn put(&mut self, rng: &mut Rng, key: Bytes, condition: Condition) -> Ask {
        self.values += 1;
        let mut value = format!("value-{:06}-", self.values).into_bytes();
        let Traffic { value_bytes_max, is_uniform, .. } = self.traffic;
        let more = if is_uniform { value_bytes_max } else { rng.below(value_bytes_max) };
        value.resize(value.len() + more as usize, b'.');
        Ask::Write { command: Command::Put { key: key.clone(), value: value.into(), condition }, key, grows: true }
    }

    /// The number of the next read.
    pub fn next_read(&mut self) -> u64 {
        self.reads += 1;
        self.reads
    }

    /// Records that a call begins.
    pub fn began(&mut self, ticket: Ticket, slot: Slot, key: Bytes, now: u64) {
        let client = self.idle.pop().expect("only an idle client asks");
        let call = Call { client, slot, key, floor: self.floor, deadline: now + PATIENCE_STEPS };
        self.calls.insert(ticket, call);
    }

    /// Key of a read that is in flight.
    pub fn key_of(&self, ticket: &Ticket) -> Option<Bytes> {
        self.calls.get(ticket).map(|call| call.key.clone())
    }

    fn end(&mut self, ticket: &Ticket) -> Option<Call> {
        let call = self.calls.remove(ticket)?;
        self.idle.push(call.client);
        Some(call)
    }

    /// Checks the answer to a write that was applied at the node that was asked.
    pub fn written(&mut self, request: RequestId, outcome: &Outcome) -> Check {
        let Some(call) = self.end(&Ticket::Write(request)) else { return Ok(()) };
        self.counts.written += 1;
        let (revision, changed) = match outcome {
            Outcome::Put { revision, .. } => (*revision, true),
            Outcome::Deleted { revision, deleted } => (*revision, *deleted),
            Outcome::ConditionFailed { revision, current } => {
                if let Some(current) = current {
                    self.last_seen.insert(call.key.clone(), *current);
                }
                (*revision, false)
            }
            // It says nothing about the store's newest revision.
            Outcome::Compacted { .. } => return Ok(()),
        };
        if revision < call.floor + u64::from(changed) {
            let what = format!("a write got revision {revision}, but {} was answered before it began", call.floor);
            return broken("client", what);
        }
        self.floor = self.floor.max(revision);
        if changed {
            self.last_seen.insert(call.key.clone(), revision);
            if let Some((key, other)) = self.answered.insert(revision, (call.key, request)) {
                return broken("client", format!("{request:?} and {other:?} (key {key:?}) share revision {revision}"));
            }
        }
        Ok(())
    }

    /// Takes a refusal of a write; true when the write certainly has no effect.
    pub fn refused(&mut self, request: RequestId, refusal: &Refusal) -> bool {
        let unknown = may_have_happened(refusal);
        if self.end(&Ticket::Write(request)).is_some() {
            self.counts.unknown += u64::from(unknown);
            self.counts.none += u64::from(!unknown);
        }
        !unknown
    }

    /// Checks the answer to a read: this value at this revision.
    pub fn read(&mut self, ticket: &Ticket, revision: Revision, value: Option<&Bytes>, model: &Model) -> Check {
        let Some(call) = self.end(ticket) else { return Ok(()) };
        self.counts.read += 1;
        if revision < call.floor {
            let what = format!("a read saw revision {revision}, but {} was answered before it began", call.floor);
            return broken("client", what);
        }
        let expected = model.value_at(&call.key, revision);
        if expected != value {
            let what = format!("a read of {:?} at revision {revision} saw {value:?}, not {expected:?}", call.key);
            return broken("client", what);
        }
        self.floor = self.floor.max(revision);
        Ok(())
    }

    /// Records that a read can't be answered.
    pub fn read_failed(&mut self, ticket: &Ticket) {
        if self.end(ticket).is_some() {
            self.counts.none += 1;
        }
    }

    /// Ends the calls to a process that ended: their outcome is unknown.
    pub fn disconnected(&mut self, slot: Slot) {
        self.give_up(|call| call.slot == slot);
    }

    /// Ends the calls that waited too long: their outcome is unknown.
    pub fn lose_patience(&mut self, now: u64) {
        self.give_up(|call| call.deadline <= now);
    }

    fn give_up(&mut self, which: impl Fn(&Call) -> bool) {
        let tickets: Vec<Ticket> = self.calls.iter().filter(|(_, call)| which(call)).map(|(t, _)| *t).collect();
        for ticket in tickets {
            self.end(&ticket);
            self.counts.unknown += 1;
        }
    }

    /// Checks that no answered change is missing from the order of all changes.
    pub fn check_nothing_is_lost(&self, model: &Model) -> Check {
        match self.answered.last_key_value() {
            Some((revision, (key, request))) if *revision > model.revision() => {
                broken("client", format!("{request:?} ({key:?}) was answered with revision {revision}, which is lost"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

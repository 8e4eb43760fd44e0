//! What must hold after every step, one file per invariant.
//!
//! | file | what must hold | where it comes from |
//! |---|---|---|
//! | `election_safety` | a term has at most one leader | Raft paper 5.2, figure 3 |
//! | `log_matching` | entries of equal index and term are equal, and so are all before them | Raft paper 5.3, figure 3 |
//! | `leader_completeness` | a new leader has every entry committed in earlier terms | Raft paper 5.4, figure 3 |
//! | `state_machine_safety` | nobody applies another entry, result or state at an index | Raft paper 5.4.3, figure 3 |
//! | `commit_on_quorum` | what is committed is on the disks of a quorum | Raft paper 5.3; thesis 10.2.1; rules N2, N9 |
//! | `promises` | no vote or acknowledgement leaves before it is durable | Raft paper figure 2; rules N2, N6 |
//! | `one_vote` | a member votes once in a term, restarts included | Raft paper 5.2; rule N1 |
//! | `durability` | a restart finds all that was durable | Raft paper figure 2; rules N1, N2, N8, N14 |
//! | `monotonic` | term, commit and applied never fall in one run of a process | Raft paper figure 2; rule N9 |
//! | `order` | first index <= snapshot + 1, applied <= commit <= last index | Raft paper 7; rule N8 |
//! | `one_change` | one membership change is in flight | Raft thesis 4.1; rule N3 |
//! | `same_membership` | the membership at a conf index is the same everywhere | rules N3, N8, N12 |
//! | `removed_ids` | members leave only into the removed set; no id is used twice; a 410 is true | rule N4; design 4 |
//! | `exactly_once` | a request is applied at most once, and never after it was answered `none` | rule N5 |
//!
//! The clients' own check (every read and write by its revision) is [`crate::client`].

mod commit_on_quorum;
mod durability;
mod election_safety;
mod exactly_once;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod one_change;
mod one_vote;
mod order;
mod promises;
mod removed_ids;
mod same_membership;
mod state_machine_safety;
mod witness;

pub use state_machine_safety::History;

use crate::net::Slot;
use raft::prelude::Message;
use raftkv_api::StateHash;
use raftkv_core::driver::DriverStatus;
use raftkv_core::kvstore::{Applied, Committed};
use raftkv_core::log::Log;
use raftkv_core::membership::Membership;
use raftkv_core::types::{Index, MemberId, RequestId, Term};
use std::collections::BTreeMap;
use witness::Witness;

/// An invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of its file.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// The result of a check.
pub type Check = Result<(), Violation>;

/// Ends a check: the invariant does not hold.
pub fn broken<T>(invariant: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation { invariant, what })
}

/// All invariants and what they remember.
#[derive(Debug, Default)]
pub struct Invariants {
    /// What each member's disk promised to keep.
    witnesses: BTreeMap<MemberId, Witness>,
    /// The last look at each slot's running process.
    seen: BTreeMap<Slot, DriverStatus>,
    elections: election_safety::Elections,
    entries: log_matching::Entries,
    completeness: leader_completeness::Commits,
    /// What was applied, by everyone together.
    pub history: History,
    committed: Index,
    votes: one_vote::Votes,
    memberships: same_membership::Memberships,
    ids: removed_ids::Ids,
    requests: exactly_once::Requests,
}

impl Invariants {
    /// Checks a process after a step.
    pub fn looked(&mut self, slot: Slot, now: DriverStatus, log: &Log) -> Check {
        let before = self.seen.get(&slot);
        self.elections.check(&now)?;
        monotonic::check(before, &now)?;
        order::check(&now)?;
        if before.is_none_or(|before| before.term != now.term || before.role != now.role) {
            self.completeness.check_leader(&now, log)?;
        }
        if before.is_none_or(|before| before.membership.conf_index != now.membership.conf_index) {
            self.memberships.check(&now.membership, now.id)?;
            self.ids.check(&now.membership)?;
        }
        if now.commit > self.committed {
            let was: &Membership = before.map_or(&now.membership, |before| &before.membership);
            commit_on_quorum::check(&now, was, log, &self.witnesses)?;
            self.committed = now.commit;
        }
        if before.is_none_or(|before| before.commit != now.commit) {
            self.completeness.note(&now, log);
        }
        self.ids.durable(now.id, now.durable_conf_index);
        self.seen.insert(slot, now);
        Ok(())
    }

    /// A member's log became durable up to `last_index`, and so did its term; `log` is what raft reads at that moment.
    pub fn durable(&mut self, id: MemberId, log: &Log, last_index: Index, term: Term) -> Check {
        let witness = self.witnesses.entry(id).or_default();
        witness.term = witness.term.max(term);
        let low = witness.follow(log, last_index);
        self.entries.check(id, witness, low)?;
        one_change::check(id, witness, self.committed)
    }

    /// The same for a member that forgot what it promised: it may acknowledge what it has by now.
    pub fn durable_again(&mut self, id: MemberId, log: &Log, last_index: Index, term: Term) {
        let witness = self.witnesses.entry(id).or_default();
        witness.term = witness.term.max(term);
        witness.learn(log, last_index);
    }

    /// A raft message leaves a process.
    pub fn sent(&mut self, message: &Message) -> Check {
        let witness = self.witnesses.entry(message.from).or_default();
        promises::check(message, witness)?;
        self.votes.check(message)
    }

    /// A process started.
    pub fn started(&mut self, slot: Slot, status: &DriverStatus, log: &Log) -> Check {
        self.seen.remove(&slot);
        let witness = self.witnesses.entry(status.id).or_default();
        durability::check(status, log, witness)?;
        let low = witness.follow(log, log.last_index());
        witness.term = status.durable_term;
        witness.replacing_from = None;
        self.entries.check(status.id, witness, low)
    }

    /// Whether a directory with this log still holds all that its member promised.
    pub fn keeps(&self, status: &DriverStatus, log: &Log) -> bool {
        let keeps_log = |witness: &Witness| durability::check(status, log, witness).is_ok();
        let hard_state = log.hard_state();
        let vote = self.votes.given(status.id, hard_state.term);
        self.witnesses.get(&status.id).is_none_or(keeps_log) && vote.is_none_or(|vote| vote == hard_state.vote)
    }

    /// A process ended; `log` is what it held in memory, if that can have been on its way to the disk.
    pub fn ended(&mut self, slot: Slot, id: MemberId, log: Option<&Log>) {
        self.seen.remove(&slot);
        if let Some(log) = log {
            self.witnesses.entry(id).or_default().interrupted(log);
        }
    }

    /// A process applied entries.
    pub fn applied(&mut self, id: MemberId, items: &[Committed], results: &[Applied], hash: &StateHash) -> Check {
        for (item, result) in items.iter().zip(results) {
            self.history.check(id, item, result)?;
            if let Committed::Normal { index, request: Some(request), .. } = item {
                self.requests.applied(*request, *index)?;
            }
        }
        self.history.check_hash(id, hash)
    }

    /// A client was told that its request has no effect.
    pub fn answered_none(&mut self, request: RequestId) -> Check {
        self.requests.answered_none(request)
    }

    /// A member is told that it was removed, by the one that shows this.
    pub fn told_removed(&mut self, id: MemberId, by: &DriverStatus) -> Check {
        self.ids.durable(by.id, by.durable_conf_index);
        self.ids.check_told(id, &by.membership)
    }

    /// Highest index that anyone knows to be committed.
    pub fn committed(&self) -> Index {
        self.committed
    }
}

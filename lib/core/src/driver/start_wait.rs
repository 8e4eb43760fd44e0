//! After a start, no campaign and no vote before those who may remember more of this member than its disk have answered
//! its hello (rule N20). PURE.
//!
//! Enters: the other voters' answers, ticks, and requests for votes. Leaves: those requests, stepped when the wait is
//! over. It lasts one election timeout at most: a member that is opening, hung, paused or dead holds nobody up.

use super::Driver;
use crate::limits::{CANDIDATES_KEPT_MAX, HELLO_WAIT_TICKS, MIN_ELECTION_TICKS};
use crate::mutant::{self, Mutant};
use crate::types::MemberId;
use raft::prelude::Message;
use std::collections::{BTreeMap, BTreeSet};

// When everybody starts together and one member is dead, nobody loses time by the wait.
const _: () =
    assert!(HELLO_WAIT_TICKS < MIN_ELECTION_TICKS as u64, "the wait ends before the shortest election timeout");

/// The wait, while it lasts.
#[derive(Debug, Default)]
pub struct StartWait {
    /// Tick at which the others were dialled.
    dialled_at: Option<u64>,
    answered: BTreeSet<MemberId>,
    /// The newest request for a vote of each candidate.
    requests: BTreeMap<MemberId, Message>,
}

impl Driver {
    /// Begins the wait, unless there is nobody to wait for.
    pub(super) fn begin_start_wait(&mut self) {
        self.start_wait = (!mutant::is(Mutant::NoWaitAtStart)).then(StartWait::default);
        self.end_start_wait_if_over();
    }

    /// The effects are taken, so that the other members are dialled now.
    pub(super) fn note_dialled(&mut self) {
        if let Some(wait) = &mut self.start_wait {
            wait.dialled_at.get_or_insert(self.now_tick);
        }
    }

    /// Whether this member waits for answers to its hello.
    pub(super) fn waits_at_start(&self) -> bool {
        self.start_wait.is_some()
    }

    /// The other voters whose answer to its hello this member waits for; none once the wait is over.
    pub fn unanswered(&self) -> Vec<MemberId> {
        let Some(wait) = &self.start_wait else { return Vec::new() };
        let members = self.membership.members.keys().copied();
        let waits_for = |id: &MemberId| *id != self.identity.member_id && self.membership.votes(*id);
        members.filter(waits_for).filter(|id| !wait.answered.contains(id)).collect()
    }

    pub(super) fn hello_answered(&mut self, by: MemberId) {
        if let Some(wait) = &mut self.start_wait {
            wait.answered.insert(by);
            self.end_start_wait_if_over();
        }
    }

    /// Steps a request for a vote, or keeps it while this member waits.
    pub(super) fn vote_requested(&mut self, message: Message) {
        let Some(wait) = &mut self.start_wait else { return self.step_raft(message) };
        if wait.requests.len() < CANDIDATES_KEPT_MAX || wait.requests.contains_key(&message.from) {
            wait.requests.insert(message.from, message);
        }
    }

    pub(super) fn end_start_wait_if_over(&mut self) {
        let Some(wait) = &self.start_wait else { return };
        let is_late = wait.dialled_at.is_some_and(|tick| self.now_tick - tick >= HELLO_WAIT_TICKS);
        if (is_late || self.unanswered().is_empty())
            && let Some(wait) = self.start_wait.take()
        {
            wait.requests.into_values().for_each(|request| self.step_raft(request));
        }
    }
}

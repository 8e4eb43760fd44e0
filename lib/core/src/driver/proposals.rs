//! What becomes of commands that wait: each is taken at most once, and no outcome is reported wrongly (rule N5). PURE.
//!
//! A command waits here until a batch may be stepped. Once appended (here or at the leader) it is known by (index,
//! term). If an entry of another term is handed out at its index, the command certainly has no effect. If its own entry
//! is handed out, apply answers it by its request id.

use crate::driver::MembershipCall;
use crate::limits::{FORWARD_RUNS_MAX, FORWARD_WINDOW, PROPOSE_QUEUE_BYTES_MAX};
use crate::mutant::{self, Mutant};
use crate::types::{Index, MemberId, RequestId, Term};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes that an entry needs in the log besides its command: header, context, padding.
const ENTRY_OVERHEAD_BYTES: usize = 96;
/// Bytes of a membership change in the log: its context is a small JSON object.
const CHANGE_BYTES: usize = 1024;

/// A command or membership call that has not been stepped yet.
#[derive(Debug)]
pub enum Waiting {
    /// Taken from a client of this node.
    Command { request: RequestId, data: Bytes, grows: bool },
    /// Forwarded to this member in this term.
    Forwarded { from: MemberId, term: Term, request: RequestId, data: Bytes, grows: bool },
    /// A membership call.
    Change { request: RequestId, call: MembershipCall, if_match: Index },
}

impl Waiting {
    /// Bytes that it adds to the log, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Waiting::Command { data, .. } | Waiting::Forwarded { data, .. } => data.len() + ENTRY_OVERHEAD_BYTES,
            Waiting::Change { .. } => CHANGE_BYTES,
        }
    }
}

/// Sequence numbers seen from one run of one origin's process.
#[derive(Debug, Default)]
struct Window {
    seen: BTreeSet<u64>,
    /// Everything at or below it counts as seen.
    floor: u64,
}

impl Window {
    fn has(&self, seq: u64) -> bool {
        seq <= self.floor || self.seen.contains(&seq)
    }

    fn is_new(&mut self, seq: u64) -> bool {
        if self.has(seq) {
            return false;
        }
        self.seen.insert(seq);
        while self.seen.len() > FORWARD_WINDOW {
            self.floor = self.seen.pop_first().expect("longer than the window");
        }
        true
    }
}

/// The commands of one member.
#[derive(Debug, Default)]
pub struct Proposals {
    /// In order of arrival.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Our requests that are appended at (index, term) and not handed out yet. One index may occur twice: the leader of
    /// a later term may give it again before anyone knows which entry stands there.
    appended: BTreeMap<(Index, Term), RequestId>,
    /// Our requests that were sent to a leader and not answered yet, each with the tick at which it was sent.
    forwarded: BTreeMap<RequestId, u64>,
    /// The newest term in which a forward was taken here.
    windows_term: Term,
    /// What was forwarded to this member in that term: of each origin its runs by nonce, the newest last.
    windows: BTreeMap<MemberId, VecDeque<(u64, Window)>>,
}

impl Proposals {
    /// Lets a call wait; false when the queue is full of others and it was not taken. The limit on waiting clients does
    /// not bound this queue: on a slow disk, clients give up while their commands still wait here.
    pub fn wait(&mut self, call: Waiting) -> bool {
        let bytes = call.bytes();
        let fits = self.waiting.is_empty() || self.waiting_bytes + bytes <= PROPOSE_QUEUE_BYTES_MAX;
        if fits {
            self.waiting_bytes += bytes;
            self.waiting.push_back(call);
        }
        fits
    }

    /// Takes the call that has waited longest.
    pub fn next_waiting(&mut self) -> Option<Waiting> {
        let call = self.waiting.pop_front()?;
        self.waiting_bytes -= call.bytes();
        Some(call)
    }

    /// Number of calls that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a forward of this term was taken before, or may have been and is forgotten; then nobody may call it
    /// refused.
    pub fn may_have_taken(&self, term: Term, request: &RequestId) -> bool {
        let mut runs = self.windows.get(&request.origin).into_iter().flatten();
        let mut seen = || runs.any(|(nonce, window)| *nonce == request.nonce && window.has(request.seq));
        let taken = term < self.windows_term || (term == self.windows_term && seen());
        taken && !mutant::is(Mutant::ForwardTwice)
    }

    /// Whether a forward is seen for the first time in this term, which we lead.
    pub fn is_new_forward(&mut self, term: Term, request: &RequestId) -> bool {
        if term > self.windows_term {
            self.windows_term = term;
            self.windows.clear();
        }
        let runs = self.windows.entry(request.origin).or_default();
        if let Some((_, window)) = runs.iter_mut().rfind(|(nonce, _)| *nonce == request.nonce) {
            return window.is_new(request.seq);
        }
        if runs.len() == FORWARD_RUNS_MAX {
            runs.pop_front();
        }
        let mut window = Window::default();
        window.is_new(request.seq);
        runs.push_back((request.nonce, window));
        true
    }

    /// Forgets what members forwarded that are not to be kept; nothing of theirs may be taken any more.
    pub fn retain_origins(&mut self, keep: impl Fn(MemberId) -> bool) {
        self.windows.retain(|origin, _| keep(*origin));
    }

    /// Notes that our request stands at (index, term).
    pub fn appended(&mut self, request: RequestId, index: Index, term: Term) {
        self.forwarded.remove(&request);
        self.appended.insert((index, term), request);
    }

    /// Notes that our request was sent to the leader.
    pub fn forwarded(&mut self, request: RequestId, now_tick: u64) {
        self.forwarded.insert(request, now_tick);
    }

    /// Takes out the requests that were sent at or before `tick` and not answered: the answer was lost, and their
    /// clients have given up. Requests are numbered in the order in which they are sent.
    pub fn expire_forwards(&mut self, tick: u64) -> Vec<RequestId> {
        let mut expired = Vec::new();
        while let Some(first) = self.forwarded.first_entry()
            && *first.get() <= tick
        {
            expired.push(first.remove_entry().0);
        }
        expired
    }

    /// The leader answered, or was never asked; false when the request does not wait for its answer.
    pub fn forward_ended(&mut self, request: &RequestId) -> bool {
        self.forwarded.remove(request).is_some()
    }

    /// An entry is handed out; returns our requests that lost their place to it.
    pub fn handed_out(&mut self, index: Index, term: Term) -> Vec<RequestId> {
        let mut here = self.take_up_to(index);
        here.retain(|(_, expected), _| *expected != term);
        here.into_values().collect()
    }

    /// A snapshot covers everything up to `index`; returns our requests there, which may or may not be in it.
    pub fn installed(&mut self, index: Index) -> Vec<RequestId> {
        self.take_up_to(index).into_values().collect()
    }

    fn take_up_to(&mut self, index: Index) -> BTreeMap<(Index, Term), RequestId> {
        let rest = self.appended.split_off(&(index + 1, 0));
        std::mem::replace(&mut self.appended, rest)
    }

    /// Leader or term changed; returns the requests that were forwarded and are not known to be appended: their outcome
    /// stays unknown.
    pub fn leader_changed(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.forwarded).into_keys().collect()
    }

    /// Takes out all our requests that are appended or forwarded: from here on the node serves no client.
    pub fn fail_all(&mut self) -> Vec<RequestId> {
        let appended = std::mem::take(&mut self.appended).into_values();
        appended.chain(std::mem::take(&mut self.forwarded).into_keys()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_whose_answer_is_lost_does_not_wait_for_ever() {
        let mut proposals = Proposals::default();
        proposals.forwarded(request(1), 10);
        proposals.forwarded(request(2), 20);
        assert_eq!(proposals.expire_forwards(15), [request(1)]);
        assert!(!proposals.forward_ended(&request(1)) && proposals.forward_ended(&request(2)));
    }

    fn request(seq: u64) -> RequestId {
        RequestId { origin: 2, nonce: 7, seq }
    }

    #[test]
    fn a_forward_is_new_once_in_a_term_also_beyond_the_window() {
        let mut proposals = Proposals::default();
        assert!(!proposals.may_have_taken(5, &request(1)));
        assert!(proposals.is_new_forward(5, &request(1)));
        assert!(proposals.may_have_taken(5, &request(1)) && !proposals.is_new_forward(5, &request(1)));
        for seq in 2..=FORWARD_WINDOW as u64 + 2 {
            assert!(proposals.is_new_forward(5, &request(seq)));
        }
        assert!(!proposals.is_new_forward(5, &request(1)), "fell out of the window: not taken twice");
        assert!(!proposals.may_have_taken(6, &request(1)));
        assert!(proposals.is_new_forward(6, &request(1)), "a frame of the old term fails its term check instead");
        assert!(proposals.may_have_taken(5, &request(9)), "what was taken in an older term is forgotten");
    }

    #[test]
    fn what_is_remembered_of_forwards_is_bounded_by_members_and_their_last_runs() {
        let mut proposals = Proposals::default();
        let of = |origin, nonce| RequestId { origin, nonce, seq: 1 };
        for origin in 2..1_000 {
            proposals.is_new_forward(5, &of(origin, 7));
            proposals.retain_origins(|id| id + 2 > origin);
        }
        for nonce in 1_000..2_000 {
            assert!(proposals.is_new_forward(5, &of(999, nonce)));
        }
        assert!(proposals.may_have_taken(5, &of(999, 2_000 - FORWARD_RUNS_MAX as u64)));
        let remembered: usize = proposals.windows.values().map(VecDeque::len).sum();
        assert_eq!((proposals.windows.len(), remembered), (2, FORWARD_RUNS_MAX + 1));
    }

    #[test]
    fn an_entry_of_another_term_at_its_index_means_no_effect() {
        let mut proposals = Proposals::default();
        proposals.appended(request(1), 10, 3);
        proposals.appended(request(2), 11, 3);
        assert_eq!(proposals.handed_out(10, 3), [], "apply answers it");
        assert_eq!(proposals.handed_out(11, 4), [request(2)]);
    }

    #[test]
    fn a_snapshot_over_its_index_makes_a_request_unknown() {
        let mut proposals = Proposals::default();
        proposals.appended(request(1), 10, 3);
        proposals.appended(request(2), 20, 3);
        assert_eq!(proposals.installed(15), [request(1)]);
        assert_eq!(proposals.fail_all(), [request(2)]);
    }
}

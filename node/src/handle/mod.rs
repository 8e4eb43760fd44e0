//! The handle through which everything outside the raft thread (the HTTP API, the transport, signals) speaks to it.
//!
//! Cheap to clone. Each call enters one bounded queue or reads published state; none touches raft or the disk.

mod peer_events;
mod status;
mod untold;

pub use raftkv_core::refusal::Refusal;
pub use status::judged;

use crate::config::Config;
use crate::raft_node::desk::Desk;
use crate::raft_node::disk_space::Part;
use crate::raft_node::shared::{Phase, Published, Shared};
use crate::raft_node::waiters::{Reply, Waiters};
use crate::raft_node::{Input, Queue};
use raftkv_api as api;
use raftkv_core::driver::{Answer, ChangeDone, DriverStatus, Event, MembershipCall, Role};
use raftkv_core::kvstore::{Command, Outcome, View};
use raftkv_core::limits;
use raftkv_core::types::{Index, MemberId, RequestId, Revision};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// A background read must have succeeded within this for the node to be ready (rule O11).
const READY_READ_MS: u64 = 5_000;
/// livez fails when the raft thread has not turned for this long.
const RAFT_STUCK_MS: u64 = 10_000;
/// The same while it opens the directory. There it waits for sled, and may read a GiB before it next records a turn: a
/// node that is killed for that begins again from the start.
const OPENING_STUCK_MS: u64 = limits::SLED_OPEN_TIMEOUT_MS + 30_000;
/// livez fails when the apply thread has work and has made no progress for this long.
const APPLY_STUCK_MS: u64 = 60_000;
/// livez fails when one sync of the log has been running for this long; one that waits for space is none (rule N26).
const SYNC_STUCK_MS: u64 = 60_000;

/// The handle.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    /// The desk of the client thread whose tasks use this handle.
    desk: Option<Arc<Desk>>,
}

/// Returns the place in the queue when the client's task ends, also when the task is cancelled.
struct Admission<'a> {
    queue: &'a Queue,
    bytes: usize,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.queue.leave(self.bytes);
    }
}

/// Forgets an unanswered request when its task ends, also when the task is cancelled.
struct Unanswered<'a> {
    waiters: &'a Waiters,
    seq: u64,
    answered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.waiters.forget_request(self.seq);
        }
    }
}

impl Node {
    /// A handle on what the raft thread publishes.
    pub fn new(shared: Arc<Shared>) -> Node {
        Node { shared, desk: None }
    }

    /// The same for the tasks of one client thread.
    pub fn at(&self, desk: Arc<Desk>) -> Node {
        Node { shared: self.shared.clone(), desk: Some(desk) }
    }

    /// Replicates a command and answers after it is committed and applied here. Times out after
    /// [`limits::WRITE_TIMEOUT_MS`] with [`Refusal::Timeout`], whose outcome is unknown.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Refusal> {
        let published = self.serving()?;
        if self.shared.view().is_none() {
            return Err(self.opening());
        }
        // This holds whoever leads, because a write is answered once it is applied here.
        if let Some(why) = self.shared.space.why_full() {
            self.shared.metrics.proposals_failed_total.inc();
            return Err(Refusal::NoSpace(format!("{}: {why}", self.config().name)));
        }
        let grows = matches!(command, Command::Put { .. });
        let data = command.encode();
        let bytes = data.len();
        let queue = &self.shared.proposals;
        if !queue.enter(bytes, limits::PROPOSE_QUEUE_MAX, limits::PROPOSE_QUEUE_BYTES_MAX) {
            self.shared.metrics.proposals_failed_total.inc();
            return Err(Refusal::Overloaded("the propose queue"));
        }
        let _admission = Admission { queue, bytes };
        let request = self.new_request(&published);
        let reply = self.ask(request, Event::Propose { request, data, grows }, limits::WRITE_TIMEOUT_MS).await;
        match reply {
            Ok(Reply::Applied(outcome)) => Ok(outcome),
            Ok(Reply::Decided(answer)) => {
                self.shared.metrics.proposals_failed_total.inc();
                Err(refusal_in(answer))
            }
            Err(refusal) => {
                self.shared.metrics.proposals_failed_total.inc();
                Err(refusal)
            }
        }
    }

    /// On `Ok`, the view reflects every write acknowledged anywhere before this call (ReadIndex).
    pub async fn read_barrier(&self) -> Result<Arc<View>, Refusal> {
        self.serving()?;
        self.barrier().await
    }

    /// The barrier without the check whether clients are served yet.
    async fn barrier(&self) -> Result<Arc<View>, Refusal> {
        if self.shared.view().is_none() {
            return Err(self.opening());
        }
        if let Some(why) = self.asks_nobody() {
            return Err(why);
        }
        let queue = &self.shared.reads;
        if !queue.enter(0, limits::READ_QUEUE_MAX, usize::MAX) {
            return Err(Refusal::Overloaded("the read queue"));
        }
        let _admission = Admission { queue, bytes: 0 };
        let receiver = match &self.desk {
            Some(desk) => desk.read(),
            None => {
                let (to, receiver) = oneshot::channel();
                let read = self.shared.new_read(vec![to], None);
                if !self.shared.send(Input::Event(read)) {
                    return Err(Refusal::Stopping);
                }
                receiver
            }
        };
        match in_time(receiver, limits::READ_TIMEOUT_MS).await {
            Ok(read) => read.unwrap_or(Err(Refusal::Stopping))?,
            // Only the wait for a leader that a majority confirms takes this long, and this reason says more than the
            // time.
            Err(_) => return Err(Refusal::NoLeader),
        }
        self.shared.view().ok_or_else(|| self.opening())
    }

    /// Why this node asks for no read index: a follower's messages wait for its log, and the log waits for space
    /// (rules N6, N11).
    fn asks_nobody(&self) -> Option<Refusal> {
        let leads = || self.shared.published().driver.as_ref().is_some_and(|driver| driver.role == Role::Leader);
        self.shared.space.refusal(Part::Log).filter(|_| !leads())
    }

    /// The view for a stale read; refused before the kv db is proved, and on Blank, Removed and Quarantined nodes.
    pub fn stale_view(&self) -> Result<Arc<View>, Refusal> {
        self.serving()?;
        self.shared.view().ok_or_else(|| self.opening())
    }

    /// The members, read linearizably.
    pub async fn members(&self) -> Result<api::Members, Refusal> {
        self.running()?;
        self.barrier().await?;
        status::members(&self.shared).ok_or(Refusal::Blank)
    }

    /// A membership change, fenced by the conf index that the caller read.
    pub async fn change(&self, call: MembershipCall, if_match: Index) -> Result<ChangeDone, Refusal> {
        let request = self.new_request(&*self.running()?);
        let event = Event::Change { request, call, if_match };
        match self.ask(request, event, limits::CHANGE_TIMEOUT_MS).await? {
            Reply::Decided(Answer::Changed(done)) => Ok(done),
            Reply::Decided(answer) => Err(refusal_in(answer)),
            Reply::Applied(_) => Err(wrong_answer()),
        }
    }

    /// Moves leadership; answers when the other voter leads. `None` chooses the most caught-up voter.
    pub async fn transfer(&self, to: Option<MemberId>) -> Result<MemberId, Refusal> {
        let request = self.new_request(&*self.running()?);
        match self.ask(request, Event::Transfer { request, to }, limits::CHANGE_TIMEOUT_MS).await? {
            Reply::Decided(Answer::Transferred(leader)) => Ok(leader),
            Reply::Decided(answer) => Err(refusal_in(answer)),
            Reply::Applied(_) => Err(wrong_answer()),
        }
    }

    /// Makes this Blank node the first voter of a new cluster.
    pub async fn init(&self, init: api::Init) -> Result<api::InitDone, Refusal> {
        let (reply, receiver) = oneshot::channel();
        self.shared.send(Input::Init { init: Box::new(init), reply });
        in_time(receiver, limits::CHANGE_TIMEOUT_MS).await?.unwrap_or(Err(Refusal::Stopping))
    }

    /// Sets the data of a Removed or Quarantined node aside; the process restarts itself as Blank. A learner that nobody
    /// could tell of its removal asks the members first.
    pub async fn reset(&self, reset: api::Reset) -> Result<(), Refusal> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(Refusal::Stopping);
        }
        let removed = untold::ask(self, &reset).await?;
        let (reply, receiver) = oneshot::channel();
        self.shared.send(Input::Reset { reset, removed, reply });
        in_time(receiver, limits::CHANGE_TIMEOUT_MS).await?.unwrap_or(Err(Refusal::Stopping))
    }

    /// Milliseconds since a leader was heard of (0 on the leader); `None` if never.
    pub fn leader_contact_ms(&self) -> Option<u64> {
        let published = self.shared.published();
        published.driver.as_ref()?.leader_contact_ticks.map(|ticks| ticks * limits::TICK_MS)
    }

    /// The whole status, in every state of the node.
    pub fn status(&self) -> api::Status {
        let serves = self.serves().err().map_or(api::Serves::Yes, |(word, _)| word);
        status::status(&self.shared, serves)
    }

    /// The leader, for error answers.
    pub fn leader(&self) -> Option<api::LeaderRef> {
        status::leader(&self.shared, self.shared.published().driver.as_ref()?)
    }

    /// Whether the loops turn (livez): `Err` says which one does not.
    pub fn alive(&self) -> Result<(), String> {
        let (raft_ms, apply_ms) = (self.shared.raft_idle_ms(), self.shared.apply_stuck_ms());
        if raft_ms > raft_stuck_ms(&self.shared.published().phase) {
            return Err(format!("the raft thread has not turned for {raft_ms} ms"));
        }
        if apply_ms > APPLY_STUCK_MS {
            return Err(format!("the apply thread has had work and not got on for {apply_ms} ms"));
        }
        let sync_ms = self.shared.log_sync_ms();
        if sync_ms > SYNC_STUCK_MS {
            return Err(format!("a sync of the log has been running for {sync_ms} ms"));
        }
        Ok(())
    }

    /// Whether a background linearizable read succeeded in the last 5 s on a voter (readyz, rule O11); else why not, in
    /// a word and in a sentence.
    pub fn serves(&self) -> Result<(), (api::Serves, String)> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(unserved(&Refusal::Stopping));
        }
        let published = self.serving().map_err(|refusal| unserved(&refusal))?;
        if !votes(&published) {
            return Err(unserved(&Refusal::NotAVoter));
        }
        if self.shared.view().is_none() {
            let (_, why) = unserved(&self.opening());
            let installs = self.shared.kv().0 == api::KvState::Installing;
            return Err((if installs { api::Serves::Installing } else { api::Serves::Opening }, why));
        }
        let no_read = |why: String| Err((api::Serves::NoRead, why));
        match self.shared.since_read_ms() {
            Some(ms) if ms <= READY_READ_MS => Ok(()),
            Some(ms) => no_read(format!("no linearizable read has succeeded for {ms} ms")),
            None => no_read("no linearizable read has succeeded yet".to_string()),
        }
    }

    /// Whether the node is a voter in the membership that it applied.
    pub fn is_voter(&self) -> bool {
        votes(&self.shared.published())
    }

    /// What is wrong with the name or URL that this node was started with, if the members know it by another.
    pub fn misplaced(&self) -> Option<String> {
        status::misplaced(&self.shared, self.shared.published().driver.as_ref()?)
    }

    /// This node's configuration.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Smallest readable revision and newest one, for error texts.
    pub fn revisions(&self) -> (Revision, Revision) {
        self.shared.view().map_or((0, 0), |view| (view.compacted(), view.revision()))
    }

    /// What this handle shares with the node's threads.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is published, if the node runs raft, in whatever role.
    fn running(&self) -> Result<Arc<Published>, Refusal> {
        let published = self.shared.published();
        match &published.phase {
            Phase::Member if published.driver.is_some() => Ok(published),
            Phase::Member => Err(self.opening()),
            Phase::Opening(words) => Err(Refusal::Opening(words.clone())),
            Phase::Blank => Err(Refusal::Blank),
            Phase::Removed(_) => Err(Refusal::Removed),
            Phase::Quarantined(finding) => Err(Refusal::Quarantined(finding.why.clone())),
        }
    }

    /// What is published, if the node serves clients: it runs, is not a removed member, and the cluster has formed
    /// (rule N19).
    fn serving(&self) -> Result<Arc<Published>, Refusal> {
        let published = self.running()?;
        let Some(driver) = &published.driver else { return Err(self.opening()) };
        if driver.removed {
            return Err(Refusal::Removed);
        }
        let membership = &driver.membership;
        if !membership.formed {
            return Err(Refusal::Forming { have: membership.voters.len(), want: membership.min_voters });
        }
        Ok(published)
    }

    fn opening(&self) -> Refusal {
        let (_, words) = self.shared.kv();
        Refusal::Opening(if words.is_empty() { "its store is not open yet".to_string() } else { words })
    }

    fn new_request(&self, published: &Published) -> RequestId {
        let origin = published.identity.map_or(0, |identity| identity.member_id);
        RequestId { origin, nonce: self.shared.nonce, seq: self.shared.seq.fetch_add(1, Ordering::Relaxed) }
    }

    /// Sends to the raft thread, over the desk if there is one; without a desk, false means that the thread has ended.
    fn send(&self, event: Event) -> bool {
        match &self.desk {
            Some(desk) => {
                desk.push(event);
                true
            }
            None => self.shared.send(Input::Event(event)),
        }
    }

    async fn ask(&self, request: RequestId, event: Event, timeout_ms: u64) -> Result<Reply, Refusal> {
        let waiters = &self.shared.waiters;
        let receiver = waiters.request(request.seq, self.desk.clone());
        let mut unanswered = Unanswered { waiters, seq: request.seq, answered: false };
        if !self.send(event) {
            return Err(Refusal::Stopping);
        }
        let answered = in_time(receiver, timeout_ms).await;
        unanswered.answered = answered.is_ok();
        answered?.map_err(|_| Refusal::Unknown("the node ended before it answered".to_string()))
    }
}

fn votes(published: &Published) -> bool {
    let votes = |driver: &DriverStatus| driver.membership.votes(driver.id);
    published.driver.as_ref().is_some_and(votes)
}

fn raft_stuck_ms(phase: &Phase) -> u64 {
    match phase {
        Phase::Opening(_) => OPENING_STUCK_MS,
        Phase::Blank | Phase::Member | Phase::Removed(_) | Phase::Quarantined(_) => RAFT_STUCK_MS,
    }
}

async fn in_time<T>(
    receiver: oneshot::Receiver<T>,
    timeout_ms: u64,
) -> Result<Result<T, oneshot::error::RecvError>, Refusal> {
    let timeout = Duration::from_millis(timeout_ms);
    tokio::time::timeout(timeout, receiver).await.map_err(|_| Refusal::Timeout(timeout_ms))
}

fn refusal_in(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        Answer::Changed(_) | Answer::Transferred(_) => wrong_answer(),
    }
}

/// Why nothing is served, as a word and as a sentence.
fn unserved(refusal: &Refusal) -> (api::Serves, String) {
    let word = match refusal {
        Refusal::Opening(_) => api::Serves::Opening,
        Refusal::Blank => api::Serves::NotAMember,
        Refusal::NotAVoter => api::Serves::NotAVoter,
        Refusal::Forming { .. } => api::Serves::Forming,
        Refusal::Removed => api::Serves::Removed,
        Refusal::Quarantined(_) => api::Serves::Quarantined,
        Refusal::Stopping => api::Serves::Stopping,
        _ => api::Serves::NoRead,
    };
    (word, refusal.to_string())
}

fn wrong_answer() -> Refusal {
    Refusal::Internal("the answer belongs to another kind of call".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_waits_for_sled_to_open_is_alive() {
        assert!(raft_stuck_ms(&Phase::Opening("reading the log".into())) > limits::SLED_OPEN_TIMEOUT_MS);
        assert_eq!(raft_stuck_ms(&Phase::Member), RAFT_STUCK_MS);
    }
}

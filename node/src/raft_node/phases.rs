//! The life of a node on its raft thread: blank, member, or idle for good.
//!
//! Enters: what the directory was found to be, then [`Input`]s. Leaves: how the process ends. Each phase is published,
//! and refuses the inputs that make no sense in it.

use super::apply_thread::{ApplyJob, ApplyThread};
use super::effects::Outputs;
use super::end::{End, Exit, RestartWhy};
use super::input::Input;
use super::log_reads;
use super::log_thread::{self, LogJob};
use super::shared::{Phase, Published, Shared};
use crate::crash_point;
use crate::disk::bulk_disk::BulkDisk;
use crate::disk::file_disk;
use crate::transport::{PeerAddress, Transport};
use raftkv_api::{self as api, DecimalId, Hex128};
use raftkv_core::driver::Advertised;
use raftkv_core::driver::Event;
use raftkv_core::identity::{self, Finding, Found, Identity};
use raftkv_core::limits;
use raftkv_core::log::{LogError, ReadPlan};
use raftkv_core::membership::{Member, Membership};
use raftkv_core::open::{self, OpenConfig, OpenError, Opened};
use raftkv_core::ports::KvHome;
use raftkv_core::ports::LogDisk;
use raftkv_core::refusal::Refusal;
use raftkv_core::types::MemberIdentity;
use raftkv_core::wire::{Hello, HelloVerdict};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Everything that the raft thread owns or reaches.
pub struct RaftNode {
    /// Published state.
    pub shared: Arc<Shared>,
    /// Inputs.
    pub inputs: mpsc::Receiver<Input>,
    /// The directory.
    pub disk: Arc<dyn LogDisk>,
    /// The databases in it.
    pub home: Arc<dyn KvHome>,
    /// Peers.
    pub transport: Transport,
    /// Sizes and settings.
    pub open: OpenConfig,
    /// The logger for raft's log lines.
    pub logger: slog::Logger,
}

/// Why a plain `reset` does not take a directory that a leader's log contradicts (rule N20).
const DIVERGED_IS_KEPT: &str = "this node's log and a leader's contradict each other: this data directory may hold the only \
    copy of acknowledged writes; compare the two members first, and give it up only with \"diverged\": true";

/// What comes next.
enum Next {
    Member(MemberIdentity),
    Idle(Phase, Option<MemberIdentity>),
    Exit(Exit),
}

impl RaftNode {
    /// Runs until the process ends or starts anew.
    pub fn run(mut self, found: Found) -> Exit {
        let mut next = match found {
            Found::Blank { incarnation, cut_short: _ } => self.blank(incarnation),
            Found::Member(identity) => Next::Member(identity),
            Found::Removed { identity, index, term } => {
                Next::Idle(Phase::Removed(removed_words(index, term)), Some(identity))
            }
            Found::Quarantined { finding, identity } => Next::Idle(Phase::Quarantined(finding), identity),
            Found::Empty => Next::Exit(Exit::Fatal("an empty directory was not made blank".to_string())),
        };
        loop {
            next = match next {
                Next::Member(identity) => self.member(identity),
                Next::Idle(phase, identity) => self.idle(phase, identity),
                Next::Exit(exit) => return exit,
            }
        }
    }

    pub(super) fn publish(&self, phase: Phase, incarnation: Option<Hex128>, identity: Option<MemberIdentity>) {
        let old = self.shared.published();
        let incarnation = incarnation.or(identity.map(|id| id.incarnation)).or(old.incarnation);
        self.shared.publish(Published { phase, incarnation, identity, driver: None, durable: (0, 0) });
    }

    /// Waits for `init`, or for the hello of a leader.
    fn blank(&mut self, incarnation: Hex128) -> Next {
        self.publish(Phase::Blank, Some(incarnation), None);
        tracing::info!(%incarnation, "blank: waiting for init, or for a leader to add this node");
        loop {
            self.shared.raft_turned();
            match self.inputs.recv_timeout(Duration::from_millis(limits::TICK_MS)) {
                Ok(Input::Init { init, reply }) => {
                    if let Some(next) = self.init(incarnation, &init, reply) {
                        return next;
                    }
                }
                Ok(Input::Hello { hello, verdict }) => {
                    if let Some(next) = self.join(incarnation, *hello, verdict) {
                        return next;
                    }
                }
                Ok(Input::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return Next::Exit(Exit::Stopped),
                Ok(Input::Fatal(why)) => return Next::Exit(Exit::Fatal(why)),
                Ok(Input::Reset { reply, .. }) => refuse_reset(reply, "blank"),
                Ok(other) => self.not_now(other, &Refusal::Blank),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn init(
        &self,
        incarnation: Hex128,
        init: &api::Init,
        reply: oneshot::Sender<Result<api::InitDone, Refusal>>,
    ) -> Option<Next> {
        let config = &self.shared.config;
        if init.incarnation != incarnation || init.name != config.name {
            let why = format!(
                "init is meant for '{}' at incarnation {}, this node is '{}' at {incarnation}",
                init.name, init.incarnation, config.name
            );
            answer(reply, Err(Refusal::WrongNode(why)));
            return None;
        }
        let genesis = Hex128(rand::random());
        let identity =
            MemberIdentity { cluster_id: init.cluster_id, genesis, generation: 0, member_id: 1, incarnation };
        let first = Member { name: config.name.clone(), peer: config.peer.clone(), incarnation };
        match open::init(&identity, first, init.min_voters, &self.disk, self.open.log) {
            Ok(()) => {
                tracing::info!(cluster_id = %init.cluster_id, %genesis, "initialised: this node is the first voter");
                let done = api::InitDone { cluster_id: init.cluster_id, genesis, member_id: DecimalId(1) };
                answer(reply, Ok(done));
                Some(Next::Member(identity))
            }
            Err(e) => {
                answer(reply, Err(Refusal::Stopping));
                Some(Next::Exit(Exit::Fatal(format!("init failed: {e}; start the node again, it is still blank"))))
            }
        }
    }

    fn join(&self, incarnation: Hex128, hello: Hello, verdict: oneshot::Sender<HelloVerdict>) -> Option<Next> {
        if hello.is_older() || hello.to_incarnation != incarnation {
            let why = format!("this blank node is incarnation {incarnation}, not {}", hello.to_incarnation);
            answer(verdict, HelloVerdict::Differs(why));
            return None;
        }
        let identity = MemberIdentity {
            cluster_id: hello.cluster_id,
            genesis: hello.genesis,
            generation: hello.generation,
            member_id: hello.to,
            incarnation,
        };
        match open::join(&identity, &self.disk, self.open.log) {
            Ok(()) => {
                tracing::info!(cluster_id = %hello.cluster_id, member_id = hello.to, leader = hello.from_name, "joined");
                self.heard(&hello);
                let ours = self.shared.own_hello(&identity, (0, 0), hello.from, hello.from_incarnation);
                answer(verdict, HelloVerdict::Accept(Box::new(ours)));
                Some(Next::Member(identity))
            }
            Err(e) => {
                answer(verdict, HelloVerdict::Later(e.to_string()));
                Some(Next::Exit(Exit::Fatal(format!("joining failed: {e}; start the node again, it is still blank"))))
            }
        }
    }

    pub(super) fn heard(&self, hello: &Hello) {
        let urls = Advertised {
            peer_url: hello.peer_url.clone(),
            client_url: hello.client_url.clone(),
            admin_url: hello.admin_url.clone(),
        };
        self.shared.set_advertised(hello.from, urls);
        let (id, peer_url, incarnation) = (hello.from, hello.peer_url.clone(), hello.from_incarnation);
        self.shared.set_speaker(PeerAddress { id, peer_url, incarnation });
    }

    fn member(&mut self, identity: MemberIdentity) -> Next {
        match self.open(identity) {
            Ok(Some(opened)) => self.run_member(identity, opened),
            Ok(None) => Next::Exit(Exit::Stopped),
            Err(OpenError::Quarantined(why)) => Next::Idle(Phase::Quarantined(Finding::new(why)), Some(identity)),
            // Raft never begins. The process lives on, to report this and to be reset: a log that is damaged now is
            // damaged at every start.
            Err(OpenError::Log(e @ LogError::Corrupt { .. })) => {
                Next::Idle(Phase::Quarantined(Finding::new(e.to_string())), Some(identity))
            }
            Err(OpenError::KvStuck(why)) => Next::Exit(Exit::Restart(RestartWhy::DistrustKv(why))),
            Err(e @ (OpenError::Stop(_) | OpenError::Log(_) | OpenError::Io(_) | OpenError::Store(_))) => {
                Next::Exit(Exit::Fatal(e.to_string()))
            }
        }
    }

    fn run_member(&mut self, identity: MemberIdentity, opened: Opened) -> Next {
        let Opened { mut driver, kv, applied } = opened;
        tracing::info!(member_id = identity.member_id, applied, last_index = driver.log().last_index(), "member");
        let (log, log_jobs) = mpsc::channel();
        let (reads, read_plans) = mpsc::channel();
        let (apply, apply_jobs) = mpsc::channel();
        let (hang_up, stop) = mpsc::channel();
        crash_point::plays(&driver.status());
        let threads = self.spawn_threads(identity, (log_jobs, read_plans), (apply_jobs, apply.clone(), stop));
        let mut outputs = Outputs {
            shared: self.shared.clone(),
            transport: self.transport.clone(),
            log,
            log_reads: reads,
            apply,
            bulk: BulkDisk::new(self.disk.clone(), self.shared.space.reserve.clone()),
            own: identity.member_id,
            membership: Arc::new(Membership::default()),
            member_since: Instant::now(),
            queued: Vec::new(),
            spare: None,
        };
        self.shared.apply_given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _ended = outputs.apply.send(ApplyJob::Open(kv));
        let end = self.turn(identity, &mut driver, &mut outputs);
        self.shared.set_view(None);
        self.transport.set_peers(Vec::new());
        drop((outputs, hang_up));
        for thread in threads {
            thread.join().expect("panics are caught inside the thread");
        }
        self.after(identity, end)
    }

    fn spawn_threads(
        &self,
        identity: MemberIdentity,
        (log_jobs, read_plans): (mpsc::Receiver<LogJob>, mpsc::Receiver<ReadPlan>),
        (jobs, to_self, stop): (mpsc::Receiver<ApplyJob>, mpsc::Sender<ApplyJob>, mpsc::Receiver<()>),
    ) -> Vec<JoinHandle<()>> {
        let (disk, shared) = (self.disk.clone(), self.shared.clone());
        let (disk_of_reads, shared_of_reads) = (self.disk.clone(), self.shared.clone());
        let (disk_of_apply, home) = (self.disk.clone(), self.home.clone());
        let apply = ApplyThread::new((jobs, to_self), self.shared.clone(), disk_of_apply, home, identity);
        let spawn = |name: &'static str, body: Box<dyn FnOnce() + Send>| {
            let shared = self.shared.clone();
            // A thread that panics leaves work undone that nobody else would do: the process must not go on.
            let guarded = move || {
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
                    shared.send(Input::Fatal(format!("the {name} thread panicked; its last words are above")));
                }
            };
            let thread = std::thread::Builder::new().name(name.to_string()).spawn(guarded);
            thread.expect("a process that can't start four threads can't run")
        };
        vec![
            spawn("log", Box::new(move || log_thread::run(&log_jobs, &disk, &shared))),
            spawn("log reads", Box::new(move || log_reads::run(&read_plans, &*disk_of_reads, &shared_of_reads))),
            spawn("apply", Box::new(move || apply.run(&stop))),
        ]
    }

    /// Answers `init` on a member: it is idempotent on the node that it initialised.
    pub(super) fn init_again(&self, identity: MemberIdentity, init: &api::Init) -> Result<api::InitDone, Refusal> {
        let same = init.cluster_id == identity.cluster_id && init.incarnation == identity.incarnation;
        if same && identity.member_id == 1 {
            return Ok(api::InitDone {
                cluster_id: identity.cluster_id,
                genesis: identity.genesis,
                member_id: DecimalId(1),
            });
        }
        Err(Refusal::AlreadyInitialized(identity.cluster_id.to_string()))
    }

    fn after(&self, identity: MemberIdentity, end: End) -> Next {
        match end {
            End::Exit(exit) => {
                self.shared.waiters.fail_all(&Refusal::Stopping);
                Next::Exit(exit)
            }
            End::Quarantined(finding) => {
                // Before anybody acts on the finding: a restart must not forget it (rule N7).
                self.write_quarantine(identity, &finding);
                self.shared.waiters.fail_all(&Refusal::Quarantined(finding.why.clone()));
                Next::Idle(Phase::Quarantined(finding), Some(identity))
            }
            End::Removed { index, term } => {
                self.shared.waiters.fail_all(&Refusal::Removed);
                match identity::write(&*self.disk, &Identity::Removed { identity, index, term }) {
                    Ok(()) => Next::Idle(Phase::Removed(removed_words(index, term)), Some(identity)),
                    Err(e) => Next::Exit(Exit::Fatal(format!("the identity file cannot be written: {e}"))),
                }
            }
        }
    }

    /// Makes it durable that this directory must not be trusted: only `reset` ends that (rule N7). Returns whether it is
    /// durable.
    fn write_quarantine(&self, identity: MemberIdentity, finding: &Finding) -> bool {
        let written = identity::quarantine(&*self.disk, &identity, finding);
        if let Err(e) = &written {
            tracing::error!(error = %e, "the finding cannot be written down yet: do not restart this node; trying again");
        }
        written.is_ok()
    }

    /// Removed or Quarantined: serves admin and health only, until `reset` or the end of the process.
    fn idle(&mut self, phase: Phase, identity: Option<MemberIdentity>) -> Next {
        match &phase {
            Phase::Removed(why) => tracing::warn!(why, "removed: serving nothing; reset it to join anew"),
            Phase::Quarantined(Finding { why, diverged: false }) => {
                tracing::error!(why, "quarantined: replace this node, then reset it");
            }
            Phase::Quarantined(Finding { why, diverged: true }) => {
                tracing::error!(why, "quarantined: keep this data directory and that of the leader that is named");
            }
            Phase::Opening(_) | Phase::Blank | Phase::Member => {}
        }
        self.publish(phase.clone(), None, identity);
        let refusal = match &phase {
            Phase::Quarantined(finding) => Refusal::Quarantined(finding.why.clone()),
            Phase::Removed(_) | Phase::Opening(_) | Phase::Blank | Phase::Member => Refusal::Removed,
        };
        let mut unwritten = match &phase {
            Phase::Quarantined(finding) => identity.map(|identity| (identity, finding.clone())),
            Phase::Removed(_) | Phase::Opening(_) | Phase::Blank | Phase::Member => None,
        };
        let mut write_at = Instant::now();
        loop {
            self.shared.raft_turned();
            if let Some((identity, finding)) = unwritten.take_if(|_| Instant::now() >= write_at) {
                write_at = Instant::now() + Duration::from_millis(limits::QUARANTINE_RETRY_MS);
                unwritten = (!self.write_quarantine(identity, &finding)).then_some((identity, finding));
            }
            match self.inputs.recv_timeout(Duration::from_millis(limits::TICK_MS)) {
                Ok(Input::Reset { reset, removed: _, reply }) => {
                    if let Some(exit) = self.reset(&phase, &reset, reply) {
                        return Next::Exit(exit);
                    }
                }
                Ok(Input::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return Next::Exit(Exit::Stopped),
                Ok(other) => self.not_now(other, &refusal),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn reset(&self, phase: &Phase, reset: &api::Reset, reply: oneshot::Sender<Result<(), Refusal>>) -> Option<Exit> {
        let incarnation = reset.incarnation;
        // A directory whose identity can't be read has no incarnation that could be compared.
        let own = self.shared.published().incarnation;
        if let Some(own) = own.filter(|own| *own != incarnation) {
            let why = format!("reset names incarnation {incarnation}, this node's is {own}");
            answer(reply, Err(Refusal::WrongNode(why)));
            return None;
        }
        if matches!(phase, Phase::Quarantined(finding) if finding.diverged) && !reset.diverged {
            answer(reply, Err(Refusal::WrongState(DIVERGED_IS_KEPT.to_string())));
            return None;
        }
        self.shared.space.reserve.close();
        match file_disk::set_aside(&self.shared.config.data_dir, incarnation) {
            Ok(()) => {
                answer(reply, Ok(()));
                Some(Exit::Restart(RestartWhy::Reset))
            }
            Err(e) => {
                answer(reply, Err(Refusal::Internal(format!("the data could not be set aside: {e}"))));
                None
            }
        }
    }

    /// Takes an input that makes no sense in this phase, and tells whoever waits for its answer.
    pub(super) fn not_now(&self, input: Input, refusal: &Refusal) {
        match input {
            Input::Hello { verdict, .. } => {
                answer(verdict, HelloVerdict::Later(refusal.to_string()));
            }
            Input::Init { reply, .. } => {
                answer(reply, Err(refusal.clone()));
            }
            Input::Reset { reply, .. } => refuse_reset(reply, "busy"),
            Input::Peer { bytes, .. } => self.shared.messages.leave(bytes),
            Input::Event(event) => self.no_read_now(&event, refusal),
            Input::Events(events) => events.iter().for_each(|event| self.no_read_now(event, refusal)),
            Input::Connected(_) | Input::Quarantine(_) => {}
            Input::Fatal(_) | Input::Restart(_) | Input::Stop => {}
        }
    }

    /// Refuses a read; whoever waits for another event gives up by itself.
    fn no_read_now(&self, event: &Event, refusal: &Refusal) {
        if let Event::Read { read } = event {
            self.shared.waiters.reads_failed(&[*read], refusal);
        }
    }
}

fn removed_words(index: u64, term: u64) -> String {
    format!("this member was removed by the entry at index {index} of term {term}")
}

/// Sends an answer; whoever asked may have gone.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, result: T) {
    let _gone = reply.send(result);
}

pub(super) fn refuse_reset(reply: oneshot::Sender<Result<(), Refusal>>, state: &str) {
    let why = format!("only a removed or quarantined node can be reset; this one is {state}");
    answer(reply, Err(Refusal::WrongState(why)));
}

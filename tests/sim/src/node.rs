//! One simulated node: a real driver and a real store over a simulated disk, carrying out effects step by step.
//!
//! Enters: events, and turns of its threads ([`SimNode::disk_turn`], [`SimNode::apply_turn`]). Leaves: [`Out`]s. What
//! the process does in threads, the node does in small steps, so that a crash can fall between any two of them.

use crate::disk::{CrashModel, Losses, SimDisk};
use crate::kv::{Damage, MemHome};
use crate::rng::Rng;
use crate::threads::{ApplyJob, ApplyThread, DiskJob, DiskThread, DiskTurn};
use raftkv_api::{Hex128, StateHash};
use raftkv_core::driver::{Answer, Driver, DriverConfig, DriverStatus, Effect, Event, Headline};
use raftkv_core::host_port::HostPort;
use raftkv_core::identity::{self, Finding, Found};
use raftkv_core::kvstore::{Applied, Committed, View};
use raftkv_core::log::{LogConfig, ReadFailed, ReadPlan};
use raftkv_core::membership::{Member, Membership};
use raftkv_core::open::{self, KvPlan, OpenConfig, OpenError, Opened};
use raftkv_core::ports::KvHome;
use raftkv_core::ports::LogDisk;
use raftkv_core::refusal::Refusal;
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::types::{Index, MemberId, MemberIdentity, RequestId};
use raftkv_core::wire::{Frame, HELLO_FORMAT, Hello, HelloVerdict, LEVEL_MAX, Report};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Sizes that a run draws. They are small, so that segments are recycled and snapshots are cut.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Sizes of the log.
    pub log: LogConfig,
    /// A snapshot is cut after this many bytes of log.
    pub snapshot_log_bytes_min: u64,
}

/// Ticks between two reports of a member about itself: one second.
const REPORT_TICKS: u64 = 20;

/// Something that left the node.
#[derive(Debug)]
pub enum Out {
    /// A frame for the transport.
    Frame { to: MemberId, frame: Frame },
    /// The driver's answer to a request of a local client.
    Answer { request: RequestId, answer: Answer },
    /// Entries were applied and published; requests among them are answered.
    Applied { items: Vec<Committed>, results: Vec<Applied>, hash: StateHash },
    /// This read may be served.
    ReadReady { read: u64 },
    /// This read can't be served here.
    ReadFailed { read: u64, why: Refusal },
    /// Steps were queued for the disk.
    Persists { batch: u64 },
    /// The snapshot file must be copied from this member.
    Fetch { from: MemberId, meta: Box<SnapshotMeta> },
    /// A snapshot was cut.
    Cut { index: Index },
    /// The store holds this snapshot (or was proved, or rebuilt, when the node opened).
    StoreReady { index: Index },
    /// The membership changed.
    Members(Arc<Membership>),
    /// It is safe to act on the removal: raft stopped.
    Gone { index: Index },
    /// The node does not trust its data.
    Quarantined(Finding),
    /// The kv db's claim was wrong: the process restarts itself.
    DistrustsKv(String),
    /// The process stopped cleanly.
    Closed,
    /// A call of the disk failed: the process ends.
    DiskFailed(String),
}

impl Out {
    fn finding(&self) -> Option<&Finding> {
        if let Out::Quarantined(finding) = self { Some(finding) } else { None }
    }
}

/// The states of a node's life.
pub enum Life {
    /// Waits for the first hello of a leader.
    Blank,
    /// The process is gone, the disk is not.
    Down,
    /// Runs raft.
    Running(Box<Running>),
    /// Stopped for good, with the reason.
    Quarantined(String),
    /// Removed, and it is safe to act on that.
    Removed,
    /// The disk is gone for ever.
    Lost,
}

/// A process that runs.
pub struct Running {
    /// The driver, which decides everything.
    pub driver: Driver,
    /// Random number of this process start.
    pub nonce: u64,
    /// What the log thread has to do.
    pub disk_thread: DiskThread,
    /// What the apply thread has to do.
    pub apply_thread: ApplyThread,
    /// What is to be read from the log for members that catch up.
    pub log_reads: VecDeque<ReadPlan>,
    /// The membership as the driver last published it.
    pub members: Arc<Membership>,
    /// Reads that wait until this index is applied.
    reads: Vec<(Index, u64)>,
    requests: u64,
    ticks: u64,
    /// Whether events were stepped whose effects nobody has taken yet.
    pub owes_effects: bool,
    /// What the others were told without delay: the durable conf index, and whether a sync hangs.
    told: (Index, bool),
}

/// The node.
pub struct SimNode {
    /// `n1`, `n2`, ...
    pub name: String,
    /// Incarnation of its data directory.
    pub incarnation: Hex128,
    /// The log's disk.
    pub disk: Arc<SimDisk>,
    /// The kv databases.
    pub home: Arc<MemHome>,
    /// What the identity file says.
    pub identity: Option<MemberIdentity>,
    /// The state of its life.
    pub life: Life,
    sizes: Sizes,
    /// Counts process starts, so that streams of an earlier process are known to be broken.
    pub boots: u64,
    /// Whether a power loss left a wrong byte in a kv db. Without that no db may be distrusted: batches are lost only
    /// whole.
    pub damaged_kv: bool,
    /// Why this directory must not be trusted, once that is durable in it: no restart may forget it (rule N7).
    pub finding: Option<Finding>,
}

impl SimNode {
    /// A node on an empty directory.
    pub fn blank(number: u64, sizes: Sizes) -> SimNode {
        let mut incarnation = [0; 16];
        incarnation[8..].copy_from_slice(&number.to_be_bytes());
        SimNode {
            name: format!("n{number}"),
            incarnation: Hex128(incarnation),
            disk: Arc::new(SimDisk::new()),
            home: Arc::new(MemHome::new()),
            identity: None,
            life: Life::Blank,
            sizes,
            boots: 0,
            damaged_kv: false,
            finding: None,
        }
    }

    /// The same node on another directory, not started.
    #[must_use]
    pub fn twin(&self, disk: SimDisk, home: MemHome) -> SimNode {
        SimNode {
            name: self.name.clone(),
            incarnation: self.incarnation,
            disk: Arc::new(disk),
            home: Arc::new(home),
            identity: self.identity,
            life: Life::Down,
            sizes: self.sizes,
            boots: self.boots,
            damaged_kv: self.damaged_kv,
            finding: None,
        }
    }

    /// Whether no restart brings the node back: then another member must take its place.
    pub fn is_lost(&self) -> bool {
        matches!(self.life, Life::Lost | Life::Quarantined(_))
    }

    /// The same node under another name.
    #[must_use]
    pub fn named(self, name: String) -> SimNode {
        SimNode { name, ..self }
    }

    /// Where peers would dial it.
    pub fn peer(&self) -> HostPort {
        HostPort::parse(&format!("{}:2380", self.name)).expect("names are those of hosts")
    }

    /// The disk that holds raft's log.
    fn log_disk(&self) -> Arc<dyn LogDisk> {
        self.disk.clone()
    }

    /// Makes this node the first voter of a new cluster; it is Down until it boots.
    pub fn init(&mut self, cluster_id: Hex128, min_voters: u32) -> Result<(), OpenError> {
        let incarnation = self.incarnation;
        let identity =
            MemberIdentity { cluster_id, genesis: Hex128([7; 16]), generation: 0, member_id: 1, incarnation };
        let first = Member { name: self.name.clone(), peer: self.peer(), incarnation };
        open::init(&identity, first, min_voters, &self.log_disk(), self.sizes.log)?;
        self.identity = Some(identity);
        self.life = Life::Down;
        Ok(())
    }

    /// A leader's hello reached a Blank node: the node joins.
    pub fn join(&mut self, hello: &Hello) -> Result<(), OpenError> {
        let identity = MemberIdentity {
            cluster_id: hello.cluster_id,
            genesis: hello.genesis,
            generation: hello.generation,
            member_id: hello.to,
            incarnation: hello.to_incarnation,
        };
        open::join(&identity, &self.log_disk(), self.sizes.log)?;
        self.identity = Some(identity);
        self.life = Life::Down;
        Ok(())
    }

    /// Starts the process on what the disk holds. `election_ticks` pins raft's random timeout.
    pub fn boot(&mut self, nonce: u64, election_ticks: usize, logger: &slog::Logger) -> Result<Vec<Out>, OpenError> {
        let identity = self.identity.expect("only a member boots");
        match identity::find(&*self.disk) {
            Ok(Found::Quarantined { finding, .. }) if self.finding.as_ref() == Some(&finding) => {
                self.life = Life::Quarantined(finding.why);
                return Ok(Vec::new());
            }
            // Whatever else is wrong with the directory is the opening's to find.
            Ok(_) | Err(_) => {}
        }
        let config = OpenConfig {
            log: self.sizes.log,
            driver: DriverConfig {
                nonce,
                election_ticks_min: election_ticks,
                election_ticks_max: election_ticks + 1,
                snapshot_log_bytes_min: self.sizes.snapshot_log_bytes_min,
            },
        };
        let home: &dyn KvHome = &*self.home;
        let opened = open::open_member(&identity, self.log_disk(), home, &config, logger, &mut |_, _, _| {});
        let Opened { driver, kv, applied: _ } = match opened {
            Ok(opened) => opened,
            Err(OpenError::Quarantined(why)) => {
                let finding = Finding::new(why);
                self.quarantine(finding.clone());
                return Ok(vec![Out::Quarantined(finding)]);
            }
            Err(e) => return Err(e),
        };
        self.boots += 1;
        let mut running = Running {
            members: Arc::new(driver.status().membership.as_ref().clone()),
            driver,
            nonce,
            disk_thread: DiskThread::default(),
            apply_thread: ApplyThread::new(kv),
            log_reads: VecDeque::new(),
            reads: Vec::new(),
            requests: 0,
            ticks: 0,
            owes_effects: false,
            told: (0, false),
        };
        running.told.0 = running.driver.headline().durable_conf_index;
        let mut out = Vec::new();
        running.take_effects(&mut out);
        self.life = Life::Running(Box::new(running));
        Ok(out)
    }

    /// The process, if there is one.
    pub fn running(&self) -> Option<&Running> {
        match &self.life {
            Life::Running(running) => Some(running),
            Life::Blank | Life::Down | Life::Quarantined(_) | Life::Removed | Life::Lost => None,
        }
    }

    /// The process, if there is one.
    pub fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.life {
            Life::Running(running) => Some(running),
            Life::Blank | Life::Down | Life::Quarantined(_) | Life::Removed | Life::Lost => None,
        }
    }

    /// The node's member id, once it has one.
    pub fn member_id(&self) -> Option<MemberId> {
        self.identity.map(|identity| identity.member_id)
    }

    /// What the driver shows of itself, while the process runs.
    pub fn status(&self) -> Option<DriverStatus> {
        self.running().map(|running| running.driver.status())
    }

    /// The node in one line, for people.
    pub fn picture(&self) -> String {
        match &self.life {
            Life::Blank => "blank".to_string(),
            Life::Down => format!("down, member {:?}", self.member_id()),
            Life::Quarantined(why) => format!("quarantined: {why}"),
            Life::Removed => "removed".to_string(),
            Life::Lost => "disk lost".to_string(),
            Life::Running(running) => {
                let status = running.driver.status();
                format!(
                    "member {} {:?} term {} leader {} commit {} applied {} last {} snapshot {} voters {:?} {:?} learners {:?} \
                     conf {}{}",
                    status.id,
                    status.role,
                    status.term,
                    status.leader,
                    status.commit,
                    status.applied,
                    status.last_index,
                    status.snapshot_index,
                    status.membership.voters,
                    status.membership.outgoing,
                    status.membership.learners,
                    status.membership.conf_index,
                    if status.removed { " removed" } else { "" }
                )
            }
        }
    }

    /// Power loss: the process is gone, and everything that was not durable is too, except for a part that `seed`
    /// chooses.
    pub fn crash(&mut self, seed: u64, model: CrashModel) -> Losses {
        self.life = Life::Down;
        let losses = self.disk.crash(seed, model);
        let damage = self.home.crash(seed);
        self.damaged_kv |= damage.iter().any(|(_, damage)| *damage == Damage::Corrupted);
        losses
    }

    /// Kill -9: the process is gone, but the operating system keeps what it was given.
    pub fn kill(&mut self) {
        self.life = Life::Down;
        self.disk.kill();
        self.home.end_run();
    }

    /// Steps an event. With `now`, its effects are taken at once, else they wait for the next event, as in a batch.
    pub fn step(&mut self, event: Event, now: bool) -> Vec<Out> {
        let mut out = Vec::new();
        let Some(running) = self.running_mut() else { return out };
        if matches!(event, Event::Tick) {
            running.report_when_due(&mut out);
        }
        running.driver.step(event);
        running.owes_effects = true;
        if now {
            running.take_effects(&mut out);
        }
        out
    }

    /// One turn of the log thread. The caller looks at the result, and then steps it.
    pub fn disk_turn(&mut self, ops: usize) -> io::Result<DiskTurn> {
        let disk = self.disk.clone();
        let Some(running) = self.running_mut() else { return Ok(DiskTurn::Worked) };
        running.disk_thread.turn(&*disk, ops)
    }

    /// One turn of the apply thread, with at most `items` entries.
    pub fn apply_turn(&mut self, items: usize, rng: &mut Rng) -> Vec<Out> {
        let mut out = Vec::new();
        let identity = self.identity;
        let (disk, home) = (self.disk.clone(), self.home.clone());
        let Some(running) = self.running_mut() else { return out };
        let identity = identity.expect("a process has an identity");
        let turn = running.apply_thread.turn(&identity, &*disk, &*home, items, rng);
        let events = turn.into_outs(&mut out);
        // The process ends at that call: its driver, which would read the same disk, takes no further step.
        if out.iter().any(|one| matches!(one, Out::DiskFailed(_))) {
            return out;
        }
        for event in events {
            running.driver.step(event);
        }
        running.take_effects(&mut out);
        running.serve_reads(&mut out);
        out
    }

    /// One turn of the thread that reads the log for members that catch up.
    pub fn log_read_turn(&mut self) -> Vec<Out> {
        let mut out = Vec::new();
        let disk = self.disk.clone();
        let Some(running) = self.running_mut() else { return out };
        if let Some(plan) = running.log_reads.pop_front() {
            let result = plan.read(&*disk).map_err(ReadFailed::from);
            running.driver.step(Event::LogRead { first: plan.first(), result });
            running.take_effects(&mut out);
        }
        out
    }

    /// The hello that this node would send now; `None` while it does not run raft.
    pub fn hello(&self, to: MemberId, to_incarnation: Hex128) -> Option<Hello> {
        let (running, identity) = (self.running()?, self.identity?);
        let (term, last_index) = running.driver.durable_position();
        Some(Hello {
            format: HELLO_FORMAT,
            cluster_id: identity.cluster_id,
            genesis: identity.genesis,
            generation: identity.generation,
            from: identity.member_id,
            from_name: self.name.clone(),
            from_incarnation: identity.incarnation,
            to,
            to_incarnation,
            term,
            last_index,
            boot: running.nonce,
            peer_url: self.peer().url(),
            client_url: String::new(),
            admin_url: String::new(),
            level_max: LEVEL_MAX,
        })
    }

    /// The members that this node waits for before it votes or campaigns.
    pub fn unanswered(&self) -> Vec<MemberId> {
        self.running().map_or_else(Vec::new, |running| running.driver.unanswered())
    }

    /// Answers a hello; a node that does not run raft gives no answer.
    pub fn check_hello(&mut self, hello: &Hello) -> Option<Result<(), HelloVerdict>> {
        self.running_mut().map(|running| running.driver.check_hello(hello))
    }

    /// This directory must not be trusted: that is made durable, as far as the disk allows.
    pub fn quarantine(&mut self, finding: Finding) {
        self.life = Life::Quarantined(finding.why.clone());
        let Some(identity) = self.identity else { return };
        if identity::quarantine(&*self.disk, &identity, &finding).is_ok() {
            self.finding = Some(finding);
        }
    }

    /// Ends the process if one of these outputs says so; true when it ended. The caller looks at the outputs first.
    pub fn end_if_stopped(&mut self, out: &[Out]) -> bool {
        if let Some(finding) = out.iter().find_map(Out::finding) {
            self.quarantine(finding.clone());
            return true;
        }
        let life = out.iter().find_map(|one| match one {
            Out::Gone { .. } => Some(Life::Removed),
            Out::Closed | Out::DistrustsKv(_) | Out::DiskFailed(_) => Some(Life::Down),
            Out::Frame { .. }
            | Out::Answer { .. }
            | Out::Applied { .. }
            | Out::ReadReady { .. }
            | Out::ReadFailed { .. }
            | Out::Persists { .. }
            | Out::Fetch { .. }
            | Out::Cut { .. }
            | Out::StoreReady { .. }
            | Out::Quarantined(_)
            | Out::Members(_) => None,
        });
        let Some(life) = life else { return false };
        if out.iter().any(|one| matches!(one, Out::DistrustsKv(_)))
            && let Some(name) = self.running().and_then(|running| running.apply_thread.kv_name())
        {
            self.home.set_aside(&name).expect("the simulated home does not fail");
        }
        self.life = life;
        true
    }
}

impl Running {
    /// The id of the next request of this process.
    pub fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId { origin: self.driver.status().id, nonce: self.nonce, seq: self.requests }
    }

    /// The readers' side of the store, once it is proved.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.apply_thread.view()
    }

    /// Ticks since the process began.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    fn report_when_due(&mut self, out: &mut Vec<Out>) {
        self.ticks += 1;
        if self.ticks.is_multiple_of(REPORT_TICKS) {
            self.report(out);
        }
    }

    fn report(&mut self, out: &mut Vec<Out>) {
        let status = self.driver.status();
        let report = Report {
            applied: status.applied,
            durable_conf_index: status.durable_conf_index,
            commit: status.commit,
            free_bytes: 1 << 40,
            can_lead: status.can_lead,
            headroom_bytes: 1 << 40,
            reserve_bytes: 1 << 30,
            stalled_ms: status.sync_ms,
            volume_bytes: 1 << 41,
        };
        for to in self.members.members.keys().copied().filter(|to| *to != status.id) {
            out.push(Out::Frame { to, frame: Frame::Report(report) });
        }
    }

    /// Takes the driver's effects and starts each of them.
    pub fn take_effects(&mut self, out: &mut Vec<Out>) {
        self.owes_effects = false;
        for effect in self.driver.effects() {
            self.start(effect, out);
        }
        // What others wait for is not left for the next report (rules N4, N26).
        let Headline { durable_conf_index, hangs, .. } = self.driver.headline();
        if std::mem::replace(&mut self.told, (durable_conf_index, hangs)) != (durable_conf_index, hangs) {
            self.report(out);
        }
    }

    fn start(&mut self, effect: Effect, out: &mut Vec<Out>) {
        match effect {
            Effect::Send(message) => out.push(Out::Frame { to: message.to, frame: Frame::Raft(message) }),
            Effect::Forward { to, forward } => out.push(Out::Frame { to, frame: Frame::Forward(forward) }),
            Effect::ForwardReply { to, reply } => out.push(Out::Frame { to, frame: Frame::ForwardReply(reply) }),
            Effect::TellRemoved { to, record } => out.push(Out::Frame { to, frame: Frame::Removed(record) }),
            Effect::Persist { batch, ops } => {
                out.push(Out::Persists { batch });
                let (last_index, term) = (self.driver.log().last_index(), self.driver.status().term);
                let then = DiskJob::Persisted { batch, last_index, term };
                self.disk_thread.push(ops, then);
            }
            Effect::Housekeep { ops } => self.disk_thread.push(ops, DiskJob::Nothing),
            Effect::MakeSpare { name, ops } => self.disk_thread.push_spare(ops, name),
            Effect::ReadLog { plan } => self.log_reads.push_back(plan),
            Effect::Apply { generation, items } => self.apply_thread.push(ApplyJob::Items(generation, items.into())),
            Effect::Cut => self.apply_thread.push(ApplyJob::Cut),
            Effect::Fetch { from, meta } => out.push(Out::Fetch { from, meta }),
            Effect::Install { generation, meta } => {
                self.apply_thread.hide_view();
                self.apply_thread.push(ApplyJob::Install(generation, meta));
            }
            Effect::DropSnapshots { below } => self.disk_thread.push(Vec::new(), DiskJob::DropSnapshots(below)),
            Effect::Answer { request, answer } => out.push(Out::Answer { request, answer }),
            Effect::ReadReady { reads, index } => {
                self.reads.extend(reads.into_iter().map(|read| (index, read)));
                self.serve_reads(out);
            }
            Effect::ReadFailed { reads, why } => {
                out.extend(reads.into_iter().map(|read| Out::ReadFailed { read, why: why.clone() }));
            }
            Effect::Members(members) => {
                self.members = members.clone();
                out.push(Out::Members(members));
            }
            Effect::Gone { index, term: _ } => out.push(Out::Gone { index }),
            Effect::Fatal { why } => out.push(Out::DiskFailed(why)),
            Effect::Quarantine { finding } => out.push(Out::Quarantined(finding)),
            Effect::DistrustKv { why } => out.push(Out::DistrustsKv(why)),
            Effect::Closed { batch: _ } => out.push(Out::Closed),
        }
    }

    fn serve_reads(&mut self, out: &mut Vec<Out>) {
        let Some(applied) = self.apply_thread.view().map(|view| view.applied()) else { return };
        self.reads.retain(|(index, read)| {
            if *index <= applied {
                out.push(Out::ReadReady { read: *read });
            }
            *index > applied
        });
    }
}

/// The name of the kv db that a plan opens.
pub fn plan_name(plan: &KvPlan) -> String {
    match plan {
        KvPlan::Prove { name, .. } => name.clone(),
        KvPlan::Rebuild { meta } => format!("kv-{}", meta.index),
        KvPlan::Absent => "none".to_string(),
    }
}

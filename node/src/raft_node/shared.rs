//! What the node's own threads publish and everyone else reads: phase, status, view, and how full the queues are.
//!
//! Enters: publications. Leaves: copies of the newest ones, on any thread. No lock is held longer than it takes to
//! copy.

use super::desk::Desk;
use super::disk_space::DiskSpace;
use super::waiters::{ReadReply, Waiters};
use super::{Input, Queue};
use crate::config::Config;
use crate::disk::reserve::Reserve;
use crate::metrics::Metrics;
use crate::transport::{BodyProgress, DialFailure, PeerAddress};
use raftkv_api::{DecimalId, Hex128, KvState, Stream, Twin};
use raftkv_core::driver::{Advertised, DriverStatus, Event};
use raftkv_core::identity::Finding;
use raftkv_core::kvstore::View;
use raftkv_core::limits;
use raftkv_core::membership::Membership;
use raftkv_core::types::{Index, MemberId, MemberIdentity, Term};
use raftkv_core::wire::{HELLO_FORMAT, Hello, LEVEL_MAX};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// A twin is shown for this long.
const TWIN_SHOWN: Duration = Duration::from_millis(limits::TWIN_SHOWN_MS);

/// Where the node is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading its directory; the words say how far.
    Opening(String),
    /// Its directory is proved to be empty.
    Blank,
    /// Runs raft.
    Member,
    /// Its removal is proved; raft has stopped.
    Removed(String),
    /// Not to be trusted; raft never started, or has stopped.
    Quarantined(Finding),
}

/// What the raft thread publishes after a change, and at each tick.
#[derive(Clone, Debug)]
pub struct Published {
    /// Where the node is in its life.
    pub phase: Phase,
    /// The incarnation of the data directory; `None` before it was read.
    pub incarnation: Option<Hex128>,
    /// Who the node is, once it is or was a member.
    pub identity: Option<MemberIdentity>,
    /// The driver's status, while raft runs.
    pub driver: Option<DriverStatus>,
    /// Durable term and last index, for hellos.
    pub durable: (Term, Index),
}

/// Shared by the handle, the raft thread, the apply thread and the background tasks.
pub struct Shared {
    /// Validated flags.
    pub config: Config,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Random per process start.
    pub nonce: u64,
    /// Numbers requests and reads.
    pub seq: AtomicU64,
    /// Who waits for what.
    pub waiters: Waiters,
    /// The channel to the raft thread.
    pub input: mpsc::Sender<Input>,
    /// Proposals taken from clients and not answered yet.
    pub proposals: Queue,
    /// Reads not answered yet.
    pub reads: Queue,
    /// Raft messages of peers that the raft thread has not taken yet.
    pub messages: Queue,
    /// The node was told to stop.
    pub stopping: AtomicBool,
    started: Instant,
    /// When the raft thread last turned, in milliseconds since start.
    raft_turned_ms: AtomicU64,
    /// Jobs given to the apply thread.
    pub apply_given: AtomicU64,
    /// Jobs that the apply thread has done.
    pub apply_done: AtomicU64,
    /// When the apply thread last made progress, in milliseconds since start; each record proved or rebuilt counts.
    apply_moved_ms: AtomicU64,
    /// When a background read last succeeded, in milliseconds since start, plus one; 0 is never.
    read_succeeded_ms: AtomicU64,
    /// Space on the data volume, and who waits for some.
    pub space: DiskSpace,
    /// Told when something happens that the background task should not leave for its next round.
    news: Notify,
    published: RwLock<Arc<Published>>,
    view: RwLock<Option<Arc<View>>>,
    kv: RwLock<(KvState, String)>,
    advertised: Mutex<BTreeMap<MemberId, Advertised>>,
    /// The member that last said hello.
    speaker: Mutex<Option<PeerAddress>>,
    /// Members of which two processes said hello: the words for people, and when it was last noticed (rule N27).
    twins: Mutex<BTreeMap<MemberId, (String, Instant)>>,
    /// The last failure to dial each peer, until it succeeds.
    dial_failures: Mutex<BTreeMap<MemberId, DialFailure>>,
    /// The newest snapshot body to each peer; those that have ended are gone.
    bodies: Mutex<BTreeMap<MemberId, Weak<BodyProgress>>>,
}

impl Shared {
    /// The state before anything is known.
    pub fn new(
        config: Config,
        metrics: Arc<Metrics>,
        nonce: u64,
        input: mpsc::Sender<Input>,
        reserve: Arc<Reserve>,
    ) -> Shared {
        let phase = Phase::Opening("looking at the data directory".to_string());
        let published = Published { phase, incarnation: None, identity: None, driver: None, durable: (0, 0) };
        Shared {
            config,
            metrics,
            nonce,
            seq: AtomicU64::new(1),
            waiters: Waiters::default(),
            input,
            proposals: Queue::default(),
            reads: Queue::default(),
            messages: Queue::default(),
            stopping: AtomicBool::new(false),
            started: Instant::now(),
            raft_turned_ms: AtomicU64::new(0),
            apply_given: AtomicU64::new(0),
            apply_done: AtomicU64::new(0),
            apply_moved_ms: AtomicU64::new(0),
            read_succeeded_ms: AtomicU64::new(0),
            space: DiskSpace::new(reserve),
            news: Notify::new(),
            published: RwLock::new(Arc::new(published)),
            view: RwLock::new(None),
            kv: RwLock::new((KvState::Absent, String::new())),
            advertised: Mutex::new(BTreeMap::new()),
            speaker: Mutex::new(None),
            twins: Mutex::new(BTreeMap::new()),
            dial_failures: Mutex::new(BTreeMap::new()),
            bodies: Mutex::new(BTreeMap::new()),
        }
    }

    /// Makes one read of the driver for all who read together; the caller has to send it to the raft thread.
    pub fn new_read(&self, to: Vec<oneshot::Sender<ReadReply>>, desk: Option<Arc<Desk>>) -> Event {
        let read = self.seq.fetch_add(1, Ordering::Relaxed);
        self.waiters.reads(read, to, desk);
        Event::Read { read }
    }

    /// Sends to the raft thread; false when it has ended.
    pub fn send(&self, input: Input) -> bool {
        self.input.send(input).is_ok()
    }

    /// Wakes the background task: peers should hear the news, and readiness may have changed.
    pub fn tell_news(&self) {
        self.news.notify_one();
    }

    /// Waits for the next news; news told since the last wait counts.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The newest publication.
    pub fn published(&self) -> Arc<Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the newest publication.
    pub fn publish(&self, published: Published) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(published);
    }

    /// The readable store, while there is one.
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes the view of a store that was proved, or that there is none.
    pub fn set_view(&self, view: Option<Arc<View>>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// What the kv db is doing, with words for people.
    pub fn kv(&self) -> (KvState, String) {
        self.kv.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes what the kv db is doing, which is progress of the apply thread.
    pub fn set_kv(&self, state: KvState, words: String) {
        *self.kv.write().unwrap_or_else(PoisonError::into_inner) = (state, words);
        self.apply_moved();
    }

    /// What a member advertises, if it has ever told this node.
    pub fn advertised(&self, id: MemberId) -> Option<Advertised> {
        self.advertised.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The admin URLs of all that have ever told this node where they are.
    pub fn advertised_admin_urls(&self) -> Vec<String> {
        let advertised = self.advertised.lock().unwrap_or_else(PoisonError::into_inner);
        advertised.values().map(|urls| urls.admin_url.clone()).filter(|url| !url.is_empty()).collect()
    }

    /// The member that last said hello, if any has.
    pub fn speaker(&self) -> Option<PeerAddress> {
        self.speaker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps who said hello.
    pub fn set_speaker(&self, speaker: PeerAddress) {
        *self.speaker.lock().unwrap_or_else(PoisonError::into_inner) = Some(speaker);
    }

    /// Keeps what a member advertises.
    pub fn set_advertised(&self, id: MemberId, urls: Advertised) {
        self.advertised.lock().unwrap_or_else(PoisonError::into_inner).insert(id, urls);
    }

    /// Forgets the peers that were removed.
    pub fn forget_removed(&self, membership: &Membership) {
        let mut advertised = self.advertised.lock().unwrap_or_else(PoisonError::into_inner);
        advertised.retain(|id, _| !membership.is_removed(*id));
        let mut failures = self.dial_failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|id, _| !membership.is_removed(*id));
        let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        twins.retain(|id, _| !membership.is_removed(*id));
        // A frame or two may still come from, or go to, one that has just left: its metrics are dropped again with each
        // later change, as long as there is a record of it.
        membership.removed.keys().for_each(|id| self.metrics.forget_peer(*id));
    }

    /// Records that two processes say that they are this member; true when that is news.
    pub fn twin_seen(&self, of: MemberId, words: &str) -> bool {
        let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        let old = twins.insert(of, (words.to_string(), Instant::now()));
        old.is_none_or(|(_, at)| at.elapsed() > TWIN_SHOWN)
    }

    /// What is known of members of which two processes said hello a moment ago.
    pub fn twins(&self) -> Vec<Twin> {
        let twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = twins.iter().filter(|(_, (_, at))| at.elapsed() <= TWIN_SHOWN);
        shown.map(|(id, (words, _))| Twin { id: DecimalId(*id), detail: words.clone() }).collect()
    }

    /// Records that a peer could not be dialled; true when the failure differs from the last one.
    pub fn dial_failed(&self, to: MemberId, failure: &DialFailure) -> bool {
        let mut failures = self.dial_failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.insert(to, failure.clone()).as_ref() != Some(failure)
    }

    /// Records that a peer was dialled with success.
    pub fn dial_succeeded(&self, to: MemberId) {
        self.dial_failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&to);
    }

    /// A peer has begun to take the body of a snapshot.
    pub fn body_begun(&self, to: MemberId, progress: &Arc<BodyProgress>) {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.retain(|_, body| body.strong_count() > 0);
        bodies.insert(to, Arc::downgrade(progress));
    }

    /// The snapshots that are on their way to peers.
    pub fn streams(&self) -> Vec<Stream> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let running = bodies.iter().filter_map(|(id, body)| Some((*id, body.upgrade()?.bytes())));
        running.map(|(id, (sent, total))| Stream { id: DecimalId(id), sent, total }).collect()
    }

    /// Whether this member was started under another peer address than its membership has. Then its data was copied or moved
    /// here, the member may still run where it was, and the peers are those of that place: it dials none of them, and
    /// answers none (rule O34).
    pub fn is_elsewhere(&self, own: MemberId, membership: &Membership) -> bool {
        membership.members.get(&own).is_some_and(|known| known.peer != self.config.peer)
    }

    /// Our hello to (`to`, `to_incarnation`); `durable` is our durable term and last index.
    pub fn own_hello(
        &self,
        identity: &MemberIdentity,
        durable: (Term, Index),
        to: MemberId,
        to_incarnation: Hex128,
    ) -> Hello {
        let config = &self.config;
        Hello {
            format: HELLO_FORMAT,
            cluster_id: identity.cluster_id,
            genesis: identity.genesis,
            generation: identity.generation,
            from: identity.member_id,
            from_name: config.name.clone(),
            from_incarnation: identity.incarnation,
            to,
            to_incarnation,
            boot: self.nonce,
            term: durable.0,
            last_index: durable.1,
            peer_url: config.peer.url(),
            client_url: config.client_url.clone(),
            admin_url: config.admin_url.clone(),
            level_max: LEVEL_MAX,
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Records that the raft thread turned.
    pub fn raft_turned(&self) {
        self.raft_turned_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Milliseconds since the raft thread last turned.
    pub fn raft_idle_ms(&self) -> u64 {
        self.now_ms().saturating_sub(self.raft_turned_ms.load(Ordering::Relaxed))
    }

    /// Records that the apply thread made progress.
    pub fn apply_moved(&self) {
        self.apply_moved_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Milliseconds since the apply thread last made progress; 0 while it has nothing to do.
    pub fn apply_stuck_ms(&self) -> u64 {
        let idle = self.apply_given.load(Ordering::Relaxed) == self.apply_done.load(Ordering::Relaxed);
        if idle { 0 } else { self.now_ms().saturating_sub(self.apply_moved_ms.load(Ordering::Relaxed)) }
    }

    /// For how many milliseconds the log has been syncing a batch; 0 while it is not.
    pub fn log_sync_ms(&self) -> u64 {
        self.published().driver.as_ref().map_or(0, |driver| driver.sync_ms)
    }

    /// Records that a background read succeeded.
    pub fn read_succeeded(&self) {
        self.read_succeeded_ms.store(self.now_ms() + 1, Ordering::Relaxed);
    }

    /// Milliseconds since a background read last succeeded; `None` if never.
    pub fn since_read_ms(&self) -> Option<u64> {
        let at = self.read_succeeded_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.now_ms().saturating_sub(at))
    }
}

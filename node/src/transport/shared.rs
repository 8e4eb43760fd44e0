//! What all tasks of the transport share: who is dialled, who dialled us, what is fetched, and what was dropped.
//!
//! The locks here are held for look-ups only, never during IO or a call to the node. Nothing here starts a task of its
//! own accord: the callers decide which tasks there are.

use super::bounds::TransportLimits;
use super::outbox::Outbox;
use super::pace::Pace;
use super::{PeerAddress, PeerEvents};
use raftkv_api::Hex128;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::types::MemberId;
use raftkv_core::wire::{self, Hello, Run};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

/// The counters behind [`super::Counts`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub full: AtomicU64,
    pub not_connected: AtomicU64,
    pub foreign: AtomicU64,
    pub proposals: AtomicU64,
    pub connections: AtomicU64,
}

impl Counters {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The cluster's bearer tokens.
pub trait Credentials: Send + Sync + 'static {
    /// Whether `presented` is one of the tokens; compared in constant time.
    fn accepts(&self, presented: &str) -> bool;
    /// The token that we send.
    fn to_send(&self) -> String;
}

/// The fetch that is under way.
pub(super) struct Fetching {
    /// Tells this fetch from a later one of the same file.
    pub serial: u64,
    /// The file that was offered.
    pub meta: SnapshotMeta,
    /// Nothing is sent on it: the fetch ends when this is dropped.
    pub cancel: Option<oneshot::Sender<()>>,
}

/// What the tasks share.
pub(super) struct Inner {
    rt: Handle,
    pub events: Arc<dyn PeerEvents>,
    pub credentials: Arc<dyn Credentials>,
    pub disk: Arc<dyn LogDisk>,
    pub limits: TransportLimits,
    pub counters: Counters,
    /// The one pace of all snapshot bodies that leave.
    pub pace: Arc<Pace>,
    peers: Mutex<Peers>,
    fetching: Mutex<Option<Fetching>>,
    /// Fetches begun so far.
    pub fetches: AtomicU64,
    pub stop: watch::Sender<bool>,
}

#[derive(Default)]
pub(super) struct Peers {
    pub dialled: BTreeMap<MemberId, Dialled>,
    pub accepted: BTreeMap<MemberId, AcceptedStream>,
}

/// A peer that we dial.
pub(super) struct Dialled {
    pub address: PeerAddress,
    pub outbox: Arc<Outbox>,
    pub task: AbortHandle,
    /// Which run of the peer's process answered the present stream, or the last one.
    pub boot: u64,
}

/// The newest stream that a peer dialled.
pub(super) struct AcceptedStream {
    incarnation: Hex128,
    boot: u64,
    /// Where the peer said that it is, and where it dialled from.
    at: String,
    outbox: Arc<Outbox>,
}

/// A stream that stands to another run of a peer's process than the one that says hello.
pub(super) struct OtherRun {
    /// Where that process is.
    pub at: String,
    pub outbox: Arc<Outbox>,
}

impl Peers {
    /// The stream that we dialled, or, while that one is down, the newest one that `to` dialled. (Otherwise a joiner's
    /// first answers would be lost: it begins to dial only when it learns of its membership, and the messages that
    /// bring it need answers.)
    pub fn route(&self, to: MemberId) -> Option<Arc<Outbox>> {
        let dialled = self.dialled.get(&to).map(|peer| &peer.outbox);
        let accepted = || self.accepted.get(&to).map(|stream| &stream.outbox);
        dialled.filter(|outbox| outbox.is_open()).or_else(accepted).cloned()
    }

    /// The incarnation of a peer. A joiner has no peers yet: it knows the member that offers it a snapshot only from
    /// that member's stream.
    pub fn incarnation(&self, of: MemberId) -> Option<Hex128> {
        let dialled = self.dialled.get(&of).map(|peer| peer.address.incarnation);
        dialled.or_else(|| self.accepted.get(&of).map(|stream| stream.incarnation))
    }

    /// The outboxes of a peer's streams, whether they are up or not.
    pub fn streams_to(&self, id: MemberId) -> impl Iterator<Item = &Arc<Outbox>> {
        let dialled = self.dialled.get(&id).map(|peer| &peer.outbox);
        dialled.into_iter().chain(self.accepted.get(&id).map(|stream| &stream.outbox))
    }

    /// The streams that stand, in either direction, to another run of the process that sent `hello` (rule N27).
    pub fn other_runs(&self, hello: &Hello) -> Vec<OtherRun> {
        let dialled = self.dialled.get(&hello.from).map(|peer| {
            (Run { incarnation: peer.address.incarnation, boot: peer.boot }, &peer.address.peer_url, &peer.outbox)
        });
        let accepted = self
            .accepted
            .get(&hello.from)
            .map(|stream| (Run { incarnation: stream.incarnation, boot: stream.boot }, &stream.at, &stream.outbox));
        let streams = dialled.into_iter().chain(accepted);
        let others = streams.filter(|(run, _, outbox)| outbox.is_open() && wire::is_of_another_run(*run, hello));
        others.map(|(_, at, outbox)| OtherRun { at: at.clone(), outbox: Arc::clone(outbox) }).collect()
    }
}

impl Inner {
    /// A state without peers.
    pub fn new(
        rt: Handle,
        events: Arc<dyn PeerEvents>,
        credentials: Arc<dyn Credentials>,
        disk: Arc<dyn LogDisk>,
        limits: TransportLimits,
    ) -> Inner {
        Inner {
            rt,
            events,
            credentials,
            disk,
            limits,
            counters: Counters::default(),
            pace: Arc::new(Pace::new(limits.snapshot_bytes_per_second)),
            peers: Mutex::default(),
            fetching: Mutex::default(),
            fetches: AtomicU64::new(0),
            stop: watch::Sender::new(false),
        }
    }

    /// Runs a task until it ends or the transport does.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut stop = self.stop.subscribe();
        let task = async move {
            tokio::select! {
                biased;
                // An error means that the transport itself is gone.
                _ = stop.wait_for(|stopped| *stopped) => {}
                () = task => {}
            }
        };
        self.rt.spawn(task).abort_handle()
    }

    /// A closed outbox.
    pub fn new_outbox(&self) -> Arc<Outbox> {
        Arc::new(Outbox::new(&self.limits))
    }

    /// A stream that the sender of `theirs` opened, not yet in the list of streams to send on.
    pub fn accepted<'a>(&'a self, theirs: &Hello, at: String, outbox: &Arc<Outbox>) -> Accepted<'a> {
        let (id, incarnation, boot) = (theirs.from, theirs.from_incarnation, theirs.boot);
        Accepted { inner: self, id, incarnation, boot, at, outbox: Arc::clone(outbox) }
    }

    /// Records that the stream that we dialled to `to` is up, and which run of its process answered.
    pub fn dialled(&self, to: MemberId, boot: u64) {
        if let Some(peer) = self.peers().dialled.get_mut(&to) {
            peer.boot = boot;
        }
    }

    /// The peers, locked for a look-up.
    pub fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().expect("no thread panics while it holds this lock")
    }

    /// The fetch under way, locked for a look-up.
    pub fn fetching(&self) -> MutexGuard<'_, Option<Fetching>> {
        self.fetching.lock().expect("no thread panics while it holds this lock")
    }
}

/// Keeps an accepted stream in the list while it is up.
pub(super) struct Accepted<'a> {
    inner: &'a Inner,
    id: MemberId,
    incarnation: Hex128,
    boot: u64,
    at: String,
    outbox: Arc<Outbox>,
}

impl Accepted<'_> {
    /// Makes this the newest stream of its peer and ends the one before it: a peer dials anew only when its old stream
    /// is dead. Also ends a stream that we dialled to another run of its process, which did not answer (rule N27) or came
    /// at the same moment.
    pub fn register(&self) {
        let (incarnation, boot, at) = (self.incarnation, self.boot, self.at.clone());
        let stream = AcceptedStream { incarnation, boot, at, outbox: Arc::clone(&self.outbox) };
        let mut peers = self.inner.peers();
        if let Some(old) = peers.accepted.insert(self.id, stream) {
            old.outbox.close();
        }
        if let Some(dialled) = peers.dialled.get(&self.id).filter(|dialled| dialled.boot != self.boot) {
            dialled.outbox.close();
        }
    }
}

impl Drop for Accepted<'_> {
    fn drop(&mut self) {
        let mut peers = self.inner.peers();
        if peers.accepted.get(&self.id).is_some_and(|newest| Arc::ptr_eq(&newest.outbox, &self.outbox)) {
            peers.accepted.remove(&self.id);
        }
    }
}

//! The handle through which the node uses the transport. It decides which peers are dialled and what is fetched.
//!
//! Enters: calls from any thread; none of them blocks. Leaves: what becomes of them, through [`PeerEvents`]. Each peer
//! has its own task and queue.

use super::bounds::TransportLimits;
use super::outbox::{Dropped, Outbox};
use super::shared::{Counters, Credentials, Dialled, Fetching, Inner, Peers};
use super::snapshot_fetch::{self, FetchError, Offer};
use super::{PeerAddress, PeerEvents, dialler, listener};
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::SnapshotMeta;
use raftkv_core::types::MemberId;
use raftkv_core::wire::Frame;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What was dropped since the transport was made, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames to send: the peer's queue was full, or the frame too large.
    pub full: u64,
    /// Frames to send: no stream stood.
    pub not_connected: u64,
    /// Raft messages received whose from or to is not the stream's.
    pub foreign: u64,
    /// MsgPropose received.
    pub proposals: u64,
    /// Connections beyond the limit on the peer port.
    pub connections: u64,
}

/// The handle; cheap to clone. The transport ends with [`Transport::shutdown`], not with its last handle.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

impl Transport {
    /// A transport without peers whose tasks run on `rt`.
    pub fn new(
        rt: Handle,
        events: Arc<dyn PeerEvents>,
        credentials: Arc<dyn Credentials>,
        disk: Arc<dyn LogDisk>,
    ) -> Transport {
        Transport::with_limits(rt, events, credentials, disk, TransportLimits::default())
    }

    /// The same transport with other limits.
    pub fn with_limits(
        rt: Handle,
        events: Arc<dyn PeerEvents>,
        credentials: Arc<dyn Credentials>,
        disk: Arc<dyn LogDisk>,
        limits: TransportLimits,
    ) -> Transport {
        let inner = Inner::new(rt, events, credentials, disk, limits);
        Transport { inner: Arc::new(inner) }
    }

    /// Serves the peer port.
    pub fn serve(&self, listener: TcpListener) {
        let inner = Arc::clone(&self.inner);
        self.inner.spawn(listener::serve(inner, listener));
    }

    /// Dials exactly these peers from now on; one whose address is the same keeps its stream. The caller leaves its own
    /// node out.
    pub fn set_peers(&self, wanted: Vec<PeerAddress>) {
        let mut wanted: BTreeMap<MemberId, PeerAddress> = wanted.into_iter().map(|peer| (peer.id, peer)).collect();
        let mut peers = self.inner.peers();
        if *self.inner.stop.borrow() {
            return;
        }
        peers.dialled.retain(|id, peer| {
            let kept = wanted.get(id) == Some(&peer.address);
            if kept {
                wanted.remove(id);
            } else {
                peer.task.abort();
                peer.outbox.close();
            }
            kept
        });
        for (id, address) in wanted {
            let outbox = self.inner.new_outbox();
            let dialling = dialler::run(Arc::clone(&self.inner), address.clone(), Arc::clone(&outbox));
            let task = self.inner.spawn(dialling);
            peers.dialled.insert(id, Dialled { address, outbox, task, boot: 0 });
        }
    }

    /// Queues a frame for `to` and flushes it, see [`Transport::queue`].
    pub fn send(&self, to: MemberId, frame: Frame) -> Result<(), Dropped> {
        self.queue(to, frame).map(|queued| queued.flush())
    }

    /// Queues a frame for `to` on the stream that we dialled, or, while there is none, on the newest one that `to`
    /// dialled. The frame leaves when it is flushed, with all frames that were queued before it. A frame that is not
    /// taken is dropped, and so is one whose stream breaks; nothing is sent twice.
    pub fn queue(&self, to: MemberId, frame: Frame) -> Result<Queued, Dropped> {
        let outbox = self.inner.peers().route(to);
        let result = outbox.ok_or(Dropped::NotConnected).and_then(|outbox| {
            outbox.push(frame)?;
            Ok(Queued(outbox))
        });
        match result {
            Ok(_) => {}
            Err(Dropped::NotConnected) => Counters::count(&self.inner.counters.not_connected),
            Err(Dropped::Full | Dropped::TooLarge) => Counters::count(&self.inner.counters.full),
        }
        result
    }

    /// Ends every stream to this peer; it is dialled again.
    pub fn hang_up(&self, on: MemberId) {
        self.inner.peers().streams_to(on).for_each(|outbox| outbox.close());
    }

    /// Fetches the snapshot that `from` offered, from its peer URL. Ends in one `on_snapshot_fetched`, except for an
    /// offer of the file that is being fetched already, which is ignored.
    pub fn fetch_snapshot(&self, from: MemberId, from_url: &str, meta: SnapshotMeta) {
        let at = |meta: &SnapshotMeta| (meta.index, meta.term);
        let mut fetching = self.inner.fetching();
        let running = fetching.as_ref().map(|fetch| &fetch.meta);
        if running == Some(&meta) {
            return;
        }
        let (is_older, is_twin) =
            (running.is_some_and(|r| at(&meta) < at(r)), running.is_some_and(|r| at(&meta) == at(r)));
        if is_older || is_twin {
            if let Some(fetch) = fetching.as_mut().filter(|_| is_twin) {
                // Another member's snapshot of the same position is another file with the same name. What has arrived
                // is of no use, and must be gone before the other file is begun, which happens when it is offered
                // again.
                fetch.cancel = None;
            }
            drop(fetching);
            let inner = Arc::clone(&self.inner);
            self.inner.spawn(async move {
                inner.events.on_snapshot_fetched(from, meta, Err(FetchError::Replaced.to_string()));
            });
            return;
        }
        let serial = self.inner.fetches.fetch_add(1, Ordering::Relaxed);
        let (cancel, cancelled) = oneshot::channel();
        // Dropping the sender of an older fetch cancels it.
        *fetching = Some(Fetching { serial, meta: meta.clone(), cancel: Some(cancel) });
        drop(fetching);
        let fetch = run_fetch(Arc::clone(&self.inner), from, from_url.to_string(), meta, serial, cancelled);
        self.inner.spawn(fetch);
    }

    /// What was dropped so far.
    pub fn counts(&self) -> Counts {
        let Counters { full, not_connected, foreign, proposals, connections } = &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            full: read(full),
            not_connected: read(not_connected),
            foreign: read(foreign),
            proposals: read(proposals),
            connections: read(connections),
        }
    }

    /// Ends every task: the listener, all streams, bodies and fetches. Nothing more is sent or reported.
    pub fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        let mut peers = self.inner.peers();
        for peer in peers.dialled.values() {
            peer.outbox.close();
        }
        *peers = Peers::default();
    }
}

/// A stream with frames that wait to be sent.
#[derive(Debug)]
#[must_use = "frames leave when they are flushed"]
pub struct Queued(Arc<Outbox>);

impl Queued {
    /// Sends them. Never blocks.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// Whether flushing one also flushes the other.
    pub fn is_same(&self, other: &Queued) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

async fn run_fetch(
    inner: Arc<Inner>,
    from: MemberId,
    url: String,
    meta: SnapshotMeta,
    serial: u64,
    cancelled: oneshot::Receiver<()>,
) {
    let hello = inner
        .peers()
        .incarnation(from)
        .ok_or(FetchError::Unknown(from))
        .and_then(|incarnation| inner.events.our_hello(from, incarnation).ok_or(FetchError::NotAMember));
    let result = match hello {
        Ok(hello) => {
            let offer = Offer { from, url, hello, meta: meta.clone() };
            snapshot_fetch::fetch(&inner, &offer, cancelled).await
        }
        Err(error) => Err(error),
    };
    // The place is freed before the node is told, so that it may fetch again at once.
    inner.fetching().take_if(|fetch| fetch.serial == serial);
    inner.events.on_snapshot_fetched(from, meta, result.map_err(|e| e.to_string()));
}

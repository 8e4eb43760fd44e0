//! What surrounds the transport in its tests: a node that records and answers as told, a disk in memory, a token.

use super::*;
use raftkv_core::membership::Membership;
use raftkv_core::ports::LogDisk;
use raftkv_core::types::RequestId;
use raftkv_core::wire::{Forward, HELLO_FORMAT, LEVEL_MAX, encode};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;

pub(super) const DEADLINE: Duration = Duration::from_secs(20);
pub(super) const TOKEN: &str = "0123456789abcdef";

/// A frame that can be told from others, with `bytes` of data.
pub(super) fn forward(seq: u64, bytes: usize) -> Frame {
    Frame::Forward(Forward {
        term: 1,
        request: RequestId { origin: 1, nonce: 2, seq },
        data: vec![seq as u8; bytes].into(),
    })
}

/// Member `id`'s data directory.
pub(super) fn incarnation(id: MemberId) -> Hex128 {
    Hex128([id as u8; 16])
}

pub(super) fn hello(from: MemberId, to: MemberId) -> Hello {
    Hello {
        format: HELLO_FORMAT,
        cluster_id: Hex128([0xc; 16]),
        genesis: Hex128([0xd; 16]),
        generation: 0,
        from,
        from_name: format!("n{from}"),
        from_incarnation: incarnation(from),
        to,
        to_incarnation: incarnation(to),
        boot: 1,
        term: 1,
        last_index: 1,
        peer_url: format!("http://n{from}:2380"),
        client_url: format!("http://n{from}:2379"),
        admin_url: format!("http://n{from}:2381"),
        level_max: LEVEL_MAX,
    }
}

pub(super) fn meta(index: Index, content: &[u8]) -> SnapshotMeta {
    use sha2::Digest as _;
    SnapshotMeta {
        index,
        term: 1,
        membership: Membership::default(),
        revision: 1,
        compacted: 0,
        size: content.len() as u64,
        sha256: snapshot_fetch::hex(&sha2::Sha256::digest(content)),
    }
}

/// What the transport told the node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Hello(MemberId),
    Connected(MemberId),
    Frame(MemberId, Frame),
    UnknownFrame(MemberId, u8),
    DialFailed(MemberId, DialFailure),
    Body { to: MemberId, index: Index, whole: bool },
    Fetched { from: MemberId, index: Index, result: Result<(), String> },
    Rtt(MemberId),
    Twin(MemberId, String),
}

/// A node that accepts every hello unless told otherwise, and records what it is told.
pub(super) struct FakeNode {
    id: MemberId,
    pub verdict: Mutex<Option<HelloVerdict>>,
    /// Which run of the process this is.
    pub boot: AtomicU64,
    told: Mutex<Vec<Event>>,
    wake: Notify,
}

impl FakeNode {
    fn tell(&self, event: Event) {
        self.told.lock().unwrap().push(event);
        self.wake.notify_waiters();
    }

    pub fn told(&self) -> Vec<Event> {
        self.told.lock().unwrap().clone()
    }

    /// Forgets what it was told.
    pub fn forget(&self) {
        self.told.lock().unwrap().clear();
    }

    /// Waits until one of the events is the wanted one.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let search = async {
            loop {
                let woken = self.wake.notified();
                tokio::pin!(woken);
                woken.as_mut().enable();
                if let Some(event) = self.told().into_iter().find(&wanted) {
                    return event;
                }
                woken.await;
            }
        };
        match tokio::time::timeout(DEADLINE, search).await {
            Ok(event) => event,
            Err(_) => panic!("node {} was never told: {what}; it was told {:?}", self.id, self.told()),
        }
    }

    pub async fn connected(&self, to: MemberId) {
        self.wait_for("connected", |event| *event == Event::Connected(to)).await;
    }

    pub async fn dial_failed(&self) -> DialFailure {
        match self.wait_for("dial failed", |event| matches!(event, Event::DialFailed(..))).await {
            Event::DialFailed(_, failure) => failure,
            other => panic!("waited for something else than {other:?}"),
        }
    }

    pub async fn frame(&self, from: MemberId, frame: &Frame) {
        self.wait_for("a frame", |event| matches!(event, Event::Frame(f, got) if *f == from && got == frame)).await;
    }

    pub async fn fetched(&self, index: Index) -> Result<(), String> {
        match self.wait_for("fetched", |event| matches!(event, Event::Fetched { index: i, .. } if *i == index)).await {
            Event::Fetched { result, .. } => result,
            other => panic!("waited for something else than {other:?}"),
        }
    }
}

impl PeerEvents for FakeNode {
    fn our_hello(&self, to: MemberId, to_incarnation: Hex128) -> Option<Hello> {
        Some(Hello { to_incarnation, boot: self.boot.load(Ordering::Relaxed), ..hello(self.id, to) })
    }
    fn on_hello(&self, theirs: Hello, verdict: oneshot::Sender<HelloVerdict>) {
        self.tell(Event::Hello(theirs.from));
        let boot = self.boot.load(Ordering::Relaxed);
        let ours = Hello { to_incarnation: theirs.from_incarnation, boot, ..hello(self.id, theirs.from) };
        let told = self.verdict.lock().unwrap().clone();
        let _ = verdict.send(told.unwrap_or(HelloVerdict::Accept(Box::new(ours)))); // the peer may be gone
    }
    fn on_connected(&self, hello: Hello) {
        self.tell(Event::Connected(hello.from));
    }
    fn on_frame(&self, from: MemberId, frame: Frame) {
        self.tell(Event::Frame(from, frame));
    }
    fn on_unknown_frame(&self, from: MemberId, kind: u8) {
        self.tell(Event::UnknownFrame(from, kind));
    }
    fn on_dial_failed(&self, to: MemberId, failure: DialFailure) {
        self.tell(Event::DialFailed(to, failure));
    }
    fn on_twin(&self, of: MemberId, words: String) {
        self.tell(Event::Twin(of, words));
    }
    fn on_snapshot_begun(&self, _to: MemberId, _index: Index, _progress: &Arc<BodyProgress>) {}
    fn on_snapshot_body(&self, to: MemberId, index: Index, whole: bool) {
        self.tell(Event::Body { to, index, whole });
    }
    fn check_snapshot(&self, disk: &dyn LogDisk, name: &str, meta: &SnapshotMeta) -> Result<(), String> {
        let mut content = vec![0; meta.size as usize];
        disk.read(name, 0, &mut content).map_err(|e| e.to_string())?;
        if content.starts_with(b"foreign") { Err("it is of another cluster".into()) } else { Ok(()) }
    }
    fn on_snapshot_fetched(&self, from: MemberId, meta: SnapshotMeta, result: Result<(), String>) {
        self.tell(Event::Fetched { from, index: meta.index, result });
    }
    fn on_rtt(&self, to: MemberId, _micros: u64) {
        self.tell(Event::Rtt(to));
    }
}

/// Files in memory.
#[derive(Default)]
pub(super) struct MemDisk {
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    pub dir_syncs: Mutex<u64>,
}

impl MemDisk {
    fn file<T>(&self, name: &str, then: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        self.files.lock().unwrap().get_mut(name).map(then).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl LogDisk for MemDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }
    fn len(&self, name: &str) -> io::Result<u64> {
        self.file(name, |file| file.len() as u64)
    }
    fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file(name, |file| {
            let rest = file.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            len
        })
    }
    fn create(&self, name: &str, len: u64) -> io::Result<()> {
        self.files.lock().unwrap().insert(name.to_string(), vec![0; len as usize]);
        Ok(())
    }
    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name, |file| {
            let end = offset as usize + bytes.len();
            file.resize(file.len().max(end), 0);
            file[offset as usize..end].copy_from_slice(bytes);
        })
    }
    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name, |_| ())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_string(), content);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn sync_dir(&self) -> io::Result<()> {
        *self.dir_syncs.lock().unwrap() += 1;
        Ok(())
    }
}

/// One token.
pub(super) struct Token(pub &'static str);

impl Credentials for Token {
    fn accepts(&self, presented: &str) -> bool {
        presented == self.0
    }
    fn to_send(&self) -> String {
        self.0.to_string()
    }
}

/// A transport on its fake node and disk; ends when dropped.
pub(super) struct Peer {
    pub id: MemberId,
    pub node: Arc<FakeNode>,
    pub disk: Arc<MemDisk>,
    pub transport: Transport,
    pub url: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.transport.shutdown();
    }
}

/// Short waits where the tests do not measure them.
pub(super) fn quick() -> TransportLimits {
    TransportLimits {
        probe: Duration::from_millis(20),
        ask: Duration::from_millis(200),
        redial_min: Duration::from_millis(5),
        redial_max: Duration::from_millis(20),
        ..TransportLimits::default()
    }
}

impl Peer {
    pub async fn new(id: MemberId) -> Peer {
        Peer::with(id, TOKEN, quick()).await
    }

    /// On a free port of loopback.
    pub async fn with(id: MemberId, token: &'static str, limits: TransportLimits) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Peer::on(id, token, limits, listener)
    }

    pub fn on(id: MemberId, token: &'static str, limits: TransportLimits, listener: TcpListener) -> Peer {
        let (verdict, told) = (Mutex::default(), Mutex::default());
        let node = Arc::new(FakeNode { id, verdict, boot: AtomicU64::new(1), told, wake: Notify::new() });
        let disk = Arc::new(MemDisk::default());
        let url = format!("http://{}", listener.local_addr().unwrap());
        let events: Arc<dyn PeerEvents> = node.clone();
        let transport = Transport::with_limits(Handle::current(), events, Arc::new(Token(token)), disk.clone(), limits);
        transport.serve(listener);
        Peer { id, node, disk, transport, url }
    }

    pub fn address(&self) -> PeerAddress {
        PeerAddress { id: self.id, peer_url: self.url.clone(), incarnation: incarnation(self.id) }
    }

    /// Dials these and nobody else.
    pub fn dial(&self, others: &[&Peer]) {
        self.transport.set_peers(others.iter().map(|other| other.address()).collect());
    }
}

/// A listener that the test answers by hand.
pub(super) async fn by_hand(id: MemberId) -> (TcpListener, PeerAddress) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer_url = format!("http://{}", listener.local_addr().unwrap());
    (listener, PeerAddress { id, peer_url, incarnation: incarnation(id) })
}

/// Reads an HTTP head.
pub(super) async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(DEADLINE, tcp.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads until the other side closes; a reset is a close too.
pub(super) async fn read_to_close(tcp: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(DEADLINE, tcp.read_to_end(&mut all)).await;
    let _ = read.expect("the other side closes in time"); // an error is a reset
    all
}

/// Reads until a frame has come, whatever comes before it.
pub(super) async fn read_until(tcp: &mut TcpStream, frame: &Frame) {
    let (mut wanted, mut read) = (Vec::new(), Vec::new());
    encode(frame, &mut wanted);
    while !read.ends_with(&wanted) {
        read.push(tokio::time::timeout(DEADLINE, tcp.read_u8()).await.unwrap().unwrap());
    }
}

/// A request head of member 2 to member 1.
pub(super) fn request(path: &str, token: &str, more: &str) -> String {
    let hello = handshake::to_header(&hello(2, 1));
    let hello = hello.to_str().unwrap();
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nx-raftkv-hello: {hello}\r\n{more}\r\n")
}

pub(super) const UPGRADE: &str = "connection: upgrade\r\nupgrade: raftkv-peer/1\r\n";

/// Opens a stream to member 1 as member 2, by hand.
pub(super) async fn open_by_hand(to: &Peer) -> TcpStream {
    open_by_hand_in_run(to, 1).await
}

/// The same in the given run of member 2's process.
pub(super) async fn open_by_hand_in_run(to: &Peer, boot: u64) -> TcpStream {
    let mut tcp = TcpStream::connect(to.url.strip_prefix("http://").unwrap()).await.unwrap();
    let request = request(handshake::PATH, TOKEN, UPGRADE).replace("\"boot\":1", &format!("\"boot\":{boot}"));
    tcp.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut tcp).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    tcp
}

/// Answers member 1's dial as member 2, by hand.
pub(super) async fn accept_by_hand(listener: &TcpListener) -> TcpStream {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let head = read_head(&mut tcp).await;
    assert!(head.starts_with("GET /raft/v1 HTTP/1.1\r\n"), "{head}");
    let hello = handshake::to_header(&hello(2, 1));
    let answer =
        format!("HTTP/1.1 101 Switching Protocols\r\n{UPGRADE}x-raftkv-hello: {}\r\n\r\n", hello.to_str().unwrap());
    tcp.write_all(answer.as_bytes()).await.unwrap();
    tcp
}

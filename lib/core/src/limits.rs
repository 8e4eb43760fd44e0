//! Every limit that bounds a queue, body, batch, retry or wait, with its unit in its name.
//!
//! What a user may tune is a flag of `raftkv serve`; what nobody should tune stands here with its reason.

/// Indexes, terms, ids and the numbers of files and batches count up from 1, one by one: above this one is garbage, and
/// the next one might not be a number any more.
pub const NUMBER_MAX: u64 = 1 << 62;

/// Largest key: 4 KiB. A key lives in the in-memory index of every member.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Largest request body on the client port, hence the largest value: 1.5 MiB, etcd's default.
pub const BODY_BYTES_MAX: usize = 1536 * 1024;
/// Largest request body on the admin port: these are small JSON objects.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// Most keys in one page of a range.
pub const PAGE_KEYS_MAX: usize = 10_000;
/// Most bytes of keys and values in one page of a range; a page always holds at least one key.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest request line plus headers: 16 KiB.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Proposals that may wait in the propose queue; one more is answered 429 and not proposed.
pub const PROPOSE_QUEUE_MAX: usize = 4096;
/// Bytes of proposals that may wait in the propose queue.
pub const PROPOSE_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Reads that may wait for a ReadIndex answer.
pub const READ_QUEUE_MAX: usize = 16 * 1024;
/// Raft messages of peers that may wait for the raft thread; one more is dropped, which raft repairs.
pub const PEER_QUEUE_MAX: usize = 4096;
/// Bytes of raft messages of peers that may wait for the raft thread.
pub const PEER_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Unstable bytes at which the driver stops stepping proposals and MsgAppend (rule N2).
pub const UNSTABLE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest log batch: it never spans segments.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest MsgAppend.
pub const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Most bytes of the log that the entries of one MsgAppend may take: with [`UNSTABLE_BYTES_MAX`] before it, it fits a
/// batch. A message of [`MESSAGE_BYTES_MAX`] takes several times that when its entries are empty.
pub const MESSAGE_ENTRY_BYTES_MAX: usize = 7 * 1024 * 1024;
/// Appends in flight to one peer.
pub const INFLIGHT_MESSAGES_MAX: usize = 64;
/// Bytes in flight to one peer.
pub const INFLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Uncommitted bytes a leader accepts; raft refuses proposals beyond.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of committed entries handed out in one Ready.
pub const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of entries that the apply queue may hold; beyond, it holds index ranges that are read again from the log.
pub const APPLY_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Newest bytes of entries kept in memory by the log (rule N17), as they are on disk: small ones take twice that in memory.
pub const LOG_CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A log segment: zero-filled once, then recycled.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Zero-filled segments kept ready.
pub const SPARE_SEGMENTS: usize = 2;
/// They are not made in a member's first seconds, when it, and others that start beside it on the same disk, have a
/// snapshot to take and votes to make durable.
pub const SPARE_AFTER_MS: u64 = 5_000;
/// A snapshot is cut when the log since the last one exceeds this and the snapshot's own size.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Pause behind a cut that failed, for lack of space most likely.
pub const SNAPSHOT_RETRY_MS: u64 = 10_000;
/// An offered snapshot whose body was not taken whole by then has failed.
pub const SNAPSHOT_OFFER_TIMEOUT_MS: u64 = 30_000;
/// A member that was given a whole snapshot answers within this, or raft probes it.
pub const SNAPSHOT_ANSWER_MS: u64 = 2_000;
/// Snapshot files kept.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Entries by which a caught-up member may be behind (rule O6).
pub const CAUGHT_UP_ENTRIES: u64 = 1000;

/// One raft tick.
pub const TICK_MS: u64 = 50;
/// Ticks between heartbeats.
pub const HEARTBEAT_TICKS: usize = 2;
/// Ticks of the check-quorum window and of the vote lease.
pub const ELECTION_TICKS: usize = 14;
/// Shortest randomized election timeout, in ticks; above [`ELECTION_TICKS`] so that the vote lease has ended (rule N23).
pub const MIN_ELECTION_TICKS: usize = 15;
/// Randomized election timeouts end below this, in ticks.
pub const MAX_ELECTION_TICKS: usize = 28;
/// A candidate to whom a vote was refused campaigns again after this many ticks: long enough for the votes of others that
/// are being made durable ...
pub const SPLIT_VOTE_TICKS: usize = 6;
/// ... and this many more for each voter with a lower id, so that candidates who shared the votes do not do so again.
pub const SPLIT_VOTE_TICKS_APART: usize = 3;

/// A client's write is answered `outcome: unknown` after this.
pub const WRITE_TIMEOUT_MS: u64 = 5_000;
/// A linearizable read is answered 503 `no_leader` after this.
pub const READ_TIMEOUT_MS: u64 = 5_000;
/// A membership change is answered `outcome: unknown` after this.
pub const CHANGE_TIMEOUT_MS: u64 = 15_000;
/// A leadership transfer that was not taken over by then has failed.
pub const TRANSFER_TIMEOUT_MS: u64 = 2_000;

/// Before a process replaces itself to rebuild its kv db.
pub const RESTART_PAUSE_MS: u64 = 500;

/// Largest payload of a peer frame.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Frames that may wait for one peer; one more is dropped.
pub const PEER_OUT_FRAMES_MAX: usize = 1024;
/// Bytes of frames that may wait for one peer.
pub const PEER_OUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of frames that one write to a peer's stream carries; what is left follows in the next.
pub const PEER_WRITE_BYTES: usize = 1024 * 1024;
/// Bytes of frames that the raft thread writes to a peer's socket itself; more is left to the task of the stream.
pub const PEER_DIRECT_WRITE_BYTES_MAX: usize = 16 * 1024;
/// Bytes asked for in one read of a peer's stream.
pub const PEER_READ_BYTES: usize = 64 * 1024;
/// DNS and TCP connect to a peer. One lost SYN is sent again after a second; an address that nobody has any more, of a
/// pod that is gone, must not keep us from looking the name up again.
pub const PEER_CONNECT_MS: u64 = 1_500;
/// The request head of whoever connects to the peer port, and the answer to our own, verdict included.
pub const PEER_HANDSHAKE_MS: u64 = 10_000;
/// The dialler's probe of a stream, which the other side answers.
pub const PEER_PROBE_MS: u64 = 1_000;
/// A stream without a sign of life for so long is broken; several probes go unanswered until then.
pub const PEER_IDLE_MS: u64 = 5_000;
/// First pause before a peer is dialled again; doubles.
pub const PEER_REDIAL_MS_MIN: u64 = 50;
/// Longest pause before a peer is dialled again; a stream that stood for longer starts again at the shortest.
pub const PEER_REDIAL_MS_MAX: u64 = 1_000;
/// Connections on the peer port, each of which may take two open files; one more is closed at once.
pub const PEER_CONNECTIONS_MAX: usize = 128;
/// Pause of the accept loop after an error such as too many open files.
pub const PEER_ACCEPT_RETRY_MS: u64 = 100;
/// Bytes of an error answer of a peer that are read.
pub const PEER_PROBLEM_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a snapshot file that are read or written at once; about four such pieces are in memory.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of snapshot bodies that a node sends in a second, to all members together: a fraction of what a network and a
/// disk take, so that heartbeats and clients do not suffer (rule N13). A GiB takes a quarter of a minute.
pub const SNAPSHOT_SEND_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;
/// Bytes of a snapshot that arrive between two syncs of its file.
pub const SNAPSHOT_SYNC_BYTES: u64 = 16 * 1024 * 1024;
/// A snapshot of which nothing arrives for so long, over however many connections, is given up: long enough for a network
/// that comes back, with what has arrived.
pub const SNAPSHOT_GIVE_UP_MS: u64 = 120_000;
/// A member whose snapshot body broke may ask for the rest of it within this,
/// before the leader offers one anew.
pub const SNAPSHOT_RESUME_MS: u64 = 5_000;
/// A snapshot transfer that does not move for so long is broken off (rule N13).
pub const SNAPSHOT_STALL_MS: u64 = 30_000;
/// Distance of progress lines of a snapshot transfer.
pub const SNAPSHOT_PROGRESS_MS: u64 = 5_000;
/// Sequence numbers of forwarded requests remembered per origin, to refuse doubles (rule N5).
pub const FORWARD_WINDOW: usize = 16 * 1024;

/// Records a compaction removes in one step.
pub const COMPACTION_STEP_RECORDS: usize = 1000;
/// Values are stored in chunks of this size: sled moves larger ones to slow side files.
pub const VALUE_CHUNK_BYTES: usize = 4 * 1024;
/// State hashes kept, at applied indexes that are multiples of [`HASH_EVERY`].
pub const HASHES_KEPT: usize = 64;
/// Distance of kept state hashes in applied indexes.
pub const HASH_EVERY: u64 = 1024;
/// Threads that serve clients, at most.
pub const CLIENT_THREADS_MAX: usize = 8;
/// Threads for peers, admin calls and everything else that waits.
pub const RUNTIME_THREADS: usize = 1;
/// sled must open in this time, or its directory is set aside.
pub const SLED_OPEN_TIMEOUT_MS: u64 = 60_000;
/// sled's page cache. Pages that are not in it are read from the system's, which gives way when memory is short.
pub const SLED_CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a scanned record that count as one access to sled's pages: 16,384 of them may wait until pages are let go.
pub const SLED_ACCESS_BYTES: usize = 4 * 1024;
/// Bytes of batches that wait in memory to be given to sled as one.
pub const WRITE_BEHIND_BYTES: usize = 128 * 1024;
/// Bytes at which they do not wait for a pause.
pub const WRITE_BEHIND_BYTES_MAX: usize = 1024 * 1024;
/// Batches that wait, when they are small.
pub const WRITE_BEHIND_BATCHES: usize = 256;
/// Default of `--quota`: 8 GiB.
pub const QUOTA_BYTES_DEFAULT: u64 = 8 * 1024 * 1024 * 1024;
/// Default of `--reserve`, the space that a node keeps: puts are refused when less is left, the reserve file counted
/// in. That file takes half of it; a quarter is left free besides by whatever can wait.
pub const RESERVE_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// The reserve is this part of the volume, in percent, if that is more.
pub const FREE_PERCENT_MIN: u64 = 5;
/// Pause between two attempts of a write that finds the disk full.
pub const FULL_DISK_RETRY_MS: u64 = 1_000;
/// Pause before a spare log segment that found no space is made once more.
pub const SPARE_RETRY_MS: u64 = 10_000;

// HTTP servers.

/// Connections of clients at a time; further ones wait in the kernel's backlog.
pub const CLIENT_CONNECTIONS_MAX: usize = 4096;
/// With fewer than these left for clients, the process may open too few files to start at all.
pub const CLIENT_CONNECTIONS_MIN: usize = 64;
/// Bytes of an answer, head and body, that are written as one buffer; a larger one is gathered from its parts.
pub const SMALL_ANSWER_BYTES: usize = 1024;
/// Open files that clients can't take: the connections of [`ADMIN_CONNECTIONS_MAX`] and [`PEER_CONNECTIONS_MAX`], and
/// 128 for the disk, listeners and what the node dials itself.
pub const FILES_RESERVED: usize = ADMIN_CONNECTIONS_MAX + 2 * PEER_CONNECTIONS_MAX + 128;
/// Connections to the admin port at a time.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// A request's head must be complete this long after its first byte, and a new connection's first head after accept.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;
/// A request's body must be complete this long after its head.
pub const BODY_TIMEOUT_MS: u64 = 30_000;
/// A connection may be silent this long between two requests, and take this long to read an answer.
pub const IDLE_TIMEOUT_MS: u64 = 75_000;
/// A client that takes no byte of its answer for so long is hung up on: the answer counts against [`HTTP_BYTES_MAX`]
/// or [`RANGE_BYTES_MAX`] until then.
pub const ANSWER_STALL_MS: u64 = 10_000;
/// From a request's head to its answer: a body, the longest wait of the node ([`CHANGE_TIMEOUT_MS`]), and reserve.
pub const REQUEST_TIMEOUT_MS: u64 = 60_000;
/// How long a server that stops waits for answers in flight; longer than a write or a read may wait.
pub const SERVER_STOP_TIMEOUT_MS: u64 = 10_000;
/// Pause after a failed accept: the process is out of file descriptors, and accept would fail again at once.
pub const ACCEPT_RETRY_MS: u64 = 100;
/// Largest request target: a key of [`KEY_BYTES_MAX`] with each byte percent-encoded fits.
pub const URI_BYTES_MAX: usize = 15 * 1024;
/// Bytes of request bodies and values that the client port may hold in memory; beyond, calls are answered 429.
pub const HTTP_BYTES_MAX: usize = 160 * 1024 * 1024;
/// The same of pages of ranges, apart: clients that ask for pages and don't read them leave the others their room.
pub const RANGE_BYTES_MAX: usize = 96 * 1024 * 1024;
/// What a call on keys is charged for itself, on top of its body and answer.
pub const CALL_BYTES: usize = 1024;
/// Range scans at a time; further ones wait. Each holds up to [`PAGE_BYTES_MAX`] and its JSON.
pub const SCANS_MAX: usize = 16;
/// Bytes of a refused request's body that are read and forgotten, so that its sender gets to read the answer ...
pub const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// ... in at most this time.
pub const DISCARD_TIMEOUT_MS: u64 = 2_000;
/// How often a token file may be looked at for changes.
pub const TOKEN_CHECK_EVERY_MS: u64 = 1_000;
/// Largest token file.
pub const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest name of a node.
pub const NAME_BYTES_MAX: usize = 253;
/// Longest URL of a node.
pub const URL_BYTES_MAX: usize = 512;

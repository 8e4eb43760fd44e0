//! Every limit that bounds a queue, body, batch, retry or wait, with its unit in its name.
//!
//! What a user may tune is a flag of `raftkv serve`; what nobody should tune stands here with its reason.

/// Indexes, terms, ids and the numbers of files and batches count up from 1, one by one. A number above this is
/// garbage, and adding one to it might overflow.
pub const NUMBER_MAX: u64 = 1 << 62;

/// Largest key: 4 KiB. A key lives in the in-memory index of every member.
pub const KEY_BYTES_MAX: usize = raftkv_api::KEY_BYTES_MAX;
/// Largest request body on the client port, hence the largest value: 1.5 MiB, etcd's default.
pub const BODY_BYTES_MAX: usize = raftkv_api::VALUE_BYTES_MAX;
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
/// Largest MsgAppend, unless one entry is larger: what other messages to the same member wait for.
pub const MESSAGE_BYTES_MAX: u64 = 256 * 1024;
/// Most bytes of the log that the entries of one MsgAppend may take, so that it fits a batch together with the
/// [`UNSTABLE_BYTES_MAX`] before it. A message of [`MESSAGE_BYTES_MAX`] takes several times that when its entries are
/// empty.
pub const MESSAGE_ENTRY_BYTES_MAX: usize = 7 * 1024 * 1024;
/// Appends in flight to one peer.
pub const INFLIGHT_MESSAGES_MAX: usize = 64;
/// Bytes in flight to one peer.
pub const INFLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes in flight to one peer beyond which no more is read from the disk for it: enough to keep its disk busy, and few
/// enough that a member that catches up costs the others and the leader's memory little.
pub const CATCH_UP_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes that a leader reads from the disk for members that catch up, all together, in a second: their disks and its own
/// have clients to serve meanwhile.
pub const CATCH_UP_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;
/// It reads this percentage of what it writes to its log at that time, if that is more, or they would never catch up.
pub const CATCH_UP_PERCENT_OF_WRITES: u64 = 150;
/// Reads of the log for members that catch up that are under way together.
pub const LOG_READS_MAX: usize = 8;
/// Uncommitted bytes that a leader accepts; raft refuses proposals beyond that.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of committed entries handed out in one Ready.
pub const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of entries that the apply queue may hold; beyond that it holds index ranges, which are read again from the
/// log.
pub const APPLY_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the newest entries that the log keeps in memory (rule N17), counted as on disk: small entries take twice
/// that in memory.
pub const LOG_CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a log segment, which is zero-filled once, then recycled.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Zero-filled segments kept ready.
pub const SPARE_SEGMENTS: usize = 2;
/// Spare segments are not made in a member's first seconds, when it and others that start on the same disk have a
/// snapshot to take and votes to make durable.
pub const SPARE_AFTER_MS: u64 = 5_000;
/// A snapshot is cut when the log since the last one exceeds this and the snapshot's own size.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Pause after a cut that failed, most likely for lack of space.
pub const SNAPSHOT_RETRY_MS: u64 = 10_000;
/// An offered snapshot whose body the member has not begun to fetch within this has failed.
pub const SNAPSHOT_OFFER_TIMEOUT_MS: u64 = 30_000;
/// A member that was given a whole snapshot answers within this, or raft probes it.
pub const SNAPSHOT_ANSWER_MS: u64 = 2_000;
/// Snapshot files kept.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Removed members of which the membership keeps a record: far more than leave before those who left are told, and few
/// enough that the membership stays small.
pub const REMOVED_KEPT: usize = 64;
/// Entries by which a caught-up member may be behind (rule O6).
pub const CAUGHT_UP_ENTRIES: u64 = 1000;

/// One raft tick.
pub const TICK_MS: u64 = 50;
/// Ticks between heartbeats.
pub const HEARTBEAT_TICKS: usize = 2;
/// Ticks for which a starting member waits, at most, for the other voters' answers to its hello (rule N20).
pub const HELLO_WAIT_TICKS: u64 = 14;
/// Candidates whose request for a vote is kept meanwhile; further ones are dropped, and ask again.
pub const CANDIDATES_KEPT_MAX: usize = 64;
/// Ticks of the check-quorum window and of the vote lease.
pub const ELECTION_TICKS: usize = 14;
/// Shortest randomized election timeout, in ticks; above [`ELECTION_TICKS`] so that the vote lease has ended (rule
/// N23).
pub const MIN_ELECTION_TICKS: usize = 15;
/// Randomized election timeouts end below this, in ticks.
pub const MAX_ELECTION_TICKS: usize = 28;
/// A candidate that was refused a vote campaigns again after this many ticks, which is long enough for votes of others
/// that are still being made durable ...
pub const SPLIT_VOTE_TICKS: usize = 6;
/// ... and this many more for each voter with a lower id, so that candidates that split the votes do not split them
/// again.
pub const SPLIT_VOTE_TICKS_APART: usize = 3;

/// A client's write is answered `outcome: unknown` after this.
pub const WRITE_TIMEOUT_MS: u64 = 5_000;
/// A linearizable read is answered 503 `no_leader` after this.
pub const READ_TIMEOUT_MS: u64 = 5_000;
/// A membership change is answered `outcome: unknown` after this.
pub const CHANGE_TIMEOUT_MS: u64 = 15_000;
/// A leadership transfer that has not happened after this has failed.
pub const TRANSFER_TIMEOUT_MS: u64 = 2_000;
/// A finding that quarantines a member and could not be written down is written again after this.
pub const QUARANTINE_RETRY_MS: u64 = 5_000;
/// A voter whose sync hung within this is no first choice to lead (rule N26): disks that all take a second or two would
/// pass leadership around.
pub const HANG_MEMORY_MS: u64 = 10_000;

/// Pause before a process replaces itself to rebuild or reopen its kv db.
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
/// Longest time for DNS and the TCP connect to a peer. A lost SYN is sent again after a second; the stale address of a
/// pod that is gone must not keep us from looking up the name again.
pub const PEER_CONNECT_MS: u64 = 1_500;
/// Longest wait for the request head of a peer that connects, and for the answer to our own head, verdict included.
pub const PEER_HANDSHAKE_MS: u64 = 10_000;
/// Time between two probes of a stream by the side that dialled; the other side answers them.
pub const PEER_PROBE_MS: u64 = 1_000;
/// When another run of a member's process says hello, the end of each stream that stands has this long to answer (rule
/// N27). It is less than [`HELLO_WAIT_TICKS`], so that rule N20's objection comes in time, too.
pub const PEER_ASK_MS: u64 = 500;
/// A twin of a member's process is shown in the status for this long after it last said hello.
pub const TWIN_SHOWN_MS: u64 = 5_000;
/// A stream without a sign of life for this long is broken; several probes have gone unanswered by then.
pub const PEER_IDLE_MS: u64 = 5_000;
/// First pause before a peer is dialled again; it doubles each time.
pub const PEER_REDIAL_MS_MIN: u64 = 50;
/// Longest pause before a peer is dialled again; after a stream that lasted longer, pauses start again at the shortest.
pub const PEER_REDIAL_MS_MAX: u64 = 1_000;
/// Connections on the peer port, each of which may take two open files; one more is closed at once.
pub const PEER_CONNECTIONS_MAX: usize = 128;
/// Pause of the accept loop after an error such as too many open files.
pub const PEER_ACCEPT_RETRY_MS: u64 = 100;
/// Most bytes that are read of a peer's error answer.
pub const PEER_PROBLEM_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a snapshot file that are read or written at once; about four such pieces are in memory.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of snapshot bodies that a node sends in a second, to all members together: a fraction of what a network and a
/// disk can do, so that heartbeats and clients do not suffer (rule N13). A GiB takes a quarter of a minute.
pub const SNAPSHOT_SEND_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;
/// Bytes of a snapshot that arrive between two syncs of its file.
pub const SNAPSHOT_SYNC_BYTES: u64 = 16 * 1024 * 1024;
/// A snapshot of which nothing arrives for this long, over any number of connections, is given up. This leaves a
/// network time to recover and go on from what has arrived.
pub const SNAPSHOT_GIVE_UP_MS: u64 = 120_000;
/// A member whose snapshot body broke off may ask for the rest of it within this, before the leader offers a snapshot
/// again.
pub const SNAPSHOT_RESUME_MS: u64 = 5_000;
/// A snapshot transfer that makes no progress for this long is broken off (rule N13).
pub const SNAPSHOT_STALL_MS: u64 = 30_000;
/// Time between two progress lines of a snapshot transfer.
pub const SNAPSHOT_PROGRESS_MS: u64 = 5_000;
/// Sequence numbers of forwarded requests remembered per run of an origin's process, to refuse duplicates (rule N5).
pub const FORWARD_WINDOW: usize = 16 * 1024;
/// Runs of one origin's process of which that is remembered in one term. What an earlier one sent ended with its
/// connections, dozens of starts ago.
pub const FORWARD_RUNS_MAX: usize = 64;

/// Records that a compaction removes in one step.
pub const COMPACTION_STEP_RECORDS: usize = 1000;
/// Values are stored in chunks of this size: sled moves larger ones to slow side files.
pub const VALUE_CHUNK_BYTES: usize = 4 * 1024;
/// Records of the store that are in no file yet: when there are so many bytes of them, they become a segment. Two such
/// windows are in memory at most.
pub const WINDOW_BYTES: u32 = 32 * 1024 * 1024;
/// A segment of which fewer bytes than this are live becomes one with its neighbours.
pub const SMALL_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Segments that become one at once, at most.
pub const GROUP_SEGMENTS_MAX: usize = 8;
/// Rounds of one compaction over the segments: what one frees may make others due.
pub const ROUNDS_MAX: u32 = 3;
/// Leaves of the index that a step of a compaction looks at, and versions that it drops.
pub const SWEEP_STEP: (usize, usize) = (16, 16_384);
/// Records of a rewritten segment that a step gives their new places in the index.
pub const MOVE_STEP: usize = 1000;
/// Room that is taken for what stands behind the records of a window.
pub const SEGMENT_BEHIND_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes of a segment that are written between two syncs of its file.
pub const SEGMENT_SYNC_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a segment's records that are read at once.
pub const SEGMENT_READ_BYTES: usize = 1024 * 1024;
/// Bytes of each segment's table that are read at once when an index is built.
pub const TABLE_READ_BYTES: usize = 64 * 1024;
/// sled is given what it lacks when this is so much, in one batch: with less it writes more than ten bytes for each, since
/// each batch makes it write its pages again.
pub const HEAD_SET_BYTES: u64 = 512 * 1024;
/// Or after so many batches of apply, when they are small.
pub const HEAD_SET_BATCHES: u64 = 1024;
/// Largest value in the head: sled puts larger ones into files of their own, which it never removes.
pub const HEAD_VALUE_BYTES_MAX: usize = 8 * 1024;
/// State hashes kept, at applied indexes that are multiples of [`HASH_EVERY`].
pub const HASHES_KEPT: usize = 64;
/// Number of applied indexes from one kept state hash to the next.
pub const HASH_EVERY: u64 = 1024;
/// Threads that serve clients, at most.
pub const CLIENT_THREADS_MAX: usize = 8;
/// Threads for peers, admin calls and everything else that waits.
pub const RUNTIME_THREADS: usize = 1;
/// sled must open in this time, or its directory is set aside.
pub const SLED_OPEN_TIMEOUT_MS: u64 = 60_000;
/// A head in sled must open in this time, or the node starts without it: the log has what it lacks.
pub const HEAD_OPEN_TIMEOUT_MS: u64 = 10_000;
/// A set must be in the head in this time, or sled is given up until the next start. The longest wait that was measured,
/// on a busy machine, is 0.9 s; a disk that takes ten times as long fails otherwise, too.
pub const HEAD_WRITE_MAX_MS: u64 = 10_000;
/// An only voter waits this long for sled before it acknowledges: what sled claims is all that tells a disk that was put
/// back from one that was not.
pub const LONE_HEAD_WAIT_MS: u64 = 1_000;
/// Bytes of sled's own segments in a head. A page that is longer than a quarter of one becomes a file of its own, which
/// sled does not remove; pages of values of [`HEAD_VALUE_BYTES_MAX`] are shorter.
pub const HEAD_SLED_SEGMENT_BYTES: usize = 2 * 1024 * 1024;
/// sled's page cache. Other pages are read from the system's page cache, which shrinks when memory is short.
pub const SLED_CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a scanned record that count as one access to sled's pages: sled counts accesses, not bytes, before it frees
/// pages, and would hold 16,384 large ones.
pub const SLED_ACCESS_BYTES: usize = 4 * 1024;
/// Bytes of batches that wait in memory to be given to sled as one.
pub const WRITE_BEHIND_BYTES: usize = 128 * 1024;
/// Bytes at which they are written without waiting for a pause.
pub const WRITE_BEHIND_BYTES_MAX: usize = 1024 * 1024;
/// Batches that wait, when they are small.
pub const WRITE_BEHIND_BATCHES: usize = 256;
/// Default of `--quota`: 8 GiB.
pub const QUOTA_BYTES_DEFAULT: u64 = 8 * 1024 * 1024 * 1024;
/// Room on a volume besides the segments and the reserve: the log, sled, files that are taken before they are filled, a
/// prefix, one segment that is written anew, a manifest.
pub const BESIDES_QUOTA_BYTES: u64 = 3 * 512 * 1024 * 1024;
/// Default of `--reserve`, the space that a node keeps: puts are refused when less is left, counting the reserve file.
/// That file takes half of it; whatever can wait leaves a quarter free besides.
pub const RESERVE_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// The reserve is this percentage of the volume, if that is more.
pub const RESERVE_PERCENT: u64 = 5;
/// Pause between two attempts of a write that finds the disk full.
pub const FULL_DISK_RETRY_MS: u64 = 1_000;
/// Pause before a spare log segment that found no space is tried again.
pub const SPARE_RETRY_MS: u64 = 10_000;

// HTTP servers.

/// Connections of clients at a time; further ones wait in the kernel's backlog.
pub const CLIENT_CONNECTIONS_MAX: usize = 4096;
/// If the limit on open files leaves fewer connections than this for clients, the process does not start.
pub const CLIENT_CONNECTIONS_MIN: usize = 64;
/// Largest answer, head and body, that is written as one buffer; a larger one is gathered from its parts.
pub const SMALL_ANSWER_BYTES: usize = 1024;
/// Open files that clients cannot take: the connections of [`ADMIN_CONNECTIONS_MAX`] and [`PEER_CONNECTIONS_MAX`],
/// [`OPEN_SEGMENT_FILES_MAX`], and 128 for the rest of the disk, listeners and what the node dials itself.
pub const FILES_RESERVED: usize = ADMIN_CONNECTIONS_MAX + 2 * PEER_CONNECTIONS_MAX + OPEN_SEGMENT_FILES_MAX + 128;
/// Segments of the kv db that are open at a time; the one that was read longest ago is closed for a new one. Opening
/// one costs a few microseconds; this many are 4 GiB of live records at least, as [`SMALL_SEGMENT_BYTES`] has it.
pub const OPEN_SEGMENT_FILES_MAX: usize = 512;
/// Connections to the admin port at a time.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// A request's head must be complete this long after its first byte, and a new connection's first head after accept.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;
/// A request's body must be complete this long after its head.
pub const BODY_TIMEOUT_MS: u64 = 30_000;
/// A connection may be silent this long between two requests, and take this long to read an answer.
pub const IDLE_TIMEOUT_MS: u64 = 75_000;
/// A client that takes no byte of its answer for this long is disconnected: until then the answer counts against
/// [`HTTP_BYTES_MAX`] or [`RANGE_BYTES_MAX`].
pub const ANSWER_STALL_MS: u64 = 10_000;
/// Longest time from a request's head to its answer: the body, the longest wait of the node ([`CHANGE_TIMEOUT_MS`]),
/// and some margin.
pub const REQUEST_TIMEOUT_MS: u64 = 60_000;
/// How long a server that stops waits for answers in flight; longer than a write or a read may wait.
pub const SERVER_STOP_TIMEOUT_MS: u64 = 10_000;
/// Pause after a failed accept: the process is out of file descriptors, and accept would fail again at once.
pub const ACCEPT_RETRY_MS: u64 = 100;
/// Largest request target: a key of [`KEY_BYTES_MAX`] with each byte percent-encoded fits.
pub const URI_BYTES_MAX: usize = 15 * 1024;
/// Bytes of request bodies and values that the client port may hold in memory; beyond that, calls are answered 429.
pub const HTTP_BYTES_MAX: usize = 160 * 1024 * 1024;
/// The same for pages of ranges, counted apart: clients that ask for pages and do not read them leave the others their
/// room.
pub const RANGE_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Bytes that a call on keys is charged for itself, on top of its body and answer.
pub const CALL_BYTES: usize = 1024;
/// Range scans at a time; further ones wait. Each holds up to [`PAGE_BYTES_MAX`] and its JSON.
pub const SCANS_MAX: usize = 16;
/// Bytes of a refused request's body that are read and discarded, so that its sender can read the answer ...
pub const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// ... in at most this time.
pub const DISCARD_TIMEOUT_MS: u64 = 2_000;
/// Time between two checks of a token file for changes.
pub const TOKEN_CHECK_EVERY_MS: u64 = 1_000;
/// Largest token file.
pub const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest name of a node.
pub const NAME_BYTES_MAX: usize = 253;

//! The answer of `GET /v1/status`, which every node gives in every state.
//!
//! Plain data without logic. Some fields have a default, so that the answer of an older node can still be read.

use crate::{DecimalId, Hex128, LeaderRef, Member};
use serde::{Deserialize, Serialize};

/// The stages in the life of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// The directory has not been read to its end.
    Opening,
    /// Proved empty; waits for `init`, or for a leader to contact it.
    Blank,
    /// Receives the log, does not vote.
    Learner,
    /// Votes.
    Voter,
    /// Removed from the cluster; serves no client.
    Removed,
    /// The data cannot be trusted: no vote, no acknowledgement, no read.
    Quarantined,
}

/// What the kv db is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvState {
    /// There is none yet.
    Absent,
    /// sled is being scanned and compared with its stored hash.
    Proving,
    /// Being rebuilt from the newest snapshot and the log.
    Rebuilding,
    /// A leader's snapshot is being installed.
    Installing,
    /// Serving.
    Ready,
}

/// A hash by which members are compared at an equal applied index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash {
    /// The applied index of the hash.
    pub applied: u64,
    /// Sum over every revision record ever applied.
    pub log_hash: Hex128,
}

/// What a put would get at the leader at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// It would be taken.
    Ok,
    /// 503 `forming`: the cluster has not yet had the voters that `init` asked for.
    Forming,
    /// 503 `no_leader`, or no answer in time: nobody leads, or the leader hears no quorum.
    NoLeader,
    /// 507 `no_space`: the leader, or a quorum, has too little room on its volume.
    NoSpace,
    /// 507 `no_space`: the database is over `--quota`.
    Quota,
    /// 504 `timeout`: the leader's disk, or the disks of a quorum, have not answered for too long.
    Stalled,
}

/// Whether a node serves linearizable reads of its own, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serves {
    /// It does: a read succeeded within the last five seconds.
    Yes,
    /// It reads its directory, or its kv db is not proved or rebuilt yet.
    Opening,
    /// It takes over a leader's snapshot.
    Installing,
    /// It belongs to no cluster.
    NotAMember,
    /// It is a learner.
    NotAVoter,
    /// The cluster has not yet had the voters that `init` asked for.
    Forming,
    /// It was removed.
    Removed,
    /// Its data cannot be trusted.
    Quarantined,
    /// It was told to stop.
    Stopping,
    /// No linearizable read has succeeded within the last five seconds: it hears of no leader that a quorum confirms.
    NoRead,
}

/// What has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StalledOn {
    /// A sync of the log.
    Log,
    /// A write to the kv db: committed entries wait to be applied.
    Store,
}

/// A snapshot that is on its way to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The member that takes it.
    pub id: DecimalId,
    /// Bytes of the file that the connection has taken, what earlier connections took included.
    pub sent: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// A member of which two processes said hello to this node in the last minute: one data directory is a copy of the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// The member.
    pub id: DecimalId,
    /// Where the two are, and what to do.
    pub detail: String,
}

/// What the leader knows about one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The member.
    pub id: DecimalId,
    /// Its name.
    pub name: String,
    /// Whether it answered this leader within the last election timeout.
    pub active: bool,
    /// Whether it is active, replicating, and at most 1000 entries behind.
    pub caught_up: bool,
    /// Highest index known to be on its disk.
    pub matched: u64,
    /// The applied index that it last reported.
    pub applied: u64,
    /// Index of the newest membership change that is applied durably there.
    pub durable_conf_index: u64,
    /// Free bytes on its data volume, as last reported; 0 when unknown.
    pub free_bytes: u64,
    /// Free bytes and those of its reserve file together.
    #[serde(default)]
    pub headroom_bytes: u64,
    /// Puts are refused when a quorum has less headroom than this.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// For how many milliseconds the oldest sync of its log had been running when it last reported; 0 when none was.
    #[serde(default)]
    pub stalled_ms: u64,
    /// Bytes of its data volume, as last reported; 0 when unknown.
    #[serde(default)]
    pub volume_bytes: u64,
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub name: String,
    /// Program version.
    pub version: String,
    /// Where the node is in its life.
    pub state: NodeState,
    /// In Opening, Removed and Quarantined, why; also what is being done, with progress. On a member, what is wrong
    /// with the name or URL that it was started with.
    pub reason: Option<String>,
    /// Quarantined because a leader's log contradicts what is committed here: this data directory may hold the only copy
    /// of acknowledged writes. Only a person gives it up.
    #[serde(default)]
    pub diverged: bool,
    /// Id of the data directory; null while Opening.
    pub incarnation: Option<Hex128>,
    /// Null while the node belongs to no cluster.
    pub cluster_id: Option<Hex128>,
    /// Null while the node belongs to no cluster.
    pub genesis: Option<Hex128>,
    /// Raised by forced recovery only.
    pub generation: u64,
    /// Null while the node belongs to no cluster.
    pub member_id: Option<DecimalId>,
    /// The leader, when known.
    pub leader: Option<LeaderRef>,
    /// The leader's id, when known.
    pub leader_id: Option<DecimalId>,
    /// Raft term.
    pub term: u64,
    /// Commit index.
    pub commit: u64,
    /// Applied index.
    pub applied: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// First index in the log.
    pub first_index: u64,
    /// Index of the newest snapshot file.
    pub snapshot_index: u64,
    /// Index of the last applied membership change.
    pub conf_index: u64,
    /// Index of the last membership change applied durably.
    pub durable_conf_index: u64,
    /// Whether the node may take over leadership: its kv db is proved.
    pub can_lead: bool,
    /// Whether the cluster has had the voters that `init` asked for.
    pub formed: bool,
    /// What the kv db is doing.
    pub kv: KvState,
    /// Revision of the store.
    pub revision: u64,
    /// The oldest revision that can be read, those below it cannot; 0 when all can.
    pub compacted_revision: u64,
    /// Bytes of the kv db on disk, in-memory key index included.
    pub db_bytes: u64,
    /// Free bytes on the data volume.
    pub free_bytes: u64,
    /// Free bytes and those of the reserve file together.
    #[serde(default)]
    pub headroom_bytes: u64,
    /// Below this the node is short of space: as a leader it refuses puts, and below half of it also deletes and
    /// membership changes.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// Bytes of the data volume; 0 when unknown.
    #[serde(default)]
    pub volume_bytes: u64,
    /// For how many milliseconds the oldest write to the disk, or sync of it, has not returned; 0 when none is waited
    /// for. From 700 on a sync of the log hangs: the node hands leadership over and does not lead.
    #[serde(default)]
    pub stalled_ms: u64,
    /// What has not returned; null when nothing is waited for.
    #[serde(default)]
    pub stalled_on: Option<StalledOn>,
    /// What a put would get at this leader; on another node null while it knows a leader, which is to be asked.
    #[serde(default)]
    pub writes: Option<Writes>,
    /// Milliseconds since this leader last heard from a quorum; null on a node that does not lead.
    #[serde(default)]
    pub quorum_contact_ms: Option<u64>,
    /// Whether this node serves linearizable reads, and why not; null in the answer of an older node.
    #[serde(default)]
    pub serves: Option<Serves>,
    /// A number drawn when the process began, which tells its runs apart; null in the answer of an older node.
    #[serde(default)]
    pub boot: Option<DecimalId>,
    /// Term of the last entry in the log; 0 when there is none.
    #[serde(default)]
    pub last_log_term: u64,
    /// Snapshots that this node is sending to other members, by ascending id.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// Members that run twice, by ascending id.
    #[serde(default)]
    pub twins: Vec<Twin>,
    /// What is refused or waits for lack of space, how much is there, how much is needed, and what to do.
    #[serde(default)]
    pub no_space: Option<String>,
    /// The state hash at the present applied index.
    pub state_hash: Option<StateHash>,
    /// State hashes at the last applied indexes that are multiples of 1024, ascending; at most 64.
    pub state_hashes: Vec<StateHash>,
    /// What the leader knows about every other member; empty elsewhere.
    pub peers: Vec<Peer>,
    /// The members in the configuration that this node applied last, by ascending id. This is its own view, which may
    /// be old (`conf_index` says how old); it explains a lost quorum, when `GET /v1/members` cannot answer. Empty while
    /// the node runs no raft.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Whether a joint change is in flight in that configuration.
    #[serde(default)]
    pub joint: bool,
    /// Milliseconds since this node last heard of a leader; 0 on the leader.
    pub leader_contact_ms: Option<u64>,
    /// The peer URL that the node advertises.
    pub peer_url: String,
    /// The client URL that the node advertises.
    pub client_url: String,
    /// The admin URL that the node advertises.
    pub admin_url: String,
}

impl Status {
    /// The status of a node of this name that has read nothing yet: no identity, no raft, no kv db.
    pub fn opening(name: String, version: &str) -> Status {
        Status {
            name,
            version: version.to_string(),
            state: NodeState::Opening,
            reason: None,
            diverged: false,
            incarnation: None,
            cluster_id: None,
            genesis: None,
            generation: 0,
            member_id: None,
            leader: None,
            leader_id: None,
            term: 0,
            commit: 0,
            applied: 0,
            last_index: 0,
            first_index: 0,
            snapshot_index: 0,
            conf_index: 0,
            durable_conf_index: 0,
            can_lead: false,
            formed: false,
            kv: KvState::Absent,
            revision: 0,
            compacted_revision: 0,
            db_bytes: 0,
            free_bytes: 0,
            headroom_bytes: 0,
            reserve_bytes: 0,
            volume_bytes: 0,
            stalled_ms: 0,
            stalled_on: None,
            writes: None,
            quorum_contact_ms: None,
            serves: Some(Serves::Opening),
            boot: None,
            last_log_term: 0,
            streams: vec![],
            twins: vec![],
            no_space: None,
            state_hash: None,
            state_hashes: vec![],
            peers: vec![],
            members: vec![],
            joint: false,
            leader_contact_ms: None,
            peer_url: String::new(),
            client_url: String::new(),
            admin_url: String::new(),
        }
    }
}

/// Answer of `GET /version` on the client and admin ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Program version.
    pub version: String,
    /// URL of this node's admin API.
    pub admin_url: String,
}

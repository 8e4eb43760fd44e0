//! The JSON of membership and administration: members, and the bodies and answers of the calls that change them.
//!
//! Plain data without logic. A body with an unknown field is refused, so that a misspelt guard is never ignored.

use crate::Hex128;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A member id, a u64 from 1 that is never reused, or another id of 64 bits, written as a decimal string in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecimalId(pub u64);

impl Serialize for DecimalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DecimalId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(DecimalId)
            .map_err(|_| serde::de::Error::custom(format!("'{text}' is not a member id in decimal")))
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Votes and counts towards quorum.
    Voter,
    /// Receives the log, does not vote.
    Learner,
    /// Leaves at the end of the joint change in flight; votes until then.
    Outgoing,
}

/// One member, as the membership state describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The member's id, never reused.
    pub id: DecimalId,
    /// The node's name, fixed for its life.
    pub name: String,
    /// The URL at which peers dial it, fixed for its life.
    pub peer_url: String,
    /// The data directory that this id is bound to.
    pub incarnation: Hex128,
    /// What the member may do.
    pub role: MemberRole,
    /// The client URL that the member advertises; null while unknown.
    pub client_url: Option<String>,
    /// The admin URL that the member advertises; null while unknown.
    pub admin_url: Option<String>,
}

/// A member that was removed; its id is never used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedMember {
    /// The id that it had.
    pub id: DecimalId,
    /// The name that it had.
    pub name: String,
    /// The data directory that the id was bound to.
    pub incarnation: Hex128,
    /// Log index of the removal.
    pub index: u64,
}

/// Answer of `GET /v1/members`, which is linearizable; its `ETag` is `"<conf_index>"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The cluster's id.
    pub cluster_id: Hex128,
    /// Index of the last applied membership change.
    pub conf_index: u64,
    /// Whether a joint change is in flight.
    pub joint: bool,
    /// The leader, when it is known.
    pub leader: Option<DecimalId>,
    /// Present members by ascending id.
    pub members: Vec<Member>,
    /// Removed members by ascending id.
    pub removed: Vec<RemovedMember>,
}

/// Names the leader and its URLs, in errors and in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRef {
    /// The leader's name.
    pub name: String,
    /// Its client URL; null while unknown.
    pub client_url: Option<String>,
    /// Its admin URL; null while unknown.
    pub admin_url: Option<String>,
}

/// Body of `POST /v1/init`: makes the node with this incarnation the first voter of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Init {
    /// The id of the new cluster.
    pub cluster_id: Hex128,
    /// The node's own name, as a guard.
    pub name: String,
    /// The only data directory on which this call may take effect.
    pub incarnation: Hex128,
    /// Number of voters that the cluster must once have had before it serves clients.
    #[serde(default = "one")]
    pub min_voters: u32,
}

fn one() -> u32 {
    1
}

/// Answer of `POST /v1/init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitDone {
    /// The cluster id that was asked for.
    pub cluster_id: Hex128,
    /// The random id drawn at init.
    pub genesis: Hex128,
    /// The first member's id: 1.
    pub member_id: DecimalId,
}

/// Body of `POST /v1/members`: adds a Blank node as a learner. Idempotent on `incarnation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    /// The node's name; unique among the members, unless it takes the place of a member with a lost disk.
    pub name: String,
    /// `http://host:port` of its peer port.
    pub peer_url: String,
    /// The incarnation that its `/v1/status` shows.
    pub incarnation: Hex128,
}

/// Answer of `POST /v1/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAdded {
    /// The id given to the new member.
    pub id: DecimalId,
    /// Index of the change.
    pub conf_index: u64,
}

/// Body of `POST /v1/members/{id}/promote`; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// A voter that leaves in the same joint change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<DecimalId>,
}

/// Body of `POST /v1/leader/transfer`; may be empty: the leader then chooses a voter by its room and by how caught up
/// it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The voter to lead next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DecimalId>,
}

/// Answer of `POST /v1/leader/transfer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    /// The member that leads now.
    pub leader: DecimalId,
}

/// Body of `POST /v1/reset`: sets a Removed or Quarantined node's data aside and starts Blank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The incarnation that may be given up.
    pub incarnation: Hex128,
    /// Set to give up a directory that may hold the only copy of acknowledged writes: one that is Quarantined because a
    /// leader's log contradicts it (`diverged` in its status).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub diverged: bool,
    /// Admin URLs of members that a learner asks whether it was removed, if it has no membership yet and nobody has
    /// spoken to it since it was started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ask: Vec<String>,
}

impl Reset {
    /// Of a directory that is removed or not trusted.
    pub fn of(incarnation: Hex128) -> Reset {
        Reset { incarnation, diverged: false, ask: Vec::new() }
    }
}

//! Errors as `application/problem+json` (RFC 9457) with raftkv's own fields.
//!
//! [`Code`] is the one table of errors: each has its text, its HTTP status, whether a retry may succeed, and a title.
//! Programs match on the texts, so they never change.

use crate::LeaderRef;
use serde::{Deserialize, Deserializer, Serialize};

/// Whether the call can have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It had none and will have none.
    None,
    /// It may have had, or may still have, an effect: read before you write again.
    Unknown,
}

macro_rules! codes {
    ($($variant:ident = $text:literal, $status:literal, $retryable:literal, $title:literal;)*) => {
        /// Stable error codes; programs match on these, people read `title` and `detail`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code { $(#[doc = $title] #[serde(rename = $text)] $variant,)* }

        impl Code {
            /// Every code, in the order of this table.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];
            /// The code's text in JSON.
            pub fn as_str(self) -> &'static str { match self { $(Code::$variant => $text,)* } }
            /// The HTTP status that carries it.
            pub fn status(self) -> u16 { match self { $(Code::$variant => $status,)* } }
            /// Whether the same call may succeed later.
            pub fn retryable(self) -> bool { match self { $(Code::$variant => $retryable,)* } }
            /// One line for people.
            pub fn title(self) -> &'static str { match self { $(Code::$variant => $title,)* } }
        }
    };
}

codes! {
    BadRequest = "bad_request", 400, false, "The request is malformed";
    EmptyKey = "empty_key", 400, false, "The key is empty";
    KeyTooLarge = "key_too_large", 400, false, "The key is larger than the limit";
    UnknownParameter = "unknown_parameter", 400, false, "A query parameter is not known";
    BadParameter = "bad_parameter", 400, false, "A query parameter has a bad value";
    BadCondition = "bad_condition", 400, false, "If-Match or If-None-Match cannot be used like this";
    FutureRevision = "future_revision", 400, false, "The revision does not exist yet";
    MissingHeader = "missing_header", 400, false, "A header that names the node is missing";
    Unauthorized = "unauthorized", 401, false, "The bearer token is missing or wrong";
    ForbiddenHost = "forbidden_host", 403, false, "The Host or Origin header is not one of this node's";
    NotFound = "not_found", 404, false, "There is no such thing here";
    KeyNotFound = "key_not_found", 404, false, "The key does not exist";
    MemberNotFound = "member_not_found", 404, false, "There is no member with this id";
    MethodNotAllowed = "method_not_allowed", 405, false, "The path does not know this method";
    RequestTimeout = "request_timeout", 408, true, "The request did not arrive in time";
    NotLeader = "not_leader", 409, true, "This node is not the leader";
    WrongNode = "wrong_node", 409, false, "The call names another node, cluster or incarnation";
    AlreadyInitialized = "already_initialized", 409, false, "The node belongs to a cluster already";
    WrongState = "wrong_state", 409, false, "The node is in a state that does not allow this";
    ChangePending = "change_pending", 409, true, "Another membership change is in flight";
    ChangeRefused = "change_refused", 409, false, "The membership change cannot be made";
    LeaderRemoval = "leader_removal", 409, true, "The leader cannot be removed; leadership did not move";
    TransferFailed = "transfer_failed", 409, true, "Leadership did not move in time";
    Compacted = "compacted", 410, false, "The revision was compacted";
    ConditionFailed = "condition_failed", 412, false, "If-Match or If-None-Match did not hold";
    MembersMoved = "members_moved", 412, true, "The membership changed since If-Match was read";
    WouldLoseQuorum = "would_lose_quorum", 412, true, "The change would lose quorum or promote a member that lags";
    LengthRequired = "length_required", 411, false, "The body needs a Content-Length";
    BodyTooLarge = "body_too_large", 413, false, "The body is larger than the limit";
    UriTooLong = "uri_too_long", 414, false, "The request target is too long";
    ExpectationFailed = "expectation_failed", 417, false, "The Expect header asks for something that is not known";
    PreconditionRequired = "precondition_required", 428, false, "The call needs If-Match with the ETag of GET /v1/members";
    Overloaded = "overloaded", 429, true, "Too many requests wait; nothing was proposed";
    HeadersTooLarge = "headers_too_large", 431, false, "The request's headers are too large";
    Internal = "internal", 500, false, "The node met a condition that it cannot explain";
    NotAMember = "not_a_member", 503, true, "The node belongs to no cluster yet";
    Opening = "opening", 503, true, "The node is still opening its data";
    Forming = "forming", 503, true, "The cluster has not yet had the voters that init asked for";
    NotAVoter = "not_a_voter", 503, true, "The node is not a voter";
    Removed = "removed", 503, false, "The node was removed from its cluster";
    Quarantined = "quarantined", 503, false, "The node's data cannot be trusted";
    NoLeader = "no_leader", 503, true, "There is no leader, or it could not be reached";
    Dropped = "dropped", 503, true, "The leader did not take the write";
    ShuttingDown = "shutting_down", 503, true, "The node is stopping";
    Timeout = "timeout", 504, true, "No answer in time";
    NoSpace = "no_space", 507, true, "There is not enough space left";
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `/errors/<code>`: a relative reference that identifies the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong in this call, and what would be right.
    pub detail: String,
    /// The stable code.
    pub code: Code,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Whether the call can have had an effect.
    pub outcome: Outcome,
    /// The leader, when this node knows it.
    pub leader: Option<LeaderRef>,
    /// With `condition_failed`: the key's mod_revision, null when there is no such key. Absent with every other code.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub current_revision: Option<Option<u64>>,
    /// With `compacted`: the oldest revision that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compacted_revision: Option<u64>,
}

/// Reads a field that is present, null included; an absent field keeps its default.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(field).map(Some)
}

impl Problem {
    /// A problem with outcome `none`, without a leader.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem {
            kind: format!("/errors/{}", code.as_str()),
            title: code.title().to_string(),
            status: code.status(),
            detail: detail.into(),
            code,
            retryable: code.retryable(),
            outcome: Outcome::None,
            leader: None,
            current_revision: None,
            compacted_revision: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_does_not_exist_is_told_from_a_code_without_a_revision() {
        for (current, text) in [(None, None), (Some(None), Some("null")), (Some(Some(7)), Some("7"))] {
            let problem = Problem { current_revision: current, ..Problem::new(Code::ConditionFailed, "why") };
            let json = serde_json::to_value(&problem).expect("plain data");
            assert_eq!(json.get("current_revision").map(ToString::to_string).as_deref(), text);
            assert_eq!(serde_json::from_value::<Problem>(json).expect("we wrote it"), problem);
        }
    }
}

//! Turns each reason why a call has no good answer into the one problem that says so.
//!
//! Three kinds are never mixed: nothing happened (outcome none), something may have happened or may yet (outcome
//! unknown, writes only), and the state of the node.

use crate::handle::Refusal;
use crate::httpapi::line_of_json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use raftkv_api::{Code, LeaderRef, Outcome, Problem};
use raftkv_core::kvstore::ReadError;
use raftkv_core::space;

/// The media type of errors.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which a refused call may be tried again.
const RETRY_AFTER_SECONDS: &str = "1";

/// Whether a call that was not answered can have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// A read.
    Reads,
    /// A write, a membership change, a transfer.
    Writes,
}

impl CallKind {
    fn unknown(self) -> Outcome {
        match self {
            CallKind::Reads => Outcome::None,
            CallKind::Writes => Outcome::Unknown,
        }
    }
}

/// The problem of a refused call.
pub fn refused(refusal: &Refusal, kind: CallKind, leader: Option<LeaderRef>) -> Problem {
    let (code, outcome) = match refusal {
        Refusal::Blank => (Code::NotAMember, Outcome::None),
        Refusal::Opening(_) => (Code::Opening, Outcome::None),
        Refusal::Forming { .. } => (Code::Forming, Outcome::None),
        Refusal::NotAVoter => (Code::NotAVoter, Outcome::None),
        Refusal::Removed => (Code::Removed, Outcome::None),
        Refusal::Quarantined(_) => (Code::Quarantined, Outcome::None),
        Refusal::Overloaded(_) => (Code::Overloaded, Outcome::None),
        Refusal::NoLeader => (Code::NoLeader, Outcome::None),
        Refusal::Dropped(_) => (Code::Dropped, Outcome::None),
        Refusal::Timeout(_) | Refusal::Unknown(_) => (Code::Timeout, kind.unknown()),
        Refusal::NoSpace(_) => (Code::NoSpace, Outcome::None),
        Refusal::Stopping => (Code::ShuttingDown, Outcome::None),
        Refusal::NotLeader => (Code::NotLeader, Outcome::None),
        Refusal::MembersMoved { .. } => (Code::MembersMoved, Outcome::None),
        Refusal::ChangePending => (Code::ChangePending, Outcome::None),
        Refusal::ChangeRefused(_) => (Code::ChangeRefused, Outcome::None),
        Refusal::MemberNotFound(_) => (Code::MemberNotFound, Outcome::None),
        Refusal::WouldLoseQuorum(_) => (Code::WouldLoseQuorum, Outcome::None),
        Refusal::LeaderRemoval(_) => (Code::LeaderRemoval, Outcome::None),
        Refusal::TransferFailed(_) => (Code::TransferFailed, Outcome::None),
        Refusal::AlreadyInitialized(_) => (Code::AlreadyInitialized, Outcome::None),
        Refusal::WrongNode(_) => (Code::WrongNode, Outcome::None),
        Refusal::WrongState(_) => (Code::WrongState, Outcome::None),
        Refusal::Internal(_) => (Code::Internal, kind.unknown()),
    };
    Problem { outcome, leader, ..Problem::new(code, refusal.to_string()) }
}

/// The problem of a read at a revision that has no answer.
pub fn unreadable(error: &ReadError) -> Problem {
    match error {
        ReadError::Future { .. } => Problem::new(Code::FutureRevision, error.to_string()),
        ReadError::Compacted { oldest, .. } => {
            Problem { compacted_revision: Some(*oldest), ..Problem::new(Code::Compacted, error.to_string()) }
        }
        // Until it is opened again, sled reads nothing for which it may have to write.
        ReadError::Io(io) if space::is_full(io) => Problem::new(
            Code::Opening,
            format!("the disk is full, make room on it; this key is read when there is: {error}"),
        ),
        ReadError::Io(io) => {
            tracing::error!(error = %io, "a read of the kv db failed");
            Problem::new(Code::Internal, error.to_string())
        }
    }
}

/// The answer that carries a problem.
pub fn response(problem: &Problem) -> Response {
    let mut response = Response::new(Body::from(line_of_json(problem)));
    *response.status_mut() = StatusCode::from_u16(problem.status).expect("the code table holds valid statuses");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    match problem.status {
        401 => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        // The rest of the body may still be on its way, so nothing else can be read from this connection.
        408 => drop(headers.insert(header::CONNECTION, HeaderValue::from_static("close"))),
        429 | 503 => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS))),
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_without_an_answer_have_an_unknown_outcome() {
        for refusal in all_refusals() {
            let silent = matches!(refusal, Refusal::Timeout(_) | Refusal::Unknown(_) | Refusal::Internal(_));
            let outcome = |kind| refused(&refusal, kind, None).outcome;
            assert_eq!(outcome(CallKind::Reads), Outcome::None, "{refusal:?}");
            let expected = if silent { Outcome::Unknown } else { Outcome::None };
            assert_eq!(outcome(CallKind::Writes), expected, "{refusal:?}");
        }
    }

    #[test]
    fn each_refusal_names_its_reason_its_status_and_the_leader() {
        let leader = LeaderRef { name: "n2".into(), client_url: None, admin_url: None };
        for refusal in all_refusals() {
            let problem = refused(&refusal, CallKind::Writes, Some(leader.clone()));
            assert_eq!(problem.detail, refusal.to_string());
            assert_eq!((problem.status, problem.leader), (problem.code.status(), Some(leader.clone())));
        }
        let status = |refusal: &Refusal| refused(refusal, CallKind::Writes, None).status;
        assert_eq!(status(&Refusal::NotLeader), 409);
        assert_eq!(status(&Refusal::Forming { have: 1, want: 2 }), 503);
        assert_eq!(status(&Refusal::MembersMoved { expected: 1, current: 2 }), 412);
        assert_eq!(status(&Refusal::Timeout(5000)), 504);
        assert_eq!(status(&Refusal::NoSpace("full".into())), 507);
    }

    #[test]
    fn headers_of_a_problem_follow_its_status() {
        let header_of = |code, name| response(&Problem::new(code, "why")).headers().get(name).cloned();
        for &code in Code::ALL {
            assert_eq!(header_of(code, header::RETRY_AFTER).is_some(), [429, 503].contains(&code.status()), "{code:?}");
            assert_eq!(header_of(code, header::CONTENT_TYPE), Some(HeaderValue::from_static(PROBLEM_JSON)));
        }
        assert_eq!(header_of(Code::Unauthorized, header::WWW_AUTHENTICATE), Some(HeaderValue::from_static("Bearer")));
        assert_eq!(header_of(Code::RequestTimeout, header::CONNECTION), Some(HeaderValue::from_static("close")));
    }

    #[test]
    fn compacted_names_the_oldest_readable_revision() {
        let problem = unreadable(&ReadError::Compacted { asked: 3, oldest: 7 });
        assert_eq!((problem.status, problem.compacted_revision), (410, Some(7)));
        assert_eq!(unreadable(&ReadError::Future { asked: 9, current: 7 }).code, Code::FutureRevision);
        assert_eq!(unreadable(&ReadError::Io(std::io::Error::other("bad sector"))).status, 500);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(unreadable(&ReadError::Io(full)).code, Code::Opening);
    }

    fn all_refusals() -> Vec<Refusal> {
        let why = || "why".to_string();
        vec![
            Refusal::Blank,
            Refusal::Opening(why()),
            Refusal::Forming { have: 1, want: 2 },
            Refusal::NotAVoter,
            Refusal::Removed,
            Refusal::Quarantined(why()),
            Refusal::Overloaded("the propose queue"),
            Refusal::NoLeader,
            Refusal::Dropped(why()),
            Refusal::Timeout(5000),
            Refusal::Unknown(why()),
            Refusal::NoSpace(why()),
            Refusal::Stopping,
            Refusal::NotLeader,
            Refusal::MembersMoved { expected: 1, current: 2 },
            Refusal::ChangePending,
            Refusal::ChangeRefused(why()),
            Refusal::MemberNotFound(9),
            Refusal::WouldLoseQuorum(why()),
            Refusal::LeaderRemoval(why()),
            Refusal::TransferFailed(why()),
            Refusal::AlreadyInitialized(why()),
            Refusal::WrongNode(why()),
            Refusal::WrongState(why()),
            Refusal::Internal(why()),
        ]
    }
}

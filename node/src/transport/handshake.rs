//! The handshake of a peer stream: the content of its headers and of a refusal.
//!
//! Enters: hellos and verdicts. Leaves: header values, error answers, and what these mean to a dialler. Nothing here
//! waits or decides who may join; that is the node's verdict.

use super::DialFailure;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use raftkv_api::{Code, Problem};
use raftkv_core::wire::{HELLO_FORMAT, Hello, HelloVerdict, RemovedRecord};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The header that carries a [`Hello`] as JSON on one line.
pub(super) const HEADER: &str = "x-raftkv-hello";
/// The protocol that a stream is upgraded to.
pub(super) const PROTOCOL: &str = "raftkv-peer/1";
/// The path at which streams are opened.
pub(super) const PATH: &str = "/raft/v1";

/// The body of every answer that is not 101: a problem, with facts that a dialler must not have to guess.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Refusal {
    #[serde(flatten)]
    pub problem: Box<Problem>,
    /// The dialler lost acknowledged data and must stop (rule N20).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
    /// Another process with the dialler's data directory answers (rule N27).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub twin: bool,
    /// The dialler was removed (rule N4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Box<RemovedRecord>>,
}

impl Refusal {
    /// An answer with the code's own status.
    pub fn new(code: Code, detail: impl Into<String>) -> Refusal {
        Refusal { problem: Box::new(Problem::new(code, detail)), rolled_back: false, twin: false, removed: None }
    }
}

/// The hello as a header. Header values are ASCII, so everything else is escaped as JSON allows.
pub fn to_header(hello: &Hello) -> HeaderValue {
    let json = serde_json::to_string(hello).expect("a hello is a plain struct");
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if (' '..='~').contains(&c) {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(ascii, "\\u{unit:04x}").expect("a string takes every write");
            }
        }
    }
    HeaderValue::try_from(ascii).expect("visible ASCII and spaces are a header value")
}

/// Reverses [`to_header`].
pub fn from_header(value: &HeaderValue) -> Result<Hello, String> {
    let hello: Hello = serde_json::from_slice(value.as_bytes()).map_err(|e| format!("{HEADER}: {e}"))?;
    if hello.from == 0 || hello.to == 0 {
        return Err(format!("{HEADER}: member id 0 is nobody"));
    }
    Ok(hello)
}

/// The answering hello, or the refusal that says the same as the verdict.
pub(super) fn answer(verdict: HelloVerdict) -> Result<Box<Hello>, Refusal> {
    match verdict {
        HelloVerdict::Accept(hello) => Ok(hello),
        HelloVerdict::Differs(why) => Err(Refusal::new(Code::WrongNode, why)),
        HelloVerdict::RolledBack(why) => Err(Refusal { rolled_back: true, ..Refusal::new(Code::WrongState, why) }),
        HelloVerdict::Gone(record) => {
            let detail = format!("member {} was removed at index {}", record.member_id, record.removed.index);
            let mut refusal = Refusal { removed: Some(record), ..Refusal::new(Code::Removed, detail) };
            // On the client port the code says that this node was removed (503); here it says that the dialler was.
            refusal.problem.status = StatusCode::GONE.as_u16();
            Err(refusal)
        }
        HelloVerdict::Later(why) => Err(Refusal::new(Code::Opening, why)),
    }
}

/// What an answer that is not 101 means for the dialler. Only an explicit statement is final.
pub fn failure(status: StatusCode, body: &[u8]) -> DialFailure {
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    let detail = match &refusal {
        Some(refusal) => format!("{status}: {}", refusal.problem.detail),
        None => format!("{status} without a problem document"),
    };
    match (status, refusal) {
        (StatusCode::UNAUTHORIZED, _) => DialFailure::Unauthorized,
        (StatusCode::CONFLICT, Some(Refusal { rolled_back: true, .. })) => DialFailure::RolledBack(detail),
        (StatusCode::CONFLICT, Some(Refusal { twin: true, problem, .. })) => DialFailure::Twin(problem.detail),
        (StatusCode::CONFLICT, _) => DialFailure::Differs(detail),
        (StatusCode::GONE, Some(Refusal { removed: Some(record), .. })) => DialFailure::Gone(record),
        (StatusCode::SERVICE_UNAVAILABLE, Some(_)) => DialFailure::Later(detail),
        (_, _) => DialFailure::Unreachable(detail),
    }
}

/// Checks that the answering hello is from the peer that we dialled, and addressed to us.
pub(super) fn check_answer(ours: &Hello, theirs: &Hello) -> Result<(), String> {
    same_cluster(ours, theirs)?;
    if (theirs.from, theirs.from_incarnation) != (ours.to, ours.to_incarnation) {
        let (id, incarnation) = (ours.to, ours.to_incarnation);
        return Err(format!("{}/{} answered, not {id}/{incarnation}", theirs.from, theirs.from_incarnation));
    }
    if (theirs.to, theirs.to_incarnation) != (ours.from, ours.from_incarnation) {
        return Err(format!("the answer is for {}/{}, not for us", theirs.to, theirs.to_incarnation));
    }
    Ok(())
}

/// Checks that the member that asks for a snapshot body belongs to the same cluster and means us.
pub(super) fn check_requester(ours: &Hello, theirs: &Hello) -> Result<(), String> {
    same_cluster(ours, theirs)?;
    if (theirs.to, theirs.to_incarnation) != (ours.from, ours.from_incarnation) {
        return Err(format!("{}/{} is meant, this is another member", theirs.to, theirs.to_incarnation));
    }
    Ok(())
}

fn same_cluster(ours: &Hello, theirs: &Hello) -> Result<(), String> {
    if theirs.is_older() {
        return Err(format!("hello format {} is older than {HELLO_FORMAT}", theirs.format));
    }
    let cluster = |hello: &Hello| (hello.cluster_id, hello.genesis, hello.generation);
    if cluster(theirs) != cluster(ours) {
        let (cluster_id, genesis, generation) = cluster(theirs);
        return Err(format!("the peer is of cluster {cluster_id}, genesis {genesis}, generation {generation}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::fakes::hello;
    use proptest::prelude::*;
    use raftkv_api::Hex128;
    use raftkv_core::membership::Removed;

    proptest! {
        #[test]
        fn a_hello_with_any_name_fits_into_a_header(name in any::<String>()) {
            let hello = Hello { from_name: name, ..hello(1, 2) };
            prop_assert_eq!(from_header(&to_header(&hello)), Ok(hello));
        }

        #[test]
        fn garbage_is_refused(text in "[ -~]*") {
            prop_assert!(from_header(&HeaderValue::try_from(text).unwrap()).is_err());
        }
    }

    #[test]
    fn every_refusal_reaches_the_dialler_as_what_it_is() {
        let record = Box::new(RemovedRecord {
            cluster_id: Hex128([1; 16]),
            genesis: Hex128([2; 16]),
            generation: 0,
            member_id: 3,
            removed: Removed { name: "n3".into(), incarnation: Hex128([3; 16]), index: 9, term: 2 },
        });
        let heard = |verdict| {
            let refusal = answer(verdict).unwrap_err();
            let status = StatusCode::from_u16(refusal.problem.status).unwrap();
            failure(status, &serde_json::to_vec(&refusal).unwrap())
        };
        assert_eq!(heard(HelloVerdict::Differs("a".into())), DialFailure::Differs("409 Conflict: a".into()));
        assert_eq!(heard(HelloVerdict::RolledBack("b".into())), DialFailure::RolledBack("409 Conflict: b".into()));
        assert_eq!(heard(HelloVerdict::Gone(record.clone())), DialFailure::Gone(record));
        let later = DialFailure::Later("503 Service Unavailable: c".into());
        assert_eq!(heard(HelloVerdict::Later("c".into())), later);
    }

    #[test]
    fn a_stranger_s_answer_is_never_final() {
        assert!(matches!(failure(StatusCode::GONE, b"gone"), DialFailure::Unreachable(_)));
        assert!(matches!(failure(StatusCode::CONFLICT, b"<html>"), DialFailure::Differs(_)));
        assert!(matches!(failure(StatusCode::NOT_FOUND, b""), DialFailure::Unreachable(_)));
    }

    #[test]
    fn an_answer_must_come_from_whom_we_dialled() {
        let ours = hello(1, 2);
        let theirs = hello(2, 1);
        assert_eq!(check_answer(&ours, &theirs), Ok(()));
        let changed = [
            Hello { format: HELLO_FORMAT - 1, ..theirs.clone() },
            Hello { cluster_id: Hex128([9; 16]), ..theirs.clone() },
            Hello { genesis: Hex128([9; 16]), ..theirs.clone() },
            Hello { generation: 1, ..theirs.clone() },
            Hello { from: 3, ..theirs.clone() },
            Hello { from_incarnation: Hex128([9; 16]), ..theirs.clone() },
            Hello { to: 3, ..theirs.clone() },
            Hello { to_incarnation: Hex128([9; 16]), ..theirs },
        ];
        for other in changed {
            assert!(check_answer(&ours, &other).is_err(), "{other:?}");
        }
    }
}

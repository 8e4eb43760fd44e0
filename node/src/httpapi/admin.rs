//! Calls on the node and its cluster: each checks that it is meant for this node, makes one call of the node, and gives
//! one answer.
//!
//! Enters: what `call` has checked. Leaves: a response, or a problem. A call that is meant for another node has no
//! effect.

use crate::handle::Refusal;
use crate::httpapi::App;
use crate::httpapi::call::Target;
use crate::httpapi::condition;
use crate::httpapi::errors::{self, CallKind};
use crate::httpapi::json;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use raftkv_api as api;
use raftkv_api::{Code, DecimalId, NodeState, Problem};
use raftkv_core::driver::MembershipCall;
use raftkv_core::types::{Index, MemberId};

/// What headers carry for an identity that a node does not have.
const NONE: &str = "none";

/// The node's state.
pub fn status(app: &App) -> Response {
    json(&app.node.status())
}

/// The membership, with the tag that fences the next change.
pub async fn members(app: &App) -> Result<Response, Problem> {
    let members = app.node.members().await.map_err(|refusal| problem(app, &refusal, CallKind::Reads))?;
    Ok(tagged(json(&members), members.conf_index))
}

/// Changes the membership.
pub async fn change(app: &App, target: &Target, if_match: Index, change: MembershipCall) -> Result<Response, Problem> {
    check_target(target, &app.node.status(), Founding::No)?;
    let done = app.node.change(change, if_match).await.map_err(|refusal| problem(app, &refusal, CallKind::Writes))?;
    let answer = api::MemberAdded { id: DecimalId(done.id), conf_index: done.conf_index };
    Ok(tagged(json(&answer), done.conf_index))
}

/// Moves leadership.
pub async fn transfer(app: &App, target: &Target, to: Option<MemberId>) -> Result<Response, Problem> {
    check_target(target, &app.node.status(), Founding::No)?;
    let leader = app.node.transfer(to).await.map_err(|refusal| problem(app, &refusal, CallKind::Writes))?;
    Ok(json(&api::Transferred { leader: DecimalId(leader) }))
}

/// Founds a cluster.
pub async fn init(app: &App, target: &Target, init: api::Init) -> Result<Response, Problem> {
    check_target(target, &app.node.status(), Founding::Yes)?;
    let done = app.node.init(init).await.map_err(|refusal| problem(app, &refusal, CallKind::Writes))?;
    Ok(json(&done))
}

/// Sets the data of a Removed or Quarantined node aside.
pub async fn reset(app: &App, target: &Target, reset: api::Reset) -> Result<Response, Problem> {
    check_target(target, &app.node.status(), Founding::No)?;
    app.node.reset(reset.clone()).await.map_err(|refusal| problem(app, &refusal, CallKind::Writes))?;
    Ok(json(&reset))
}

fn problem(app: &App, refusal: &Refusal, kind: CallKind) -> Problem {
    errors::refused(refusal, kind, app.node.leader())
}

fn tagged(mut response: Response, conf_index: Index) -> Response {
    let tag = HeaderValue::from_str(&condition::tag(conf_index)).expect("a number in quotes is a valid header");
    response.headers_mut().insert(header::ETAG, tag);
    response
}

/// Whether the call is `init`. It is idempotent, so its sender may repeat it word for word with the cluster `none`,
/// also when the first answer was lost and the node has a cluster by then; the node checks whether it is the same
/// cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Founding {
    Yes,
    No,
}

/// Checks that the call is meant for this node (rule O5). A node that is still opening does not know.
fn check_target(target: &Target, status: &api::Status, founding: Founding) -> Result<(), Problem> {
    if status.state == NodeState::Opening {
        return Err(Problem::new(Code::Opening, status.reason.clone().unwrap_or_default()));
    }
    let word = |id: Option<api::Hex128>| id.map_or(NONE.to_string(), |id| id.to_string());
    let checks = [
        (api::HEADER_NAME, &target.name, status.name.clone(), false),
        (api::HEADER_INCARNATION, &target.incarnation, word(status.incarnation), false),
        (api::HEADER_CLUSTER, &target.cluster, word(status.cluster_id), founding == Founding::Yes),
    ];
    for (header, asked, actual, none_will_do) in checks {
        if *asked != actual && !(none_will_do && asked == NONE) {
            return Err(Problem::new(Code::WrongNode, format!("{header} says {asked}; this node's is {actual}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::httpapi::samples;

    #[test]
    fn a_call_must_be_meant_for_this_node() {
        let status = samples::status();
        let id = |byte| api::Hex128([byte; 16]).to_string();
        let good = Target { cluster: id(2), name: "n1".into(), incarnation: id(1) };
        assert_eq!(check_target(&good, &status, Founding::No), Ok(()));
        let wrong = [
            Target { cluster: id(9), ..good.clone() },
            Target { cluster: NONE.into(), ..good.clone() },
            Target { name: "n2".into(), ..good.clone() },
            Target { incarnation: id(9), ..good.clone() },
            Target { incarnation: NONE.into(), ..good.clone() },
        ];
        for target in wrong {
            let problem = check_target(&target, &status, Founding::No).expect_err("another node");
            assert_eq!(problem.code, Code::WrongNode, "{target:?}");
        }
        let blank = api::Status { cluster_id: None, state: NodeState::Blank, ..status.clone() };
        let none = Target { cluster: NONE.into(), ..good.clone() };
        assert_eq!(check_target(&none, &blank, Founding::No), Ok(()));
        assert!(check_target(&good, &blank, Founding::Yes).is_err());
        assert_eq!(check_target(&none, &status, Founding::Yes), Ok(()), "init said again");
        let opening = api::Status { state: NodeState::Opening, ..status };
        assert_eq!(check_target(&good, &opening, Founding::No).expect_err("opening").code, Code::Opening);
    }
}

//! livez, readyz, metrics and version: what probes ask a node in any state.
//!
//! Enters: what the node publishes. Leaves: text, JSON, or a problem that says why the node is not ready. No other
//! member is asked.

use crate::handle::judged;
use crate::httpapi::App;
use crate::httpapi::json;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use raftkv_api as api;
use raftkv_api::{Code, NodeState, Problem};
use raftkv_judge::Can;

/// Whether the loops turn. It must not depend on a quorum, or a partition would restart every node.
pub fn livez(app: &App) -> Result<Response, Problem> {
    app.node.alive().map_err(|stuck| Problem::new(Code::Internal, stuck))?;
    Ok(text("ok\n", "text/plain; charset=utf-8"))
}

/// Whether this is a voter that reads linearizably (rule O11).
pub fn readyz(app: &App, verbose: bool) -> Result<Response, Problem> {
    let checks =
        Checks { loops: app.node.alive(), state: app.node.status(), read: app.node.serves().map_err(|(_, why)| why) };
    checks.answer(verbose).map(|ok| text(&ok, "text/plain; charset=utf-8"))
}

/// Metrics for Prometheus.
pub fn metrics(app: &App) -> Response {
    text(&app.metrics.encode(), "text/plain; version=0.0.4; charset=utf-8")
}

/// The version, and where the admin port is.
pub fn version(app: &App) -> Response {
    let version = env!("CARGO_PKG_VERSION").to_string();
    json(&api::Version { version, admin_url: app.node.config().admin_url.clone() })
}

/// What readiness is made of.
struct Checks {
    loops: Result<(), String>,
    state: api::Status,
    read: Result<(), String>,
}

impl Checks {
    /// The text of a ready node, or why it is not ready: the failed checks, and all of them if `verbose`.
    fn answer(&self, verbose: bool) -> Result<String, Problem> {
        let code = not_ready_code(&self.state);
        let state = match self.state.state {
            NodeState::Voter if self.state.formed => Ok(()),
            NodeState::Voter => Err("the cluster has not yet had the voters that init asked for".to_string()),
            other => Err(format!("the node is {}", state_word(other))),
        };
        let checks = [("loops", &self.loops), ("voter", &state), ("linearizable-read", &self.read)];
        let line = |(name, result): &(&str, &Result<(), String>)| match result {
            Ok(()) => format!("[+]{name} ok"),
            Err(why) => format!("[-]{name} failed: {why}"),
        };
        // Says why a read may fail. Lack of space by itself does not make a node unready: reads and deletes go on.
        let space = self.state.no_space.as_ref().map(|why| format!("[!]space: {why}"));
        let failed = checks.iter().filter(|(_, result)| result.is_err()).map(line);
        let failed: Vec<String> = failed.chain(space.clone().filter(|_| self.is_not_ready(&state))).collect();
        let space = space.unwrap_or_else(|| "[+]space ok".to_string());
        let all: Vec<String> = checks.iter().map(line).chain([space]).chain(self.judged()).collect();
        match (failed.is_empty(), verbose) {
            (true, false) => Ok("ok\n".to_string()),
            (true, true) => Ok(all.join("\n") + "\nreadyz check passed\n"),
            (false, false) => Err(Problem::new(code, failed.join("; "))),
            (false, true) => Err(Problem::new(code, all.join("; "))),
        }
    }
}

impl Checks {
    /// How the cluster is, as this node alone can judge it. It makes no node unready: readiness is this node's own.
    fn judged(&self) -> Vec<String> {
        let judgement = judged(&self.state);
        let can = |what: &str, can: &Can| match can {
            Can::Yes => format!("[+]{what} ok"),
            Can::No(why) => format!("[!]{what}: no, {why}"),
            Can::Unknown(why) => format!("[?]{what}: not known here, {why}"),
        };
        let ills = judgement.ills.iter().map(|ill| format!("[!]{}: {}", ill.illness.as_str(), ill.what));
        [can("writes", &judgement.can_write), can("reads", &judgement.can_read)].into_iter().chain(ills).collect()
    }

    fn is_not_ready(&self, state: &Result<(), String>) -> bool {
        self.loops.is_err() || state.is_err() || self.read.is_err()
    }
}

fn not_ready_code(status: &api::Status) -> Code {
    match status.state {
        NodeState::Opening => Code::Opening,
        NodeState::Blank => Code::NotAMember,
        NodeState::Learner => Code::NotAVoter,
        NodeState::Voter if !status.formed => Code::Forming,
        NodeState::Voter => Code::NoLeader,
        NodeState::Removed => Code::Removed,
        NodeState::Quarantined => Code::Quarantined,
    }
}

fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Opening => "opening",
        NodeState::Blank => "blank",
        NodeState::Learner => "a learner",
        NodeState::Voter => "a voter",
        NodeState::Removed => "removed",
        NodeState::Quarantined => "quarantined",
    }
}

fn text(text: &str, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(text.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::httpapi::samples;

    #[test]
    fn a_voter_that_reads_is_ready() {
        let state = api::Status { twins: vec![], ..samples::status() };
        let checks = Checks { loops: Ok(()), state, read: Ok(()) };
        assert_eq!(checks.answer(false), Ok("ok\n".to_string()));
        let own = "[+]loops ok\n[+]voter ok\n[+]linearizable-read ok\n[+]space ok\n";
        let verbose = format!("{own}[+]writes ok\n[+]reads ok\nreadyz check passed\n");
        assert_eq!(checks.answer(true), Ok(verbose));
    }

    #[test]
    fn a_ready_node_says_what_is_wrong_with_the_cluster_as_far_as_it_knows() {
        let mut leader = samples::status();
        leader.members.push(api::Member { id: api::DecimalId(2), name: "n2".into(), ..leader.members[0].clone() });
        leader.peers[0].active = false;
        (leader.writes, leader.no_space) = (Some(api::Writes::Quota), Some("over --quota".to_string()));
        let checks = Checks { loops: Ok(()), state: leader, read: Ok(()) };
        let told = checks.answer(true).expect("ready");
        for line in
            ["[!]writes: no, the database is over its quota", "[+]reads ok", "[!]over_quota: writes are refused"]
        {
            assert!(told.lines().any(|told| told.starts_with(line)), "{line} is not in\n{told}");
        }
        let mut follower = samples::status();
        (follower.member_id, follower.writes) = (Some(api::DecimalId(2)), None);
        let told = Checks { loops: Ok(()), state: follower, read: Ok(()) }.answer(true).expect("ready");
        assert!(
            told.contains("[?]writes: not known here, only the leader knows, and it did not say\n[+]reads ok\n"),
            "{told}"
        );
    }

    #[test]
    fn every_other_node_says_why_it_is_not() {
        let voter = samples::status();
        let cases = [
            (NodeState::Opening, true, Code::Opening),
            (NodeState::Blank, false, Code::NotAMember),
            (NodeState::Learner, true, Code::NotAVoter),
            (NodeState::Voter, false, Code::Forming),
            (NodeState::Voter, true, Code::NoLeader),
            (NodeState::Removed, true, Code::Removed),
            (NodeState::Quarantined, true, Code::Quarantined),
        ];
        for (state, formed, code) in cases {
            let state = api::Status { state, formed, ..voter.clone() };
            let checks = Checks { loops: Ok(()), state, read: Err("no answer for 6 s".into()) };
            let problem = checks.answer(false).expect_err("not ready");
            assert_eq!((problem.code, problem.status), (code, 503));
            assert!(problem.detail.contains("linearizable-read failed: no answer for 6 s"), "{}", problem.detail);
            assert!(!problem.detail.contains("loops"));
            assert!(checks.answer(true).expect_err("not ready").detail.starts_with("[+]loops ok; "));
        }
    }
}

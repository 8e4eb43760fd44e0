//! Requests that are wrong: each gets an error that names what was wrong and what would be right, and changes nothing.

use anyhow::{Context, Result, ensure};
use raftkv_api::{AddMember, Code, Hex128, Init, Members, NodeState, Outcome, Problem};
use raftkv_cluster_tests::http::{Answer, Request};
use raftkv_cluster_tests::wait::{eventually, holds};
use raftkv_cluster_tests::{Cluster, Export};
use std::sync::atomic::{AtomicU8, Ordering};

/// The problem of an answer; it must have this code, no effect, and all of `words` in its detail.
fn refused(answer: &Answer, code: Code, words: &[&str]) -> Result<Problem> {
    let problem = answer.problem()?;
    ensure!(problem.code == code, "{code:?} was expected: {problem:?}");
    ensure!(answer.status == code.status() && problem.outcome == Outcome::None, "{problem:?}");
    for word in words {
        ensure!(problem.detail.contains(word), "'{word}' is missing in the detail of {problem:?}");
    }
    Ok(problem)
}

#[test]
fn wrong_requests_on_the_client_port_say_what_would_be_right() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let node = &cluster.nodes[0];
    node.client("PUT", "/v1/kv/kept").body("as it was").send()?.expect(200)?;
    let before = Export::read(node, "")?;

    let long_key = "k".repeat(4097);
    let large = vec![b'v'; 1536 * 1024 + 1];
    let request = |method: &str, target: &str| node.client(method, target);
    let put = |target: &str| request("PUT", target).body("changed");
    type Case<'a> = (Request, Code, &'a [&'a str]);
    let cases: Vec<Case> = vec![
        (put("/v1/kv/"), Code::EmptyKey, &[]),
        (request("GET", "/v1/kv/"), Code::EmptyKey, &[]),
        (put(&format!("/v1/kv/{long_key}")), Code::KeyTooLarge, &["4096"]),
        (request("PUT", "/v1/kv/kept").body(large), Code::BodyTooLarge, &["1572864"]),
        (put("/v1/kv/%4"), Code::BadRequest, &[]),
        (put("/v1/kv/?key_b64=!"), Code::BadParameter, &["key_b64"]),
        (put("/v1/kv/kept?ttl=5"), Code::UnknownParameter, &["ttl"]),
        (request("GET", "/v1/kv?limt=5"), Code::UnknownParameter, &["limt", "limit"]),
        (request("GET", "/v1/kv?limit=many"), Code::BadParameter, &["limit"]),
        (request("GET", "/v1/kv?limit=100000"), Code::BadParameter, &["limit", "10000"]),
        (request("GET", "/v1/kv/kept?consistency=maybe"), Code::BadParameter, &["linearizable", "stale"]),
        (request("GET", "/v1/kv/kept?revision=999"), Code::FutureRevision, &["999"]),
        (request("GET", "/v1/kv?revision=999"), Code::FutureRevision, &["999"]),
        (put("/v1/kv/kept").header("If-Match", "7"), Code::BadCondition, &["\"42\""]),
        (put("/v1/kv/kept").header("If-Match", "W/\"2\""), Code::BadCondition, &["weak"]),
        (put("/v1/kv/kept").header("If-Match", "\"1\", \"2\""), Code::BadCondition, &["list"]),
        (put("/v1/kv/kept").header("If-None-Match", "\"1\""), Code::BadCondition, &["*"]),
        (put("/v1/kv/kept").header("If-Match", "*").header("If-None-Match", "*"), Code::BadCondition, &[]),
        (request("GET", "/v1/kv/kept").header("If-Match", "*"), Code::BadCondition, &[]),
        (request("GET", "/v1/kv/kept").header("If-None-Match", "*"), Code::BadCondition, &["ETag"]),
        (request("GET", "/v1/kv").header("If-None-Match", "\"1\""), Code::BadCondition, &["if-none-match"]),
        (put("/v1/kv/kept").header("If-None-Match", "*"), Code::ConditionFailed, &[]),
        (put("/v1/kv/kept").header("If-Match", "\"999\""), Code::ConditionFailed, &[]),
        (put("/v1/kv/other").header("If-Match", "*"), Code::ConditionFailed, &[]),
        (request("GET", "/v1/kv/other"), Code::KeyNotFound, &[]),
        (request("POST", "/v1/kv/kept"), Code::MethodNotAllowed, &[]),
        (request("GET", "/v1/nothing"), Code::NotFound, &[]),
        (put("/v1/kv/kept").header("Host", "evil.example"), Code::ForbiddenHost, &["evil.example"]),
        (put("/v1/kv/kept").header("Origin", "http://evil.example"), Code::ForbiddenHost, &["evil.example"]),
    ];
    for (request, code, words) in cases {
        let answer = request.send()?;
        refused(&answer, code, words).with_context(|| format!("{request:?}"))?;
    }
    ensure!(Export::read(node, "")? == before, "a refused request has changed something");
    // Bytes that are not UTF-8 are not an error.
    node.client("PUT", "/v1/kv/%FF%FE").body([0xff, 0xfe]).send()?.expect(200)?;
    ensure!(node.client("GET", "/v1/kv/%FF%FE").send()?.expect(200)?.body == [0xff, 0xfe]);
    cluster.finish()
}

#[test]
fn a_compacted_revision_names_the_oldest_that_can_be_read() -> Result<()> {
    let mut cluster = Cluster::start_with(1, &["--compact-retention=1s"])?;
    let node = &cluster.nodes[0];
    let revision = |answer: Answer| answer.json::<raftkv_api::Put>().map(|put| put.revision);
    let first = revision(node.client("PUT", "/v1/kv/k").body("one").send()?.expect(200)?)?;
    revision(node.client("PUT", "/v1/kv/k").body("two").send()?.expect(200)?)?;
    // The node learns which revision is a second old only when time has passed and something was written since.
    let status = eventually("the first revision is compacted", || {
        node.client("PUT", "/v1/kv/tick").body("tock").send()?.expect(200)?;
        let status = node.status()?;
        holds(status.compacted_revision > first, || format!("{} of {}", status.compacted_revision, status.revision))?;
        Ok(status)
    })?;
    for target in [format!("/v1/kv/k?revision={first}"), format!("/v1/kv?revision={first}")] {
        let problem = refused(&node.client("GET", &target).send()?, Code::Compacted, &[])?;
        let oldest = problem.compacted_revision.context("the problem names the oldest revision")?;
        ensure!(oldest >= status.compacted_revision, "{problem:?}, {status:?}");
    }
    ensure!(node.client("GET", "/v1/kv/k").send()?.expect(200)?.text() == "two");
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn wrong_tokens_are_refused_and_open_paths_stay_open() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let node = &cluster.nodes[0];
    for path in ["/v1/status", "/v1/members"] {
        let wrong = node.admin("GET", path).header("Authorization", format!("Bearer {}", "0".repeat(64)));
        refused(&wrong.send()?, Code::Unauthorized, &["token"])?;
        refused(&node.admin("GET", path).without("Authorization").send()?, Code::Unauthorized, &["Authorization"])?;
    }
    for path in ["/livez", "/readyz", "/metrics", "/version"] {
        let answer = node.admin("GET", path).without("Authorization").send()?;
        ensure!([200, 503].contains(&answer.status), "{path}: {answer:?}");
    }
    let peer = Request::new("GET", &format!("{}/raft/v1", node.peer_url())).header("Upgrade", "raftkv-peer/1");
    let refusal = peer.header("Connection", "Upgrade").send()?;
    ensure!(refusal.status == 401, "a peer without a token: {refusal:?}");
    cluster.finish()
}

#[test]
fn init_takes_effect_once_and_only_where_it_was_meant() -> Result<()> {
    let mut cluster = Cluster::empty()?;
    cluster.start_node()?;
    let node = &cluster.nodes[0];
    let blank = node.status()?;
    let incarnation = blank.incarnation.context("Blank has one")?;
    let init = Init { cluster_id: Hex128([1; 16]), name: node.name.clone(), incarnation, min_voters: 1 };
    let call =
        |init: &Init| -> Result<Answer> { node.admin_guarded("POST", "/v1/init", &node.status()?).json(init).send() };
    refused(&node.client("PUT", "/v1/kv/k").body("v").send()?, Code::NotAMember, &[])?;
    refused(&call(&Init { incarnation: Hex128([9; 16]), ..init.clone() })?, Code::WrongNode, &[])?;
    refused(&call(&Init { name: "n9".into(), ..init.clone() })?, Code::WrongNode, &["n9"])?;
    ensure!(node.status()?.state == NodeState::Blank, "a refused init has left a trace");

    let done: raftkv_api::InitDone = call(&init)?.expect(200)?.json()?;
    node.wait_serving()?;
    // A second init for the same cluster is answered with that cluster; one for another cluster is refused with the id
    // of the existing one.
    let again: raftkv_api::InitDone = call(&init)?.expect(200)?.json()?;
    ensure!(again == done, "{again:?}, {done:?}");
    let other = Init { cluster_id: Hex128([2; 16]), ..init };
    refused(&call(&other)?, Code::AlreadyInitialized, &[&Hex128([1; 16]).to_string()])?;
    ensure!(node.status()?.cluster_id == Some(Hex128([1; 16])));
    cluster.finish()
}

#[test]
fn wrong_membership_calls_are_refused() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let node = &cluster.nodes[0];
    let status = node.status()?;
    let members = cluster.members()?;
    let fence = format!("\"{}\"", members.conf_index);
    let call = |method: &str, path: &str| node.admin_guarded(method, path, &status).header("If-Match", &fence);
    let empty = serde_json::json!({});
    let last = call("DELETE", "/v1/members/1").send()?.problem()?;
    // The member is the leader as well as the last voter; each of these is reason enough.
    ensure!([Code::ChangeRefused, Code::LeaderRemoval].contains(&last.code), "{last:?}");
    refused(&call("DELETE", "/v1/members/7").send()?, Code::MemberNotFound, &["7"])?;
    refused(&call("POST", "/v1/members/7/promote").json(&empty).send()?, Code::MemberNotFound, &["7"])?;
    refused(&call("POST", "/v1/members/1/promote").json(&empty).send()?, Code::ChangeRefused, &["1"])?;
    refused(&call("DELETE", "/v1/members/one").send()?, Code::BadRequest, &["one"])?;
    refused(&call("POST", "/v1/members").body("{").send()?, Code::BadRequest, &[])?;
    let incarnation = status.incarnation.context("a member has one")?;
    let reset = raftkv_api::Reset::of(incarnation);
    refused(&call("POST", "/v1/reset").without("If-Match").json(&reset).send()?, Code::WrongState, &[])?;
    let elsewhere = call("DELETE", "/v1/members/1").header("x-raftkv-cluster", Hex128([3; 16]));
    refused(&elsewhere.send()?, Code::WrongNode, &[])?;
    ensure!(cluster.members()? == members, "a refused call has changed something");
    cluster.finish()
}

#[test]
fn a_second_change_waits_for_the_first() -> Result<()> {
    let cluster = Cluster::start(3)?;
    // Both followers are paused just before two changes are asked for, so that the first to arrive cannot commit.
    let pending = eventually("one of two changes is refused as the second", || {
        let leader = cluster.leader()?;
        let node = &cluster.nodes[leader];
        let status = node.status()?;
        let members: Members = node.admin("GET", "/v1/members").send()?.expect(200)?.json()?;
        let add = |nth: u8| AddMember {
            name: format!("late{nth}-{}", nth_stranger()),
            peer_url: format!("http://127.0.0.1:{nth}"),
            incarnation: Hex128([nth_stranger(); 16]),
        };
        let followers = || cluster.nodes.iter().enumerate().filter(|(nth, _)| *nth != leader).map(|(_, node)| node);
        for follower in followers() {
            follower.pause()?;
        }
        let answers: Vec<Result<Answer>> = std::thread::scope(|scope| {
            let call = |nth| {
                let call = node.admin_guarded("POST", "/v1/members", &status).json(&add(nth));
                call.header("If-Match", format!("\"{}\"", members.conf_index))
            };
            let (one, two) = (call(1), call(2));
            let calls = [scope.spawn(move || one.send()), scope.spawn(move || two.send())];
            let refused = eventually("one call is answered", || {
                holds(calls.iter().any(|call| call.is_finished()), || "both wait".into())
            });
            for follower in followers() {
                follower.resume()?;
            }
            refused?;
            anyhow::Ok(calls.map(|call| call.join().expect("no assertion in there")).into())
        })?;
        for answer in answers.into_iter().flatten() {
            if answer.status == 409 && answer.problem()?.code == Code::ChangePending {
                return answer.problem();
            }
        }
        anyhow::bail!("neither was refused")
    })?;
    ensure!(pending.retryable && pending.outcome == Outcome::None, "{pending:?}");
    cluster.finish()
}

/// A new number at each call.
fn nth_stranger() -> u8 {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

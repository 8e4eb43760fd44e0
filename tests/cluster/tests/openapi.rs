//! The API's description is true: every status that it lists for a route is produced here once, and no other is seen.
//!
//! Every test of the suite checks in `Cluster::finish` that no other status is seen.

use anyhow::{Context, Result, ensure};
use raftkv_api::{AddMember, DecimalId, Hex128, Init, NodeState, Reset, Status, Transfer};
use raftkv_cluster_tests::answers::{self, Answered, Port};
use raftkv_cluster_tests::http::Request;
use raftkv_cluster_tests::wait::{eventually, holds};
use raftkv_cluster_tests::{Cluster, Node};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

#[test]
fn every_listed_status_is_produced() -> Result<()> {
    let mut cluster = Cluster::start_with(3, &["--compact-retention=1s", "--drain=2s"])?;
    let leader = cluster.leader()?;
    let spec: Value = cluster.nodes[leader].client("GET", "/openapi.json").send()?.expect(200)?.json()?;

    late_bodies(&cluster.nodes[leader], &spec)?;
    before_the_route_is_carried_out(&cluster.nodes[leader], &spec)?;
    keys(&cluster.nodes[leader])?;
    full()?;
    out_of_space()?;
    good_answers(&cluster.nodes[leader], &spec)?;
    let blank = cluster.start_node()?;
    blank_node(&cluster.nodes[blank])?;
    members(&mut cluster, blank)?;
    overloaded()?;
    without_quorum()?;

    let missing = answers::missing(&spec, &answers::all());
    ensure!(missing.is_empty(), "listed and never produced: {missing:#?}");
    cluster.finish()
}

/// A request for a listed route that passes all checks before the route.
fn request(node: &Node, status: &Status, listed: &Answered) -> Request {
    let target = listed.path.replace("{key}", "k").replace("{id}", "1");
    match listed.port {
        Port::Client | Port::Peer => node.client(&listed.method, &target),
        Port::Admin => node.admin_guarded(&listed.method, &target, status),
    }
}

/// Produces 408 on every route with a body, all at once: the node gives up after half a minute.
fn late_bodies(node: &Node, spec: &Value) -> Result<()> {
    let status = node.status()?;
    thread::scope(|scope| {
        let late = answers::listed(spec).into_iter().filter(|listed| listed.status == 408);
        let sent: Vec<_> = late
            .map(|listed| request(node, &status, &listed).header("Content-Length", 10).body("{"))
            .map(|request| scope.spawn(move || request.send()?.expect(408)))
            .collect();
        sent.into_iter().try_for_each(|sent| sent.join().expect("no assertion in there").map(drop))
    })
}

/// Produces on every route the statuses of requests that are refused before the call is looked at.
fn before_the_route_is_carried_out(node: &Node, spec: &Value) -> Result<()> {
    let status = node.status()?;
    for listed in answers::listed(spec) {
        let plain = request(node, &status, &listed);
        let target = listed.path.replace("{key}", "k").replace("{id}", "1");
        let with_query = |query: &str| match listed.port {
            Port::Client | Port::Peer => node.client(&listed.method, &format!("{target}?{query}")),
            Port::Admin => node.admin_guarded(&listed.method, &format!("{target}?{query}"), &status),
        };
        let request = match listed.status {
            400 => with_query("nope=1"),
            401 => plain.without("Authorization"),
            403 => plain.header("Host", "evil.example"),
            413 => plain.body(vec![b' '; 1536 * 1024 + 1]),
            414 => with_query(&format!("long={}", "x".repeat(16 * 1024))),
            417 => plain.header("Expect", "a-miracle"),
            431 => plain.header("X-Long", "x".repeat(17 * 1024)),
            _ => continue,
        };
        request.send()?.expect(listed.status).with_context(|| format!("{listed:?}"))?;
    }
    Ok(())
}

/// Produces 200, 304, 404, 410 and 412 of the calls on keys.
fn keys(node: &Node) -> Result<()> {
    node.client("PUT", "/v1/kv/k").body("1").send()?.expect(200)?;
    let first = node.client("GET", "/v1/kv/k").send()?.expect(200)?.etag()?;
    node.client("GET", "/v1/kv/k").header("If-None-Match", format!("\"{first}\"")).send()?.expect(304)?;
    node.client("PUT", "/v1/kv/k").header("If-None-Match", "*").body("2").send()?.expect(412)?;
    node.client("DELETE", "/v1/kv/k").header("If-Match", "\"999999\"").send()?.expect(412)?;
    node.client("DELETE", "/v1/kv/k").send()?.expect(200)?;
    node.client("GET", "/v1/kv/k").send()?.expect(404)?;
    node.client("GET", "/v1/kv").send()?.expect(200)?;
    eventually("the first revision is compacted", || {
        node.client("PUT", "/v1/kv/tick").body("tock").send()?.expect(200)?;
        node.client("GET", &format!("/v1/kv/k?revision={first}")).send()?.expect(410).map(drop)
    })?;
    node.client("GET", &format!("/v1/kv?revision={first}")).send()?.expect(410)?;
    Ok(())
}

/// Produces 507, and checks that a full node still takes a delete.
fn full() -> Result<()> {
    let cluster = Cluster::start_with(1, &["--quota=4MiB"])?;
    let node = &cluster.nodes[0];
    let body: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    let mut nth = 0;
    eventually("the quota is reached", || {
        nth += 1;
        node.client("PUT", &format!("/v1/kv/large{nth}")).body(body.clone()).send()?.expect(507).map(drop)
    })?;
    node.client("GET", "/v1/kv/large1?consistency=linearizable").send()?.expect(200)?;
    node.client("DELETE", "/v1/kv/large1").send()?.expect(200)?;
    cluster.finish()
}

/// Produces 507 of every call that needs room: no disk has half of such a reserve.
fn out_of_space() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let node = &mut cluster.nodes[0];
    node.stop()?;
    node.flags.retain(|flag| !flag.starts_with("--reserve"));
    node.flags.push("--reserve=1000000GiB".into());
    node.start()?;
    node.wait_serving()?;
    let status = node.wait_for("is short of space", |status| status.no_space.is_some())?;
    let members = node.admin("GET", "/v1/members").send()?.expect(200)?;
    let tag = members.header("etag").context("members have a tag")?.to_string();
    let fenced = |method: &str, path: &str| node.admin_guarded(method, path, &status).header("If-Match", tag.clone());
    let requests = [
        node.client("PUT", "/v1/kv/k").body("v"),
        node.client("DELETE", "/v1/kv/k"),
        fenced("POST", "/v1/members").json(&stranger()),
        fenced("POST", "/v1/members/9/promote").json(&json!({})),
        fenced("DELETE", "/v1/members/9"),
    ];
    for request in requests {
        request.send()?.expect(507).with_context(|| format!("{request:?}"))?;
    }
    cluster.finish()
}

/// Produces 200 of every call that changes nothing.
fn good_answers(node: &Node, spec: &Value) -> Result<()> {
    let status = node.status()?;
    let safe = |listed: &Answered| listed.status == 200 && listed.method == "GET" && !listed.path.contains("{key}");
    for listed in answers::listed(spec).into_iter().filter(safe) {
        eventually(&format!("{listed:?}"), || request(node, &status, &listed).send()?.expect(200).map(drop))?;
    }
    Ok(())
}

/// Produces 503 of every call that needs a cluster, on a node that has none.
fn blank_node(node: &Node) -> Result<()> {
    let status = node.status()?;
    let guarded = |method: &str, path: &str| node.admin_guarded(method, path, &status);
    let fenced = |method: &str, path: &str| guarded(method, path).header("If-Match", "\"1\"");
    let requests = [
        node.client("GET", "/v1/kv/k"),
        node.client("PUT", "/v1/kv/k").body("v"),
        node.client("DELETE", "/v1/kv/k"),
        node.client("GET", "/v1/kv"),
        node.client("GET", "/readyz"),
        node.admin("GET", "/readyz"),
        node.admin("GET", "/v1/members"),
        fenced("POST", "/v1/members").json(&stranger()),
        fenced("POST", "/v1/members/1/promote").json(&json!({})),
        fenced("DELETE", "/v1/members/1"),
        guarded("POST", "/v1/leader/transfer").json(&Transfer::default()),
    ];
    for request in requests {
        request.send()?.expect(503).with_context(|| format!("{request:?}"))?;
    }
    Ok(())
}

/// Produces 200, 404, 409, 412, 428 and 503 of the calls on members; `blank` is added, promoted, removed and reset.
fn members(cluster: &mut Cluster, blank: usize) -> Result<()> {
    let leader = cluster.leader()?;
    let status = cluster.nodes[leader].status()?;
    let fence = format!("\"{}\"", cluster.members()?.conf_index);
    let node = &cluster.nodes[leader];
    let empty = json!({});
    let calls = [("POST", "/v1/members"), ("POST", "/v1/members/77/promote"), ("DELETE", "/v1/members/77")];
    for (method, path) in calls {
        let call = |node: &Node, status: &Status| {
            let call = node.admin_guarded(method, path, status);
            match (method, path) {
                ("POST", "/v1/members") => call.json(&stranger()),
                ("POST", _) => call.json(&empty),
                _ => call,
            }
        };
        call(node, &status).send()?.expect(428)?;
        call(node, &status).header("If-Match", "\"1\"").send()?.expect(412)?;
        let follower = &cluster.nodes[(leader + 1) % 3];
        call(follower, &follower.status()?).header("If-Match", &fence).send()?.expect(409)?;
        if path.contains("77") {
            call(node, &status).header("If-Match", &fence).send()?.expect(404)?;
        }
    }
    let transfer = |to: Transfer| node.admin_guarded("POST", "/v1/leader/transfer", &status).json(&to);
    transfer(Transfer { to: Some(DecimalId(77)) }).send()?.expect(404)?;
    let follower = &cluster.nodes[(leader + 1) % 3];
    let elsewhere = follower.admin_guarded("POST", "/v1/leader/transfer", &follower.status()?);
    elsewhere.json(&Transfer::default()).send()?.expect(409)?;

    let init = |node: &Node, status: &Status| {
        let incarnation = status.incarnation.unwrap_or_default();
        let init = Init { cluster_id: Hex128([7; 16]), name: node.name.clone(), incarnation, min_voters: 1 };
        node.admin_guarded("POST", "/v1/init", status).json(&init)
    };
    let reset = |node: &Node, status: &Status| {
        let incarnation = status.incarnation.unwrap_or_default();
        node.admin_guarded("POST", "/v1/reset", status).json(&Reset::of(incarnation))
    };
    init(node, &status).send()?.expect(409)?;
    reset(node, &status).send()?.expect(409)?;

    let id = cluster.join(blank)?;
    cluster.lead_elsewhere(blank)?;
    cluster.remove(id)?;
    let leader = cluster.leader()?;
    cluster.lead_elsewhere(leader)?;

    let removed = &mut cluster.nodes[blank];
    let status = removed.wait_for("knows that it was removed", |status| status.state == NodeState::Removed)?;
    init(removed, &status).send()?.expect(503)?;
    reset(removed, &status).send()?.expect(200)?;
    let again = eventually("the reset node is blank", || {
        // The node starts over by itself, or it ends and leaves the restart to its supervisor.
        if !removed.is_running() {
            removed.start()?;
        }
        let status = removed.status()?;
        holds(status.state == NodeState::Blank, || format!("{status:?}"))?;
        Ok(status)
    })?;
    ensure!(again.incarnation != status.incarnation, "a reset node is the same one");
    // With nothing to join, it can form a new cluster; the others must not be taken for it.
    init(removed, &again).send()?.expect(200)?;
    // While it still serves for `--drain`, it refuses a reset.
    let status = removed.wait_for("is a voter", |status| status.state == NodeState::Voter)?;
    removed.signal(Signal::TERM)?;
    eventually("it stops", || reset(removed, &status).send()?.expect(503).map(drop))?;
    removed.wait_for_end(Duration::from_secs(10)).map(drop)
}

/// Produces 429 of the calls on keys: half-sent bodies take all the memory that a node has for bodies and answers.
fn overloaded() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let node = &cluster.nodes[0];
    let authority = node.client_url().trim_start_matches("http://").to_string();
    // Large bodies fill the room quickly, small ones fill the rest of it.
    let bodies = [1536 * 1024, 64 * 1024, 4 * 1024, 256, 65].map(|bytes| vec![b'x'; bytes]);
    let mut held = Vec::new();
    let calls = [("PUT", "/v1/kv/k"), ("GET", "/v1/kv/k"), ("DELETE", "/v1/kv/k"), ("GET", "/v1/kv")];
    eventually("the node has no room left", || {
        for body in &bodies {
            let mut half_sent = TcpStream::connect(&authority)?;
            let length = body.len();
            let head = format!("PUT /v1/kv/h HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {length}\r\n\r\n");
            half_sent.write_all(head.as_bytes())?;
            half_sent.write_all(&body[1..])?;
            held.push(half_sent);
        }
        calls.iter().try_for_each(|(method, path)| node.client(method, path).body("v").send()?.expect(429).map(drop))
    })?;
    node.client("GET", "/livez").send()?.expect(200)?;
    drop(held);
    eventually("there is room again", || node.client("PUT", "/v1/kv/k").body("v").send()?.expect(200).map(drop))?;
    cluster.finish()
}

/// Produces 504 of every write, and 503 of every read, that waits for a quorum: the two followers are paused meanwhile.
fn without_quorum() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let blank = cluster.start_node()?;
    let learner = cluster.add(blank)?;
    let change = format!("/v1/members/{}", learner.0);
    let promote = format!("{change}/promote");
    let on_keys = [("PUT", "/v1/kv/k"), ("DELETE", "/v1/kv/k"), ("GET", "/v1/kv/k"), ("GET", "/v1/kv")];
    for (method, path) in [("POST", "/v1/members"), ("POST", promote.as_str()), ("DELETE", change.as_str())] {
        let leader = cluster.leader()?;
        let caught_up = |status: &Status| status.peers.iter().filter(|peer| peer.caught_up).count() >= 3;
        let status = cluster.nodes[leader].wait_for("has its members caught up", caught_up)?;
        let fence = format!("\"{}\"", cluster.members()?.conf_index);
        let node = &cluster.nodes[leader];
        let call = node.admin_guarded(method, path, &status).header("If-Match", fence);
        let call = if path == "/v1/members" { call.json(&stranger()) } else { call };
        let mut calls = vec![call];
        if path == "/v1/members" {
            calls.push(node.admin("GET", path));
            calls.extend(on_keys.map(|(method, path)| node.client(method, path)));
        }
        let paused: Vec<&Node> = (0..3).filter(|n| *n != leader).map(|n| &cluster.nodes[n]).collect();
        paused.iter().try_for_each(|node| node.pause())?;
        let wants = |call: &Request| if call.method() == "GET" { 503 } else { 504 };
        let answered = thread::scope(|scope| {
            let sent: Vec<_> = calls.iter().map(|call| scope.spawn(move || call.send()?.expect(wants(call)))).collect();
            sent.into_iter().try_for_each(|sent| sent.join().expect("no assertion in there").map(drop))
        });
        paused.iter().try_for_each(|node| node.resume())?;
        answered?;
    }
    cluster.agree()?;
    cluster.finish()
}

/// A node that does not exist.
fn stranger() -> AddMember {
    AddMember { name: "stranger".into(), peer_url: "http://127.0.0.1:1".into(), incarnation: Hex128([0xee; 16]) }
}

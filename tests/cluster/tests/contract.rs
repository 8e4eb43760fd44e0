//! A node answers only what the API's description says, whatever it is asked.

use anyhow::{Context, Result, ensure};
use raftkv_api::NodeState;
use raftkv_cluster_tests::contract::{self, Asked};
use raftkv_cluster_tests::http::Request;
use raftkv_cluster_tests::{Cluster, Node};
use serde_json::Value;
use std::collections::BTreeMap;

/// Statuses that a healthy node never answers to a request that it refuses or carries out at once.
const SERVER_ERRORS: [u16; 2] = [500, 504];

/// The results of all requests.
#[derive(Default)]
struct Judged {
    statuses: BTreeMap<u16, u64>,
    wrong: Vec<String>,
}

impl Judged {
    /// Makes a request on a connection of its own, since a connection that breaks is the worst of all answers.
    fn ask(&mut self, spec: &Value, node: &Node, asked: &Asked, request: Request) -> Result<()> {
        let Asked { method, target, headers, body, .. } = asked;
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let what = || format!("{}: {method} {target} {headers:?} {}", node.name, body.escape_ascii());
        let answer = request.body(body.clone()).send().with_context(what)?;
        *self.statuses.entry(answer.status).or_default() += 1;
        let judged = contract::check(spec, asked, &answer).and_then(|()| {
            ensure!(!SERVER_ERRORS.contains(&answer.status), "{}: {}", answer.status, answer.text());
            Ok(())
        });
        if let Err(why) = judged {
            self.wrong.push(format!("{}: {} {why:#}", what(), answer.status));
        }
        Ok(())
    }

    fn finish(self, name: &str, reached: &[u16]) -> Result<()> {
        let Judged { statuses, wrong } = self;
        let some = &wrong[..wrong.len().min(8)];
        ensure!(wrong.is_empty(), "{} answers are not described; the first: {some:#?}", wrong.len());
        let missing: Vec<_> = reached.iter().filter(|status| !statuses.contains_key(status)).collect();
        ensure!(missing.is_empty(), "{statuses:?}: {missing:?} were not reached");
        let requests: u64 = statuses.values().sum();
        println!("TABLE contract: of={name} requests={requests} statuses={}", statuses.len());
        Ok(())
    }
}

#[test]
fn every_answer_is_one_that_the_description_has() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let node = &cluster.nodes[leader];
    let spec: Value = node.client("GET", "/openapi.json").send()?.expect(200)?.json()?;
    node.client("PUT", "/v1/kv/k").body("value").send()?.expect(200)?;
    let mut judged = Judged::default();
    for asked in contract::requests(&spec, "client") {
        judged.ask(&spec, node, &asked, node.client(&asked.method, &asked.target))?;
    }
    for asked in contract::requests(&spec, "admin") {
        judged.ask(&spec, node, &asked, node.admin(&asked.method, &asked.target))?;
    }
    judged.finish("reads-and-keys", &[200, 400, 404, 405, 412])?;
    cluster.agree()?;
    cluster.finish()
}

/// At a leader of one, and at a Blank node: they refuse what they must not do, and what they do harms nobody.
#[test]
fn every_answer_to_a_change_is_one_that_the_description_has() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let blank = cluster.start_node()?;
    let spec: Value = cluster.nodes[0].client("GET", "/openapi.json").send()?.expect(200)?.json()?;
    let mut judged = Judged::default();
    for node in &cluster.nodes {
        for asked in contract::changes(&spec) {
            judged.ask(&spec, node, &asked, node.admin(&asked.method, &asked.target))?;
            // The request is let through to its operation, unless the guard itself is what is wrong.
            let status = node.status()?;
            let guarded = node.admin_guarded(&asked.method, &asked.target, &status);
            judged.ask(&spec, node, &asked, guarded.clone())?;
            judged.ask(&spec, node, &asked, guarded.header("If-Match", format!("\"{}\"", status.conf_index)))?;
        }
    }
    judged.finish("changes", &[200, 400, 404, 409, 412, 428, 503])?;
    let state = cluster.nodes[blank].status()?.state;
    ensure!(state == NodeState::Blank, "a call that was not meant for it made it {state:?}");
    cluster.nodes[0].client("PUT", "/v1/kv/k").body("value").send()?.expect(200)?;
    cluster.agree()?;
    cluster.finish()
}

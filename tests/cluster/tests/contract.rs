//! What the API's description says is all that a node answers, whatever it is asked.

use anyhow::{Context, Result, ensure};
use raftkv_cluster_tests::Cluster;
use raftkv_cluster_tests::contract::{self, Asked};
use raftkv_cluster_tests::http::Connection;
use serde_json::Value;
use std::collections::BTreeMap;

/// Answers that a healthy node of a cluster never gives to a request that is refused or carried out at once.
const SERVER_ERRORS: [u16; 2] = [500, 504];

#[test]
fn every_answer_is_one_that_the_description_has() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let node = &cluster.nodes[leader];
    let spec: Value = node.client("GET", "/openapi.json").send()?.expect(200)?.json()?;
    node.client("PUT", "/v1/kv/k").body("value").send()?.expect(200)?;
    let mut wrong = Vec::new();
    let mut statuses = BTreeMap::<u16, u64>::new();
    for (tag, authority) in [("client", node.client_url()), ("admin", node.admin_url())] {
        let authority = authority.trim_start_matches("http://").to_string();
        for asked in contract::requests(&spec, tag) {
            let Asked { method, target, headers, body, .. } = &asked;
            let request = if tag == "client" { node.client(method, target) } else { node.admin(method, target) };
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            let mut connection = Connection::open(&authority)?;
            // A connection that breaks instead of an answer is the worst of all answers.
            let answer = connection.exchange(&request.body(body.clone()));
            let answer = answer.with_context(|| format!("{tag} {method} {target} {headers:?}"))?;
            *statuses.entry(answer.status).or_default() += 1;
            let judged = contract::check(&spec, &asked, &answer).and_then(|()| {
                ensure!(!SERVER_ERRORS.contains(&answer.status), "{}: {}", answer.status, answer.text());
                Ok(())
            });
            if let Err(why) = judged {
                wrong.push(format!("{tag} {method} {target} {headers:?} {body:?}: {} {why:#}", answer.status));
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} answers are not described; the first: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(8)]
    );
    let requests: u64 = statuses.values().sum();
    let reached = [200, 400, 404, 405, 412].iter().all(|status| statuses.contains_key(status));
    ensure!(reached, "{statuses:?}: hardly anything was reached");
    println!("TABLE contract: requests={requests} statuses={}", statuses.len());
    cluster.agree()?;
    cluster.finish()
}

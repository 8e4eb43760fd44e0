//! `status`: asks every node that can be found, then shows what [`raftkv_judge`] makes of it.
//!
//! Nodes are found from the endpoints (or the admin endpoints) and from the membership that nodes show, so that a node
//! which nobody listed is shown too. A node that cannot be asked is a row, not an error. The client port alone is never
//! enough to call a node silent: where it does not answer, the admin port next to it is asked.

use crate::args::Output;
use crate::context::Context;
use crate::judged::judge;
use crate::report::Failed;
use crate::streams::{print, print_json};
use crate::table::{Align, Table, bytes};
use raftkv_api::{Code, Status};
use raftkv_client::admin::{Admin, NodeStatus, versions};
use raftkv_client::bytes_text::shell_word;
use raftkv_judge::{Judgement, Level, Row};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long an endpoint may take to name its admin URL.
const VERSION_TIMEOUT_MS: u64 = 2_000;
/// The admin port of a node is this far above its client port, unless somebody chose otherwise.
const ADMIN_PORT_ABOVE: u16 = 2;

pub(crate) async fn status(context: &Context) -> Result<(), Failed> {
    let nodes = observe(context).await?;
    let judgement = judge(&nodes);
    match context.output {
        Output::Json => print_json(&as_json(&nodes, &judgement))?,
        Output::Table => print(as_text(&judgement).as_bytes())?,
    }
    match judgement.level {
        Level::Healthy => Ok(()),
        level @ (Level::Degraded | Level::Down) => Err(Failed::Unwell(level)),
    }
}

/// What every node answers that can be found. It is an error only when those that answer refuse the token, all of them.
async fn observe(context: &Context) -> Result<Vec<NodeStatus>, Failed> {
    let token = context.token()?;
    let (urls, mut nodes) = listed(context).await;
    let admin = Admin::new(&urls, token)?;
    nodes.extend(admin.statuses().await);
    let more = unlisted(&nodes);
    nodes.extend(admin.statuses_of(&more).await);
    if !leader_answered(&nodes) {
        // Leadership may have moved while they were asked.
        let answered: Vec<String> =
            nodes.iter().filter(|node| node.status.is_ok()).map(|node| node.url.clone()).collect();
        let again = admin.statuses_of(&answered).await;
        nodes = again.into_iter().chain(nodes.into_iter().filter(|node| !answered.contains(&node.url))).collect();
    }
    let refused = nodes.iter().position(is_unauthorized);
    if let Some(at) = refused.filter(|_| nodes.iter().all(|node| node.status.is_err())) {
        nodes.swap_remove(at).status?;
    }
    Ok(nodes)
}

/// The admin URLs to ask, and the endpoints that did not name theirs.
async fn listed(context: &Context) -> (Vec<String>, Vec<NodeStatus>) {
    if !context.global.admin_endpoints.is_empty() {
        return (context.global.admin_endpoints.clone(), Vec::new());
    }
    let endpoints = &context.global.endpoints;
    let timeout = Duration::from_millis(VERSION_TIMEOUT_MS);
    let (mut urls, mut silent) = (Vec::new(), Vec::new());
    for (endpoint, answer) in endpoints.iter().zip(versions(endpoints, timeout).await) {
        match answer {
            Ok(version) => urls.push(version.admin_url),
            Err(error) => silent.push(NodeStatus { url: endpoint.clone(), status: Err(error) }),
        }
    }
    // The version is told without the token, so that the token goes to nodes only.
    let beside: Vec<String> = silent.iter().filter_map(|node| admin_url_beside(&node.url)).collect();
    urls.extend(versions(&beside, timeout).await.into_iter().flatten().map(|version| version.admin_url));
    let mut known = BTreeSet::new();
    urls.retain(|url| known.insert(url.clone()));
    (urls, silent)
}

/// Where the admin port of the node with this client URL most likely is.
fn admin_url_beside(endpoint: &str) -> Option<String> {
    let (host, port) = endpoint.trim_end_matches('/').rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    Some(format!("{host}:{}", port.checked_add(ADMIN_PORT_ABOVE)?))
}

/// Admin URLs of members that have not answered, and were not asked there.
fn unlisted(nodes: &[NodeStatus]) -> Vec<String> {
    let statuses = || nodes.iter().filter_map(|node| node.status.as_ref().ok());
    let Some(newest) = statuses().max_by_key(|status| (status.conf_index, leads(status))) else { return Vec::new() };
    let answered = |member: &&raftkv_api::Member| statuses().any(|status| status.member_id == Some(member.id));
    let urls = newest.members.iter().filter(|member| !answered(member)).filter_map(|member| member.admin_url.clone());
    urls.filter(|url| !nodes.iter().any(|node| node.url == *url)).collect()
}

fn leads(status: &Status) -> bool {
    status.leader_id.is_some() && status.leader_id == status.member_id
}

fn leader_answered(nodes: &[NodeStatus]) -> bool {
    nodes.iter().any(|node| node.status.as_ref().is_ok_and(leads))
}

fn is_unauthorized(node: &NodeStatus) -> bool {
    node.status.as_ref().is_err_and(|error| error.code() == Some(Code::Unauthorized))
}

fn next(judgement: &Judgement) -> Vec<String> {
    judgement.ills.iter().map(|ill| ill.next.by_hand(shell_word)).collect()
}

fn as_json(nodes: &[NodeStatus], judgement: &Judgement) -> serde_json::Value {
    let node = |node: &NodeStatus| match &node.status {
        Ok(status) => json!({"url": node.url, "status": status}),
        Err(error) => json!({"url": node.url, "error": error.to_string()}),
    };
    let ill = |ill: &raftkv_judge::Ill| json!({"illness": ill.illness.as_str(), "who": ill.who, "what": ill.what, "next": ill.next.by_hand(shell_word)});
    json!({
        "verdict": judgement.level.as_str(),
        "summary": judgement.summary(),
        "next": next(judgement),
        "can_write": judgement.can_write.as_str(),
        "can_read": judgement.can_read.as_str(),
        "may_fail": judgement.may_fail,
        "ills": judgement.ills.iter().map(ill).collect::<Vec<_>>(),
        "hash_index": judgement.hash_index,
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn as_text(judgement: &Judgement) -> String {
    let hash_head = judgement.hash_index.map_or_else(|| "HASH".to_string(), |index| format!("HASH@{index}"));
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("ROLE", Align::Left),
        ("TERM", Align::Right),
        ("APPLIED", Align::Right),
        ("LAG", Align::Right),
        ("REVISION", Align::Right),
        ("DB", Align::Right),
        (&hash_head, Align::Left),
    ]);
    for row in &judgement.rows {
        table.row(cells(row));
    }
    let mut text = format!("{}\n{}: {}\n", table.render(), judgement.level.as_str(), judgement.summary());
    for next in next(judgement) {
        text.push_str(&format!("next: {next}\n"));
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    vec![
        row.name.clone(),
        row.state.to_string(),
        row.role.to_string(),
        number(row.term),
        number(row.applied),
        number(row.lag),
        number(row.revision),
        row.db_bytes.map(bytes).unwrap_or_default(),
        row.hash.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;
    use raftkv_api::{DecimalId, Hex128, Member, MemberRole, Outcome, Peer, Version};
    use raftkv_client::testing::{Reply, Server, status};
    use raftkv_judge::Illness;

    fn context(flag: &str, urls: &[&str]) -> Context {
        let cli = Cli::parse_from(["raftkvctl", flag, &urls.join(","), "status"]);
        Context { global: cli.global, output: Output::Table, token: Some("ab".repeat(32).parse().unwrap()) }
    }

    /// The leader n1 of two voters; where n2 is asked, and where its clients are served.
    fn leader(admin_url: &str, client_url: &str) -> Reply {
        let mut leader = status(1);
        let member = |id: u64, admin_url: Option<&str>| Member {
            id: DecimalId(id),
            name: format!("n{id}"),
            peer_url: format!("http://n{id}:2380"),
            incarnation: Hex128([id as u8; 16]),
            role: MemberRole::Voter,
            client_url: Some(client_url.to_string()).filter(|_| id == 2),
            admin_url: admin_url.map(str::to_string),
        };
        leader.members = vec![member(1, None), member(2, Some(admin_url))];
        let hears = json!({"id": "2", "name": "n2", "active": true, "caught_up": true, "matched": 100, "applied": 100,
            "durable_conf_index": 5, "free_bytes": 0});
        leader.peers = vec![serde_json::from_value::<Peer>(hears).unwrap()];
        Reply::json(200, &leader)
    }

    fn states(judgement: &Judgement) -> Vec<(&str, &str)> {
        judgement.rows.iter().map(|row| (row.name.as_str(), row.state)).collect()
    }

    #[tokio::test]
    async fn a_node_that_refuses_the_token_is_a_row_of_the_table() {
        let refuses = Server::start([Reply::problem(Code::Unauthorized, Outcome::None)]).await;
        let leads = Server::start([leader(refuses.url(), "http://n2:2379")]).await;
        let nodes = observe(&context("--admin-endpoints", &[leads.url()])).await.unwrap();
        let judgement = judge(&nodes);
        assert_eq!(states(&judgement), [("n1", "voter"), ("n2", "unauthorized")]);
        assert_eq!(judgement.level, Level::Degraded);
        let table = as_text(&judgement);
        assert!(
            table.contains("n2 refuses the token") && table.contains("next: compare the token file of n2"),
            "{table}"
        );
    }

    #[tokio::test]
    async fn a_token_that_every_node_refuses_is_an_error() {
        let refuses = Server::start([Reply::problem(Code::Unauthorized, Outcome::None)]).await;
        let dead = Server::refusing().await;
        let error = observe(&context("--admin-endpoints", &[refuses.url(), &dead])).await.unwrap_err();
        assert!(error.to_string().contains("unauthorized"), "{error}");
    }

    #[tokio::test]
    async fn a_node_whose_client_port_is_full_is_asked_at_its_admin_port() {
        let full = Server::refusing().await;
        let second = Server::start([Reply::json(200, &status(2))]).await;
        let leads = Server::start([leader(second.url(), &full)]).await;
        let version = Version { version: "0".to_string(), admin_url: leads.url().to_string() };
        let client = Server::start([Reply::json(200, &version)]).await;
        let nodes = observe(&context("--endpoints", &[client.url(), &full])).await.unwrap();
        let judgement = judge(&nodes);
        assert_eq!(states(&judgement), [("n1", "voter"), ("n2", "voter")]);
        let ills: Vec<Illness> = judgement.ills.iter().map(|ill| ill.illness).collect();
        assert_eq!(ills, [Illness::Deaf], "{}", judgement.summary());
    }

    #[test]
    fn the_admin_port_is_two_above_the_client_port() {
        let beside = |endpoint| admin_url_beside(endpoint);
        assert_eq!(beside("http://127.0.0.1:2379").as_deref(), Some("http://127.0.0.1:2381"));
        assert_eq!(beside("http://[::1]:12379/").as_deref(), Some("http://[::1]:12381"));
        assert_eq!((beside("http://h"), beside("http://h:65535")), (None, None));
    }
}

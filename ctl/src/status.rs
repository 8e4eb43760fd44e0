//! `status`: asks every node that can be found, then shows what [`health`](crate::health) makes of it.
//!
//! Nodes are found from the endpoints (or the admin endpoints) and from the membership, so that a node which
//! nobody listed is shown too. A node that cannot be asked is a row, not an error.

use crate::args::Output;
use crate::context::Context;
use crate::health::{Level, Report, Row, report};
use crate::report::Failed;
use crate::streams::{print, print_json};
use crate::table::{Align, Table, bytes};
use raftkv_api::{Code, Members, Status};
use raftkv_client::admin::{Admin, NodeStatus, versions};
use raftkv_client::{Cause, Error};
use serde_json::json;
use std::time::Duration;

/// How long an endpoint may take to name its admin URL.
const VERSION_TIMEOUT_MS: u64 = 2_000;

pub(crate) async fn status(context: &Context) -> Result<(), Failed> {
    let (nodes, members) = observe(context).await?;
    let report = report(&nodes, members.as_ref());
    match context.output {
        Output::Json => print_json(&as_json(&nodes, &report))?,
        Output::Table => print(as_text(&report).as_bytes())?,
    }
    match report.verdict.level {
        Level::Healthy | Level::Degraded => Ok(()),
        Level::Down => Err(Failed::Unwell),
    }
}

/// The status of every node that can be found, and the membership if some node can read it.
async fn observe(context: &Context) -> Result<(Vec<NodeStatus>, Option<Members>), Failed> {
    let token = context.token()?;
    let (urls, mut nodes) = listed(context).await;
    let admin = Admin::new(&urls, token)?;
    nodes.extend(admin.statuses().await);
    if let Some(at) = nodes.iter().position(is_unauthorized) {
        nodes.swap_remove(at).status?;
    }
    let someone_leads = nodes.iter().any(|node| node.status.as_ref().is_ok_and(|status| status.leader_id.is_some()));
    // Without a leader the linearizable read could only time out.
    let members = if someone_leads { admin.members().await.ok() } else { None };
    if members.is_some() && !leader_answered(&nodes) {
        // The members were read from a leader, so there is another one by now.
        nodes = admin
            .statuses()
            .await
            .into_iter()
            .chain(nodes.into_iter().filter(|node| !urls.contains(&node.url)))
            .collect();
    }
    if let Some(members) = &members {
        let more = unlisted(&nodes, members);
        nodes.extend(admin.statuses_of(&more).await);
        nodes.extend(silent_members(&nodes, members));
    }
    Ok((nodes, members))
}

/// The admin URLs to ask, and the endpoints that did not even name theirs.
async fn listed(context: &Context) -> (Vec<String>, Vec<NodeStatus>) {
    if !context.global.admin_endpoints.is_empty() {
        return (context.global.admin_endpoints.clone(), Vec::new());
    }
    let endpoints = &context.global.endpoints;
    let (mut urls, mut silent) = (Vec::new(), Vec::new());
    let answers = versions(endpoints, Duration::from_millis(VERSION_TIMEOUT_MS)).await;
    for (endpoint, answer) in endpoints.iter().zip(answers) {
        match answer {
            Ok(version) if urls.contains(&version.admin_url) => {}
            Ok(version) => urls.push(version.admin_url),
            Err(error) => silent.push(NodeStatus { url: endpoint.clone(), status: Err(error) }),
        }
    }
    (urls, silent)
}

/// Members that have not told the leader their admin URL yet: rows all the same.
fn silent_members(nodes: &[NodeStatus], members: &Members) -> Vec<NodeStatus> {
    let answered = |id| nodes.iter().any(|node| node.status.as_ref().is_ok_and(|status| status.member_id == Some(id)));
    let silent = members.members.iter().filter(|member| member.admin_url.is_none() && !answered(member.id));
    let error = |url: &str| Error::new(url, false, Cause::NotSent("it has not told its admin URL yet".to_string()));
    silent.map(|member| NodeStatus { url: member.peer_url.clone(), status: Err(error(&member.peer_url)) }).collect()
}

/// Admin URLs of members that have not been asked yet.
fn unlisted(nodes: &[NodeStatus], members: &Members) -> Vec<String> {
    let known = |member: &&raftkv_api::Member| {
        nodes.iter().any(|node| match &node.status {
            Ok(status) => status.member_id == Some(member.id),
            Err(_) => [&member.client_url, &member.admin_url].into_iter().any(|url| url.as_ref() == Some(&node.url)),
        })
    };
    members.members.iter().filter(|member| !known(member)).filter_map(|member| member.admin_url.clone()).collect()
}

fn leader_answered(nodes: &[NodeStatus]) -> bool {
    let led = |status: &Status| status.leader_id.is_some() && status.leader_id == status.member_id;
    nodes.iter().any(|node| node.status.as_ref().is_ok_and(led))
}

fn is_unauthorized(node: &NodeStatus) -> bool {
    node.status.as_ref().is_err_and(|error| error.code() == Some(Code::Unauthorized))
}

fn as_json(nodes: &[NodeStatus], report: &Report) -> serde_json::Value {
    let node = |node: &NodeStatus| match &node.status {
        Ok(status) => json!({"url": node.url, "status": status}),
        Err(error) => json!({"url": node.url, "error": error.to_string()}),
    };
    json!({
        "verdict": report.verdict.level.as_str(),
        "summary": report.verdict.summary,
        "next": report.verdict.next,
        "hash_index": report.hash_index,
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn as_text(report: &Report) -> String {
    let hash_head = report.hash_index.map_or_else(|| "HASH".to_string(), |index| format!("HASH@{index}"));
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
    for row in &report.rows {
        table.row(cells(row));
    }
    let verdict = &report.verdict;
    let mut text = format!("{}\n{}: {}\n", table.render(), verdict.level.as_str(), verdict.summary);
    for next in &verdict.next {
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

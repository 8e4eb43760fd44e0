//! `members`, `add`, `promote`, `remove`, `transfer`, `init` and `reset`.

use crate::args::{Add, Init, Output, Promote, Remove, Reset, Transfer};
use crate::context::Context;
use crate::report::Failed;
use crate::streams::{print, print_done, print_json};
use crate::table::{Align, Table};
use raftkv_api::{AddMember, Hex128, MemberRole, Members, Status};
use raftkv_client::bytes_text::shell_word;
use serde_json::json;

pub(crate) async fn members(context: &Context) -> Result<(), Failed> {
    let members = context.admin().await?.members().await?;
    match context.output {
        Output::Json => print_json(&members),
        Output::Table => print(members_table(&members).as_bytes()),
    }
}

pub(crate) async fn add(context: &Context, args: Add) -> Result<(), Failed> {
    let admin = context.admin().await?;
    let member = match (args.admin_url, args.name, args.peer_url, args.incarnation) {
        (Some(url), ..) => itself(admin.status_of(&url).await?)?,
        (None, Some(name), Some(peer_url), Some(incarnation)) => AddMember { name, peer_url, incarnation },
        (None, ..) => return Err(Failed::Usage("NAME, PEER_URL and INCARNATION, or --admin-url".to_string())),
    };
    let added = admin.add(&member).await?;
    let id = added.id.0;
    let text = format!("{} is learner {id}; when it has caught up: raftkvctl promote {id}", member.name);
    print_done(context.output, &added, &text)
}

fn itself(status: Status) -> Result<AddMember, Failed> {
    let opening = || Failed::Usage(format!("node {} is still opening its data; try again", status.name));
    let incarnation = status.incarnation.ok_or_else(opening)?;
    Ok(AddMember { name: status.name, peer_url: status.peer_url, incarnation })
}

pub(crate) async fn promote(context: &Context, args: Promote) -> Result<(), Failed> {
    context.admin().await?.promote(args.id, args.replaces).await?;
    let text = match args.replaces {
        Some(replaced) => format!("member {} is a voter in place of {}", args.id.0, replaced.0),
        None => format!("member {} is a voter", args.id.0),
    };
    print_done(context.output, &json!({"promoted": args.id, "replaced": args.replaces}), &text)
}

pub(crate) async fn remove(context: &Context, args: Remove) -> Result<(), Failed> {
    context.admin().await?.remove(args.id).await?;
    print_done(context.output, &json!({"removed": args.id}), &format!("member {} is removed", args.id.0))
}

pub(crate) async fn transfer(context: &Context, args: Transfer) -> Result<(), Failed> {
    let done = context.admin().await?.transfer(args.to).await?;
    print_done(context.output, &done, &format!("member {} leads", done.leader.0))
}

pub(crate) async fn init(context: &Context, args: Init) -> Result<(), Failed> {
    // Only the node that is named may be touched: the endpoints are not asked.
    let admin = raftkv_client::admin::Admin::new(&[&args.admin_url], context.token()?)?;
    let cluster_id = args.cluster_id.unwrap_or_else(|| Hex128(rand::random()));
    let done = admin.init(&args.admin_url, cluster_id, args.min_voters).await?;
    let (id, cluster) = (done.member_id.0, done.cluster_id);
    let text = format!("cluster {cluster} has its first voter, member {id}; grow it with `raftkvctl add`");
    print_done(context.output, &done, &text)
}

pub(crate) async fn reset(context: &Context, args: Reset) -> Result<(), Failed> {
    let url = args.admin_url;
    let admin = raftkv_client::admin::Admin::new(&[&url], context.token()?)?;
    let done = admin.reset(&url).await?;
    let text =
        format!("its data are set aside, and it starts anew; then: raftkvctl add --admin-url {}", shell_word(&url));
    print_done(context.output, &done, &text)
}

fn members_table(members: &Members) -> String {
    let columns = ["ID", "NAME", "ROLE", "LEADER", "PEER", "CLIENT", "ADMIN", "INCARNATION"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for member in &members.members {
        table.row(vec![
            member.id.0.to_string(),
            member.name.clone(),
            role(member.role).to_string(),
            if members.leader == Some(member.id) { "leader".to_string() } else { String::new() },
            member.peer_url.clone(),
            member.client_url.clone().unwrap_or_default(),
            member.admin_url.clone().unwrap_or_default(),
            member.incarnation.to_string(),
        ]);
    }
    let joint = if members.joint { ", a joint change is in flight" } else { "" };
    let removed = members.removed.len();
    let (cluster, index) = (members.cluster_id, members.conf_index);
    format!("{}cluster {cluster}, membership of index {index}{joint}, {removed} removed\n", table.render())
}

/// A role as people read it.
pub(crate) fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
        MemberRole::Outgoing => "outgoing",
    }
}

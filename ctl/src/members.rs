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
        (Some(url), ..) => {
            let node = admin.status_of(&url).await?;
            is_free(&node, &admin.leader().await?)?;
            itself(node)?
        }
        (None, Some(name), Some(peer_url), Some(incarnation)) => AddMember { name, peer_url, incarnation },
        (None, ..) => return Err(Failed::Usage("NAME, PEER_URL and INCARNATION, or --admin-url".to_string())),
    };
    let added = admin.add(&member).await?;
    // Adding is idempotent: what was a member before has kept its role.
    let members = admin.members().await.map_or_else(|_| Vec::new(), |members| members.members);
    let role = members.iter().find(|member| member.id == added.id).map(|member| member.role);
    print_done(context.output, &added, &added_as(&member.name, added.id.0, role))
}

/// What became of an added node, which has this role by now, if the members could be read.
fn added_as(name: &str, id: u64, role: Option<MemberRole>) -> String {
    match role {
        Some(MemberRole::Learner) => {
            format!("{name} is learner {id}; when it has caught up: raftkvctl promote {id}")
        }
        Some(MemberRole::Voter) => format!("{name} is member {id} already, and votes"),
        Some(MemberRole::Outgoing) => format!("{name} is member {id}, and is being removed"),
        None => format!("{name} is member {id}; its role: raftkvctl members"),
    }
}

/// A member of another cluster would never answer: it would stay a learner that nobody hears.
fn is_free(node: &Status, leader: &Status) -> Result<(), Failed> {
    let Some(theirs) = node.cluster_id else { return Ok(()) };
    if (node.cluster_id, node.genesis) == (leader.cluster_id, leader.genesis) {
        return Ok(());
    }
    let ours = leader.cluster_id.map_or_else(|| "none".to_string(), |id| id.to_string());
    let formed = if node.cluster_id == leader.cluster_id { ", formed another time" } else { "" };
    Err(Failed::Usage(format!(
        "{} is a member of cluster {theirs}{formed}, and cannot join cluster {ours} of {}: nothing was proposed",
        node.name, leader.name
    )))
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
    let done = admin.reset(&url, args.diverged, args.ask).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;
    use raftkv_client::testing::{Reply, Server, status};

    fn context(leader: &Server) -> Context {
        let cli = Cli::parse_from(["raftkvctl", "--admin-endpoints", leader.url(), "members"]);
        Context { global: cli.global, output: Output::Table, token: Some("ab".repeat(32).parse().unwrap()) }
    }

    fn add_node_at(url: &str) -> Add {
        Add { name: None, peer_url: None, incarnation: None, admin_url: Some(url.to_string()) }
    }

    #[tokio::test]
    async fn a_member_of_another_cluster_is_refused_before_anything_is_proposed() {
        let shown = || Reply::json(200, &status(1));
        let leader = Server::start([shown(), shown()]).await;
        for (cluster, genesis) in [(3, 3), (7, 3)] {
            let mut stranger = status(2);
            (stranger.cluster_id, stranger.genesis) = (Some(Hex128([cluster; 16])), Some(Hex128([genesis; 16])));
            let error = is_free(&stranger, &status(1)).unwrap_err().to_string();
            assert!(error.contains(&Hex128([cluster; 16]).to_string()), "{error}");
            assert!(error.contains(&Hex128([7; 16]).to_string()), "{error}");
        }
        let mut stranger = status(2);
        stranger.cluster_id = Some(Hex128([3; 16]));
        let stranger = Server::start([Reply::json(200, &stranger)]).await;
        let refused = add(&context(&leader), add_node_at(stranger.url())).await.unwrap_err();
        assert!(matches!(refused, Failed::Usage(_)), "{refused}");
        assert_eq!(leader.targets(), ["GET /v1/status", "GET /v1/status"]);
    }

    #[test]
    fn a_member_of_this_cluster_and_a_blank_node_may_be_added() {
        assert!(is_free(&status(2), &status(1)).is_ok());
        let mut blank = status(2);
        (blank.cluster_id, blank.genesis) = (None, None);
        assert!(is_free(&blank, &status(1)).is_ok());
    }

    #[test]
    fn what_is_said_of_an_added_node_is_what_it_is() {
        let said = |role| added_as("n2", 2, role);
        assert_eq!(said(Some(MemberRole::Learner)), "n2 is learner 2; when it has caught up: raftkvctl promote 2");
        assert_eq!(said(Some(MemberRole::Voter)), "n2 is member 2 already, and votes");
        for role in [Some(MemberRole::Voter), Some(MemberRole::Outgoing), None] {
            assert!(!said(role).contains("learner"), "{role:?}");
        }
    }
}

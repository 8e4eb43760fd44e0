//! `members` and `leader move`: the membership as a majority has it, and who leads it, in the names of pods.

use crate::kube::args;
use crate::kube::context::Kube;
use crate::kube::data::AdminWay;
use crate::kube::failed::KubeFailed;
use crate::streams::print_done;
use raftkv_api::{DecimalId, Member, MemberRole, Members};
use serde_json::json;

pub(crate) async fn members(kube: &Kube, args: args::Members) -> Result<(), KubeFailed> {
    let way = AdminWay::open(kube, args.cluster.name.as_deref(), args.format.output).await?;
    Ok(crate::members::members(&way.context).await?)
}

pub(crate) async fn move_to(kube: &Kube, args: args::Move) -> Result<(), KubeFailed> {
    let way = AdminWay::open(kube, args.cluster.name.as_deref(), args.format.output).await?;
    let admin = way.context.admin().await?;
    let members = admin.members().await?;
    let to = args.to.as_deref().map(|pod| voter(&members, pod)).transpose()?;
    let before = members.leader;
    let leader = match to {
        Some(to) if before == Some(to) => to,
        Some(_) | None => admin.transfer(to).await?.leader,
    };
    let pod = name(&members, leader);
    let json = json!({"leader": leader, "pod": pod, "moved": before != Some(leader)});
    let words = if before == Some(leader) {
        format!("{pod} leads already")
    } else {
        format!("{pod} leads (member {})", leader.0)
    };
    Ok(print_done(args.format.output, &json, &words)?)
}

/// The voter in this pod. During a replacement two members have its name, and one of them votes to the end.
fn voter(members: &Members, pod: &str) -> Result<DecimalId, KubeFailed> {
    let voters = || members.members.iter().filter(|member| member.role == MemberRole::Voter);
    let found = voters().find(|member| member.name == pod).map(|member| member.id);
    let names = || voters().map(|member: &Member| member.name.clone()).collect();
    found.ok_or_else(|| KubeFailed::NoVoter { name: pod.to_string(), voters: names() })
}

fn name(members: &Members, id: DecimalId) -> String {
    let member = members.members.iter().find(|member| member.id == id);
    member.map_or_else(|| format!("member {}", id.0), |member| member.name.clone())
}

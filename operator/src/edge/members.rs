//! The actions on nodes, one function each. Each call is addressed to exactly the node that the plan saw.

use crate::edge::operator::Pass;
use crate::edge::write::Fault;
use crate::plan::{NodeSeen, Ordinal, Seed};
use raftkv_api::{AddMember, DecimalId, Hex128, Reset};
use raftkv_client::Error;
use raftkv_client::node::{Addressee, NodeClient};
use std::sync::Arc;

/// HTTP statuses by which a node says that its state, or the membership, is not the one that the plan saw.
const MOVED: [u16; 2] = [409, 412];

pub(crate) async fn init(pass: &Pass<'_>, seed: Seed, ordinal: Ordinal, min_voters: u32) -> Result<(), Fault> {
    let (node, to) = with_disk(pass, ordinal, seed.incarnation)?;
    node.init(&to, seed.cluster_id, min_voters).await.map(|_| ()).map_err(fault)
}

pub(crate) async fn reset(pass: &Pass<'_>, ordinal: Ordinal, incarnation: Hex128) -> Result<(), Fault> {
    let (node, to) = with_disk(pass, ordinal, incarnation)?;
    node.reset(&to, &Reset::of(to.incarnation)).await.map(|_| ()).map_err(fault)
}

pub(crate) async fn add_learner(
    pass: &Pass<'_>,
    leader: Ordinal,
    ordinal: Ordinal,
    incarnation: Hex128,
    conf_index: u64,
) -> Result<(), Fault> {
    let (node, to) = addressed(pass, leader)?;
    let (name, peer_url) = (pass.desired.pod(ordinal), pass.desired.peer_url(ordinal));
    let member = AddMember { name, peer_url, incarnation };
    node.add(&to, conf_index, &member).await.map(|_| ()).map_err(fault)
}

pub(crate) async fn promote(
    pass: &Pass<'_>,
    leader: Ordinal,
    id: u64,
    replaces: Option<u64>,
    conf_index: u64,
) -> Result<(), Fault> {
    let (node, to) = addressed(pass, leader)?;
    node.promote(&to, conf_index, DecimalId(id), replaces.map(DecimalId)).await.map_err(fault)
}

pub(crate) async fn remove(pass: &Pass<'_>, leader: Ordinal, id: u64, conf_index: u64) -> Result<(), Fault> {
    let (node, to) = addressed(pass, leader)?;
    node.remove(&to, conf_index, DecimalId(id)).await.map_err(fault)
}

pub(crate) async fn transfer(pass: &Pass<'_>, leader: Ordinal, to: u64) -> Result<(), Fault> {
    let (node, addressee) = addressed(pass, leader)?;
    node.transfer(&addressee, Some(DecimalId(to))).await.map(|_| ()).map_err(fault)
}

/// The client of the node in this pod, and the identity that the plan saw there.
fn addressed(pass: &Pass<'_>, ordinal: Ordinal) -> Result<(Arc<NodeClient>, Addressee), Fault> {
    let pod = pass.desired.pod(ordinal);
    let silent = || Fault::Conflict(format!("{pod} does not answer"));
    let to = match &pass.seen.pods.get(&ordinal).ok_or_else(silent)?.node {
        NodeSeen::Answered(status) => Addressee::of(status).ok_or_else(silent)?,
        NodeSeen::Unreachable(_) => return Err(silent()),
    };
    let node = pass.nodes.known(ordinal).ok_or_else(silent)?;
    Ok((node, to))
}

/// Like [`addressed`], for a node that must have this data directory.
fn with_disk(pass: &Pass<'_>, ordinal: Ordinal, incarnation: Hex128) -> Result<(Arc<NodeClient>, Addressee), Fault> {
    let (node, to) = addressed(pass, ordinal)?;
    if to.incarnation != incarnation {
        let pod = pass.desired.pod(ordinal);
        return Err(Fault::Conflict(format!("{pod} has the data directory {}, not {incarnation}", to.incarnation)));
    }
    Ok((node, to))
}

fn fault(error: Error) -> Fault {
    match error.problem() {
        Some(problem) if MOVED.contains(&problem.status) => Fault::Conflict(error.to_string()),
        Some(_) | None => Fault::Failed(error.to_string()),
    }
}

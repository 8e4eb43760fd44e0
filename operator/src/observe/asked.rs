//! What the nodes say. Each node is asked once a pass, all at the same time; one that does not answer is a fact and not an
//! error. The one that leads is also asked for the members, which it reads linearizably.

use super::nodes::Nodes;
use super::pods::AddressedPod;
use crate::plan::{Latch, NodeSeen, Ordinal};
use futures::future::join_all;
use raftkv_api::{Code, Members, Status};
use raftkv_client::{Error, Token};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// A node gives its status without asking anybody: one that takes longer is as good as silent.
const STATUS_TIMEOUT_MS: u64 = 1_000;
/// A linearizable read takes the leader one round to a majority. One that has no majority says so after longer than this,
/// and then there is nothing to be done with the members anyway.
const MEMBERS_TIMEOUT_MS: u64 = 2_000;

/// Asks every node that can be asked. `true` when one of them did not know the token.
pub(super) async fn ask(nodes: &Nodes, token: &Token, pods: &mut BTreeMap<Ordinal, AddressedPod>) -> bool {
    let asked = pods.iter().filter_map(|(ordinal, pod)| Some((*ordinal, pod.address?)));
    let answers = join_all(asked.map(|(ordinal, at)| status(nodes, token, ordinal, at))).await;
    let mut unauthorized = false;
    for (ordinal, answer) in answers {
        let Some(pod) = pods.get_mut(&ordinal) else { continue };
        pod.seen.node = match answer {
            Ok(status) => NodeSeen::Answered(Box::new(status)),
            Err(silence) => {
                unauthorized |= silence.unauthorized;
                NodeSeen::Unreachable(silence.why)
            }
        };
    }
    unauthorized
}

struct Silence {
    why: String,
    unauthorized: bool,
}

async fn status(nodes: &Nodes, token: &Token, ordinal: Ordinal, at: IpAddr) -> (Ordinal, Result<Status, Silence>) {
    let node = nodes.client(ordinal, at, token);
    let answer = match timeout(Duration::from_millis(STATUS_TIMEOUT_MS), node.status()).await {
        Ok(answer) => answer.map_err(|error| silence(&error)),
        Err(_elapsed) => Err(Silence { why: format!("no answer within {STATUS_TIMEOUT_MS} ms"), unauthorized: false }),
    };
    (ordinal, answer)
}

/// Without the address, which is another one in the next pod.
fn silence(error: &Error) -> Silence {
    Silence { why: error.cause.to_string(), unauthorized: error.code() == Some(Code::Unauthorized) }
}

/// The members, from the node that leads; `None` when nobody does, or it cannot read.
pub(super) async fn members(nodes: &Nodes, latch: &Latch, pods: &BTreeMap<Ordinal, AddressedPod>) -> Option<Members> {
    let (ordinal, status) = leader(latch, pods)?;
    let node = nodes.known(ordinal)?;
    let answer = timeout(Duration::from_millis(MEMBERS_TIMEOUT_MS), node.members()).await.ok()?;
    match answer {
        Ok(members) => Some(members).filter(|members| Some(members.cluster_id) == status.cluster_id),
        Err(error) => {
            tracing::debug!(%error, "the members could not be read");
            None
        }
    }
}

/// Of the nodes that say they lead, the one with the highest term: a deposed leader may not know it yet. A node of another
/// cluster leads nothing here.
fn leader<'a>(latch: &Latch, pods: &'a BTreeMap<Ordinal, AddressedPod>) -> Option<(Ordinal, &'a Status)> {
    let answers = pods.iter().filter_map(|(ordinal, pod)| match &pod.seen.node {
        NodeSeen::Answered(status) => Some((*ordinal, &**status)),
        NodeSeen::Unreachable(_) => None,
    });
    let leads = |status: &Status| status.leader_id.is_some() && status.leader_id == status.member_id;
    let ours = |status: &Status| latch.cluster_id.is_none_or(|id| status.cluster_id == Some(id));
    answers.filter(|(_, status)| leads(status) && ours(status)).max_by_key(|(_, status)| status.term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::{pod_of, status};
    use raftkv_api::Hex128;
    use serde_json::{Value, json};

    fn led_by(nodes: &[(Ordinal, Value)], latch: &Latch) -> Option<Ordinal> {
        let pods = nodes.iter().map(|(ordinal, status)| (*ordinal, pod_of(status.clone()))).collect();
        leader(latch, &pods).map(|(ordinal, _)| ordinal)
    }

    fn node(ordinal: u8, term: u64, leader: u8) -> (Ordinal, Value) {
        let mut status = status(ordinal);
        (status["term"], status["leader_id"]) = (json!(term), json!((leader + 1).to_string()));
        (u32::from(ordinal), status)
    }

    #[test]
    fn a_deposed_leader_is_not_asked_for_the_members() {
        let any = Latch::default();
        assert_eq!(led_by(&[node(0, 4, 0), node(1, 5, 1), node(2, 5, 1)], &any), Some(1));
        assert_eq!(led_by(&[node(0, 4, 1), node(2, 4, 1)], &any), None);
    }

    #[test]
    fn a_node_of_another_cluster_leads_nothing_here() {
        let latched = |id: u8| Latch { cluster_id: Some(Hex128([id; 16])), ..Latch::default() };
        assert_eq!(led_by(&[node(0, 4, 0)], &latched(7)), Some(0));
        assert_eq!(led_by(&[node(0, 4, 0)], &latched(9)), None);
    }
}

//! What the nodes answer. Each node is asked once in a pass, all at the same time; one that refuses the token is asked with
//! the others. A node that does not answer is a
//! fact, not an error. The leader is also asked for the members, which it reads linearizably.

use super::nodes::Nodes;
use super::pods::AddressedPod;
use crate::plan::{Latch, NodeSeen, Ordinal};
use futures::future::join_all;
use raftkv_api::{Code, Members, Status};
use raftkv_client::{Error, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// A node gives its status without asking others, so one that takes longer is as good as silent.
const STATUS_TIMEOUT_MS: u64 = 1_000;
/// A linearizable read takes the leader one round trip to a majority. A leader without a majority would say so later
/// than this, and then nothing can be done with the members anyway.
const MEMBERS_TIMEOUT_MS: u64 = 2_000;

/// Asks the nodes of these pods that can be asked. Returns those that refused every token.
pub(super) async fn ask(
    nodes: &Nodes,
    tokens: &[Token],
    pods: &mut BTreeMap<Ordinal, AddressedPod>,
    which: impl Fn(Ordinal) -> bool,
) -> BTreeSet<Ordinal> {
    let asked = pods.iter().filter_map(|(ordinal, pod)| Some((*ordinal, pod.address.filter(|_| which(*ordinal))?)));
    let answers = join_all(asked.map(|(ordinal, at)| status(nodes, tokens, ordinal, at))).await;
    let mut refused = BTreeSet::new();
    for (ordinal, answer) in answers {
        let Some(pod) = pods.get_mut(&ordinal) else { continue };
        pod.seen.node = match answer {
            Ok(status) => NodeSeen::Answered(Box::new(status)),
            Err(silence) => {
                refused.extend(silence.unauthorized.then_some(ordinal));
                NodeSeen::Unreachable(silence.why)
            }
        };
    }
    refused
}

struct Silence {
    why: String,
    unauthorized: bool,
}

/// Asks one node, with one token after the other until it takes one.
async fn status(nodes: &Nodes, secret: &[Token], ordinal: Ordinal, at: IpAddr) -> (Ordinal, Result<Status, Silence>) {
    let mut answer = Err(Silence { why: "there is no token to ask it with".to_string(), unauthorized: false });
    for token in nodes.tokens(ordinal, secret) {
        answer = status_with(nodes, &token, ordinal, at).await;
        match &answer {
            Err(silence) if silence.unauthorized => {}
            Ok(_) => {
                nodes.took(ordinal, &token);
                break;
            }
            Err(_) => break,
        }
    }
    (ordinal, answer)
}

async fn status_with(nodes: &Nodes, token: &Token, ordinal: Ordinal, at: IpAddr) -> Result<Status, Silence> {
    let node = nodes.client(ordinal, at, token);
    match timeout(Duration::from_millis(STATUS_TIMEOUT_MS), node.status()).await {
        Ok(answer) => answer.map_err(|error| silence(&error)),
        Err(_elapsed) => Err(Silence { why: format!("no answer within {STATUS_TIMEOUT_MS} ms"), unauthorized: false }),
    }
}

/// The error without the address, since the next pod has another address.
fn silence(error: &Error) -> Silence {
    Silence { why: error.cause.to_string(), unauthorized: error.code() == Some(Code::Unauthorized) }
}

/// The members, from the leader; `None` when there is no leader, or it cannot read.
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

/// Of the nodes that say that they lead, the one with the highest term: a deposed leader may not know yet that it is
/// deposed. A node of another cluster leads nothing here.
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

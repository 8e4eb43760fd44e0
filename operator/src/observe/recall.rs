//! What earlier passes left in the status, and what one pass leaves to the next. PURE.

use super::ObserveError;
use crate::plan::{Latch, Memory, NodeSeen, Observed, Seed};
use crate::resources::name;
use raftkv_api::{Hex128, NodeState};
use raftkv_crds::{RaftKvCluster, child};

/// What is never taken back. A value that somebody broke is not taken for one that was never written (rule O1).
pub(super) fn latch(cluster: &RaftKvCluster) -> Result<Latch, ObserveError> {
    let Some(status) = &cluster.status else { return Ok(Latch::default()) };
    let bootstrap = status.bootstrap.as_ref().map(|bootstrap| {
        Ok(Seed {
            cluster_id: hex("status.bootstrap.clusterID", &bootstrap.cluster_id)?,
            incarnation: hex("status.bootstrap.incarnation", &bootstrap.incarnation)?,
        })
    });
    Ok(Latch {
        cluster_id: status.cluster_id.as_ref().map(|id| hex("status.clusterID", id)).transpose()?,
        bootstrap: bootstrap.transpose()?,
        bootstrapped: status.bootstrapped,
    })
}

/// 32 hex digits of a field.
pub(super) fn hex(field: &'static str, value: &str) -> Result<Hex128, ObserveError> {
    value.parse().map_err(|_| ObserveError::Malformed { field, value: value.to_string() })
}

/// Of `memory` what passes hand on; the rest from the status.
pub(super) fn memory(cluster: &RaftKvCluster, memory: Memory) -> Memory {
    let Some(status) = &cluster.status else {
        return Memory { operation: None, conditions: vec![], members: Default::default(), ..memory };
    };
    let members = status.members.iter().filter_map(|member| {
        // Members of other names were added by somebody else and have no place here.
        Some((member.id.parse().ok()?, child::ordinal(&member.name, name(cluster))?))
    });
    Memory {
        operation: status.operation.clone(),
        conditions: status.conditions.clone(),
        members: members.collect(),
        ..memory
    }
}

/// What the next pass is handed after this one, which saw this.
pub fn remember(seen: &Observed, refused: Option<String>) -> Memory {
    let blank = seen.pods.iter().filter_map(|(ordinal, pod)| match &pod.node {
        NodeSeen::Answered(status) if status.state == NodeState::Blank => Some((*ordinal, status.incarnation?)),
        NodeSeen::Answered(_) | NodeSeen::Unreachable(_) => None,
    });
    let silent = seen.pods.iter().filter_map(|(ordinal, pod)| match &pod.node {
        NodeSeen::Answered(_) => None,
        NodeSeen::Unreachable(_) => Some((*ordinal, seen.memory.silent.get(ordinal).copied().unwrap_or(seen.now))),
    });
    Memory { blank: blank.collect(), silent: silent.collect(), refused, ..Memory::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::cluster;
    use serde_json::{Value, json};

    fn with_status(status: Value) -> RaftKvCluster {
        let mut cluster = cluster(json!({}));
        cluster.status = serde_json::from_value(status).unwrap();
        cluster
    }

    #[test]
    fn rule_o1_a_broken_latch_is_an_error_and_never_no_latch() {
        let (id, incarnation) = (Hex128([7; 16]), Hex128([1; 16]));
        let good =
            json!({"clusterID": id, "bootstrapped": true, "bootstrap": {"clusterID": id, "incarnation": incarnation}});
        let read = latch(&with_status(good.clone())).unwrap();
        let expected =
            Latch { cluster_id: Some(id), bootstrap: Some(Seed { cluster_id: id, incarnation }), bootstrapped: true };
        assert_eq!(read, expected);
        for field in ["/clusterID", "/bootstrap/clusterID", "/bootstrap/incarnation"] {
            let mut broken = good.clone();
            *broken.pointer_mut(field).unwrap() = json!("");
            let error = latch(&with_status(broken)).unwrap_err().to_string();
            assert!(error.contains(&field.replace('/', ".")), "{error}");
        }
        assert_eq!(latch(&cluster(json!({}))).unwrap(), Latch::default());
    }

    #[test]
    fn members_are_remembered_by_id() {
        let member = |id: &str, name: &str| json!({"id": id, "name": name, "incarnation": "", "role": "Voter", "state": "Voter", "ready": true, "caughtUp": true});
        let members = [
            member("1", "demo-0"),
            member("4", "demo-2"),
            member("5", "demo-2"),
            member("x", "demo-1"),
            member("6", "other"),
        ];
        let handed = Memory { refused: Some("no".to_string()), ..Memory::default() };
        let memory = memory(&with_status(json!({"members": members})), handed);
        assert_eq!(memory.members, [(1, 0), (4, 2), (5, 2)].into());
        assert_eq!(memory.refused.as_deref(), Some("no"));
    }
}

//! What earlier passes left in the status. PURE.

use super::error::ObserveError;
use crate::plan::{Latch, Memory, Seed};
use crate::resources::name;
use raftkv_api::Hex128;
use raftkv_crds::{RaftKvCluster, child};

/// What is never changed. A value that somebody broke is not taken for a value that was never written (rule O1).
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

/// The 32 hex digits of a field.
pub(super) fn hex(field: &'static str, value: &str) -> Result<Hex128, ObserveError> {
    value.parse().map_err(|_| ObserveError::Malformed { field, value: value.to_string() })
}

/// The status outlives the operator. What only one pass hands to the next is taken from `memory`, and so are the
/// members if somebody wiped the status.
pub(super) fn memory(cluster: &RaftKvCluster, memory: Memory) -> Memory {
    let status = cluster.status.clone().unwrap_or_default();
    let members = status.members.iter().filter_map(|member| {
        // Members with other names were added by somebody else, and have no ordinal.
        Some((member.id.parse().ok()?, child::ordinal(&member.name, name(cluster))?))
    });
    Memory {
        members: if status.members.is_empty() { memory.members } else { members.collect() },
        operation: status.operation,
        waits: status.waits,
        conditions: status.conditions,
        blank: memory.blank,
        silent: memory.silent,
        mute: memory.mute,
        rows: memory.rows,
        refused: memory.refused,
        failed: memory.failed,
    }
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
        let handed = Memory { refused: Some("no".to_string()), members: [(9, 9)].into(), ..Memory::default() };
        assert_eq!(memory(&with_status(json!({})), handed.clone()).members, handed.members);
        let memory = memory(&with_status(json!({"members": members})), handed);
        assert_eq!(memory.members, [(1, 0), (4, 2), (5, 2)].into());
        assert_eq!(memory.refused.as_deref(), Some("no"));
    }
}

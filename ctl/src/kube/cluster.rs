//! A `RaftKvCluster` as kubectl prints it, read into the types of `raftkv-crds`. PURE.
//!
//! A plugin on a laptop is of another version than the operator, now older, now newer. So everything may be missing and
//! what is not known is skipped: nothing here refuses a cluster. Those types alone would: they have closed lists of
//! words (an image's pull policy, the kind of an operation), and a condition of Kubernetes must be complete. Hence this
//! reader takes each field of the spec and of the status by itself and leaves out those that it cannot read, completes
//! the conditions, and reads the operation a second time, with whatever kind a newer operator gives it.

use crate::kube::objects::Meta;
use jiff::Timestamp;
use raftkv_crds::{Condition, RaftKvClusterSpec, RaftKvClusterStatus};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A `RaftKvCluster`, as far as it is understood.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Printed")]
pub(crate) struct Cluster {
    pub metadata: Meta,
    pub spec: RaftKvClusterSpec,
    pub status: RaftKvClusterStatus,
    /// That of the status, of any kind.
    pub operation: Option<Operation>,
}

/// The change that is under way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Operation {
    pub kind: String,
    pub step: String,
    pub member: Option<String>,
    /// RFC 3339, as the operator writes it; the API server does not check it.
    pub since: String,
}

/// What kubectl prints.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Printed {
    metadata: Meta,
    spec: Map<String, Value>,
    status: Map<String, Value>,
}

impl From<Printed> for Cluster {
    fn from(printed: Printed) -> Self {
        let mut status = printed.status;
        if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
            conditions.iter_mut().filter_map(Value::as_object_mut).for_each(complete);
        }
        let operation = status.get("operation").and_then(|value| Operation::deserialize(value).ok());
        Cluster { metadata: printed.metadata, spec: understood(printed.spec), status: understood(status), operation }
    }
}

/// Gives a condition the fields that it must have; the time is the beginning of time when nobody says it.
fn complete(condition: &mut Map<String, Value>) {
    let never = Timestamp::UNIX_EPOCH.to_string();
    for (field, default) in
        [("type", ""), ("status", ""), ("reason", ""), ("message", ""), ("lastTransitionTime", never.as_str())]
    {
        let value = condition.entry(field).or_insert(Value::Null);
        if value.is_null() {
            *value = default.into();
        }
    }
}

/// The fields that can be read. The others are as if they were not there.
fn understood<T: DeserializeOwned>(fields: Map<String, Value>) -> T {
    let is_read = |name: &String, value: &Value| serde_json::from_value::<T>(json!({name: value})).is_ok();
    let read = fields.into_iter().filter(|(name, value)| is_read(name, value)).collect();
    serde_json::from_value(Value::Object(read)).expect("every field has a default, and was read alone")
}

/// Since when the condition is as it is, if somebody says it.
pub(crate) fn since(condition: &Condition) -> Option<Timestamp> {
    Some(condition.last_transition_time.0).filter(|at| *at != Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Value) -> Cluster {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_object_of_another_version_is_read_as_far_as_it_is_known() {
        let cluster = read(json!({
            "spec": {"replicas": 5, "colour": "green", "imagePullPolicy": "Sometimes", "storage": 7, "suspend": true},
            "status": {
                "voters": "three",
                "members": [{"id": "1", "mood": 7}],
                "leader": {"name": "demo-1"},
                "operation": {"kind": "Dance"},
                "conditions": [{"type": "New"}, {"type": "Old", "lastTransitionTime": null}],
            },
        }));
        assert_eq!((cluster.spec.replicas, cluster.spec.suspend), (5, true));
        assert_eq!(cluster.spec.image_pull_policy.as_str(), "IfNotPresent");
        let status = &cluster.status;
        assert_eq!((status.members[0].id.as_str(), status.voters), ("1", 0));
        assert_eq!(status.leader.as_ref().map(|leader| leader.name.as_str()), Some("demo-1"));
        assert_eq!(cluster.operation.as_ref().map(|operation| operation.kind.as_str()), Some("Dance"));
        let conditions: Vec<_> = status.conditions.iter().map(|found| (found.type_.as_str(), since(found))).collect();
        assert_eq!(conditions, [("New", None), ("Old", None)]);
    }

    #[test]
    fn everything_may_be_missing() {
        let cluster = read(json!({}));
        assert!(cluster.status.conditions.is_empty());
        assert!(cluster.operation.is_none());
        assert!(!cluster.spec.suspend);
    }

    #[test]
    fn what_the_operator_writes_is_read_whole() {
        let status = json!({
            "observedGeneration": 2, "bootstrapped": true, "voters": 3, "quorum": 2,
            "leader": {"name": "demo-0", "memberID": "1"},
            "operation": {"kind": "Roll", "step": "RestartPod", "member": "demo-2", "since": "2026-01-01T00:00:00Z"},
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "RollingUpdate", "message": "demo-2",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 2,
            }],
        });
        let read = read(json!({"status": status}));
        assert_eq!(read.status, serde_json::from_value(status).unwrap());
        assert!(read.operation.is_some_and(|operation| operation.member.as_deref() == Some("demo-2")));
        assert_eq!(since(&read.status.conditions[0]).map(|at| at.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"));
    }
}

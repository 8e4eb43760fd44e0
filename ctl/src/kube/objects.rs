//! The objects of Kubernetes itself, as far as they are read here. The `RaftKvCluster` is in `cluster`.
//!
//! A plugin on a laptop is of another version than the operator, now older, now newer. So everything may be missing and
//! what is not known is skipped: nothing here refuses an object.

use jiff::Timestamp;
use raftkv_crds::{child, label};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Annotation of Kubernetes: on a volume claim, the machine that its volume was made for.
pub(crate) const ANNOTATION_MACHINE: &str = "volume.kubernetes.io/selected-node";
/// Labels of the operator's Deployment and pods.
pub(crate) const OPERATOR_SELECTOR: &str = "app.kubernetes.io/part-of=raftkv,app.kubernetes.io/component=operator";
/// The operator's variable with the namespaces that it watches.
const WATCH_VARIABLE: &str = "RAFTKV_WATCH_NAMESPACE";

/// What selects all children of a cluster.
pub(crate) fn selector_of(cluster: &str) -> String {
    format!("{}={cluster}", label::CLUSTER)
}

/// The volume claim of a pod.
pub(crate) fn claim_of(pod: &str) -> String {
    format!("{}-{pod}", child::CLAIM_TEMPLATE)
}

/// The pod of a volume claim.
pub(crate) fn pod_of_claim(claim: &str) -> Option<&str> {
    claim.strip_prefix(child::CLAIM_TEMPLATE)?.strip_prefix('-')
}

/// Whether a StatefulSet of this name makes pods of that name.
pub(crate) fn is_pod_of(pod: &str, set: &str) -> bool {
    child::ordinal(pod, set).is_some_and(|ordinal| pod == child::pod(set, ordinal))
}

/// Whether a volume claim of this name is one of that cluster's.
pub(crate) fn is_claim_of(claim: &str, cluster: &str) -> bool {
    pod_of_claim(claim).is_some_and(|pod| is_pod_of(pod, cluster))
}

/// What `kubectl get` prints without a name.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct List<T> {
    #[serde(default = "Vec::new")]
    pub items: Vec<T>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub generation: Option<i64>,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub metadata: Meta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub phase: String,
    pub reason: Option<String>,
    pub conditions: Vec<PodCondition>,
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub restart_count: u32,
    pub state: ContainerState,
}

/// Of `running`, `waiting` and `terminated` one is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub waiting: Option<ContainerReason>,
    pub terminated: Option<ContainerReason>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerReason {
    pub reason: String,
}

impl Pod {
    /// The kubelet calls it ready, and nobody is deleting it.
    pub(crate) fn is_ready(&self) -> bool {
        let ready = |condition: &PodCondition| condition.kind == "Ready" && condition.status == "True";
        self.metadata.deletion_timestamp.is_none() && self.status.conditions.iter().any(ready)
    }

    /// A port of it can be forwarded.
    pub(crate) fn is_running(&self) -> bool {
        self.status.phase == "Running"
    }

    /// What stands in the way of its node, in a word; `None` when its container runs.
    pub(crate) fn trouble(&self) -> Option<String> {
        let status = &self.status;
        let unscheduled = |c: &PodCondition| c.kind == "PodScheduled" && c.status == "False";
        let state = status.container_statuses.first().map(|container| &container.state);
        let reason = state.and_then(|state| state.waiting.as_ref().or(state.terminated.as_ref()));
        match reason.map(|found| found.reason.as_str()).filter(|reason| !reason.is_empty()) {
            _ if self.metadata.deletion_timestamp.is_some() => Some("Terminating".to_string()),
            Some(reason) => Some(reason.to_string()),
            None if status.conditions.iter().any(unscheduled) => Some("Unschedulable".to_string()),
            None if !self.is_running() => Some(status.reason.clone().unwrap_or_else(|| status.phase.clone())),
            None => None,
        }
    }
}

/// A volume claim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claim {
    pub metadata: Meta,
    pub spec: ClaimSpec,
    pub status: ClaimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimSpec {
    pub storage_class_name: Option<String>,
    pub resources: ClaimResources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimResources {
    pub requests: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimStatus {
    pub phase: String,
    pub capacity: BTreeMap<String, String>,
}

impl Claim {
    /// What it has, else what it asks for.
    pub(crate) fn size(&self) -> Option<&String> {
        self.status.capacity.get("storage").or_else(|| self.spec.resources.requests.get("storage"))
    }
}

/// An event, in the older of its two shapes: the API server gives each event in both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Event {
    pub metadata: Meta,
    pub involved_object: Involved,
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    pub message: String,
    pub last_timestamp: Option<Timestamp>,
    pub event_time: Option<Timestamp>,
    pub series: Option<Series>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Involved {
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Series {
    pub last_observed_time: Option<Timestamp>,
}

impl Event {
    /// When it happened, the last time if it did so more than once.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        let series = self.series.as_ref().and_then(|series| series.last_observed_time);
        series.or(self.last_timestamp).or(self.event_time).or(self.metadata.creation_timestamp)
    }
}

/// The operator.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub metadata: Meta,
    pub spec: DeploymentSpec,
    pub status: DeploymentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeploymentSpec {
    pub replicas: u32,
    pub template: Template,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    pub spec: TemplateSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateSpec {
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    pub env: Vec<Variable>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Variable {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentStatus {
    pub available_replicas: u32,
}

impl Deployment {
    /// Whether this operator looks after clusters in that namespace.
    pub(crate) fn watches(&self, namespace: &str) -> bool {
        let variables = self.spec.template.spec.containers.iter().flat_map(|container| &container.env);
        let list =
            variables.filter(|variable| variable.name == WATCH_VARIABLE).find_map(|found| found.value.as_deref());
        let mut names = list.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty()).peekable();
        names.peek().is_none() || names.any(|name| name == namespace)
    }
}

/// The Secret with the token.
#[derive(Deserialize)]
pub(crate) struct Secret {
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read<T: for<'de> Deserialize<'de>>(json: Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_pod_and_its_claim_are_known_by_their_names() {
        for ordinal in [0, 7, 10] {
            let (pod, claim) = (child::pod("demo", ordinal), child::claim("demo", ordinal));
            assert_eq!(claim_of(&pod), claim);
            assert!(is_pod_of(&pod, "demo") && is_claim_of(&claim, "demo"));
        }
        for stranger in ["demo-peers", "demo-01", "demo-+1", "demo", "other-1", "demo-x-1"] {
            assert!(!is_pod_of(stranger, "demo") && !is_claim_of(&claim_of(stranger), "demo"), "{stranger}");
        }
    }

    #[test]
    fn a_pods_trouble_is_one_word() {
        let pod = |status: Value| read::<Pod>(json!({"status": status})).trouble();
        let waiting =
            json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        assert_eq!(pod(waiting).as_deref(), Some("ImagePullBackOff"));
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]});
        assert_eq!(pod(unscheduled).as_deref(), Some("Unschedulable"));
        assert_eq!(pod(json!({"phase": "Failed", "reason": "Evicted"})).as_deref(), Some("Evicted"));
        assert_eq!(pod(json!({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]})), None);
    }

    #[test]
    fn an_operator_watches_all_namespaces_or_those_of_its_list() {
        let operator = |list: &str| {
            let container = json!({"env": [{"name": "POD_NAME"}, {"name": WATCH_VARIABLE, "value": list}]});
            read::<Deployment>(json!({"spec": {"template": {"spec": {"containers": [container]}}}}))
        };
        assert!(operator("").watches("prod") && Deployment::default().watches("prod"));
        assert!(operator("dev, prod").watches("prod") && !operator("dev").watches("prod"));
    }

    #[test]
    fn an_event_happened_when_it_was_seen_last() {
        let times = |event: Value| read::<Event>(event).at().map(|at| at.to_string());
        let first = json!({"eventTime": "2026-01-01T00:00:01.5Z", "lastTimestamp": null});
        assert_eq!(times(first).as_deref(), Some("2026-01-01T00:00:01.5Z"));
        let series =
            json!({"eventTime": "2026-01-01T00:00:01Z", "series": {"lastObservedTime": "2026-01-01T00:01:00Z"}});
        assert_eq!(times(series).as_deref(), Some("2026-01-01T00:01:00Z"));
    }
}

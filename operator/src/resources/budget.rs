//! The PodDisruptionBudget (rule O12). The plan decides how many pods must stay available. PURE.
//!
//! It is compared and mended as a whole: what somebody added to its spec weakens it as much as what somebody changed.

use super::patch::patch;
use super::shared::{metadata, name, selector};
use super::wanted::{Wanted, hash, mark};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use raftkv_crds::RaftKvCluster;
use serde_json::Value;

/// The default of Kubernetes, set so that a change of it is noticed. The other one, `AlwaysAllow`, would let a drain take
/// every voter in a moment without a leader, when none of them is ready.
const EVICTION_OF_UNHEALTHY: &str = "IfHealthyBudget";

/// All pods of the cluster count. A pod that is not a voter is not ready, so that evicting it costs nothing.
pub fn disruption_budget(cluster: &RaftKvCluster, min_available: u32) -> PodDisruptionBudget {
    let min_available = i32::try_from(min_available).unwrap_or(i32::MAX);
    let mut budget = PodDisruptionBudget {
        metadata: metadata(cluster, name(cluster)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(min_available)),
            selector: Some(selector(cluster)),
            unhealthy_pod_eviction_policy: Some(EVICTION_OF_UNHEALTHY.to_string()),
            max_unavailable: None,
        }),
        status: None,
    };
    let hash = hash(&budget);
    mark(&mut budget.metadata, hash);
    budget
}

/// All of it, and not the other number.
pub fn budget_wanted(budget: &PodDisruptionBudget) -> Wanted {
    Wanted::of(budget).but(&["spec", "maxUnavailable"])
}

/// The merge patch that brings the live budget to what is wanted. The API server takes one of the two numbers.
pub fn budget_patch(wanted: &PodDisruptionBudget, live: &PodDisruptionBudget) -> Value {
    let mut patch = patch(wanted, live);
    patch["spec"]["maxUnavailable"] = Value::Null;
    patch
}

#[cfg(test)]
mod tests {
    use super::super::testing::cluster;
    use super::*;
    use serde_json::json;

    #[test]
    fn rule_o12_the_budget_counts_all_pods_of_the_cluster() {
        let budget = serde_json::to_value(disruption_budget(&cluster(json!({})), 2)).unwrap();
        assert_eq!(
            budget["spec"],
            json!({
                "minAvailable": 2, "selector": {"matchLabels": {"raftkv.dev/cluster": "demo"}},
                "unhealthyPodEvictionPolicy": "IfHealthyBudget",
            })
        );
        assert_eq!(budget["metadata"]["name"], "demo");
    }

    #[test]
    fn rule_o12_whatever_is_changed_in_a_budget_is_put_right() {
        let wanted = disruption_budget(&cluster(json!({})), 2);
        assert!(budget_wanted(&wanted).is_met(&wanted));
        for change in [
            json!({"minAvailable": 1}),
            json!({"minAvailable": "50%"}),
            json!({"minAvailable": null, "maxUnavailable": 3}),
            json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}),
            json!({"unhealthyPodEvictionPolicy": null}),
            json!({"selector": {"matchLabels": {"raftkv.dev/cluster": "demo", "a": "b"}}}),
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}),
        ] {
            let mut changed = json!(wanted);
            for (field, value) in change.as_object().unwrap() {
                changed["spec"][field] = value.clone();
            }
            let live: PodDisruptionBudget = serde_json::from_value(changed.clone()).unwrap();
            assert!(!budget_wanted(&wanted).is_met(&live), "{change}");
            let mut mended = changed;
            crate::resources::testing::merge(&mut mended, &budget_patch(&wanted, &live));
            assert_eq!(mended["spec"], json!(wanted)["spec"], "{change}");
        }
    }
}

//! The PodDisruptionBudget (rule O12). The plan decides how many pods must stay available. PURE.

use super::shared::{metadata, name, selector};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use raftkv_crds::RaftKvCluster;

/// All pods of the cluster count. A pod that is not a voter is not ready, so that evicting it costs nothing.
pub fn disruption_budget(cluster: &RaftKvCluster, min_available: u32) -> PodDisruptionBudget {
    let min_available = i32::try_from(min_available).unwrap_or(i32::MAX);
    PodDisruptionBudget {
        metadata: metadata(cluster, name(cluster)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(min_available)),
            selector: Some(selector(cluster)),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
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
            json!({"minAvailable": 2, "selector": {"matchLabels": {"raftkv.dev/cluster": "demo"}}})
        );
        assert_eq!(budget["metadata"]["name"], "demo");
    }
}

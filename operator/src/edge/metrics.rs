//! Metrics of the operator, in the text format of Prometheus.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Upper bounds of the durations of passes, in seconds: a poll takes milliseconds, a membership change up to 15 s.
const PASS_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassResult {
    /// It did everything that was to be done.
    Ok,
    /// The world changed meanwhile; the next pass sees the change.
    Conflict,
    /// Something failed.
    Error,
}

/// Labels of the conditions that are shown, by namespace and name of their cluster.
type Shown = BTreeMap<(String, String), Vec<[String; 5]>>;

/// All metrics.
pub struct Metrics {
    registry: Registry,
    reconcile_total: IntCounterVec,
    reconcile_seconds: Histogram,
    clusters: IntGauge,
    condition: IntGaugeVec,
    shown: Mutex<Shown>,
    membership_changes: IntCounterVec,
    leader: IntGauge,
    api_writes: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let seconds =
            HistogramOpts::new("raftkv_operator_reconcile_seconds", "Seconds that a pass over a cluster took.");
        Metrics {
            reconcile_total: counters(
                &registry,
                "raftkv_operator_reconcile_total",
                "Passes over clusters, by how they ended: ok, conflict (the world moved meanwhile), error.",
                &["result"],
            ),
            reconcile_seconds: registered(&registry, Histogram::with_opts(seconds.buckets(PASS_SECONDS.to_vec()))),
            clusters: gauge(&registry, "raftkv_operator_clusters", "Clusters that this operator runs."),
            condition: registered(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "raftkv_operator_cluster_condition",
                        "1 for the status and the reason that a condition of a cluster has.",
                    ),
                    &["namespace", "name", "type", "status", "reason"],
                ),
            ),
            shown: Mutex::default(),
            membership_changes: counters(
                &registry,
                "raftkv_operator_membership_changes_total",
                "Calls that change a membership, by kind and by how they ended: ok, conflict, error.",
                &["kind", "result"],
            ),
            leader: gauge(&registry, "raftkv_operator_leader", "Whether this operator has the Lease."),
            api_writes: counters(
                &registry,
                "raftkv_operator_api_writes_total",
                "Writes to the Kubernetes API that succeeded, the Lease's not counted.",
                &["verb", "kind"],
            ),
            registry,
        }
    }

    /// Counts a pass that ended.
    pub fn passed(&self, result: PassResult, took: Duration) {
        self.reconcile_total.with_label_values(&[word(result)]).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Sets how many clusters are run.
    pub fn clusters(&self, count: usize) {
        self.clusters.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Shows the conditions of a cluster.
    pub fn conditions(&self, namespace: &str, name: &str, conditions: &[Condition]) {
        let labels = |condition: &Condition| {
            [namespace, name, &condition.type_, &condition.status, &condition.reason].map(String::from)
        };
        let now: Vec<_> = conditions.iter().map(labels).collect();
        let mut shown = self.shown();
        let before = shown.insert((namespace.to_string(), name.to_string()), now.clone()).unwrap_or_default();
        if before != now {
            before.iter().for_each(|labels| self.hide(labels));
            now.iter().for_each(|labels| self.condition.with_label_values(labels).set(1));
        }
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let before = self.shown().remove(&(namespace.to_string(), name.to_string())).unwrap_or_default();
        before.iter().for_each(|labels| self.hide(labels));
    }

    /// Counts a call that changes a membership.
    pub fn membership_change(&self, kind: &str, result: PassResult) {
        self.membership_changes.with_label_values(&[kind, word(result)]).inc();
    }

    /// Sets whether this operator holds the Lease.
    pub fn leading(&self, leading: bool) {
        self.leader.set(i64::from(leading));
    }

    /// Counts a write to the API server that succeeded.
    pub fn wrote(&self, verb: &str, kind: &str) {
        self.api_writes.with_label_values(&[verb, kind]).inc();
    }

    /// What `/metrics` answers.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.expect("a buffer takes all that is written to it");
        text
    }

    fn hide(&self, labels: &[String; 5]) {
        // An error means that the series does not exist, which is what is wanted.
        let _ = self.condition.remove_label_values(labels);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().expect("no code panics while it holds this lock")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

fn word(result: PassResult) -> &'static str {
    match result {
        PassResult::Ok => "ok",
        PassResult::Conflict => "conflict",
        PassResult::Error => "error",
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("names and labels are constants that Prometheus takes");
    registry.register(Box::new(metric.clone())).expect("each metric has a name of its own");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn available(status: &str, reason: &str) -> Condition {
        Condition {
            type_: "Available".to_string(),
            status: status.to_string(),
            reason: reason.to_string(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        }
    }

    fn lines(metrics: &Metrics, of: &str) -> Vec<String> {
        let text = String::from_utf8(metrics.text()).unwrap();
        text.lines().filter(|line| line.starts_with(of)).map(String::from).collect()
    }

    #[test]
    fn a_condition_is_shown_as_it_is_and_not_as_it_was() {
        let metrics = Metrics::new();
        metrics.conditions("team", "demo", &[available("False", "QuorumLost")]);
        metrics.conditions("team", "demo", &[available("True", "QuorumHealthy")]);
        let line = r#"raftkv_operator_cluster_condition{name="demo",namespace="team",reason="QuorumHealthy",status="True",type="Available"} 1"#;
        assert_eq!(lines(&metrics, "raftkv_operator_cluster_condition"), [line]);
        metrics.forget("team", "demo");
        assert!(lines(&metrics, "raftkv_operator_cluster_condition").is_empty());
    }

    #[test]
    fn names_and_labels_are_those_of_the_alerts() {
        let metrics = Metrics::new();
        metrics.passed(PassResult::Error, Duration::from_millis(30));
        metrics.membership_change("Promote", PassResult::Ok);
        metrics.wrote("patch", "StatefulSet");
        metrics.leading(true);
        metrics.clusters(2);
        for line in [
            r#"raftkv_operator_reconcile_total{result="error"} 1"#,
            r#"raftkv_operator_reconcile_seconds_bucket{le="0.05"} 1"#,
            r#"raftkv_operator_membership_changes_total{kind="Promote",result="ok"} 1"#,
            r#"raftkv_operator_api_writes_total{kind="StatefulSet",verb="patch"} 1"#,
            "raftkv_operator_leader 1",
            "raftkv_operator_clusters 2",
        ] {
            assert_eq!(lines(&metrics, line), [line]);
        }
    }
}

//! A node's metrics, in a registry of its own; a metric that etcd has too means the same as there.
//!
//! Any thread may update them: each is an atomic or a few of them. Label values are bounded: members of the cluster,
//! routes of the table, known methods; never keys, URLs as sent, or tokens.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector, exponential_buckets,
};
use raftkv_api::NodeState;
use raftkv_core::types::MemberId;

/// The table: field, which is the exposed name after `raftkv_`, type, constructor, help text, labels.
macro_rules! metrics {
    ($($name:ident: $type:ident = $make:ident, $help:literal $(by $labels:expr)?;)*) => {
        /// Every metric of one node. Names in the exposition are `raftkv_` and the field name.
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $name: $type,)*
        }

        impl Metrics {
            /// All metrics at zero.
            pub fn new() -> Self {
                let registry = Registry::new_custom(Some("raftkv".to_string()), None).expect("the prefix is not empty");
                $(let $name = $make(&registry, stringify!($name), $help $(, $labels)?);)*
                Metrics { registry, $($name,)* }
            }
        }
    };
}

metrics! {
    has_leader: IntGauge = gauge, "Whether a leader is known: 1 is yes, 0 is no.";
    is_leader: IntGauge = gauge, "Whether this node is the leader: 1 is yes, 0 is no.";
    can_write: IntGauge = gauge, "Whether this node, as the leader, would take a put: 1 is yes; 0 is no, also where it does not lead.";
    can_read: IntGauge = gauge, "Whether this node can read linearizably, as far as it knows: 1 is yes, 0 is no.";
    leader_changes_seen_total: IntCounter = counter, "Changes of leader seen.";
    proposals_committed_total: IntGauge = gauge, "Index of the last committed entry.";
    proposals_applied_total: IntGauge = gauge, "Index of the last applied entry.";
    proposals_pending: IntGauge = gauge, "Writes taken from clients that wait for their outcome.";
    proposals_failed_total: IntCounter = counter, "Writes taken from clients that were dropped, timed out or ended with an unknown outcome.";
    wal_fsync_duration_seconds: Histogram = seconds, "Duration of the fdatasync that makes a log batch durable.";
    wal_batch_bytes: Histogram = bytes, "Bytes written to the log under one fdatasync.";
    apply_duration_seconds: Histogram = seconds, "Duration of applying one batch of committed entries.";
    peer_round_trip_time_seconds: HistogramVec = seconds_by, "Round trip time of the stream to a peer." by &["to"];
    peer_sent_frames_total: IntCounterVec = counters, "Frames written to the stream to a peer." by &["to"];
    peer_received_frames_total: IntCounterVec = counters, "Frames read from the stream of a peer." by &["from"];
    peer_unknown_frames_total: IntCounterVec = counters, "Frames of a peer that were skipped: a newer version sent them, and this one does not know their kind." by &["from"];
    peer_dropped_frames_total: IntCounterVec = counters, "Frames for a peer that were dropped: its queue was full, or no stream to it was up (down)." by &["to", "why"];
    log_sync_running_milliseconds: IntGauge = gauge, "For how long the oldest sync of the log has been running; 0 while none is.";
    db_total_size_bytes: IntGauge = gauge, "Bytes of the kv db on disk.";
    db_index_bytes: IntGauge = gauge, "Bytes of the key index in memory.";
    keys: IntGauge = gauge, "Keys that exist at the newest revision.";
    revision: IntGauge = gauge, "Newest revision of the store.";
    compacted_revision: IntGauge = gauge, "Revisions below it cannot be read; 0 is none.";
    volume_free_bytes: IntGauge = gauge, "Free bytes on the data volume.";
    volume_headroom_bytes: IntGauge = gauge, "Free bytes on the data volume and those of the reserve file.";
    volume_reserve_bytes: IntGauge = gauge, "Headroom that puts need; deletes, compaction and membership changes need half of it.";
    full_disk: IntGauge = gauge, "Whether a write met a full disk and waits for space: 1 is yes, 0 is no.";
    snapshot_save_total_duration_seconds: Histogram = seconds, "Duration of cutting a snapshot, from freezing it to its file being durable.";
    snapshot_install_total: IntCounter = counter, "Snapshots of a leader that were installed.";
    snapshot_index: IntGauge = gauge, "Log index of the newest snapshot file.";
    http_requests_total: IntCounterVec = counters, "Requests answered, by port, route of the route table, method and status." by &["port", "route", "method", "status"];
    http_request_duration_seconds: HistogramVec = seconds_by, "From a request's head to the head of its answer." by &["port", "route"];
    connections: IntGaugeVec = gauges, "Open connections that others made to a port." by &["port"];
    state: IntGaugeVec = gauges, "The node's state: 1 for the present one." by &["state"];
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Sets the one state whose gauge is 1.
    pub fn set_state(&self, state: NodeState) {
        for (other, name) in STATES {
            self.state.with_label_values(&[name]).set(i64::from(*other == state));
        }
    }

    /// Drops what is counted for each peer of one that has left.
    pub fn forget_peer(&self, id: MemberId) {
        let id = id.to_string();
        // An error says that nothing was counted for it.
        let _none = self.peer_round_trip_time_seconds.remove_label_values(&[&id]);
        for by_peer in [&self.peer_sent_frames_total, &self.peer_received_frames_total, &self.peer_unknown_frames_total]
        {
            let _none = by_peer.remove_label_values(&[&id]);
        }
        for why in [WHY_FULL, WHY_DOWN] {
            let _none = self.peer_dropped_frames_total.remove_label_values(&[&id, why]);
        }
    }

    /// Prometheus text format 0.0.4.
    pub fn encode(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writes to memory; every metric has a name");
        String::from_utf8(text).expect("names, help texts and label values are UTF-8")
    }
}

/// Label of frames that found the peer's queue full.
pub const WHY_FULL: &str = "full";
/// Label of frames that found no stream to the peer.
pub const WHY_DOWN: &str = "down";

const STATES: &[(NodeState, &str)] = &[
    (NodeState::Opening, "opening"),
    (NodeState::Blank, "blank"),
    (NodeState::Learner, "learner"),
    (NodeState::Voter, "voter"),
    (NodeState::Removed, "removed"),
    (NodeState::Quarantined, "quarantined"),
];

fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("name, help and buckets are valid constants");
    registry.register(Box::new(metric.clone())).expect("each name is registered once");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

/// 512 B to 32 MiB.
fn bytes(registry: &Registry, name: &str, help: &str) -> Histogram {
    histogram(registry, name, help, exponential_buckets(512.0, 4.0, 9).expect("constants are in range"))
}

fn seconds(registry: &Registry, name: &str, help: &str) -> Histogram {
    histogram(registry, name, help, seconds_buckets())
}

fn seconds_by(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(seconds_buckets());
    register(registry, HistogramVec::new(opts, labels))
}

/// 100 µs to 52 s, doubling, so that a fast fdatasync and a snapshot both fall inside.
fn seconds_buckets() -> Vec<f64> {
    exponential_buckets(0.0001, 2.0, 20).expect("constants are in range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_exposed_under_its_field_name_with_help() {
        let metrics = Metrics::new();
        metrics.set_state(NodeState::Voter);
        metrics.http_requests_total.with_label_values(&["client", "/v1/kv", "GET", "200"]).inc();
        metrics.http_request_duration_seconds.with_label_values(&["client", "/v1/kv"]).observe(0.1);
        metrics.connections.with_label_values(&["client"]).inc();
        metrics.peer_round_trip_time_seconds.with_label_values(&["2"]).observe(0.1);
        for by_peer in
            [&metrics.peer_sent_frames_total, &metrics.peer_received_frames_total, &metrics.peer_unknown_frames_total]
        {
            by_peer.with_label_values(&["2"]).inc();
        }
        metrics.peer_dropped_frames_total.with_label_values(&["2", WHY_FULL]).inc();
        let text = metrics.encode();
        assert_eq!(text.lines().filter(|line| line.starts_with("# HELP raftkv_")).count(), 34, "{text}");
        for line in [
            "raftkv_has_leader 0",
            "raftkv_state{state=\"voter\"} 1",
            "raftkv_state{state=\"blank\"} 0",
            "raftkv_wal_fsync_duration_seconds_count 0",
            "raftkv_http_requests_total{method=\"GET\",port=\"client\",route=\"/v1/kv\",status=\"200\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_peer_that_left_has_no_metrics() {
        let metrics = Metrics::new();
        let others = metrics.encode();
        metrics.peer_round_trip_time_seconds.with_label_values(&["2"]).observe(0.1);
        metrics.peer_dropped_frames_total.with_label_values(&["2", WHY_DOWN]).inc();
        assert!(metrics.encode().contains("\"2\""));
        metrics.forget_peer(2);
        metrics.forget_peer(3);
        assert_eq!(metrics.encode(), others);
    }

    #[test]
    fn two_nodes_in_one_process_do_not_share_metrics() {
        let (one, two) = (Metrics::new(), Metrics::new());
        one.keys.set(5);
        assert_eq!(two.keys.get(), 0);
    }
}

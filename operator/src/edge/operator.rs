//! What acts: the running operator, which is the same for all clusters, and one pass of it over one cluster.
//!
//! Plain data that `run` and `pass` put together and `execute` and the actions work with. Nothing is done here but to end
//! the process when a test asked for it.

use crate::edge::events::Events;
use crate::edge::lease::Held;
use crate::edge::metrics::Metrics;
use crate::edge::refusals::Refusals;
use crate::edge::write::Namespace;
use crate::observe::Nodes;
use crate::plan::{Action, Desired, Observed};
use crate::resources::{Settings, namespace};
use kube::Client;
use raftkv_crds::RaftKvCluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// How the process ends when a test asked for it.
pub const EXIT_AFTER_CODE: i32 = 17;

/// The running operator: what every pass over every cluster acts with.
pub struct Operator {
    /// The API server.
    pub client: Client,
    /// How the operator was installed.
    pub settings: Settings,
    /// The Lease.
    pub held: Held,
    /// Where Events go.
    pub events: Events,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the process is to end.
    pub stopping: watch::Receiver<bool>,
    /// For tests: when to exit.
    pub exit_after: ExitAfter,
}

/// One pass over one cluster: what it acts with, and on.
pub struct Pass<'a> {
    /// The running operator.
    pub operator: &'a Operator,
    /// The cluster's nodes.
    pub nodes: &'a Nodes,
    /// What the user asks for.
    pub desired: &'a Desired,
    /// What the plan saw.
    pub seen: &'a Observed,
    /// The cluster as it was read, and as it was written since.
    pub cluster: &'a mut RaftKvCluster,
    /// What the API server refused.
    pub refusals: &'a mut Refusals,
}

impl Pass<'_> {
    pub(crate) fn namespace(&self) -> Namespace<'_> {
        Namespace { client: &self.operator.client, name: namespace(self.cluster), metrics: &self.operator.metrics }
    }
}

/// Ends the process after so many actions, so that a test can stop it behind each one (rule O17).
#[derive(Debug, Default)]
pub struct ExitAfter(Option<AtomicU64>);

impl ExitAfter {
    /// `None` never burns.
    pub fn new(actions: Option<u64>) -> ExitAfter {
        ExitAfter(actions.map(AtomicU64::new))
    }

    pub(crate) fn count_down(&self, action: &Action) {
        let Some(left) = &self.0 else { return };
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            tracing::warn!(?action, "RAFTKV_OPERATOR_EXIT_AFTER: the last action is done, exiting");
            std::process::exit(EXIT_AFTER_CODE);
        }
    }
}

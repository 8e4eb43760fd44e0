//! What acts: the running operator, which is the same for all clusters, and one pass of it over one cluster.
//!
//! `run` and `pass` put this data together; `execute` and the actions work with it. The only thing done here is to end
//! the process when a test asked for that.

use crate::edge::events::Events;
use crate::edge::lease::Held;
use crate::edge::metrics::Metrics;
use crate::edge::write::Namespace;
use crate::observe::{Nodes, Writes};
use crate::plan::{Action, Desired, Observed};
use crate::resources::{Asked, Settings, namespace};
use kube::Client;
use raftkv_crds::RaftKvCluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// The exit code when a test asked the process to end.
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
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Becomes true when the process is to stop.
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
    /// The cluster as it was read, with what this pass has written to it since.
    pub cluster: &'a mut RaftKvCluster,
    /// What the children are made from.
    pub asked: &'a Asked,
    /// What became of writes to the children.
    pub writes: &'a mut Writes,
}

impl Pass<'_> {
    pub(crate) fn namespace(&self) -> Namespace<'_> {
        Namespace { client: &self.operator.client, name: namespace(self.cluster), metrics: &self.operator.metrics }
    }
}

/// Ends the process after a number of actions, so that a test can stop it after each one (rule O17).
#[derive(Debug, Default)]
pub struct ExitAfter(Option<AtomicU64>);

impl ExitAfter {
    /// `None` never ends the process.
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

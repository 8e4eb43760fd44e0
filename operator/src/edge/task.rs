//! The task of one cluster: pass after pass, until the cluster is gone or the operator stops.
//!
//! The task is woken by what the watches push. It also looks by itself from time to time, since Kubernetes does not
//! tell what happens inside the nodes. An error ends a pass, but never the task.

use crate::edge::execute::ExecuteError;
use crate::edge::health::Health;
use crate::edge::metrics::PassResult;
use crate::edge::operator::Operator;
use crate::edge::pass::{Cluster, PassError};
use crate::edge::rhythm::{Ended, Pause, Rhythm};
use crate::edge::watch::{Key, Watched};
use crate::plan::{Note, Pace};
use kube::core::error_boundary::InvalidObject;
use raftkv_crds::{RaftKvCluster, Reason};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

/// Returns when the cluster is gone, when another cluster has taken its name, or when the operator stops.
pub async fn run(operator: Arc<Operator>, health: Arc<Health>, watched: Watched, key: Key, notify: Arc<Notify>) {
    let mut stopping = operator.stopping.clone();
    let mut rhythm = Rhythm::default();
    let mut state: Option<Cluster> = None;
    while !*stopping.borrow() {
        health.turned(&key.to_string());
        let Some(pushed) = watched.cluster(&key) else { return };
        let ended = match &pushed.0 {
            Err(unreadable) => {
                tell_unreadable(&operator, &*pushed, unreadable);
                Ended::Rested { pace: Pace::Calm, news: false }
            }
            Ok(cluster) => {
                let state = state.get_or_insert_with(|| Cluster::new(&operator, cluster));
                if !state.is(cluster) {
                    return;
                }
                let span = tracing::info_span!("pass", namespace = key.namespace, name = key.name);
                let pass = one_pass(&operator, state, &watched, cluster, &rhythm).instrument(span);
                match pass.await {
                    Some(ended) => ended,
                    None => return,
                }
            }
        };
        wait(rhythm.after(ended, rand::random()), &notify, &mut stopping).await;
    }
}

/// Makes a pass. `None` means that the task must end.
async fn one_pass(
    operator: &Operator,
    state: &mut Cluster,
    watched: &Watched,
    cluster: &RaftKvCluster,
    rhythm: &Rhythm,
) -> Option<Ended> {
    let began = Instant::now();
    let (ended, result) = match state.pass(operator, &watched.stores, cluster).await {
        Ok(ended) => (ended, PassResult::Ok),
        Err(PassError::Execute(error @ (ExecuteError::NotHeld(_) | ExecuteError::Stopping))) => {
            tracing::info!(%error, "the pass ends here");
            return None;
        }
        // A conflict once in a while is nobody's fault. Many in a row are something that a person has to see.
        Err(PassError::Execute(error @ ExecuteError::Conflict { .. })) if !rhythm.is_stuck() => {
            tracing::debug!(%error, "the pass ends here");
            (Ended::Conflict, PassResult::Conflict)
        }
        Err(error) => {
            tracing::warn!(%error, "the pass failed and will be tried again");
            tell_unseen(operator, cluster, &error);
            (Ended::Failed, PassResult::Error)
        }
    };
    operator.metrics.passed(result, began.elapsed());
    Some(ended)
}

/// Reports a cluster that cannot be read: a field has another type, or a value that this operator does not know,
/// because the definition is newer than the operator.
fn tell_unreadable(operator: &Operator, cluster: &impl kube::Resource<DynamicType = ()>, unreadable: &InvalidObject) {
    let text = format!("this version of the operator cannot read it, and leaves the cluster as it is: {unreadable}");
    let name = unreadable.metadata.name.as_deref().unwrap_or_default();
    tracing::warn!(name, text, "a cluster cannot be read");
    operator.events.tell(cluster, "Observe", &Note { warning: true, reason: Reason::InvalidSpec.as_str(), text });
}

/// Reports a failed observation by an Event, since without an observation there is no status to report it in. A failed
/// step was reported where it was taken.
fn tell_unseen(operator: &Operator, cluster: &RaftKvCluster, error: &PassError) {
    if let PassError::Observe(error) = error {
        let text = format!("{error}. Nothing is changed, and the status stays as it was, until it can be read");
        operator.events.tell(cluster, "Observe", &Note { warning: true, reason: "ObserveFailed", text });
    }
}

/// Waits until the pause is over, something wakes the task after the shortest pause, or the operator stops.
async fn wait(pause: Pause, notify: &Notify, stopping: &mut watch::Receiver<bool>) {
    let began = Instant::now();
    let called = async {
        sleep_until(began + pause.at_least).await;
        notify.notified().await;
    };
    tokio::select! {
        () = called => {}
        () = sleep_until(began + pause.at_most) => {}
        // This fails when the sender is gone, and then the operator is stopping as well.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

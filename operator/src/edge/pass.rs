//! One pass over one cluster: observe, plan, execute, status.
//!
//! A pass first plans from what the watches pushed. Only if that plan has steps is everything read live and planned
//! again, and only the second plan is carried out. So no step rests on a cache, and a pass that has nothing to do asks
//! the API server nothing and writes nothing (rule O21).

use crate::edge::events::Events;
use crate::edge::execute::{Done, ExecuteError, execute};
use crate::edge::operator::{Operator, Pass};
use crate::edge::rhythm::Ended;
use crate::edge::write::{Fault, Namespace};
use crate::observe::{Nodes, ObserveError, Observer, Source, Stores, Writes};
use crate::plan::{Desired, Memory, Note, Observed, Pace, Plan, plan};
use crate::resources::{Asked, desired, name, namespace};
use raftkv_crds::{RaftKvCluster, RaftKvClusterStatus};
use std::time::Duration;
use tokio::time::Instant;

/// While steps follow each other closely, the status is written at most this often.
const STATUS_EVERY_MS: u64 = 500;

/// Why a pass did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// There was nothing to plan from.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The plan was not carried out.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// What is kept of one cluster from pass to pass. All of it may be lost at any time.
pub struct Cluster {
    uid: Option<String>,
    observer: Observer,
    nodes: Nodes,
    memory: Memory,
    writes: Writes,
    /// The cluster as this task wrote it last; what the watch has may be older.
    written: Option<RaftKvCluster>,
    /// When the status was written last.
    told: Option<Instant>,
}

/// What was seen and what follows from it.
struct Look {
    cluster: RaftKvCluster,
    asked: Asked,
    desired: Desired,
    seen: Observed,
    plan: Plan,
}

impl Cluster {
    /// The state before the first pass.
    pub fn new(operator: &Operator, cluster: &RaftKvCluster) -> Cluster {
        Cluster {
            uid: cluster.metadata.uid.clone(),
            observer: Observer::new(operator.client.clone(), operator.settings.clone()),
            nodes: Nodes::default(),
            memory: Memory::default(),
            writes: Writes::default(),
            written: None,
            told: None,
        }
    }

    /// Whether `cluster` is this very cluster, and not another one of the same name.
    pub fn is(&self, cluster: &RaftKvCluster) -> bool {
        self.uid == cluster.metadata.uid
    }

    /// Makes one pass. `pushed` is the cluster as the watch has it.
    pub async fn pass(
        &mut self,
        operator: &Operator,
        stores: &Stores,
        pushed: &RaftKvCluster,
    ) -> Result<Ended, PassError> {
        let cluster = newer(pushed, self.written.take());
        if is_going(&cluster) {
            return Ok(Ended::Rested { pace: Pace::Calm, news: false });
        }
        let cached = self.look(operator, cluster, Source::Cached(stores)).await?; // IO
        if cached.plan.steps.is_empty() {
            return self.finish(operator, cached, Done::default()).await; // IO: the status
        }
        let cluster = self.read(operator, &cached.cluster).await?; // IO
        let mut live = self.look(operator, cluster, Source::Live).await?; // IO
        match self.act(operator, &mut live).await {
            Ok(done) => self.finish(operator, live, done).await,
            // The status is still written: it says what failed, and why there is no progress.
            Err(error @ ExecuteError::Failed { .. }) => {
                self.finish(operator, live, Done::default()).await?;
                Err(error.into())
            }
            Err(error @ (ExecuteError::Conflict { .. } | ExecuteError::NotHeld(_) | ExecuteError::Stopping)) => {
                Err(error.into())
            }
        }
    }

    async fn look(&mut self, operator: &Operator, cluster: RaftKvCluster, from: Source<'_>) -> Result<Look, PassError> {
        let (memory, writes) = (self.memory.clone(), &mut self.writes);
        let (asked, seen) = self.observer.observe(&cluster, &self.nodes, from, memory, writes).await?; // IO
        let desired = desired(&asked, &operator.settings); // PURE
        let plan = plan(&desired, &seen); // PURE
        Ok(Look { cluster, asked, desired, seen, plan })
    }

    async fn read(&self, operator: &Operator, cluster: &RaftKvCluster) -> Result<RaftKvCluster, ExecuteError> {
        let doing = || format!("reading RaftKvCluster {}", name(cluster));
        let read = in_namespace(operator, cluster).read::<RaftKvCluster>(name(cluster)).await;
        match read.map_err(|fault| error(doing(), fault))? {
            Some(live) if self.is(&live) && !is_going(&live) => Ok(live),
            Some(_) | None => Err(error(doing(), Fault::Conflict("it is gone".to_string()))),
        }
    }

    async fn act(&mut self, operator: &Operator, look: &mut Look) -> Result<Done, ExecuteError> {
        let Look { cluster, asked, desired, seen, plan } = look;
        let (nodes, writes) = (&self.nodes, &mut self.writes);
        let done = execute(&mut Pass { operator, nodes, desired, seen, cluster, asked, writes }, &plan.steps).await;
        // It has the latches that the steps wrote.
        self.written = Some(cluster.clone());
        done
    }

    /// Writes the status if it differs, and then queues the Events of what changed.
    async fn finish(&mut self, operator: &Operator, look: Look, done: Done) -> Result<Ended, PassError> {
        let Look { mut cluster, plan, .. } = look;
        let Plan { status, notes, pace, memory, steps: _ } = plan;
        // A child that cannot be written is no reason to look more often than at a calm cluster.
        let only_waits =
            !done.failed && status.operation.is_none() && memory.refused.iter().chain(&memory.failed).count() > 0;
        self.memory = memory;
        let live = cluster.status.take().unwrap_or_default();
        let status = with_latches(status, &live);
        operator.metrics.conditions(namespace(&cluster), name(&cluster), &status.conditions);
        let news = status != live;
        // A pass that acted is followed at once by another one, which knows more.
        let lately = self.told.is_some_and(|at| at.elapsed() < Duration::from_millis(STATUS_EVERY_MS));
        if news && !(done.acted > 0 && lately) {
            cluster.status = Some(status);
            operator.held.check().map_err(ExecuteError::from)?;
            let written = in_namespace(operator, &cluster).put_status(&cluster).await;
            cluster = written.map_err(|fault| error(format!("writing the status of {}", name(&cluster)), fault))?;
            self.told = Some(Instant::now());
            tell(&operator.events, &cluster, &notes);
        } else {
            cluster.status = Some(live);
        }
        self.written = Some(cluster);
        let pace = if only_waits { Pace::Calm } else { pace };
        Ok(if done.acted > 0 { Ended::Acted } else { Ended::Rested { pace, news } })
    }
}

/// The newer of two versions of one object. Since Kubernetes 1.35, resource versions are ordered numbers. Where they
/// are not, the pushed version is taken, and a write that is based on too old a version ends in a conflict.
fn newer(pushed: &RaftKvCluster, written: Option<RaftKvCluster>) -> RaftKvCluster {
    let version = |cluster: &RaftKvCluster| cluster.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    match written {
        Some(written) if version(&written) > version(pushed) => written,
        Some(_) | None => pushed.clone(),
    }
}

/// It is being deleted. Its children are deleted with it, and nothing is made again.
fn is_going(cluster: &RaftKvCluster) -> bool {
    cluster.metadata.deletion_timestamp.is_some()
}

/// What was latched stays, even if it was latched by a step of this same pass (rule O1).
fn with_latches(status: RaftKvClusterStatus, live: &RaftKvClusterStatus) -> RaftKvClusterStatus {
    RaftKvClusterStatus {
        cluster_id: status.cluster_id.or_else(|| live.cluster_id.clone()),
        bootstrap: status.bootstrap.or_else(|| live.bootstrap.clone()),
        bootstrapped: status.bootstrapped || live.bootstrapped,
        ..status
    }
}

fn tell(events: &Events, cluster: &RaftKvCluster, notes: &[Note]) {
    notes.iter().for_each(|note| events.tell(cluster, "Observe", note));
}

fn in_namespace<'a>(operator: &'a Operator, cluster: &'a RaftKvCluster) -> Namespace<'a> {
    Namespace { client: &operator.client, name: namespace(cluster), metrics: &operator.metrics }
}

fn error(doing: String, fault: Fault) -> ExecuteError {
    match fault {
        Fault::Conflict(why) => ExecuteError::Conflict { doing, why },
        Fault::Refused(why) | Fault::Held(why) | Fault::Failed(why) => ExecuteError::Failed { doing, why },
        Fault::Left => ExecuteError::Conflict { doing, why: "it is as it should be".to_string() },
    }
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;

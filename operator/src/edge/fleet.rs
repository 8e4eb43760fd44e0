//! All clusters: the watches, and one task for each cluster.
//!
//! ```text
//!   API server ──► Watched (stores) ──► Wake ──► fleet ──► notify ──► the task of one cluster
//! ```
//!
//! This task owns the map of tasks and is the only one that starts them. A task ends when its cluster is gone, when
//! another cluster has taken its name, or when the operator stops. If there still is a cluster of that name, a new task
//! is started.

use crate::edge::config::Scope;
use crate::edge::health::{Health, Role};
use crate::edge::operator::Operator;
use crate::edge::task;
use crate::edge::watch::{Key, Wake, Watched};
use futures::stream::{BoxStream, SelectAll, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The loop of the watches turns at least this often, for `/livez`.
const TURN_MS: u64 = 10_000;
/// The pause before a task that panicked is started again.
const PANIC_PAUSE_MS: u64 = 10_000;
/// How long a stopping operator waits for the actions under way. Kubernetes gives 30 s for the whole stop.
const STOP_MS: u64 = 22_000;

/// The operator stopped while an action was still under way.
#[derive(Debug, thiserror::Error)]
#[error("actions of {0} clusters did not end within {STOP_MS} ms")]
pub struct StillActing(usize);

struct Fleet {
    operator: Arc<Operator>,
    health: Arc<Health>,
    /// By namespace; `None` is all of them.
    watched: BTreeMap<Option<String>, Watched>,
    /// The running tasks, each with what wakes it.
    running: BTreeMap<Key, Arc<Notify>>,
    tasks: JoinSet<Key>,
    complete: bool,
}

/// Runs all clusters until the operator stops. After `Ok`, no action is under way.
pub async fn run(operator: Arc<Operator>, scope: &Scope, health: Arc<Health>) -> Result<(), StillActing> {
    let mut wakes: SelectAll<BoxStream<'static, Wake>> = SelectAll::new();
    let mut watched = BTreeMap::new();
    for namespace in scope.namespaces() {
        let (stores, more) = Watched::start(&operator.client, namespace.as_deref());
        watched.insert(namespace, stores);
        wakes.extend(more);
    }
    let mut stopping = operator.stopping.clone();
    let (running, tasks) = (BTreeMap::new(), JoinSet::new());
    let mut fleet = Fleet { operator, health, watched, running, tasks, complete: false };
    loop {
        fleet.health.turned("the watches");
        tokio::select! {
            Some(wake) = wakes.next() => fleet.wake(wake),
            Some(ended) = fleet.tasks.join_next() => fleet.ended(&ended.expect("a task's panic is caught in it")),
            _ = sleep(Duration::from_millis(TURN_MS)) => {}
            // This fails when the sender is gone, and then the operator is stopping as well.
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    fleet.health.ended("the watches");
    fleet.join().await
}

impl Fleet {
    fn wake(&mut self, wake: Wake) {
        if !self.complete {
            // An object that is missing from a half-filled cache must not be taken for deleted.
            self.complete = self.watched.values().all(Watched::is_complete);
            if !self.complete {
                return;
            }
            tracing::info!("the caches are filled");
            self.health.role(Role::Works);
            return self.wake_all();
        }
        match wake {
            Wake::One(key) => self.wake_one(key),
            Wake::All => self.wake_all(),
        }
    }

    fn wake_all(&mut self) {
        // Tasks whose clusters are gone end by themselves.
        self.running.values().for_each(|notify| notify.notify_one());
        for key in self.watched.values().flat_map(Watched::keys).collect::<Vec<Key>>() {
            if !self.running.contains_key(&key) {
                self.begin(key);
            }
        }
    }

    fn wake_one(&mut self, key: Key) {
        match self.running.get(&key) {
            Some(notify) => notify.notify_one(),
            None => self.begin(key),
        }
    }

    fn begin(&mut self, key: Key) {
        let watched = self.watched_of(&key).filter(|watched| watched.cluster(&key).is_some());
        let Some(watched) = watched.cloned() else { return };
        let notify = Arc::new(Notify::new());
        self.running.insert(key.clone(), notify.clone());
        self.operator.metrics.clusters(self.running.len());
        let task = task::run(self.operator.clone(), self.health.clone(), watched, key.clone(), notify);
        self.tasks.spawn(async move {
            // The pass runs in a task of its own, so that a bug met with one cluster does not end the others.
            if let Err(panicked) = tokio::spawn(task).await {
                tracing::error!(cluster = %key, %panicked, "a pass panicked");
                sleep(Duration::from_millis(PANIC_PAUSE_MS)).await;
            }
            key
        });
    }

    fn ended(&mut self, key: &Key) {
        self.running.remove(key);
        self.health.ended(&key.to_string());
        self.operator.metrics.forget(&key.namespace, &key.name);
        self.operator.metrics.clusters(self.running.len());
        self.begin(key.clone());
    }

    fn watched_of(&self, key: &Key) -> Option<&Watched> {
        self.watched.get(&None).or_else(|| self.watched.get(&Some(key.namespace.clone())))
    }

    async fn join(mut self) -> Result<(), StillActing> {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        match timeout(Duration::from_millis(STOP_MS), all).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(StillActing(self.tasks.len())),
        }
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;

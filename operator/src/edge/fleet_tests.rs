//! The map of tasks: when a task is started, and that it ends with its cluster. The stores are filled by hand.

use super::*;
use crate::edge::events::Events;
use crate::edge::fake_api::FakeApi;
use crate::edge::lease::Held;
use crate::edge::metrics::Metrics;
use crate::edge::operator::ExitAfter;
use crate::edge::watch::Guarded;
use crate::observe::Stores;
use crate::resources::testing::{cluster, settings};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Lookup, Store};
use kube::runtime::watcher::Event;
use serde_json::json;
use std::hash::Hash;
use tokio::sync::watch;

#[tokio::test]
async fn a_task_begins_when_the_caches_are_filled_and_ends_with_its_cluster() {
    let mut world = World::new().await;
    world.clusters.apply_watcher_event(&Event::Apply(demo()));
    world.fleet.wake(Wake::One(key()));
    assert!(world.fleet.running.is_empty(), "the list of clusters was not read to its end");
    filled(&mut world.clusters);
    world.clusters.apply_watcher_event(&Event::Apply(demo()));
    world.fleet.wake(Wake::All);
    assert_eq!(world.fleet.running.keys().collect::<Vec<_>>(), [&key()]);
    world.clusters.apply_watcher_event(&Event::Delete(demo()));
    world.fleet.wake(Wake::One(key()));
    world.next_end().await;
    assert!(world.fleet.running.is_empty());
}

#[tokio::test]
async fn another_cluster_of_the_same_name_gets_a_task_of_its_own() {
    let mut world = World::new().await;
    filled(&mut world.clusters);
    world.clusters.apply_watcher_event(&Event::Apply(demo()));
    world.fleet.wake(Wake::All);
    // One pass of the first cluster, so that the task knows whose it is.
    world.passes(1).await;
    let mut other = demo();
    other.0.as_mut().unwrap().metadata.uid = Some("another".to_string());
    world.clusters.apply_watcher_event(&Event::Apply(other));
    world.fleet.wake(Wake::One(key()));
    world.next_end().await;
    assert_eq!(world.fleet.running.len(), 1, "a new task is begun");
}

#[tokio::test]
async fn nothing_begins_for_a_child_without_a_cluster() {
    let mut world = World::new().await;
    filled(&mut world.clusters);
    world.fleet.wake(Wake::All);
    world.fleet.wake(Wake::One(key()));
    assert!(world.fleet.running.is_empty());
}

#[tokio::test]
async fn all_tasks_have_ended_when_the_fleet_has_stopped() {
    let mut world = World::new().await;
    filled(&mut world.clusters);
    world.clusters.apply_watcher_event(&Event::Apply(demo()));
    world.fleet.wake(Wake::All);
    world.stop.send_replace(true);
    world.fleet.join().await.unwrap();
}

#[tokio::test]
async fn an_event_tells_what_cannot_be_read() {
    let mut world = World::new().await;
    world.api.fail("GET /api/v1/namespaces/team/persistentvolumeclaims", 403);
    filled(&mut world.clusters);
    world.clusters.apply_watcher_event(&Event::Apply(demo()));
    world.fleet.wake(Wake::All);
    let told = async {
        loop {
            let events = world.api.objects("/apis/events.k8s.io/v1/namespaces/team/events/");
            match events.into_iter().find(|event| event["reason"] == "ObserveFailed") {
                Some(event) => break event["note"].as_str().unwrap().to_string(),
                None => tokio::task::yield_now().await,
            }
        }
    };
    let note = timeout(Duration::from_secs(10), told).await.unwrap();
    assert!(note.contains("persistentvolumeclaims") && note.contains("403"), "{note}");
}

struct World {
    api: FakeApi,
    fleet: Fleet,
    clusters: Writer<Guarded>,
    stop: watch::Sender<bool>,
}

impl World {
    async fn new() -> World {
        let api = FakeApi::start().await;
        let (stop, stopping) = watch::channel(false);
        let operator = Arc::new(Operator {
            client: api.client(),
            settings: settings(),
            held: Held::for_test(),
            events: Events::start(api.client(), "operator-0", || ()),
            metrics: Arc::new(Metrics::new()),
            stopping,
            exit_after: ExitAfter::default(),
        });
        let (clusters, writer) = reflector::store();
        let stores = Stores { sets: none(), pods: none(), claims: none(), services: none(), budgets: none() };
        let fleet = Fleet {
            operator,
            health: Arc::new(Health::default()),
            watched: [(None, Watched { clusters, stores })].into(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            complete: false,
        };
        World { api, fleet, clusters: writer, stop }
    }

    async fn next_end(&mut self) {
        let ended = timeout(Duration::from_secs(10), self.fleet.tasks.join_next()).await.unwrap();
        self.fleet.ended(&ended.unwrap().unwrap());
    }

    async fn passes(&self, passes: usize) {
        let count = || {
            let text = String::from_utf8(self.fleet.operator.metrics.text()).unwrap();
            let line = text.lines().find(|line| line.starts_with("raftkv_operator_reconcile_seconds_count"));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).unwrap_or_default()
        };
        let enough = async {
            while count() < passes {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), enough).await.unwrap();
    }
}

fn key() -> Key {
    Key { namespace: "team".to_string(), name: "demo".to_string() }
}

fn demo() -> Guarded {
    kube::core::DeserializeGuard(Ok(cluster(json!({}))))
}

fn filled<K: Lookup + Clone + 'static>(writer: &mut Writer<K>)
where
    K::DynamicType: Eq + Hash + Clone,
{
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitDone);
}

fn none<K: Lookup + Clone + 'static>() -> Store<K>
where
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let (store, mut writer) = reflector::store();
    filled(&mut writer);
    store
}

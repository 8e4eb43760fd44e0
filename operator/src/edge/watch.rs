//! The watches of one namespace, or of all. What the API server pushes goes into stores, and the cluster that it
//! concerns is woken.
//!
//! Only objects with the cluster label are watched (a volume claim gets it from its StatefulSet's selector), and fields
//! that nobody reads are not kept. When a watch breaks, kube starts it again, with a pause that grows.

use crate::observe::{Stores, said};
use futures::stream::{BoxStream, SelectAll, StreamExt};
use futures::{FutureExt, Stream, future};
use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector as reflect};
use kube::{Api, Client, Resource, ResourceExt};
use raftkv_crds::{RaftKvCluster, label};
use serde::de::DeserializeOwned;
use std::fmt::{self, Debug};
use std::sync::Arc;

/// HTTP 410: the resource version is older than what the API server remembers.
const EXPIRED: u16 = 410;

/// A cluster by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which clusters must be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// One cluster, of which something changed.
    One(Key),
    /// All of them, because a list was read again.
    All,
}

/// A cluster as the API server has it. A cluster that this operator cannot read does not keep it from reading the
/// others.
pub type Guarded = DeserializeGuard<RaftKvCluster>;

/// What was pushed of one namespace, or of all.
#[derive(Clone)]
pub struct Watched {
    /// The clusters.
    pub clusters: Store<Guarded>,
    /// Their children.
    pub stores: Stores,
}

impl Watched {
    /// Begins to watch. The stores fill while the stream is polled.
    pub fn start(client: &Client, namespace: Option<&str>) -> (Watched, SelectAll<BoxStream<'static, Wake>>) {
        let ours = watcher::Config::default().labels(label::CLUSTER);
        let mut wakes = SelectAll::new();
        let clusters = add(&mut wakes, api::<Guarded>(client, namespace), watcher::Config::default(), of_itself);
        let stores = Stores {
            sets: add(&mut wakes, api(client, namespace), ours.clone(), of_label),
            pods: add(&mut wakes, api(client, namespace), ours.clone(), of_label),
            claims: add(&mut wakes, api(client, namespace), ours.clone(), of_label),
            services: add(&mut wakes, api(client, namespace), ours.clone(), of_label),
            budgets: add(&mut wakes, api(client, namespace), ours, of_label),
        };
        (Watched { clusters, stores }, wakes)
    }

    /// Whether every list was read once. Before that, an object that seems to be absent may just not have been read.
    pub fn is_complete(&self) -> bool {
        let Stores { sets, pods, claims, services, budgets } = &self.stores;
        let read = future::join(
            future::join3(self.clusters.wait_until_ready(), sets.wait_until_ready(), pods.wait_until_ready()),
            future::join3(claims.wait_until_ready(), services.wait_until_ready(), budgets.wait_until_ready()),
        );
        read.now_or_never().is_some()
    }

    /// The cluster as it was pushed last.
    pub fn cluster(&self, key: &Key) -> Option<Arc<Guarded>> {
        self.clusters.get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// All clusters.
    pub fn keys(&self) -> Vec<Key> {
        self.clusters.state().iter().filter_map(|cluster| of_itself(cluster)).collect()
    }
}

fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
    client: &Client,
    namespace: Option<&str>,
) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn add<K>(
    wakes: &mut SelectAll<BoxStream<'static, Wake>>,
    api: Api<K>,
    config: watcher::Config,
    key: fn(&K) -> Option<Key>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config).default_backoff().modify(strip);
    wakes.push(wakes_of(reflect(writer, events), key).boxed());
    store
}

fn wakes_of<K: Resource<DynamicType = ()>>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    key: fn(&K) -> Option<Key>,
) -> impl Stream<Item = Wake> {
    events.filter_map(move |event| {
        future::ready(match event {
            Ok(Event::Apply(object) | Event::Delete(object)) => key(&object).map(Wake::One),
            Ok(Event::InitDone) => Some(Wake::All),
            Ok(Event::Init | Event::InitApply(_)) => None,
            // A watch that was idle for too long is told to read the list again, which is nothing to worry about.
            Err(watcher::Error::WatchError(status)) if status.code == EXPIRED => None,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), error = words(&error), "a watch broke and is started again");
                None
            }
        })
    })
}

fn words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => said(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Drops the record of who set which field. It is of no use here, and is the larger half of an object.
fn strip<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

fn of_itself(cluster: &Guarded) -> Option<Key> {
    Some(Key { namespace: cluster.namespace()?, name: cluster.name_any() })
}

fn of_label<K: Resource>(child: &K) -> Option<Key> {
    Some(Key { namespace: child.namespace()?, name: child.labels().get(label::CLUSTER)?.clone() })
}

//! The objects of one cluster, read live from the API server. What they mean is decided elsewhere.

use super::claims::Tie;
use super::error::ObserveError;
use crate::resources::{name, namespace, pod_selector};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use raftkv_crds::{RaftKvCluster, child};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Time for one request. A pass does not wait for the API server's own limit of 60 s.
const READ_TIMEOUT_MS: u64 = 10_000;

/// The objects of one cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub set: Option<Arc<StatefulSet>>,
    pub client: Option<Arc<Service>>,
    pub peers: Option<Arc<Service>>,
    pub budget: Option<Arc<PodDisruptionBudget>>,
    pub pods: Vec<Arc<Pod>>,
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// Reads of one cluster's objects.
pub(super) struct Reads<'a> {
    pub client: &'a Client,
    pub cluster: &'a RaftKvCluster,
}

impl Reads<'_> {
    /// All objects. Children are read by name, since an object of somebody else has no label to be found by (rule O14).
    pub(super) async fn objects(&self) -> Result<Objects, ObserveError> {
        let name = name(self.cluster);
        let peers = child::peers(name);
        let (set, client, peers, budget, pods, claims) = tokio::try_join!(
            self.get(name),
            self.get(name),
            self.get(&peers),
            self.get(name),
            self.list(ListParams::default().labels(&pod_selector(self.cluster))),
            self.claims(),
        )?;
        Ok(Objects { set, client, peers, budget, pods, claims })
    }

    /// All volume claims with this cluster's names, whatever their labels are (rule O2).
    pub(super) async fn claims(&self) -> Result<Vec<Arc<PersistentVolumeClaim>>, ObserveError> {
        let mut claims: Vec<Arc<PersistentVolumeClaim>> = self.list(ListParams::default()).await?;
        let named =
            |claim: &str| child::ordinal(claim, name(self.cluster)).map(|at| child::claim(name(self.cluster), at));
        claims.retain(|claim| {
            let claim = claim.metadata.name.as_deref().unwrap_or_default();
            named(claim).is_some_and(|named| named == claim)
        });
        Ok(claims)
    }

    /// The Secret with the token. There is no right to list Secrets.
    pub(super) async fn secret(&self) -> Result<Option<Arc<Secret>>, ObserveError> {
        self.get(&child::auth(name(self.cluster))).await
    }

    async fn get<K>(&self, name: &str) -> Result<Option<Arc<K>>, ObserveError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace(self.cluster));
        let what = || format!("{} {name}", K::kind(&()));
        within(what, api.get_opt(name)).await.map(|object| object.map(Arc::new))
    }

    async fn list<K>(&self, which: ListParams) -> Result<Vec<Arc<K>>, ObserveError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace(self.cluster));
        let what = || format!("the list of {}", K::plural(&()));
        let list = within(what, api.list(&which)).await?;
        Ok(list.items.into_iter().map(Arc::new).collect())
    }
}

/// The Kubernetes nodes to which a volume is tied, or that have the name of a pod's node. They are read from a quorum of
/// the API server's store, and not from its cache.
pub(super) async fn nodes(client: &Client, tie: &Tie) -> Result<Vec<Node>, ObserveError> {
    let api: Api<Node> = Api::all(client.clone());
    let which = match tie {
        Tie::Name(name) => ListParams::default().fields(&format!("metadata.name={name}")),
        Tie::Label { key, value } => ListParams::default().labels(&format!("{key}={value}")),
    };
    let list = within(|| format!("the list of Nodes with {}", tie.text()), api.list(&which)).await?;
    Ok(list.items)
}

/// A volume; `None` when there is none.
pub(super) async fn volume(client: &Client, name: &str) -> Result<Option<PersistentVolume>, ObserveError> {
    let api: Api<PersistentVolume> = Api::all(client.clone());
    within(|| format!("PersistentVolume {name}"), api.get_opt(name)).await
}

async fn within<T>(
    what: impl Fn() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ObserveError> {
    match timeout(Duration::from_millis(READ_TIMEOUT_MS), request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ObserveError::Read { what: what(), source: Box::new(source) }),
        Err(_elapsed) => Err(ObserveError::Silent { what: what(), after_ms: READ_TIMEOUT_MS }),
    }
}

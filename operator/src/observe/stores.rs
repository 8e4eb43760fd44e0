//! What the API server pushed, and the objects of one cluster in it. The edge runs the watches; nothing is asked here.
//!
//! Each store holds the objects that carry the cluster label, of all clusters that are watched. A volume claim gets
//! that label from its StatefulSet's selector. Objects without the label belong to somebody else, and only live reads
//! see them.

use super::objects::Objects;
use crate::resources::{name, namespace};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use raftkv_crds::{RaftKvCluster, child, label};
use std::sync::Arc;

/// The stores of all watches.
#[derive(Clone)]
pub struct Stores {
    /// StatefulSets.
    pub sets: Store<StatefulSet>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Volume claims.
    pub claims: Store<PersistentVolumeClaim>,
    /// Services.
    pub services: Store<Service>,
    /// Disruption budgets.
    pub budgets: Store<PodDisruptionBudget>,
}

impl Stores {
    /// The objects of this cluster, as they were pushed last.
    pub(super) fn objects(&self, cluster: &RaftKvCluster) -> Objects {
        let name = name(cluster);
        Objects {
            set: get(&self.sets, cluster, name),
            client: get(&self.services, cluster, name),
            peers: get(&self.services, cluster, &child::peers(name)),
            budget: get(&self.budgets, cluster, name),
            pods: of(&self.pods, cluster),
            claims: of(&self.claims, cluster),
        }
    }
}

fn get<K>(store: &Store<K>, cluster: &RaftKvCluster, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace(cluster)))
}

fn of<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>, cluster: &RaftKvCluster) -> Vec<Arc<K>> {
    let ours = |object: &K| {
        object.namespace().as_deref() == Some(namespace(cluster))
            && object.labels().get(label::CLUSTER).is_some_and(|of| of == name(cluster))
    };
    store.state_filter(ours)
}

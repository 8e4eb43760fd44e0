//! The actions on objects of Kubernetes, one function each.
//!
//! Nothing of a stranger's is written (rule O14): an object is made by POST, and changed only after it was read and found
//! to be controlled by this cluster, by a patch that is for exactly the object that was read.

use crate::edge::execute::Hands;
use crate::edge::nodes::Nodes;
use crate::edge::refusals::Refusals;
use crate::edge::write::{Fault, Namespace, Object};
use crate::plan::{Child, ClaimOwner, Desired, Observed, Ordinal, Seed};
use crate::resources::{self, namespace};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::Preconditions;
use kube::{Resource, ResourceExt};
use raftkv_api::Hex128;
use raftkv_crds::{Bootstrap, RaftKvCluster, annotation, label};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What one pass works with.
pub struct Stage<'a> {
    /// What it takes to act.
    pub hands: &'a Hands,
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

impl Stage<'_> {
    fn namespace(&self) -> Namespace<'_> {
        Namespace { client: &self.hands.client, name: namespace(self.cluster), metrics: &self.hands.metrics }
    }
}

pub(crate) async fn create_child(stage: &mut Stage<'_>, child: Child) -> Result<(), Fault> {
    match child {
        Child::Auth => {
            let secret = resources::auth_secret(stage.cluster, &token());
            stage.namespace().create(&secret).await
        }
        Child::Peers => create(stage, &resources::peers_service(stage.cluster)).await,
        Child::Client => create(stage, &resources::client_service(stage.cluster)).await,
        Child::Budget => Err(Fault::Failed("only SetBudget knows its number".to_string())),
    }
}

pub(crate) async fn apply_child(stage: &mut Stage<'_>, child: Child) -> Result<(), Fault> {
    match child {
        Child::Auth => Err(Fault::Failed("a token is made once".to_string())),
        Child::Peers => apply(stage, &resources::peers_service(stage.cluster)).await,
        Child::Client => apply(stage, &resources::client_service(stage.cluster)).await,
        Child::Budget => Err(Fault::Failed("only SetBudget knows its number".to_string())),
    }
}

pub(crate) async fn create_set(stage: &mut Stage<'_>, replicas: u32) -> Result<(), Fault> {
    let set = resources::stateful_set(stage.cluster, &stage.hands.settings, replicas);
    create(stage, &set).await
}

pub(crate) async fn apply_set(stage: &mut Stage<'_>, replicas: u32, resource_version: &str) -> Result<(), Fault> {
    let wanted = resources::stateful_set(stage.cluster, &stage.hands.settings, replicas);
    let live = own(stage, &stage.desired.name).await?;
    send(stage, &wanted, &resources::set_patch(&wanted, &live, resource_version)).await
}

pub(crate) async fn annotate_seed(stage: &Stage<'_>, seed: Seed, resource_version: &str) -> Result<(), Fault> {
    let mark = format!("{}/{}", seed.cluster_id, seed.incarnation);
    let patch =
        json!({"metadata": {"resourceVersion": resource_version, "annotations": {annotation::BOOTSTRAP: mark}}});
    stage.namespace().patch::<StatefulSet>(&stage.desired.name, &patch).await
}

pub(crate) async fn set_budget(stage: &mut Stage<'_>, min_available: u32) -> Result<(), Fault> {
    let wanted = resources::disruption_budget(stage.cluster, min_available);
    match stage.namespace().read(&wanted.name_any()).await? {
        None => create(stage, &wanted).await,
        Some(live) => {
            is_ours(stage, &live)?;
            send(stage, &wanted, &resources::patch(&wanted, &live)).await
        }
    }
}

pub(crate) async fn latch_seed(stage: &mut Stage<'_>, seed: Seed) -> Result<(), Fault> {
    let mut next = stage.cluster.clone();
    let bootstrap = Bootstrap { cluster_id: seed.cluster_id.to_string(), incarnation: seed.incarnation.to_string() };
    next.status.get_or_insert_default().bootstrap = Some(bootstrap);
    *stage.cluster = stage.namespace().put_status(&next).await?;
    Ok(())
}

pub(crate) async fn latch_formed(stage: &mut Stage<'_>, cluster_id: Hex128) -> Result<(), Fault> {
    let mut next = stage.cluster.clone();
    let status = next.status.get_or_insert_default();
    (status.cluster_id, status.bootstrapped) = (Some(cluster_id.to_string()), true);
    *stage.cluster = stage.namespace().put_status(&next).await?;
    Ok(())
}

pub(crate) async fn label_claim(stage: &Stage<'_>, ordinal: Ordinal, uid: &str, version: &str) -> Result<(), Fault> {
    let labels = json!({label::CLUSTER: stage.desired.name, label::CLUSTER_UID: stage.desired.uid});
    patch_claim(stage, ordinal, json!({"uid": uid, "resourceVersion": version, "labels": labels})).await
}

pub(crate) async fn annotate_claim(
    stage: &Stage<'_>,
    ordinal: Ordinal,
    uid: &str,
    version: &str,
    owner: ClaimOwner,
) -> Result<(), Fault> {
    let annotations = json!({
        annotation::CLUSTER_ID: owner.cluster_id.to_string(),
        annotation::MEMBER_ID: owner.member_id.to_string(),
        annotation::INCARNATION: owner.incarnation.to_string(),
    });
    patch_claim(stage, ordinal, json!({"uid": uid, "resourceVersion": version, "annotations": annotations})).await
}

pub(crate) async fn delete_claim(stage: &Stage<'_>, ordinal: Ordinal, uid: &str, version: &str) -> Result<(), Fault> {
    let name = stage.desired.claim(ordinal);
    stage.namespace().delete::<PersistentVolumeClaim>(&name, fence(uid, version), None).await
}

pub(crate) async fn delete_pod(
    stage: &Stage<'_>,
    ordinal: Ordinal,
    uid: &str,
    version: &str,
    now: bool,
) -> Result<(), Fault> {
    let grace_s = now.then_some(0);
    stage.namespace().delete::<Pod>(&stage.desired.pod(ordinal), fence(uid, version), grace_s).await
}

async fn patch_claim(stage: &Stage<'_>, ordinal: Ordinal, metadata: Value) -> Result<(), Fault> {
    let patch = json!({"metadata": metadata});
    stage.namespace().patch::<PersistentVolumeClaim>(&stage.desired.claim(ordinal), &patch).await
}

fn fence(uid: &str, version: &str) -> Preconditions {
    Preconditions { uid: Some(uid.to_string()), resource_version: Some(version.to_string()) }
}

async fn create<K: Object>(stage: &mut Stage<'_>, wanted: &K) -> Result<(), Fault> {
    let what = what(wanted);
    held_back(stage, &what, wanted)?;
    let result = stage.namespace().create(wanted).await;
    remember(stage, &what, wanted, &result);
    result
}

async fn apply<K: Object>(stage: &mut Stage<'_>, wanted: &K) -> Result<(), Fault> {
    let live = own(stage, &wanted.name_any()).await?;
    send(stage, wanted, &resources::patch(wanted, &live)).await
}

async fn send<K: Object>(stage: &mut Stage<'_>, wanted: &K, patch: &Value) -> Result<(), Fault> {
    let what = what(wanted);
    held_back(stage, &what, wanted)?;
    let result = stage.namespace().patch::<K>(&wanted.name_any(), patch).await;
    remember(stage, &what, wanted, &result);
    result
}

/// Reads an object that the plan saw as ours.
async fn own<K: Object>(stage: &Stage<'_>, name: &str) -> Result<K, Fault> {
    let gone = || Fault::Conflict(format!("{} {name} is gone", K::kind(&())));
    let live = stage.namespace().read::<K>(name).await?.ok_or_else(gone)?;
    is_ours(stage, &live)?;
    Ok(live)
}

fn is_ours<K: Resource<DynamicType = ()>>(stage: &Stage<'_>, live: &K) -> Result<(), Fault> {
    let controller = live.owner_references().iter().find(|owner| owner.controller == Some(true));
    let ours = controller.is_some_and(|owner| owner.uid == stage.desired.uid);
    if ours && live.meta().deletion_timestamp.is_none() {
        return Ok(());
    }
    Err(Fault::Conflict(format!("{} is not this cluster's", what(live))))
}

fn held_back<K: Object>(stage: &Stage<'_>, what: &str, wanted: &K) -> Result<(), Fault> {
    match stage.refusals.of(what, wanted, Instant::now()) {
        Some(said) => Err(Fault::Refused(said.to_string())),
        None => Ok(()),
    }
}

fn remember<K: Object>(stage: &mut Stage<'_>, what: &str, wanted: &K, result: &Result<(), Fault>) {
    match result {
        Ok(()) => stage.refusals.clear(what),
        Err(Fault::Refused(said)) => stage.refusals.note(what, wanted, said, Instant::now()),
        Err(Fault::Conflict(_) | Fault::Failed(_)) => {}
    }
}

fn what<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), object.name_any())
}

/// 32 random bytes as hex digits, from the operating system's generator.
fn token() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

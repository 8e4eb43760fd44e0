//! The actions on objects of Kubernetes, one function each.
//!
//! An object of somebody else is never written (rule O14). An object is made by POST. It is changed only after a read
//! has shown that this cluster controls it, and by a patch for exactly the version that was read.

use crate::edge::operator::Pass;
use crate::edge::write::{Fault, Object};
use crate::plan::{Child, ClaimOwner, Ordinal, Seed};
use crate::resources;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::Preconditions;
use kube::{Resource, ResourceExt};
use raftkv_api::Hex128;
use raftkv_crds::{Bootstrap, annotation, label};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) async fn create_child(pass: &mut Pass<'_>, child: Child) -> Result<(), Fault> {
    match child {
        Child::Auth => {
            let secret = resources::auth_secret(pass.cluster, &token());
            pass.namespace().create(&secret).await
        }
        Child::Peers => create(pass, &resources::peers_service(pass.cluster)).await,
        Child::Client => create(pass, &resources::client_service(pass.cluster)).await,
        Child::Budget => Err(Fault::Failed("only SetBudget knows its number".to_string())),
    }
}

pub(crate) async fn apply_child(pass: &mut Pass<'_>, child: Child) -> Result<(), Fault> {
    match child {
        Child::Auth => Err(Fault::Failed("a token is made once".to_string())),
        Child::Peers => apply(pass, &resources::peers_service(pass.cluster)).await,
        Child::Client => apply(pass, &resources::client_service(pass.cluster)).await,
        Child::Budget => Err(Fault::Failed("only SetBudget knows its number".to_string())),
    }
}

pub(crate) async fn create_set(pass: &mut Pass<'_>, replicas: u32) -> Result<(), Fault> {
    let set = resources::stateful_set(pass.cluster, &pass.operator.settings, replicas);
    create(pass, &set).await
}

pub(crate) async fn apply_set(pass: &mut Pass<'_>, replicas: u32, resource_version: &str) -> Result<(), Fault> {
    let wanted = resources::stateful_set(pass.cluster, &pass.operator.settings, replicas);
    let live = own(pass, &pass.desired.name).await?;
    send(pass, &wanted, &resources::set_patch(&wanted, &live, resource_version)).await
}

pub(crate) async fn annotate_seed(pass: &Pass<'_>, seed: Seed, resource_version: &str) -> Result<(), Fault> {
    let mark = format!("{}/{}", seed.cluster_id, seed.incarnation);
    let patch =
        json!({"metadata": {"resourceVersion": resource_version, "annotations": {annotation::BOOTSTRAP: mark}}});
    pass.namespace().patch::<StatefulSet>(&pass.desired.name, &patch).await
}

pub(crate) async fn set_budget(pass: &mut Pass<'_>, min_available: u32) -> Result<(), Fault> {
    let wanted = resources::disruption_budget(pass.cluster, min_available);
    match pass.namespace().read(&wanted.name_any()).await? {
        None => create(pass, &wanted).await,
        Some(live) => {
            is_ours(pass, &live)?;
            send(pass, &wanted, &resources::patch(&wanted, &live)).await
        }
    }
}

pub(crate) async fn latch_seed(pass: &mut Pass<'_>, seed: Seed) -> Result<(), Fault> {
    let mut next = pass.cluster.clone();
    let bootstrap = Bootstrap { cluster_id: seed.cluster_id.to_string(), incarnation: seed.incarnation.to_string() };
    next.status.get_or_insert_default().bootstrap = Some(bootstrap);
    *pass.cluster = pass.namespace().put_status(&next).await?;
    Ok(())
}

pub(crate) async fn latch_formed(pass: &mut Pass<'_>, cluster_id: Hex128) -> Result<(), Fault> {
    let mut next = pass.cluster.clone();
    let status = next.status.get_or_insert_default();
    (status.cluster_id, status.bootstrapped) = (Some(cluster_id.to_string()), true);
    *pass.cluster = pass.namespace().put_status(&next).await?;
    Ok(())
}

pub(crate) async fn label_claim(pass: &Pass<'_>, ordinal: Ordinal, uid: &str, version: &str) -> Result<(), Fault> {
    let labels = json!({label::CLUSTER: pass.desired.name, label::CLUSTER_UID: pass.desired.uid});
    patch_claim(pass, ordinal, json!({"uid": uid, "resourceVersion": version, "labels": labels})).await
}

pub(crate) async fn annotate_claim(
    pass: &Pass<'_>,
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
    patch_claim(pass, ordinal, json!({"uid": uid, "resourceVersion": version, "annotations": annotations})).await
}

pub(crate) async fn delete_claim(pass: &Pass<'_>, ordinal: Ordinal, uid: &str, version: &str) -> Result<(), Fault> {
    let name = pass.desired.claim(ordinal);
    pass.namespace().delete::<PersistentVolumeClaim>(&name, fence(uid, version), None).await
}

pub(crate) async fn delete_pod(
    pass: &Pass<'_>,
    ordinal: Ordinal,
    uid: &str,
    version: &str,
    now: bool,
) -> Result<(), Fault> {
    let grace_s = now.then_some(0);
    pass.namespace().delete::<Pod>(&pass.desired.pod(ordinal), fence(uid, version), grace_s).await
}

async fn patch_claim(pass: &Pass<'_>, ordinal: Ordinal, metadata: Value) -> Result<(), Fault> {
    let patch = json!({"metadata": metadata});
    pass.namespace().patch::<PersistentVolumeClaim>(&pass.desired.claim(ordinal), &patch).await
}

fn fence(uid: &str, version: &str) -> Preconditions {
    Preconditions { uid: Some(uid.to_string()), resource_version: Some(version.to_string()) }
}

async fn create<K: Object>(pass: &mut Pass<'_>, wanted: &K) -> Result<(), Fault> {
    let what = what(wanted);
    held_back(pass, &what, wanted)?;
    let result = pass.namespace().create(wanted).await;
    remember(pass, &what, wanted, &result);
    result
}

async fn apply<K: Object>(pass: &mut Pass<'_>, wanted: &K) -> Result<(), Fault> {
    let live = own(pass, &wanted.name_any()).await?;
    send(pass, wanted, &resources::patch(wanted, &live)).await
}

async fn send<K: Object>(pass: &mut Pass<'_>, wanted: &K, patch: &Value) -> Result<(), Fault> {
    let what = what(wanted);
    held_back(pass, &what, wanted)?;
    let result = pass.namespace().patch::<K>(&wanted.name_any(), patch).await;
    remember(pass, &what, wanted, &result);
    result
}

/// Reads an object that the plan saw as this cluster's own.
async fn own<K: Object>(pass: &Pass<'_>, name: &str) -> Result<K, Fault> {
    let gone = || Fault::Conflict(format!("{} {name} is gone", K::kind(&())));
    let live = pass.namespace().read::<K>(name).await?.ok_or_else(gone)?;
    is_ours(pass, &live)?;
    Ok(live)
}

fn is_ours<K: Resource<DynamicType = ()>>(pass: &Pass<'_>, live: &K) -> Result<(), Fault> {
    let controller = live.owner_references().iter().find(|owner| owner.controller == Some(true));
    let ours = controller.is_some_and(|owner| owner.uid == pass.desired.uid);
    if ours && live.meta().deletion_timestamp.is_none() {
        return Ok(());
    }
    Err(Fault::Conflict(format!("{} is not this cluster's", what(live))))
}

fn held_back<K: Object>(pass: &Pass<'_>, what: &str, wanted: &K) -> Result<(), Fault> {
    match pass.refusals.of(what, wanted, Instant::now()) {
        Some(said) => Err(Fault::Refused(said.to_string())),
        None => Ok(()),
    }
}

fn remember<K: Object>(pass: &mut Pass<'_>, what: &str, wanted: &K, result: &Result<(), Fault>) {
    match result {
        Ok(()) => pass.refusals.clear(what),
        Err(Fault::Refused(said)) => pass.refusals.note(what, wanted, said, Instant::now()),
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

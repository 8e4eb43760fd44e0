//! The actions on objects of Kubernetes, one function each.
//!
//! An object of somebody else is never written (rule O14). An object is made by POST. It is changed only after a read
//! has shown that this cluster controls it, and by a patch for exactly the version that was read.

use crate::edge::admission;
use crate::edge::operator::Pass;
use crate::edge::write::{Evicted, Fault, Object};
use crate::observe::{Trouble, size_of, what};
use crate::plan::{Child, ClaimOwner, Ending, Ordinal, Seed};
use crate::resources::{self, Wanted};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::Preconditions;
use kube::{Resource, ResourceExt};
use raftkv_api::Hex128;
use raftkv_crds::{Bootstrap, annotation, child, label};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) async fn create_child(pass: &mut Pass<'_>, child: Child) -> Result<(), Fault> {
    let asked = &pass.asked.cluster;
    match child {
        Child::Auth => {
            let (secret, hash) = (resources::auth_secret(asked, &token()), resources::secret_wanted(asked).hash);
            admission::make(pass, &secret, &hash).await
        }
        Child::Peers => create(pass, &resources::peers_service(asked)).await,
        Child::Client => create(pass, &resources::client_service(asked)).await,
        Child::Budget => Err(Fault::Failed("only SetBudget knows its number".to_string())),
    }
}

pub(crate) async fn apply_child(pass: &mut Pass<'_>, child: Child) -> Result<(), Fault> {
    let asked = &pass.asked.cluster;
    match child {
        Child::Auth => take_back(pass).await,
        Child::Peers => apply(pass, &resources::peers_service(asked)).await,
        Child::Client => apply(pass, &resources::client_service(asked)).await,
        Child::Budget => Err(Fault::Failed("only SetBudget knows its number".to_string())),
    }
}

pub(crate) async fn create_set(pass: &mut Pass<'_>, replicas: u32) -> Result<(), Fault> {
    let set = resources::stateful_set(&pass.asked.cluster, &pass.operator.settings, replicas);
    create(pass, &set).await
}

/// While the newest spec cannot come into force, only the number of pods is written (rule O31).
pub(crate) async fn apply_set(pass: &mut Pass<'_>, replicas: u32, resource_version: &str) -> Result<(), Fault> {
    let live: StatefulSet = own(pass, &pass.desired.name).await?;
    if pass.asked.keeps {
        return resize(pass, replicas, &live, resource_version).await;
    }
    let object = resources::stateful_set(&pass.asked.cluster, &pass.operator.settings, replicas);
    let wanted = resources::set_wanted(&pass.asked.cluster, &pass.operator.settings);
    let patch = resources::set_patch(&object, &live, resource_version);
    if live.spec.replicas == object.spec.replicas {
        return admission::bring(pass, &live, &wanted, &patch).await;
    }
    let made: StatefulSet = admission::write(pass, &live, &wanted, &patch).await?;
    let what = what::<StatefulSet>(&pass.desired.name);
    admitted(pass, &what, &wanted.hash, replicas, &made)
}

async fn resize(pass: &mut Pass<'_>, replicas: u32, live: &StatefulSet, resource_version: &str) -> Result<(), Fault> {
    let (what, hash) = (size_of(&pass.desired.name), replicas.to_string());
    admission::held(pass, &what, &hash)?;
    let patch = resources::size_patch(replicas, live, resource_version);
    let made = pass.namespace().patch::<StatefulSet>(&pass.desired.name, &patch).await;
    admission::note(pass, &what, &hash, Trouble::Refused, &made);
    admitted(pass, &what, &hash, replicas, &made?)
}

/// A number of pods that admission changes is a write that failed: the next one would be changed as well.
fn admitted(pass: &mut Pass<'_>, what: &str, hash: &str, replicas: u32, made: &StatefulSet) -> Result<(), Fault> {
    let given = made.spec.replicas.unwrap_or_default();
    if i32::try_from(replicas) == Ok(given) {
        return Ok(());
    }
    let said = format!("admission makes {given} of spec.replicas {replicas}");
    pass.writes.fail(what, hash, Trouble::Failed, &said, Instant::now());
    Err(Fault::Failed(said))
}

pub(crate) async fn annotate_seed(pass: &Pass<'_>, seed: Seed, resource_version: &str) -> Result<(), Fault> {
    let mark = format!("{}/{}", seed.cluster_id, seed.incarnation);
    let patch =
        json!({"metadata": {"resourceVersion": resource_version, "annotations": {annotation::BOOTSTRAP: mark}}});
    pass.namespace().patch::<StatefulSet>(&pass.desired.name, &patch).await.map(drop)
}

pub(crate) async fn set_budget(pass: &mut Pass<'_>, min_available: u32) -> Result<(), Fault> {
    let budget = resources::disruption_budget(&pass.asked.cluster, min_available);
    match pass.namespace().read(&budget.name_any()).await? {
        None => create(pass, &budget).await,
        Some(live) => {
            is_ours(pass, &live)?;
            let patch = resources::budget_patch(&budget, &live);
            admission::bring(pass, &live, &resources::budget_wanted(&budget), &patch).await
        }
    }
}

/// Gives the Secret its owner and its labels again. The token in it is left as it is.
async fn take_back(pass: &mut Pass<'_>) -> Result<(), Fault> {
    let name = child::auth(&pass.desired.name);
    let gone = || Fault::Conflict(format!("Secret {name} is gone"));
    let live = pass.namespace().read::<Secret>(&name).await?.ok_or_else(gone)?;
    if live.metadata.deletion_timestamp.is_some() || !resources::is_lost(pass.cluster, &live) {
        is_ours(pass, &live)?;
    }
    let patch = resources::secret_patch(pass.cluster, &live);
    admission::bring(pass, &live, &resources::secret_wanted(pass.cluster), &patch).await
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
    pass: &mut Pass<'_>,
    ordinal: Ordinal,
    uid: &str,
    version: &str,
    how: Ending,
) -> Result<(), Fault> {
    let (name, fence) = (pass.desired.pod(ordinal), fence(uid, version));
    match how {
        Ending::Delete => pass.namespace().delete::<Pod>(&name, fence, None).await,
        Ending::Kill => pass.namespace().delete::<Pod>(&name, fence, Some(0)).await,
        Ending::Evict => match pass.namespace().evict(&name, fence).await? {
            Evicted::Gone => Ok(()),
            Evicted::Refused { by_budget, said } => {
                tracing::info!(pod = name, said, "its eviction was refused");
                pass.writes.refuse_eviction(uid, by_budget, Instant::now());
                Err(Fault::Left)
            }
        },
    }
}

async fn patch_claim(pass: &Pass<'_>, ordinal: Ordinal, metadata: Value) -> Result<(), Fault> {
    let patch = json!({"metadata": metadata});
    pass.namespace().patch::<PersistentVolumeClaim>(&pass.desired.claim(ordinal), &patch).await.map(drop)
}

fn fence(uid: &str, version: &str) -> Preconditions {
    Preconditions { uid: Some(uid.to_string()), resource_version: Some(version.to_string()) }
}

async fn create<K: Object>(pass: &mut Pass<'_>, object: &K) -> Result<(), Fault> {
    admission::make(pass, object, &Wanted::of(object).hash).await
}

async fn apply<K: Object>(pass: &mut Pass<'_>, object: &K) -> Result<(), Fault> {
    let live = own(pass, &object.name_any()).await?;
    admission::bring(pass, &live, &Wanted::of(object), &resources::patch(object, &live)).await
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
    Err(Fault::Conflict(format!("{} is not this cluster's", what::<K>(&live.name_any()))))
}

/// 32 random bytes as hex digits, from the operating system's generator.
fn token() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

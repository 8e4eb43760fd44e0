//! Writes to the API server, each with the fence that the plan saw; and what the failure of a write means.
//!
//! A write takes an object or a patch. It returns nothing, or a [`Fault`] that says whether the world had changed, the
//! object was refused, or something failed. Nothing is tried again here: the next pass looks at the world first.

use crate::edge::metrics::Metrics;
use crate::observe::said;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self as meta, DeleteOptions, ObjectMeta};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use raftkv_crds::{RaftKvCluster, label};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::timeout;

/// Time for one request. The API server's own limit is 60 s, but a pass does not wait that long.
const REQUEST_TIMEOUT_MS: u64 = 10_000;

/// The cause that the API server gives when it refuses a new object in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// How the API server begins to say who lacks which right. What admission denies has the same code.
const RIGHT_MISSING: &str = "is forbidden: User \"";

/// With this status the API server says that a disruption budget has no room.
const TOO_MANY_REQUESTS: u16 = 429;

/// Why a step was not taken, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The world is not what the plan saw. The write had no effect, and the next pass sees what is new.
    Conflict(String),
    /// The API server refused the object as invalid, or admission denied it.
    Refused(String),
    /// Nothing was tried: it was refused or failed lately.
    Held(String),
    /// Nothing was written: it is as it should be, or as admission wants it; or a pod could not be evicted.
    Left,
    /// Something is wrong.
    Failed(String),
}

/// What the API server made of a request to evict a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The pod is being deleted.
    Gone,
    /// It stays.
    Refused {
        /// Whether a disruption budget has no room at present.
        by_budget: bool,
        /// What was said.
        said: String,
    },
}

/// Objects in a namespace that this operator reads and writes.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

/// The namespace of one cluster.
#[derive(Clone, Copy)]
pub struct Namespace<'a> {
    /// The API server.
    pub client: &'a Client,
    /// Its name.
    pub name: &'a str,
    /// Where writes are counted.
    pub metrics: &'a Metrics,
}

impl Namespace<'_> {
    /// Reads an object, live.
    pub async fn read<K: Object>(&self, name: &str) -> Result<Option<K>, Fault> {
        within(self.api::<K>().get_opt(name)).await
    }

    /// Makes an object that is not there.
    pub async fn create<K: Object>(&self, object: &K) -> Result<(), Fault> {
        within(self.api::<K>().create(&post(), object)).await.map(|_: K| self.wrote::<K>("create"))
    }

    /// Changes an object. The patch carries the resourceVersion that it is for. Returns what was made of it.
    pub async fn patch<K: Object>(&self, name: &str, patch: &Value) -> Result<K, Fault> {
        let params = PatchParams { field_manager: post().field_manager, ..PatchParams::default() };
        let api = self.api::<K>();
        let made = within(api.patch(name, &params, &Patch::Merge(patch))).await?;
        self.wrote::<K>("patch");
        Ok(made)
    }

    /// Asks what a patch would make of an object. Nothing is written.
    pub async fn ask<K: Object>(&self, name: &str, patch: &Value) -> Result<K, Fault> {
        let params = PatchParams { dry_run: true, field_manager: post().field_manager, ..PatchParams::default() };
        within(self.api::<K>().patch(name, &params, &Patch::Merge(patch))).await
    }

    /// Deletes the object with this uid in this version, and no other.
    pub async fn delete<K: Object>(&self, name: &str, fence: Preconditions, grace_s: Option<u32>) -> Result<(), Fault> {
        let params =
            DeleteParams { grace_period_seconds: grace_s, preconditions: Some(fence), ..DeleteParams::default() };
        let api = self.api::<K>();
        within(api.delete(name, &params)).await.map(|_| self.wrote::<K>("delete"))
    }

    /// Asks for the eviction of the pod with this uid in this version.
    pub async fn evict(&self, name: &str, fence: Preconditions) -> Result<Evicted, Fault> {
        // `Api::evict` of kube 5 sends the fence in a field that no API server knows.
        let eviction = Eviction {
            metadata: ObjectMeta { name: Some(name.to_string()), ..ObjectMeta::default() },
            delete_options: Some(DeleteOptions {
                preconditions: Some(meta::Preconditions { uid: fence.uid, resource_version: fence.resource_version }),
                ..DeleteOptions::default()
            }),
        };
        let api = self.api::<Pod>();
        let request = async {
            match api.create_subresource::<_, Value>("eviction", name, &post(), &eviction).await {
                Err(kube::Error::Api(status)) if ![404, 409].contains(&status.code) => {
                    Ok(Evicted::Refused { by_budget: status.code == TOO_MANY_REQUESTS, said: status.message.clone() })
                }
                answer => answer.map(|_| Evicted::Gone),
            }
        };
        let evicted = within(request).await?;
        if evicted == Evicted::Gone {
            self.metrics.wrote("evict", "Pod");
        }
        Ok(evicted)
    }

    /// Writes the status, but only over the version that was read.
    pub async fn put_status(&self, cluster: &RaftKvCluster) -> Result<RaftKvCluster, Fault> {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let api = self.api::<RaftKvCluster>();
        let written = within(api.replace_status(name, &post(), cluster)).await?;
        self.wrote::<RaftKvCluster>("update_status");
        Ok(written)
    }

    fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), self.name)
    }

    fn wrote<K: Object>(&self, verb: &str) {
        self.metrics.wrote(verb, &K::kind(&()));
    }
}

/// The field manager's name shows in managedFields.
fn post() -> PostParams {
    PostParams { field_manager: Some(label::MANAGED_BY_VALUE.to_string()), ..PostParams::default() }
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
    match timeout(Duration::from_millis(REQUEST_TIMEOUT_MS), request).await {
        Ok(answer) => answer.map_err(|error| fault(&error)),
        Err(_elapsed) => Err(Fault::Failed(format!("the API server did not answer within {REQUEST_TIMEOUT_MS} ms"))),
    }
}

fn fault(error: &kube::Error) -> Fault {
    let kube::Error::Api(status) = error else { return Fault::Failed(said(error)) };
    match status.code {
        // 404: the object that the plan saw is gone, or the whole namespace is, and the cluster with it.
        404 | 409 => Fault::Conflict(status.message.clone()),
        422 => Fault::Refused(status.message.clone()),
        _ if is_namespace_going(error) => Fault::Conflict(status.message.clone()),
        // A right that is missing is given by a person, and is no fault of the object.
        400 | 403 if !status.message.contains(RIGHT_MISSING) => Fault::Refused(status.message.clone()),
        _ => Fault::Failed(said(error)),
    }
}

/// Whether the namespace is being deleted, and everything in it.
pub fn is_namespace_going(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == NAMESPACE_TERMINATING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16, reason: &str, cause: &str) -> kube::Error {
        let status = serde_json::json!({
            "status": "Failure", "message": "it said", "code": code, "reason": reason, "details": {"causes": [{"reason": cause}]},
        });
        let status: Status = serde_json::from_value(status).unwrap();
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn a_refusal_says_whether_the_world_moved_or_something_is_wrong() {
        let conflict = Fault::Conflict("it said".to_string());
        assert_eq!(fault(&api(409, "AlreadyExists", "")), conflict);
        assert_eq!(fault(&api(404, "NotFound", "")), conflict);
        assert_eq!(fault(&api(403, "Forbidden", NAMESPACE_TERMINATING)), conflict);
        assert_eq!(fault(&api(403, "Forbidden", "")), Fault::Refused("it said".to_string()));
        assert_eq!(fault(&api(400, "BadRequest", "")), Fault::Refused("it said".to_string()));
        let kube::Error::Api(mut status) = api(403, "Forbidden", "") else { panic!("it is of the API") };
        status.message = r#"services "demo" is forbidden: User "me" cannot patch resource "services""#.to_string();
        assert!(matches!(fault(&kube::Error::Api(status)), Fault::Failed(why) if why.ends_with("(403 Forbidden)")));
        assert_eq!(fault(&api(422, "Invalid", "FieldValueInvalid")), Fault::Refused("it said".to_string()));
        assert_eq!(fault(&api(500, "InternalError", "")), Fault::Failed("it said (500 InternalError)".to_string()));
    }
}

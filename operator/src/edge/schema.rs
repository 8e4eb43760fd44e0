//! Checks that the CustomResourceDefinition in this Kubernetes has the fields that this operator needs.
//!
//! An upgrade of the operator alone, by `helm upgrade` or `kubectl apply`, leaves an older definition behind. The API
//! server then drops unknown fields silently, and a latch that was written but is gone can cost data. A newer
//! definition is fine.

use crate::observe::said;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use kube::{Client, CustomResourceExt, Resource};
use raftkv_crds::RaftKvCluster;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long an older definition is looked at again: an upgrade may bring the operator before the definition.
const WAIT_MS: u64 = 30_000;
/// The pause between two looks.
const RETRY_MS: u64 = 2_000;
/// Time for one look.
const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// Most fields that an error names.
const NAMED_MAX: usize = 8;
/// The path where the API server describes the group to every authenticated user.
const OPENAPI: &str = "/openapi/v3/apis/raftkv.dev/v1alpha1";

/// The definition is not good enough.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// There is none.
    #[error("there is no CustomResourceDefinition {name}. {HOW_TO}")]
    Absent {
        /// Its name.
        name: String,
    },
    /// It lacks fields.
    #[error("the CustomResourceDefinition {name} is older than this operator: it lacks {}. {HOW_TO}", named(.fields))]
    Older {
        /// Its name.
        name: String,
        /// What it lacks.
        fields: Vec<String>,
    },
    /// It could not be read.
    #[error("cannot read the CustomResourceDefinition {name}: {why}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
}

const HOW_TO: &str = "Install it with `kubectl apply --server-side --force-conflicts -f crds/raftkvcluster.yaml`, or with `helm upgrade` and crds.enabled=true";

/// Returns once the definition has all fields that are needed. Fails if it stays older.
pub async fn check(client: &Client, cluster_reads: bool) -> Result<(), SchemaError> {
    let deadline = Instant::now() + Duration::from_millis(WAIT_MS);
    loop {
        let look = timeout(Duration::from_millis(REQUEST_TIMEOUT_MS), look(client, cluster_reads)).await;
        let error = match look.unwrap_or_else(|_elapsed| Err(unreadable("the API server did not answer in time"))) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(error) => error,
        };
        tracing::warn!(%error, "waiting for the custom resource definition");
        sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

async fn look(client: &Client, cluster_reads: bool) -> Result<(), SchemaError> {
    let ours = schema_of(&raftkv_crds::crd()).unwrap_or_default();
    let theirs = match cluster_reads {
        true => from_definition(client).await?,
        false => from_openapi(client).await?,
    };
    let fields = missing(&ours, &theirs);
    if fields.is_empty() { Ok(()) } else { Err(SchemaError::Older { name: name(), fields }) }
}

async fn from_definition(client: &Client) -> Result<Value, SchemaError> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    match definitions.get_opt(&name()).await {
        Ok(Some(definition)) => Ok(schema_of(&definition).unwrap_or_default()),
        Ok(None) => Err(SchemaError::Absent { name: name() }),
        // The rights may be fewer than the flag says.
        Err(kube::Error::Api(status)) if status.is_forbidden() => from_openapi(client).await,
        Err(error) => Err(unreadable(said(&error))),
    }
}

async fn from_openapi(client: &Client) -> Result<Value, SchemaError> {
    let request = hyper::Request::get(OPENAPI).body(vec![]).map_err(unreadable)?;
    let document: Value = match client.request(request).await {
        Ok(document) => document,
        Err(kube::Error::Api(status)) if status.is_not_found() => return Err(SchemaError::Absent { name: name() }),
        Err(error) => return Err(unreadable(said(&error))),
    };
    let is_ours = |schema: &&Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] == RaftKvCluster::kind(&()).as_ref()))
    };
    let schemas = document["components"]["schemas"].as_object();
    let ours = schemas.and_then(|schemas| schemas.values().find(is_ours));
    ours.cloned().ok_or_else(|| SchemaError::Absent { name: name() })
}

/// The schema of the version that this operator uses, if that version is served.
fn schema_of(definition: &CustomResourceDefinition) -> Option<Value> {
    let speaks = RaftKvCluster::version(&());
    let version = definition.spec.versions.iter().find(|version| version.name == speaks && version.served)?;
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    Some(serde_json::to_value(schema).expect("objects of the API are plain data"))
}

/// Fields of spec and status that `ours` has and `theirs` has not.
fn missing(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut fields = Vec::new();
    for part in ["spec", "status"] {
        compare(part, &ours["properties"][part], &theirs["properties"][part], &mut fields);
    }
    fields
}

fn compare(path: &str, ours: &Value, theirs: &Value, fields: &mut Vec<String>) {
    if theirs.is_null() {
        return fields.push(path.to_string());
    }
    if theirs["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        compare(&format!("{path}.{name}"), field, &theirs["properties"][name], fields);
    }
    if ours["items"].is_object() {
        compare(&format!("{path}[]"), &ours["items"], &theirs["items"], fields);
    }
}

fn named(fields: &[String]) -> String {
    let first = fields.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match fields.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn name() -> String {
    RaftKvCluster::crd_name().to_string()
}

fn unreadable(why: impl ToString) -> SchemaError {
    SchemaError::Unreadable { name: name(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::testing::{Script, failure};
    use serde_json::json;

    fn definition() -> Value {
        serde_json::to_value(raftkv_crds::crd()).unwrap()
    }

    /// Our definition without a field of the status and one of its lists.
    fn older() -> Value {
        let mut definition = definition();
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties";
        let status = definition.pointer_mut(&format!("{schema}/status/properties")).unwrap();
        status.as_object_mut().unwrap().remove("bootstrap");
        status["members"]["items"]["properties"].as_object_mut().unwrap().remove("caughtUp");
        definition
    }

    async fn looked(answers: Vec<(u16, Value)>, cluster_reads: bool) -> Result<(), SchemaError> {
        look(&Script::start(answers).await.client(), cluster_reads).await
    }

    #[tokio::test]
    async fn our_own_definition_is_good_and_so_is_a_newer_one() {
        assert_eq!(looked(vec![(200, definition())], true).await, Ok(()));
        let mut newer = definition();
        newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["new"] =
            json!({"type": "string"});
        assert_eq!(looked(vec![(200, newer)], true).await, Ok(()));
    }

    #[tokio::test]
    async fn an_older_one_is_refused_with_the_fields_that_it_lacks() {
        let error = looked(vec![(200, older())], true).await.unwrap_err();
        let SchemaError::Older { fields, .. } = &error else { panic!("{error}") };
        assert_eq!(fields, &["status.bootstrap", "status.members[].caughtUp"]);
        assert!(error.to_string().contains("it lacks status.bootstrap, status.members[].caughtUp. Install it with"));
    }

    #[tokio::test]
    async fn a_version_that_is_not_served_does_not_count() {
        let mut unserved = definition();
        unserved["spec"]["versions"][0]["served"] = json!(false);
        assert!(
            matches!(looked(vec![(200, unserved)], true).await, Err(SchemaError::Older { fields, .. }) if fields == ["spec", "status"])
        );
    }

    #[tokio::test]
    async fn without_the_right_to_read_it_the_api_server_still_describes_it() {
        let describe = |definition: Value| {
            let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": "raftkv.dev", "kind": "RaftKvCluster", "version": "v1alpha1"}]);
            let list = json!({"x-kubernetes-group-version-kind": [{"kind": "RaftKvClusterList"}]});
            (
                200,
                json!({"components": {"schemas": {"dev.raftkv.v1alpha1.RaftKvClusterList": list, "dev.raftkv.v1alpha1.RaftKvCluster": schema}}}),
            )
        };
        assert_eq!(looked(vec![describe(definition())], false).await, Ok(()));
        assert!(matches!(looked(vec![describe(older())], false).await, Err(SchemaError::Older { .. })));
        let forbidden = failure(403, "Forbidden", "no");
        assert_eq!(looked(vec![forbidden, describe(definition())], true).await, Ok(()));
    }

    #[tokio::test]
    async fn no_definition_is_said_to_be_none() {
        for cluster_reads in [true, false] {
            let error = looked(vec![failure(404, "NotFound", "no")], cluster_reads).await.unwrap_err();
            assert_eq!(error, SchemaError::Absent { name: "raftkvclusters.raftkv.dev".to_string() });
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let fields: Vec<String> = (0..10).map(|n| format!("spec.f{n}")).collect();
        assert!(named(&fields).ends_with("spec.f7 and 2 more"));
    }
}

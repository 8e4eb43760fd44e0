//! The CustomResourceDefinition that kube derives from the types, completed by what cannot be derived.

use crate::spec::RaftKvCluster;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// Head of the generated file.
const HEAD: &str = "# Generated from crds/src by `make fix`. Do not edit.\n";

/// The CustomResourceDefinition.
pub fn crd() -> CustomResourceDefinition {
    let mut json = serde_json::to_value(RaftKvCluster::crd()).expect("the types of Kubernetes always serialize");
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    forbid_null(json.pointer_mut(schema).expect("a derived CRD has a schema"));
    serde_json::from_value(json).expect("what was serialized parses")
}

/// The CustomResourceDefinition as the YAML that `kubectl apply` takes.
pub fn crd_yaml() -> String {
    let yaml = serde_yaml::to_string(&crd()).expect("the types of Kubernetes always serialize");
    format!("{HEAD}{yaml}")
}

/// The API server drops a null where null is not allowed, and puts the default in its place. Where null is allowed, it
/// stays, and would pass rules that compare fields (rule O19).
fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("nullable");
            fields.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        let crd = serde_json::to_value(crd()).unwrap();
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
    }

    /// Calls `check` with every schema of the spec and its path.
    fn each(schema: &Value, path: &str, check: &mut dyn FnMut(&str, &Value)) {
        check(path, schema);
        if let Some(properties) = schema["properties"].as_object() {
            properties.iter().for_each(|(name, field)| each(field, &format!("{path}.{name}"), check));
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                each(&schema[inner], &format!("{path}[]"), check);
            }
        }
    }

    #[test]
    fn every_field_is_described() {
        let mut bare = Vec::new();
        let schema = schema();
        for part in ["spec", "status"] {
            let Some(fields) = schema["properties"][part]["properties"].as_object() else {
                panic!("{part} has no fields")
            };
            for (name, field) in fields {
                each(field, &format!("{part}.{name}"), &mut |path, field| {
                    if !path.ends_with("[]") && field["description"].as_str().is_none_or(str::is_empty) {
                        bare.push(path.to_string());
                    }
                });
            }
        }
        assert_eq!(bare, Vec::<String>::new());
    }

    #[test]
    fn what_a_user_writes_is_bounded() {
        let mut unbounded = Vec::new();
        each(&schema()["properties"]["spec"], "spec", &mut |path, field| {
            let bound = match field["type"].as_str() {
                Some("array") => field["maxItems"].is_u64(),
                Some("object") if field["additionalProperties"].is_object() => field["maxProperties"].is_u64(),
                // The API server itself limits what it knows: labels, annotations and tolerations are checked with the
                // pod.
                Some("string") => {
                    field["maxLength"].is_u64()
                        || field["enum"].is_array()
                        || path.contains("tolerations")
                        || path.ends_with("[]")
                }
                _ => true,
            };
            if !bound {
                unbounded.push(path.to_string());
            }
        });
        assert_eq!(unbounded, Vec::<String>::new());
    }

    #[test]
    fn null_is_nowhere_allowed() {
        assert!(!serde_json::to_string(&schema()).unwrap().contains("nullable"));
    }

    #[test]
    fn defaults_reach_the_api_server() {
        let spec = &schema()["properties"]["spec"]["properties"];
        assert_eq!(spec["replicas"]["default"], 3);
        assert_eq!(spec["storage"]["default"]["size"], "10Gi");
        assert_eq!(spec["storage"]["properties"]["size"]["default"], "10Gi");
        assert_eq!(spec["suspend"]["default"], false);
        assert_eq!(spec["topology"]["default"]["spread"], "Preferred");
    }

    #[test]
    fn the_committed_file_is_the_generated_one() {
        let committed = include_str!("../raftkvcluster.yaml");
        assert_eq!(committed, crd_yaml(), "run `make fix`");
    }
}

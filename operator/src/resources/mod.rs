//! The children of a cluster as they should be. From the `RaftKvCluster` and the way the operator was installed come
//! the objects, and whether a live object differs from them. PURE.
//!
//! # How they are written
//! A child is made by POST and changed by a JSON merge patch, [`patch`], which carries uid and resourceVersion.
//! Server-side apply does not work here: fields that the POST wrote belong to an `Update` of our field manager for
//! ever, so that an `Apply` that leaves one out does not remove it (a `nodeSelector` that a user takes out of the spec
//! would stay). Each child but the Secret carries a hash of everything that we set ([`APPLIED`]), so that a field that we
//! stopped setting is noticed, and so that one write for each hash is enough (rule O32).

mod asked;
mod budget;
mod compare;
mod desired;
mod in_force;
mod invalid;
mod patch;
mod pod;
mod secret;
mod services;
mod shared;
mod stateful_set;
#[cfg(test)]
mod tests;
mod wanted;

pub use asked::Asked;
pub use budget::{budget_patch, budget_wanted, disruption_budget};
pub use desired::desired;
pub use in_force::InForce;
pub use patch::patch;
pub use secret::{auth_secret, is_lost, secret_patch, secret_wanted, tokens_of};
pub use services::{client_service, peers_service};
pub use shared::{ADMIN_PORT, CLIENT_PORT, CONTAINER, PEER_PORT, Settings, name, namespace, peer_domain};
pub use stateful_set::{pod_selector, set_patch, set_wanted, size_patch, stateful_set};
pub use wanted::{APPLIED, Wanted};

#[cfg(test)]
pub(crate) mod testing {
    //! A cluster as the API server gives it, an installation, and golden files.
    use super::Settings;
    use raftkv_crds::{PullPolicy, RaftKvCluster};
    use serde_json::{Value, json};
    use std::path::Path;

    /// The cluster `demo` in `team`, with this spec.
    pub(crate) fn cluster(spec: Value) -> RaftKvCluster {
        let object = json!({
            "apiVersion": "raftkv.dev/v1alpha1", "kind": "RaftKvCluster",
            "metadata": {"name": "demo", "namespace": "team", "uid": "11111111-2222-3333-4444-555555555555", "generation": 3},
            "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    /// The settings with which the chart installs the operator.
    pub(crate) fn settings() -> Settings {
        Settings {
            node_image: "raftkv.local/raftkv:dev".to_string(),
            node_image_pull_policy: PullPolicy::IfNotPresent,
            cluster_domain: "cluster.local".to_string(),
            cluster_reads: true,
        }
    }

    /// Merges a patch into an object (RFC 7386).
    pub(crate) fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else { return *target = patch.clone() };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, value) in patch {
            match value {
                Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
                value => merge(&mut target[key], value),
            }
        }
    }

    /// Compares with a file below `golden/`; UPDATE_GOLDENFILES=1 writes it.
    pub(crate) fn golden(file: &str, head: &str, value: &impl serde::Serialize) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
        let text = format!("{head}{}", serde_yaml::to_string(value).unwrap());
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, expected, "{} differs: look at it, then UPDATE_GOLDENFILES=1", path.display());
    }
}

//! The Secret with the cluster's bearer token (rule O5). PURE: the caller draws the token.
//!
//! The token is made once. A person who changes it is rotating it, and is left to do so: only the metadata is compared.

use super::shared::{metadata, name};
use super::wanted::Wanted;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use raftkv_client::Token;
use raftkv_crds::{RaftKvCluster, child, label};
use serde_json::{Value, json};

/// `token` is 64 hex digits.
pub fn auth_secret(cluster: &RaftKvCluster, token: &str) -> Secret {
    Secret {
        metadata: secret_metadata(cluster),
        type_: Some("Opaque".to_string()),
        data: Some([(child::TOKEN_KEY.to_string(), ByteString(format!("{token}\n").into_bytes()))].into()),
        ..Secret::default()
    }
}

/// It says in a label whose it is, so that it can be known again without its owner.
fn secret_metadata(cluster: &RaftKvCluster) -> ObjectMeta {
    let mut metadata = metadata(cluster, &child::auth(name(cluster)));
    let uid = cluster.metadata.uid.clone().unwrap_or_default();
    metadata.labels.get_or_insert_default().insert(label::CLUSTER_UID.to_string(), uid);
    metadata
}

/// Whether a Secret is this cluster's and lost its owner: tools that copy objects leave the owner out. Nobody controls
/// it, and it has our two labels (rule O14).
pub fn is_lost(cluster: &RaftKvCluster, live: &Secret) -> bool {
    let has = |key: &str, value: Option<&str>| {
        let found = live.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        value.is_some() && found.map(String::as_str) == value
    };
    let is_controlled = live.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    !is_controlled
        && has(label::CLUSTER_UID, cluster.metadata.uid.as_deref().filter(|uid| !uid.is_empty()))
        && has(label::MANAGED_BY, Some(label::MANAGED_BY_VALUE))
}

/// Its owner and its labels. Their hash is not kept in it, since nothing else of it ever changes.
pub fn secret_wanted(cluster: &RaftKvCluster) -> Wanted {
    Wanted::unmarked(json!({"metadata": secret_metadata(cluster)}))
}

/// The merge patch that gives it its owner and its labels, for exactly the version that was read. Other owners stay.
pub fn secret_patch(cluster: &RaftKvCluster, live: &Secret) -> Value {
    let ours = secret_metadata(cluster);
    let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| Some(&owner.uid) != cluster.metadata.uid.as_ref());
    owners.extend(ours.owner_references.unwrap_or_default());
    json!({"metadata": {
        "uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version,
        "labels": ours.labels, "ownerReferences": owners,
    }})
}

/// The tokens in the Secret. The first one is sent; a node takes each of them once it has read the file (rule O5). If the
/// first line is no token, there are none: the nodes would not start with it.
pub fn tokens_of(secret: &Secret) -> Vec<Token> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(child::TOKEN_KEY)).map(|bytes| bytes.0.as_slice());
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Vec<Option<Token>> = lines.map(|line| line.parse().ok()).collect();
    match tokens.first() {
        Some(Some(_)) => tokens.into_iter().flatten().collect(),
        Some(None) | None => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::cluster;
    use super::*;
    use serde_json::json;

    #[test]
    fn rule_o14_a_secret_that_lost_its_owner_is_known_by_two_labels() {
        let cluster = cluster(json!({}));
        let whole = auth_secret(&cluster, &"ab".repeat(32));
        assert!(!is_lost(&cluster, &whole) && secret_wanted(&cluster).is_met(&whole), "it has its owner");
        let mut lost = whole.clone();
        lost.metadata.owner_references = None;
        (lost.metadata.uid, lost.metadata.resource_version) = (Some("u".to_string()), Some("7".to_string()));
        assert!(is_lost(&cluster, &lost) && !secret_wanted(&cluster).is_met(&lost));
        for key in ["raftkv.dev/cluster-uid", "app.kubernetes.io/managed-by"] {
            let mut without = lost.clone();
            without.metadata.labels.as_mut().unwrap().remove(key);
            assert!(!is_lost(&cluster, &without), "{key}");
            without.metadata.labels.as_mut().unwrap().insert(key.to_string(), "another".to_string());
            assert!(!is_lost(&cluster, &without), "{key}");
        }
        let mut controlled = lost.clone();
        let mut other = whole.metadata.owner_references.clone().unwrap();
        other[0].uid = "another".to_string();
        controlled.metadata.owner_references = Some(other.clone());
        assert!(!is_lost(&cluster, &controlled));
        other[0].controller = None;
        lost.metadata.owner_references = Some(other);
        assert!(is_lost(&cluster, &lost));
        let patch = secret_patch(&cluster, &lost);
        assert_eq!((&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]), (&json!("u"), &json!("7")));
        let owners = patch["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!(owners.iter().map(|owner| &owner["controller"]).collect::<Vec<_>>(), [&Value::Null, &json!(true)]);
        assert_eq!(patch.get("data"), None, "the token is left as it is");
    }

    #[test]
    fn the_tokens_are_read_back_and_nothing_else_is_one() {
        let token = "ab".repeat(32);
        let mut secret = auth_secret(&cluster(json!({})), &token);
        assert_eq!(secret.metadata.name.as_deref(), Some("demo-auth"));
        let parsed = |tokens: &[&String]| tokens.iter().map(|token| token.parse().unwrap()).collect::<Vec<Token>>();
        assert_eq!(tokens_of(&secret), parsed(&[&token]));
        let next = "cd".repeat(32);
        for (text, read) in [
            (format!("\n{next}\n{token}\n"), parsed(&[&next, &token])),
            (format!("{next}\nshort\n{token}"), parsed(&[&next, &token])),
            (format!("short\n{token}"), vec![]),
            ("".into(), vec![]),
        ] {
            secret.data = Some([("token".to_string(), ByteString(text.into_bytes()))].into());
            assert_eq!(tokens_of(&secret), read);
        }
        secret.data = None;
        assert_eq!(tokens_of(&secret), vec![]);
    }
}

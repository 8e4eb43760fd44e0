//! What every command looks up first: which cluster it is about, its pods, and its token.

use crate::kube::cluster::Cluster;
use crate::kube::failed::KubeFailed;
use crate::kube::kubectl::{Kubectl, KubectlError, Obstacle};
use crate::kube::objects::{List, Pod, Secret, is_pod_of, selector_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use raftkv_client::Token;
use raftkv_crds::{CLUSTERS, child};

/// What kubectl uses where the context names no namespace.
const NAMESPACE_DEFAULT: &str = "default";

/// The cluster of this name, or the only one of the namespace.
pub(crate) async fn cluster(kubectl: &Kubectl, name: Option<&str>) -> Result<Cluster, KubeFailed> {
    if let Some(name) = name {
        return match kubectl.json(&["get", CLUSTERS, name]).await {
            Ok(cluster) => Ok(cluster),
            Err(error) if error.obstacle == Obstacle::NotFound => Err(none(kubectl, Some(name)).await),
            Err(error) => Err(error.into()),
        };
    }
    let mut clusters = kubectl.json::<List<Cluster>>(&["get", CLUSTERS]).await?.items;
    match (clusters.pop(), clusters.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(none(kubectl, None).await),
        (Some(last), false) => {
            let namespace = last.metadata.namespace.clone();
            let names = clusters.into_iter().chain([last]).map(|cluster| cluster.metadata.name).collect();
            Err(KubeFailed::Several { namespace, names })
        }
    }
}

/// Says where clusters are, if the user may see that.
async fn none(kubectl: &Kubectl, name: Option<&str>) -> KubeFailed {
    let everywhere = ["get", CLUSTERS, "--all-namespaces"];
    let jsonpath = ["config", "view", "--minify", "--output", "jsonpath={..namespace}"];
    let (clusters, namespace) = tokio::join!(kubectl.json::<List<Cluster>>(&everywhere), kubectl.run(&jsonpath));
    let full = |cluster: &Cluster| format!("{}/{}", cluster.metadata.namespace, cluster.metadata.name);
    let others = clusters.map(|list| list.items.iter().map(full).collect()).unwrap_or_default();
    let told = kubectl.namespace().or_else(|| String::from_utf8(namespace.ok()?).ok());
    let namespace = told.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| NAMESPACE_DEFAULT.to_string());
    KubeFailed::NoCluster { name: name.map(str::to_string), namespace, others }
}

/// The pods of the cluster, by the place in their StatefulSet.
pub(crate) async fn pods(kubectl: &Kubectl, cluster: &str) -> Result<Vec<Pod>, KubectlError> {
    let selector = selector_of(cluster);
    let mut pods = kubectl.json::<List<Pod>>(&["get", "pods", "--selector", &selector]).await?.items;
    // A load generator, say, may carry the label too.
    pods.retain(|pod| is_pod_of(&pod.metadata.name, cluster));
    Ok(pods)
}

/// The token of the cluster.
pub(crate) async fn token(kubectl: &Kubectl, cluster: &str) -> Result<Token, KubeFailed> {
    let text = token_text(kubectl, cluster).await?;
    text.parse().map_err(|error| KubeFailed::Token {
        secret: child::auth(cluster),
        why: format!("{}: {error}", child::TOKEN_KEY),
    })
}

/// The token file of the cluster: one token a line, more than one while it is being changed.
pub(crate) async fn token_text(kubectl: &Kubectl, cluster: &str) -> Result<String, KubeFailed> {
    let name = child::auth(cluster);
    let secret: Secret = kubectl.json(&["get", "secret", &name]).await?;
    let bad = |why: &str| KubeFailed::Token { secret: name.clone(), why: why.to_string() };
    let coded = secret.data.get(child::TOKEN_KEY).ok_or_else(|| bad("it has no key 'token'"))?;
    let bytes = STANDARD.decode(coded).map_err(|_| bad("its key 'token' is not base64"))?;
    String::from_utf8(bytes).map_err(|_| bad("its key 'token' is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::testing::FakeKubectl;
    use serde_json::json;

    fn clusters(names: &[(&str, &str)]) -> String {
        let item = |(namespace, name): &(&str, &str)| json!({"metadata": {"namespace": namespace, "name": name}});
        json!({"items": names.iter().map(item).collect::<Vec<_>>()}).to_string()
    }

    #[tokio::test]
    async fn the_only_cluster_needs_no_name() {
        let fake = FakeKubectl::new();
        fake.answer("get raftkvclusters.raftkv.dev", &clusters(&[("prod", "demo")]));
        assert_eq!(cluster(&fake.kubectl(), None).await.unwrap().metadata.name, "demo");
    }

    #[tokio::test]
    async fn of_several_one_must_be_named() {
        let fake = FakeKubectl::new();
        fake.answer("get raftkvclusters.raftkv.dev", &clusters(&[("prod", "a"), ("prod", "b")]));
        let error = cluster(&fake.kubectl(), None).await.unwrap_err();
        assert_eq!(error.to_string(), "namespace prod has 2 clusters: a, b");
    }

    #[tokio::test]
    async fn where_there_is_none_the_others_are_named() {
        let fake = FakeKubectl::new();
        fake.answer("get raftkvclusters.raftkv.dev", &clusters(&[]));
        fake.answer("get raftkvclusters.raftkv.dev --all-namespaces", &clusters(&[("prod", "demo")]));
        fake.answer("config view", "dev");
        let error = cluster(&fake.kubectl(), None).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no RaftKvCluster in namespace dev; there are prod/demo");
        let error = cluster(&fake.kubectl(), Some("x")).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no RaftKvCluster 'x' in namespace dev; there are prod/demo");
    }

    #[tokio::test]
    async fn the_first_token_of_the_secret_is_used() {
        let fake = FakeKubectl::new();
        let secret = |token: &str| json!({"data": {"token": STANDARD.encode(token)}}).to_string();
        fake.answer("get secret demo-auth", &secret(&format!("{}\n", "ab".repeat(32))));
        assert!(token(&fake.kubectl(), "demo").await.is_ok());
        fake.answer("get secret demo-auth", &secret("short"));
        let error = token(&fake.kubectl(), "demo").await.err().unwrap();
        assert_eq!(error.to_string(), "Secret demo-auth: token: the first line is not 64 hex digits in lower case");
    }
}

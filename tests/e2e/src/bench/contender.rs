//! The operators that are measured: each is asked as its users ask it, and judged by its own status.

use crate::harness::volumes::CLASS;
use crate::harness::wait::holds;
use crate::harness::{Scene, Site, operator};
use anyhow::{Context, Result, anyhow};
use raftkv_crds::child;
use serde_json::{Value, json};

/// The API path of etcd-operator's objects.
const ETCD_API: &str = "/apis/operator.etcd.io/v1alpha1";

/// An operator of clusters.
pub trait Contender {
    /// The title of its column.
    fn title(&self) -> &'static str;
    /// A short name for namespaces.
    fn slug(&self) -> &'static str;
    /// The name of its process, as the kernel has it.
    fn process(&self) -> &'static str;
    /// Its service account, as `namespace:name`.
    fn account(&self) -> String;
    /// Asks for a cluster.
    fn apply(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()>;
    /// Asks for another size.
    fn scale(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()>;
    /// Whether this many pods are ready, and this many members are known, none of which is a learner.
    fn is_ready(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()>;
    /// The id of the member with this ordinal.
    fn member(&self, scene: &Scene<'_>, name: &str, ordinal: u32) -> Result<String>;
    /// The claim of the member with this ordinal.
    fn claim(&self, name: &str, ordinal: u32) -> String;
}

/// Our operator.
pub struct Raftkv;

impl Contender for Raftkv {
    fn title(&self) -> &'static str {
        "raftkv-operator"
    }

    fn slug(&self) -> &'static str {
        "raftkv"
    }

    fn process(&self) -> &'static str {
        "raftkv-operator"
    }

    fn account(&self) -> String {
        operator::account()
    }

    fn apply(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()> {
        let requests = json!({"cpu": "10m", "memory": "32Mi"});
        scene.cluster(name).apply_with(replicas, json!({"resources": {"requests": requests}}))
    }

    fn scale(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()> {
        scene.cluster(name).scale(replicas)
    }

    fn is_ready(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()> {
        scene.cluster(name).is_ready(replicas)
    }

    fn member(&self, scene: &Scene<'_>, name: &str, ordinal: u32) -> Result<String> {
        let cluster = scene.cluster(name);
        let pod = cluster.pod_name(ordinal);
        cluster.member_ids()?.remove(&pod).with_context(|| format!("{pod} is no member"))
    }

    fn claim(&self, name: &str, ordinal: u32) -> String {
        child::claim(name, ordinal)
    }
}

/// etcd-io/etcd-operator, with an image of etcd that the machines have.
pub struct Etcd {
    registry: String,
    version: String,
}

impl Etcd {
    /// The etcd-operator in this Kubernetes cluster, if there is one.
    pub fn find(site: &Site) -> Result<Option<Etcd>> {
        let crd = ["get", "crd", "etcdclusters.operator.etcd.io", "--ignore-not-found", "-o", "name"];
        if site.kubectl(&crd)?.trim().is_empty() {
            return Ok(None);
        }
        let image = std::env::var("ETCD_IMAGE").unwrap_or_default();
        let parts = image.rsplit_once(':');
        let (registry, version) = parts.with_context(|| {
            format!("ETCD_IMAGE is '{image}': name an image of etcd that the machines have, repository:tag")
        })?;
        Ok(Some(Etcd { registry: registry.to_string(), version: version.to_string() }))
    }

    fn get(&self, scene: &Scene<'_>, name: &str) -> Result<Value> {
        let path = format!("{ETCD_API}/namespaces/{}/etcdclusters/{name}", scene.namespace);
        Ok(serde_json::from_str(&scene.site.api().raw(&path, None)?)?)
    }
}

impl Contender for Etcd {
    fn title(&self) -> &'static str {
        "etcd-operator"
    }

    fn slug(&self) -> &'static str {
        "etcd"
    }

    fn process(&self) -> &'static str {
        "manager"
    }

    fn account(&self) -> String {
        "etcd-operator-system:etcd-operator-controller-manager".to_string()
    }

    fn apply(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()> {
        let cluster = json!({
            "apiVersion": "operator.etcd.io/v1alpha1",
            "kind": "EtcdCluster",
            "metadata": {"name": name, "namespace": scene.namespace},
            "spec": {
                "size": replicas,
                "imageRegistry": self.registry,
                "version": self.version,
                "storageSpec": {"storageClassName": CLASS, "volumeSizeRequest": "1Gi"},
            },
        });
        scene.say(format!("kubectl apply: EtcdCluster {name} with {replicas} members"));
        scene.kubectl_with(&["apply", "-f", "-"], &cluster.to_string())?;
        Ok(())
    }

    fn scale(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()> {
        scene.say(format!("kubectl patch: EtcdCluster {name} to {replicas} members"));
        let patch = json!({"spec": {"size": replicas}}).to_string();
        scene.kubectl(&["patch", "etcdcluster", name, "--type=merge", "-p", &patch])?;
        Ok(())
    }

    fn is_ready(&self, scene: &Scene<'_>, name: &str, replicas: u32) -> Result<()> {
        let cluster = self.get(scene, name)?;
        let status = &cluster["status"];
        let counts = ["readyReplicas", "currentReplicas", "memberCount"].map(|count| status[count].as_u64());
        let learners = status["members"].as_array().into_iter().flatten().any(|member| member["isLearner"] == true);
        let seen = status["observedGeneration"] == cluster["metadata"]["generation"];
        let is = seen && counts == [Some(replicas.into()); 3] && !learners;
        holds(is, || format!("ready, pods, members: {counts:?}; learners: {learners}"))
    }

    fn member(&self, scene: &Scene<'_>, name: &str, ordinal: u32) -> Result<String> {
        let cluster = self.get(scene, name)?;
        let named = format!("{name}-{ordinal}");
        let members = cluster["status"]["members"].as_array().cloned().unwrap_or_default();
        let member = members.into_iter().find(|member| member["name"] == named.as_str());
        let id = member.and_then(|member| member["id"].as_str().map(String::from));
        id.ok_or_else(|| anyhow!("{named} is no member"))
    }

    fn claim(&self, name: &str, ordinal: u32) -> String {
        format!("etcd-data-{name}-{ordinal}")
    }
}

//! A `RaftKvCluster` in a scene: what a user does with it, and what can be seen of it.

use crate::harness::api::Kind;
use crate::harness::objects::{Claim, Pod, items, text};
use crate::harness::scene::{STEP_MAX, Scene};
use crate::harness::volumes;
use crate::harness::wait::holds;
use anyhow::{Context, Result, anyhow, ensure};
use raftkv_api::{Members, Status};
use raftkv_crds::{ConditionType, RaftKvCluster, RaftKvClusterStatus, Reason, child, label};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The container's name in a pod.
const CONTAINER: &str = "raftkv";

/// A cluster, which may not exist.
#[derive(Clone)]
pub struct Cluster<'a> {
    /// The scene that it is in.
    pub scene: &'a Scene<'a>,
    /// Its name.
    pub name: String,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(scene: &'a Scene<'a>, name: &str) -> Self {
        Cluster { scene, name: name.to_string() }
    }

    // Actions of a user.

    /// Applies it with this many replicas, small in everything else.
    pub fn apply(&self, replicas: u32) -> Result<()> {
        self.apply_with(replicas, json!({}))
    }

    /// The same with additional fields of the spec.
    pub fn apply_with(&self, replicas: u32, more: Value) -> Result<()> {
        self.scene.say(format!("kubectl apply: {} with {replicas} replicas", self.name));
        self.scene.kubectl_with(&["apply", "-f", "-"], &self.manifest(replicas, more).to_string())?;
        Ok(())
    }

    /// The manifest that [`Cluster::apply_with`] applies.
    pub fn manifest(&self, replicas: u32, more: Value) -> Value {
        let storage = match self.scene.site.is_ours() {
            true => json!({"size": "1Gi", "storageClassName": volumes::CLASS}),
            false => json!({"size": "1Gi"}),
        };
        let mut spec = json!({
            "replicas": replicas,
            "storage": storage,
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        json!({
            "apiVersion": "raftkv.dev/v1alpha1",
            "kind": "RaftKvCluster",
            "metadata": {"name": self.name, "namespace": self.scene.namespace},
            "spec": spec,
        })
    }

    /// `kubectl scale`.
    pub fn scale(&self, replicas: u32) -> Result<()> {
        self.scene.say(format!("kubectl scale rkv {} --replicas={replicas}", self.name));
        self.scene.kubectl(&["scale", "rkv", &self.name, &format!("--replicas={replicas}")])?;
        Ok(())
    }

    /// Changes fields of the spec.
    pub fn edit(&self, spec: Value) -> Result<()> {
        self.scene.say(format!("kubectl patch rkv {}: {spec}", self.name));
        let patch = json!({"spec": spec}).to_string();
        self.scene.kubectl(&["patch", "rkv", &self.name, "--type=merge", "-p", &patch])?;
        Ok(())
    }

    /// Deletes it and waits until its pods are gone; the volumes stay.
    pub fn delete(&self) -> Result<()> {
        self.scene.say(format!("kubectl delete rkv {}", self.name));
        self.scene.kubectl(&["delete", "rkv", &self.name, "--wait=false"])?;
        self.scene.wait("the pods to go with their cluster", || {
            let pods = self.pods()?;
            holds(pods.is_empty(), || format!("{} are left", pods.len()))
        })
    }

    /// Deletes a pod.
    pub fn delete_pod(&self, pod: &str) -> Result<()> {
        self.scene.say(format!("kubectl delete pod {pod}"));
        self.scene.kubectl(&["delete", "pod", pod, "--wait=false"])?;
        Ok(())
    }

    /// Deletes a pod together with its volume.
    pub fn delete_pod_and_claim(&self, ordinal: u32) -> Result<()> {
        let (pod, claim) = (self.pod_name(ordinal), self.claim_name(ordinal));
        self.scene.say(format!("kubectl delete pvc/{claim} pod/{pod}"));
        // The claim first: it stays until its pod has gone, and the pod's successor gets a new one.
        self.scene.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
        self.scene.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
        Ok(())
    }

    /// Gives a pod an image that does not exist, or its own again: the container ends, the pod and its volume stay.
    pub fn set_pod_image(&self, pod: &str, image: &str) -> Result<()> {
        self.scene.say(format!("kubectl set image pod/{pod} {image}"));
        self.scene.kubectl(&["set", "image", &format!("pod/{pod}"), &format!("{CONTAINER}={image}")])?;
        Ok(())
    }

    // Observations.

    /// The custom resource.
    pub fn get(&self) -> Result<RaftKvCluster> {
        self.scene.object(Kind::Cluster, &self.name)
    }

    /// What the operator reports of it.
    pub fn status(&self) -> Result<RaftKvClusterStatus> {
        Ok(self.get()?.status.unwrap_or_default())
    }

    /// Its pods, by name.
    pub fn pods(&self) -> Result<BTreeMap<String, Pod>> {
        let pods = items(&self.scene.list(Kind::Pod, Some(&self.label()))?, Pod::read);
        Ok(pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect())
    }

    /// One of its pods.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.pods()?.remove(name).with_context(|| format!("there is no pod {name}"))
    }

    /// The volume claims with its names, by name, whoever made them.
    pub fn claims(&self) -> Result<BTreeMap<String, Claim>> {
        let all = self.scene.list(Kind::Claim, None)?;
        let ours = items(&all, Claim::read).into_iter();
        let ours = ours.filter(|claim| child::ordinal(&claim.name, &self.name).is_some());
        Ok(ours.map(|claim| (claim.name.clone(), claim)).collect())
    }

    fn label(&self) -> String {
        format!("{}={}", label::CLUSTER, self.name)
    }

    /// The pod with this ordinal.
    pub fn pod_name(&self, ordinal: u32) -> String {
        child::pod(&self.name, ordinal)
    }

    /// The volume claim with this ordinal.
    pub fn claim_name(&self, ordinal: u32) -> String {
        child::claim(&self.name, ordinal)
    }

    /// The name of the pod whose node leads.
    pub fn leader(&self) -> Result<String> {
        Ok(self.status()?.leader.context("the status names no leader")?.name)
    }

    /// Member ids by name, from the status.
    pub fn member_ids(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.status()?.members.into_iter().map(|member| (member.name, member.id)).collect())
    }

    /// Reasons and notes of the events about it.
    pub fn events(&self) -> Result<Vec<(String, String)>> {
        let all = self.scene.list(Kind::Event, None)?;
        let event = |json: &Value| (text(&json["regarding"]["name"]), text(&json["reason"]), text(&json["note"]));
        let about_us = |(name, reason, note): (String, String, String)| (name == self.name).then_some((reason, note));
        Ok(items(&all, event).into_iter().filter_map(about_us).collect())
    }

    /// Runs raftkvctl inside a pod.
    pub fn ctl(&self, pod: &str, args: &[&str]) -> Result<String> {
        let before = ["-n", &self.scene.namespace, "exec", pod, "-c", CONTAINER, "--", "raftkvctl"];
        let at = ["--admin-endpoints", "http://127.0.0.1:2381", "--token-file", "/etc/raftkv/auth/token", "-o", "json"];
        let output = self.scene.site.try_kubectl(&[&before[..], &at, args].concat(), None)?;
        // An unhealthy cluster gives an exit code, but its status is printed all the same.
        if output.stdout.starts_with('{') { Ok(output.stdout) } else { output.expect_success() }
    }

    /// The membership, read linearizably.
    pub fn members(&self, pod: &str) -> Result<Members> {
        serde_json::from_str(&self.ctl(pod, &["members"])?).context("`raftkvctl members`")
    }

    /// The status of every node that can be found, and raftkvctl's verdict on the cluster.
    pub fn node_statuses(&self, pod: &str) -> Result<(Vec<Status>, String)> {
        let told: Value = serde_json::from_str(&self.ctl(pod, &["status"])?).context("`raftkvctl status`")?;
        let mut statuses = Vec::new();
        for node in told["nodes"].as_array().into_iter().flatten() {
            ensure!(node["error"].is_null(), "node {} does not answer: {}", node["url"], node["error"]);
            statuses.push(serde_json::from_value(node["status"].clone())?);
        }
        Ok((statuses, text(&told["verdict"])))
    }

    /// The status of the node in this pod.
    pub fn told_by_node(&self, pod: &str) -> Result<Status> {
        let told: Value = serde_json::from_str(&self.ctl(pod, &["status"])?).context("`raftkvctl status`")?;
        let statuses = told["nodes"].as_array().into_iter().flatten().map(|node| &node["status"]);
        let own = statuses.into_iter().find(|status| status["name"] == pod);
        let own = own.with_context(|| format!("{pod} does not answer: {told}"))?;
        Ok(serde_json::from_value(own.clone())?)
    }

    // Waits.

    /// Waits until it is as its spec asks, with this many voters.
    pub fn wait_ready(&self, replicas: u32) -> Result<()> {
        self.wait_ready_for(STEP_MAX, replicas)
    }

    /// The same with another time limit.
    pub fn wait_ready_for(&self, limit: Duration, replicas: u32) -> Result<()> {
        let what = format!("{} to be ready with {replicas} voters", self.name);
        self.scene.wait_for(limit, &what, || self.is_ready(replicas))
    }

    /// Whether it is as its spec asks, with this many voters; the error says what is missing.
    pub fn is_ready(&self, replicas: u32) -> Result<()> {
        let cluster = self.get()?;
        let status = cluster.status.unwrap_or_default();
        let wanted = i32::try_from(replicas)?;
        let why = || {
            let doing = status.operation.as_ref().map(|o| format!("{:?}/{} {:?}", o.kind, o.step, o.member));
            let message = status.message.as_deref().unwrap_or("no message");
            format!(
                "{}/{wanted} voters, {} ready, {} pods; {}; {message}",
                status.voters,
                status.ready_replicas,
                status.replicas,
                doing.unwrap_or_else(|| "no operation".to_string())
            )
        };
        holds(status.observed_generation == cluster.metadata.generation, || format!("not seen yet: {}", why()))?;
        let counts = [status.voters, status.ready_replicas, status.replicas];
        holds(counts == [wanted; 3] && status.learners == 0, why)?;
        let ready = condition(&status, ConditionType::Ready).is_some_and(|(is, _, _)| is == "True");
        holds(ready && status.operation.is_none(), why)
    }

    /// Waits until a condition has this status and reason, and returns its message.
    pub fn wait_condition(&self, kind: ConditionType, is: &str, reason: Reason) -> Result<String> {
        self.scene.wait(&format!("{}={is}/{reason}", kind.as_str()), || self.has_condition(kind, is, reason))
    }

    /// Waits until Degraded is true with these words in its message. The reason is that of the worst of several
    /// problems.
    pub fn wait_degraded(&self, words: &[&str]) -> Result<String> {
        self.scene.wait(&format!("a Degraded condition that says {words:?}"), || {
            let status = self.status()?;
            match condition(&status, ConditionType::Degraded) {
                Some((is, _, message)) if is == "True" && words.iter().all(|word| message.contains(word)) => {
                    Ok(message)
                }
                Some((is, why, message)) => Err(anyhow!("it is {is}/{why}: {message}")),
                None => Err(anyhow!("there is none yet")),
            }
        })
    }

    /// The message of a condition that must have this status and reason.
    pub fn has_condition(&self, kind: ConditionType, is: &str, reason: Reason) -> Result<String> {
        let status = self.status()?;
        match condition(&status, kind) {
            Some((now, why, message)) if now == is && why == reason.as_str() => Ok(message),
            Some((now, why, message)) => Err(anyhow!("it is {}={now}/{why}: {message}", kind.as_str())),
            None => Err(anyhow!("there is no condition {} yet", kind.as_str())),
        }
    }

    /// Waits for an event.
    pub fn wait_event(&self, reason: &str) -> Result<String> {
        self.scene.wait(&format!("event {reason}"), || {
            let events = self.events()?;
            let told = events.iter().find(|(told, _)| told == reason);
            let reasons = || events.iter().map(|(reason, _)| reason.as_str()).collect::<Vec<_>>().join(", ");
            told.map(|(_, note)| note.clone()).ok_or_else(|| anyhow!("events so far: {}", reasons()))
        })
    }
}

/// Status, reason and message of a condition.
fn condition(status: &RaftKvClusterStatus, kind: ConditionType) -> Option<(String, String, String)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind.as_str())?;
    Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
}

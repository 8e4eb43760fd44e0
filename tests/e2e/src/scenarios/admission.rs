//! Somebody else's rule for StatefulSets: the API server stores something else than what the operator sends.

use crate::harness::audit_log::AuditLog;
use crate::harness::wait::holds;
use crate::harness::{Ending, Scene};
use crate::scenarios::loss::wait_replaced;
use crate::scenarios::ready;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::Duration;

/// What the rule makes of a field that the operator sets.
const GRACE_SECONDS: u64 = 77;
/// For so long the operator's writes are counted.
const COUNTED: Duration = Duration::from_secs(20);
/// It writes the StatefulSet at most so often for one change: the change, and once for what admission made of it.
const WRITES_MAX: usize = 3;

/// Finding E2: a rule that changes a field of each StatefulSet costs the operator an apply or two, and hinders nothing
/// else.
pub fn mutated_statefulsets(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let policy = Policy::install(scene)?;
    let log = AuditLog::from_here(scene.site)?;
    demo.edit(json!({"resources": {"requests": {"cpu": "21m"}}}))?;
    scene.wait("the rule to have changed the StatefulSet", || {
        let set: Value = scene.object(crate::harness::Kind::Set, "demo")?;
        let seconds = &set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        holds(*seconds == GRACE_SECONDS, || format!("it has {seconds} seconds of grace"))
    })?;
    scene.stays(COUNTED, "the operator does not fight the rule", || {
        let writes = writes(&log.since(scene.site)?, &scene.namespace)?;
        holds(writes <= WRITES_MAX, || format!("{writes} writes of the StatefulSet"))
    })?;
    scene.say(format!("{} writes of the StatefulSet", writes(&log.since(scene.site)?, &scene.namespace)?));
    demo.wait_ready(3)?;
    demo.delete_pod_and_claim(2)?;
    wait_replaced(&demo, 2, &members)?;
    drop(policy);
    Ending::with(3).check(&demo, &load)
}

/// The requests in the audit log that wrote a StatefulSet of this namespace; a dry run writes nothing.
fn writes(log: &str, namespace: &str) -> Result<usize> {
    let mut writes = 0;
    for line in log.lines().filter(|line| line.contains("\"statefulsets\"")) {
        let event: Value = serde_json::from_str(line).with_context(|| format!("no audit event: {line}"))?;
        let is_write = ["patch", "update", "create"].iter().any(|verb| event["verb"] == *verb);
        let is_dry = event["requestURI"].as_str().unwrap_or_default().contains("dryRun=All");
        writes += usize::from(is_write && !is_dry && event["objectRef"]["namespace"] == namespace);
    }
    Ok(writes)
}

/// A rule for one namespace, until this is dropped.
struct Policy<'a> {
    scene: &'a Scene<'a>,
    name: String,
}

impl<'a> Policy<'a> {
    fn install(scene: &'a Scene<'a>) -> Result<Policy<'a>> {
        let name = format!("{}-grace", scene.namespace);
        let expression = format!(
            "Object{{spec: Object.spec{{template: Object.spec.template{{spec: Object.spec.template.spec{{\
             terminationGracePeriodSeconds: {GRACE_SECONDS}}}}}}}}}"
        );
        let rules = json!([{
            "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["statefulsets"],
            "operations": ["CREATE", "UPDATE"],
        }]);
        let of_namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}});
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": rules, "namespaceSelector": of_namespace},
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        });
        scene.say("a rule gives each StatefulSet another grace period");
        let made = Policy { scene, name };
        for object in [policy, binding] {
            scene.kubectl_with(&["create", "-f", "-"], &object.to_string())?;
        }
        let patch = json!({"metadata": {"annotations": {"e2e": "asked"}}}).to_string();
        scene.wait("the API server to follow the rule", || {
            let asked =
                scene.kubectl(&["patch", "statefulset", "demo", "--dry-run=server", "-o", "json", "-p", &patch])?;
            let set: Value = serde_json::from_str(&asked)?;
            let seconds = &set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
            holds(*seconds == GRACE_SECONDS, || format!("it answers {seconds} seconds of grace"))
        })?;
        Ok(made)
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            // What is left of it is of one namespace, which goes.
            let _gone = self.scene.kubectl(&["delete", kind, &self.name, "--ignore-not-found"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_of_statefulsets_in_the_namespace_are_counted() {
        let event = |verb: &str, namespace: &str, uri: &str| {
            json!({"verb": verb, "requestURI": uri, "objectRef": {"resource": "statefulsets", "namespace": namespace}})
                .to_string()
        };
        let log = [
            event("patch", "a", "/x?fieldManager=raftkv"),
            event("patch", "a", "/x?dryRun=All"),
            event("patch", "b", "/x"),
            event("get", "a", "/x"),
            "{\"objectRef\": {\"resource\": \"pods\"}}".to_string(),
        ];
        assert_eq!(writes(&log.join("\n"), "a").unwrap(), 1);
    }
}

//! The rights of the operator under test: observed over a whole run, and taken away one at a time (rule O20).

use crate::harness::audit::{self, Right};
use crate::harness::audit_log::AuditLog;
use crate::harness::operator::{NAMESPACE, RELEASE, account};
use crate::harness::scene::Scene;
use crate::harness::site::Site;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// helm's name as a field manager: what is put back under this name does not conflict with helm's next upgrade.
const FIELD_MANAGER: &str = "--field-manager=helm";

/// The rights of the shared operator, and the end of the audit log, at the beginning of a run.
pub struct Watch {
    log: AuditLog,
    granted: BTreeSet<Right>,
}

impl Watch {
    /// Begins to count requests.
    pub fn begin(site: &Site) -> Result<Watch> {
        let log = AuditLog::from_here(site)?;
        let kinds = "clusterroles,clusterrolebindings,roles,rolebindings";
        let label = format!("app.kubernetes.io/instance={RELEASE}");
        let list = site.kubectl(&["get", kinds, "-A", "-l", &label, "-o", "json"])?;
        let granted = audit::granted(&serde_json::from_str(&list)?, &account());
        ensure!(!granted.is_empty(), "the account {} has no rights at all", account());
        Ok(Watch { log, granted })
    }

    /// Checks that each right that was granted was used since, and that nothing was refused without a reason; returns
    /// the numbers.
    pub fn end(&self, site: &Site) -> Result<String> {
        let requests = audit::requests(&self.log.since(site)?, audit::OPERATOR);
        let mut faults = audit::unused(&self.granted, &requests, &account());
        // Something that its roles allow is refused only while the roles are away: a scenario dropped a verb, or helm
        // uninstalled them a moment before the operator's process ended.
        faults.extend(audit::refusals(&requests, |request| self.granted.contains(&request.right)));
        if faults.is_empty() {
            return Ok(format!("{} rights, all of them used by {} requests", self.granted.len(), requests.len()));
        }
        bail!("{}", faults.join("; "))
    }
}

/// The rights of the shared operator in the namespaces that it watches. They are put back when this is dropped.
pub struct Rights<'a> {
    scene: &'a Scene<'a>,
    role: Value,
}

impl<'a> Rights<'a> {
    /// The rights as they are now.
    pub fn of(scene: &'a Scene<'a>) -> Result<Rights<'a>> {
        let role = format!("{NAMESPACE}:{RELEASE}");
        let live: Value = serde_json::from_str(&scene.site.kubectl(&["get", "clusterrole", &role, "-o", "json"])?)?;
        // Fields that the API server adds are left out.
        let [labels, annotations] = ["labels", "annotations"].map(|field| live["metadata"][field].clone());
        let role = json!({
            "apiVersion": live["apiVersion"],
            "kind": live["kind"],
            "metadata": {"name": role, "labels": labels, "annotations": annotations},
            "rules": live["rules"],
        });
        Ok(Rights { scene, role })
    }

    /// Takes this one right away.
    pub fn without(&self, right: &Right) -> Result<()> {
        self.scene.say(format!("the operator may not {right}"));
        let mut role = self.role.clone();
        let dropped = drop_verb(&mut role, right);
        ensure!(dropped == 1, "{dropped} rules of the ClusterRole grant {right}");
        self.apply(&role)
    }

    /// Puts all rights back.
    pub fn put_back(&self) -> Result<()> {
        self.apply(&self.role)
    }

    fn apply(&self, role: &Value) -> Result<()> {
        let args = ["apply", "--server-side", "--force-conflicts", FIELD_MANAGER, "-f", "-"];
        self.scene.site.kubectl_with(&args, &role.to_string()).map(drop)
    }
}

impl Drop for Rights<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            self.scene.say(format!("the operator's rights could not be put back: {error:#}"));
        }
    }
}

/// Takes a verb from the rules that grant it, and removes a rule that has no other verb; returns how many rules granted
/// it.
fn drop_verb(role: &mut Value, right: &Right) -> usize {
    let mut dropped = 0;
    let Some(rules) = role["rules"].as_array_mut() else { return dropped };
    for rule in &mut *rules {
        let has = |field: &str, word: &str| {
            rule[field].as_array().is_some_and(|words| words.iter().any(|found| found == word))
        };
        if has("apiGroups", &right.group) && has("resources", &right.resource) && has("verbs", &right.verb) {
            rule["verbs"]
                .as_array_mut()
                .into_iter()
                .for_each(|verbs| verbs.retain(|verb| *verb != right.verb.as_str()));
            dropped += 1;
        }
    }
    rules.retain(|rule| rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty()));
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_verb_of_one_resource_is_dropped() {
        let rule =
            |resource: &str, verbs: &[&str]| json!({"apiGroups": ["apps"], "resources": [resource], "verbs": verbs});
        let mut role = json!({"rules": [rule("statefulsets", &["get", "patch"]), rule("deployments", &["patch"])]});
        assert_eq!(drop_verb(&mut role, &Right::new("apps", "statefulsets", "patch")), 1);
        assert_eq!(role["rules"], json!([rule("statefulsets", &["get"]), rule("deployments", &["patch"])]));
        assert_eq!(drop_verb(&mut role, &Right::new("", "statefulsets", "get")), 0);
        assert_eq!(drop_verb(&mut role, &Right::new("apps", "statefulsets", "get")), 1);
        assert_eq!(
            role["rules"],
            json!([rule("deployments", &["patch"])]),
            "the API server takes no rule without verbs"
        );
    }
}

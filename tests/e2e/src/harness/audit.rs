//! Compares the requests of the operators in the API server's audit log with what their roles grant (rule O20). PURE.
//!
//! Enters: the audit log's text and the roles as JSON. Leaves: a sentence for each right that nobody used, and for each
//! refusal that nothing explains. A right that was used is one that a scenario needs: without it, that very request
//! would have been denied.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Part of the name of each account of our operator, whatever its release is called.
pub const OPERATOR: &str = "raftkv-operator";
/// The decision of the API server about a request that the roles allow.
const ALLOWED: &str = "allow";
/// The cause that the API server gives when it refuses new objects in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
/// The status of HTTP 403.
const FORBIDDEN: u64 = 403;

/// Rights that are granted although no request shows them: group, resource, verb, and why they are granted.
const UNSEEN: &[(&str, &str, &str, &str)] = &[(
    "raftkv.dev",
    "raftkvclusters/finalizers",
    "update",
    "no request has it: where the admission plugin OwnerReferencesPermissionEnforcement is on, which it is not in kind, making a \
     child with blockOwnerDeletion asks for it",
)];

/// Something that a role allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API group; empty for the core.
    pub group: String,
    /// The resource, with its subresource if it has one.
    pub resource: String,
    /// The verb.
    pub verb: String,
}

impl Right {
    /// A right by its three words.
    pub fn new(group: &str, resource: &str, verb: &str) -> Right {
        Right { group: group.to_string(), resource: resource.to_string(), verb: verb.to_string() }
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str())
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

/// A request of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The service account, as `namespace:name`.
    pub account: String,
    /// The namespace of the request; empty for all namespaces.
    pub namespace: String,
    /// The right that it needs.
    pub right: Right,
    /// Its outcome.
    pub outcome: Outcome,
}

/// The outcome of a request, as far as rights are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The roles allowed it.
    Allowed,
    /// The roles allowed it, but its namespace is being deleted.
    NamespaceGoes,
    /// The roles forbade it, with this message.
    Forbidden(String),
    /// The roles allowed it, but something else refused it, with this message.
    Refused(String),
}

/// The requests for objects by service accounts with `of` in their names. A line that is cut off at either end of the
/// text is left out.
pub fn requests(log: &str, of: &str) -> Vec<Request> {
    let lines = log.lines().filter(|line| line.contains(of));
    let requests = lines.filter_map(|line| request(&serde_json::from_str(line).ok()?));
    requests.filter(|request| request.account.contains(of)).collect()
}

fn request(event: &Value) -> Option<Request> {
    let account = event["user"]["username"].as_str()?.strip_prefix("system:serviceaccount:")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let object = &event["objectRef"];
    let resource = object["resource"].as_str()?;
    let subresource = object["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
    Some(Request {
        account: account.to_string(),
        namespace: text(&object["namespace"]),
        right: Right::new(&text(&object["apiGroup"]), &format!("{resource}{subresource}"), &text(&event["verb"])),
        outcome: outcome(event),
    })
}

fn outcome(event: &Value) -> Outcome {
    let answer = &event["responseStatus"];
    let is_allowed = event["annotations"]["authorization.k8s.io/decision"] == ALLOWED;
    let mut causes = answer["details"]["causes"].as_array().into_iter().flatten();
    match (is_allowed, answer["code"].as_u64()) {
        (true, Some(FORBIDDEN)) if causes.any(|cause| cause["reason"] == NAMESPACE_TERMINATING) => {
            Outcome::NamespaceGoes
        }
        (true, code) if code != Some(FORBIDDEN) => Outcome::Allowed,
        (true, _) => Outcome::Refused(said(answer)),
        (false, _) => Outcome::Forbidden(said(answer)),
    }
}

fn said(answer: &Value) -> String {
    answer["message"].as_str().unwrap_or("without a word").to_string()
}

/// What the roles and cluster roles in this list grant to an account, by the bindings in the list.
pub fn granted(list: &Value, account: &str) -> BTreeSet<Right> {
    let objects = || list["items"].as_array().into_iter().flatten();
    let is_to_account = |binding: &&Value| {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.any(|subject| format!("{}:{}", word(&subject["namespace"]), word(&subject["name"])) == account)
    };
    let mut rights = BTreeSet::new();
    for binding in objects().filter(is_to_account) {
        let role = &binding["roleRef"];
        let is_its_role = |object: &&Value| {
            let place = &object["metadata"]["namespace"];
            object["kind"] == role["kind"]
                && object["metadata"]["name"] == role["name"]
                && (place.is_null() || *place == binding["metadata"]["namespace"])
        };
        rights.extend(objects().filter(is_its_role).flat_map(rights_of));
    }
    rights
}

fn rights_of(role: &Value) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let words = |field: &str| rule[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        for group in words("apiGroups") {
            for resource in words("resources") {
                rights.extend(words("verbs").map(|verb| Right::new(group, resource, verb)));
            }
        }
    }
    rights
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Rights that the account has and that none of its requests needed, except for those that no request can show.
pub fn unused(granted: &BTreeSet<Right>, requests: &[Request], account: &str) -> Vec<String> {
    let ours = requests.iter().filter(|request| request.account == account && request.outcome == Outcome::Allowed);
    let used: BTreeSet<&Right> = ours.map(|request| &request.right).collect();
    let unseen = |right: &Right| {
        let mut known = UNSEEN.iter();
        known.any(|(group, resource, verb, _why)| *right == Right::new(group, resource, verb))
    };
    let left = granted.iter().filter(|right| !used.contains(right) && !unseen(right));
    left.map(|right| format!("{account} may {right}, and no scenario needs it: take it from the chart")).collect()
}

/// Refusals, each once with its count; a refusal by the roles is left out if `explains` knows its reason.
pub fn refusals(requests: &[Request], explains: impl Fn(&Request) -> bool) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for request in requests {
        let said = match &request.outcome {
            Outcome::Refused(said) => said,
            Outcome::Forbidden(said) if !explains(request) => said,
            Outcome::Forbidden(_) | Outcome::Allowed | Outcome::NamespaceGoes => continue,
        };
        let Request { account, right, namespace, .. } = request;
        *counts.entry(format!("{account} was refused {right} in '{namespace}': {said}")).or_default() += 1;
    }
    counts.into_iter().map(|(line, count)| format!("{line} ({count}x)")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ACCOUNT: &str = "raftkv-system:raftkv-operator";

    fn line(account: &str, object: Value, verb: &str, decision: &str, answer: Value) -> String {
        let event = json!({
            "verb": verb,
            "user": {"username": format!("system:serviceaccount:{account}")},
            "objectRef": object,
            "responseStatus": answer,
            "annotations": {"authorization.k8s.io/decision": decision},
        });
        event.to_string()
    }

    fn pods(verb: &str, decision: &str, answer: Value) -> String {
        line(ACCOUNT, json!({"resource": "pods", "namespace": "team", "name": "demo-0"}), verb, decision, answer)
    }

    fn list() -> Value {
        let role =
            |kind: &str, name: &str, rules: Value| json!({"kind": kind, "metadata": {"name": name}, "rules": rules});
        let rule = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
        let mut leases = role("Role", "leases", json!([rule("coordination.k8s.io", "leases", &["get"])]));
        leases["metadata"]["namespace"] = json!("raftkv-system");
        let binding = |kind: &str, role: &str, account: &str| {
            let subject = json!({"kind": "ServiceAccount", "namespace": "raftkv-system", "name": account});
            json!({"kind": format!("{kind}Binding"), "metadata": {"namespace": "raftkv-system"},
                "roleRef": {"kind": kind, "name": role}, "subjects": [subject]})
        };
        let finalizers = rule("raftkv.dev", "raftkvclusters/finalizers", &["update"]);
        json!({"items": [
            role("ClusterRole", "operator", json!([rule("", "pods", &["list", "delete"]), finalizers])),
            role("ClusterRole", "view", json!([rule("raftkv.dev", "raftkvclusters", &["get"])])),
            leases,
            binding("ClusterRole", "operator", "raftkv-operator"),
            binding("Role", "leases", "raftkv-operator"),
            binding("ClusterRole", "view", "somebody-else"),
        ]})
    }

    #[test]
    fn an_account_has_what_its_bindings_grant() {
        let names: Vec<String> = granted(&list(), ACCOUNT).iter().map(Right::to_string).collect();
        let expected = [
            "delete pods",
            "list pods",
            "get leases.coordination.k8s.io",
            "update raftkvclusters/finalizers.raftkv.dev",
        ];
        assert_eq!(names, expected);
        assert!(granted(&list(), "raftkv-system:other").is_empty());
    }

    #[test]
    fn a_right_is_used_by_an_allowed_request_of_its_own_account() {
        let lease = json!({"resource": "leases", "apiGroup": "coordination.k8s.io", "namespace": "raftkv-system"});
        let log = [
            pods("list", "allow", json!({"code": 200})),
            pods("delete", "forbid", json!({"code": 403, "message": "no"})),
            line("e2e-x:raftkv-operator", lease.clone(), "get", "allow", json!({"code": 200})),
            line("kube-system:other", lease, "get", "allow", json!({"code": 200})),
            "\"cut\"}} raftkv-operator".to_string(),
        ];
        let found = requests(&log.join("\n"), OPERATOR);
        assert_eq!(found.len(), 3);
        let left = unused(&granted(&list(), ACCOUNT), &found, ACCOUNT);
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(
            left[0].contains("may delete pods, and") && left[1].contains("may get leases.coordination"),
            "{left:?}"
        );
    }

    #[test]
    fn what_was_allowed_and_failed_for_another_reason_was_used() {
        let log = pods("delete", "allow", json!({"code": 404}));
        assert_eq!(requests(&log, OPERATOR)[0].outcome, Outcome::Allowed);
    }

    #[test]
    fn a_subresource_is_a_right_of_its_own() {
        let object = json!({"resource": "raftkvclusters", "subresource": "status", "apiGroup": "raftkv.dev"});
        let log = line(ACCOUNT, object, "update", "allow", json!({"code": 200}));
        assert_eq!(requests(&log, OPERATOR)[0].right.to_string(), "update raftkvclusters/status.raftkv.dev");
    }

    #[test]
    fn a_refusal_is_told_unless_its_namespace_goes_or_something_explains_it() {
        let going = json!({"code": 403, "details": {"causes": [{"reason": NAMESPACE_TERMINATING}]}});
        let log = [
            pods("create", "allow", going),
            pods("delete", "forbid", json!({"code": 403, "message": "cannot delete"})),
            pods("delete", "forbid", json!({"code": 403, "message": "cannot delete"})),
            pods("create", "allow", json!({"code": 403, "message": "by a policy"})),
        ];
        let found = requests(&log.join("\n"), OPERATOR);
        assert_eq!(found[0].outcome, Outcome::NamespaceGoes);
        let told = refusals(&found, |_| false);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].ends_with("was refused delete pods in 'team': cannot delete (2x)"), "{told:?}");
        assert_eq!(refusals(&found, |request| request.right.verb == "delete").len(), 1);
        assert_eq!(refusals(&found, |_| true).len(), 1, "what a policy refused is no matter of roles");
    }
}

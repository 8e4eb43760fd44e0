//! The rights that a release grants, as lines that a person can review. PURE.

use crate::{Object, Rendered};
use serde_json::Value;

/// Every Role and ClusterRole with its rules, and the subjects or labels by which it is granted.
pub fn grants(rendered: &Rendered) -> String {
    let roles = ["ClusterRole", "Role"].into_iter().flat_map(|kind| rendered.of(kind));
    roles.map(|role| format!("{}{}", head(rendered, role), rules(role))).collect()
}

fn head(rendered: &Rendered, role: &Object) -> String {
    let place = if role.namespace().is_empty() { String::new() } else { format!(" in {}", role.namespace()) };
    let bindings = rendered.of(&format!("{}Binding", role.kind())).into_iter().filter(|binding| {
        binding.namespace() == role.namespace()
            && binding.text("/roleRef/kind") == role.kind()
            && binding.text("/roleRef/name") == role.name()
    });
    let subjects = bindings.flat_map(|binding| binding.list("/subjects").to_vec()).map(|subject| {
        let field = |name: &str| subject[name].as_str().unwrap_or_default().to_string();
        format!("\n  to {} {}/{}", field("kind"), field("namespace"), field("name"))
    });
    let labels = role.at("/metadata/labels").as_object().into_iter().flatten();
    let aggregated = labels.filter_map(|(label, _)| label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"));
    let aggregated = aggregated.map(|role| format!("\n  to everybody with {role}"));
    let receivers: String = subjects.chain(aggregated).collect();
    format!("{} {}{place}{receivers}\n", role.kind(), role.name())
}

fn rules(role: &Object) -> String {
    role.list("/rules").iter().map(rule).collect()
}

fn rule(rule: &Value) -> String {
    let words = |field: &str, between: &str| {
        let words = rule[field].as_array().map(Vec::as_slice).unwrap_or_default();
        words.iter().map(|word| word.as_str().unwrap_or("?")).collect::<Vec<_>>().join(between)
    };
    let group = match words("apiGroups", ",") {
        core if core.is_empty() => "core".to_string(),
        group => group,
    };
    let names = match words("resourceNames", ",") {
        none if none.is_empty() => none,
        names => format!(" named {names}"),
    };
    // Without the URLs, a rule about them would be a line that says nothing.
    let urls = words("nonResourceURLs", ",");
    format!("    {group} {}{urls}{names}: {}\n", words("resources", ","), words("verbs", " "))
}

//! `docs/api.md`: every field of the custom resource with its type, default and description, from the schema itself.

use crate::reason::Reason;
use crate::schema::crd;
use serde_json::Value;
use std::fmt::Write;

/// The API reference in Markdown.
pub fn api_reference() -> String {
    let crd = serde_json::to_value(crd()).expect("the types of Kubernetes always serialize");
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a derived CRD has a schema");
    let mut out = String::from(concat!(
        "# RaftKvCluster, raftkv.dev/v1alpha1\n\n",
        "<!-- Generated from crds/src by `make fix`. Do not edit. -->\n\n",
        "Short name `rkv`. `kubectl explain rkv.spec` shows the same.\n",
    ));
    for part in ["spec", "status"] {
        table(&mut out, part, &schema["properties"][part]);
    }
    out.push_str("\n## Reasons of conditions\n\nWhat to do about each: [operations.md](operations.md).\n\n| reason | meaning |\n|---|---|\n");
    for reason in Reason::ALL {
        let _infallible = writeln!(out, "| `{reason}` | {} |", reason.meaning());
    }
    out
}

fn table(out: &mut String, part: &str, schema: &Value) {
    let _infallible = write!(out, "\n## {part}\n\n| field | type | default | what it is |\n|---|---|---|---|\n");
    rows(out, part, schema);
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let _infallible = writeln!(out, "\nRule: {}", rule["message"].as_str().unwrap_or_default());
    }
}

fn rows(out: &mut String, path: &str, schema: &Value) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let default = match &field["default"] {
            Value::Null => String::new(),
            default => format!("`{default}`"),
        };
        let description = field["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let _infallible = writeln!(out, "| `{path}` | {} | {default} | {description} |", kind(field));
        rows(out, &path, field);
        rows(out, &format!("{path}[]"), &field["items"]);
    }
}

fn kind(field: &Value) -> String {
    if let Some(choices) = field["enum"].as_array() {
        let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        return choices.join(" \\| ");
    }
    let name = match field["type"].as_str() {
        Some("object") if field["additionalProperties"].is_object() => "map",
        Some("array") => "list",
        Some(name) => name,
        None => "quantity",
    };
    match (field["minimum"].as_f64(), field["maximum"].as_f64()) {
        (Some(min), Some(max)) => format!("{name}, {min} to {max}"),
        (Some(_), None) | (None, Some(_)) | (None, None) => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_reference_is_the_generated_one() {
        assert_eq!(include_str!("../../docs/api.md"), super::api_reference(), "run `make fix`");
    }
}

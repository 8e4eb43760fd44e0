//! JSON schemas of the API's types, for the OpenAPI document.
//!
//! They are written by hand, one row for each type. A test compares them with what serde writes.

use raftkv_api::Code;
use serde_json::{Map, Value, json};

/// Every schema by its name.
pub fn all() -> Value {
    json!({
        "Put": object(&[("revision", int()), ("version", int())]),
        "Deleted": object(&[("revision", int()), ("deleted", boolean())]),
        "KeyValue": key_value(),
        "Range": object(&[
            ("revision", int()),
            ("kvs", list(reference("KeyValue"))),
            ("count", int()),
            ("next?", text()),
        ]),
        "Version": object(&[("version", text()), ("admin_url", text())]),
        "LeaderRef": object(&[("name", text()), ("client_url", null_or(text())), ("admin_url", null_or(text()))]),
        "Problem": object(&[
            ("type", text()),
            ("title", text()),
            ("status", int()),
            ("detail", text()),
            ("code", words(Code::ALL.iter().map(|code| code.as_str()))),
            ("retryable", boolean()),
            ("outcome", words(["none", "unknown"])),
            ("leader", null_or(reference("LeaderRef"))),
            ("current_revision?", null_or(int())),
            ("compacted_revision?", int()),
        ]),
        "StateHash": object(&[("applied", int()), ("log_hash", hex128())]),
        "Peer": peer(),
        "Stream": object(&[("id", id()), ("sent", int()), ("total", int())]),
        "Twin": object(&[("id", id()), ("detail", text())]),
        "Status": status(),
        "Member": object(&[
            ("id", id()),
            ("name", text()),
            ("peer_url", text()),
            ("incarnation", hex128()),
            ("role", words(["voter", "learner", "outgoing"])),
            ("client_url", null_or(text())),
            ("admin_url", null_or(text())),
        ]),
        "RemovedMember": object(&[("id", id()), ("name", text()), ("incarnation", hex128()), ("index", int())]),
        "Members": object(&[
            ("cluster_id", hex128()),
            ("conf_index", int()),
            ("joint", boolean()),
            ("leader", null_or(id())),
            ("members", list(reference("Member"))),
            ("removed", list(reference("RemovedMember"))),
        ]),
        "Init": object(&[
            ("cluster_id", hex128()),
            ("name", text()),
            ("incarnation", hex128()),
            ("min_voters?", json!({"type": "integer", "minimum": 1, "default": 1})),
        ]),
        "InitDone": object(&[("cluster_id", hex128()), ("genesis", hex128()), ("member_id", id())]),
        "AddMember": object(&[("name", text()), ("peer_url", text()), ("incarnation", hex128())]),
        "MemberAdded": object(&[("id", id()), ("conf_index", int())]),
        "Promote": object(&[("replaces?", id())]),
        "Transfer": object(&[("to?", id())]),
        "Transferred": object(&[("leader", id())]),
        "Reset": reset(),
    })
}

/// The words of [`raftkv_api::Serves`].
const SERVES: [&str; 10] = [
    "yes",
    "opening",
    "installing",
    "not_a_member",
    "not_a_voter",
    "forming",
    "removed",
    "quarantined",
    "stopping",
    "no_read",
];

fn reset() -> Value {
    let diverged = json!({"type": "boolean", "default": false});
    object(&[("incarnation", hex128()), ("diverged?", diverged), ("ask?", list(text()))])
}

fn peer() -> Value {
    object(&[
        ("id", id()),
        ("name", text()),
        ("active", boolean()),
        ("caught_up", boolean()),
        ("matched", int()),
        ("applied", int()),
        ("durable_conf_index", int()),
        ("free_bytes", int()),
        ("headroom_bytes", int()),
        ("reserve_bytes", int()),
        ("stalled_ms", int()),
        ("volume_bytes", int()),
    ])
}

fn status() -> Value {
    object(&[
        ("name", text()),
        ("version", text()),
        ("state", words(["opening", "blank", "learner", "voter", "removed", "quarantined"])),
        ("reason", null_or(text())),
        ("diverged", boolean()),
        ("incarnation", null_or(hex128())),
        ("cluster_id", null_or(hex128())),
        ("genesis", null_or(hex128())),
        ("generation", int()),
        ("member_id", null_or(id())),
        ("leader", null_or(reference("LeaderRef"))),
        ("leader_id", null_or(id())),
        ("term", int()),
        ("commit", int()),
        ("applied", int()),
        ("last_index", int()),
        ("first_index", int()),
        ("snapshot_index", int()),
        ("conf_index", int()),
        ("durable_conf_index", int()),
        ("can_lead", boolean()),
        ("formed", boolean()),
        ("kv", words(["absent", "proving", "rebuilding", "installing", "ready"])),
        ("revision", int()),
        ("compacted_revision", int()),
        ("db_bytes", int()),
        ("free_bytes", int()),
        ("headroom_bytes", int()),
        ("reserve_bytes", int()),
        ("volume_bytes", int()),
        ("stalled_ms", int()),
        ("stalled_on", null_or(words(["log", "store"]))),
        ("writes", null_or(words(["ok", "forming", "no_leader", "no_space", "quota", "stalled"]))),
        ("quorum_contact_ms", null_or(int())),
        ("serves", null_or(words(SERVES))),
        ("boot", null_or(id())),
        ("last_log_term", int()),
        ("streams", list(reference("Stream"))),
        ("twins", list(reference("Twin"))),
        ("no_space", null_or(text())),
        ("state_hash", null_or(reference("StateHash"))),
        ("state_hashes", list(reference("StateHash"))),
        ("peers", list(reference("Peer"))),
        ("members", list(reference("Member"))),
        ("joint", boolean()),
        ("leader_contact_ms", null_or(int())),
        ("peer_url", text()),
        ("client_url", text()),
        ("admin_url", text()),
    ])
}

fn key_value() -> Value {
    object(&[
        ("key?", text()),
        ("key_b64?", text()),
        ("value?", text()),
        ("value_b64?", text()),
        ("create_revision", int()),
        ("mod_revision", int()),
        ("version", int()),
    ])
}

/// A property whose name ends in `?` may be absent.
fn object(properties: &[(&str, Value)]) -> Value {
    let name = |name: &str| name.trim_end_matches('?').to_string();
    let required: Vec<&str> = properties.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let properties: Map<String, Value> = properties.iter().map(|(n, schema)| (name(n), schema.clone())).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// Refers to a schema of this file.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn null_or(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"type": "string", "enum": words.into_iter().collect::<Vec<_>>()})
}

fn int() -> Value {
    json!({"type": "integer", "format": "uint64", "minimum": 0})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn id() -> Value {
    json!({"type": "string", "pattern": "^[1-9][0-9]{0,19}$"})
}

fn hex128() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-f]{32}$"})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::httpapi::samples;
    use std::collections::BTreeSet;

    #[test]
    fn every_type_has_exactly_the_properties_that_serde_writes() {
        let schemas = all();
        let samples = samples::every_type();
        let names = |map: &Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(
            names(schemas.as_object().expect("an object")),
            samples.iter().map(|(name, _)| name.to_string()).collect(),
        );
        for (name, sample) in &samples {
            let schema = &schemas[name]["properties"];
            let sample = sample.as_object().expect("an object");
            assert_eq!(names(schema.as_object().expect("an object")), names(sample), "{name}");
            for (property, value) in sample {
                assert!(fits(&schema[property], value), "{name}.{property}: {value} is not {}", schema[property]);
            }
        }
    }

    /// Checks types only, one level deep, which is what a wrong row would get wrong.
    fn fits(schema: &Value, value: &Value) -> bool {
        if let Some(choices) = schema["anyOf"].as_array() {
            return choices.iter().any(|choice| fits(choice, value));
        }
        if let Some(words) = schema["enum"].as_array() {
            return words.contains(value);
        }
        match schema["type"].as_str() {
            Some("integer") => value.is_u64(),
            Some("boolean") => value.is_boolean(),
            Some("string") => value.is_string(),
            Some("array") => value.is_array(),
            Some("null") => value.is_null(),
            Some(other) => panic!("{other}"),
            None => value.is_object() && schema.get("$ref").is_some(),
        }
    }
}

//! The CustomResourceDefinition in the chart: the one of crds/, templated so that upgrades change it, and kept on
//! uninstall.

use raftkv_chart_tests::helm::render;
use raftkv_chart_tests::{chart, golden, root};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const KIND: &str = "CustomResourceDefinition";

#[test]
fn the_charts_copy_is_the_one_of_crds() {
    let original = std::fs::read_to_string(root().join("crds/raftkvcluster.yaml")).unwrap();
    assert!(original.contains(KIND), "crds/raftkvcluster.yaml is not a {KIND}");
    golden::compare(&chart().join("files/raftkvcluster.yaml"), &original);
}

#[test]
fn what_is_rendered_is_the_copy_with_labels_and_the_keep_annotation() {
    let copy = std::fs::read_to_string(chart().join("files/raftkvcluster.yaml")).unwrap();
    let copy: Value = serde_yaml::from_str(&copy).unwrap();
    let mut rendered = render(&[]).only(KIND).value().clone();
    let metadata = rendered["metadata"].as_object_mut().unwrap();
    assert_eq!(metadata.remove("annotations"), Some(json!({"helm.sh/resource-policy": "keep"})));
    assert!(metadata.remove("labels").is_some());
    assert_eq!(difference(&rendered, &copy, ""), None);
}

/// The first place where two values differ. Numbers are compared as numbers, since helm writes 9 for 9.0.
fn difference(one: &Value, other: &Value, path: &str) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let field = |fields: &Map<String, Value>, key: &str| fields.get(key).cloned().unwrap_or_default();
            keys.into_iter().find_map(|key| difference(&field(one, key), &field(other, key), &format!("{path}/{key}")))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(index, (one, other))| difference(one, other, &format!("{path}/{index}")))
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => None,
        _ if one == other => None,
        _ => Some(format!("{path}: {one} and {other}")),
    }
}

#[test]
fn control_a_difference_is_found() {
    let value = |leaf: Value| json!({"a": [1, {"b": leaf}]});
    assert_eq!(difference(&value(json!(9)), &value(json!(9.0)), ""), None);
    assert_eq!(difference(&value(json!(9)), &value(json!(8)), ""), Some("/a/1/b: 9 and 8".to_string()));
    assert_eq!(difference(&value(json!(9)), &json!({"a": [1, {}]}), ""), Some("/a/1/b: 9 and null".to_string()));
}

#[test]
fn it_is_kept_unless_the_user_says_otherwise() {
    let annotations = |values: &[&str]| render(values).only(KIND).at("/metadata/annotations").clone();
    assert_eq!(annotations(&[])["helm.sh/resource-policy"], "keep");
    assert_eq!(annotations(&["crds.keep=false"]), Value::Null);
}

#[test]
fn a_second_install_can_leave_it_out() {
    assert!(render(&["crds.enabled=false"]).of(KIND).is_empty());
}

//! The JSON merge patch (RFC 7386) that brings a live object to what is wanted. PURE.
//!
//! A merge patch adds to maps and replaces lists. Where a map must hold only what is wanted, and nothing of an earlier
//! spec, the patch sets the superfluous keys to null. If one of them was a default, the API server sets the same
//! default again.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// Maps that shall hold nothing but what is wanted: in a pod template something of an earlier spec may be left, and a
/// selector with one more label selects something else. Labels and annotations of the object itself are shared with
/// others.
const WHOLE: [&str; 2] = ["template", "selector"];

/// The patch carries the uid and resourceVersion of `live`, so that it changes exactly the object that was compared.
pub fn patch<K: Serialize>(wanted: &K, live: &K) -> Value {
    let value = |object| serde_json::to_value(object).expect("objects of the API are plain data with text keys");
    let (wanted, live) = (value(wanted), value(live));
    let (ours, theirs) = (&wanted["metadata"], &live["metadata"]);
    json!({
        "metadata": {
            "uid": theirs["uid"],
            "resourceVersion": theirs["resourceVersion"],
            "labels": ours.get("labels").cloned().unwrap_or_else(|| json!({})),
            "annotations": ours.get("annotations").cloned().unwrap_or_else(|| json!({})),
        },
        "spec": merged("spec", false, &wanted["spec"], &live["spec"]),
    })
}

fn merged(field: &str, whole: bool, wanted: &Value, live: &Value) -> Value {
    let whole = whole || WHOLE.contains(&field);
    let (Value::Object(wanted), Value::Object(live)) = (wanted, live) else { return wanted.clone() };
    let below = |(key, value): (&String, &Value)| {
        (key.clone(), merged(key, whole, value, live.get(key).unwrap_or(&Value::Null)))
    };
    let stray = live.keys().filter(|key| whole && !wanted.contains_key(*key));
    let stray: Map<_, _> = stray.map(|key| (key.clone(), Value::Null)).collect();
    Value::Object(wanted.iter().map(below).chain(stray).collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::merge;
    use super::*;

    #[test]
    fn what_an_earlier_spec_had_goes_and_what_others_added_stays() {
        let wanted = json!({
            "metadata": {"labels": {"ours": "1"}},
            "spec": {"n": 1, "selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}},
        });
        let mut live = json!({
            "metadata": {"uid": "u", "resourceVersion": "7", "labels": {"theirs": "2"}, "annotations": {"theirs": "3"}},
            "spec": {"default": true, "selector": {"x": "y"}, "template": {
                "metadata": {"labels": {"a": "b", "old": "x"}},
                "spec": {"nodeSelector": {"old": "x"}, "containers": [{"name": "c", "image": "i"}]},
            }},
        });
        let patch = patch(&wanted, &live);
        assert_eq!((&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]), (&json!("u"), &json!("7")));
        merge(&mut live, &patch);
        assert_eq!(live["metadata"]["labels"], json!({"ours": "1", "theirs": "2"}));
        assert_eq!(live["metadata"]["annotations"], json!({"theirs": "3"}));
        assert_eq!(
            live["spec"],
            json!({"default": true, "n": 1, "selector": {"a": "b"}, "template": wanted["spec"]["template"]})
        );
    }
}

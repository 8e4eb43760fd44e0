//! What a live object lacks of what we want of it (rule O21). PURE.
//!
//! The API server fills in defaults and rewrites amounts, and admission adds to lists. All of that is ignored: only the
//! wanted fields are compared. A selector is the exception, since with one more label it selects something else.

use serde_json::Value;

/// Maps that must be exactly as wanted.
const EXACT: [&str; 2] = ["selector", "matchLabels"];
/// Maps whose values are amounts.
const AMOUNTS: [&str; 2] = ["requests", "limits"];
/// Fields that tell the elements of a list apart, the most reliable first.
const KEYS: [&str; 2] = ["uid", "name"];
/// Amounts are compared in billionths, the smallest that Kubernetes has.
const NANO_DIGITS: usize = 9;

/// Whether a field of `wanted` is missing from, or differs in, `live`.
#[cfg(test)]
pub fn differs<K: serde::Serialize>(wanted: &K, live: &K) -> bool {
    let value = |object| serde_json::to_value(object).expect("objects of the API are plain data with text keys");
    difference_at("", "", &value(wanted), &value(live)).is_some()
}

/// The first field of `wanted` that is missing from, or differs in, `live`, as its path. Both are the value of `field`,
/// which stands at `path`.
pub(super) fn difference_at(path: &str, field: &str, wanted: &Value, live: &Value) -> Option<String> {
    let here = || Some(path.to_string());
    match (wanted, live) {
        (Value::Null, _) => None,
        (Value::Object(wanted), Value::Object(live)) => {
            let differs_in = |(key, value): (&String, &Value)| {
                let (path, live) = (below(path, key), live.get(key).unwrap_or(&Value::Null));
                match AMOUNTS.contains(&field) {
                    true => amounts_differ(value, live).then_some(path),
                    false => difference_at(&path, key, value, live),
                }
            };
            let stray = || live.keys().find(|key| EXACT.contains(&field) && !wanted.contains_key(*key));
            wanted.iter().find_map(differs_in).or_else(|| stray().map(|key| below(path, key)))
        }
        (Value::Array(wanted), Value::Array(live)) => match key_of(wanted) {
            Some(key) => wanted.iter().find_map(|element| difference_from_namesake(path, key, element, live)),
            None if wanted.len() != live.len() => here(),
            None => wanted.iter().zip(live).find_map(|(one, two)| difference_at(path, "", one, two)),
        },
        // The API server leaves out what is empty.
        (Value::Object(_) | Value::Array(_), Value::Null) => {
            if is_empty(wanted) {
                None
            } else {
                here()
            }
        }
        (wanted, live) => {
            if wanted == live {
                None
            } else {
                here()
            }
        }
    }
}

/// What stands in `live` in the places that [`difference_at`] compares.
pub(super) fn view_at(field: &str, wanted: &Value, live: &Value) -> Value {
    match (wanted, live) {
        (Value::Null, _) => Value::Null,
        (Value::Object(wanted), Value::Object(live)) if !EXACT.contains(&field) => {
            let view = |(key, value): (&String, &Value)| {
                (key.clone(), view_at(key, value, live.get(key).unwrap_or(&Value::Null)))
            };
            Value::Object(wanted.iter().map(view).collect())
        }
        (Value::Array(wanted), Value::Array(live)) => match key_of(wanted) {
            Some(key) => {
                wanted.iter().map(|one| view_at("", one, namesake(key, one, live).unwrap_or(&Value::Null))).collect()
            }
            None => Value::Array(live.clone()),
        },
        (_, live) => live.clone(),
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

/// Whether it is empty, so that nothing is wanted.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(elements) => elements.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The field by which each element of a list has a name of its own.
fn key_of(list: &[Value]) -> Option<&'static str> {
    let names_all = |key: &&str| {
        let mut names: Vec<_> = list.iter().filter_map(|element| element.get(*key)?.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        !list.is_empty() && names.len() == list.len()
    };
    KEYS.into_iter().find(|key| names_all(key))
}

fn namesake<'a>(key: &str, wanted: &Value, live: &'a [Value]) -> Option<&'a Value> {
    live.iter().find(|element| element.get(key) == wanted.get(key))
}

fn difference_from_namesake(path: &str, key: &str, wanted: &Value, live: &[Value]) -> Option<String> {
    let path = format!("{path}[{}]", wanted[key].as_str().unwrap_or_default());
    match namesake(key, wanted, live) {
        Some(namesake) => difference_at(&path, "", wanted, namesake),
        None => Some(path),
    }
}

fn amounts_differ(wanted: &Value, live: &Value) -> bool {
    match (amount(wanted), amount(live)) {
        (Some(wanted), Some(live)) => wanted != live,
        (Some(_) | None, Some(_) | None) => wanted != live,
    }
}

fn amount(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => nanos(text),
        Value::Number(number) => nanos(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// An amount (`1Gi`, `0.1`, `100m`, `1e3`) in billionths; `None` when the text is not an amount or does not fit.
fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > NANO_DIGITS {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction:0<NANO_DIGITS$}").parse().ok()?;
    let (numerator, denominator) = scale(suffix)?;
    Some(digits.checked_mul(numerator)? / denominator)
}

/// The factor and the divisor of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let power = |base: i128, exponent| base.checked_pow(exponent);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, power(10, 9)?),
        "u" => (1, power(10, 6)?),
        "m" => (1, power(10, 3)?),
        "k" => (power(10, 3)?, 1),
        "M" => (power(10, 6)?, 1),
        "G" => (power(10, 9)?, 1),
        "T" => (power(10, 12)?, 1),
        "P" => (power(10, 15)?, 1),
        "E" => (power(10, 18)?, 1),
        "Ki" => (power(1024, 1)?, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        exponent => match exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()? {
            up @ 0.. => (power(10, up.unsigned_abs())?, 1),
            down => (1, power(10, down.unsigned_abs())?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_we_did_not_set_does_not_count() {
        for (wanted, live) in [
            (json!({"a": 1}), json!({"a": 1, "b": 2})),
            (json!({"a": null}), json!({"a": 5})),
            (json!({"a": {}, "b": [], "c": {"d": {}}}), json!({})),
            (
                json!({"ports": [{"name": "x", "port": 1}]}),
                json!({"ports": [{"name": "y"}, {"name": "x", "port": 1, "protocol": "TCP"}]}),
            ),
            (
                json!({"owner": [{"uid": "1", "name": "n"}]}),
                json!({"owner": [{"uid": "0", "name": "n"}, {"uid": "1", "name": "n"}]}),
            ),
        ] {
            assert!(!differs(&wanted, &live), "{wanted} {live}");
        }
    }

    #[test]
    fn what_we_set_counts() {
        for (wanted, live) in [
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": 1}), json!({})),
            (json!({"a": false}), json!({})),
            (json!({"a": {"b": 1}}), json!({"a": null})),
            (json!({"args": ["x"]}), json!({"args": ["x", "y"]})),
            (json!({"args": ["x", "y"]}), json!({"args": ["y", "x"]})),
            (json!({"args": []}), json!({"args": ["x"]})),
            (json!({"ports": [{"name": "x", "port": 1}]}), json!({"ports": [{"name": "x", "port": 2}]})),
            (json!({"ports": [{"name": "x"}]}), json!({"ports": [{"name": "y"}]})),
            (json!({"selector": {"a": "b"}}), json!({"selector": {"a": "b", "c": "d"}})),
        ] {
            assert!(differs(&wanted, &live), "{wanted} {live}");
        }
    }

    #[test]
    fn amounts_are_compared_as_amounts_where_they_are_amounts() {
        let resources = |amount: Value| json!({"resources": {"requests": {"x": amount}}});
        for (one, two) in
            [("1Gi", "1024Mi"), ("0.1", "100m"), ("1", "1000m"), ("1e3", "1k"), ("1.5Gi", "1536Mi"), (".5", "500m")]
        {
            assert!(!differs(&resources(json!(one)), &resources(json!(two))), "{one} {two}");
            assert!(differs(&json!({"label": one}), &json!({"label": two})), "{one} {two}");
        }
        assert!(!differs(&resources(json!(2)), &resources(json!("2"))));
        for (one, two) in [("1Gi", "1G"), ("1", "2"), ("x", "1"), ("99999999999999999999999999Ei", "1")] {
            assert!(differs(&resources(json!(one)), &resources(json!(two))), "{one} {two}");
        }
        assert!(differs(&resources(json!("1")), &json!({"resources": {}})));
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        let wanted =
            json!({"spec": {"template": {"containers": [{"name": "a", "image": "x"}], "selector": {"k": "v"}}}});
        for (pointer, value, path) in [
            ("/spec/template/containers/0/image", json!("y"), Some("spec.template.containers[a].image")),
            ("/spec/template/containers/0/name", json!("b"), Some("spec.template.containers[a]")),
            ("/spec/template/selector", json!({"k": "v", "more": "x"}), Some("spec.template.selector.more")),
            ("/spec/template/selector/k", json!("w"), Some("spec.template.selector.k")),
            ("/spec/template/containers/0/image", json!("x"), None),
        ] {
            let mut live = wanted.clone();
            *live.pointer_mut(pointer).unwrap() = value;
            assert_eq!(difference_at("", "", &wanted, &live).as_deref(), path, "{pointer}");
        }
    }

    #[test]
    fn a_view_has_what_is_compared_and_nothing_else() {
        let wanted = json!({"n": 1, "none": null, "list": [{"name": "a", "v": 1}], "plain": [1], "selector": {"a": "b"}, "gone": 1});
        let live = json!({
            "n": 2, "none": 5, "list": [{"name": "b"}, {"name": "a", "v": 3, "more": 4}], "plain": [1, 2],
            "selector": {"x": "y"}, "more": 1,
        });
        let view = json!({
            "n": 2, "none": null, "list": [{"name": "a", "v": 3}], "plain": [1, 2], "selector": {"x": "y"}, "gone": null,
        });
        assert_eq!(view_at("", &wanted, &live), view);
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<u8>().prop_map(Value::from),
            "[a-c]{1,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 1..4).prop_map(|map| json!(map)),
            ]
        })
    }

    /// Adds what a server might add to every object.
    fn defaulted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), defaulted(value)));
                Value::Object(fields.chain([("defaulted".to_string(), json!({"by": "the server"}))]).collect())
            }
            Value::Array(elements) => elements.iter().map(defaulted).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }

    /// Every tree that has one leaf changed.
    fn changed(value: &Value) -> Vec<Value> {
        match value {
            Value::Object(fields) => {
                let at = |key: &String, new| {
                    let mut fields = fields.clone();
                    fields.insert(key.clone(), new);
                    Value::Object(fields)
                };
                fields.iter().flat_map(|(key, old)| changed(old).into_iter().map(move |new| at(key, new))).collect()
            }
            Value::Array(elements) => {
                let at = |place: usize, new| {
                    let mut elements = elements.clone();
                    elements[place] = new;
                    Value::Array(elements)
                };
                elements
                    .iter()
                    .enumerate()
                    .flat_map(|(place, old)| changed(old).into_iter().map(move |new| at(place, new)))
                    .collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![json!("changed")],
        }
    }

    proptest! {
        #[test]
        fn an_object_with_defaults_is_the_same_and_any_change_is_seen(wanted in tree()) {
            let live = defaulted(&wanted);
            prop_assert!(!differs(&wanted, &wanted));
            prop_assert!(!differs(&wanted, &live));
            prop_assert!(!differs(&wanted, &view_at("", &wanted, &live)));
            for other in changed(&wanted) {
                prop_assert!(differs(&wanted, &defaulted(&other)), "{} {}", wanted, other);
            }
        }

        #[test]
        fn any_text_is_an_amount_or_none(text in "[0-9.a-zA-Z]{0,12}") {
            let _ = nanos(&text);
        }
    }
}

//! Documents that are made from the documented values: the table in the chart's README, and the descriptions in its
//! schema. PURE.

use crate::values::Documented;
use serde_json::{Value, json};

/// Marks the beginning of the generated part of the README.
pub const BEGIN: &str = "<!-- begin values: made from values.yaml by `make fix` -->";
/// Marks the end of that part.
pub const END: &str = "<!-- end values -->";

/// The README with its table of values replaced.
pub fn with_table(readme: &str, values: &[Documented]) -> Result<String, String> {
    let missing = |mark: &str| format!("the README lacks the line {mark}");
    let (before, rest) = readme.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", table(values)))
}

fn table(values: &[Documented]) -> String {
    let rows = values.iter().map(|Documented { path, default, text }| {
        let default = format!("`{default}`").replace('|', "\\|");
        format!("| `{path}` | {default} | {} |\n", text.replace('|', "\\|"))
    });
    format!("| value | default | what it does |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// The schema with the description of each value replaced, or an error that names a value which the schema lacks.
pub fn with_descriptions(schema: &Value, values: &[Documented]) -> Result<Value, String> {
    let mut schema = schema.clone();
    for value in values {
        let pointer = format!("/properties/{}", value.path.replace('.', "/properties/"));
        let property = schema.pointer_mut(&pointer).and_then(Value::as_object_mut);
        let property = property.ok_or_else(|| format!("values.schema.json lacks {}", value.path))?;
        property.insert("description".to_string(), json!(value.text));
    }
    Ok(schema)
}

/// Paths of the schema's properties without those of sections, in no order.
pub fn leaves(schema: &Value, path: &str) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object() else { return vec![path.to_string()] };
    let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    properties.iter().flat_map(|(key, property)| leaves(property, &below(key))).collect()
}

/// Paths of the schema's objects that let any property pass. A list's items are `path[]`.
pub fn open_objects(schema: &Value, path: &str) -> Vec<String> {
    let mut open = Vec::new();
    if schema["type"] == json!("object") && schema.get("additionalProperties").is_none() {
        open.push(path.to_string());
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        open.extend(open_objects(property, &format!("{path}.{key}")));
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            open.extend(open_objects(&schema[inner], &format!("{path}[]")));
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(path: &str, text: &str) -> Documented {
        Documented { path: path.to_string(), default: json!("a|b"), text: text.to_string() }
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_marks() {
        let readme = format!("# head\n{BEGIN}\nold\n{END}\ntail\n");
        let new = with_table(&readme, &[value("a.b", "One | two.")]).unwrap();
        let table = "| value | default | what it does |\n|---|---|---|\n| `a.b` | `\"a\\|b\"` | One \\| two. |\n";
        assert_eq!(new, format!("# head\n{BEGIN}\n{table}{END}\ntail\n"));
        assert!(with_table("no marks", &[]).is_err());
    }

    #[test]
    fn control_a_value_that_the_schema_lacks_is_named() {
        let schema = json!({"properties": {"a": {"properties": {"b": {"type": "string"}}}}});
        let described = with_descriptions(&schema, &[value("a.b", "Text.")]).unwrap();
        assert_eq!(described.pointer("/properties/a/properties/b/description"), Some(&json!("Text.")));
        assert_eq!(with_descriptions(&schema, &[value("a.c", "")]).unwrap_err(), "values.schema.json lacks a.c");
    }

    #[test]
    fn control_an_open_object_is_named() {
        let closed = json!({"type": "object", "additionalProperties": false});
        let open = json!({"type": "object"});
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {"a": closed, "b": open,
            "c": {"type": "array", "items": open}, "d": {"type": "object", "additionalProperties": open}}});
        assert_eq!(open_objects(&schema, ""), [".b", ".c[]", ".d[]"]);
        assert_eq!(leaves(&schema, ""), ["a", "b", "c", "d"]);
    }
}

//! Reads values.yaml as a list of documented values. PURE.
//!
//! A value is a key with a `# --` comment above it, which may go on in further `#` lines; its default is everything
//! below the key. A key without such a comment is a section, and everything in it must be documented.

use serde_json::Value;

/// Spaces per level in values.yaml.
const INDENT: usize = 2;

/// One value that a user may set.
#[derive(Clone, Debug, PartialEq)]
pub struct Documented {
    /// Its path, in the form for `--set`.
    pub path: String,
    /// Its default.
    pub default: Value,
    /// What it does.
    pub text: String,
}

impl Documented {
    /// Its path as a JSON pointer.
    pub fn pointer(&self) -> String {
        format!("/{}", self.path.replace('.', "/"))
    }
}

/// The documented values in the order of the file, or an error that names the keys without a comment.
pub fn documented(text: &str) -> Result<Vec<Documented>, String> {
    let defaults: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut found: Vec<Documented> = Vec::new();
    let mut sections: Vec<&str> = Vec::new();
    let mut comment: Option<String> = None;
    for line in text.lines() {
        if let Some(start) = line.trim_start().strip_prefix("# -- ") {
            comment = Some(start.to_string());
        } else if let Some(more) = line.trim_start().strip_prefix('#') {
            if let Some(comment) = comment.as_mut() {
                comment.push_str(more);
            }
        } else if let Some((indent, key)) = key(line) {
            sections.truncate(indent / INDENT);
            sections.push(key);
            let path = sections.join(".");
            if let Some(text) = comment.take() {
                let default = defaults.pointer(&format!("/{}", sections.join("/"))).cloned().unwrap_or_default();
                found.push(Documented { path, default, text });
            }
        }
    }
    let silent = silent(&defaults, "", &found);
    if silent.is_empty() {
        Ok(found)
    } else {
        Err(format!("no '# --' comment says what these do: {}", silent.join(", ")))
    }
}

/// Indentation and key of a line that has one.
fn key(line: &str) -> Option<(usize, &str)> {
    let start = line.trim_start();
    let key = start.split_once(':')?.0;
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then_some((line.len() - start.len(), key))
}

/// Paths at or below `path` that no documented value covers.
fn silent(value: &Value, path: &str, found: &[Documented]) -> Vec<String> {
    if found.iter().any(|documented| documented.path == path) {
        return Vec::new();
    }
    let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            fields.iter().flat_map(|(key, value)| silent(value, &below(key), found)).collect()
        }
        Some(_) | None => vec![path.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_has_the_path_of_its_sections_and_the_whole_comment() {
        let text = "# A head.\na:\n  # -- First,\n  # and more.\n  b: 1\n  c:\n    # -- A map.\n    d:\n      x: 1\n# -- Last.\ne: []\n";
        let found = documented(text).unwrap();
        let expected =
            [("a.b", json!(1), "First, and more."), ("a.c.d", json!({"x": 1}), "A map."), ("e", json!([]), "Last.")];
        let found: Vec<_> = found.into_iter().map(|value| (value.path, value.default, value.text)).collect();
        assert_eq!(found, expected.map(|(path, default, text)| (path.to_string(), default, text.to_string())));
    }

    #[test]
    fn control_a_value_without_a_comment_is_named() {
        let complaint = documented("a:\n  # -- Yes.\n  b: 1\n  c: 2\nd: {}\n").unwrap_err();
        assert!(complaint.ends_with("a.c, d"), "{complaint}");
    }
}

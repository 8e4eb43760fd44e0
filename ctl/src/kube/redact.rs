//! What must not leave with a report: tokens, keys and values, and what objects carry of other people's secrets. PURE.
//!
//! Everything that goes into a report comes through here, so that nothing gets around it. A Secret is never read for a
//! report but for the token, and that only to find it.

use serde_json::Value;

/// Stands in the place of what is left out.
pub(crate) const MARK: &str = "[left out]";
/// Hex digits of a token; other clusters' tokens are found by that.
const TOKEN_DIGITS: usize = 64;
/// What stands before hex digits of that number which are no token.
const HARMLESS: &[&str] = &["sha256:", "://"];
/// Annotation with a copy of what `kubectl apply` was given.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Beginnings of variables whose values are kept: ours.
const OUR_VARIABLES: &[&str] = &["RAFTKV_", "POD_"];

/// Takes out the tokens: those that are known, and whatever has their shape.
pub(crate) fn tokens(text: &str, known: &[String]) -> String {
    let known = known.iter().filter(|secret| !secret.is_empty());
    let text = known.fold(text.to_string(), |text, secret| text.replace(secret.as_str(), MARK));
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, run) = rest.split_at(start);
        kept.push_str(before);
        let end = run.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(run.len());
        let harmless = end < TOKEN_DIGITS || HARMLESS.iter().any(|word| kept.ends_with(word));
        kept.push_str(if harmless { &run[..end] } else { MARK });
        rest = &run[end..];
    }
    kept.push_str(rest);
    kept
}

/// Takes out of a log what is finer than `info`, with the number of those lines: at `debug`, raft writes whole messages,
/// and with them keys and values.
pub(crate) fn log(text: &str) -> (String, usize) {
    let (mut kept, mut dropped) = (String::with_capacity(text.len()), 0);
    let mut keeps = true;
    for line in text.lines() {
        let line = without_colours(line);
        // A line without a level belongs to the one before it.
        keeps = level(&line).map_or(keeps, |level| !is_fine(level));
        if keeps {
            kept.push_str(&line);
            kept.push('\n');
        } else {
            dropped += 1;
        }
    }
    (kept, dropped)
}

fn is_fine(level: &str) -> bool {
    ["DEBUG", "TRACE"].contains(&level)
}

/// The level of a line, as text or as JSON.
fn level(line: &str) -> Option<&str> {
    const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
    if line.starts_with('{') {
        return LEVELS.into_iter().find(|level| {
            let fields = [format!("\"level\":\"{level}\""), format!("\"level\":\"{}\"", level.to_lowercase())];
            fields.iter().any(|field| line.contains(field.as_str()))
        });
    }
    line.split_whitespace().take(2).find(|word| LEVELS.contains(word))
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |kept, part| kept + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Takes out of an object, or a list of them, what is noise or may be a secret.
pub(crate) fn object(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("managedFields");
            if let Some(Value::Object(annotations)) = fields.get_mut("annotations") {
                annotations.remove(LAST_APPLIED);
            }
            if let Some(Value::Array(variables)) = fields.get_mut("env") {
                variables.iter_mut().for_each(variable);
            }
            fields.values_mut().for_each(object);
        }
        Value::Array(items) => items.iter_mut().for_each(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Variables of strangers may hold a password.
fn variable(variable: &mut Value) {
    let name = variable["name"].as_str().unwrap_or_default();
    let ours = OUR_VARIABLES.iter().any(|begin| name.starts_with(begin));
    if !ours && let Some(value) = variable.get_mut("value") {
        *value = MARK.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tokens_go_and_digests_and_ids_stay() {
        let (token, other) = ("ab".repeat(32), "CD".repeat(40));
        let digest = format!("sha256:{}", "12".repeat(32));
        let text = format!("a {token} b Bearer {other}, image {digest}, id {}, é", "ef".repeat(16));
        let expected = format!("a {MARK} b Bearer {MARK}, image {digest}, id {}, é", "ef".repeat(16));
        assert_eq!(tokens(&text, &[]), expected);
        assert_eq!(tokens("x short y", &["short".to_string(), String::new()]), format!("x {MARK} y"));
        assert_eq!(tokens("abc", &[]), "abc");
    }

    #[test]
    fn only_info_and_what_is_worse_is_kept_of_a_log() {
        let text = "\x1b[2m2026-01-01T00:00:00Z\x1b[0m \x1b[32m INFO\x1b[0m raftkv: ready\n\
                    2026-01-01T00:00:01Z DEBUG raft: Sending from 1 to 2 msg=data: \"secret\"\n\
                    and its second line: secret\n\
                    2026-01-01T00:00:02Z  WARN raft: slow\n\
                    thread 'main' panicked\n\
                    {\"timestamp\":\"x\",\"level\":\"TRACE\",\"fields\":{\"message\":\"secret\"}}\n\
                    {\"timestamp\":\"x\",\"level\":\"ERROR\",\"fields\":{\"message\":\"bad\"}}\n";
        let (kept, dropped) = log(text);
        assert_eq!(dropped, 3);
        assert!(!kept.contains("secret") && !kept.contains('\x1b'), "{kept}");
        assert!(["ready", "slow", "panicked", "bad"].iter().all(|word| kept.contains(word)), "{kept}");
    }

    #[test]
    fn objects_lose_copies_and_strangers_variables() {
        let mut pod = json!({
            "metadata": {"name": "demo-0", "managedFields": [1], "annotations": {LAST_APPLIED: "{}", "mine": "x"}},
            "spec": {"containers": [{"env": [
                {"name": "RAFTKV_LOG", "value": "info"}, {"name": "DB_PASSWORD", "value": "hush"}, {"name": "POD_NAME"},
            ]}]},
        });
        object(&mut pod);
        let env = [json!({"name": "RAFTKV_LOG", "value": "info"}), json!({"name": "DB_PASSWORD", "value": MARK})];
        let expected = json!({
            "metadata": {"name": "demo-0", "annotations": {"mine": "x"}},
            "spec": {"containers": [{"env": [env[0], env[1], {"name": "POD_NAME"}]}]},
        });
        assert_eq!(pod, expected);
    }
}

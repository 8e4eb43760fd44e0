//! JSON lines: one object a line, `{"key": .., "value": ..}`, or `key_b64`/`value_b64` with standard base64
//! where bytes are not UTF-8. Lines of white space only are skipped; other fields are refused.

use crate::record::{FormatError, Record};
use bytes::Bytes;
use raftkv_client::bytes_text::{from_pair, text_or_base64};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is expected, for a person whose line is something else.
const A_LINE: &str = r#"a line is {"key": "..", "value": ".."}, or with key_b64 and value_b64"#;
/// Every field.
const FIELDS: [&str; 4] = ["key", "key_b64", "value", "value_b64"];

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_b64: Option<String>,
}

/// The records of an input.
pub(crate) fn parse(input: &Bytes) -> Result<Vec<Record>, FormatError> {
    let mut records = Vec::new();
    for (text, line) in input.split(|byte| *byte == b'\n').zip(1..) {
        if !text.trim_ascii().is_empty() {
            records.push(parse_line(text, line)?);
        }
    }
    Ok(records)
}

fn parse_line(text: &[u8], line: u64) -> Result<Record, FormatError> {
    let bad = |why: String| FormatError::Json { line, why };
    let parsed: Line = serde_json::from_slice(text).map_err(|error| bad(explain(text, &error)))?;
    let field = |name: &str, text, base64: Option<String>| {
        from_pair(text, base64.as_deref())
            .map_err(|error| bad(format!("{name}: {error}")))?
            .ok_or_else(|| bad(format!("neither \"{name}\" nor \"{name}_b64\" is there; {A_LINE}")))
    };
    let key = field("key", parsed.key, parsed.key_b64)?;
    let value = field("value", parsed.value, parsed.value_b64)?;
    if key.is_empty() { Err(FormatError::EmptyKey { line }) } else { Ok(Record { key, value, line }) }
}

/// What is wrong with a line that serde does not take, for somebody who has never heard of serde.
fn explain(text: &[u8], error: &serde_json::Error) -> String {
    if let Err(at) = std::str::from_utf8(text) {
        let column = at.valid_up_to() + 1;
        return format!("it is not UTF-8 from byte {column} on; such bytes are written as key_b64 or value_b64");
    }
    match serde_json::from_slice::<Value>(text) {
        Err(_) if error.is_eof() => format!("the JSON is cut off; {A_LINE}"),
        Err(_) => format!("it is no JSON from byte {} on; {A_LINE}", error.column()),
        Ok(Value::Object(fields)) => match fields.iter().find_map(|(name, value)| odd(name, value)) {
            Some(odd) => format!("{odd}; {A_LINE}"),
            // What is left is a field that is there twice, of which the last one is seen here.
            None => format!("a field is there twice; {A_LINE}"),
        },
        Ok(other) => format!("it is {}, and no object; {A_LINE}", kind(&other)),
    }
}

fn odd(name: &str, value: &Value) -> Option<String> {
    match (FIELDS.contains(&name), value) {
        (false, _) => Some(format!("the field \"{name}\" is not known")),
        (true, Value::String(_) | Value::Null) => None,
        (true, other) => Some(format!("\"{name}\" is {}, and must be text in quotes", kind(other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// One line with its end; [`parse`] gives the same key and value back.
pub(crate) fn write(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let (key, key_b64) = text_or_base64(key);
    let (value, value_b64) = text_or_base64(value);
    let line = Line { key, key_b64, value, value_b64 };
    serde_json::to_writer(&mut *out, &line).expect("strings and options always serialize");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn parsed(input: &'static str) -> Result<Vec<Record>, FormatError> {
        parse(&Bytes::from(input))
    }

    #[test]
    fn text_and_base64_may_be_mixed_and_lines_may_end_in_crlf() {
        let records = parsed("{\"key\":\"a\",\"value\":\"1\"}\r\n\r\n{\"key_b64\":\"/w==\",\"value\":\"2\"}").unwrap();
        assert_eq!(records[0], Record { key: "a".into(), value: "1".into(), line: 1 });
        assert_eq!(records[1], Record { key: Bytes::from_static(b"\xff"), value: "2".into(), line: 3 });
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        for (input, words) in [
            ("x", "line 1: it is no JSON from byte 1 on; a line is {\"key\": \"..\", \"value\": \"..\"}"),
            ("{\"key\":\"a\",", "line 1: the JSON is cut off; a line is"),
            ("[1]", "line 1: it is a list, and no object; a line is"),
            ("{\"key\":\"a\",\"value\":\"\",\"lease\":1}", "line 1: the field \"lease\" is not known; a line is"),
            ("{\"key\":\"a\",\"value\":1}", "line 1: \"value\" is a number, and must be text in quotes; a line is"),
            ("{\"key\":\"a\",\"key\":\"b\",\"value\":\"\"}", "line 1: a field is there twice; a line is"),
            ("{\"key\":\"a\"}", "line 1: neither \"value\" nor \"value_b64\" is there; a line is"),
        ] {
            let told = parsed(input).unwrap_err().to_string();
            assert!(told.starts_with(words), "{input}: {told}");
        }
        let bytes = parse(&Bytes::from_static(b"{\"key\":\"\xff\",\"value\":\"\"}")).unwrap_err().to_string();
        assert!(bytes.starts_with("line 1: it is not UTF-8 from byte 9 on"), "{bytes}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (input, line) in [
            ("{\"key\":\"a\",\"value\":\"1\"}\nx", 2),
            ("{\"key\":\"a\"}", 1),
            ("{\"value\":\"a\"}", 1),
            ("\n{\"key\":\"a\",\"key_b64\":\"YQ==\",\"value\":\"\"}", 2),
            ("{\"key_b64\":\"?\",\"value\":\"\"}", 1),
            ("{\"key\":\"a\",\"value\":\"\",\"lease\":1}", 1),
            ("{\"key\":\"a\",\"value\":1}", 1),
        ] {
            match parsed(input) {
                Err(FormatError::Json { line: at, .. }) => assert_eq!(at, line, "{input}"),
                other => panic!("{input}: {other:?}"),
            }
        }
        assert_eq!(parsed("{\"key\":\"\",\"value\":\"\"}"), Err(FormatError::EmptyKey { line: 1 }));
        assert!(parse(&Bytes::from_static(b"{\"key\":\"\xff\",\"value\":\"\"}")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed(pairs in vec((vec(any::<u8>(), 1..20), any::<Vec<u8>>()), 0..8)) {
            let mut out = Vec::new();
            pairs.iter().for_each(|(key, value)| write(&mut out, key, value));
            let records = parse(&out.into()).unwrap();
            let back: Vec<_> = records.into_iter().map(|record| (record.key.to_vec(), record.value.to_vec())).collect();
            prop_assert_eq!(back, pairs);
        }

        #[test]
        fn no_input_panics(input: Vec<u8>) {
            let _ = parse(&input.into());
        }
    }
}

//! Bytes as text: keys in URLs, base64 in JSON, and what a person can read on a terminal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use raftkv_api::KeyValue;
use std::fmt::Write;

/// What is escaped in a key's path: everything but RFC 3986's unreserved characters and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// What is escaped in the value of a query parameter.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A field that should be base64 is not, or a key is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadBytes(String);

/// The target of a key: `/v1/kv/` and the key's bytes, percent-encoded (rule N24).
pub(crate) fn key_target(key: &[u8]) -> String {
    format!("/v1/kv/{}", percent_encode(key, PATH))
}

/// A query parameter's value, percent-encoded.
pub(crate) fn query_value(bytes: &[u8]) -> String {
    percent_encode(bytes, QUERY).to_string()
}

/// Standard base64, with padding.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The inverse of [`to_base64`].
pub fn from_base64(text: &str) -> Result<Bytes, BadBytes> {
    let bytes = STANDARD.decode(text).map_err(|error| BadBytes(format!("'{text}' is not base64: {error}")))?;
    Ok(bytes.into())
}

/// The UTF-8 text or, when it is none, the base64: the pair of fields `x`, `x_b64` of the API.
pub fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_string()), None),
        Err(_) => (None, Some(to_base64(bytes))),
    }
}

/// The inverse of [`text_or_base64`]; `None` when both fields are absent.
pub fn from_pair(text: Option<String>, base64: Option<&str>) -> Result<Option<Bytes>, BadBytes> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(BadBytes("both the text and the base64 field are given".to_string())),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => from_base64(base64).map(Some),
        (None, None) => Ok(None),
    }
}

/// The key of one element of a range.
pub fn key_of(kv: &KeyValue) -> Result<Bytes, BadBytes> {
    let key = from_pair(kv.key.clone(), kv.key_b64.as_deref())?;
    key.ok_or_else(|| BadBytes("an element of a range has no key".to_string()))
}

/// The value of one element of a range; empty when it was read with `keys_only`.
pub fn value_of(kv: &KeyValue) -> Result<Bytes, BadBytes> {
    Ok(from_pair(kv.value.clone(), kv.value_b64.as_deref())?.unwrap_or_default())
}

/// A word of a command as a shell takes it: in quotes if there is anything in it that a shell would read otherwise.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Bytes as one line for people: control characters and bytes that are no UTF-8 are escaped, and text
/// beyond `chars_max` is cut with an ellipsis.
pub fn printable(bytes: &[u8], chars_max: usize) -> String {
    let mut line = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(line, "\\x{byte:02x}").expect("a String takes everything");
        }
        // Values may be megabytes; what will be cut need not be escaped.
        if line.len() > 8 * chars_max.max(1024) {
            break;
        }
    }
    match line.char_indices().nth(chars_max) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        for (word, quoted) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("/srv/a b/token", "'/srv/a b/token'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }

    #[test]
    fn keys_are_percent_encoded_raw_bytes() {
        assert_eq!(key_target(b"a/b c%\xff"), "/v1/kv/a/b%20c%25%FF");
        assert_eq!(query_value(b"a/b+c&d"), "a%2Fb%2Bc%26d");
    }

    #[test]
    fn people_see_one_line() {
        assert_eq!(printable(b"a\nb\xff\xc3\xa9", 99), "a\\nb\\xff\u{e9}");
        assert_eq!(printable("ééé".as_bytes(), 2), "éé…");
    }

    proptest! {
        #[test]
        fn any_bytes_survive_the_pair_of_fields(bytes: Vec<u8>) {
            let (text, base64) = text_or_base64(&bytes);
            prop_assert_eq!(from_pair(text, base64.as_deref()).unwrap().unwrap(), Bytes::from(bytes));
        }

        #[test]
        fn any_key_survives_its_target(key in proptest::collection::vec(any::<u8>(), 1..64)) {
            let target = key_target(&key);
            target.parse::<hyper::Uri>().expect("a valid target");
            let back: Vec<u8> = percent_encoding::percent_decode_str(&target["/v1/kv/".len()..]).collect();
            prop_assert_eq!(back, key);
        }
    }
}

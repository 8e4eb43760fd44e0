//! Reads bytes and numbers from a request target: percent-decoding of keys, and query parameters.
//!
//! Nothing is guessed: a parameter that is unknown, repeated or malformed is refused by name. Keys are bytes; no step
//! here normalises them.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use bytes::Bytes;
use raftkv_api::{Code, Problem};
use std::collections::BTreeMap;

/// Takes base64 with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Undoes percent-encoding; `None` when a `%` is not followed by two hex digits.
pub fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let mut bytes = text.as_bytes().iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        decoded.push(u8::try_from(high * 16 + low).expect("two hex digits"));
    }
    Some(decoded)
}

/// A key as a `next` token.
pub fn to_token(key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The query parameters of one call.
#[derive(Debug)]
pub struct Query(BTreeMap<String, Vec<u8>>);

impl Query {
    /// Splits and decodes a query as HTML forms and every URL library write it (`+` is a space), and checks the names.
    pub fn parse(query: Option<&str>, allowed: &[&str]) -> Result<Query, Problem> {
        let mut parameters = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode(name).and_then(|name| String::from_utf8(name).ok());
            let Some(name) = name.filter(|name| allowed.contains(&name.as_str())) else {
                return Err(unknown(pair, allowed));
            };
            let value = percent_decode(&value.replace('+', " "));
            let value = value.ok_or_else(|| bad(&name, "a '%' must be followed by two hex digits"))?;
            if parameters.insert(name.clone(), value).is_some() {
                return Err(bad(&name, "given more than once"));
            }
        }
        Ok(Query(parameters))
    }

    /// Whether a parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Bytes, from `name` or from `name_b64`.
    pub fn bytes(&self, name: &str) -> Result<Option<Bytes>, Problem> {
        let name_b64 = format!("{name}_b64");
        match (self.0.get(name), self.has(&name_b64)) {
            (Some(_), true) => Err(bad(name, &format!("cannot be combined with {name_b64}"))),
            (Some(bytes), false) => Ok(Some(Bytes::from(bytes.clone()))),
            (None, _) => self.base64(&name_b64),
        }
    }

    /// Bytes in base64 of either alphabet, padded or not.
    pub fn base64(&self, name: &str) -> Result<Option<Bytes>, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        // A '+' that its sender did not encode was read as a space.
        let standard = |byte: &u8| match byte {
            b'-' | b' ' => b'+',
            b'_' => b'/',
            other => *other,
        };
        let text: Vec<u8> = text.iter().map(standard).collect();
        let bytes = BASE64.decode(text).map_err(|error| bad(name, &format!("not base64: {error}")))?;
        Ok(Some(Bytes::from(bytes)))
    }

    /// A whole number in a range.
    pub fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| bad(name, &format!("must be a whole number from {min} to {max}")))
    }

    /// True, false, or given without a value, which is true.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.0.get(name).map(Vec::as_slice) {
            None | Some(b"false") => Ok(false),
            Some(b"" | b"true") => Ok(true),
            Some(_) => Err(bad(name, "must be true or false")),
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| word.as_bytes() == text.as_slice()) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(bad(name, &format!("must be one of {}", words.join(", "))))
            }
        }
    }
}

/// A problem with the value of a parameter.
pub fn bad(name: &str, detail: &str) -> Problem {
    Problem::new(Code::BadParameter, format!("parameter {name}: {detail}"))
}

fn unknown(pair: &str, allowed: &[&str]) -> Problem {
    let name = pair.split('=').next().expect("split yields at least one part");
    let allowed = if allowed.is_empty() { "none".to_string() } else { allowed.join(", ") };
    Problem::new(Code::UnknownParameter, format!("parameter {name} is not known here; allowed: {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_survive_percent_encoding(bytes: Vec<u8>) {
            let all = percent_encoding::percent_encode(&bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(percent_decode(&all), Some(bytes.clone()));
            let few = percent_encoding::percent_encode(&bytes, percent_encoding::CONTROLS).to_string();
            if !bytes.contains(&b'%') {
                prop_assert_eq!(percent_decode(&few), Some(bytes));
            }
        }

        #[test]
        fn any_bytes_survive_a_query(bytes: Vec<u8>) {
            let encoded = percent_encoding::percent_encode(&bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
            let query = Query::parse(Some(&format!("prefix={encoded}")), &["prefix"]).expect("known");
            prop_assert_eq!(query.bytes("prefix").expect("plain"), Some(Bytes::from(bytes.clone())));
            for text in [to_token(&bytes), base64::engine::general_purpose::STANDARD.encode(&bytes)] {
                let query = Query::parse(Some(&format!("prefix_b64={text}")), &["prefix", "prefix_b64"]).expect("known");
                prop_assert_eq!(query.bytes("prefix").expect("base64"), Some(Bytes::from(bytes.clone())));
            }
        }

        #[test]
        fn no_query_panics(text: String) {
            let _either = Query::parse(Some(&text), &["a", "b"]);
        }
    }

    #[test]
    fn half_a_percent_escape_is_refused() {
        for text in ["%", "%f", "%zz", "a%2", "%%41"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
        assert_eq!(percent_decode("a+b%2b%2F"), Some(b"a+b+/".to_vec()), "'+' is itself outside a query");
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named_with_the_allowed_ones() {
        let problem = |query| Query::parse(Some(query), &["limit", "after"]).expect_err("refused");
        let unknown = problem("limit=1&limt=2");
        assert_eq!(unknown.code, Code::UnknownParameter);
        assert_eq!(unknown.detail, "parameter limt is not known here; allowed: limit, after");
        assert_eq!(problem("%ff=1").code, Code::UnknownParameter);
        assert_eq!(problem("limit=1&limit=1").detail, "parameter limit: given more than once");
        assert_eq!(problem("limit=%zz").code, Code::BadParameter);
        assert!(Query::parse(Some("&&"), &[]).is_ok(), "empty pairs say nothing");
    }

    #[test]
    fn values_have_types() {
        let query = |text| Query::parse(Some(text), &["v", "v_b64"]).expect("known");
        assert_eq!(query("").number("v", 1, 9), Ok(None));
        assert_eq!(query("v=9").number("v", 1, 9), Ok(Some(9)));
        for bad in ["v=0", "v=10", "v=", "v=+1", "v=-1", "v=1.0", "v=%ff", "v=99999999999999999999"] {
            assert_eq!(query(bad).number("v", 1, 9).expect_err(bad).code, Code::BadParameter);
        }
        for (text, flag) in [("", false), ("v", true), ("v=true", true), ("v=false", false)] {
            assert_eq!(query(text).flag("v"), Ok(flag));
        }
        assert!(query("v=yes").flag("v").is_err());
        assert_eq!(query("v=b").word("v", &[("a", 1), ("b", 2)]), Ok(Some(2)));
        assert!(query("v=B").word("v", &[("a", 1), ("b", 2)]).is_err());
        assert_eq!(query("v=a+b%2B").bytes("v"), Ok(Some(Bytes::from_static(b"a b+"))));
        assert!(query("v=a&v_b64=YQ").bytes("v").is_err(), "both");
        assert!(query("v_b64=!").bytes("v").is_err());
    }
}

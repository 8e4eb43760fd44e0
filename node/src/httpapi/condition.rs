//! `If-Match` and `If-None-Match` (rule N24).
//!
//! Enters: request headers. Leaves: the condition that they mean, or a problem. A condition that cannot be honoured is
//! refused, never ignored.

use axum::http::{HeaderMap, HeaderName, header};
use raftkv_api::{Code, Problem};
use raftkv_core::kvstore::Condition;
use raftkv_core::types::{Index, Revision};

/// The condition of a PUT or DELETE of a key.
pub fn of_write(headers: &HeaderMap) -> Result<Condition, Problem> {
    match (one(headers, &header::IF_MATCH)?, one(headers, &header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Condition::None),
        (Some(_), Some(_)) => Err(bad("If-Match and If-None-Match cannot be combined")),
        (Some("*"), None) => Ok(Condition::Exists),
        (Some(tag), None) => number_in(tag).map(Condition::ModRevision),
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(_)) => Err(bad("If-None-Match takes only '*'")),
    }
}

/// The revision that the reader of one key has already: `If-None-Match: "<rev>"`, as a cache sends it. Any other condition
/// of a read would make no sense or is not supported.
pub fn of_read(headers: &HeaderMap) -> Result<Option<Revision>, Problem> {
    if headers.contains_key(header::IF_MATCH) {
        return Err(bad("a read takes If-None-Match with one ETag, not If-Match"));
    }
    match one(headers, &header::IF_NONE_MATCH)? {
        None => Ok(None),
        Some("*") => Err(bad("a read takes If-None-Match with one ETag, not '*'")),
        Some(tag) => number_in(tag).map(Some),
    }
}

/// The conf index that fences a membership call (rule O5).
pub fn of_membership(headers: &HeaderMap) -> Result<Index, Problem> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return Err(bad("a membership call takes If-Match, not If-None-Match"));
    }
    match one(headers, &header::IF_MATCH)? {
        None => Err(Problem::new(Code::PreconditionRequired, "send If-Match with the ETag of GET /v1/members")),
        Some("*") => Err(bad("a membership call takes the ETag of GET /v1/members, not '*'")),
        Some(tag) => number_in(tag),
    }
}

/// Refuses a condition on every other call.
pub fn none(headers: &HeaderMap) -> Result<(), Problem> {
    match [header::IF_MATCH, header::IF_NONE_MATCH].iter().find(|name| headers.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(bad(&format!("this call does not take {name}"))),
    }
}

/// An entity tag: `"<number>"`.
pub fn tag(number: u64) -> String {
    format!("\"{number}\"")
}

/// The only value of a header; several lines of one header are a list, and refused.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(&format!("{name} is given more than once")));
    }
    value.to_str().map(|text| Some(text.trim())).map_err(|_| bad(&format!("{name} is not ASCII")))
}

fn number_in(tag: &str) -> Result<u64, Problem> {
    if tag.contains(',') {
        return Err(bad("a list of entity tags is not supported"));
    }
    if tag.starts_with("W/") {
        return Err(bad("a weak entity tag never matches"));
    }
    let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    // Only the form that we send is taken: we never sent the tag "007".
    let number = digits.and_then(|digits| digits.parse::<u64>().ok().filter(|n| n.to_string() == digits));
    number.ok_or_else(|| bad(&format!("'{tag}' is not an entity tag like \"42\", with its quotes")))
}

fn bad(detail: &str) -> Problem {
    Problem::new(Code::BadCondition, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn conditions_of_writes() {
        let cases: &[(Given<'_>, Option<Condition>)] = &[
            (&[], Some(Condition::None)),
            (&[("if-match", "\"42\"")], Some(Condition::ModRevision(42))),
            (&[("if-match", " \"42\" ")], Some(Condition::ModRevision(42))),
            (&[("if-match", "*")], Some(Condition::Exists)),
            (&[("if-none-match", "*")], Some(Condition::Absent)),
            (&[("if-none-match", "\"42\"")], None),
            (&[("if-match", "*"), ("if-none-match", "*")], None),
            (&[("if-match", "\"1\""), ("if-match", "\"2\"")], None),
            (&[("if-match", "\"1\", \"2\"")], None),
            (&[("if-match", "\"1\",")], None),
            (&[("if-match", "W/\"1\"")], None),
            (&[("if-match", "42")], None),
            (&[("if-match", "\"\"")], None),
            (&[("if-match", "\"")], None),
            (&[("if-match", "")], None),
            (&[("if-match", "\"+1\"")], None),
            (&[("if-match", "\"007\"")], None),
            (&[("if-match", "\"-1\"")], None),
            (&[("if-match", "\"18446744073709551616\"")], None),
            (&[("if-match", "\"18446744073709551615\"")], Some(Condition::ModRevision(u64::MAX))),
        ];
        for (given, expected) in cases {
            match (of_write(&headers(given)), expected) {
                (Ok(condition), Some(expected)) => assert_eq!(condition, *expected, "{given:?}"),
                (Err(problem), None) => assert_eq!(problem.code, Code::BadCondition, "{given:?}"),
                (got, _) => panic!("{given:?}: {got:?}"),
            }
        }
        let mut bytes = HeaderMap::new();
        bytes.insert(header::IF_MATCH, HeaderValue::from_bytes(b"\"\xff\"").expect("opaque bytes"));
        assert_eq!(of_write(&bytes).expect_err("not ASCII").code, Code::BadCondition);
    }

    #[test]
    fn a_read_takes_the_one_tag_that_it_has() {
        assert_eq!(of_read(&headers(&[])), Ok(None));
        assert_eq!(of_read(&headers(&[("if-none-match", "\"42\"")])), Ok(Some(42)));
        let refused: &[Given<'_>] = &[
            &[("if-none-match", "*")],
            &[("if-none-match", "42")],
            &[("if-none-match", "W/\"42\"")],
            &[("if-none-match", "\"1\", \"2\"")],
            &[("if-none-match", "\"1\""), ("if-none-match", "\"2\"")],
            &[("if-match", "\"42\"")],
            &[("if-match", "\"42\""), ("if-none-match", "\"42\"")],
        ];
        for given in refused {
            assert_eq!(of_read(&headers(given)).expect_err("refused").code, Code::BadCondition, "{given:?}");
        }
    }

    #[test]
    fn membership_calls_need_a_number() {
        assert_eq!(of_membership(&headers(&[("if-match", "\"7\"")])), Ok(7));
        let code = |given| of_membership(&headers(given)).expect_err("refused").code;
        assert_eq!(code(&[]), Code::PreconditionRequired);
        assert_eq!(code(&[("if-match", "*")]), Code::BadCondition);
        assert_eq!(code(&[("if-match", "7")]), Code::BadCondition);
        assert_eq!(code(&[("if-match", "\"7\""), ("if-none-match", "*")]), Code::BadCondition);
    }

    #[test]
    fn other_calls_refuse_both() {
        assert_eq!(none(&headers(&[("accept", "*/*")])), Ok(()));
        for name in ["if-match", "if-none-match"] {
            assert!(none(&headers(&[(name, "*")])).expect_err("refused").detail.contains(name));
        }
    }

    type Given<'a> = &'a [(&'static str, &'static str)];

    fn headers(given: Given<'_>) -> HeaderMap {
        given.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(*name, HeaderValue::from_static(value));
            headers
        })
    }
}

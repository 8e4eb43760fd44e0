//! Tests of what requests mean: which call each becomes, and which are refused.

use super::*;
use crate::httpapi::routes;
use axum::http::{Method, Request};
use proptest::prelude::*;

const TARGET: &[(&str, &str)] =
    &[("x-raftkv-cluster", "none"), ("x-raftkv-name", "n1"), ("x-raftkv-incarnation", "00")];
const FENCED: &[(&str, &str)] =
    &[("x-raftkv-cluster", "c"), ("x-raftkv-name", "n1"), ("x-raftkv-incarnation", "00"), ("if-match", "\"7\"")];

proptest! {
    #[test]
    fn any_key_reaches_the_store_as_it_is(key in proptest::collection::vec(any::<u8>(), 1..64)) {
        let encoded = percent_encoding::percent_encode(&key, percent_encoding::NON_ALPHANUMERIC);
        prop_assert_eq!(key_of(&format!("/v1/kv/{encoded}")), Ok(key.clone()));
        prop_assert_eq!(key_of(&format!("/v1/kv/?key_b64={}", query::to_token(&key))), Ok(key));
    }

    #[test]
    fn a_prefix_range_holds_exactly_the_keys_with_that_prefix(prefix: Vec<u8>, key: Vec<u8>, tail: Vec<u8>) {
        let end = prefix_end(&prefix);
        let holds = |key: &[u8]| key >= prefix.as_slice() && end.as_ref().is_none_or(|end| key < end.as_ref());
        prop_assert_eq!(holds(&key), key.starts_with(&prefix));
        prop_assert!(holds(&[prefix.clone(), tail].concat()));
    }
}

#[test]
fn keys_are_not_normalised() {
    let cases: &[(&str, &[u8])] = &[
        ("/v1/kv/a/b", b"a/b"),
        ("/v1/kv/a%2Fb", b"a/b"),
        ("/v1/kv//", b"/"),
        ("/v1/kv/../x", b"../x"),
        ("/v1/kv/%2e%2E", b".."),
        ("/v1/kv/a+b", b"a+b"),
        ("/v1/kv/%FF%00", b"\xff\0"),
        ("/v1/kv/{key}", b"{key}"),
    ];
    for (target, expected) in cases {
        assert_eq!(key_of(target), Ok(expected.to_vec()), "{target}");
    }
}

#[test]
fn bad_keys() {
    let long = |bytes: usize| format!("/v1/kv/{}", "k".repeat(bytes));
    assert_eq!(key_of(&long(limits::KEY_BYTES_MAX)).map(|key| key.len()), Ok(limits::KEY_BYTES_MAX));
    assert_eq!(key_of(&long(limits::KEY_BYTES_MAX + 1)), Err(Code::KeyTooLarge));
    assert_eq!(key_of("/v1/kv/"), Err(Code::EmptyKey));
    assert_eq!(key_of("/v1/kv/?key_b64="), Err(Code::EmptyKey));
    assert_eq!(key_of("/v1/kv/a?key_b64=YQ"), Err(Code::BadParameter));
    assert_eq!(key_of("/v1/kv/?key_b64=!"), Err(Code::BadParameter));
    assert_eq!(key_of("/v1/kv/%zz"), Err(Code::BadRequest));
    assert_eq!(key_of("/v1/kv/a?x=1"), Err(Code::UnknownParameter));
}

#[test]
fn writes_carry_their_condition() {
    let put = call(Endpoint::Put, "/v1/kv/a", &[("if-match", "\"3\"")], b"v").expect("good");
    assert!(matches!(put, Call::Put { value, condition: Condition::ModRevision(3), .. } if value == "v"));
    let delete = call(Endpoint::Delete, "/v1/kv/a", &[("if-none-match", "*")], b"").expect("good");
    assert!(matches!(delete, Call::Delete { condition: Condition::Absent, .. }));
}

#[test]
fn no_other_call_takes_a_condition() {
    for route in routes::table() {
        let target = route.path.replace("{key}", "a").replace("{id}", "1");
        for name in ["if-match", "if-none-match"] {
            let result = call(route.endpoint, &target, &[&[(name, "W/\"1\"")], TARGET].concat(), b"");
            assert_eq!(result.expect_err("refused").code, Code::BadCondition, "{target} {name}");
        }
    }
}

#[test]
fn reads_have_a_consistency_and_a_revision() {
    let get = |target: &str| call(Endpoint::Get, target, &[], b"");
    let default = get("/v1/kv/a").expect("good");
    assert!(matches!(default, Call::Get { revision: 0, consistency: Consistency::Linearizable, .. }));
    let stale = get("/v1/kv/a?consistency=stale&revision=5").expect("good");
    assert!(matches!(stale, Call::Get { revision: 5, consistency: Consistency::Stale, .. }));
    for bad in ["consistency=", "consistency=Stale", "revision=0", "revision=-1", "revision=5&revision=5"] {
        let problem = get(&format!("/v1/kv/a?{bad}")).expect_err(bad);
        assert_eq!(problem.code, Code::BadParameter, "{bad}");
    }
}

#[test]
fn ranges() {
    let all = range_of("").expect("good");
    assert_eq!((all.start.len(), all.end, all.after), (0, None, None));
    assert_eq!((all.limit, all.bytes_max), (limits::PAGE_KEYS_MAX, limits::PAGE_BYTES_MAX));
    let prefix = range_of("prefix=a%ff").expect("good");
    assert_eq!((prefix.start.as_ref(), prefix.end.as_deref()), (b"a\xff".as_slice(), Some(b"b".as_slice())));
    assert_eq!(range_of("prefix=%ff").expect("good").end, None);
    let page = range_of("start=a&end_b64=Yw&after=Yg&limit=2&keys_only&count_only=true&revision=9").expect("good");
    assert_eq!((page.start.as_ref(), page.end.as_deref()), (b"a".as_slice(), Some(b"c".as_slice())));
    assert_eq!((page.after.as_deref(), page.limit, page.revision), (Some(b"b".as_slice()), 2, 9));
    assert!(page.keys_only && page.count_only);
    for bad in [
        "prefix=a&start=a",
        "prefix=a&end_b64=Yg",
        "prefix=a&prefix_b64=YQ",
        "start=b&end=a",
        "prefix=b&after=YQ",
        "end=a&after=YQ",
        "after=!",
        "limit=0",
        "limit=10001",
        "keys_only=1",
    ] {
        assert_eq!(range_of(bad).expect_err(bad).code, Code::BadParameter, "{bad}");
    }
    assert_eq!(range_of("pefix=a").expect_err("unknown").code, Code::UnknownParameter);
}

#[test]
fn membership_calls_are_fenced_and_name_their_node() {
    let remove = |headers: &[(&str, &str)]| call(Endpoint::RemoveMember, "/v1/members/3", headers, b"");
    let Ok(Call::Change { target, if_match: 7, change: MembershipCall::Remove { id: 3 } }) = remove(FENCED) else {
        panic!("good")
    };
    assert_eq!((target.cluster.as_str(), target.name.as_str(), target.incarnation.as_str()), ("c", "n1", "00"));
    assert_eq!(remove(TARGET).expect_err("no If-Match").code, Code::PreconditionRequired);
    for left_out in 0..3 {
        let mut headers = FENCED.to_vec();
        headers.remove(left_out);
        assert_eq!(remove(&headers).expect_err("incomplete").code, Code::MissingHeader);
        let twice = [FENCED, &FENCED[left_out..=left_out]].concat();
        assert_eq!(remove(&twice).expect_err("twice").code, Code::MissingHeader);
    }
    for id in ["0", "01", "x", "-1", "18446744073709551616", "%31"] {
        let problem = call(Endpoint::RemoveMember, &format!("/v1/members/{id}"), FENCED, b"").expect_err(id);
        assert_eq!(problem.code, Code::BadRequest, "{id}");
    }
}

#[test]
fn promote_and_transfer_take_an_empty_body() {
    let promote = |body: &[u8]| match call(Endpoint::Promote, "/v1/members/3/promote", FENCED, body) {
        Ok(Call::Change { change, .. }) => Ok(change),
        Ok(other) => panic!("{other:?}"),
        Err(problem) => Err(problem.code),
    };
    assert_eq!(promote(b""), Ok(MembershipCall::Promote { id: 3, replaces: None }));
    assert_eq!(promote(br#"{"replaces":"2"}"#), Ok(MembershipCall::Promote { id: 3, replaces: Some(2) }));
    assert_eq!(promote(br#"{"replace":"2"}"#), Err(Code::BadRequest));
    assert_eq!(promote(br#"{"replaces":2}"#), Err(Code::BadRequest));
    let transfer = call(Endpoint::Transfer, "/v1/leader/transfer", TARGET, br#"{"to":"2"}"#).expect("good");
    assert!(matches!(transfer, Call::Transfer { to: Some(2), .. }));
}

#[test]
fn bodies_are_checked() {
    let hex = "0".repeat(32);
    let add = |name: &str, url: &str| {
        let body = format!(r#"{{"name":"{name}","peer_url":"{url}","incarnation":"{hex}"}}"#);
        call(Endpoint::AddMember, "/v1/members", FENCED, body.as_bytes()).map_err(|problem| problem.code)
    };
    assert!(add("n2", "http://n2.demo:2380").is_ok());
    assert!(add("n2", "http://[::1]:2380").is_ok());
    let stored = |url: &str| match add("n2", url) {
        Ok(Call::Change { change: MembershipCall::Add(member), .. }) => member.peer.to_string(),
        other => panic!("{url}: {other:?}"),
    };
    assert_eq!((stored("http://n2:2380"), stored("n2:2380")), ("n2:2380".into(), "n2:2380".into()));
    for (name, url) in [
        ("", "http://n2:2380"),
        ("a b", "http://n2:2380"),
        ("n2", "https://n2:2380"),
        ("n2", "http://n2"),
        ("n2", "n2"),
        ("n2", "http://n2:2380/"),
        ("n2", "http://n2:2380/x"),
        ("n2", "http://u@n2:2380"),
        ("n2", "http://0.0.0.0:2380"),
        ("n2", "http://[::]:2380"),
        ("n2", ""),
    ] {
        assert_eq!(add(name, url).expect_err(url), Code::BadRequest, "{name} {url}");
    }
    let tls = format!(r#"{{"name":"n2","peer_url":"https://n2:1","incarnation":"{hex}"}}"#);
    let problem = call(Endpoint::AddMember, "/v1/members", FENCED, tls.as_bytes()).expect_err("TLS");
    assert_eq!(problem.detail, "peer_url 'https://n2:1': give http://host:port (TLS is not supported yet)");
    let init = |min: u32| {
        let body = format!(r#"{{"cluster_id":"{hex}","name":"n1","incarnation":"{hex}","min_voters":{min}}}"#);
        call(Endpoint::Init, "/v1/init", TARGET, body.as_bytes())
    };
    assert!(matches!(init(2), Ok(Call::Init { init, .. }) if init.min_voters == 2));
    assert_eq!(init(0).expect_err("no voters").code, Code::BadRequest);
    let deep = "[".repeat(60_000);
    for body in ["", "{}", "null", "{", &deep, r#"{"incarnation":"00"}"#] {
        let problem = call(Endpoint::Reset, "/v1/reset", TARGET, body.as_bytes()).expect_err("bad body");
        assert_eq!(problem.code, Code::BadRequest);
    }
}

#[test]
fn readyz_may_be_verbose() {
    for (target, expected) in [("/readyz", false), ("/readyz?verbose", true), ("/readyz?verbose=true", true)] {
        let call = call(Endpoint::Readyz, target, &[], b"");
        assert!(matches!(call, Ok(Call::Readyz { verbose }) if verbose == expected), "{target}");
    }
}

fn key_of(target: &str) -> Result<Vec<u8>, Code> {
    match call(Endpoint::Get, target, &[], b"") {
        Ok(Call::Get { key, .. }) => Ok(key.to_vec()),
        Ok(other) => panic!("{other:?}"),
        Err(problem) => Err(problem.code),
    }
}

fn range_of(query: &str) -> Result<RangeQuery, Problem> {
    match call(Endpoint::Range, &format!("/v1/kv?{query}"), &[], b"")? {
        Call::Range { query, .. } => Ok(query),
        other => panic!("{other:?}"),
    }
}

fn call(endpoint: Endpoint, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Call, Problem> {
    let route = routes::table().iter().find(|route| route.endpoint == endpoint).expect("every endpoint has a row");
    let mut request = Request::builder().method(Method::GET).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).expect("a valid request").into_parts();
    parse(route, &head, Bytes::copy_from_slice(body))
}

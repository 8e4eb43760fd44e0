//! Requests made from the API's description, good and bad, and the answers that the description allows to each.
//!
//! Enters: the OpenAPI document. Leaves: for each operation, its parameters with values at and beyond their bounds,
//! alone and in pairs, methods that the path does not have, bodies and media types that the operation does not have,
//! and bodies that fit its schema or nearly do; and for each answer what is wrong with it: a status, media type,
//! property or problem code that the document does not have.

use crate::http::Answer;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Values tried for a query parameter, as they stand in a target.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "2",
    "10000",
    "10001",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1.0",
    "01",
    "%31",
    "true",
    "false",
    "TRUE",
    "stale",
    "linearizable",
    "none",
    "YQ",
    "YQ==",
    "_-8",
    "%00",
    "%ff",
    "%C3%A9",
    "a%20b",
    "a+b",
    "%zz",
    "%",
    "%2F..%2F",
    "'()",
    "null",
    "[]",
];
/// Those of the values that are tried in pairs.
const PAIRED: &[&str] = &["", "1", "true", "stale", "YQ", "%ff"];
/// Values tried as an entity tag.
const TAGS: &[&str] = &[
    "\"1\"",
    "\"999999\"",
    "*",
    "1",
    "\"\"",
    "\"01\"",
    "\"18446744073709551616\"",
    "W/\"1\"",
    "\"1\", \"2\"",
    "\"-1\"",
    "{}",
];
/// Values tried in the place of a key.
const KEYS: &[&str] = &[
    "k",
    "",
    "/",
    "//",
    "..",
    "../..",
    "a/../b",
    ".",
    "%2e%2e",
    "%2F",
    "%00",
    "%FF%FE",
    "%zz",
    "%",
    "a%20b",
    "a;b",
    "a:b@c",
    "~",
    "{key}",
    "%7Bkey%7D",
    "*",
    "k/",
    "v1/kv/k",
];
/// Values tried in the place of an id.
const IDS: &[&str] = &["1", "0", "01", "-1", "x", "18446744073709551615", "18446744073709551616", "1%2F2", "%31"];
/// Methods, most of which no path has.
const METHODS: &[&str] = &["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"];
/// Bytes of the largest key that is allowed, and of one that is too large.
const KEY_BYTES: [usize; 2] = [4096, 4097];

/// A request to be made, with the operation that it belongs to.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path as the description has it.
    pub path: String,
    /// The target of the request.
    pub target: String,
    /// Headers besides those that every request has.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Values tried for a property of a body, as JSON.
const PROPERTIES: &[&str] = &[
    "null",
    "true",
    "0",
    "1",
    "-1",
    "1.5",
    "1e400",
    "18446744073709551616",
    "[]",
    "{}",
    "\"\"",
    "\"x\"",
    "\"n1\"",
    "\"01\"",
    "\"1\"",
    "\"18446744073709551616\"",
    "\"00000000000000000000000000000000\"",
    "\"0000000000000000000000000000000G\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"http://\"",
    "\"ftp://127.0.0.1:1\"",
    "\"http://127.0.0.1:99999\"",
    "\"http://127.0.0.1:1/path\"",
    "\"http://127.0.0.1:1\"",
];
/// Depth of a nested list, which is no body that a node takes.
const DEEP: usize = 10_000;

/// The requests for the operations of the admin port that change something. Their bodies are made from the schemas,
/// with properties that are missing, unknown, doubled and wrong; some bodies are not JSON at all.
pub fn changes(spec: &Value) -> Vec<Asked> {
    let mut all = Vec::new();
    for (path, item) in spec["paths"].as_object().into_iter().flatten() {
        for method in ["post", "put", "delete"] {
            let operation = &item[method];
            if !strings(&operation["tags"]).any(|tag| tag == "admin") {
                continue;
            }
            of_operation(&mut all, path, method, operation);
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_object() {
                let json = vec![("content-type".to_string(), "application/json".to_string())];
                let with = |body: Vec<u8>| Asked { headers: json.clone(), body, ..plain(path, method) };
                all.extend(bodies(spec, schema).into_iter().map(with));
            }
        }
    }
    all
}

fn bodies(spec: &Value, schema: &Value) -> Vec<Vec<u8>> {
    let named = schema["$ref"].as_str().and_then(|path| spec.pointer(path.trim_start_matches('#'))).unwrap_or(schema);
    let properties: Vec<(&String, &Value)> = named["properties"].as_object().into_iter().flatten().collect();
    let good = |name: &str, of: &Value| match (of["type"].as_str(), of["pattern"].as_str()) {
        (Some("integer"), _) => "1",
        (_, Some("^[0-9a-f]{32}$")) => "\"000000000000000000000000000000ff\"",
        (_, Some(_)) => "\"1\"",
        _ if name.ends_with("url") => "\"http://127.0.0.1:1\"",
        _ => "\"stranger\"",
    };
    let pair = |name: &str, value: &str| format!("\"{name}\":{value}");
    let but = |left_out: &str| -> Vec<String> {
        let others = properties.iter().filter(|(name, _)| *name != left_out);
        others.map(|(name, of)| pair(name, good(name, of))).collect()
    };
    let body = |pairs: &[String]| format!("{{{}}}", pairs.join(",")).into_bytes();
    let (whole, mut all) = (but(""), Vec::new());
    all.push(body(&whole));
    all.push(body(&[whole.clone(), vec![pair("unknown", "1")]].concat()));
    for (name, _) in &properties {
        all.push(body(&but(name)));
        all.push(body(&[whole.clone(), vec![pair(name, "\"1\"")]].concat()));
        all.extend(PROPERTIES.iter().map(|value| body(&[but(name), vec![pair(name, value)]].concat())));
    }
    let text = String::from_utf8(body(&whole)).expect("made of text");
    all.extend((0..text.len()).step_by(3).map(|end| text.as_bytes()[..end].to_vec()));
    all.extend(
        [format!("{text}x"), format!("[{text}]"), format!("\u{feff}{text}"), "\"text\"".into(), "1".into()]
            .map(String::into_bytes),
    );
    all.extend([vec![b'['; DEEP], vec![0xff; 64], [text.as_bytes(), b"\0"].concat()]);
    all
}

/// The requests for the operations of the port with this tag; for the admin port, only those that read.
pub fn requests(spec: &Value, tag: &str) -> Vec<Asked> {
    let mut all = Vec::new();
    for (path, item) in spec["paths"].as_object().into_iter().flatten() {
        let of_port = |method: &str| strings(&item[method]["tags"]).any(|one| one == tag);
        let methods: Vec<&str> =
            ["get", "put", "delete", "post"].into_iter().filter(|method| of_port(method)).collect();
        if methods.is_empty() {
            continue;
        }
        for method in &methods {
            if tag == "client" || *method == "get" {
                of_operation(&mut all, path, method, &item[*method]);
            }
        }
        // A method that changes something is only tried by its own operation.
        let elsewhere = |method: &&str| !methods.contains(&method.to_lowercase().as_str());
        all.extend(METHODS.iter().copied().filter(elsewhere).map(|method| plain(path, method)));
    }
    all.push(plain("/v1/nowhere", "GET"));
    all.push(plain("/", "GET"));
    all
}

fn plain(path: &str, method: &str) -> Asked {
    let target = path.replace("{key}", "k").replace("{id}", "1");
    Asked { method: method.to_uppercase(), path: path.into(), target, headers: Vec::new(), body: Vec::new() }
}

fn of_operation(all: &mut Vec<Asked>, path: &str, method: &str, operation: &Value) {
    let base = plain(path, method);
    let with_query = |query: String| Asked { target: format!("{}?{query}", base.target), ..base.clone() };
    let with_header = |name: &str, value: &str| Asked { headers: vec![(name.into(), value.into())], ..base.clone() };
    all.push(base.clone());
    all.push(with_query("undocumented=1".into()));
    let parameters: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
    let named = |place: &'static str| {
        parameters.iter().filter(move |one| one["in"] == place).filter_map(|one| one["name"].as_str())
    };
    for name in named("query") {
        all.extend(VALUES.iter().map(|value| with_query(format!("{name}={value}"))));
        all.push(with_query(name.into()));
        all.push(with_query(format!("{name}=1&{name}=1")));
        all.push(with_query(format!("{name}={}", "x".repeat(5000))));
        for other in named("query").filter(|other| *other > name) {
            let pairs = PAIRED.iter().flat_map(|value| PAIRED.iter().map(move |second| (value, second)));
            all.extend(pairs.map(|(value, second)| with_query(format!("{name}={value}&{other}={second}"))));
        }
    }
    for name in named("header").chain(["if-match", "if-none-match"]) {
        all.extend(TAGS.iter().map(|tag| with_header(name, tag)));
    }
    for (place, values) in [("{key}", KEYS), ("{id}", IDS)] {
        let targets = values.iter().filter(|_| path.contains(place)).map(|value| path.replace(place, value));
        all.extend(targets.map(|target| Asked { target, ..base.clone() }));
    }
    if path.contains("{key}") {
        all.extend(KEY_BYTES.map(|bytes| Asked { target: path.replace("{key}", &"k".repeat(bytes)), ..base.clone() }));
    }
    for media_type in ["application/json", "text/html", "application/octet-stream", "no type", ""] {
        for body in [&b""[..], b"{", b"null", b"{\"a\":[1,2]}", &[0xff, 0, 0x80]] {
            all.push(Asked { body: body.to_vec(), ..with_header("content-type", media_type) });
        }
    }
    for (name, value) in
        [("accept", "image/png"), ("range", "bytes=0-1"), ("x-unknown", "1"), ("cookie", "a=b"), ("te", "x")]
    {
        all.push(with_header(name, value));
    }
}

/// Whether the description allows this answer.
pub fn check(spec: &Value, asked: &Asked, answer: &Answer) -> Result<()> {
    let item = &spec["paths"][&asked.path];
    let method = if asked.method == "HEAD" { "get".to_string() } else { asked.method.to_lowercase() };
    let Some(operation) = item.get(&method).filter(|operation| operation.is_object()) else {
        return refused(spec, item, answer, asked.method == "HEAD");
    };
    let response = &operation["responses"][answer.status.to_string()];
    ensure!(response.is_object(), "status {} is not listed", answer.status);
    ensure!(answer.status != 500, "500");
    if asked.method == "HEAD" {
        return Ok(());
    }
    if answer.status == 304 {
        ensure!(answer.body.is_empty(), "304 with a body");
        return Ok(());
    }
    let media_type = answer.header("content-type").context("no Content-Type")?;
    let media_type = media_type.split(';').next().unwrap_or_default();
    let content = &response["content"][media_type];
    ensure!(content.is_object(), "media type {media_type} is not listed");
    if media_type.ends_with("json") {
        let json: Value = serde_json::from_slice(&answer.body).context("it is no JSON")?;
        fits(spec, &content["schema"], &json).with_context(|| json.to_string())?;
        if answer.status != 200 {
            let codes = response["description"].as_str().unwrap_or_default();
            let code = json["code"].as_str().unwrap_or_default();
            ensure!(codes.split(", ").any(|one| one == code), "code {code} is none of {codes}");
        }
    } else if media_type == "text/plain" {
        std::str::from_utf8(&answer.body).context("it is no text")?;
    }
    Ok(())
}

/// Whether the answer to any other method or path is what the document says: 405 or 404.
fn refused(spec: &Value, item: &Value, answer: &Answer, head: bool) -> Result<()> {
    let want = if item.is_object() { 405 } else { 404 };
    ensure!(answer.status == want, "status {} instead of {want}", answer.status);
    if want == 405 {
        let allowed = answer.header("allow").context("405 without Allow")?;
        ensure!(!allowed.is_empty(), "nothing is allowed");
    }
    if head { Ok(()) } else { fits(spec, &spec["components"]["schemas"]["Problem"], &answer.json()?) }
}

/// Whether a value fits a schema of the document; a schema that uses more than this function understands is an error
/// too.
pub fn fits(spec: &Value, schema: &Value, value: &Value) -> Result<()> {
    if let Some(path) = schema["$ref"].as_str() {
        let named = spec.pointer(path.trim_start_matches('#')).with_context(|| format!("{path} is not there"))?;
        return fits(spec, named, value).with_context(|| path.to_string());
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        ensure!(choices.iter().any(|choice| fits(spec, choice, value).is_ok()), "{value} is none of {choices:?}");
        return Ok(());
    }
    if let Some(words) = schema["enum"].as_array() {
        ensure!(words.contains(value), "{value} is none of {words:?}");
        return Ok(());
    }
    match schema["type"].as_str() {
        Some("integer") => {
            let number = value.as_u64().with_context(|| format!("{value} is no whole number"))?;
            ensure!(number >= schema["minimum"].as_u64().unwrap_or_default(), "{number} is too small");
        }
        Some("boolean") => ensure!(value.is_boolean(), "{value} is not true or false"),
        Some("null") => ensure!(value.is_null(), "{value} is not null"),
        Some("string") => string(schema, value.as_str().with_context(|| format!("{value} is no text"))?)?,
        Some("array") => {
            let items = value.as_array().with_context(|| format!("{value} is no list"))?;
            items.iter().try_for_each(|item| fits(spec, &schema["items"], item))?;
        }
        Some("object") => object(spec, schema, value)?,
        other => bail!("a schema of type {other:?}"),
    }
    Ok(())
}

fn string(schema: &Value, text: &str) -> Result<()> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let good = match schema["pattern"].as_str() {
        None => true,
        Some("^[0-9a-f]{32}$") => text.len() == 32 && text.bytes().all(hex),
        Some("^[1-9][0-9]{0,19}$") => text.parse::<u64>().is_ok_and(|id| id > 0 && id.to_string() == text),
        Some(other) => bail!("a pattern that is not known here: {other}"),
    };
    ensure!(good, "'{text}' does not match {}", schema["pattern"]);
    Ok(())
}

/// Checks an object: a property that the schema does not have was forgotten in the description.
fn object(spec: &Value, schema: &Value, value: &Value) -> Result<()> {
    let found = value.as_object().with_context(|| format!("{value} is no object"))?;
    let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
    for name in strings(&schema["required"]) {
        ensure!(found.contains_key(name), "{name} is missing");
    }
    for (name, value) in found {
        let property = properties.get(name).with_context(|| format!("{name} is not described"))?;
        fits(spec, property, value).with_context(|| name.clone())?;
    }
    Ok(())
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Value {
        let answer = json!({"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "minimum": 1}, "id": {"type": "string", "pattern": "^[1-9][0-9]{0,19}$"}}});
        let ok = json!({"content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}});
        let get = json!({"tags": ["client"], "parameters": [{"in": "query", "name": "q"}], "responses": {"200": ok}});
        json!({"paths": {"/a": {"get": get}}, "components": {"schemas": {"A": answer, "Problem": {"type": "object"}}}})
    }

    fn judged(status: u16, media_type: &str, body: &str) -> Result<()> {
        let headers = vec![("content-type".to_string(), media_type.to_string())];
        let answer = Answer { status, headers, body: body.as_bytes().to_vec() };
        check(&spec(), &plain("/a", "get"), &answer)
    }

    #[test]
    fn whatever_the_description_does_not_have_is_found() {
        judged(200, "application/json", "{\"n\":1,\"id\":\"7\"}").unwrap();
        for (status, media_type, body) in [
            (201, "application/json", "{\"n\":1}"),
            (200, "text/plain", "{\"n\":1}"),
            (200, "application/json", "{\"n\":1"),
            (200, "application/json", "{}"),
            (200, "application/json", "{\"n\":0}"),
            (200, "application/json", "{\"n\":1,\"m\":1}"),
            (200, "application/json", "{\"n\":1,\"id\":\"07\"}"),
        ] {
            assert!(judged(status, media_type, body).is_err(), "{status} {media_type} {body}");
        }
        let other = |status| Answer { status, headers: vec![], body: b"{}".to_vec() };
        assert!(check(&spec(), &plain("/a", "PUT"), &other(405)).is_err(), "405 without Allow");
        assert!(check(&spec(), &plain("/b", "GET"), &other(404)).is_ok());
        assert!(check(&spec(), &plain("/b", "GET"), &other(200)).is_err());
    }

    #[test]
    fn every_parameter_is_tried_and_every_other_method() {
        let all = requests(&spec(), "client");
        assert!(VALUES.iter().all(|value| all.iter().any(|asked| asked.target == format!("/a?q={value}"))));
        assert!(all.iter().any(|asked| asked.method == "PATCH"));
        assert!(requests(&spec(), "admin").iter().all(|asked| asked.path != "/a"), "it is no call of the admin port");
    }

    #[test]
    fn bodies_have_every_property_good_bad_and_missing() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}, "to": {"type": "string"}}});
        let all = bodies(&spec(), &schema);
        for body in
            ["{\"n\":1,\"to\":\"stranger\"}", "{\"n\":1}", "{\"n\":1,\"to\":null}", "{\"to\":\"stranger\",\"n\":-1}"]
        {
            assert!(all.iter().any(|one| one == body.as_bytes()), "{body}");
        }
    }
}

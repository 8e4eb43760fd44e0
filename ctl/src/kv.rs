//! `put`, `get`, `del` and `range`.

use crate::args::{Del, Get, Key, Output, Put, Range, Reading};
use crate::context::Context;
use crate::record::FormatError;
use crate::report::Failed;
use crate::streams::{print, print_done, print_json, stdin, warn};
use crate::table::{Align, Table, bytes};
use bytes::Bytes;
use raftkv_api::Code;
use raftkv_client::bytes_text::{from_base64, key_of, printable, text_or_base64, to_base64, value_of};
use raftkv_client::{Error, RangeQuery, ReadOptions};
use serde_json::json;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;

/// Keys in one page of a range.
pub(crate) const PAGE_KEYS: u64 = 1_000;
/// Longest part of a key or a value in a table.
const CELL_CHARS_MAX: usize = 60;
/// The value that means standard input.
const STDIN: &[u8] = b"-";

pub(crate) async fn put(context: &Context, args: Put) -> Result<(), Failed> {
    let condition = args.conditions.condition();
    let key = key_bytes(args.key)?;
    let mut value = args.value.into_vec();
    if value == STDIN {
        value = stdin().await?;
    }
    let done = context.client()?.put(&key, value.into(), condition).await?;
    print_done(context.output, &done, &format!("revision {}, version {}", done.revision, done.version))
}

pub(crate) async fn get(context: &Context, args: Get) -> Result<(), Failed> {
    let key = key_bytes(args.key)?;
    let found =
        context.client()?.find(&key, read_options(&args.reading)).await.map_err(|error| missing(&key, error))?;
    match context.output {
        Output::Table if std::io::stdout().is_terminal() && !is_text(&found.value) => {
            warn("the value is not text, and is shown with escapes; redirect the output to get its bytes\n");
            print(format!("{}\n", printable(&found.value, usize::MAX)).as_bytes())
        }
        Output::Table => print(&found.value),
        Output::Json => {
            let (key, key_b64) = text_or_base64(&key);
            let (value, value_b64) = text_or_base64(&found.value);
            let mut json = json!({"mod_revision": found.mod_revision, "revision": found.revision});
            let fields = [("key", key), ("key_b64", key_b64), ("value", value), ("value_b64", value_b64)];
            for (name, text) in fields {
                if let Some(text) = text {
                    json[name] = text.into();
                }
            }
            print_json(&json)
        }
    }
}

/// A read that failed; that there is no such key is said as a person would.
fn missing(key: &[u8], error: Error) -> Failed {
    match error.problem() {
        Some(problem) if problem.code == Code::KeyNotFound => {
            Failed::NoKey { key: FormatError::quote(key), at: problem.detail.clone() }
        }
        Some(_) | None => error.into(),
    }
}

/// Whether a terminal shows these bytes and does nothing else: some control characters can change what it shows of the
/// next command, or what the next key press does.
fn is_text(bytes: &[u8]) -> bool {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(harmless))
}

pub(crate) async fn del(context: &Context, args: Del) -> Result<(), Failed> {
    let condition = args.conditions.condition();
    let key = key_bytes(args.key)?;
    let done = context.client()?.delete(&key, condition).await?;
    if !done.deleted {
        return Err(Failed::NoKey { key: FormatError::quote(&key), at: format!("at revision {}", done.revision) });
    }
    print_done(context.output, &done, &format!("deleted at revision {}", done.revision))
}

pub(crate) async fn range(context: &Context, args: Range) -> Result<(), Failed> {
    let query = query(&args)?;
    let whole = collect(context, query, args.limit).await?;
    match context.output {
        Output::Json => print_json(&whole),
        Output::Table if args.count_only => print(format!("{}\n", whole.count).as_bytes()),
        Output::Table => print(range_table(&whole)?.as_bytes()),
    }
}

/// All pages as one answer, with at most `limit` keys unless that is 0.
async fn collect(context: &Context, query: RangeQuery, limit: u64) -> Result<raftkv_api::Range, Failed> {
    let client = context.client()?;
    let mut pages = client.pages(query, PAGE_KEYS);
    let mut whole = raftkv_api::Range::default();
    let mut wanted = if limit == 0 { u64::MAX } else { limit };
    while wanted > 0
        && let Some(page) = pages.next(wanted).await?
    {
        wanted = wanted.saturating_sub(page.kvs.len() as u64);
        whole.revision = page.revision;
        whole.count = page.count;
        whole.kvs.extend(page.kvs);
    }
    Ok(whole)
}

fn query(args: &Range) -> Result<RangeQuery, Failed> {
    let decode = |text: &OsString| decoded(text.clone(), args.key_b64);
    Ok(RangeQuery {
        prefix: args.prefix.as_ref().map(decode).transpose()?.unwrap_or_default(),
        start: args.start.as_ref().map(decode).transpose()?,
        end: args.end.as_ref().map(decode).transpose()?,
        keys_only: args.keys_only,
        count_only: args.count_only,
        read: read_options(&args.reading),
    })
}

fn range_table(range: &raftkv_api::Range) -> Result<String, Failed> {
    let mut table = Table::new(&[
        ("KEY", Align::Left),
        ("REVISION", Align::Right),
        ("VERSION", Align::Right),
        ("SIZE", Align::Right),
        ("VALUE", Align::Left),
    ]);
    for kv in &range.kvs {
        let has_value = kv.value.is_some() || kv.value_b64.is_some();
        let value = value_of(kv)?;
        table.row(vec![
            printable(&key_of(kv)?, CELL_CHARS_MAX),
            kv.mod_revision.to_string(),
            kv.version.to_string(),
            if has_value { bytes(value.len() as u64) } else { String::new() },
            printable(&value, CELL_CHARS_MAX),
        ]);
    }
    let shown = range.kvs.len();
    Ok(format!("{}{shown} of {} keys at revision {}\n", table.render(), range.count, range.revision))
}

fn read_options(reading: &Reading) -> ReadOptions {
    ReadOptions { revision: reading.revision, stale: reading.stale }
}

fn key_bytes(key: Key) -> Result<Bytes, Failed> {
    let bytes = decoded(key.key, key.key_b64)?;
    if bytes.is_empty() { Err(Failed::Usage("the key is empty".to_string())) } else { Ok(bytes) }
}

fn decoded(text: OsString, is_base64: bool) -> Result<Bytes, Failed> {
    let bytes = text.into_vec();
    if !is_base64 {
        return Ok(bytes.into());
    }
    let text = String::from_utf8(bytes).map_err(|error| Failed::Usage(to_base64(error.as_bytes())))?;
    from_base64(&text).map_err(|error| Failed::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_api::Problem;
    use raftkv_client::Cause;

    #[test]
    fn a_terminal_gets_text_only() {
        for text in ["", "green", "two\r\n\tlines", "größe"] {
            assert!(is_text(text.as_bytes()), "{text}");
        }
        for bytes in [&b"\xff"[..], b"\x1b[2J", b"\0", b"\x07"] {
            assert!(!is_text(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_is_told_with_the_revision() {
        let problem = Problem::new(Code::KeyNotFound, "at revision 7");
        let failed = missing(b"k", Error::new("http://h:1", false, Cause::Problem(Box::new(problem))));
        assert_eq!(failed.to_string(), "key 'k' does not exist at revision 7");
        let other = Error::new("http://h:1", false, Cause::NotSent("refused".to_string()));
        assert!(matches!(missing(b"k", other), Failed::Call(_)));
    }
}

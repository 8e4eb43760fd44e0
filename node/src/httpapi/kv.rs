//! Calls on keys: each makes one call of the node and gives one answer.
//!
//! Enters: parameters that `call` has checked. Leaves: a response, or a problem. Data is read only through a [`View`].

use crate::httpapi::App;
use crate::httpapi::call::Consistency;
use crate::httpapi::errors::{self, CallKind};
use crate::httpapi::line_of_json;
use crate::httpapi::{condition, query};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use raftkv_api as api;
use raftkv_api::{Code, Problem};
use raftkv_core::kvstore::{Command, Condition, KeyRecord, Outcome, RangeAnswer, RangeQuery, ReadError, View};
use raftkv_core::limits;
use raftkv_core::types::{Index, Revision};
use std::sync::Arc;

/// Writes a key.
pub async fn put(app: &App, key: Bytes, value: Bytes, condition: Condition) -> Result<Response, Problem> {
    write(app, Command::Put { key, value, condition }).await
}

/// Deletes a key.
pub async fn delete(app: &App, key: Bytes, condition: Condition) -> Result<Response, Problem> {
    write(app, Command::Delete { key, condition }).await
}

/// Reads a key; the value is left out for a caller who has it.
pub async fn get(
    app: &App,
    key: Bytes,
    revision: Revision,
    consistency: Consistency,
    has: Option<Revision>,
) -> Result<Response, Problem> {
    let reading = Reading::begin(app, consistency).await?;
    // One record, nearly always in memory: a reader thread would cost more than the read. If the disk is slow, only
    // clients' tasks wait for it; peers are served by other threads.
    let (revision, record) = reading.view.get(&key, revision).map_err(|error| errors::unreadable(&error))?;
    let mut response = match record {
        Some(record) if has == Some(record.mod_revision) => not_modified(record.mod_revision),
        Some(record) => {
            let tag = condition::tag(record.mod_revision);
            let mut response = Response::new(Body::from(app.budget.guard(record.value)?));
            set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
            set(&mut response, header::ETAG, &tag);
            response
        }
        None => errors::response(&Problem::new(Code::KeyNotFound, format!("at revision {revision}"))),
    };
    reading.mark(&mut response, revision);
    Ok(response)
}

/// The answer to a caller who has this version of a key.
fn not_modified(revision: Revision) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    set(&mut response, header::ETAG, &condition::tag(revision));
    response
}

/// Reads keys.
pub async fn range(app: &App, query: RangeQuery, consistency: Consistency) -> Result<Response, Problem> {
    let reading = Reading::begin(app, consistency).await?;
    let view = reading.view.clone();
    let turn = app.scans.clone().acquire_owned().await.expect("the semaphore is never closed");
    // Refused before the work if a page would hardly find room after it.
    drop(app.ranges.take(limits::PAGE_BYTES_MAX)?);
    let (revision, json) = on_reader_thread(move || {
        let answer = view.range(&query)?;
        let json = line_of_json(&page(&answer, query.keys_only));
        drop(turn);
        Ok((answer.revision, json))
    })
    .await?;
    let mut response = Response::new(Body::from(app.ranges.guard(Bytes::from(json))?));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    reading.mark(&mut response, revision);
    Ok(response)
}

async fn write(app: &App, command: Command) -> Result<Response, Problem> {
    match app.node.propose(command).await {
        Ok(outcome) => written(&outcome),
        Err(refusal) => Err(errors::refused(&refusal, CallKind::Writes, app.node.leader())),
    }
}

/// The answer to a write that was applied.
fn written(outcome: &Outcome) -> Result<Response, Problem> {
    let (mut response, revision) = match *outcome {
        Outcome::Put { revision, version } => {
            let mut response = crate::httpapi::json(&api::Put { revision, version });
            set(&mut response, header::ETAG, &condition::tag(revision));
            (response, revision)
        }
        Outcome::Deleted { revision, deleted } => (crate::httpapi::json(&api::Deleted { revision, deleted }), revision),
        Outcome::ConditionFailed { revision, current } => (errors::response(&condition_failed(current)), revision),
        Outcome::Compacted { .. } => {
            return Err(Problem::new(Code::Internal, "a write had the outcome of a compaction"));
        }
    };
    set(&mut response, HeaderName::from_static(api::HEADER_REVISION), &revision.to_string());
    Ok(response)
}

fn condition_failed(current: Option<Revision>) -> Problem {
    let detail = match current {
        Some(revision) => format!("the key's mod_revision is {revision}"),
        None => "the key does not exist".to_string(),
    };
    Problem { current_revision: Some(current), ..Problem::new(Code::ConditionFailed, detail) }
}

/// A read that is allowed, and what its answer says about itself.
struct Reading {
    view: Arc<View>,
    stale: Option<Staleness>,
}

/// Taken before the read, so that the answer is never older than it says.
struct Staleness {
    applied: Index,
    leader_contact_ms: Option<u64>,
}

impl Reading {
    async fn begin(app: &App, consistency: Consistency) -> Result<Self, Problem> {
        let view = match consistency {
            Consistency::Linearizable => app.node.read_barrier().await,
            Consistency::Stale => app.node.stale_view(),
        };
        let view = view.map_err(|refusal| errors::refused(&refusal, CallKind::Reads, app.node.leader()))?;
        let stale = match consistency {
            Consistency::Linearizable => None,
            Consistency::Stale => {
                Some(Staleness { applied: view.applied(), leader_contact_ms: app.node.leader_contact_ms() })
            }
        };
        Ok(Reading { view, stale })
    }

    fn mark(&self, response: &mut Response, revision: Revision) {
        set(response, HeaderName::from_static(api::HEADER_REVISION), &revision.to_string());
        if let Some(Staleness { applied, leader_contact_ms }) = &self.stale {
            set(response, HeaderName::from_static(api::HEADER_APPLIED), &applied.to_string());
            // A word, so that nobody takes "never" for "0 ms ago".
            let contact = leader_contact_ms.map_or("never".to_string(), |ms| ms.to_string());
            set(response, HeaderName::from_static(api::HEADER_LEADER_CONTACT_MS), &contact);
        }
    }
}

/// Runs a read on a thread that may block: it may wait for the disk, and the runtime's own threads must not.
async fn on_reader_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result.map_err(|error| errors::unreadable(&error)),
        Err(panicked) => Err(Problem::new(Code::Internal, format!("the reader ended: {panicked}"))),
    }
}

/// A range as the API writes it.
fn page(answer: &RangeAnswer, keys_only: bool) -> api::Range {
    let last = answer.records.last().filter(|_| answer.more);
    api::Range {
        revision: answer.revision,
        kvs: answer.records.iter().map(|record| key_value(record, keys_only)).collect(),
        count: answer.count,
        next: last.map(|record| query::to_token(&record.key)),
    }
}

fn key_value(record: &KeyRecord, keys_only: bool) -> api::KeyValue {
    let (key, key_b64) = text_or_base64(&record.key);
    let (value, value_b64) = if keys_only { (None, None) } else { text_or_base64(&record.value) };
    let KeyRecord { key: _, value: _, create_revision, mod_revision, version } = *record;
    api::KeyValue { key, key_b64, value, value_b64, create_revision, mod_revision, version }
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_string()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("numbers, words and quotes are valid in a header");
    response.headers_mut().insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_the_next_one_begins() {
        let record = |key: &'static [u8], value: &'static [u8]| KeyRecord {
            key: Bytes::from_static(key),
            value: Bytes::from_static(value),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
        };
        let mut answer = RangeAnswer {
            revision: 9,
            records: vec![record(b"a", b"\xfe"), record(b"\xff", b"text")],
            count: 5,
            more: true,
        };
        let full = page(&answer, false);
        assert_eq!((full.revision, full.count, full.next.as_deref()), (9, 5, Some("_w")));
        assert_eq!((full.kvs[0].key.as_deref(), full.kvs[0].value_b64.as_deref()), (Some("a"), Some("/g==")));
        assert_eq!((full.kvs[1].key_b64.as_deref(), full.kvs[1].value.as_deref()), (Some("/w=="), Some("text")));
        let keys = page(&answer, true);
        assert!(keys.kvs.iter().all(|kv| kv.value.is_none() && kv.value_b64.is_none()));
        answer.more = false;
        assert_eq!(page(&answer, false).next, None);
        let counted = RangeAnswer { revision: 9, records: vec![], count: 5, more: true };
        assert_eq!(page(&counted, false).next, None, "count_only has no next page");
    }

    #[test]
    fn outcomes_of_writes() {
        let header_of = |response: &Response, name: &str| response.headers()[name].to_str().expect("ASCII").to_string();
        let put = written(&Outcome::Put { revision: 7, version: 1 }).expect("answer");
        assert_eq!((put.status().as_u16(), header_of(&put, "etag")), (200, "\"7\"".into()));
        let deleted = written(&Outcome::Deleted { revision: 7, deleted: false }).expect("answer");
        assert_eq!((deleted.status().as_u16(), header_of(&deleted, "x-raftkv-revision")), (200, "7".into()));
        let failed = written(&Outcome::ConditionFailed { revision: 9, current: Some(4) }).expect("answer");
        assert_eq!((failed.status().as_u16(), header_of(&failed, "x-raftkv-revision")), (412, "9".into()));
        assert_eq!(condition_failed(Some(4)).current_revision, Some(Some(4)));
        assert_eq!(condition_failed(None).current_revision, Some(None), "null, not absent");
        assert_eq!(written(&Outcome::Compacted { revision: 9 }).expect_err("no write").code, Code::Internal);
    }
}

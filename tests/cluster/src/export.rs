//! Every key of one node, read page by page at one revision.

use crate::Node;
use crate::wait::eventually;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use raftkv_api::{KeyValue, Range};
use std::collections::BTreeMap;

const PAGE_KEYS: usize = 1000;

/// A key's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its value.
    pub value: Vec<u8>,
    /// Revision of its last write.
    pub mod_revision: u64,
    /// Revision of its creation.
    pub create_revision: u64,
    /// Writes since its creation.
    pub version: u64,
}

/// What one node holds at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The revision.
    pub revision: u64,
    /// The keys' states.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

impl Export {
    /// Reads all keys with `prefix` (which must need no escaping), linearizably.
    pub fn read(node: &Node, prefix: &str) -> Result<Export> {
        let mut export = Export { revision: 0, entries: BTreeMap::new() };
        let mut position = String::new();
        loop {
            let target = format!("/v1/kv?prefix={prefix}&limit={PAGE_KEYS}{position}");
            // An election may happen meanwhile.
            let page: Range = eventually("a page is read", || node.client("GET", &target).send()?.expect(200)?.json())?;
            ensure!(position.is_empty() || page.revision == export.revision, "the pages are of different revisions");
            export.revision = page.revision;
            for kv in &page.kvs {
                let (key, entry) = decoded(kv)?;
                let last = export.entries.last_key_value().map(|(last, _)| last);
                ensure!(last < Some(&key), "key {} is not in ascending order", key.escape_ascii());
                export.entries.insert(key, entry);
            }
            match page.next {
                Some(next) => position = format!("&after={next}&revision={}", page.revision),
                None => {
                    let (got, count) = (export.entries.len() as u64, page.count);
                    ensure!(got == count, "{got} keys were read and count says {count}");
                    return Ok(export);
                }
            }
        }
    }
}

fn decoded(kv: &KeyValue) -> Result<(Vec<u8>, Entry)> {
    let bytes = |text: &Option<String>, base64: &Option<String>| match (text, base64) {
        (Some(text), None) => Ok(text.clone().into_bytes()),
        (None, Some(base64)) => STANDARD.decode(base64).context("base64"),
        (Some(_), Some(_)) | (None, None) => Err(anyhow::anyhow!("not exactly one form of bytes in {kv:?}")),
    };
    let entry = Entry {
        value: bytes(&kv.value, &kv.value_b64)?,
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
    };
    Ok((bytes(&kv.key, &kv.key_b64)?, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_bytes_are_read_and_no_form_is_an_error() {
        let text = KeyValue { key: Some("k".into()), value_b64: Some("/w==".into()), ..KeyValue::default() };
        let (key, entry) = decoded(&text).unwrap();
        assert_eq!((key, entry.value), (b"k".to_vec(), vec![0xff]));
        assert!(decoded(&KeyValue { key: Some("k".into()), ..KeyValue::default() }).is_err());
    }
}

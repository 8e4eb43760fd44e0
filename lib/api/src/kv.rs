//! The JSON answers of the key-value calls.
//!
//! Plain data without logic: the node decides what a call does. Keys and values that are not UTF-8 travel as base64.

use serde::{Deserialize, Serialize};

/// Largest key; a node refuses a larger one with `key_too_large`.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Largest value; a node refuses a larger one with `body_too_large`.
pub const VALUE_BYTES_MAX: usize = 1536 * 1024;

/// Answer of `PUT /v1/kv/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The revision that this write created.
    pub revision: u64,
    /// How many times the key was written since it was created; 1 for a new key.
    pub version: u64,
}

/// Answer of `DELETE /v1/kv/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The revision of the store after the call.
    pub revision: u64,
    /// Whether there was a key to delete. If not, the revision did not change.
    pub deleted: bool,
}

/// One key of a range. Exactly one of `key`/`key_b64` is present, and at most one of `value`/`value_b64`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key, when it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key as standard base64, when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_b64: Option<String>,
    /// The value, when it is UTF-8; absent with `keys_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value as standard base64, when it is not UTF-8; absent with `keys_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_b64: Option<String>,
    /// Revision at which the key was created.
    pub create_revision: u64,
    /// Revision of the last write to the key.
    pub mod_revision: u64,
    /// Number of writes since the key was created.
    pub version: u64,
}

/// Answer of `GET /v1/kv`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The revision that was read: pass it as `revision=` to read the next page of the same state.
    pub revision: u64,
    /// The keys in ascending byte order; empty with `count_only`.
    pub kvs: Vec<KeyValue>,
    /// Number of keys in the whole range at this revision, whatever `limit` and `after` are.
    pub count: u64,
    /// Present when there is another page: pass it as `after=` together with `revision`. Base64url of the last key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

//! Shared parts of the tests of the Helm chart: they run helm, read what it rendered, and make the documents from
//! values.yaml.
//!
//! ```text
//!   values.yaml ── documented ──┬── table ───────► README.md             compared, or written with UPDATE_GOLDENFILES=1
//!                               └── descriptions ► values.schema.json    likewise
//!   values of a test ── helm template ──► Rendered ──► what a test asserts
//! ```
//!
//! No cluster is contacted here: the tests in `tests/e2e` show what an API server does with the objects.
#![forbid(unsafe_code)]

pub mod documents;
pub mod golden;
pub mod grants;
pub mod helm;
mod rendered;
pub mod values;

pub use rendered::{Object, Rendered};

use std::path::PathBuf;

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The chart's directory.
pub fn chart() -> PathBuf {
    root().join("charts/raftkv-operator")
}

//! The command line `raftkvctl`: what a person asks for, sent by `raftkv-client`, and what comes back in their words.
//!
//! ```text
//!   main ── run ── args            clap: what was asked
//!             │
//!             ├── kube                 `kubectl raftkv`: the same commands by kubectl and its port-forwards
//!             │        │
//!             ├── kv, import, export, members, status      one file per command family: call, then print
//!             │        │
//!             │     context            what a command runs with: what was asked of all alike, clients, the runtime
//!             │
//!             └── report, streams, table, progress         what people and programs see
//! ```
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod context;
mod deb822;
mod export;
mod import;
mod jsonl;
mod judged;
mod kube;
mod kv;
mod members;
mod progress;
mod record;
mod report;
mod run;
mod status;
mod streams;
mod table;

pub use run::run;

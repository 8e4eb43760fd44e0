//! The client side of raftkv: a small HTTP client with failover, and the command line `raftkvctl`.
//!
//! ```text
//!   main ── run ── args            clap: what was asked
//!             │
//!             ├── kube                 `kubectl raftkv`: the same commands by kubectl and its port-forwards
//!             │        │
//!             ├── kv, import, export, members, status      one file per command family: call, then print
//!             │        │
//!             │     client, admin      which endpoint, what may be sent again, who leads   (public)
//!             │        │      │
//!             │        │     node      one node's admin API, once and no more              (public)
//!             │        │      │
//!             │      http              one exchange with one endpoint, its idle connections
//!             │
//!             └── table, report, progress                  what people and programs see
//! ```
//!
//! Rule N5 is the reason for the shape of [`client`]: a write whose outcome is unknown is never sent again
//! blindly, so every failure says whether the request can have had an effect.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod client;
pub mod node;

mod args;
mod bytes_text;
mod deb822;
mod discover;
mod export;
mod failover;
mod health;
mod http;
mod import;
mod jsonl;
mod kube;
mod kv;
mod members;
mod pages;
mod progress;
mod record;
mod report;
mod run;
mod settle;
mod status;
mod table;
#[cfg(test)]
mod testing;

pub use run::run;

//! The client of a node's ports: keys with failover, one node's admin API, and the membership of a cluster.
//!
//! ```text
//!     kv, pages, settle         keys: which endpoint, what may be sent again
//!     admin                     members: who leads, what may be sent again
//!     node                      one node's admin API, once and no more
//!     http                      one exchange with one endpoint, its idle connections
//! ```
//!
//! Rule N5 is the reason for this shape: a write whose outcome is unknown is never sent again blindly, so every failure
//! says whether the request can have had an effect.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod bytes_text;
pub mod discover;
mod failover;
pub mod http;
mod kv;
pub mod node;
mod pages;
pub mod settle;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use http::EndpointError;
pub use kv::{Cause, Client, Condition, Error, Found, Policy, RangeQuery, ReadOptions, admin_urls};
pub use node::Token;
pub use pages::Pages;

//! The client of a node's ports: keys with failover, one node's admin API, and the membership of a cluster.
//!
//! ```text
//!   keys, in the whole cluster               members
//!
//!   settle   pages                           admin      who leads, and what may be sent again
//!        \   /                                 │
//!         kv          typed calls            node       one node's admin API, once and no more
//!          │                                   │
//!      failover       which endpoint next,     ├── token
//!          │          what may be sent again   │
//!          └───────────────┬───────────────────┘
//!                        http                one exchange with one endpoint, its idle connections
//!                          │
//!                        error               why it failed, and whether it can have had an effect
//! ```
//!
//! Rule N5 is the reason for this shape: a write whose outcome is unknown is never sent again blindly, so every failure
//! says whether the request can have had an effect.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod bytes_text;
mod error;
mod failover;
pub mod http;
mod kv;
pub mod node;
mod pages;
pub mod settle;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;

pub use error::{Cause, Error};
pub use failover::Policy;
pub use http::EndpointError;
pub use kv::{Client, Condition, Found, ReadOptions};
pub use pages::{Pages, RangeQuery};
pub use token::{NotAToken, TOKEN_DIGITS, Token, TokenError};

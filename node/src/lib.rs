//! One raftkv member.
//!
//! ```text
//!   clients            httpapi                             one thin layer, no logic
//!                         │ Command / read
//!                      kvstore  ◄── apply ──┐              box 2: MVCC data in sled, PURE apply
//!                         │ propose         │ committed
//!                      raft_node ───────────┘              box 3: owns threads and channels; runs effects
//!                       │      │
//!                    driver   log                          box 3's brain: step(Event) -> Vec<Effect>, PURE
//!                       │
//!                   crate raft                             box 4: untouched
//!                      transport  ◄──► peers               peer HTTP server and client
//! ```
#![allow(missing_docs)]

pub mod config;
pub mod disk;
pub mod kvstore;
pub mod limits;
pub mod log;
pub mod membership;
pub mod node;
pub mod sled_home;
pub mod snapshot;
pub mod transport;
pub mod types;

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

#[cfg(all(mutant, not(debug_assertions)))]
compile_error!("deliberate bugs and crash points are for tests: no release build has them");

pub mod admin_client;
pub mod background;
pub mod bulk_disk;
pub mod clean_stop;
pub mod cli;
pub mod client_threads;
pub mod config;
pub mod crash_point;
pub mod dev;
pub mod file_disk;
pub mod httpapi;
pub mod metrics;
pub mod mount;
pub mod node;
pub mod open_files;
pub mod peer_events;
pub mod raft_log;
pub mod raft_node;
pub mod reserve;
pub mod serve;
pub mod sled_home;
pub mod space_watch;
pub mod token;
pub mod transport;

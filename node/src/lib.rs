//! The parts of a raftkv member that act: threads, sockets, files. The code that decides is `raftkv_core`.
//!
//! ```text
//!   clients ──► httpapi ──► handle ──Input──► raft_node ──Effect──► log thread ──► disk
//!                             ▲  Node            │  ▲                 apply thread ──► disk (sled)
//!                             │                  │  │
//!               process ──────┘                  ▼  │ frames
//!     wires all of it together                transport  ◄──► peers
//! ```
#![deny(clippy::print_stdout, clippy::print_stderr)]
#[cfg(all(mutant, not(debug_assertions)))]
compile_error!("deliberate bugs and crash points are for tests: no release build has them");

pub mod cli;
pub mod config;
pub mod crash_point;
pub mod dev;
pub mod disk;
pub mod handle;
pub mod httpapi;
pub mod log_lines;
pub mod metrics;
pub mod process;
pub mod raft_node;
pub mod token;
pub mod transport;
pub mod words;

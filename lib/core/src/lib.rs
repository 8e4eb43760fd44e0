//! The part of a raftkv member that decides. PURE.
//!
//! Everything here is a plain function over plain data: time is a `Tick` event, disks are behind three small traits
//! (`ports`), ids are passed in. So the simulator runs the very code that runs in production, bit for bit from a seed.
//! Log messages leave through `tracing`, which does nothing unless a program listens.
//!
//! ```text
//!     wire ──► driver ◄── kvstore      messages of members · step(Event) -> Vec<Effect> · the state machine
//!                │  │        │
//!            raft │  └── log  │        crate raft, untouched · the log's bytes, and how raft reads them
//!                │       │   │
//!         membership   snapshot        who is in the cluster · the store at one index, as a file
//!                        │
//!                      segment         the bytes of files that hold records and never change
//!                        │
//!              open, identity, space   from a directory to a running member · whose a directory is · room on a volume
//!                        │
//!                      ports           the only ways to persistent state
//! ```
#![forbid(unsafe_code)]

#[cfg(all(mutant, not(debug_assertions)))]
compile_error!("deliberate bugs are for tests: no release build has them");

pub mod driver;
pub mod host_port;
pub mod identity;
pub mod kvstore;
pub mod limits;
pub mod log;
pub mod membership;
pub mod mutant;
pub mod open;
pub mod other_format;
pub mod ports;
pub mod refusal;
pub mod segment;
pub mod snapshot;
pub mod space;
pub mod types;
pub mod wire;

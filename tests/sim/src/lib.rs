//! Deterministic simulation: one seed is one bit-exact run of the real driver, log and store, in one thread, over a
//! network and disks that lose, delay, double, reorder and tear ([`swarm::Fault`] names all classes of faults).
//!
//! ```text
//!   swarm ──► world ──► node (driver, log, store) ──► Out ──► world ──► net, clients, invariants
//!              │ one small action a step              │
//!              └── faults, admin, ticks               └── every step: all invariants
//! ```
//!
//! `cargo test -p raftkv-sim --test sim` runs many seeds; `--test golden` runs readable stories over the same nodes,
//! without chance ([`story`]).
//!
//! # Caveats
//! The threads of the process are steps here, so data races are not seen. sled is a map here, so its faults are not
//! seen, and it has space on a disk that is full.

// A variant's sentence also names its fields.
#![allow(missing_docs)]

pub mod admin;
mod ambush;
pub mod client;
pub mod counts;
pub mod crash_points;
mod directory;
pub mod disk;
pub mod ending;
pub mod faults;
mod full;
pub mod invariants;
pub mod kv;
pub mod lone;
pub mod model;
pub mod mutants;
pub mod net;
pub mod node;
pub mod outside;
mod put_back;
pub mod rng;
pub mod run;
pub mod solo;
pub mod story;
pub mod swarm;
pub mod tell;
pub mod threads;
pub mod trace;
mod twins;
pub mod wires;
pub mod world;

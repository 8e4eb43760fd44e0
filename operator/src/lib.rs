//! The operator turns a `RaftKvCluster` into a running cluster, and its `replicas` into the membership.
//!
//! ```text
//!   fleet ──► one task a cluster:   observe ──► plan ──► execute ──► status
//!  (watches)                       edge/       plan/    edge/
//!                                               │
//!                                           resources/   the children as they should be
//! ```
//!
//! `plan` and `resources` are PURE. Everything else carries out what they say and decides nothing. The only cache
//! between passes is what the API server pushes, and no step that can hurt rests on it: a plan that has steps is made a
//! second time from live reads, and only the second plan is carried out.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod edge;
pub mod observe;
pub mod plan;
pub mod resources;

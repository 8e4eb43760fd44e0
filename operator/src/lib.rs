//! The operator: a `RaftKvCluster` becomes a running cluster, and its replicas become its membership.
//!
//! ```text
//!   fleet ──► one task a cluster:   observe ──► plan ──► execute ──► status
//!  (watches)                       edge/       plan/    edge/
//!                                               │
//!                                           resources/   the children as they should be
//! ```
//!
//! `plan` and `resources` are PURE. Everything else carries out what they say and decides nothing. Nothing is cached
//! between passes but what the API server pushes, and no step that can hurt is taken on a cache's word: a plan with steps
//! is made a second time from live reads, and only that one is carried out.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod edge;
pub mod observe;
pub mod plan;
pub mod resources;

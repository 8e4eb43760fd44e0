//! Scenarios on a real Kubernetes: each makes a cluster, disturbs it under load, and asserts that nothing was lost.
//!
//! ```text
//!   tests/e2e.rs ── runner ── scenarios          one function each, reads like a story
//!                     │          │
//!                   report     Scene             a namespace, a clock, one way to wait
//!                     │          ├── Cluster     a RaftKvCluster and what belongs to it
//!                  failure       ├── LoadPod     writers and readers beside it (`load`)
//!                                └── Machine     a node of kind, for those that disturb it
//!                     Site: kubectl, helm and docker as a user would call them
//! ```
//!
//! Nothing sleeps: `Scene::wait` asks again until a condition holds or its deadline has passed.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bench;
pub mod harness;
pub mod load;
pub mod scenarios;

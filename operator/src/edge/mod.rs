//! The edge of the operator: watches, tasks, the API server, the nodes, the Lease, logs, metrics and health. It carries
//! out what plans say, and decides nothing about clusters.
//!
//! ```text
//!   run ── lease      one operator acts
//!    │
//!   fleet ── watch    what is pushed, and whom it wakes
//!    │
//!   task ── rhythm    one cluster: when to look
//!    │
//!   pass              observe, plan, execute, status
//!    │
//!   execute ── children ── admission ── write      objects of Kubernetes
//!            └ members                            calls of the nodes' admin API
//! ```

pub mod children;
pub mod command_line;
pub mod config;
pub mod events;
pub mod execute;
pub mod flags;
pub mod fleet;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod operator;
pub mod pass;
pub mod probe;
pub mod rhythm;
pub mod run;
pub mod schema;
pub mod task;
pub mod watch;
pub mod words;
pub mod write;

mod admission;
#[cfg(test)]
mod fake_api;
mod members;
#[cfg(test)]
mod testing;

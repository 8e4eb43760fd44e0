//! The edge: watches, tasks, the API server, the nodes, the Lease, logs, metrics and health. It carries out what plans
//! say and decides nothing about clusters.

pub mod config;
pub mod events;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod nodes;
pub mod probe;
#[cfg(test)]
mod testing;

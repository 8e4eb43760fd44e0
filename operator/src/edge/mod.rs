//! The edge: watches, tasks, the API server, the nodes, the Lease, logs, metrics and health. It carries out what plans
//! say and decides nothing about clusters.

pub mod children;
pub mod config;
pub mod events;
pub mod execute;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod nodes;
pub mod probe;
pub mod refusals;
pub mod schema;
pub mod words;
pub mod write;

mod members;
#[cfg(test)]
mod testing;

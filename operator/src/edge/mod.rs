//! The edge: watches, tasks, the API server, the nodes, the Lease, logs, metrics and health. It carries out what plans
//! say and decides nothing about clusters.

pub mod nodes;

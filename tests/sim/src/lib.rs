//! Deterministic simulation: one seed is one bit-exact run.

pub mod disk;
pub mod kv;

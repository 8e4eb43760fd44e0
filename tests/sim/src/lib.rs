//! x

pub mod kv;

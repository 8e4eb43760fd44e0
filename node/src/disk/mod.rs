//! The disk of a data directory: what implements the ports of `raftkv_core::ports` in a running node.
//!
//! `file_disk` is the files (`handles` those that are open), `bulk_disk` the same disk for large writes that can wait,
//! `reserve` the file that keeps space from everybody else, `sled_home` the databases, and `head` the thread that writes
//! to one of them. Nothing here decides what is written, or when.

pub mod bulk_disk;
pub mod file_disk;
mod handles;
pub mod head;
pub mod reserve;
pub mod sled_home;

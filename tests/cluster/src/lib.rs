//! A harness for tests with real raftkv processes: binaries, ports, directories, kill -9, and a writer that keeps
//! account.
//!
//! ```text
//!   a test ── Cluster ── Node ── Request        one HTTP exchange, recorded in `answers`
//!      │         │         └──── Child          `raftkv serve`, its log in a file
//!      │         ├── Export                     every key of one node, over HTTP
//!      │         └── Network ── Partition       what lies between the nodes, and how it is cut
//!      ├──── Crowd                              thousands of clients in one thread, good and bad
//!      ├──── Writer ── Written ── verify        what was acknowledged, against every node
//!      └──── history::Clients ── check          calls and answers, against a linearizability checker
//! ```
//!
//! Nothing sleeps: [`wait::eventually`] asks again until a condition holds or its deadline has passed. A test ends with
//! [`Cluster::finish`]; a cluster that is dropped without it prints the end of each node's log.

pub mod answers;
pub mod binaries;
mod cluster;
pub mod contract;
pub mod crash_points;
pub mod crowd;
pub mod debian;
mod export;
pub mod history;
pub mod http;
mod membership;
pub mod namespaces;
mod network;
mod node;
pub mod oracle;
mod ports;
pub mod relay;
mod small_disk;
pub mod strace;
pub mod wait;
mod writer;

pub use cluster::Cluster;
pub use export::{Entry, Export};
pub use network::{Network, Partition};
pub use node::Node;
pub use ports::{Ports, free_base_for_dev};
pub use rustix::process::Signal;
pub use small_disk::SmallDisk;
pub use writer::{Writer, Written};

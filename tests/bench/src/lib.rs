//! Measures raftkv beside etcd: three nodes of each in turn on one machine and one disk, with the same clients, keys
//! and values.
//!
//! One load generator drives both, each through the protocol that its own clients use: for raftkv HTTP/1.1 with a
//! connection for each client, for etcd gRPC over HTTP/2 with clients that share connections, as in etcd's own
//! benchmark. It is a single thread, so that on a small machine it takes no more from one system than from the other.

pub mod audit;
pub mod figures;
pub mod load;
pub mod ours;
pub mod process;
pub mod rounds;
pub mod system;
pub mod wire;
pub mod workload;

//! raft::Storage over the log.

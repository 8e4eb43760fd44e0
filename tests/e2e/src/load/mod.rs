//! The load: writers and readers that keep account of a cluster while a scenario disturbs it.
//!
//! ```text
//!   serve ── POST /stop, POST /mark, GET /report
//!     │
//!   drive ── writers ─┐                 one Client each, through the cluster's Service
//!     │      readers ─┼──► Account      PURE: what was answered, and what cannot be
//!     └──── read back ┘        └──► Report
//! ```
//!
//! It runs as a pod beside the cluster, because the view of a client counts, through the Service's address and its DNS
//! name. A write whose outcome is unknown is never sent again blindly: every write is conditional on the one before it.

pub mod account;
pub mod drive;
pub mod gap;
pub mod report;
pub mod serve;

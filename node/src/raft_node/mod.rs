//! Box 3: owns the threads and channels between the driver and the world. Decides nothing.
//!
//! ```text
//!   handle, transport, timers ──Input──► raft thread ──LogJob──► log thread ──Persisted──► (Input)
//!                                          │    ├─────ApplyJob─► apply thread ─Applied───► (Input)
//!                                          │    └─────ReadPlan─► log reads ────LogRead───► (Input)
//!                                          └──► transport, waiters
//! ```
//!
//! The raft thread drains a bounded batch of inputs, steps the driver with them and carries out the effects. It is also
//! the one that closes channels: when it leaves the member phase, it drops the senders to these threads and waits for
//! them.

pub mod apply_thread;
pub mod desk;
pub mod disk_space;
mod effects;
mod end;
mod input;
pub mod log_reads;
pub mod log_thread;
mod opening;
mod phases;
pub mod shared;
mod spare;
mod turns;
pub mod waiters;

pub use end::{Exit, RestartWhy};
pub use input::{Input, Queue};
pub use phases::RaftNode;

//! The store whose records lie in a head and in segments: what decides about its files, and what readers see. PURE, but
//! for the jobs and the opening, which read and write through a [`crate::ports::LogDisk`].
//!
//! ```text
//! Committed ─► apply ─► published: index, numbers, head ◄── View: any thread, at any readable revision
//!                │
//!                ├─► next_set ─► a batch for sled: what is in no file yet, small state, the claim
//!                └─► jobs ─────► Job::run, one after the other ─► Done ─► Store::done
//!                                seal a window · cut a manifest · write a group of segments anew · unlink
//! an offered manifest ─► Arriving ─► install ─┐
//! newest manifest + claim ─► Start ─► index from tables ─► Store
//! ```
//!
//! The truth is the log, the newest manifest and the segments that it lists; each is durable before what it replaces
//! goes. What sled holds is proved, or made again from the log. Where windows end depends on entries alone, so members
//! hold equal segments. Nothing here waits: apply writes to memory, and whoever runs the store gives jobs and sets to
//! threads of their own.

mod apply;
mod arriving;
mod directory;
mod files;
mod hands;
mod heal;
mod held;
mod index_of_tables;
mod job;
mod open;
mod pass;
mod store;
#[cfg(test)]
mod tests;
mod view;

pub use arriving::{Arrived, Arriving, AtHand, Incoming, install};
pub use directory::write_initial;
pub use files::Files;
pub use hands::{After, Damaged, Hands, Hurry, Task};
pub use held::Held;
pub use job::{Cut, Done, Job, Rewrite, Rewritten, Scrub, Seal, Sealed};
pub use open::{Claimed, Start};
pub use store::{Config, Store};
pub use view::View;

use super::StoreError;
use crate::segment::file::SegmentError;

impl From<SegmentError> for StoreError {
    fn from(error: SegmentError) -> StoreError {
        match error {
            SegmentError::Io(error) => StoreError::Io(error),
            SegmentError::Damaged(what) => StoreError::Unproved(what),
            SegmentError::Newer(what) => StoreError::Newer(what),
        }
    }
}

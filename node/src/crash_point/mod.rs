//! Crash points: places where bytes move, at which a test ends this process at once, as `kill -9` would.
//!
//! They exist only in the build with `--cfg mutant` ([`raftkv_core::mutant`]), where an environment variable chooses
//! one (`crash_point/armed.rs`). In every other build the disk and the databases pass through unchanged, and the other
//! functions do nothing. Places that are calls of the ports [`raftkv_core::ports::LogDisk`] and
//! [`raftkv_core::ports::KvDisk`] are found by a wrapper around these; at the two that have no port, the code itself
//! names the place ([`Place`]).

/// A place without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Frames are written to a peer's stream.
    Send,
    /// A conf change takes effect outside the driver.
    Membership,
}

/// Which side of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before it has happened.
    Before,
    /// After it has happened, before anybody is told.
    After,
}

#[cfg(mutant)]
mod armed;
#[cfg(mutant)]
pub use armed::{around_disk, around_home, pass, plays};

#[cfg(not(mutant))]
pub use absent::{around_disk, around_home, pass, plays};

#[cfg(not(mutant))]
mod absent {
    use super::{Place, Side};
    use raftkv_core::driver::DriverStatus;
    use raftkv_core::ports::KvHome;
    use raftkv_core::ports::LogDisk;
    use std::sync::Arc;

    /// The disk as it is.
    pub fn around_disk(disk: Arc<dyn LogDisk>) -> Arc<dyn LogDisk> {
        disk
    }

    /// The databases as they are.
    pub fn around_home(home: Arc<dyn KvHome>) -> Arc<dyn KvHome> {
        home
    }

    /// Does nothing in this build.
    #[inline(always)]
    pub fn plays(_status: &DriverStatus) {}

    /// Does nothing in this build.
    #[inline(always)]
    pub fn pass(_place: Place, _side: Side) {}
}

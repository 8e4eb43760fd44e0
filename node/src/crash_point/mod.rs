//! Crash points: places where bytes move, at which a test ends this process at once, as `kill -9` would.
//!
//! They exist only in the build with `--cfg mutant` ([`raftkv_core::mutant`]), where an environment variable chooses one
//! (`crash_point/armed.rs`). In every other build the disk and the databases pass through here as they are, and the rest is
//! empty. Places that are calls of the ports [`raftkv_core::ports::LogDisk`] and [`raftkv_core::ports::KvDisk`] are known to a wrapper
//! around these; the two that have no port name themselves ([`Place`]).

/// A place without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Frames leave by a peer's stream.
    Send,
    /// A conf change takes effect outside the driver.
    Membership,
}

/// Which side of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing has moved.
    Before,
    /// It has moved, and nobody was told.
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

    /// The disk, with its crash points.
    pub fn around_disk(disk: Arc<dyn LogDisk>) -> Arc<dyn LogDisk> {
        disk
    }

    /// The databases, with their crash points.
    pub fn around_home(home: Arc<dyn KvHome>) -> Arc<dyn KvHome> {
        home
    }

    /// Says what part this member plays from here on.
    #[inline(always)]
    pub fn plays(_status: &DriverStatus) {}

    /// Passes a place, or ends the process there.
    #[inline(always)]
    pub fn pass(_place: Place, _side: Side) {}
}

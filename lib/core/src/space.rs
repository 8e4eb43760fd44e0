//! How much room a member has on its data volume, and what may still be written there (rule N11). PURE.
//!
//! Enters: free bytes and bytes of the reserve file. Leaves: a [`Level`], the size that the reserve file should have,
//! and a text for the person on call.
//!
//! ```text
//!   headroom = free bytes + reserve file
//!   0 ────────────── half the reserve ────────────── reserve ──────────────►
//!     nothing is taken            deletes, compaction,           puts, too
//!                                 membership changes
//! ```
//!
//! The reserve file is given back a piece at a time as the rest runs out. So what may still be written finds room
//! whoever filled the volume, and so does what was promised already (appends, votes, apply).

use crate::limits::{BESIDES_QUOTA_BYTES, QUOTA_BYTES_DEFAULT, RESERVE_PERCENT};
use std::io;

/// The least reserve divided by this is the size of the reserve file.
const FILE_PART: u64 = 2;
/// The least reserve divided by this is kept free besides the reserve file, as long as that file lasts. The two
/// together stay below the least reserve, so that a file that was cut is not made again at once.
const WORKING_PART: u64 = 4;

/// Room on one member's data volume. The default is for a member that never reported any: it is not called short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free bytes and those of the reserve file together.
    pub headroom_bytes: u64,
    /// Below this puts are refused; below half of it everything is.
    pub reserve_bytes: u64,
}

/// What may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Plenty,
    /// No puts, but deletes, compaction and membership changes.
    NoPuts,
    /// Nothing that a client or an administrator asks for.
    Nothing,
}

impl Room {
    /// What may be written.
    pub fn level(&self) -> Level {
        match self.headroom_bytes {
            bytes if bytes >= self.reserve_bytes => Level::Plenty,
            bytes if bytes >= self.reserve_bytes / 2 => Level::NoPuts,
            _ => Level::Nothing,
        }
    }

    /// How much is there and how much is needed; the text follows the name of the member that is short.
    pub fn words(&self) -> String {
        let Room { headroom_bytes, reserve_bytes } = self;
        let below = match self.level() {
            Level::Plenty | Level::NoPuts => {
                format!("deletes, compaction and membership changes go on down to {}", mib(reserve_bytes / 2))
            }
            Level::Nothing => format!("deletes, compaction and membership changes need {}", mib(reserve_bytes / 2)),
        };
        format!("{} are left of its data volume and puts need {}; {below}", mib(*headroom_bytes), mib(*reserve_bytes))
    }

    /// How much is there of what is needed for more than this level, as in "204 of 256 MiB".
    pub fn share(&self, level: Level) -> String {
        let needed = match level {
            Level::Plenty | Level::NoPuts => self.reserve_bytes,
            Level::Nothing => self.reserve_bytes / 2,
        };
        format!("{} of {}", self.headroom_bytes >> 20, mib(needed))
    }
}

/// What a member knows about its own space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnSpace {
    /// Room on the data volume.
    pub room: Room,
    /// Why the database may not grow.
    pub over_quota: Option<String>,
    /// What waits for space, when a write met a full disk.
    pub stuck: Option<String>,
}

/// The sizes that follow from the least reserve.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// `--reserve`.
    pub least_bytes: u64,
}

impl Sizes {
    /// The reserve of a volume of that size.
    pub fn reserve(&self, volume_bytes: u64) -> u64 {
        self.least_bytes.max(volume_bytes / 100 * RESERVE_PERCENT)
    }

    /// The whole reserve file.
    pub fn file(&self) -> u64 {
        self.least_bytes / FILE_PART
    }

    /// Bytes that should be free besides the file. Writes that can wait, such as snapshots, leave this much; a database
    /// that met a full disk is opened again when there is this much.
    pub fn working(&self) -> u64 {
        self.least_bytes / WORKING_PART
    }

    /// The bytes that the reserve file should have, when `free` bytes are free besides the `file` bytes that it has.
    pub fn file_wanted(&self, free: u64, file: u64, volume_bytes: u64) -> u64 {
        let headroom = free.saturating_add(file);
        let fits = headroom.saturating_sub(self.working()).min(self.file());
        if headroom >= self.reserve(volume_bytes) { fits } else { fits.min(file) }
    }
}

/// How much room a database is given beyond its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comfort {
    /// Overwriting everything at once makes puts wait for compactions.
    Least,
    /// Segments may be half dead before they are written anew.
    Recommended,
}

impl Sizes {
    /// Bytes of the volume for a database of `quota` bytes of live records. An operator asks for it, and a node that has
    /// less warns.
    pub fn volume(&self, quota: u64, comfort: Comfort) -> u64 {
        let segments = match comfort {
            Comfort::Least => quota.saturating_add(quota / 4),
            Comfort::Recommended => quota.saturating_mul(2),
        };
        let used = segments.saturating_add(BESIDES_QUOTA_BYTES);
        let by_percent = (used / (100 - RESERVE_PERCENT)).saturating_mul(100).saturating_add(100 * 100);
        used.saturating_add(self.least_bytes).max(by_percent)
    }

    /// The quota of a database whose user names none: that for which the volume is the recommended one.
    pub fn quota(&self, volume_bytes: u64) -> u64 {
        let usable = volume_bytes.saturating_sub(self.reserve(volume_bytes)).saturating_sub(BESIDES_QUOTA_BYTES);
        (usable / 2).min(QUOTA_BYTES_DEFAULT)
    }
}

/// Whether the disk, or a quota on it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// In MiB, rounded down.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const SIZES: Sizes = Sizes { least_bytes: 256 * MIB };

    #[test]
    fn a_volume_of_20_gib_does_for_the_default_quota() {
        let gib = |bytes: u64| (bytes as f64 / (1u64 << 30) as f64 * 10.0).round() / 10.0;
        let volume = |comfort| gib(SIZES.volume(QUOTA_BYTES_DEFAULT, comfort));
        assert_eq!((volume(Comfort::Least), volume(Comfort::Recommended)), (12.1, 18.4));
        assert_eq!(SIZES.quota(20 << 30), QUOTA_BYTES_DEFAULT);
        assert_eq!(SIZES.quota(1 << 30), 0, "there is room for what stands besides, and no more");
    }

    proptest! {
        #[test]
        fn a_quota_fits_the_volume_that_it_asks_for(quota in 0..QUOTA_BYTES_DEFAULT) {
            let volume = SIZES.volume(quota, Comfort::Recommended);
            prop_assert!(volume - SIZES.reserve(volume) >= 2 * quota + BESIDES_QUOTA_BYTES);
            prop_assert!(SIZES.quota(volume) >= quota && SIZES.quota(volume) <= quota + MIB);
            let least = SIZES.volume(quota, Comfort::Least);
            prop_assert!(least - SIZES.reserve(least) >= quota / 4 * 5 + BESIDES_QUOTA_BYTES && least <= volume);
        }
    }

    #[test]
    fn puts_need_the_reserve_and_the_rest_half_of_it() {
        let level = |headroom_bytes| Room { headroom_bytes, reserve_bytes: 256 * MIB }.level();
        assert_eq!(level(256 * MIB), Level::Plenty);
        assert_eq!(level(256 * MIB - 1), Level::NoPuts);
        assert_eq!(level(128 * MIB), Level::NoPuts);
        assert_eq!(level(128 * MIB - 1), Level::Nothing);
        assert_eq!(Room::default().level(), Level::Plenty, "who never said is not called short");
        assert_eq!(SIZES.reserve(100 << 30), 5 << 30);
        assert_eq!(SIZES.reserve(1 << 30), 256 * MIB);
    }

    #[test]
    fn words_say_how_much_is_there_and_how_much_is_needed() {
        let words = |mib| Room { headroom_bytes: mib * MIB, reserve_bytes: 256 * MIB }.words();
        let go_on = "deletes, compaction and membership changes go on down to 128 MiB";
        assert_eq!(words(200), format!("200 MiB are left of its data volume and puts need 256 MiB; {go_on}"));
        assert!(words(100).ends_with("deletes, compaction and membership changes need 128 MiB"), "{}", words(100));
        let share = |mib, level| Room { headroom_bytes: mib * MIB, reserve_bytes: 256 * MIB }.share(level);
        assert_eq!(share(200, Level::NoPuts), "200 of 256 MiB");
        assert_eq!(share(100, Level::Nothing), "100 of 128 MiB");
    }

    #[test]
    fn the_file_is_cut_as_the_rest_runs_out_and_made_again_only_when_puts_are_taken() {
        let wanted = |free, file| SIZES.file_wanted(free * MIB, file * MIB, 1 << 30) / MIB;
        assert_eq!(wanted(1000, 0), 128);
        assert_eq!(wanted(64, 128), 128);
        assert_eq!(wanted(63, 128), 127, "so that 64 are free");
        assert_eq!(wanted(0, 40), 0);
        assert_eq!(wanted(200, 20), 20, "220 are too few for puts");
        assert_eq!(wanted(236, 20), 128);
    }

    proptest! {
        /// For all numbers: changing the file leaves the working space free if the volume has it at all, and a second
        /// look changes nothing.
        #[test]
        fn the_file_settles_at_once_and_leaves_the_working_space(free in 0u64..2000, file in 0u64..129, volume in 1u64..8000) {
            let (free, file, volume) = (free * MIB, file * MIB, volume * MIB);
            let wanted = SIZES.file_wanted(free, file, volume);
            let free_then = free + file - wanted;
            prop_assert!(wanted <= SIZES.file() && wanted <= free + file);
            prop_assert!(free_then >= SIZES.working() || wanted == 0);
            prop_assert_eq!(SIZES.file_wanted(free_then, wanted, volume), wanted);
        }
    }
}

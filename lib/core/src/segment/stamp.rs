//! What a write says of its key besides the value: when it was, since when the key lives, who lets it expire. PURE.
//!
//! Records and the lines of the table have the same stamp, with the same flags.

use crate::limits::NUMBER_MAX;
use crate::types::Revision;
use std::num::NonZeroI64;

/// Where a write stands in the history: its revision, and its number among the writes of that revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The revision.
    pub main: Revision,
    /// Counts the writes of one revision from 0.
    pub sub: u32,
}

impl Position {
    /// Bytes of the encoding, `main u64 | sub u32`.
    pub(super) const BYTES: usize = 12;

    /// Whether a write can stand there.
    pub(super) fn is_sound(&self) -> bool {
        (1..=NUMBER_MAX).contains(&self.main)
    }
}

/// What a write says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which write it is.
    pub at: Position,
    /// The revision that created the key; 0 for a tombstone.
    pub create: Revision,
    /// Writes since then, this one included; 0 for a tombstone.
    pub version: u64,
    /// The lease with which the key goes; none for a tombstone.
    pub lease: Option<NonZeroI64>,
    /// Whether the key was deleted.
    pub tombstone: bool,
}

/// A bit of the flags. The numbers are on disk: never change or reuse one.
#[repr(u8)]
enum Flag {
    Tombstone = 1,
    Lease = 2,
}

/// The flags that this build knows.
const KNOWN: u8 = Flag::Tombstone as u8 | Flag::Lease as u8;

/// Whether a newer build set one of the flags.
pub(super) fn is_newer(flags: u8) -> bool {
    flags & !KNOWN != 0
}

/// Whether the flags say that a lease follows.
pub(super) fn has_lease(flags: u8) -> bool {
    flags & Flag::Lease as u8 != 0
}

/// Whether the flags say that the key was deleted.
pub(super) fn is_tombstone(flags: u8) -> bool {
    flags & Flag::Tombstone as u8 != 0
}

impl Stamp {
    /// The flags of this stamp.
    pub(super) fn flags(&self) -> u8 {
        let flag = |flag: Flag, set: bool| if set { flag as u8 } else { 0 };
        flag(Flag::Tombstone, self.tombstone) | flag(Flag::Lease, self.lease.is_some())
    }

    /// Bytes that the lease takes.
    pub(super) fn lease_bytes(&self) -> usize {
        if self.lease.is_some() { size_of::<i64>() } else { 0 }
    }

    /// Whether a write can say this: a tombstone has only its position, a value was created no later than it was
    /// written, and no number is garbage.
    pub(super) fn is_sound(&self) -> bool {
        let Stamp { at, create, version, lease, tombstone } = *self;
        let fits = match tombstone {
            true => (create, version, lease) == (0, 0, None),
            false => (1..=at.main).contains(&create) && (1..=NUMBER_MAX).contains(&version),
        };
        fits && at.is_sound()
    }
}

//! Where the record of a write is. PURE.
//!
//! What a place consists of is known here alone: the index keeps places and gives them back, and nobody else looks
//! inside.

use super::keys::RecordKey;
use crate::types::Revision;
use std::fmt;

/// Where a record is among those of its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which write of its revision it is, from 0.
    pub sub: u32,
}

/// The record of one write of one key. Records are written in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordAt {
    /// The revision that the write is a part of.
    pub revision: Revision,
    /// Its place there.
    pub place: Place,
}

impl RecordAt {
    /// Write `sub` of a revision.
    pub fn new(revision: Revision, sub: u32) -> RecordAt {
        RecordAt { revision, place: Place { sub } }
    }

    /// Chunk 0 of the record in the tree.
    pub fn key(self) -> RecordKey {
        RecordKey { revision: self.revision, sub: self.place.sub, chunk: 0 }
    }
}

impl fmt::Display for RecordAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}, write {}", self.revision, self.place.sub)
    }
}

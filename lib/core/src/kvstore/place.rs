//! Where the record of a write is. PURE.
//!
//! What a place consists of is known here alone: the index keeps places and gives them back, and nobody else looks
//! inside.

use super::keys::RecordKey;
use crate::types::Revision;
use std::fmt;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The segment, by the number that it has in this run of the process; the same while its records are in the head and
    /// when they are in a file.
    pub segment: u32,
    /// Where the record begins among the segment's records.
    pub offset: u32,
    /// Bytes of the record.
    pub len: u32,
}

/// The record of one write of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordAt {
    /// The revision that the write is a part of.
    pub revision: Revision,
    /// Where its record is.
    pub place: Place,
}

impl RecordAt {
    /// Write `sub` of a revision, in a tree, whose keys are what tells where a record is.
    pub fn new(revision: Revision, sub: u32) -> RecordAt {
        RecordAt { revision, place: Place { segment: 0, offset: sub, len: 0 } }
    }

    /// Which write of its revision it is, in a tree.
    pub fn sub(self) -> u32 {
        self.place.offset
    }

    /// Chunk 0 of the record in the tree.
    pub fn key(self) -> RecordKey {
        RecordKey { revision: self.revision, sub: self.sub(), chunk: 0 }
    }
}

impl fmt::Display for RecordAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}, write {}", self.revision, self.sub())
    }
}

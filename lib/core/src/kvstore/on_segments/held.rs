//! The newest durable manifest, and the files that it lists: nobody removes them while somebody holds it. So what is sent
//! to a member, or backed up, stays whole as long as that takes (rule D2).

use super::files::File;
use crate::ports::LogDisk;
use crate::segment::file::file_name;
use crate::segment::{Listed, Position};
use crate::snapshot::manifest::{Manifest, hash_of};
use crate::types::{Index, Term};
use std::io;
use std::sync::Arc;

/// A durable manifest with its files.
#[derive(Debug)]
pub struct Held {
    pub(super) manifest: Arc<Manifest>,
    /// The file of each segment that it lists.
    pub(super) files: Vec<Arc<File>>,
    size: u64,
    hash: u128,
}

/// Where the records end that a manifest lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The position of the last record; `None` when there is none.
    last: Option<Position>,
    /// Where the prefix begins, if the last segment is one.
    pub(super) prefix: Option<Position>,
}

impl Ends {
    pub(super) fn of(manifest: &Manifest) -> Ends {
        let last = manifest.segments.last();
        let prefix = last.filter(|last| last.prefix).map(|last| last.first);
        Ends { last: last.map(|last| last.last), prefix }
    }

    /// Whether a claim has to speak of what begins and ends there: the manifest does not, or of its beginning alone.
    pub(super) fn lacks(&self, first: Position, last: Position) -> bool {
        self.last.is_none_or(|end| last > end) || self.prefix == Some(first)
    }
}

impl Held {
    pub(super) fn new(manifest: Arc<Manifest>, files: Vec<Arc<File>>) -> Held {
        assert_eq!(manifest.segments.len(), files.len(), "each segment is in a file");
        let bytes = manifest.encode();
        Held { manifest, files, size: bytes.len() as u64, hash: hash_of(&bytes) }
    }

    pub(super) fn ends(&self) -> Ends {
        Ends::of(&self.manifest)
    }

    /// The log index.
    pub fn index(&self) -> Index {
        self.manifest.index()
    }

    /// The term of that index.
    pub fn term(&self) -> Term {
        self.manifest.term()
    }

    /// The manifest's bytes, as they are sent.
    pub fn bytes(&self) -> Vec<u8> {
        self.manifest.encode()
    }

    /// Number of these bytes, and their XXH3-128: by these it is announced.
    pub fn size_and_hash(&self) -> (u64, u128) {
        (self.size, self.hash)
    }

    /// The segments that it lists.
    pub fn segments(&self) -> &[Listed] {
        &self.manifest.segments
    }

    /// Reads bytes of the records of the segment with this hash, as many as there are room for. `None`: it lists no such
    /// segment, or the bytes begin behind its records.
    pub fn read(&self, disk: &dyn LogDisk, hash: u128, offset: u64, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let at = self.segments().iter().position(|listed| listed.hash == hash);
        let rest = |at: &usize| self.segments()[*at].records_bytes.checked_sub(offset);
        let Some((at, rest)) = at.and_then(|at| Some((at, rest(&at)?))) else { return Ok(None) };
        let len = buf.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        disk.read(&file_name(self.files[at].n), offset, &mut buf[..len]).map(Some)
    }
}

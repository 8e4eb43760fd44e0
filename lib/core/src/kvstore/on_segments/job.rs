//! The work of the segment thread: each job is a plain value, is done whole or fails, and says what it came to.

use super::open::write_manifest;
use crate::ports::LogDisk;
use crate::segment::Listed;
use crate::segment::file::{self, SegmentError, file_name};
use crate::snapshot::manifest::{Manifest, Own, hash_of};
use crate::types::Index;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Something to do, one job after the other.
#[derive(Debug)]
pub enum Job {
    /// Make the file of a window that will be filled, and take room for it.
    Prepare {
        /// The number in its name.
        n: u64,
        /// Room to take.
        bytes: u64,
    },
    /// Make a full window a file.
    Seal(Seal),
    /// Write a manifest, and the file of the prefix that it lists.
    Cut(Box<Cut>),
    /// Remove files that no durable manifest lists and nobody reads.
    Unlink {
        /// Their names.
        names: Vec<String>,
    },
}

/// A full window.
#[derive(Debug)]
pub struct Seal {
    pub(super) segment: u32,
    pub(super) n: u64,
    pub(super) pieces: Vec<Bytes>,
    pub(super) listed: Listed,
}

/// A manifest that was frozen.
#[derive(Debug)]
pub struct Cut {
    pub(super) manifest: Arc<Manifest>,
    pub(super) own: Own,
    /// The window being filled, as far as it is in the manifest.
    pub(super) prefix: Option<Seal>,
}

/// What a job came to.
#[derive(Debug)]
pub enum Done {
    /// Nothing that the store has to know.
    Nothing,
    /// A window is a durable file.
    Sealed(Sealed),
    /// A manifest is durable.
    Cut(Box<CutDone>),
}

/// A window that is a durable file.
#[derive(Debug)]
pub struct Sealed {
    pub(super) segment: u32,
}

/// A manifest that is durable.
#[derive(Debug)]
pub struct CutDone {
    pub(super) manifest: Arc<Manifest>,
    /// The number of the prefix's file, if there is one.
    pub(super) prefix_n: Option<u64>,
    /// Bytes of the manifest, without what only this member needs.
    pub(super) size: u64,
    /// Their hash.
    pub(super) hash: u128,
}

impl CutDone {
    /// The log index: the log may forget what is up to it.
    pub fn index(&self) -> Index {
        self.manifest.index()
    }

    /// Bytes of the manifest, and their XXH3-128, by which it is announced.
    pub fn size_and_hash(&self) -> (u64, u128) {
        (self.size, self.hash)
    }
}

impl Job {
    /// Does it. After an error it may be done again, unless a sync failed: then the process must end.
    pub fn run(&self, disk: &dyn LogDisk) -> Result<Done, SegmentError> {
        match self {
            Job::Prepare { n, bytes } => disk.allocate(&file_name(*n), *bytes)?,
            Job::Seal(seal) => {
                seal.write(disk)?;
                return Ok(Done::Sealed(Sealed { segment: seal.segment }));
            }
            Job::Cut(cut) => return Ok(Done::Cut(Box::new(cut.write(disk)?))),
            Job::Unlink { names } => unlink(disk, names)?,
        }
        Ok(Done::Nothing)
    }
}

impl Seal {
    fn write(&self, disk: &dyn LogDisk) -> Result<(), SegmentError> {
        let name = file_name(self.n);
        if disk.len(&name).is_err() {
            disk.create(&name, 0)?;
        }
        file::write(disk, self.n, &self.pieces, &self.listed).map(|_| ())
    }
}

impl Cut {
    fn write(&self, disk: &dyn LogDisk) -> Result<CutDone, SegmentError> {
        let bytes = self.manifest.encode();
        disk.room_for(2 * bytes.len() as u64 + self.prefix.as_ref().map_or(0, |prefix| prefix.listed.records_bytes))?;
        if let Some(prefix) = &self.prefix {
            prefix.write(disk)?;
        }
        write_manifest(disk, &self.manifest, &self.own)?;
        let prefix_n = self.prefix.as_ref().map(|prefix| prefix.n);
        let (manifest, size, hash) = (self.manifest.clone(), bytes.len() as u64, hash_of(&bytes));
        Ok(CutDone { manifest, prefix_n, size, hash })
    }
}

/// Removes files, durably; one that is gone already is no error.
fn unlink(disk: &dyn LogDisk, names: &[String]) -> io::Result<()> {
    for name in names {
        match disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    disk.sync_dir()
}

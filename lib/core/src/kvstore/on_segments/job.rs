//! The work of the segment thread: each job is a plain value, is done whole or fails, and says what it came to.

use super::directory::write_manifest;
use super::files::File;
use super::held::Held;
use super::view::View;
use crate::kvstore::place::{Place, RecordAt};
use crate::mutant::{self, Mutant};
use crate::ports::LogDisk;
use crate::segment::file::{self, SegmentError, file_name};
use crate::segment::merge::{Source, merge};
use crate::segment::{Listed, Position, RECORD_FIXED_BYTES, Record, Stamp};
use crate::snapshot::manifest::{Manifest, Own};
use crate::types::Revision;
use bytes::Bytes;
use std::fmt;
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
    /// Write what is live of a group of segments as one.
    Rewrite(Box<Rewrite>),
    /// Read a segment whole, and compare it with its hash.
    Scrub(Scrub),
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
    pub(super) file: Arc<File>,
    pub(super) pieces: Vec<Bytes>,
    pub(super) listed: Listed,
}

/// A manifest that was frozen.
#[derive(Debug)]
pub struct Cut {
    pub(super) manifest: Arc<Manifest>,
    pub(super) own: Own,
    /// The file of each segment.
    pub(super) files: Vec<Arc<File>>,
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
    Cut(Arc<Held>),
    /// A group of segments is one durable file, or has nothing that is live.
    Rewritten(Box<Rewritten>),
}

/// A window that is a durable file.
#[derive(Debug)]
pub struct Sealed {
    pub(super) segment: u32,
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
            Job::Cut(cut) => return Ok(Done::Cut(Arc::new(cut.write(disk)?))),
            Job::Scrub(Scrub { file, listed }) => _ = file::prove(disk, file.n, listed)?,
            Job::Rewrite(rewrite) => return Ok(Done::Rewritten(Box::new(rewrite.write(disk)?))),
            Job::Unlink { names } => unlink(disk, names)?,
        }
        Ok(Done::Nothing)
    }
}

impl Seal {
    fn write(&self, disk: &dyn LogDisk) -> Result<(), SegmentError> {
        let name = file_name(self.file.n);
        if disk.len(&name).is_err() {
            disk.create(&name, 0)?;
        }
        file::write(disk, self.file.n, &self.pieces, &self.listed).map(|_| ())
    }
}

impl Cut {
    fn write(&self, disk: &dyn LogDisk) -> Result<Held, SegmentError> {
        let held = Held::new(self.manifest.clone(), self.files.clone());
        let (size, _) = held.size_and_hash();
        disk.room_for(2 * size + self.prefix.as_ref().map_or(0, |prefix| prefix.listed.records_bytes))?;
        if let Some(prefix) = &self.prefix {
            prefix.write(disk)?;
        }
        write_manifest(disk, &self.manifest, &self.own)?;
        Ok(held)
    }
}

/// A segment that is looked at.
#[derive(Debug)]
pub struct Scrub {
    pub(super) file: Arc<File>,
    pub(super) listed: Listed,
}

/// A group of segments.
pub struct Rewrite {
    pub(super) view: Arc<View>,
    pub(super) inputs: Vec<Input>,
    /// The number of the new segment in this run, and its file.
    pub(super) segment: u32,
    pub(super) file: Arc<File>,
    /// The compaction that makes it.
    pub(super) made: Revision,
    /// Bytes of the records that are live.
    pub(super) live: u64,
}

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rewrite { view: _, inputs, segment, file, made, live } = self;
        write!(f, "Rewrite {inputs:?} as {segment} in {file:?}, made {made}, live {live}")
    }
}

/// One of its segments.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) segment: u32,
    pub(super) file: Arc<File>,
    pub(super) listed: Listed,
}

/// What was written of a group.
#[derive(Debug)]
pub struct Rewritten {
    /// The segments that it consisted of.
    pub(super) inputs: Vec<u32>,
    /// The number of the new segment in this run.
    pub(super) segment: u32,
    /// Its file, if anything was live.
    pub(super) made: Option<(Arc<File>, Listed)>,
    /// The records that are in it.
    pub(super) moved: Vec<Moved>,
    /// The keys of the values that are not in it, once for each.
    pub(super) left: Vec<Bytes>,
}

/// A record that was written anew.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) key: Bytes,
    /// Where it was.
    pub(super) at: RecordAt,
    /// Where it begins in the new segment.
    pub(super) offset: u32,
}

/// Lines of a table that are looked up in the index under one lock.
const LOOKUPS: usize = 1000;

impl Rewrite {
    fn write(&self, disk: &dyn LogDisk) -> Result<Rewritten, SegmentError> {
        let mut out = file::Writer::create(disk, self.file.n)?;
        let (mut moved, mut left) = (Vec::new(), Vec::new());
        for input in &self.inputs {
            let mut kept = self.live_of(disk, input, &mut left)?;
            // In the order of the file, which is that of revisions.
            kept.sort_unstable_by_key(|(_, at)| at.place.offset);
            let records = file::read_records(disk, input.file.n, &input.listed)?;
            for (key, at) in kept {
                let offset = self.copy(&records, input, &key, at, &mut out)?;
                moved.push(Moved { key, at, offset });
            }
        }
        if out.records_bytes() != self.live {
            let (bytes, live) = (out.records_bytes(), self.live);
            return Err(SegmentError::Damaged(format!("{bytes} bytes are live in a group of segments, not {live}")));
        }
        let foot = out.finish()?;
        let made = foot.map(|foot| (self.file.clone(), Listed::of(&foot, self.made)));
        let inputs = self.inputs.iter().map(|input| input.segment).collect();
        Ok(Rewritten { inputs, segment: self.segment, made, moved, left })
    }

    /// The records of a segment that the index has, by key. Values that it does not have go to `left`.
    fn live_of(
        &self,
        disk: &dyn LogDisk,
        input: &Input,
        left: &mut Vec<Bytes>,
    ) -> Result<Vec<(Bytes, RecordAt)>, SegmentError> {
        let foot = file::foot(disk, input.file.n, &input.listed)?;
        let mut lines: Vec<(Bytes, RecordAt, bool)> = Vec::new();
        let mut kept = Vec::new();
        let mut look_up = |lines: &mut Vec<(Bytes, RecordAt, bool)>| {
            let published = self.view.published();
            for (key, at, tombstone) in lines.drain(..) {
                match published.index.has(&key, at) {
                    true => kept.push((key, at)),
                    false if !tombstone => left.push(key),
                    false => {}
                }
            }
        };
        let mut source = [Source::file(input.file.n, &foot)];
        merge(disk, &mut source, &mut |_, line| {
            let place = Place { segment: input.segment, offset: line.offset, len: line.len };
            let at = RecordAt { revision: line.stamp.at.main, place };
            lines.push((Bytes::copy_from_slice(line.key), at, line.stamp.tombstone));
            if lines.len() == LOOKUPS {
                look_up(&mut lines);
            }
        })
        .map_err(|broken| broken.error)?;
        look_up(&mut lines);
        Ok(kept)
    }

    /// Copies a record, whose crc must be right: damage is never written under a good one (rule D11).
    fn copy(
        &self,
        records: &[u8],
        input: &Input,
        key: &[u8],
        at: RecordAt,
        out: &mut file::Writer<'_>,
    ) -> Result<u32, SegmentError> {
        let Place { offset, len, .. } = at.place;
        let bytes = records.get(offset as usize..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(len as usize)];
        let damaged = |why: &str| {
            let name = file_name(input.file.n);
            Err(SegmentError::Damaged(format!("{name}: the record of revision {} at {offset}: {why}", at.revision)))
        };
        match Record::decode(offset, bytes) {
            Err(_) if mutant::is(Mutant::DamageCopied) => {
                let value = &bytes[(RECORD_FIXED_BYTES + key.len()).min(bytes.len())..];
                let at = Position { main: at.revision, sub: 0 };
                let stamp = Stamp { at, create: at.main, version: 1, lease: None, tombstone: false };
                out.record(&Record { stamp, key, value })
            }
            Ok((record, _)) if record.key == key && record.stamp.at.main == at.revision => out.record(&record),
            Ok(_) => damaged("it is another one"),
            Err(why) => damaged(&why.to_string()),
        }
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
    file::sync_dir(disk)
}

//! Segments as files: made from records, proved, and mended where only what follows from the records is damaged.
//!
//! Enters: records, a [`LogDisk`]. Leaves: durable files `kv-<n>`, or what is wrong with one. No number is used twice,
//! so a file never changes once it is named by anybody.

use super::foot::{BadFoot, FOOT_BYTES, Foot};
use super::list::Listed;
use super::record::{BadRecord, Record};
use super::seal::{BadRecords, Sealed, Sealer, seal};
use crate::limits::{SEGMENT_READ_BYTES, SEGMENT_SYNC_BYTES};
use crate::mutant::{self, Mutant};
use crate::ports::LogDisk;
use bytes::Bytes;
use std::io;

/// Why a segment's file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The disk failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its records are not those that are known by this hash; the text names the file and the place.
    #[error("{0}")]
    Damaged(String),
    /// A newer build wrote it: the process must stop, and leave everything as it is.
    #[error("{0}")]
    Newer(String),
}

/// The name of the file with this number.
pub fn file_name(n: u64) -> String {
    format!("kv-{n:020}")
}

/// The number in a file's name; `None` when it is no name of a segment.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("kv-")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Writes a segment, durably, its name included. The pieces must be the records of `listed`.
pub fn write(disk: &dyn LogDisk, n: u64, pieces: &[Bytes], listed: &Listed) -> Result<Foot, SegmentError> {
    let mut writer = Writer::on(disk, n);
    pieces.iter().try_for_each(|piece| writer.push(piece))?;
    writer.finish_as(listed)
}

/// Writes the file of a segment, in pieces or record by record.
pub struct Writer<'a> {
    disk: &'a dyn LogDisk,
    name: String,
    sealer: Sealer,
    /// Bytes of the records that were written so far, and of those that wait.
    written: u64,
    unsynced: usize,
    waiting: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Makes the file.
    pub fn create(disk: &'a dyn LogDisk, n: u64) -> Result<Writer<'a>, SegmentError> {
        disk.create(&file_name(n), 0)?;
        Ok(Writer::on(disk, n))
    }

    /// Writes a file that is there, from its beginning.
    fn on(disk: &'a dyn LogDisk, n: u64) -> Writer<'a> {
        Writer { disk, name: file_name(n), sealer: Sealer::default(), written: 0, unsynced: 0, waiting: Vec::new() }
    }

    /// Bytes of all records.
    pub fn records_bytes(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Writes a record behind all others; returns where it begins.
    pub fn record(&mut self, record: &Record<'_>) -> Result<u32, SegmentError> {
        let offset = u32::try_from(self.records_bytes());
        let offset = offset.map_err(|_| SegmentError::Damaged(format!("{}: it grows too long", self.name)))?;
        record.encode(offset, &mut self.waiting);
        if self.waiting.len() >= SEGMENT_READ_BYTES {
            self.write_waiting()?;
        }
        Ok(offset)
    }

    fn write_waiting(&mut self) -> Result<(), SegmentError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.push(&waiting)
    }

    /// Writes the next bytes of records.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        self.sealer.push(bytes).map_err(|why| bad(&self.name, why))?;
        // Not all at once: what others sync meanwhile would wait for it.
        for part in bytes.chunks(SEGMENT_SYNC_BYTES) {
            self.disk.write(&self.name, self.written, part)?;
            self.written += part.len() as u64;
            self.unsynced += part.len();
            if self.unsynced >= SEGMENT_SYNC_BYTES {
                sync(self.disk, &self.name)?;
                self.unsynced = 0;
            }
        }
        Ok(())
    }

    /// Makes the file durable, its name included. Without a record there is no file, and no foot.
    pub fn finish(self) -> Result<Option<Foot>, SegmentError> {
        if self.records_bytes() == 0 {
            self.disk.remove(&self.name)?;
            return Ok(None);
        }
        self.end(|_| true).map(Some)
    }

    /// The same, if the records are those of `listed`.
    pub fn finish_as(self, listed: &Listed) -> Result<Foot, SegmentError> {
        self.end(|foot| listed.is(foot))
    }

    fn end(mut self, is_wanted: impl FnOnce(&Foot) -> bool) -> Result<Foot, SegmentError> {
        self.write_waiting()?;
        let Writer { disk, name, sealer, written, .. } = self;
        let sealed = sealer.seal().map_err(|why| bad(&name, why))?;
        if !is_wanted(&sealed.foot) {
            return Err(SegmentError::Damaged(format!("{name}: the records are not those that were to be written")));
        }
        disk.write(&name, written, &sealed.tail())?;
        if !mutant::is(Mutant::ManifestBeforeSync) {
            sync(disk, &name)?;
        }
        sync_dir(disk)?;
        Ok(sealed.foot)
    }
}

/// A sync that fails is no call that found no room, whatever it says: it is never tried again (rule N11).
pub fn sync(disk: &dyn LogDisk, name: &str) -> io::Result<()> {
    disk.sync(name).map_err(|error| io::Error::other(format!("fdatasync of {name}: {error}")))
}

/// The same for the directory.
pub fn sync_dir(disk: &dyn LogDisk) -> io::Result<()> {
    disk.sync_dir().map_err(|error| io::Error::other(format!("fsync of the directory: {error}")))
}

/// The foot of a file, which must be that of `listed`. What is damaged behind the records is made again from them.
pub fn foot(disk: &dyn LogDisk, n: u64, listed: &Listed) -> Result<Foot, SegmentError> {
    let name = file_name(n);
    let len = disk.len(&name).map_err(|error| missing(&name, error))?;
    let mut end = [0; FOOT_BYTES];
    let from = len.saturating_sub(FOOT_BYTES as u64);
    let read = disk.read(&name, from, &mut end)?;
    match Foot::decode(len, &end[..read]) {
        Ok(foot) if listed.is(&foot) => Ok(foot),
        Err(newer @ BadFoot::Newer { .. }) => Err(SegmentError::Newer(format!("{name}: {newer}"))),
        Ok(_) | Err(BadFoot::Damaged) => Ok(mend(disk, n, listed)?.foot),
    }
}

/// Reads all records of a file, which must be those of `listed`; returns what stands behind them. Nothing but the
/// records is looked at.
pub fn prove(disk: &dyn LogDisk, n: u64, listed: &Listed) -> Result<Sealed, SegmentError> {
    let name = file_name(n);
    let mut sealer = Sealer::default();
    let mut offset = 0;
    let mut buffer = vec![0; SEGMENT_READ_BYTES];
    while offset < listed.records_bytes {
        let len = buffer.len().min((listed.records_bytes - offset) as usize);
        let read = disk.read(&name, offset, &mut buffer[..len]).map_err(|error| missing(&name, error))?;
        if read < len {
            return Err(SegmentError::Damaged(format!("{name} ends before its {} bytes", listed.records_bytes)));
        }
        sealer.push(&buffer[..len]).map_err(|why| bad(&name, why))?;
        offset += len as u64;
    }
    let sealed = sealer.seal().map_err(|why| bad(&name, why))?;
    if listed.is(&sealed.foot) || mutant::is(Mutant::ClaimUnproved) {
        Ok(sealed)
    } else {
        Err(SegmentError::Damaged(format!("{name}: its records do not have the hash {:032x}", listed.hash)))
    }
}

/// Proves the records, and writes again what stands behind them.
pub fn mend(disk: &dyn LogDisk, n: u64, listed: &Listed) -> Result<Sealed, SegmentError> {
    let name = file_name(n);
    let sealed = prove(disk, n, listed)?;
    let tail = sealed.tail();
    if disk.len(&name)? > listed.records_bytes + tail.len() as u64 {
        // A file can't be made shorter here; it is written anew under its name.
        let records = read_records(disk, n, listed)?;
        disk.create(&name, 0)?;
        disk.write(&name, 0, &records)?;
    }
    disk.write(&name, listed.records_bytes, &tail)?;
    sync(disk, &name)?;
    tracing::warn!(file = name, "the table of this segment was damaged; it was made again from its records");
    Ok(sealed)
}

/// The bytes of all records.
pub fn read_records(disk: &dyn LogDisk, n: u64, listed: &Listed) -> Result<Vec<u8>, SegmentError> {
    let name = file_name(n);
    let len = usize::try_from(listed.records_bytes).expect("a segment is at most a GiB");
    let mut bytes = vec![0; len];
    let read = disk.read(&name, 0, &mut bytes).map_err(|error| missing(&name, error))?;
    if read < len {
        return Err(SegmentError::Damaged(format!("{name} ends before its {len} bytes")));
    }
    Ok(bytes)
}

/// Seals records that are in memory, which must be those of `listed`.
pub fn prove_bytes(what: &str, bytes: &[u8], hash: u128) -> Result<Sealed, SegmentError> {
    let sealed = seal([bytes]).map_err(|why| bad(what, why))?;
    if sealed.foot.hash == hash || mutant::is(Mutant::ClaimUnproved) {
        Ok(sealed)
    } else {
        Err(SegmentError::Damaged(format!("{what}: its records do not have the hash {hash:032x}")))
    }
}

fn missing(name: &str, error: io::Error) -> SegmentError {
    match error.kind() {
        io::ErrorKind::NotFound => SegmentError::Damaged(format!("{name} is missing")),
        _ => error.into(),
    }
}

fn bad(name: &str, why: BadRecords) -> SegmentError {
    match why {
        BadRecords::Record { why: BadRecord::Newer { .. }, .. } => SegmentError::Newer(format!("{name}: {why}")),
        BadRecords::Record { .. } | BadRecords::Order { .. } | BadRecords::Empty | BadRecords::Long { .. } => {
            SegmentError::Damaged(format!("{name}: {why}"))
        }
    }
}

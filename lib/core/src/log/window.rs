//! Reads a segment from beginning to end through a window, so that a start does not take a segment's size in memory.
//!
//! Enters: offsets, nearly always ascending. Leaves: the bytes there, whole records, or an error that names the file.

use super::codec::{self, NoBody, RECORD_HEADER_BYTES, Record};
use super::segment::segment_name;
use super::{LogError, LogOp};
use crate::ports::LogDisk;
use bytes::Bytes;

/// Bytes that are read at once; a larger record makes the window as large as the record.
const WINDOW_BYTES: usize = 1024 * 1024;
const ZEROS: &[u8] = &[0; 64 * 1024];

/// The segment and the part of it that is in memory.
pub struct SegmentFile<'a> {
    /// Its number.
    pub seq: u64,
    /// Its file.
    pub name: String,
    /// Bytes of the file.
    pub length: usize,
    disk: &'a dyn LogDisk,
    /// Is told how many more bytes were read.
    tell: &'a mut dyn FnMut(u64),
    told: usize,
    held: Vec<u8>,
    /// Offset of the first byte that is held.
    start: usize,
}

impl<'a> SegmentFile<'a> {
    /// Opens a segment; nothing but its length is read yet.
    pub fn open(disk: &'a dyn LogDisk, seq: u64, tell: &'a mut dyn FnMut(u64)) -> Result<SegmentFile<'a>, LogError> {
        let name = segment_name(seq);
        let length = disk.len(&name).map_err(LogError::io(&name))? as usize;
        Ok(SegmentFile { seq, name, length, disk, tell, told: 0, held: Vec::new(), start: 0 })
    }

    /// An error at this offset of the file.
    pub fn corrupt(&self, offset: usize, what: impl std::fmt::Display) -> LogError {
        LogError::corrupt(&self.name, offset as u64, what)
    }

    /// The record at this offset is whole, and this build cannot tell what it says.
    pub fn no_body(&self, offset: usize, why: NoBody) -> LogError {
        match why {
            NoBody::Newer(kind) => LogError::newer_record(&self.name, offset as u64, kind),
            NoBody::Shape => self.corrupt(offset, "a record of unknown shape"),
        }
    }

    /// `count` bytes from `at` on, or fewer at the end of the file.
    pub fn bytes(&mut self, at: usize, count: usize) -> Result<&[u8], LogError> {
        let end = self.length.min(at + count);
        if at < self.start || end > self.start + self.held.len() {
            self.load(at, end)?;
        }
        Ok(&self.held[at - self.start..end - self.start])
    }

    fn load(&mut self, at: usize, end: usize) -> Result<(), LogError> {
        if (self.start..self.start + self.held.len()).contains(&at) {
            self.held.drain(..at - self.start);
        } else {
            self.held.clear();
        }
        self.start = at;
        let wanted = end.max(self.length.min(at + WINDOW_BYTES)) - at;
        while self.held.len() < wanted {
            let have = self.held.len();
            self.held.resize(wanted.min(have + WINDOW_BYTES), 0);
            let place = (at + have) as u64;
            let count = self.disk.read(&self.name, place, &mut self.held[have..]).map_err(LogError::io(&self.name))?;
            if count == 0 {
                return Err(LogError::corrupt(&self.name, place, "the file became shorter while it was read"));
            }
            self.held.truncate(have + count);
        }
        let furthest = at + self.held.len();
        if furthest > self.told {
            (self.tell)((furthest - self.told) as u64);
            self.told = furthest;
        }
        Ok(())
    }

    /// The record at `at`; `None` when there is none, or not a whole one.
    pub fn record(&mut self, at: usize) -> Result<Option<Record<'_>>, LogError> {
        let Some((_, _, payload_bytes)) = codec::peek(self.bytes(at, RECORD_HEADER_BYTES)?) else { return Ok(None) };
        let (seq, bytes) = (self.seq, codec::record_bytes(payload_bytes));
        if bytes > self.length - at {
            return Ok(None);
        }
        Ok(codec::parse(self.bytes(at, bytes)?, seq, at as u64))
    }

    /// The first place at or after `at` where a record could begin: skips zeros, which is nearly everything after the
    /// end of the log.
    pub fn skip_zeros(&mut self, mut at: usize) -> Result<usize, LogError> {
        while at + ZEROS.len() <= self.length && self.bytes(at, ZEROS.len())? == ZEROS {
            // A record's header may begin with zeros and go on after them.
            at += ZEROS.len() - RECORD_HEADER_BYTES;
        }
        Ok(at)
    }

    /// The writes that make everything from `at` on zero; what is zero already is not written.
    pub fn zero_from(&mut self, mut at: usize) -> Result<Vec<LogOp>, LogError> {
        let mut writes = Vec::new();
        while at < self.length {
            let chunk = self.bytes(at, ZEROS.len())?;
            let zeros = &ZEROS[..chunk.len()];
            if chunk != zeros {
                let bytes = Bytes::from_static(zeros);
                writes.push(LogOp::Write { file: self.name.clone(), offset: at as u64, bytes });
            }
            at += zeros.len();
        }
        Ok(writes)
    }
}

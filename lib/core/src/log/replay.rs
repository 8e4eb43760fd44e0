//! Reads a log from the disk: what is believed, what is cut, and what stops the node (rules N1, N2).
//!
//! Enters: the segments of a data directory. Leaves: the state that they amount to and the repairs, or a [`LogError`]
//! that names the file, the offset and what to do. Batch n+1 is not written before the fdatasync of batch n returned,
//! so only the last batch can have been torn by a crash. Anything else that does not validate was acknowledged, and
//! then nothing is guessed.

use super::codec::{self, BATCH_BYTES_MIN, Body, NoBody, PREAMBLE_BYTES, Preamble, RECORD_HEADER_BYTES};
use super::codec::{KIND_MAX, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segment::{FileKind, Segments, segment_name};
use super::slots::Slot;
use super::state::State;
use super::window::SegmentFile;
use super::{LogConfig, LogError, LogOp, Mark};
use crate::mutant::{self, Mutant};
use crate::other_format::OtherFormat;
use crate::ports::LogDisk;
use crate::types::MemberIdentity;
use bytes::Bytes;

/// A log as found on the disk.
pub struct Recovered {
    /// What the records say; the window is empty.
    pub state: State,
    /// The files.
    pub segments: Segments,
    /// Whose log it is.
    pub identity: MemberIdentity,
    /// Whether the last batch is that of a clean stop.
    pub clean_stop: bool,
    /// Batches seen.
    pub batches: u64,
    /// Entries seen, replaced ones included.
    pub entries: u64,
    /// See [`super::Replayed::repairs`].
    pub repairs: Vec<LogOp>,
}

/// Reads the whole log; `None` when there is no segment.
pub fn recover(
    config: LogConfig,
    disk: &dyn LogDisk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Recovered>, LogError> {
    let seqs = segment_seqs(disk)?;
    let mut bytes_all = 0;
    for seq in &seqs {
        let name = segment_name(*seq);
        bytes_all += disk.len(&name).map_err(LogError::io(&name))?;
    }
    let mut bytes_read = 0;
    let mut replay: Option<Replay> = None;
    for seq in &seqs {
        let mut tell = |more| {
            bytes_read += more;
            progress(bytes_read, bytes_all);
        };
        let mut segment = SegmentFile::open(disk, *seq, &mut tell)?;
        let file_bytes = segment.length as u64;
        let header = header(segment.bytes(0, SEGMENT_HEADER_BYTES)?, file_bytes, *seq)?;
        let replay = match &mut replay {
            None => replay.insert(Replay::begin(config, header, &segment)?),
            Some(replay) => replay.follow(header, &segment)?,
        };
        replay.batches(&mut segment)?;
        if Some(seq) == seqs.last() {
            replay.tail(&mut segment)?;
        }
    }
    replay.map(|replay| replay.finish(disk)).transpose()
}

/// Numbers of the segments, ascending, without a gap.
pub fn segment_seqs(disk: &dyn LogDisk) -> Result<Vec<u64>, LogError> {
    let names = disk.list().map_err(LogError::io("."))?;
    let mut seqs: Vec<u64> = names
        .iter()
        .filter_map(|name| match FileKind::of(name) {
            FileKind::Segment(seq) => Some(seq),
            FileKind::Spare(_) | FileKind::Unfinished | FileKind::Other => None,
        })
        .collect();
    seqs.sort_unstable();
    match seqs.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        None => Ok(seqs),
        Some(gap) => {
            Err(LogError::corrupt(&segment_name(gap[0] + 1), 0, "the segment is missing, later ones are here"))
        }
    }
}

/// Header of one segment, without reading the rest.
pub fn read_header(disk: &dyn LogDisk, seq: u64) -> Result<SegmentHeader, LogError> {
    let name = segment_name(seq);
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let read = disk.read(&name, 0, &mut bytes).map_err(LogError::io(&name))?;
    header(&bytes[..read], disk.len(&name).map_err(LogError::io(&name))?, seq)
}

fn header(bytes: &[u8], file_bytes: u64, seq: u64) -> Result<SegmentHeader, LogError> {
    let name = segment_name(seq);
    let damaged = || LogError::corrupt(&name, 0, "the segment's first bytes are damaged");
    match codec::preamble(bytes) {
        Preamble::Ours => (),
        Preamble::Other(found) => {
            return Err(OtherFormat::of(&name, found, codec::FORMAT).map_or_else(damaged, LogError::Format));
        }
        Preamble::Damaged => return Err(damaged()),
    }
    let record = codec::parse(&bytes[PREAMBLE_BYTES..], seq, PREAMBLE_BYTES as u64);
    let header = match record.map(|record| record.body()) {
        Some(Ok(Body::Header(header))) => header,
        Some(Err(NoBody::Newer(kind))) => return Err(LogError::newer_record(&name, PREAMBLE_BYTES as u64, kind)),
        Some(Ok(_) | Err(NoBody::Shape)) | None => {
            return Err(LogError::corrupt(&name, PREAMBLE_BYTES as u64, "the segment's header is damaged"));
        }
    };
    if header.segment_seq != seq {
        return Err(LogError::corrupt(&name, 0, format!("the header is that of segment {}", header.segment_seq)));
    }
    if header.segment_bytes != file_bytes {
        let what = format!("the file has {file_bytes} bytes, its header says {}", header.segment_bytes);
        return Err(LogError::corrupt(&name, file_bytes, what));
    }
    Ok(header)
}

/// A replay between two batches.
struct Replay {
    state: State,
    segments: Segments,
    identity: MemberIdentity,
    clean_stop: bool,
    batches: u64,
    entries: u64,
    repairs: Vec<LogOp>,
    /// Where the last whole batch begins in the segment being read.
    last_batch: Option<usize>,
    /// Where the last whole batch ends.
    end: usize,
    /// Where something does not validate: at `end`, or at a record of the batch that begins there.
    bad: usize,
}

impl Replay {
    fn begin(config: LogConfig, header: SegmentHeader, segment: &SegmentFile<'_>) -> Result<Replay, LogError> {
        Ok(Replay {
            state: State::at_header(&header, config.cache_bytes_max).map_err(|what| segment.corrupt(0, what))?,
            segments: Segments::new(config),
            identity: header.identity,
            clean_stop: false,
            batches: 0,
            entries: 0,
            repairs: Vec::new(),
            last_batch: None,
            end: 0,
            bad: 0,
        })
    }

    fn follow(&mut self, header: SegmentHeader, segment: &SegmentFile<'_>) -> Result<&mut Replay, LogError> {
        if header.identity != self.identity {
            return Err(segment.corrupt(0, "the header names another member than that of the segment before"));
        }
        if header.first_batch_no != self.state.next_batch_no {
            // This segment was begun after the batches before it were durable, so one of them is damaged.
            let what = format!(
                "batch {} is damaged, but batch {} begins {}: it was acknowledged",
                self.state.next_batch_no, header.first_batch_no, segment.name
            );
            return Err(LogError::corrupt(&segment_name(segment.seq - 1), self.bad as u64, what));
        }
        self.state.follow_header(&header).map_err(|what| segment.corrupt(0, what))?;
        Ok(self)
    }

    /// Replays whole batches until something does not validate.
    fn batches(&mut self, segment: &mut SegmentFile<'_>) -> Result<(), LogError> {
        (self.end, self.last_batch) = (SEGMENT_HEADER_BYTES, None);
        let mut records = Vec::new();
        while let Some(behind) = self.collect(segment, &mut records)? {
            self.clean_stop = false;
            for offset in records.drain(..) {
                let seq = segment.seq;
                let applied = match segment.record(offset)?.map(|record| record.body()) {
                    Some(Ok(body)) => self.apply(seq, offset, body),
                    Some(Err(_)) | None => Err("the record changed while it was read".to_string()),
                };
                applied.map_err(|what| segment.corrupt(offset, what))?;
            }
            self.state.next_batch_no += 1;
            self.batches += 1;
            self.last_batch = Some(self.end);
            self.end = behind;
        }
        self.segments.found_segment(segment.seq, segment.length as u64, self.end as u64);
        Ok(())
    }

    /// Collects the offsets of the next batch's records and says where it ends; `None` when it is not whole. A record
    /// of a newer build stops the replay also in a batch that was torn: this build does not know what may be cut there.
    fn collect(&mut self, segment: &mut SegmentFile<'_>, records: &mut Vec<usize>) -> Result<Option<usize>, LogError> {
        records.clear();
        self.bad = self.end;
        while let Some(record) = segment.record(self.bad)? {
            let (batch_no, behind) = (record.batch_no, self.bad + record.bytes());
            let end = match record.body() {
                Ok(Body::End { records }) => Ok(Some(records)),
                Ok(Body::Header(_) | Body::Mark(_) | Body::Entry(_) | Body::HardState(_) | Body::Closing) => Ok(None),
                Err(why) => Err(why),
            };
            if let Err(why @ NoBody::Newer(_)) = end {
                return Err(segment.no_body(self.bad, why));
            }
            if batch_no != self.state.next_batch_no && !mutant::is(Mutant::OldRecordsAccepted) {
                let what = format!("batch {batch_no} follows batch {}", self.state.next_batch_no - 1);
                return Err(segment.corrupt(self.bad, what));
            }
            match end {
                Err(why) => return Err(segment.no_body(self.bad, why)),
                Ok(Some(count)) if count != records.len() as u64 => {
                    return Err(segment.corrupt(self.bad, format!("a batch of {count} records has {}", records.len())));
                }
                Ok(Some(_)) => return Ok(Some(behind)),
                Ok(None) => records.push(self.bad),
            }
            self.bad = behind;
        }
        if mutant::is(Mutant::TornTailAccepted) && !records.is_empty() {
            return Ok(Some(self.bad));
        }
        Ok(None)
    }

    fn apply(&mut self, segment_seq: u64, offset: usize, body: Body<'_>) -> Result<(), String> {
        match body {
            Body::Mark(mark) => self.state.mark(mark),
            Body::Entry(view) => {
                self.entries += 1;
                let slot = Slot {
                    segment_seq,
                    offset: u32::try_from(offset).map_err(|_| "a segment above 4 GiB")?,
                    bytes: codec::entry_view_bytes(&view) as u32,
                    term: view.term,
                };
                self.state.replayed_entry(&view, slot)
            }
            Body::HardState(hard_state) => self.state.hard_state(hard_state),
            Body::Closing => {
                self.clean_stop = true;
                Ok(())
            }
            Body::Header(_) => Err("a header inside a segment".to_string()),
            Body::End { .. } => Err("an end inside a batch".to_string()),
        }
    }

    /// Decides whether what follows the last whole batch of the last segment may be cut, and plans that.
    fn tail(&mut self, segment: &mut SegmentFile<'_>) -> Result<(), LogError> {
        self.check_nothing_behind(segment)?;
        // The last batch is written again before it is synced: if the process ended because its fdatasync failed, the
        // pages are in the cache, but the kernel takes them for clean and would sync nothing.
        if let Some(start) = self.last_batch {
            let bytes = Bytes::copy_from_slice(segment.bytes(start, self.end - start)?);
            self.repairs.push(LogOp::Write { file: segment.name.clone(), offset: start as u64, bytes });
        }
        // The tail is always zeroed, not only when a torn batch is seen: sectors of a torn batch may have reached the
        // disk although none of its records validates, and later records must never meet them. Zeros are not written
        // again, so a second start costs nothing.
        if !mutant::is(Mutant::TailNotZeroed) {
            self.repairs.append(&mut segment.zero_from(self.end)?);
        }
        self.repairs.push(LogOp::Sync { file: segment.name.clone() });
        Ok(())
    }

    /// A record of a later batch after the bad one proves that the bad one was acknowledged, and one that a newer build
    /// wrote, that this build must not cut here.
    fn check_nothing_behind(&self, segment: &mut SegmentFile<'_>) -> Result<(), LogError> {
        let torn = self.state.next_batch_no;
        let mut at = self.bad + codec::ALIGNMENT;
        while at < segment.length {
            at = segment.skip_zeros(at)?;
            // This many batches fit in between. The bound avoids computing the crc of nearly everything that merely
            // looks like a record, above all of records of an earlier use, whose numbers are lower.
            let possible = torn..=torn + ((at - self.end) / BATCH_BYTES_MIN) as u64;
            let head = segment.bytes(at, RECORD_HEADER_BYTES)?;
            let found = codec::peek(head).filter(|(_, batch_no, _)| possible.contains(batch_no));
            if let Some((kind, later, _)) = found
                && (later > torn || kind > KIND_MAX)
                && segment.record(at)?.is_some()
            {
                if kind > KIND_MAX {
                    return Err(segment.no_body(at, NoBody::Newer(kind)));
                }
                let what = format!(
                    "batch {torn} is damaged, but batch {later} at offset {at} is whole: batch {torn} was acknowledged"
                );
                return Err(segment.corrupt(self.bad, what));
            }
            at += codec::ALIGNMENT;
        }
        Ok(())
    }

    /// Takes the spares, removes unfinished files, and makes the names durable.
    fn finish(mut self, disk: &dyn LogDisk) -> Result<Recovered, LogError> {
        let mut names = disk.list().map_err(LogError::io("."))?;
        names.sort_unstable();
        for name in names {
            let keep = match FileKind::of(&name) {
                FileKind::Segment(_) | FileKind::Other => true,
                FileKind::Spare(no) => {
                    let bytes = disk.len(&name).map_err(LogError::io(&name))?;
                    self.segments.found_spare(no, bytes)
                }
                FileKind::Unfinished => false,
            };
            if !keep {
                self.repairs.push(LogOp::Remove { file: name });
            }
        }
        self.repairs.push(LogOp::SyncDir);
        let Replay { state, segments, identity, clean_stop, batches, entries, repairs, .. } = self;
        Ok(Recovered { state, segments, identity, clean_stop, batches, entries, repairs })
    }
}

/// What a log holds, to tell a join or init that was cut short from a member's log (rule N7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Headers only.
    Nothing,
    /// One batch that holds only a mark and a HardState.
    OnlyMark(Mark),
    /// More than that.
    More,
}

/// Reads a whole log to see what it holds; `None` when there is no segment.
pub fn content(disk: &dyn LogDisk) -> Result<Option<Content>, LogError> {
    // Reading does not depend on the sizes.
    let config = LogConfig {
        segment_bytes: SEGMENT_HEADER_BYTES as u64,
        batch_bytes_max: 0,
        cache_bytes_max: 0,
        spare_segments: 0,
    };
    let recovered = recover(config, disk, &mut |_, _| ())?;
    Ok(recovered.map(|log| match (log.batches, log.entries, log.state.table.base()) {
        (0, _, _) if log.segments.current() == 1 => Content::Nothing,
        (1, 0, base) if base != Mark::default() => Content::OnlyMark(base),
        (_, _, _) => Content::More,
    }))
}

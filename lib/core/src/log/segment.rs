//! The files of the log: their names, the order in which they are made and removed, and the spares they are made of.
//!
//! A file gets the name of a segment only after its header is durable, so every file with such a name begins with a
//! valid header, whenever the power fails. Segments are removed one by one, oldest first, each durably before the next
//! (rule N21), so those that are left have no gap. Enters: sizes and headers. Leaves: [`LogOp`]s, in the order that
//! matters. PURE.

use super::codec::{SEGMENT_HEADER_BYTES, SegmentHeader, encode_header};
use super::{LogConfig, LogOp};
use crate::limits::NUMBER_MAX;
use std::collections::VecDeque;

const SEGMENT_PREFIX: &str = "wal-";
const SPARE_PREFIX: &str = "spare-";
/// Ends the names of files that are being made; a start removes files with such names.
const UNFINISHED_SUFFIX: &str = ".tmp";

/// What a name in the data directory means to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The segment with that number.
    Segment(u64),
    /// The spare with that number.
    Spare(u64),
    /// A segment or spare that was being made.
    Unfinished,
    /// Not a file of the log.
    Other,
}

impl FileKind {
    /// Classifies a name.
    pub fn of(name: &str) -> FileKind {
        let ours = name.starts_with(SEGMENT_PREFIX) || name.starts_with(SPARE_PREFIX);
        let number = |prefix: &str| name.strip_prefix(prefix).and_then(parse_number);
        match (number(SEGMENT_PREFIX), number(SPARE_PREFIX)) {
            (Some(seq), _) => FileKind::Segment(seq),
            (None, Some(no)) => FileKind::Spare(no),
            (None, None) if ours && name.ends_with(UNFINISHED_SUFFIX) => FileKind::Unfinished,
            (None, None) => FileKind::Other,
        }
    }
}

/// Exactly 20 digits, so that one number has one name, and a number that has a next one.
fn parse_number(digits: &str) -> Option<u64> {
    let digits = Some(digits).filter(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits?.parse().ok().filter(|number| *number <= NUMBER_MAX)
}

/// Name of a segment.
pub fn segment_name(seq: u64) -> String {
    format!("{SEGMENT_PREFIX}{seq:020}")
}

fn spare_name(no: u64) -> String {
    format!("{SPARE_PREFIX}{no:020}")
}

/// A segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub seq: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that the log wrote before it; used for distances across segments.
    pub position: u64,
}

/// The segments in use, oldest first, and the spares.
pub struct Segments {
    config: LogConfig,
    used: VecDeque<Segment>,
    /// Where the next batch goes in the last segment.
    end: u64,
    spares: VecDeque<String>,
    next_spare_no: u64,
    spare_in_making: Option<String>,
}

impl Segments {
    /// No segments yet.
    pub fn new(config: LogConfig) -> Segments {
        let least = (SEGMENT_HEADER_BYTES + config.batch_bytes_max) as u64;
        assert!(config.segment_bytes >= least, "a segment of {} bytes holds no largest batch", config.segment_bytes);
        assert!(config.segment_bytes <= u64::from(u32::MAX), "offsets in a segment have 32 bits");
        let (used, spares) = (VecDeque::new(), VecDeque::new());
        Segments { config, used, end: 0, spares, next_spare_no: 1, spare_in_making: None }
    }

    /// Takes a segment found on the disk, written up to `end`; called in ascending order.
    pub fn found_segment(&mut self, seq: u64, bytes: u64, end: u64) {
        let position = self.position();
        self.used.push_back(Segment { seq, bytes, position });
        self.end = end;
    }

    /// Takes a spare found on the disk; false when it has another size and should be removed.
    pub fn found_spare(&mut self, no: u64, bytes: u64) -> bool {
        self.next_spare_no = self.next_spare_no.max(no + 1);
        let fits = bytes == self.config.segment_bytes;
        if fits {
            self.spares.push_back(spare_name(no));
        }
        fits
    }

    /// Number of the segment being written.
    pub fn current(&self) -> u64 {
        self.used.back().map_or(0, |segment| segment.seq)
    }

    /// Where the next batch goes in that segment.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether that segment has room for a batch of this size.
    pub fn fits(&self, batch_bytes: usize) -> bool {
        self.used.back().is_some_and(|segment| self.end + batch_bytes as u64 <= segment.bytes)
    }

    /// Notes that a batch of this size was planned.
    pub fn advance(&mut self, batch_bytes: usize) {
        assert!(self.fits(batch_bytes), "a batch does not span segments");
        self.end += batch_bytes as u64;
    }

    /// Bytes that the log wrote so far, including segments that are gone, as far as they are known.
    pub fn position(&self) -> u64 {
        self.used.back().map_or(0, |segment| segment.position + self.end)
    }

    /// The same, up to an offset of a segment in use.
    pub fn position_of(&self, seq: u64, offset: u64) -> u64 {
        let first = self.used.front().map_or(0, |segment| segment.seq);
        let segment = seq.checked_sub(first).and_then(|at| self.used.get(at as usize));
        segment.expect("an entry's segment is in use").position + offset
    }

    /// Begins the next segment; `header` gets its number and size. The header is durable before the file has the name
    /// of a segment, and the name before any record is written.
    pub fn begin(&mut self, mut header: SegmentHeader, ops: &mut Vec<LogOp>) {
        let seq = self.current() + 1;
        let (name, bytes) = (segment_name(seq), self.config.segment_bytes);
        header.segment_seq = seq;
        header.segment_bytes = bytes;
        let made_of = self.spares.pop_front().unwrap_or_else(|| {
            // No spare is ready: the zeros are written here, on the write path, which is slow but right.
            let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
            ops.push(LogOp::Create { file: unfinished.clone(), len: bytes });
            unfinished
        });
        ops.extend([
            LogOp::Write { file: made_of.clone(), offset: 0, bytes: encode_header(&header) },
            LogOp::Sync { file: made_of.clone() },
            LogOp::Rename { from: made_of, to: name },
            LogOp::SyncDir,
        ]);
        self.used.push_back(Segment { seq, bytes, position: self.position() });
        self.end = SEGMENT_HEADER_BYTES as u64;
    }

    /// Releases segments before `keep`; each becomes a spare while one is missing. The last segment always stays, since
    /// its durable header is what makes the others superfluous.
    pub fn recycle(&mut self, keep: u64) -> Vec<LogOp> {
        let mut ops = Vec::new();
        while self.used.len() > 1 && self.used[0].seq < keep {
            let Some(segment) = self.used.pop_front() else { break };
            let name = segment_name(segment.seq);
            if segment.bytes == self.config.segment_bytes && self.spares.len() < self.config.spare_segments {
                let spare = self.new_spare_name();
                ops.push(LogOp::Rename { from: name, to: spare.clone() });
                self.spares.push_back(spare);
            } else {
                ops.push(LogOp::Remove { file: name });
            }
            // One by one: two renames in one sync could become durable in the wrong order and leave a gap.
            ops.push(LogOp::SyncDir);
        }
        ops
    }

    /// Plans a spare, if one is missing and none is being made.
    pub fn make_spare(&mut self) -> Option<(String, Vec<LogOp>)> {
        if self.spare_in_making.is_some() || self.spares.len() >= self.config.spare_segments {
            return None;
        }
        let name = self.new_spare_name();
        let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
        let ops = vec![
            LogOp::Create { file: unfinished.clone(), len: self.config.segment_bytes },
            LogOp::Sync { file: unfinished.clone() },
            LogOp::Rename { from: unfinished, to: name.clone() },
            LogOp::SyncDir,
        ];
        self.spare_in_making = Some(name.clone());
        Some((name, ops))
    }

    /// Notes that the planned spare is durable.
    pub fn spare_made(&mut self, name: &str) {
        assert_eq!(self.spare_in_making.as_deref(), Some(name), "the spare that was planned");
        self.spares.extend(self.spare_in_making.take());
    }

    fn new_spare_name(&mut self) -> String {
        let name = spare_name(self.next_spare_no);
        self.next_spare_no += 1;
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_nothing_else_is_taken_for_a_segment() {
        assert_eq!(segment_name(7), "wal-00000000000000000007");
        for (name, kind) in [
            ("wal-00000000000000000007", FileKind::Segment(7)),
            ("spare-04611686018427387904", FileKind::Spare(NUMBER_MAX)),
            ("spare-04611686018427387905", FileKind::Other),
            ("wal-18446744073709551615", FileKind::Other),
            ("wal-00000000000000000007.tmp", FileKind::Unfinished),
            ("spare-00000000000000000001.tmp", FileKind::Unfinished),
            ("wal-7", FileKind::Other),
            ("wal-+0000000000000000007", FileKind::Other),
            ("wal-99999999999999999999", FileKind::Other),
            ("snapshot-1-1.tmp", FileKind::Other),
            ("identity", FileKind::Other),
        ] {
            assert_eq!(FileKind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn one_spare_is_made_at_a_time_and_no_more_than_wanted() {
        let mut segments = Segments::new(config());
        let (name, ops) = segments.make_spare().expect("two are missing");
        assert_eq!(ops.last(), Some(&LogOp::SyncDir));
        assert!(segments.make_spare().is_none(), "one is being made");
        segments.spare_made(&name);
        let (name, _) = segments.make_spare().expect("one is missing");
        segments.spare_made(&name);
        assert!(segments.make_spare().is_none());
    }

    #[test]
    fn spares_of_another_size_are_refused_and_numbers_go_on() {
        let mut segments = Segments::new(config());
        assert!(segments.found_spare(3, 8192));
        assert!(!segments.found_spare(9, 4096));
        let (name, _) = segments.make_spare().expect("one is missing");
        assert_eq!(name, spare_name(10));
    }

    fn config() -> LogConfig {
        LogConfig { segment_bytes: 8192, batch_bytes_max: 4096, cache_bytes_max: 0, spare_segments: 2 }
    }
}

//! The head: the records that are in no file yet, as one run of bytes cut into windows. PURE.
//!
//! ```text
//! windows   | full, being made a file | filled |       at most two; a window ends with the record that fills it
//! pieces    |....|..|.....|...........|...|....|       what came in one batch, whole records
//! ```
//!
//! The bytes of a window are those of the file that it becomes. A reader gets a record's bytes without a copy: what was
//! written never changes, and lives until its last reader has gone.

use super::place::Place;
use crate::segment::{Position, Record};
use bytes::Bytes;
use std::ops::Range;
use twox_hash::xxhash3_128::Hasher;

/// A piece shorter than this takes in the one that follows, so that a window of small batches has few pieces.
const PIECE_BYTES_MIN: usize = 16 * 1024;

/// Where the next record goes, and where windows end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pen {
    /// A window ends with the record that brings it to this.
    pub(crate) window_bytes: u32,
    /// The window being filled, or the one that begins with the next record.
    pub(crate) segment: u32,
    /// Its bytes so far.
    pub(crate) offset: u32,
}

/// Records that were written, in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fresh {
    pub(crate) segment: u32,
    /// Where they begin in the window.
    pub(crate) start: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u32,
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// Whether the window ends with them.
    pub(crate) ends_window: bool,
}

impl Pen {
    /// Ends the window that is being filled, if the last records went there.
    pub(crate) fn end_window(&mut self, fresh: &mut [Fresh]) {
        if let Some(last) = fresh.last_mut().filter(|last| last.segment == self.segment) {
            last.ends_window = true;
            (self.segment, self.offset) = (self.segment + 1, 0);
        }
    }

    /// Writes a record behind all others; returns where it is.
    pub(crate) fn write(&mut self, record: &Record<'_>, to: &mut Vec<Fresh>) -> Place {
        let (segment, offset, at) = (self.segment, self.offset, record.stamp.at);
        let begins = to.last().is_none_or(|fresh| fresh.segment != segment);
        if begins {
            let (bytes, records, ends_window) = (Vec::new(), 0, false);
            to.push(Fresh { segment, start: offset, bytes, records, first: at, last: at, ends_window });
        }
        let fresh = to.last_mut().expect("one was pushed");
        let before = fresh.bytes.len();
        record.encode(offset, &mut fresh.bytes);
        let len = u32::try_from(fresh.bytes.len() - before).expect("a record is shorter");
        fresh.records += 1;
        fresh.last = at;
        self.offset += len;
        if self.offset >= self.window_bytes {
            fresh.ends_window = true;
            (self.segment, self.offset) = (segment + 1, 0);
        }
        Place { segment, offset, len }
    }
}

/// A run of records in the head.
#[derive(Clone)]
pub(crate) struct Window {
    segment: u32,
    first: Position,
    last: Position,
    records: u32,
    bytes: u32,
    hasher: Hasher,
    /// Ascending; each with where it begins.
    pieces: Vec<(u32, Bytes)>,
}

impl Window {
    fn begin(fresh: &Fresh) -> Window {
        assert_eq!(fresh.start, 0, "a window is filled from its beginning");
        Window {
            segment: fresh.segment,
            first: fresh.first,
            last: fresh.last,
            records: 0,
            bytes: 0,
            hasher: Hasher::new(),
            pieces: Vec::new(),
        }
    }

    fn push(&mut self, fresh: Fresh) {
        assert_eq!(
            (fresh.segment, fresh.start),
            (self.segment, self.bytes),
            "records are written one behind the other"
        );
        self.hasher.write(&fresh.bytes);
        self.bytes += u32::try_from(fresh.bytes.len()).expect("offsets have 32 bits");
        self.records += fresh.records;
        self.last = fresh.last;
        match self.pieces.last_mut() {
            Some((_, piece)) if piece.len() + fresh.bytes.len() <= PIECE_BYTES_MIN => {
                *piece = [&piece[..], &fresh.bytes].concat().into();
            }
            Some(_) | None => self.pieces.push((fresh.start, fresh.bytes.into())),
        }
    }

    /// Its number in this run.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// The position of its first record.
    pub(crate) fn first(&self) -> Position {
        self.first
    }

    /// The position of its last record.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// Number of its records.
    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// Bytes of its records.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The hash of these bytes, as in the foot of a segment.
    pub(crate) fn hash(&self) -> u128 {
        self.hasher.finish_128()
    }

    /// All its bytes, in order.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        self.pieces.iter().map(|(_, piece)| piece.clone()).collect()
    }

    /// The bytes of a range, in order, in pieces.
    pub(crate) fn range(&self, range: Range<u32>) -> Vec<Bytes> {
        if range.is_empty() {
            return Vec::new();
        }
        let from = self.pieces.partition_point(|(start, piece)| *start as usize + piece.len() <= range.start as usize);
        let part = |(start, piece): &(u32, Bytes)| {
            let cut = |at: u32| (at.saturating_sub(*start) as usize).min(piece.len());
            piece.slice(cut(range.start)..cut(range.end))
        };
        self.pieces[from..].iter().take_while(|(start, _)| *start < range.end).map(part).collect()
    }

    fn read(&self, offset: u32, len: u32) -> Option<Bytes> {
        let at = self.pieces.partition_point(|(start, _)| *start <= offset).checked_sub(1)?;
        let (start, piece) = &self.pieces[at];
        let from = (offset - start) as usize;
        let end = from + len as usize;
        (end <= piece.len()).then(|| piece.slice(from..end))
    }
}

/// The windows that are no files yet, in order.
#[derive(Clone, Default)]
pub(crate) struct Head {
    windows: Vec<Window>,
}

impl Head {
    /// Adds records that were written behind all others.
    pub(crate) fn push(&mut self, fresh: Fresh) {
        if self.windows.last().is_none_or(|window| window.segment != fresh.segment) {
            self.windows.push(Window::begin(&fresh));
        }
        self.windows.last_mut().expect("one was pushed").push(fresh);
    }

    /// The bytes of a record; `None` when its window is a file.
    pub(crate) fn read(&self, place: Place) -> Option<Bytes> {
        self.window(place.segment)?.read(place.offset, place.len)
    }

    /// A window that is no file yet.
    pub(crate) fn window(&self, segment: u32) -> Option<&Window> {
        self.windows.iter().find(|window| window.segment == segment)
    }

    /// All windows, in order.
    pub(crate) fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Drops a window: it is a file.
    pub(crate) fn drop_window(&mut self, segment: u32) {
        self.windows.retain(|window| window.segment != segment);
    }

    /// Bytes of records in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.windows.iter().map(|window| u64::from(window.bytes)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Stamp, seal};
    use proptest::prelude::*;

    fn stamp(main: u64) -> Stamp {
        Stamp { at: Position { main, sub: 0 }, create: main, version: 1, lease: None, tombstone: false }
    }

    /// Writes records with values of these lengths, so many in a batch.
    fn fill(lens: &[usize], per_batch: usize, window_bytes: u32) -> (Head, Vec<(Place, Vec<u8>)>) {
        let mut pen = Pen { window_bytes, segment: 5, offset: 0 };
        let (mut head, mut written) = (Head::default(), Vec::new());
        for (nth, batch) in lens.chunks(per_batch).enumerate() {
            let mut fresh = Vec::new();
            for (i, len) in batch.iter().enumerate() {
                let main = (nth * per_batch + i + 2) as u64;
                let record = Record { stamp: stamp(main), key: b"key", value: &vec![main as u8; *len] };
                let place = pen.write(&record, &mut fresh);
                let mut bytes = Vec::new();
                record.encode(place.offset, &mut bytes);
                written.push((place, bytes));
            }
            fresh.into_iter().for_each(|fresh| head.push(fresh));
        }
        (head, written)
    }

    proptest! {
        #[test]
        fn windows_do_not_depend_on_batches_and_are_what_a_sealed_file_is(
            lens in proptest::collection::vec(0usize..9000, 1..60),
            per_batch in 1usize..20,
            window_bytes in 50u32..60_000,
        ) {
            let (head, written) = fill(&lens, per_batch, window_bytes);
            let (other, _) = fill(&lens, 7, window_bytes);
            for (window, other) in head.windows().iter().zip(other.windows()) {
                let sealed = seal(window.pieces().iter().map(|piece| &piece[..])).expect("they are records");
                let foot = sealed.foot;
                prop_assert_eq!((foot.first, foot.last, foot.records), (window.first(), window.last(), window.records()));
                prop_assert_eq!((foot.records_bytes, foot.hash), (u64::from(window.bytes()), window.hash()));
                prop_assert_eq!(window.hash(), other.hash());
                let is_last = window.segment() == head.windows().last().unwrap().segment();
                prop_assert!(is_last || window.bytes() >= window_bytes, "a window ends when it is full");
            }
            prop_assert_eq!(head.windows().len(), other.windows().len());
            for (place, bytes) in &written {
                prop_assert_eq!(head.read(*place), Some(Bytes::copy_from_slice(bytes)));
            }
        }

        #[test]
        fn a_range_is_cut_out_of_the_pieces(
            lens in proptest::collection::vec(0usize..9000, 1..20),
            ends in any::<[prop::sample::Index; 2]>(),
        ) {
            let (head, _) = fill(&lens, 1, u32::MAX);
            let window = &head.windows()[0];
            let all = window.pieces().concat();
            let [a, b] = ends.map(|end| end.index(all.len() + 1) as u32);
            let range = a.min(b)..a.max(b);
            let cut = window.range(range.clone());
            prop_assert!(cut.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(&cut.concat()[..], &all[range.start as usize..range.end as usize]);
        }
    }

    #[test]
    fn small_batches_share_pieces() {
        let (head, _) = fill(&[100; 2000], 1, u32::MAX);
        let window = &head.windows()[0];
        assert!(window.pieces.len() <= 2 * window.bytes as usize / PIECE_BYTES_MIN, "{} pieces", window.pieces.len());
    }

    #[test]
    fn a_dropped_window_is_read_from_its_file_but_its_readers_keep_it() {
        let (mut head, written) = fill(&[1000; 4], 2, 2000);
        let (place, bytes) = &written[0];
        let held = head.read(*place).expect("it is here");
        head.drop_window(place.segment);
        assert_eq!(head.read(*place), None);
        assert_eq!(&held[..], &bytes[..]);
        assert_eq!(head.windows().len(), 1);
    }
}

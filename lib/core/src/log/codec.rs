//! The bytes of a segment: how records are laid out, and when they are believed.
//!
//! ```text
//!   segment   preamble | header record | batch | batch | ... | zeros, or bytes of an earlier use of the file
//!   preamble  magic 8, format u32, crc32c of both u32             (all later bytes depend on `format`)
//!   record    crc32c u32, length u32, kind u8 + batch_no u56, payload, zeros up to a multiple of 8
//!   batch     mark?, entry*, hard state?, closing?, end           (all with the same batch_no)
//! ```
//!
//! All numbers are little-endian. A record's crc covers {segment_seq, offset} besides its own bytes, so a record of an
//! earlier use of the file, or one that stands elsewhere, can never validate (rule N1). PURE.

use super::Mark;
use crate::limits::NUMBER_MAX;
use crate::mutant::{self, Mutant};
use crate::types::{Index, MemberIdentity, Term};
use bytes::{BufMut, Bytes, BytesMut};
use raft::prelude::{Entry, EntryType, HardState};
use raftkv_api::Hex128;

/// The format that this build writes, and the only one that it reads.
pub const FORMAT: u32 = 2;
/// Bytes of the preamble.
pub const PREAMBLE_BYTES: usize = 16;
/// Bytes in front of a record's payload.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Records begin at multiples of this.
pub const ALIGNMENT: usize = 8;
/// Bytes of the preamble and the header record: where the first batch begins.
pub const SEGMENT_HEADER_BYTES: usize = PREAMBLE_BYTES + RECORD_HEADER_BYTES + HEADER_PAYLOAD_BYTES;
/// The smallest batch is an end record alone.
pub const BATCH_BYTES_MIN: usize = RECORD_HEADER_BYTES + END_PAYLOAD_BYTES;

const MAGIC: &[u8; 8] = b"raftkvWL";
const HEADER_PAYLOAD_BYTES: usize = 3 * 16 + 5 * 8 + 3 * 8 + 2 * 16;
const MARK_PAYLOAD_BYTES: usize = 16;
const ENTRY_FIXED_BYTES: usize = 32;
const HARD_STATE_PAYLOAD_BYTES: usize = 24;
const END_PAYLOAD_BYTES: usize = 8;
const BATCH_NO_BITS: u32 = 56;
/// Half of the batch numbers there are: a log that begins here still has numbers for all its batches.
const FIRST_BATCH_NO_MAX: u64 = 1 << (BATCH_NO_BITS - 1);

/// What a record is. The numbers are on disk: never change or reuse one. 7 is reserved for *recovery*, the batch of a
/// forced one, which a later build writes into this format. So each build meets kinds that it does not know, and
/// stops there: see [`NoBody::Newer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`SegmentHeader`], first in every segment.
    Header = 1,
    /// A [`Mark`].
    Mark = 2,
    /// A raft entry.
    Entry = 3,
    /// A raft HardState.
    HardState = 4,
    /// The batch is the last of a clean stop.
    Closing = 5,
    /// The batch is whole.
    End = 6,
}

/// The newest kind that this build knows.
pub const KIND_MAX: u8 = Kind::End as u8;

impl Kind {
    fn from_u8(number: u8) -> Option<Kind> {
        [Kind::Header, Kind::Mark, Kind::Entry, Kind::HardState, Kind::Closing, Kind::End]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// What every segment says about itself and about the log at its beginning, so that all earlier segments may be
/// removed.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub identity: MemberIdentity,
    /// Counts up from 1, never reused; also in the file's name.
    pub segment_seq: u64,
    /// Bytes of the file: a file of another length was damaged.
    pub segment_bytes: u64,
    /// Number of the first batch.
    pub first_batch_no: u64,
    /// Last index of the log before the first batch, with its term: the segment's first index is one more.
    pub last: Mark,
    /// The snapshot in force: nothing up to its index is needed.
    pub base: Mark,
    /// The HardState in force.
    pub hard_state: HardState,
}

/// An entry as it stands in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// Its index.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The term of the entry before it: it chains the entries, and gives the base's term when all earlier segments are
    /// gone.
    pub previous_term: Term,
    /// Its type.
    pub entry_type: EntryType,
    /// Its context.
    pub context: &'a [u8],
    /// Its data.
    pub data: &'a [u8],
}

/// A decoded payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// See [`Kind::Header`].
    Header(SegmentHeader),
    /// See [`Kind::Mark`].
    Mark(Mark),
    /// See [`Kind::Entry`].
    Entry(EntryView<'a>),
    /// See [`Kind::HardState`].
    HardState(HardState),
    /// See [`Kind::Closing`].
    Closing,
    /// See [`Kind::End`]; the number of records before it in the batch.
    End {
        /// Their number.
        records: u64,
    },
}

/// A record whose crc is right for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The number of its [`Kind`], or of one that this build does not know; never 0.
    pub kind: u8,
    /// Its batch.
    pub batch_no: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Why the payload of a record whose crc is right cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBody {
    /// A newer build wrote it, and it is of this kind. It is no damage: nothing behind it may be judged by this build,
    /// and nothing of it changed.
    Newer(u8),
    /// Its shape is not the one that this format says.
    Shape,
}

/// What the first bytes of a segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// This build reads it.
    Ours,
    /// It is whole, and says this format, which is another build's.
    Other(u32),
    /// Not the beginning of a segment, or damaged.
    Damaged,
}

/// Bytes of a record with a payload of `payload_bytes`.
pub const fn record_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// Bytes of an entry's record: what the entry takes of [`super::LogConfig::batch_bytes_max`].
pub fn entry_bytes(entry: &Entry) -> usize {
    record_bytes(ENTRY_FIXED_BYTES + entry.context.len() + entry.data.len())
}

/// The same for an entry that was read.
pub fn entry_view_bytes(view: &EntryView<'_>) -> usize {
    record_bytes(ENTRY_FIXED_BYTES + view.context.len() + view.data.len())
}

/// Bytes of a whole batch with `entries_bytes` of entry records.
pub fn batch_bytes(entries_bytes: usize, mark: bool, hard_state: bool, closing: bool) -> usize {
    let optional = |present: bool, payload_bytes: usize| if present { record_bytes(payload_bytes) } else { 0 };
    entries_bytes
        + optional(mark, MARK_PAYLOAD_BYTES)
        + optional(hard_state, HARD_STATE_PAYLOAD_BYTES)
        + optional(closing, 0)
        + record_bytes(END_PAYLOAD_BYTES)
}

/// Writes the records of one batch, or of one segment's header, into one buffer.
pub struct Encoder {
    bytes: BytesMut,
    segment_seq: u64,
    offset: u64,
    batch_no: u64,
    records: u64,
}

impl Encoder {
    /// An encoder of `capacity` bytes, which will be written at `offset` of segment `segment_seq`.
    pub fn new(segment_seq: u64, offset: u64, batch_no: u64, capacity: usize) -> Encoder {
        assert!(batch_no >> BATCH_NO_BITS == 0, "batch numbers have 56 bits");
        Encoder { bytes: BytesMut::with_capacity(capacity), segment_seq, offset, batch_no, records: 0 }
    }

    /// Where the next record will stand in its segment.
    pub fn position(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Adds a record of `kind` whose payload `write` appends.
    fn record(&mut self, kind: Kind, write: impl FnOnce(&mut BytesMut)) {
        let offset = self.position();
        let start = self.bytes.len();
        self.bytes.put_bytes(0, RECORD_HEADER_BYTES);
        write(&mut self.bytes);
        let payload_bytes = self.bytes.len() - start - RECORD_HEADER_BYTES;
        let padding = (self.bytes.len() - start).next_multiple_of(ALIGNMENT) - (self.bytes.len() - start);
        self.bytes.put_bytes(0, padding);
        let length = u32::try_from(payload_bytes).expect("a record is smaller than a batch, which is below 4 GiB");
        let record = &mut self.bytes[start..];
        record[4..8].copy_from_slice(&length.to_le_bytes());
        record[8..16].copy_from_slice(&((kind as u64) << BATCH_NO_BITS | self.batch_no).to_le_bytes());
        let crc = crc_at(self.segment_seq, offset, &record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        self.records += 1;
    }

    /// Adds a [`Kind::Mark`] record.
    pub fn mark(&mut self, mark: Mark) {
        self.record(Kind::Mark, |out| put_mark(out, mark));
    }

    /// Adds a [`Kind::Entry`] record.
    pub fn entry(&mut self, entry: &Entry, previous_term: Term) {
        let context_bytes = u32::try_from(entry.context.len()).expect("a context is smaller than a batch");
        self.record(Kind::Entry, |out| {
            out.put_u64_le(entry.index);
            out.put_u64_le(entry.term);
            out.put_u64_le(previous_term);
            out.put_u32_le(entry_type_number(entry.entry_type));
            out.put_u32_le(context_bytes);
            out.put_slice(&entry.context);
            out.put_slice(&entry.data);
        });
    }

    /// Adds a [`Kind::HardState`] record.
    pub fn hard_state(&mut self, hard_state: &HardState) {
        self.record(Kind::HardState, |out| put_hard_state(out, hard_state));
    }

    /// Adds a [`Kind::Closing`] record.
    pub fn closing(&mut self) {
        self.record(Kind::Closing, |_| ());
    }

    /// Adds the end record of a batch, and returns all its bytes.
    pub fn end(mut self) -> Bytes {
        let records = self.records;
        self.record(Kind::End, |out| out.put_u64_le(records));
        self.bytes.freeze()
    }
}

/// The first [`SEGMENT_HEADER_BYTES`] of a segment.
pub fn encode_header(header: &SegmentHeader) -> Bytes {
    let mut encoder = Encoder::new(header.segment_seq, 0, header.first_batch_no, SEGMENT_HEADER_BYTES);
    encoder.bytes.put_slice(MAGIC);
    encoder.bytes.put_u32_le(FORMAT);
    let crc = crc32c::crc32c(&encoder.bytes);
    encoder.bytes.put_u32_le(crc);
    encoder.record(Kind::Header, |out| {
        let MemberIdentity { cluster_id, genesis, generation, member_id, incarnation } = header.identity;
        out.put_slice(&cluster_id.0);
        out.put_slice(&genesis.0);
        out.put_slice(&incarnation.0);
        out.put_u64_le(generation);
        out.put_u64_le(member_id);
        out.put_u64_le(header.segment_seq);
        out.put_u64_le(header.segment_bytes);
        out.put_u64_le(header.first_batch_no);
        put_mark(out, header.last);
        put_mark(out, header.base);
        put_hard_state(out, &header.hard_state);
    });
    encoder.bytes.freeze()
}

/// Reads the first bytes of a segment; short input is damaged.
pub fn preamble(bytes: &[u8]) -> Preamble {
    let mut input = Input(bytes);
    let (Some(magic), Some(format), Some(crc)) = (input.take(8), input.u32(), input.u32()) else {
        return Preamble::Damaged;
    };
    if magic != MAGIC || crc32c::crc32c(&bytes[..12]) != crc {
        return Preamble::Damaged;
    }
    if format == FORMAT { Preamble::Ours } else { Preamble::Other(format) }
}

/// The record at the beginning of `bytes`, which stand at `offset` of segment `segment_seq`; `None` when there is none
/// that validates.
pub fn parse(bytes: &[u8], segment_seq: u64, offset: u64) -> Option<Record<'_>> {
    let (kind, batch_no, payload_bytes) = peek(bytes)?;
    let record = bytes.get(..record_bytes(payload_bytes))?;
    let crc = u32::from_le_bytes(record[..4].try_into().expect("4 bytes"));
    if crc != crc_at(segment_seq, offset, &record[4..]) {
        return None;
    }
    Some(Record { kind, batch_no, payload: &record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload_bytes] })
}

/// Number of the kind, batch_no and payload length of what may be a record: the cheap part of [`parse`]. No record is of
/// kind 0, so zeros are none.
pub fn peek(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let mut input = Input(bytes);
    let (_crc, length, tag) = (input.u32()?, input.u32()?, input.u64()?);
    let kind = Some((tag >> BATCH_NO_BITS) as u8).filter(|kind| *kind != 0)?;
    Some((kind, tag & ((1 << BATCH_NO_BITS) - 1), length as usize))
}

impl<'a> Record<'a> {
    /// Bytes of the whole record.
    pub fn bytes(&self) -> usize {
        record_bytes(self.payload.len())
    }

    /// The decoded payload.
    pub fn body(&self) -> Result<Body<'a>, NoBody> {
        let kind = Kind::from_u8(self.kind).ok_or(NoBody::Newer(self.kind))?;
        self.body_of(kind).ok_or(NoBody::Shape)
    }

    fn body_of(&self, kind: Kind) -> Option<Body<'a>> {
        let mut input = Input(self.payload);
        let body = match kind {
            Kind::Header => Body::Header(input.header()?),
            Kind::Mark => Body::Mark(input.mark()?),
            Kind::Entry => Body::Entry(input.entry()?),
            Kind::HardState => Body::HardState(input.hard_state()?),
            Kind::Closing => Body::Closing,
            Kind::End => Body::End { records: input.u64()? },
        };
        input.0.is_empty().then_some(body)
    }
}

impl EntryView<'_> {
    /// The entry; its context and data are slices of `whole`, from which this view was made.
    pub fn to_entry(self, whole: &Bytes) -> Entry {
        Entry {
            index: self.index,
            term: self.term,
            entry_type: self.entry_type,
            context: whole.slice_ref(self.context),
            data: whole.slice_ref(self.data),
            ..Entry::default()
        }
    }
}

fn crc_at(segment_seq: u64, offset: u64, bytes: &[u8]) -> u32 {
    let segment_seq = if mutant::is(Mutant::OldRecordsAccepted) { 0 } else { segment_seq };
    let crc = crc32c::crc32c(&segment_seq.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

fn put_mark(out: &mut BytesMut, mark: Mark) {
    out.put_u64_le(mark.index);
    out.put_u64_le(mark.term);
}

fn put_hard_state(out: &mut BytesMut, hard_state: &HardState) {
    out.put_u64_le(hard_state.term);
    out.put_u64_le(hard_state.vote);
    out.put_u64_le(hard_state.commit);
}

fn entry_type_number(entry_type: EntryType) -> u32 {
    match entry_type {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    }
}

/// Takes values off the front; `None` at the end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// An index, a term or an id.
    fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number <= NUMBER_MAX)
    }

    fn hex128(&mut self) -> Option<Hex128> {
        Some(Hex128(self.take(16)?.try_into().ok()?))
    }

    fn mark(&mut self) -> Option<Mark> {
        Some(Mark { index: self.number()?, term: self.number()? })
    }

    fn hard_state(&mut self) -> Option<HardState> {
        let (term, vote, commit) = (self.number()?, self.number()?, self.number()?);
        Some(HardState { term, vote, commit, ..HardState::default() })
    }

    fn entry(&mut self) -> Option<EntryView<'a>> {
        let (index, term, previous_term) = (self.number()?, self.number()?, self.number()?);
        let entry_type = match self.u32()? {
            0 => EntryType::EntryNormal,
            1 => EntryType::EntryConfChange,
            2 => EntryType::EntryConfChangeV2,
            _ => return None,
        };
        let context_bytes = self.u32()? as usize;
        let context = self.take(context_bytes)?;
        let data = self.take(self.0.len())?;
        Some(EntryView { index, term, previous_term, entry_type, context, data })
    }

    fn header(&mut self) -> Option<SegmentHeader> {
        let (cluster_id, genesis, incarnation) = (self.hex128()?, self.hex128()?, self.hex128()?);
        let (generation, member_id) = (self.u64()?, self.u64()?);
        Some(SegmentHeader {
            identity: MemberIdentity { cluster_id, genesis, generation, member_id, incarnation },
            segment_seq: self.u64()?,
            segment_bytes: self.u64()?,
            first_batch_no: self.u64().filter(|no| (1..=FIRST_BATCH_NO_MAX).contains(no))?,
            last: self.mark()?,
            base: self.mark()?,
            hard_state: self.hard_state()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_round_trips_and_fills_its_place_exactly() {
        let header = header();
        let bytes = encode_header(&header);
        assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
        assert_eq!(preamble(&bytes), Preamble::Ours);
        let record = parse(&bytes[PREAMBLE_BYTES..], 7, PREAMBLE_BYTES as u64).expect("validates");
        assert_eq!(record.batch_no, header.first_batch_no);
        assert_eq!(record.body(), Ok(Body::Header(header)));
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let mut bytes = encode_header(&header()).to_vec();
        for other in [1u32, 3] {
            bytes[8..12].copy_from_slice(&other.to_le_bytes());
            assert_eq!(preamble(&bytes), Preamble::Damaged, "the crc is that of another one");
            let crc = crc32c::crc32c(&bytes[..12]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(preamble(&bytes), Preamble::Other(other));
        }
        assert_eq!(preamble(&bytes[..15]), Preamble::Damaged);
        assert_eq!(preamble(&[0; 16]), Preamble::Damaged);
    }

    /// The bytes of format 2, which are read for ever. When this fails, logs that were written are unreadable.
    #[test]
    fn format_2_stays_what_it_is() {
        let mut encoder = Encoder::new(7, 200, 8, 0);
        encoder.mark(Mark { index: 9, term: 2 });
        let mut entry = Entry { index: 10, term: 3, ..Entry::default() };
        entry.entry_type = EntryType::EntryConfChangeV2;
        (entry.context, entry.data) = (Bytes::from_static(b"who"), Bytes::from_static(b"what"));
        encoder.entry(&entry, 2);
        encoder.hard_state(&HardState { term: 3, vote: 1, commit: 9, ..HardState::default() });
        encoder.closing();
        let sums = (crc32c::crc32c(&encode_header(&header())), crc32c::crc32c(&encoder.end()));
        assert_eq!(sums, (3_862_726_849, 1_379_299_762));
        let kinds = [Kind::Header, Kind::Mark, Kind::Entry, Kind::HardState, Kind::Closing, Kind::End];
        assert_eq!(kinds.map(|kind| kind as u8), [1, 2, 3, 4, 5, 6]);
        assert_eq!(&encode_header(&header())[..12], b"raftkvWL\x02\0\0\0");
    }

    #[test]
    fn a_kind_of_a_newer_build_is_told_from_damage() {
        let mut encoder = Encoder::new(7, 200, 8, 0);
        encoder.closing();
        let good = encoder.bytes.to_vec();
        for kind in (0..=u8::MAX).filter(|kind| *kind != Kind::Closing as u8) {
            let mut bytes = good.clone();
            bytes[15] = kind;
            assert_eq!(parse(&bytes, 7, 200), None, "the crc is that of another kind");
            let crc = crc_at(7, 200, &bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            let body = parse(&bytes, 7, 200).map(|record| record.body());
            let expected = match kind {
                0 => None,
                // An empty payload is that of a closing record alone.
                1..=KIND_MAX => Some(Err(NoBody::Shape)),
                newer => Some(Err(NoBody::Newer(newer))),
            };
            assert_eq!(body, expected, "kind {kind}");
        }
    }

    #[test]
    fn no_kind_or_shape_of_a_payload_is_guessed() {
        let mut encoder = Encoder::new(1, 0, 1, 64);
        encoder.record(Kind::Mark, |out| out.put_u64_le(1));
        let bytes = encoder.bytes.freeze();
        assert_eq!(parse(&bytes, 1, 0).expect("the crc is right").body(), Err(NoBody::Shape));
        assert_eq!(peek(&[0; 64]), None, "zeros are no record");
    }

    proptest! {
        #[test]
        fn a_batch_round_trips_at_its_place_and_nowhere_else(
            entries in proptest::collection::vec(any_entry(), 0..6),
            (term, vote, commit) in (0..=NUMBER_MAX, 0..=NUMBER_MAX, 0..=NUMBER_MAX),
            (seq, slot, batch_no) in (1u64.., 0u64..1_000_000, 0u64..1 << 56),
        ) {
            let offset = slot * 8;
            let hard_state = HardState { term, vote, commit, ..HardState::default() };
            let entries_bytes = entries.iter().map(entry_bytes).sum();
            let size = batch_bytes(entries_bytes, true, true, true);
            let mut encoder = Encoder::new(seq, offset, batch_no, size);
            encoder.mark(Mark { index: 3, term: 2 });
            entries.iter().for_each(|entry| encoder.entry(entry, 9));
            encoder.hard_state(&hard_state);
            encoder.closing();
            let bytes = encoder.end();
            prop_assert_eq!(bytes.len(), size);

            let mut at = 0;
            let mut next = |expected_kind: Kind| {
                let place = offset + at as u64;
                let record = parse(&bytes[at..], seq, place).expect("validates at its place");
                assert!(parse(&bytes[at..], seq.wrapping_add(1), place).is_none(), "another segment");
                assert!(parse(&bytes[at..], seq, place + 8).is_none(), "another offset");
                assert!(parse(&bytes[at..at + record.bytes() - 1], seq, place).is_none(), "cut");
                assert_eq!((record.kind, record.batch_no), (expected_kind as u8, batch_no));
                at += record.bytes();
                record.body().expect("has the shape of its kind")
            };
            prop_assert_eq!(next(Kind::Mark), Body::Mark(Mark { index: 3, term: 2 }));
            for entry in &entries {
                let Body::Entry(view) = next(Kind::Entry) else { unreachable!("the kind is compared") };
                prop_assert_eq!(view.previous_term, 9);
                prop_assert_eq!(&view.to_entry(&bytes), entry);
            }
            prop_assert_eq!(next(Kind::HardState), Body::HardState(hard_state));
            prop_assert_eq!(next(Kind::Closing), Body::Closing);
            prop_assert_eq!(next(Kind::End), Body::End { records: entries.len() as u64 + 3 });
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn one_flipped_bit_is_seen_wherever_it_is(entry in any_entry(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut encoder = Encoder::new(5, 64, 3, 0);
            encoder.entry(&entry, 1);
            let mut bytes = encoder.bytes.to_vec();
            bytes[at.index(entry_bytes(&entry))] ^= 1u8 << bit;
            prop_assert!(parse(&bytes, 5, 64).is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = (preamble(&bytes), parse(&bytes, 1, 0));
            for kind in 1..8u8 {
                let _ = Record { kind, batch_no: 1, payload: &bytes }.body();
            }
        }
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        (0..=NUMBER_MAX, 0..=NUMBER_MAX, 0..3, bytes(), bytes()).prop_map(|(index, term, kind, context, data)| {
            let mut entry = Entry::default();
            (entry.index, entry.term) = (index, term);
            entry.entry_type =
                [EntryType::EntryNormal, EntryType::EntryConfChange, EntryType::EntryConfChangeV2][kind as usize];
            (entry.context, entry.data) = (context.into(), data.into());
            entry
        })
    }

    fn header() -> SegmentHeader {
        let identity = MemberIdentity {
            cluster_id: Hex128([1; 16]),
            genesis: Hex128([2; 16]),
            generation: 3,
            member_id: 4,
            incarnation: Hex128([5; 16]),
        };
        SegmentHeader {
            identity,
            segment_seq: 7,
            segment_bytes: 4096,
            first_batch_no: 8,
            last: Mark { index: 9, term: 2 },
            base: Mark { index: 6, term: 1 },
            hard_state: HardState { term: 2, vote: 1, commit: 8, ..HardState::default() },
        }
    }
}

//! A manifest: the list of segments that are the store at one log index, and what the store holds besides records. It is
//! the snapshot. PURE.
//!
//! ```text
//! file:     shared | own | shared | own              the same twice, so that one damaged half is no loss
//! shared:   magic | frame: header | frame: segments | frame: state ... | frame: end
//! own:      frame: own                               what only the member that wrote it needs; never sent
//! frame:    length u32 | crc32c u32 | kind u8 | payload
//!
//! header    cluster id, genesis u128 | generation u64 | moment | swept i64 | kept hashes: count u8, {applied u64, hash u128} |
//!           membership: length u32, bytes
//! segments  what a list says of each; in frames of at most 1 MiB
//! state     kind u8 | key length u32 | value length u32 | key | value; one behind the other, cut into frames anywhere
//! end       segments u32 | entries of the state u64 | XXH3-128 of all before this frame
//! own       next n u64 | the n of each segment u64 | retention clock: count u8, {wall ms, revision u64}
//! ```
//!
//! A frame's crc covers its offset in its half, too. Integers are little-endian.

use super::{Index, Term};
use crate::kvstore::moment::{BadMoment, Moment, put_compacted, take_compacted};
use crate::kvstore::{decode_members, encode_members};
use crate::limits::{FRAME_BYTES_MAX, HASHES_KEPT, NUMBER_MAX};
use crate::membership::Membership;
use crate::segment::{BadListed, Listed, ascends};
use crate::types::{MemberIdentity, Revision, hex128};
use bytes::{Buf, BufMut};
use raftkv_api::{Hex128, StateHash};
use twox_hash::xxhash3_128::Hasher;

const MAGIC: &[u8; 8] = b"rkvsnap2";
/// How the magic of every format begins; a digit follows.
const MAGIC_OF_ALL: &[u8] = b"rkvsnap";
const FORMAT: u8 = b'2';
/// Bytes of a frame before its payload.
const FRAME_HEAD_BYTES: usize = 9;
/// A frame of segments or state is written when it has grown to this.
const FRAME_BYTES: usize = 1024 * 1024;
/// Samples of the retention clock that are kept.
pub const SAMPLES_MAX: usize = 64;

/// What a frame holds. The numbers are on disk: never change or reuse one.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Header = 1,
    Segments = 2,
    State = 3,
    End = 4,
    Own = 5,
}

/// An entry of the small state. Kinds are not looked at here.
pub type Entry = (u8, Vec<u8>, Vec<u8>);

/// The store at one log index, besides the records in its segments.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub(crate) cluster_id: Hex128,
    pub(crate) genesis: Hex128,
    pub(crate) generation: u64,
    /// The numbers at its index, which is `applied`.
    pub(crate) moment: Moment,
    /// The newest compaction that is carried out; 0 is none.
    pub(crate) swept: Revision,
    /// Kept state hashes.
    pub(crate) hashes: Vec<StateHash>,
    pub(crate) membership: Membership,
    /// Ascending; the last may be a prefix of its window.
    pub(crate) segments: Vec<Listed>,
    /// The small state but the membership.
    pub(crate) state: Vec<Entry>,
}

/// What only the member that wrote a manifest needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The number in the name of the next file.
    pub(crate) next_n: u64,
    /// The number in the name of each segment's file.
    pub(crate) n: Vec<u64>,
    /// When the store was at which revision: milliseconds since 1970, and the revision.
    pub(crate) clock: Vec<(u64, Revision)>,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// They are damaged, or say what can't be.
    #[error("no manifest, or a damaged one")]
    Damaged,
    /// A newer build wrote them: the process must stop, and leave everything as it is.
    #[error("{0}")]
    Newer(String),
}

impl From<BadMoment> for BadManifest {
    fn from(bad: BadMoment) -> BadManifest {
        match bad {
            BadMoment::Damaged => BadManifest::Damaged,
            BadMoment::Newer { level } => BadManifest::Newer(format!("a manifest of level {level}")),
        }
    }
}

impl From<BadListed> for BadManifest {
    fn from(bad: BadListed) -> BadManifest {
        match bad {
            BadListed::Damaged => BadManifest::Damaged,
            BadListed::Newer { .. } => BadManifest::Newer(format!("a manifest of {bad}")),
        }
    }
}

impl Manifest {
    /// The log index.
    pub fn index(&self) -> Index {
        self.moment.applied
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.moment.term
    }

    /// Whether it is of this member's cluster, since a foreign one may be whole, too.
    pub fn is_of(&self, identity: &MemberIdentity) -> bool {
        (self.cluster_id, self.genesis, self.generation) == (identity.cluster_id, identity.genesis, identity.generation)
    }

    /// What is announced and sent: all members that wrote it from equal segments wrote the same.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_frame(&mut out, Kind::Header, &self.header());
        let mut segments = Vec::with_capacity(self.segments.len() * Listed::BYTES);
        self.segments.iter().for_each(|listed| listed.encode(&mut segments));
        segments.chunks(FRAME_BYTES).for_each(|part| put_frame(&mut out, Kind::Segments, part));
        let mut state = Vec::new();
        for (kind, key, value) in &self.state {
            let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("an entry of the log is smaller");
            state.put_u8(*kind);
            state.put_u32_le(len(key));
            state.put_u32_le(len(value));
            state.put_slice(key);
            state.put_slice(value);
        }
        state.chunks(FRAME_BYTES).for_each(|part| put_frame(&mut out, Kind::State, part));
        let mut end = Vec::new();
        end.put_u32_le(u32::try_from(self.segments.len()).expect("segments are MiB large"));
        end.put_u64_le(self.state.len() as u64);
        end.put_u128_le(hash_of(&out));
        put_frame(&mut out, Kind::End, &end);
        out
    }

    fn header(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_slice(&self.cluster_id.0);
        out.put_slice(&self.genesis.0);
        out.put_u64_le(self.generation);
        self.moment.encode(&mut out);
        put_compacted(&mut out, self.swept);
        out.put_u8(u8::try_from(self.hashes.len()).expect("few hashes are kept"));
        for StateHash { applied, log_hash } in &self.hashes {
            out.put_u64_le(*applied);
            out.put_slice(&log_hash.0);
        }
        let membership = encode_members(&self.membership);
        out.put_u32_le(u32::try_from(membership.len()).expect("a membership is small"));
        out.put_slice(&membership);
        out
    }

    /// Reverses [`Manifest::encode`]; what stands behind it is left in `input`.
    pub fn decode(input: &mut &[u8]) -> Result<Manifest, BadManifest> {
        let whole = *input;
        let mut frames = Frames::begin(whole)?;
        let header = frames.take(Kind::Header)?;
        let mut manifest = read_header(&header)?;
        let segments = frames.take_all(Kind::Segments)?;
        let mut rest = &segments[..];
        while !rest.is_empty() {
            manifest.segments.push(Listed::decode(&mut rest)?);
        }
        let state = frames.take_all(Kind::State)?;
        manifest.state = read_state(&state).ok_or(BadManifest::Damaged)?;
        let before = hash_of(&whole[..frames.at]);
        let end = frames.take(Kind::End)?;
        let mut end = &end[..];
        let counts = (end.try_get_u32_le().ok(), end.try_get_u64_le().ok());
        let counted = counts == (u32::try_from(manifest.segments.len()).ok(), Some(manifest.state.len() as u64));
        let proved = counted && end.try_get_u128_le() == Ok(before) && end.is_empty() && manifest.is_sound();
        *input = &whole[frames.at..];
        if proved { Ok(manifest) } else { Err(BadManifest::Damaged) }
    }

    fn is_sound(&self) -> bool {
        let Moment { applied, term, revision, compacted, .. } = self.moment;
        let last = self.segments.last().map_or(0, |segment| segment.last.main);
        applied > 0
            && term > 0
            && ascends(&self.segments)
            && last <= revision
            && self.swept <= compacted
            && self.segments.iter().all(|segment| segment.made <= compacted)
            && !self.membership.voters.is_empty()
    }

    /// The file of the member that has these segments under these numbers.
    pub fn encode_file(&self, own: &Own) -> Vec<u8> {
        assert_eq!(own.n.len(), self.segments.len(), "each segment is in a file");
        let mut half = self.encode();
        let mut payload = Vec::new();
        payload.put_u64_le(own.next_n);
        own.n.iter().for_each(|n| payload.put_u64_le(*n));
        payload.put_u8(u8::try_from(own.clock.len()).expect("few samples are kept"));
        for (wall_ms, revision) in &own.clock {
            payload.put_u64_le(*wall_ms);
            payload.put_u64_le(*revision);
        }
        put_frame(&mut half, Kind::Own, &payload);
        [&half[..], &half].concat()
    }

    /// Reverses [`Manifest::encode_file`]. The last value says whether both halves are whole and alike: else the file is to be
    /// written again.
    pub fn decode_file(file: &[u8]) -> Result<(Manifest, Own, bool), BadManifest> {
        let (first, second) = file.split_at(file.len() / 2);
        match (decode_half(first), decode_half(second)) {
            (Ok(first), second) => {
                let whole = second.as_ref() == Ok(&first);
                let (manifest, own) = first;
                Ok((manifest, own, whole))
            }
            (Err(_), Ok((manifest, own))) => Ok((manifest, own, false)),
            (Err(why), Err(_)) => Err(why),
        }
    }
}

fn decode_half(half: &[u8]) -> Result<(Manifest, Own), BadManifest> {
    let mut rest = half;
    let manifest = Manifest::decode(&mut rest)?;
    let mut frames = Frames { bytes: half, at: half.len() - rest.len() };
    let payload = frames.take(Kind::Own)?;
    let own = read_own(&payload, manifest.segments.len()).filter(|_| frames.at == half.len());
    Ok((manifest, own.ok_or(BadManifest::Damaged)?))
}

fn read_header(payload: &[u8]) -> Result<Manifest, BadManifest> {
    let mut input = payload;
    let ids = (hex128(&mut input), hex128(&mut input), input.try_get_u64_le().ok());
    let (Some(cluster_id), Some(genesis), Some(generation)) = ids else { return Err(BadManifest::Damaged) };
    let moment = Moment::decode(&mut input)?;
    let rest = read_rest(&mut input).filter(|_| input.is_empty());
    let (swept, hashes, membership) = rest.ok_or(BadManifest::Damaged)?;
    let (segments, state) = (Vec::new(), Vec::new());
    Ok(Manifest { cluster_id, genesis, generation, moment, swept, hashes, membership, segments, state })
}

fn read_rest(input: &mut &[u8]) -> Option<(Revision, Vec<StateHash>, Membership)> {
    let swept = take_compacted(input)?;
    let mut hashes = Vec::new();
    for _ in 0..input.try_get_u8().ok()? {
        hashes.push(StateHash { applied: input.try_get_u64_le().ok()?, log_hash: hex128(input)? });
    }
    let len = input.try_get_u32_le().ok()? as usize;
    let membership = decode_members(input.split_off(..len)?)?;
    (hashes.len() <= HASHES_KEPT).then_some((swept, hashes, membership))
}

fn read_state(mut input: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !input.is_empty() {
        let kind = input.try_get_u8().ok()?;
        let (key_len, value_len) = (input.try_get_u32_le().ok()? as usize, input.try_get_u32_le().ok()? as usize);
        let (key, value) = (input.split_off(..key_len)?, input.split_off(..value_len)?);
        entries.push((kind, key.to_vec(), value.to_vec()));
    }
    Some(entries)
}

fn read_own(payload: &[u8], segments: usize) -> Option<Own> {
    let mut input = payload;
    let next_n = input.try_get_u64_le().ok()?;
    let mut n = Vec::with_capacity(segments);
    for _ in 0..segments {
        n.push(input.try_get_u64_le().ok().filter(|n| *n < next_n)?);
    }
    let mut clock = Vec::new();
    for _ in 0..input.try_get_u8().ok()? {
        clock.push((input.try_get_u64_le().ok()?, input.try_get_u64_le().ok()?));
    }
    let sound = next_n <= NUMBER_MAX && clock.len() <= SAMPLES_MAX && input.is_empty();
    sound.then_some(Own { next_n, n, clock })
}

/// XXH3-128, by which a manifest is announced.
pub fn hash_of(bytes: &[u8]) -> u128 {
    let mut hasher = Hasher::new();
    hasher.write(bytes);
    hasher.finish_128()
}

/// Appends a frame to a half.
fn put_frame(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    assert!(payload.len() <= FRAME_BYTES_MAX, "a payload is a block or a membership");
    let crc = crc_of(out.len(), kind as u8, payload);
    out.put_u32_le(u32::try_from(payload.len()).expect("the length was checked"));
    out.put_u32_le(crc);
    out.put_u8(kind as u8);
    out.put_slice(payload);
}

fn crc_of(offset: usize, kind: u8, payload: &[u8]) -> u32 {
    let place = crc32c::crc32c(&(offset as u64).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(place, &[kind]), payload)
}

/// The frames of a half.
struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    fn begin(bytes: &'a [u8]) -> Result<Frames<'a>, BadManifest> {
        match bytes.split_first_chunk::<{ MAGIC.len() }>() {
            Some((magic, _)) if magic == MAGIC => Ok(Frames { bytes, at: MAGIC.len() }),
            Some((magic, _)) => Err(newer(magic).map_or(BadManifest::Damaged, BadManifest::Newer)),
            None => Err(BadManifest::Damaged),
        }
    }

    /// The next frame's kind and payload, whose crc is right; `None` at what is no frame.
    fn peek(&self) -> Option<(u8, &'a [u8])> {
        let mut head = self.bytes.get(self.at..self.at.checked_add(FRAME_HEAD_BYTES)?)?;
        let (len, crc, kind) = (head.get_u32_le() as usize, head.get_u32_le(), head.get_u8());
        let payload = self.bytes.get(self.at + FRAME_HEAD_BYTES..)?.get(..len)?;
        (crc == crc_of(self.at, kind, payload)).then_some((kind, payload))
    }

    fn take(&mut self, kind: Kind) -> Result<Vec<u8>, BadManifest> {
        let (found, payload) = self.peek().ok_or(BadManifest::Damaged)?;
        if found != kind as u8 {
            let known = (Kind::Header as u8..=Kind::Own as u8).contains(&found);
            let newer = BadManifest::Newer(format!("a manifest with a frame of kind {found}"));
            return Err(if known { BadManifest::Damaged } else { newer });
        }
        self.at += FRAME_HEAD_BYTES + payload.len();
        Ok(payload.to_vec())
    }

    /// The payloads of all frames of a kind that follow, one behind the other.
    fn take_all(&mut self, kind: Kind) -> Result<Vec<u8>, BadManifest> {
        let mut all = Vec::new();
        while self.peek().is_some_and(|(found, _)| found == kind as u8) {
            all.append(&mut self.take(kind)?);
        }
        Ok(all)
    }
}

/// What a newer build's magic says. One flipped bit of our own is none: both halves would have to have it.
fn newer(magic: &[u8; MAGIC.len()]) -> Option<String> {
    let digit = *magic.strip_prefix(MAGIC_OF_ALL)?.first()?;
    let newer = digit.is_ascii_digit() && digit > FORMAT;
    newer.then(|| format!("a manifest of format {}", digit - b'0'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kvstore::moment::tests::any_moment;
    use crate::kvstore::testing::{identity, membership};
    use crate::segment::Position;
    use proptest::prelude::*;

    fn listed(nth: u64) -> Listed {
        let position = |sub| Position { main: nth + 1, sub };
        let (first, last) = (position(0), position(1));
        Listed { first, last, records_bytes: 99 + nth, records: 2, made: 0, hash: nth.into(), prefix: false }
    }

    fn manifest(segments: u64) -> Manifest {
        let identity = identity();
        Manifest {
            cluster_id: identity.cluster_id,
            genesis: identity.genesis,
            generation: identity.generation,
            moment: Moment { applied: 40, term: 3, revision: 100_000, compacted: 9, ..Moment::default() },
            swept: 7,
            hashes: vec![StateHash { applied: 1024, log_hash: Hex128([4; 16]) }],
            membership: membership(3),
            segments: (0..segments).map(listed).collect(),
            state: vec![(2, b"lease".to_vec(), b"ttl".to_vec()), (4, Vec::new(), Vec::new())],
        }
    }

    fn own(segments: u64) -> Own {
        Own { next_n: segments + 5, n: (0..segments).map(|nth| nth + 5).collect(), clock: vec![(1, 2), (3, 4)] }
    }

    #[test]
    fn manifests_round_trip_of_any_size() {
        for (segments, value) in [(0, 0), (1, 10), (3, 100), (40_000, 3_000_000)] {
            let mut manifest = manifest(segments);
            manifest.state.push((3, vec![1; 9], vec![7; value]));
            let bytes = manifest.encode();
            let mut input = &[&bytes[..], b"behind"].concat()[..];
            assert_eq!(Manifest::decode(&mut input).unwrap(), manifest);
            assert_eq!(input, b"behind");
            let file = manifest.encode_file(&own(segments));
            assert_eq!(Manifest::decode_file(&file).unwrap(), (manifest.clone(), own(segments), true));
        }
    }

    #[test]
    fn one_half_is_enough_and_damage_to_it_is_told() {
        let (manifest, own) = (manifest(2), own(2));
        let file = manifest.encode_file(&own);
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 0x10;
            let found = Manifest::decode_file(&flipped).unwrap();
            assert_eq!(found, (manifest.clone(), own.clone(), false), "byte {at}");
            flipped[(at + file.len() / 2) % file.len()] ^= 0x10;
            assert!(Manifest::decode_file(&flipped).is_err(), "byte {at} of both halves");
        }
        for len in 0..file.len() {
            assert!(Manifest::decode_file(&file[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_no_store_is_is_refused_under_right_sums() {
        let good = manifest(3);
        let segments = |list: &[u64]| list.iter().map(|nth| listed(*nth)).collect::<Vec<_>>();
        for bad in [
            Manifest { moment: Moment { applied: 0, ..good.moment.clone() }, ..good.clone() },
            Manifest { moment: Moment { term: 0, ..good.moment.clone() }, ..good.clone() },
            Manifest { segments: segments(&[1, 0]), ..good.clone() },
            Manifest { segments: segments(&[100_000]), ..good.clone() },
            Manifest { segments: vec![Listed { made: 10, ..listed(0) }], ..good.clone() },
            Manifest { swept: 10, ..good.clone() },
        ] {
            assert_eq!(Manifest::decode(&mut &bad.encode()[..]), Err(BadManifest::Damaged), "{bad:?}");
        }
        let bad = Own { n: vec![1, 2, 9], next_n: 9, ..own(3) };
        assert_eq!(Manifest::decode_file(&good.encode_file(&bad)), Err(BadManifest::Damaged));
    }

    /// A manifest whose first frame behind the header is this one.
    fn with_frame(kind: u8) -> Vec<u8> {
        let manifest = manifest(0);
        let mut out = MAGIC.to_vec();
        put_frame(&mut out, Kind::Header, &manifest.header());
        let crc = crc_of(out.len(), kind, b"");
        out.put_u32_le(0);
        out.put_u32_le(crc);
        out.put_u8(kind);
        out
    }

    #[test]
    fn what_a_newer_build_wrote_is_told_from_damage() {
        let decode = |bytes: &[u8]| Manifest::decode(&mut &bytes[..]).unwrap_err();
        assert_eq!(decode(&with_frame(6)), BadManifest::Newer("a manifest with a frame of kind 6".into()));
        assert_eq!(decode(&with_frame(Kind::Own as u8)), BadManifest::Damaged);
        let mut bytes = manifest(1).encode();
        bytes[7] = b'3';
        assert_eq!(decode(&bytes), BadManifest::Newer("a manifest of format 3".into()));
        bytes[7] = b'1';
        assert_eq!(decode(&bytes), BadManifest::Damaged);
    }

    #[test]
    fn it_is_of_one_cluster() {
        let (manifest, ours) = (manifest(0), identity());
        assert!(manifest.is_of(&ours));
        assert!(!manifest.is_of(&MemberIdentity { generation: 1, ..ours }));
        assert!(!manifest.is_of(&MemberIdentity { genesis: Hex128([9; 16]), ..ours }));
        assert!(manifest.is_of(&MemberIdentity { member_id: 9, ..ours }), "all members share it");
    }

    proptest! {
        #[test]
        fn its_numbers_are_the_stores(moment in any_moment()) {
            prop_assume!(moment.applied > 0 && moment.term > 0);
            let manifest = Manifest { moment, swept: 0, ..manifest(0) };
            prop_assert_eq!(Manifest::decode(&mut &manifest.encode()[..]), Ok(manifest));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(body in proptest::collection::vec(0u8..3, 0..80), kind in 0u8..7) {
            let mut out = MAGIC.to_vec();
            let crc = crc_of(out.len(), kind, &body);
            out.put_u32_le(body.len() as u32);
            out.put_u32_le(crc);
            out.put_u8(kind);
            out.put_slice(&body);
            prop_assert!(Manifest::decode(&mut &out[..]).is_err());
            prop_assert!(Manifest::decode_file(&out).is_err());
        }
    }
}

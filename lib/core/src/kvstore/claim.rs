//! The claim: what the head in sled says that it holds, and by which sums that is proved. PURE.
//!
//! ```text
//! crc u32 | format u16 | cluster id, genesis u128 | generation, member id u64 | incarnation u128 | moment |
//! small state: count u64, sum u128 |
//! files: count u32, {n u64, what a list says of it} |
//! windows: count u8, {number u64, first (u64, u32), bytes, records u32, hash u128}
//! ```
//!
//! Integers are little-endian; the crc is crc32c of all behind it. The claim is written with each set, in one batch with
//! what it speaks of (rule D5). Files are those that windows became since the newest manifest.

use super::hash::Sum;
use super::moment::{BadMoment, Moment};
use super::small::StateSum;
use super::window::Window;
use crate::limits::NUMBER_MAX;
use crate::segment::{BadListed, Listed, Position, ascends};
use crate::types::{MemberIdentity, hex128};
use bytes::{Buf, BufMut};

/// The format that this build writes, and the only one it reads.
const FORMAT: u16 = 2;
const CRC_BYTES: usize = 4;

/// What a head says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Whose head it is.
    pub(crate) identity: MemberIdentity,
    /// The numbers at its applied index.
    pub(crate) moment: Moment,
    /// The sum of the small state in it.
    pub(crate) state: StateSum,
    /// What windows became since the newest manifest, ascending.
    pub(crate) files: Vec<ClaimedFile>,
    /// What is in the head, ascending; behind the files.
    pub(crate) windows: Vec<ClaimedWindow>,
}

/// A file that a window became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimedFile {
    /// The number in its name.
    pub(crate) n: u64,
    pub(crate) listed: Listed,
}

/// A window, whose bytes are in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimedWindow {
    /// The number in the keys of its chunks.
    pub(crate) number: u64,
    /// Position of its first record.
    pub(crate) first: Position,
    /// Bytes of its records, as far as this claim knows of them.
    pub(crate) bytes: u32,
    pub(crate) records: u32,
    /// XXH3-128 of these bytes.
    pub(crate) hash: u128,
}

impl ClaimedWindow {
    /// What a claim says of a window as it is now.
    pub(crate) fn of(window: &Window) -> ClaimedWindow {
        ClaimedWindow {
            number: u64::from(window.segment()),
            first: window.first(),
            bytes: window.bytes(),
            records: window.records(),
            hash: window.hash(),
        }
    }
}

/// Why bytes are no claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadClaim {
    /// They are damaged: there is no claim.
    Damaged,
    /// A newer build wrote it: the process must stop, and leave everything as it is.
    Newer(String),
}

impl From<BadMoment> for BadClaim {
    fn from(bad: BadMoment) -> BadClaim {
        match bad {
            BadMoment::Damaged => BadClaim::Damaged,
            BadMoment::Newer { level } => BadClaim::Newer(format!("a claim of level {level}")),
        }
    }
}

impl From<BadListed> for BadClaim {
    fn from(bad: BadListed) -> BadClaim {
        match bad {
            BadListed::Damaged => BadClaim::Damaged,
            BadListed::Newer { .. } => BadClaim::Newer(format!("a claim of {bad}")),
        }
    }
}

impl Claim {
    /// The bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let MemberIdentity { cluster_id, genesis, generation, member_id, incarnation } = self.identity;
        let mut out = vec![0; CRC_BYTES];
        out.put_u16_le(FORMAT);
        out.put_slice(&cluster_id.0);
        out.put_slice(&genesis.0);
        out.put_u64_le(generation);
        out.put_u64_le(member_id);
        out.put_slice(&incarnation.0);
        self.moment.encode(&mut out);
        out.put_u64_le(self.state.count);
        out.put_slice(&self.state.sum.to_bytes());
        out.put_u32_le(u32::try_from(self.files.len()).expect("cuts keep them few"));
        for ClaimedFile { n, listed } in &self.files {
            out.put_u64_le(*n);
            listed.encode(&mut out);
        }
        out.put_u8(u8::try_from(self.windows.len()).expect("there are two windows at most"));
        for ClaimedWindow { number, first, bytes, records, hash } in &self.windows {
            out.put_u64_le(*number);
            out.put_u64_le(first.main);
            out.put_u32_le(first.sub);
            out.put_u32_le(*bytes);
            out.put_u32_le(*records);
            out.put_u128_le(*hash);
        }
        let crc = crc32c::crc32c(&out[CRC_BYTES..]);
        out[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reverses [`Claim::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Claim, BadClaim> {
        let (crc, mut input) = bytes.split_first_chunk::<CRC_BYTES>().ok_or(BadClaim::Damaged)?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c(input) {
            return Err(BadClaim::Damaged);
        }
        let format = input.try_get_u16_le().map_err(|_| BadClaim::Damaged)?;
        if format > FORMAT {
            return Err(BadClaim::Newer(format!("a claim of format {format}")));
        }
        let identity = read_identity(&mut input).filter(|_| format == FORMAT).ok_or(BadClaim::Damaged)?;
        let moment = Moment::decode(&mut input)?;
        let state = read_state(&mut input).ok_or(BadClaim::Damaged)?;
        let mut files = Vec::new();
        for _ in 0..input.try_get_u32_le().map_err(|_| BadClaim::Damaged)? {
            let n = input.try_get_u64_le().map_err(|_| BadClaim::Damaged)?;
            files.push(ClaimedFile { n, listed: Listed::decode(&mut input)? });
        }
        let windows = read_windows(&mut input).ok_or(BadClaim::Damaged)?;
        let claim = Claim { identity, moment, state, files, windows };
        if input.is_empty() && claim.is_sound() { Ok(claim) } else { Err(BadClaim::Damaged) }
    }

    fn is_sound(&self) -> bool {
        let files: Vec<Listed> = self.files.iter().map(|file| file.listed).collect();
        let behind_files = match (files.last(), self.windows.first()) {
            (Some(file), Some(window)) => file.last < window.first,
            (_, _) => true,
        };
        let ends = files.last().map(|file| file.last).into_iter().chain(self.windows.iter().map(|window| window.first));
        ascends(&files)
            && files.iter().all(|file| !file.prefix)
            && self.files.iter().all(|file| file.n <= NUMBER_MAX)
            && behind_files
            && self.windows.is_sorted_by(|a, b| a.number < b.number && a.first < b.first)
            && self.windows.iter().all(|window| window.number <= NUMBER_MAX && window.records > 0 && window.bytes > 0)
            && ends.into_iter().all(|end| end.main <= self.moment.revision)
    }
}

fn read_identity(input: &mut &[u8]) -> Option<MemberIdentity> {
    let (cluster_id, genesis) = (hex128(input)?, hex128(input)?);
    let (generation, member_id) = (input.try_get_u64_le().ok()?, input.try_get_u64_le().ok()?);
    Some(MemberIdentity { cluster_id, genesis, generation, member_id, incarnation: hex128(input)? })
}

fn read_state(input: &mut &[u8]) -> Option<StateSum> {
    let count = input.try_get_u64_le().ok()?;
    Some(StateSum { count, sum: Sum::from_hex(hex128(input)?) })
}

fn read_windows(input: &mut &[u8]) -> Option<Vec<ClaimedWindow>> {
    let mut windows = Vec::new();
    for _ in 0..input.try_get_u8().ok()? {
        let number = input.try_get_u64_le().ok()?;
        let first = Position { main: input.try_get_u64_le().ok()?, sub: input.try_get_u32_le().ok()? };
        let (bytes, records) = (input.try_get_u32_le().ok()?, input.try_get_u32_le().ok()?);
        windows.push(ClaimedWindow { number, first, bytes, records, hash: input.try_get_u128_le().ok()? });
    }
    Some(windows)
}

#[cfg(test)]
mod tests {
    use super::super::moment::tests::any_moment;
    use super::*;
    use proptest::prelude::*;
    use raftkv_api::Hex128;

    fn identity() -> MemberIdentity {
        MemberIdentity {
            cluster_id: Hex128([1; 16]),
            genesis: Hex128([2; 16]),
            generation: 3,
            member_id: 4,
            incarnation: Hex128([5; 16]),
        }
    }

    fn position(main: u64) -> Position {
        Position { main, sub: 1 }
    }

    fn file(n: u64, first: u64, last: u64) -> ClaimedFile {
        let listed = Listed {
            first: position(first),
            last: position(last),
            records_bytes: 500,
            records: 9,
            made: 0,
            hash: 77,
            prefix: false,
        };
        ClaimedFile { n, listed }
    }

    fn window(number: u64, first: u64) -> ClaimedWindow {
        ClaimedWindow { number, first: position(first), bytes: 100, records: 2, hash: 88 }
    }

    fn claim() -> Claim {
        Claim {
            identity: identity(),
            moment: Moment { applied: 60, term: 2, revision: 50, compacted: 5, ..Moment::default() },
            state: StateSum { count: 1, sum: Sum::from_bytes([6; 16]) },
            files: vec![file(7, 10, 20), file(3, 21, 29)],
            windows: vec![window(8, 30), window(9, 40)],
        }
    }

    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = claim().encode();
        change(&mut bytes);
        let crc = crc32c::crc32c(&bytes[CRC_BYTES..]);
        bytes[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn what_no_head_says_is_refused_under_a_right_crc() {
        let good = claim();
        assert_eq!(Claim::decode(&good.encode()), Ok(good.clone()));
        for bad in [
            Claim { files: vec![file(3, 21, 29), file(7, 10, 20)], ..good.clone() },
            Claim { files: vec![file(7, 10, 30)], ..good.clone() },
            Claim { files: vec![file(NUMBER_MAX + 1, 10, 20)], ..good.clone() },
            Claim { windows: vec![window(9, 30), window(9, 40)], ..good.clone() },
            Claim { windows: vec![window(8, 40), window(9, 30)], ..good.clone() },
            Claim { windows: vec![window(8, 51)], ..good.clone() },
            Claim { windows: vec![ClaimedWindow { records: 0, ..window(8, 30) }], ..good.clone() },
            Claim { files: vec![file(7, 10, 51)], windows: vec![], ..good.clone() },
        ] {
            assert_eq!(Claim::decode(&bad.encode()), Err(BadClaim::Damaged), "{bad:?}");
        }
        assert_eq!(Claim::decode(&changed(|bytes| bytes.push(0))), Err(BadClaim::Damaged), "a byte behind its end");
    }

    #[test]
    fn what_a_newer_build_wrote_is_told_from_damage() {
        let format = changed(|bytes| bytes[CRC_BYTES] = 3);
        assert_eq!(Claim::decode(&format), Err(BadClaim::Newer("a claim of format 3".into())));
        assert_eq!(Claim::decode(&changed(|bytes| bytes[CRC_BYTES] = 1)), Err(BadClaim::Damaged));
        let level_at = CRC_BYTES + 2 + 3 * 16 + 2 * 8;
        let level = changed(|bytes| bytes[level_at] = 2);
        assert_eq!(Claim::decode(&level), Err(BadClaim::Newer("a claim of level 2".into())));
    }

    proptest! {
        #[test]
        fn claims_round_trip_and_a_flipped_bit_is_seen(moment in any_moment(), at in any::<prop::sample::Index>()) {
            let claim = Claim { moment, files: vec![], windows: vec![], ..claim() };
            let mut bytes = claim.encode();
            prop_assert_eq!(Claim::decode(&bytes), Ok(claim));
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Claim::decode(&bytes), Err(BadClaim::Damaged));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(body in proptest::collection::vec(0u8..3, 0..250)) {
            let bytes = [&crc32c::crc32c(&body).to_le_bytes()[..], &body].concat();
            if let Ok(claim) = Claim::decode(&bytes) {
                prop_assert_eq!(claim.encode(), bytes);
            }
        }
    }
}

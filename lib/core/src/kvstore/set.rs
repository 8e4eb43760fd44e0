//! Sets: what goes to sled as one batch, and what comes back from it. PURE.
//!
//! ```text
//! h/<window u64><offset u32>         a chunk: the window's bytes from there on, at most 8 KiB
//! s/<kind u8><key><part u16>         an entry of the small state, in parts of at most 8 KiB
//! m/claim<part u16>                  the claim, likewise
//! ```
//!
//! The numbers in keys are big-endian, so that keys sort as they do. A set has all that the head lacks, and the claim
//! that speaks of it: several batches of apply in one, but never a part of one (rule D5). What became a file meanwhile is
//! left out, and its chunks go with the claim that names the file (rule D25).

use super::claim::{BadClaim, Claim};
use super::small::{Kind, Small};
use super::window::{Head, Window};
use crate::limits::HEAD_VALUE_BYTES_MAX;
use crate::mutant::{self, Mutant};
use crate::ports::KvDisk;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// Keys and their new values (`None` removes), as [`KvDisk::apply_batch`] takes them.
pub(crate) type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

const CHUNKS: &[u8] = b"h/";
const STATE: &[u8] = b"s/";
const CLAIM: &[u8] = b"m/claim";
/// A set removes this many chunks at least, if there are any to remove.
const REMOVED_MIN: usize = 64;
/// Bytes of a part's number.
const PART_BYTES: usize = 2;

/// What the head in sled has.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Of each window: the offsets of its chunks, and where the next one begins.
    windows: BTreeMap<u64, (Vec<u32>, u32)>,
    /// Keys that nothing needs any more.
    stale: Vec<Vec<u8>>,
    /// In how many parts each value lies, by name.
    parts: BTreeMap<Vec<u8>, usize>,
}

impl Given {
    /// Bytes of the windows that sled does not have.
    pub(crate) fn lacks(&self, head: &Head) -> u64 {
        let lacks = |window: &Window| u64::from(window.bytes() - self.upto(window));
        head.windows().iter().map(lacks).sum()
    }

    /// A number above those of all windows of which it has chunks, needed or not.
    pub(crate) fn next_window(&self) -> u64 {
        let stale = self.stale.iter().filter_map(|key| parse_chunk_key(key)).map(|(window, _)| window);
        self.windows.keys().copied().chain(stale).max().map_or(0, |window| window + 1)
    }

    fn upto(&self, window: &Window) -> u32 {
        self.windows.get(&number(window)).map_or(0, |(_, upto)| *upto)
    }

    /// The next set. From here on everything in it counts as given: after an error nobody uses this head again.
    pub(crate) fn next(&mut self, claim: &Claim, head: &Head, small: &mut Small) -> Writes {
        let mut writes = Writes::new();
        for window in head.windows() {
            self.give(window, &mut writes);
        }

        for ((kind, key), value) in small.take_changes() {
            let name = [STATE, &[kind as u8], &key].concat();
            self.put(name, value.as_deref(), &mut writes);
        }
        let mut named: Vec<u64> = claim.windows.iter().map(|window| window.number).collect();
        if mutant::is(Mutant::ChunksFirst) {
            named.drain(..named.len().saturating_sub(1));
        }
        self.forget_all_but(&named);
        let room = REMOVED_MIN.max(2 * writes.len());
        let removed = self.stale.drain(self.stale.len().saturating_sub(room)..);
        writes.extend(removed.map(|key| (key, None)));
        self.put(CLAIM.to_vec(), Some(&claim.encode()), &mut writes);
        writes
    }

    /// Writes a value that may be long, in place of the one before it.
    fn put(&mut self, name: Vec<u8>, value: Option<&[u8]>, writes: &mut Writes) {
        let value = value
            .map(|value| if value.is_empty() { vec![value] } else { value.chunks(HEAD_VALUE_BYTES_MAX).collect() });
        let parts = value.unwrap_or_default();
        let before = self.parts.get(&name).copied().unwrap_or(0);
        writes.extend(parts.iter().enumerate().map(|(nth, part)| (part_key(&name, nth), Some(part.to_vec()))));
        writes.extend((parts.len()..before).map(|nth| (part_key(&name, nth), None)));
        match parts.len() {
            0 => _ = self.parts.remove(&name),
            len => _ = self.parts.insert(name, len),
        }
    }

    fn give(&mut self, window: &Window, writes: &mut Writes) {
        let (offsets, upto) = self.windows.entry(number(window)).or_default();
        let mut bytes = Vec::new();
        for piece in window.range(*upto..window.bytes()) {
            bytes.extend_from_slice(&piece);
        }
        if mutant::is(Mutant::SetSplit) {
            // The last chunk is left for the next set.
            bytes.truncate(bytes.len().saturating_sub(1) / HEAD_VALUE_BYTES_MAX * HEAD_VALUE_BYTES_MAX);
        }
        for chunk in bytes.chunks(HEAD_VALUE_BYTES_MAX) {
            offsets.push(*upto);
            writes.push((chunk_key(number(window), *upto), Some(chunk.to_vec())));
            *upto += u32::try_from(chunk.len()).expect("a chunk is small");
        }
    }

    fn forget_all_but(&mut self, named: &[u64]) {
        let gone: Vec<u64> = self.windows.keys().copied().filter(|window| !named.contains(window)).collect();
        for window in gone {
            let (offsets, _) = self.windows.remove(&window).expect("it was found");
            self.stale.extend(offsets.into_iter().map(|offset| chunk_key(window, offset)));
        }
    }
}

fn number(window: &Window) -> u64 {
    u64::from(window.segment())
}

fn chunk_key(window: u64, offset: u32) -> Vec<u8> {
    [CHUNKS, &window.to_be_bytes(), &offset.to_be_bytes()].concat()
}

fn part_key(name: &[u8], part: usize) -> Vec<u8> {
    let part = u16::try_from(part).expect("a value of 512 MiB is nowhere");
    [name, &part.to_be_bytes()].concat()
}

/// What a head holds, as far as it proves itself without the files that it names.
pub(crate) struct Found {
    pub(crate) claim: Claim,
    pub(crate) small: Small,
    /// The bytes of the windows that the claim names, in their order; each as long as it says.
    pub(crate) windows: Vec<Vec<u8>>,
    /// What the head has.
    pub(crate) given: Given,
}

/// Why a head is no start.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// It says nothing that could be believed; with what is wrong with it.
    Unproved(String),
    /// A newer build wrote it: the process must stop, and leave everything as it is.
    Newer(String),
    /// It can't be read.
    Io(io::Error),
}

impl From<io::Error> for NoHead {
    fn from(error: io::Error) -> NoHead {
        NoHead::Io(error)
    }
}

/// Sees a key and its value; an error ends the scan.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), NoHead> + 'a;

/// Reads a head. The sum of the small state is compared; windows are as long as the claim says, and their hashes are
/// still to be compared.
pub(crate) fn find(disk: &dyn KvDisk) -> Result<Found, NoHead> {
    let (claim, parts) = read_claim(disk)?;
    let mut given = Given::default();
    given.parts.insert(CLAIM.to_vec(), parts);
    let small = read_state(disk, &mut given)?;
    if small.sum() != claim.state && !mutant::is(Mutant::ClaimUnproved) {
        return Err(NoHead::Unproved("its small state is not the one of its claim".to_string()));
    }
    let mut bytes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let limits: BTreeMap<u64, u32> = claim.windows.iter().map(|window| (window.number, window.bytes)).collect();
    scan_prefix(disk, CHUNKS, &mut |key, value| {
        let at = parse_chunk_key(key);
        let have = at.and_then(|(window, _)| bytes.get(&window)).map_or(0, Vec::len);
        match at {
            // Lengths come from the claim: what lies behind it was never claimed.
            Some((window, offset)) if limits.get(&window).is_some_and(|limit| have < *limit as usize) => {
                if have != offset as usize {
                    return Err(NoHead::Unproved(format!("window {window} lacks bytes from {have} to {offset}")));
                }
                bytes.entry(window).or_default().extend_from_slice(value);
                given.windows.entry(window).or_default().0.push(offset);
            }
            Some(_) | None => given.stale.push(key.to_vec()),
        }
        Ok(())
    })?;
    let mut windows = Vec::new();
    for window in &claim.windows {
        let found = bytes.remove(&window.number).unwrap_or_default();
        if found.len() != window.bytes as usize {
            let (number, has) = (window.number, found.len());
            return Err(NoHead::Unproved(format!("window {number} has {has} bytes of {}", window.bytes)));
        }
        given.windows.entry(window.number).or_default().1 = window.bytes;
        windows.push(found);
    }
    Ok(Found { claim, small, windows, given })
}

/// The claim of a head, which has a checksum of its own, and the number of its parts.
pub(crate) fn read_claim(disk: &dyn KvDisk) -> Result<(Claim, usize), NoHead> {
    let (bytes, parts) = read_parts(disk, CLAIM)?;
    match Claim::decode(&bytes) {
        Ok(claim) => Ok((claim, parts)),
        Err(BadClaim::Damaged) => Err(NoHead::Unproved("it holds no claim".to_string())),
        Err(BadClaim::Newer(what)) => Err(NoHead::Newer(what)),
    }
}

fn parse_chunk_key(key: &[u8]) -> Option<(u64, u32)> {
    let (window, offset) = key.strip_prefix(CHUNKS)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*window), u32::from_be_bytes(offset.try_into().ok()?)))
}

fn read_parts(disk: &dyn KvDisk, name: &[u8]) -> io::Result<(Vec<u8>, usize)> {
    let mut bytes = Vec::new();
    let mut parts = 0;
    while let Some(part) = disk.get(&part_key(name, parts))? {
        bytes.extend_from_slice(&part);
        parts += 1;
    }
    Ok((bytes, parts))
}

fn read_state(disk: &dyn KvDisk, given: &mut Given) -> Result<Small, NoHead> {
    let mut values: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    scan_prefix(disk, STATE, &mut |key, value| {
        // The parts of a name come in order, if not one behind the other.
        let name = &key[..key.len().saturating_sub(PART_BYTES)];
        values.entry(name.to_vec()).or_default().extend_from_slice(value);
        *given.parts.entry(name.to_vec()).or_default() += 1;
        Ok(())
    })?;
    let mut small = Small::default();
    for (name, value) in values {
        let name = name.strip_prefix(STATE).unwrap_or_default();
        let (kind, key) = name.split_first().ok_or_else(|| NoHead::Unproved("a state without a kind".to_string()))?;
        let kind = Kind::of(*kind).ok_or_else(|| NoHead::Newer(format!("a state of kind {kind}")))?;
        small.set(kind, key, Some(value));
    }
    small.none_changed();
    Ok(small)
}

fn scan_prefix(disk: &dyn KvDisk, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), NoHead> {
    let Range { start, end } = prefix_range(prefix);
    let mut result = Ok(());
    disk.scan(&start, Some(&end), &mut |key, value| {
        result = visit(key, value);
        result.is_ok()
    })?;
    result
}

fn prefix_range(prefix: &[u8]) -> Range<Vec<u8>> {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    prefix.to_vec()..end
}

#[cfg(test)]
mod tests {
    use super::super::claim::ClaimedWindow;
    use super::super::moment::Moment;
    use super::super::testing::{MemKv, identity};
    use super::super::window::Pen;
    use super::*;
    use crate::segment::{Position, Record, Stamp};

    /// A head that is filled, and the sled that it goes to.
    struct Filled {
        pen: Pen,
        head: Head,
        small: Small,
        given: Given,
        disk: MemKv,
        main: u64,
    }

    impl Filled {
        fn new(window_bytes: u32) -> Filled {
            let pen = Pen { window_bytes, segment: 0, offset: 0 };
            let (head, small, given) = (Head::default(), Small::default(), Given::default());
            Filled { pen, head, small, given, disk: MemKv::default(), main: 1 }
        }

        fn write(&mut self, records: usize, value_bytes: usize) {
            let mut fresh = Vec::new();
            for _ in 0..records {
                self.main += 1;
                let at = Position { main: self.main, sub: 0 };
                let stamp = Stamp { at, create: self.main, version: 1, lease: None, tombstone: false };
                let value = vec![self.main as u8; value_bytes];
                self.pen.write(&Record { stamp, key: b"key", value: &value }, &mut fresh);
            }
            fresh.into_iter().for_each(|fresh| self.head.push(fresh));
        }

        fn claim(&self) -> Claim {
            let windows = self.head.windows().iter().map(ClaimedWindow::of).collect();
            let moment = Moment { applied: self.main, term: 1, revision: self.main, ..Moment::default() };
            Claim { identity: identity(), moment, state: self.small.sum(), files: vec![], windows }
        }

        fn give(&mut self) -> Writes {
            let claim = self.claim();
            let writes = self.given.next(&claim, &self.head, &mut self.small);
            self.disk.apply_batch(writes.clone()).expect("memory");
            writes
        }

        fn check(&self) {
            let found = find(&self.disk).unwrap_or_else(|why| panic!("{why:?}"));
            assert_eq!((found.claim, found.small.sum()), (self.claim(), self.small.sum()));
            let bytes = |window: &Window| window.pieces().concat();
            assert_eq!(found.windows, self.head.windows().iter().map(bytes).collect::<Vec<_>>());
            assert_eq!(
                (found.given.windows.clone(), &found.given.parts),
                (self.given.windows.clone(), &self.given.parts)
            );
        }
    }

    fn sizes(disk: &MemKv) -> usize {
        disk.map().values().map(Vec::len).max().unwrap_or(0)
    }

    #[test]
    fn what_was_given_is_found_and_no_value_is_longer_than_sled_bears() {
        let mut filled = Filled::new(100_000);
        for (records, bytes) in [(1, 10), (3, 7000), (2, 60_000), (0, 0), (1, 30_000)] {
            filled.write(records, bytes);
            filled.small.set(Kind::Membership, b"", Some(vec![7; bytes / 2]));
            filled.give();
            filled.check();
            assert!(sizes(&filled.disk) <= HEAD_VALUE_BYTES_MAX);
            assert_eq!(filled.given.lacks(&filled.head), 0);
        }
        filled.small.set(Kind::Membership, b"", None);
        filled.give();
        filled.check();
    }

    #[test]
    fn each_byte_is_given_once() {
        let mut filled = Filled::new(u32::MAX);
        filled.write(10, 1000);
        assert_eq!(filled.given.lacks(&filled.head), filled.head.bytes());
        filled.give();
        let once = filled.disk.written();
        filled.give();
        assert!(filled.disk.written() - once < 400, "a set without news has the claim alone");
    }

    #[test]
    fn the_chunks_of_a_window_go_when_no_claim_names_it_and_not_all_at_once() {
        let mut filled = Filled::new(1_000_000);
        filled.write(20, 60_000);
        filled.give();
        let chunks = |filled: &Filled| filled.disk.map().keys().filter(|key| key.starts_with(CHUNKS)).count();
        let (before, first) = (chunks(&filled), filled.head.windows()[0].segment());
        filled.head.drop_window(first);
        let writes = filled.give();
        let removed = writes.iter().filter(|(_, value)| value.is_none()).count();
        assert_eq!((removed, chunks(&filled)), (REMOVED_MIN, before - REMOVED_MIN));
        filled.check_but_stale();
        while !filled.given.stale.is_empty() {
            filled.give();
        }
        filled.check();
        let left: u32 = filled.head.bytes().div_ceil(HEAD_VALUE_BYTES_MAX as u64) as u32;
        assert_eq!(chunks(&filled) as u32, left);
    }

    impl Filled {
        /// What is found, when chunks are left that nothing needs.
        fn check_but_stale(&self) {
            let found = find(&self.disk).unwrap_or_else(|why| panic!("{why:?}"));
            let (mut stale, mut ours) = (found.given.stale, self.given.stale.clone());
            stale.sort();
            ours.sort();
            assert_eq!((found.claim, stale), (self.claim(), ours));
        }
    }

    #[test]
    fn a_head_that_lacks_something_is_no_start() {
        let mut filled = Filled::new(u32::MAX);
        filled.write(3, 20_000);
        filled.small.set(Kind::Membership, b"", Some(b"members".to_vec()));
        filled.give();
        let all = filled.disk.map().clone();
        for key in all.keys() {
            filled.disk.map().remove(key);
            let found = find(&filled.disk);
            assert!(matches!(found, Err(NoHead::Unproved(_))), "without {:?}", key.escape_ascii().to_string());
            *filled.disk.map() = all.clone();
        }
        filled.check();
        let (key, claim) = (part_key(CLAIM, 0), filled.claim());
        let mut bytes = claim.encode();
        bytes[9] ^= 1;
        filled.disk.map().insert(key, bytes);
        assert!(matches!(find(&filled.disk), Err(NoHead::Unproved(_))));
    }

    #[test]
    fn a_state_of_an_unknown_kind_is_a_newer_builds() {
        let mut filled = Filled::new(u32::MAX);
        filled.give();
        filled.disk.map().insert(part_key(b"s/\x02lease", 0), b"v".to_vec());
        assert!(matches!(find(&filled.disk), Err(NoHead::Newer(what)) if what == "a state of kind 2"));
    }

    #[test]
    fn chunks_behind_the_claims_end_are_stale() {
        let mut filled = Filled::new(u32::MAX);
        filled.write(1, 100);
        filled.give();
        let window = filled.head.windows()[0].bytes();
        filled.disk.map().insert(chunk_key(0, window), b"of a set that was taken back".to_vec());
        filled.disk.map().insert(chunk_key(9, 0), b"of a window that nobody names".to_vec());
        let found = find(&filled.disk).expect("what is claimed is there");
        assert_eq!(found.given.stale, [chunk_key(0, window), chunk_key(9, 0)]);
    }
}

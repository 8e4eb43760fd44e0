//! The numbers of the store at one applied index, as claims and manifests have them. PURE.
//!
//! ```text
//! level u16 | applied, term, revision u64 | compacted i64 | pending: count u8, {compacted, upto u64} |
//! keys u64 | keys_sum, log_hash u128
//! ```
//!
//! Integers are little-endian. `compacted` is -1 before the first compaction.

use super::hash::Sum;
use crate::limits::NUMBER_MAX;
use crate::types::{Index, Revision, Term};
use bytes::{Buf, BufMut};
use std::collections::BTreeMap;

/// The feature level that the log has reached; there is one so far.
pub(crate) const LEVEL: u16 = 1;
/// Most compactions that wait to be carried out.
pub(crate) const PENDING_MAX: usize = 16;

/// A compaction of which not all is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Revisions below it can't be read any more.
    pub(crate) compacted: Revision,
    /// The revision of the first record of the window that was being filled: what is behind is not its concern.
    pub(crate) upto: Revision,
}

/// The numbers of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Index of the last applied entry.
    pub(crate) applied: Index,
    /// Its term.
    pub(crate) term: Term,
    /// The store's revision.
    pub(crate) revision: Revision,
    /// Revisions below it cannot be read; 0 before the first compaction.
    pub(crate) compacted: Revision,
    /// Ascending; at most [`PENDING_MAX`].
    pub(crate) pending: Vec<Pending>,
    /// Keys that exist.
    pub(crate) keys: u64,
    /// Sum over the keys that exist (rule N15).
    pub(crate) keys_sum: Sum,
    /// Sum over every revision record ever applied (rule N15).
    pub(crate) log_hash: Sum,
}

/// Why bytes are no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadMoment {
    /// They end too early, or say what can't be.
    Damaged,
    /// They are of this feature level, which this build does not know.
    Newer { level: u16 },
}

impl Moment {
    /// Adds the compactions that waited at an earlier moment. Those up to `swept` are carried out, and no others: what
    /// was done of them since no manifest has.
    pub(crate) fn add_pending(&mut self, earlier: &Moment, swept: Revision) {
        let mut all: BTreeMap<Revision, Pending> = BTreeMap::new();
        let both = earlier.pending.iter().chain(&self.pending).filter(|pending| pending.compacted > swept);
        all.extend(both.map(|pending| (pending.compacted, *pending)));
        while all.len() > PENDING_MAX {
            let newest = all.pop_last();
            all.pop_last();
            all.extend(newest);
        }
        self.pending = all.into_values().collect();
    }

    /// Appends it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.is_sound(), "no store is at {self:?}");
        out.put_u16_le(LEVEL);
        for number in [self.applied, self.term, self.revision] {
            out.put_u64_le(number);
        }
        put_compacted(out, self.compacted);
        out.put_u8(u8::try_from(self.pending.len()).expect("few compactions wait"));
        for Pending { compacted, upto } in &self.pending {
            out.put_u64_le(*compacted);
            out.put_u64_le(*upto);
        }
        out.put_u64_le(self.keys);
        for sum in [self.keys_sum, self.log_hash] {
            out.put_u128_le(u128::from_be_bytes(sum.to_bytes()));
        }
    }

    /// Takes one off the front.
    pub(crate) fn decode(input: &mut &[u8]) -> Result<Moment, BadMoment> {
        let level = input.try_get_u16_le().map_err(|_| BadMoment::Damaged)?;
        if level > LEVEL {
            return Err(BadMoment::Newer { level });
        }
        let moment = Moment::read(input).filter(|moment| level == LEVEL && moment.is_sound());
        moment.ok_or(BadMoment::Damaged)
    }

    fn read(input: &mut &[u8]) -> Option<Moment> {
        let mut number = || input.try_get_u64_le().ok();
        let (applied, term, revision) = (number()?, number()?, number()?);
        let compacted = take_compacted(input)?;
        let mut pending = Vec::new();
        for _ in 0..input.try_get_u8().ok()? {
            let (compacted, upto) = (input.try_get_u64_le().ok()?, input.try_get_u64_le().ok()?);
            pending.push(Pending { compacted, upto });
        }
        let keys = input.try_get_u64_le().ok()?;
        let mut sum = || input.try_get_u128_le().ok().map(|sum| Sum::from_bytes(sum.to_be_bytes()));
        let (keys_sum, log_hash) = (sum()?, sum()?);
        Some(Moment { applied, term, revision, compacted, pending, keys, keys_sum, log_hash })
    }

    /// Whether a store can be there.
    pub(crate) fn is_sound(&self) -> bool {
        if [self.applied, self.term, self.revision].iter().any(|number| *number > NUMBER_MAX) {
            return false;
        }
        let waits = self.pending.len() <= PENDING_MAX
            && self.pending.is_sorted_by(|a, b| a.compacted < b.compacted && a.upto <= b.upto)
            && self
                .pending
                .iter()
                .all(|pending| (1..=self.compacted).contains(&pending.compacted) && pending.upto <= self.revision + 1);
        self.revision >= 1 && self.compacted <= self.revision && waits
    }
}

/// Appends a compacted revision: -1 stands for none.
pub(crate) fn put_compacted(out: &mut Vec<u8>, compacted: Revision) {
    out.put_i64_le(match compacted {
        0 => -1,
        compacted => i64::try_from(compacted).expect("revisions have 62 bits"),
    });
}

/// Takes one off the front.
pub(crate) fn take_compacted(input: &mut &[u8]) -> Option<Revision> {
    match input.try_get_i64_le().ok()? {
        -1 => Some(0),
        0 => None,
        compacted => Revision::try_from(compacted).ok(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_moment() -> impl Strategy<Value = Moment> {
        let numbers = prop::array::uniform3(0..=NUMBER_MAX);
        let pending = proptest::collection::btree_set(1..1000u64, 0..PENDING_MAX);
        (numbers, pending, any::<u64>(), any::<[u128; 2]>()).prop_map(|([applied, term, more], pending, keys, sums)| {
            let newest = pending.last().copied().unwrap_or(0);
            let sum = |i: usize| Sum::from_bytes(sums[i].to_be_bytes());
            Moment {
                applied,
                term,
                revision: more.max(newest).max(1),
                compacted: newest,
                pending: pending.into_iter().map(|compacted| Pending { compacted, upto: compacted }).collect(),
                keys,
                keys_sum: sum(0),
                log_hash: sum(1),
            }
        })
    }

    fn encoded(moment: &Moment) -> Vec<u8> {
        let mut out = Vec::new();
        moment.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn moments_round_trip(moment in any_moment(), behind in proptest::collection::vec(any::<u8>(), 0..3)) {
            let bytes = [&encoded(&moment)[..], &behind].concat();
            let mut input = &bytes[..];
            prop_assert_eq!(Moment::decode(&mut input), Ok(moment));
            prop_assert_eq!(input, &behind[..]);
        }

        #[test]
        fn garbage_is_refused_without_a_panic(mut bytes in proptest::collection::vec(0u8..3, 0..120), level in 0u16..3) {
            if bytes.len() > 1 {
                bytes[..2].copy_from_slice(&level.to_le_bytes());
            }
            let decoded = Moment::decode(&mut &bytes[..]);
            let is_newer = decoded == Err(BadMoment::Newer { level });
            prop_assert!(level < 2 || bytes.len() < 2 || is_newer);
            if let Ok(moment) = decoded {
                prop_assert_eq!(&encoded(&moment)[..], &bytes[..encoded(&moment).len()]);
            }
        }
    }

    #[test]
    fn the_layout_is_frozen() {
        let sum = |hash| Sum::from_bytes(u128::to_be_bytes(hash));
        let first = Moment { applied: 1, term: 1, revision: 1, ..Moment::default() };
        let bytes = encoded(&first);
        assert_eq!(bytes.len(), 2 + 3 * 8 + 8 + 1 + 8 + 32);
        assert_eq!(bytes[26..34], [0xff; 8], "nothing was compacted");
        let later = Moment {
            applied: 9,
            term: 3,
            revision: 8,
            compacted: 5,
            pending: vec![Pending { compacted: 5, upto: 7 }],
            keys: 2,
            keys_sum: sum(0x0102),
            log_hash: sum(0x0304),
        };
        let mut frozen = b"\x01\0\x09\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0".to_vec();
        frozen.extend_from_slice(b"\x01\x05\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x02\x01");
        frozen.extend_from_slice(&[0; 14]);
        frozen.extend_from_slice(b"\x04\x03");
        frozen.extend_from_slice(&[0; 14]);
        assert_eq!(encoded(&later), frozen);
    }
}

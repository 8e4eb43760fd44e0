//! A list of segments: what manifests and claims say of each, so that a file is known by its bytes. PURE.
//!
//! ```text
//! first (u64, u32) | last (u64, u32) | records bytes u64 | records u32 | made u64 | hash u128 | flags u8
//! ```
//!
//! Flags: 1 prefix. Integers are little-endian. Segments of a list ascend and share no position.

use super::foot::{Foot, RECORDS_BYTES_MAX};
use super::stamp::Position;
use crate::limits::NUMBER_MAX;
use crate::types::Revision;
use bytes::{Buf, BufMut};

/// What a list says of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Position of the first record.
    pub first: Position,
    /// Position of the last record.
    pub last: Position,
    /// Bytes of the records.
    pub records_bytes: u64,
    /// Number of records.
    pub records: u32,
    /// The compacted revision of the pass that made it; 0 for one that a window became.
    pub made: Revision,
    /// XXH3-128 of the bytes of the records.
    pub hash: u128,
    /// Whether it is only the beginning of a window, which goes on behind the list.
    pub prefix: bool,
}

/// Why bytes are nothing that a list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadListed {
    /// They end too early, or say what can't be.
    #[error("no segment of a list, or a damaged one")]
    Damaged,
    /// A newer build wrote them.
    #[error("a segment of a list with flags {flags:#x}, which a newer version wrote")]
    Newer {
        /// All its flags.
        flags: u8,
    },
}

const PREFIX: u8 = 1;

impl Listed {
    /// Bytes of the encoding.
    pub const BYTES: usize = 2 * Position::BYTES + 8 + 4 + 8 + 16 + 1;

    /// What a list says of the segment with this foot.
    pub fn of(foot: &Foot, made: Revision) -> Listed {
        let Foot { records_bytes, first, last, records, hash, .. } = *foot;
        Listed { first, last, records_bytes, records, made, hash, prefix: false }
    }

    /// Whether this is the segment with that foot.
    pub fn is(&self, foot: &Foot) -> bool {
        let said = (self.first, self.last, self.records_bytes, self.records, self.hash);
        said == (foot.first, foot.last, foot.records_bytes, foot.records, foot.hash)
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Listed { first, last, records_bytes, records, made, hash, prefix } = *self;
        for position in [first, last] {
            out.put_u64_le(position.main);
            out.put_u32_le(position.sub);
        }
        out.put_u64_le(records_bytes);
        out.put_u32_le(records);
        out.put_u64_le(made);
        out.put_u128_le(hash);
        out.put_u8(if prefix { PREFIX } else { 0 });
    }

    /// Takes one off the front.
    pub fn decode(input: &mut &[u8]) -> Result<Listed, BadListed> {
        let mut fields = input.split_off(..Listed::BYTES).ok_or(BadListed::Damaged)?;
        let mut position = || Position { main: fields.get_u64_le(), sub: fields.get_u32_le() };
        let (first, last) = (position(), position());
        let (records_bytes, records) = (fields.get_u64_le(), fields.get_u32_le());
        let (made, hash, flags) = (fields.get_u64_le(), fields.get_u128_le(), fields.get_u8());
        if flags & !PREFIX != 0 {
            return Err(BadListed::Newer { flags });
        }
        let listed = Listed { first, last, records_bytes, records, made, hash, prefix: flags == PREFIX };
        if listed.is_sound() { Ok(listed) } else { Err(BadListed::Damaged) }
    }

    fn is_sound(&self) -> bool {
        let ends = match self.records {
            0 => false,
            1 => self.first == self.last,
            _ => self.first < self.last,
        };
        let bytes = 1..=RECORDS_BYTES_MAX;
        ends && self.first.is_sound()
            && self.last.is_sound()
            && bytes.contains(&self.records_bytes)
            && self.made <= NUMBER_MAX
    }
}

/// Whether segments ascend and share nothing, and none but the last is a prefix.
pub fn ascends(list: &[Listed]) -> bool {
    list.windows(2).all(|pair| pair[0].last < pair[1].first && !pair[0].prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LISTED: Listed = Listed {
        first: Position { main: 2, sub: 1 },
        last: Position { main: 0x0102_0304, sub: 5 },
        records_bytes: 1000,
        records: 7,
        made: 3,
        hash: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        prefix: true,
    };

    fn encoded(listed: &Listed) -> Vec<u8> {
        let mut out = Vec::new();
        listed.encode(&mut out);
        out
    }

    #[test]
    fn the_layout_is_frozen() {
        let bytes = b"\x02\0\0\0\0\0\0\0\x01\0\0\0\x04\x03\x02\x01\0\0\0\0\x05\0\0\0\xe8\x03\0\0\0\0\0\0\x07\0\0\0\
            \x03\0\0\0\0\0\0\0\x77\x66\x55\x44\x33\x22\x11\0\xef\xcd\xab\x89\x67\x45\x23\x01\x01";
        assert_eq!(encoded(&LISTED), bytes);
    }

    #[test]
    fn what_no_segment_is_is_refused_and_a_newer_flag_is_told_from_it() {
        let decode = |listed: &Listed| Listed::decode(&mut &encoded(listed)[..]);
        assert_eq!(decode(&LISTED), Ok(LISTED));
        for bad in [
            Listed { records: 0, ..LISTED },
            Listed { records: 1, ..LISTED },
            Listed { last: LISTED.first, ..LISTED },
            Listed { first: Position { main: 0, sub: 0 }, ..LISTED },
            Listed { last: Position { main: NUMBER_MAX + 1, sub: 0 }, ..LISTED },
            Listed { records_bytes: 0, ..LISTED },
            Listed { records_bytes: RECORDS_BYTES_MAX + 1, ..LISTED },
            Listed { made: NUMBER_MAX + 1, ..LISTED },
        ] {
            assert_eq!(decode(&bad), Err(BadListed::Damaged), "{bad:?}");
        }
        let mut newer = encoded(&LISTED);
        newer[Listed::BYTES - 1] = 3;
        assert_eq!(Listed::decode(&mut &newer[..]), Err(BadListed::Newer { flags: 3 }));
        assert_eq!(Listed::decode(&mut &newer[1..]), Err(BadListed::Damaged));
    }

    #[test]
    fn a_list_ascends_and_only_its_last_is_a_prefix() {
        let at = |first: u64, last: u64, prefix| {
            let position = |main| Position { main, sub: 0 };
            Listed { first: position(first), last: position(last), prefix, ..LISTED }
        };
        assert!(ascends(&[]) && ascends(&[at(2, 3, false), at(4, 6, false), at(7, 9, true)]));
        assert!(!ascends(&[at(2, 4, false), at(4, 6, false)]));
        assert!(!ascends(&[at(2, 3, true), at(4, 6, false)]));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(listed) = Listed::decode(&mut &bytes[..]) {
                prop_assert_eq!(&encoded(&listed)[..], &bytes[..Listed::BYTES]);
            }
        }
    }
}

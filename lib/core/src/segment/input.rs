//! Numbers as a segment has them: little-endian, and in the table as varints in their shortest form. PURE.
//!
//! A varint is LEB128: seven bits a byte, the lowest first, the top bit set in all bytes but the last. A number has one
//! encoding, so a last byte of zero behind others is refused, and so is what exceeds 64 bits.

use bytes::Buf;

/// Most bytes of a varint.
const VARINT_BYTES_MAX: usize = 10;

/// Why bytes give no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// They end too early.
    Cut,
    /// No encoder writes what stands there.
    Bad,
}

/// Takes values off the front.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Stop::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Stop> {
        self.0.try_get_u8().map_err(|_| Stop::Cut)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Stop> {
        self.0.try_get_u16_le().map_err(|_| Stop::Cut)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        self.0.try_get_u32_le().map_err(|_| Stop::Cut)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        self.0.try_get_u64_le().map_err(|_| Stop::Cut)
    }

    pub(super) fn u128(&mut self) -> Result<u128, Stop> {
        self.0.try_get_u128_le().map_err(|_| Stop::Cut)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Stop> {
        self.0.try_get_i64_le().map_err(|_| Stop::Cut)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Stop> {
        let mut number = 0;
        for (nth, byte) in self.0.iter().take(VARINT_BYTES_MAX).enumerate() {
            // Nine bytes hold 63 bits: the tenth holds one.
            if nth + 1 == VARINT_BYTES_MAX && *byte > 1 {
                return Err(Stop::Bad);
            }
            number |= u64::from(byte & 0x7f) << (7 * nth);
            if byte & 0x80 == 0 {
                self.0 = &self.0[nth + 1..];
                return if *byte == 0 && nth > 0 { Err(Stop::Bad) } else { Ok(number) };
            }
        }
        Err(Stop::Cut)
    }

    /// A varint of at most 32 bits.
    pub(super) fn varint_u32(&mut self) -> Result<u32, Stop> {
        u32::try_from(self.varint()?).map_err(|_| Stop::Bad)
    }
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_one_varint() {
        let read = |bytes: &[u8]| Input(bytes).varint();
        assert_eq!(read(&[0]), Ok(0));
        assert_eq!(read(&[0xac, 0x02]), Ok(300));
        assert_eq!(read(&[0xac, 0x82, 0]), Err(Stop::Bad), "a longer form of 300");
        assert_eq!(read(&[0x80, 0]), Err(Stop::Bad), "a longer form of 0");
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(read(&most), Ok(u64::MAX));
        assert_eq!(read(&most[..9]), Err(Stop::Cut));
        for tenth in [0, 2, 0x81] {
            let mut bytes = most;
            bytes[9] = tenth;
            assert_eq!(read(&bytes), Err(Stop::Bad), "{tenth}");
        }
        assert_eq!(Input(&[0x80, 0x80, 0x80, 0x80, 0x10]).varint_u32(), Err(Stop::Bad), "2^32");
    }

    proptest! {
        #[test]
        fn varints_round_trip(number in any::<u64>(), bits in 0u32..64) {
            let number = number >> bits;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            prop_assert_eq!(bytes.len(), (64 - number.leading_zeros() as usize).div_ceil(7).max(1));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Input(&bytes[..cut]).varint(), Err(Stop::Cut));
            }
            bytes.push(7);
            let mut input = Input(&bytes);
            prop_assert_eq!(input.varint(), Ok(number));
            prop_assert_eq!(input.0, [7]);
        }

        #[test]
        fn what_is_read_as_a_varint_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut input = Input(&bytes);
            if let Ok(number) = input.varint() {
                let mut again = Vec::new();
                put_varint(&mut again, number);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - input.0.len()]);
            }
        }
    }
}

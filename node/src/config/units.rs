//! Sizes and durations as people write them in flags: `8GiB`, `64MiB`, `1048576`; `500ms`, `3s`, `15m`, `1h`, `7d`.
//!
//! A plain number is bytes or seconds. `GB` and its like are refused rather than guessed at, since people mean either
//! powers of ten or powers of two by them. PURE.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
/// `ms` comes before `m` and `s`, since the first suffix that fits is taken.
const TIME_UNITS_MS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a size in bytes; `None` if the text is not a size or does not fit.
pub(super) fn bytes(text: &str) -> Option<u64> {
    scaled(text, &BYTE_UNITS, 1)
}

/// Reads a duration; `None` if the text is not one or does not fit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    scaled(text, &TIME_UNITS_MS, 1_000).map(Duration::from_millis)
}

fn scaled(text: &str, units: &[(&str, u64)], unit_of_plain: u64) -> Option<u64> {
    let suffixed = units.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
    let (digits, unit) = suffixed.unwrap_or((text, unit_of_plain));
    // `u64::from_str` accepts a leading plus sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_or_plain_bytes() {
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("1048576"), Some(1 << 20));
        assert_eq!(bytes("64MiB"), Some(64 << 20));
        assert_eq!(bytes("8GiB"), Some(8 << 30));
        for bad in ["", "GiB", "8GB", "8 GiB", "-1", "+1", "1.5GiB", "16777216TiB", "99999999999999999999"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_have_one_unit_and_plain_numbers_are_seconds() {
        assert_eq!(duration("3"), Some(Duration::from_secs(3)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("15m"), Some(Duration::from_secs(900)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        for bad in ["", "s", "1h30m", "3 s", "-3s", "0.5s", "18446744073709551615d"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}

//! Sizes and durations as people write them in flags: `8GiB`, `64MiB`, `1048576`; `500ms`, `3s`, `15m`, `1h`, `7d`.
//!
//! A plain number is bytes; a duration has a unit, since people mean seconds, minutes or milliseconds without one. `GB`
//! and its like are refused rather than guessed at, since people mean either powers of ten or powers of two by them. PURE.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
const TIME_UNITS_MS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// What is wrong with a size or a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// A number with a unit that is not known, or with none where one is needed.
    Unit(String),
    /// More than 64 bits hold.
    TooLarge,
    /// Anything else.
    NoNumber,
}

impl Odd {
    /// What would be right, where that depends on what is wrong; `units` are those that there are, `example` is in one of them.
    fn right(&self, units: &[(&str, u64)], example: &str) -> Option<String> {
        let units = units.iter().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ");
        match self {
            Odd::Unit(unit) if unit.is_empty() => Some(format!("give it a unit: {units}, as in {example}")),
            Odd::Unit(unit) => Some(format!("'{unit}' is no unit here; the units are {units}, as in {example}")),
            Odd::TooLarge => Some("it is too large for 64 bits".to_string()),
            Odd::NoNumber => None,
        }
    }
}

/// Reads a size in bytes; the error says what would be right, if that can be told.
pub(super) fn bytes(text: &str) -> Result<u64, Option<String>> {
    scaled(text, &BYTE_UNITS, Some(1)).map_err(|odd| odd.right(&BYTE_UNITS, "8GiB"))
}

/// Reads a duration; the error says what would be right, if that can be told.
pub(super) fn duration(text: &str) -> Result<Duration, Option<String>> {
    // Nothing is nothing in every unit.
    let plain = (text == "0").then_some(1);
    let millis = scaled(text, &TIME_UNITS_MS, plain).map_err(|odd| odd.right(&TIME_UNITS_MS, "15m"))?;
    Ok(Duration::from_millis(millis))
}

/// A size as a person reads it, in the largest unit that divides it.
pub(super) fn told(bytes: u64) -> String {
    let fits = BYTE_UNITS.iter().rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{bytes} bytes"), |(name, unit)| format!("{}{name}", bytes / unit))
}

fn scaled(text: &str, units: &[(&str, u64)], unit_of_plain: Option<u64>) -> Result<u64, Odd> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let is_unit = suffix.chars().all(|c| c.is_ascii_alphabetic());
    if digits.is_empty() || !is_unit {
        return Err(Odd::NoNumber);
    }
    let known = units.iter().find_map(|(name, unit)| (*name == suffix).then_some(*unit));
    let unit = known.or(unit_of_plain.filter(|_| suffix.is_empty())).ok_or_else(|| Odd::Unit(suffix.to_string()))?;
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(Odd::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_or_plain_bytes() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("1048576"), Ok(1 << 20));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("8GiB"), Ok(8 << 30));
        for bad in ["", "GiB", "8GB", "8 GiB", "-1", "+1", "1.5GiB", "16777216TiB", "99999999999999999999"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!([told(1 << 20), told(3 << 30), told(1000)], ["1MiB", "3GiB", "1000 bytes"]);
    }

    #[test]
    fn durations_have_one_unit() {
        assert_eq!(duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "s", "1h30m", "3 s", "-3s", "0.5s", "18446744073709551615d", "1"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_what_is_named() {
        let wrong = |text| bytes(text).unwrap_err().unwrap_or_default();
        assert_eq!(wrong("8GB"), "'GB' is no unit here; the units are KiB, MiB, GiB, TiB, as in 8GiB");
        assert_eq!(wrong("16777216TiB"), "it is too large for 64 bits");
        assert_eq!(duration("1").unwrap_err().unwrap_or_default(), "give it a unit: ms, s, m, h, d, as in 15m");
        assert_eq!(bytes("many"), Err(None));
    }
}

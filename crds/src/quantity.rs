//! Amounts as Kubernetes writes them (`500m`, `1Gi`, `2`). PURE.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Longest text of an amount.
const TEXT_BYTES_MAX: usize = 32;
/// A number and a suffix. Kubernetes also takes exponents (`1e3`); they are not taken here.
const PATTERN: &str = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$";
/// What [`Quantity::bytes`] takes: thousandths at most, and no suffix for parts of a byte.
pub(crate) const BYTES_PATTERN: &str = r"^[0-9]+(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?$";
/// Most decimals of an amount of bytes.
const DECIMALS_MAX: usize = 3;
/// What one with that many decimals is counted in.
const PARTS: u128 = 1_000;

/// An amount, kept as it was written, so that what a user applied is what `kubectl get -o yaml` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quantity(pub String);

/// The text is not an amount of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseQuantityError(String);

impl fmt::Display for ParseQuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = "give a number with at most three decimals and Ki, Mi, Gi, Ti, k, M, G or T";
        write!(f, "'{}' is not an amount of bytes: {right}", self.0)
    }
}

impl std::error::Error for ParseQuantityError {}

impl Quantity {
    /// The amount as whole bytes, rounded down, as in `1.5Gi`.
    pub fn bytes(&self) -> Result<u64, ParseQuantityError> {
        let bad = || ParseQuantityError(self.0.clone());
        let end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (number, suffix) = self.0.split_at(end);
        let unit = unit(suffix).ok_or_else(bad)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        if decimals.is_empty() || decimals.len() > DECIMALS_MAX {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let parts: u64 = format!("{decimals:0<DECIMALS_MAX$}").parse().map_err(|_| bad())?;
        let bytes = (u128::from(whole) * PARTS + u128::from(parts)) * unit / PARTS;
        u64::try_from(bytes).map_err(|_| bad())
    }
}

/// Bytes in one of a suffix.
fn unit(suffix: &str) -> Option<u128> {
    Some(match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    })
}

/// `cpu: 2` is taken like `cpu: "2"`.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Number(number) => Quantity(number.to_string()),
            Written::Text(text) => Quantity(text),
        })
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": TEXT_BYTES_MAX,
            // Of one that is written as a number; the pattern is for texts.
            "minimum": 0,
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes() {
        let bytes = |text: &str| Quantity(text.to_string()).bytes();
        assert_eq!(bytes("10Gi"), Ok(10 << 30));
        assert_eq!(bytes("512Mi"), Ok(512 << 20));
        assert_eq!(bytes("1G"), Ok(1_000_000_000));
        assert_eq!(bytes("123"), Ok(123));
        for bad in ["", "Gi", "1gi", "-1", "+1", "500m", "99999999999Ti", "1.", ".5Gi", "1.5.5Gi", "1.0625Gi"] {
            assert_eq!(bytes(bad), Err(ParseQuantityError(bad.to_string())), "{bad}");
        }
    }

    #[test]
    fn parts_of_an_amount_are_rounded_down_to_bytes() {
        let bytes = |text: &str| Quantity(text.to_string()).bytes();
        assert_eq!(bytes("1.5Gi"), Ok(3 << 29));
        assert_eq!(bytes("0.25Mi"), Ok(1 << 18));
        assert_eq!(bytes("1.001Ki"), Ok(1_025));
        assert_eq!((bytes("1.999"), bytes("0.999")), (Ok(1), Ok(0)));
    }

    #[test]
    fn a_number_and_a_text_are_read_alike() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json).unwrap().0;
        assert_eq!(read("2"), "2");
        assert_eq!(read("\"250m\""), "250m");
    }
}

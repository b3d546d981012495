//! Decimal numbers kept as they were written, so that no float rounds them.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name under which the configuration's deserializer hands over a number's text.
pub(crate) const DECIMAL_NEWTYPE: &str = "$terrace::decimal";

const DIGITS_LIMIT: u64 = 1_000_000_000_000_000;

/// A non-negative decimal number of at most 15 significant digits, exact.
///
/// Equal numbers are equal values: `0.50` is `0.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Decimal {
    digits: u64,
    scale: u8,
}

/// Why a text is not a [`Decimal`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDecimalError {
    /// The text is no number in decimal notation.
    #[error("`{0}` is not a decimal number such as 0.25 or 3")]
    Syntax(String),
    /// The number is below zero.
    #[error("`{0}` is negative, expected a number that is zero or more")]
    Negative(String),
    /// The number needs more digits than can be kept exactly.
    #[error("`{0}` has more than 15 significant digits or more than 15 decimals")]
    TooPrecise(String),
}

impl Decimal {
    /// The number `digits / 10^scale`.
    ///
    /// # Panics
    ///
    /// `digits` has more than 15 digits, or `scale` is above 15.
    #[must_use]
    pub fn new(digits: u64, scale: u8) -> Self {
        assert!(digits < DIGITS_LIMIT && scale <= 15, "{digits}e-{scale} is out of range");
        let mut decimal = Self { digits, scale };
        while decimal.scale > 0 && decimal.digits.is_multiple_of(10) {
            decimal.digits /= 10;
            decimal.scale -= 1;
        }
        decimal
    }

    /// The integer that remains when the decimal point is left out.
    #[must_use]
    pub fn digits(self) -> u64 {
        self.digits
    }

    /// The number of digits after the decimal point.
    #[must_use]
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Whether the number is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// The nearest float, for display.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        // Dividing two exactly represented integers rounds once, so this is the nearest float.
        self.digits as f64 / 10f64.powi(i32::from(self.scale))
    }
}

impl FromStr for Decimal {
    type Err = ParseDecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || ParseDecimalError::Syntax(text.to_owned());
        let too_precise = || ParseDecimalError::TooPrecise(text.to_owned());
        let trimmed = text.trim();
        if trimmed.starts_with('-') {
            return Err(ParseDecimalError::Negative(text.to_owned()));
        }
        let unsigned = trimmed.strip_prefix('+').unwrap_or(trimmed);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i32>().map_err(|_| syntax())?)
            }
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || !all_digits(whole)
            || !all_digits(fraction)
            || mantissa.ends_with('.')
        {
            return Err(syntax());
        }
        let fraction = fraction.trim_end_matches('0');
        let mut digits: u64 = format!("{whole}{fraction}").parse().map_err(|_| too_precise())?;
        let mut scale =
            i32::try_from(fraction.len()).map_err(|_| too_precise())? - exponent.min(400);
        while digits != 0 && scale < 0 {
            digits = digits.checked_mul(10).ok_or_else(too_precise)?;
            scale += 1;
        }
        while digits.is_multiple_of(10) && scale > 0 {
            digits /= 10;
            scale -= 1;
        }
        match u8::try_from(scale.max(0)) {
            Ok(scale) if digits < DIGITS_LIMIT && scale <= 15 => Ok(Self::new(digits, scale)),
            _ => Err(too_precise()),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale == 0 {
            return write!(f, "{}", self.digits);
        }
        let width = usize::from(self.scale) + 1;
        let text = format!("{:0>width$}", self.digits);
        let (whole, fraction) = text.split_at(text.len() - usize::from(self.scale));
        write!(f, "{whole}.{fraction}")
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A float's shortest text gives back every decimal of at most 15 digits.
        match self.scale {
            0 => serializer.serialize_u64(self.digits),
            _ => serializer.serialize_f64(self.to_f64()),
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(DECIMAL_NEWTYPE, DecimalVisitor)
    }
}

struct DecimalVisitor;

impl<'de> Visitor<'de> for DecimalVisitor {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number that is zero or more")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Decimal, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Decimal, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Decimal, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Decimal, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Decimal, E> {
        value.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_exactly() {
        for (text, digits, scale) in [
            ("0", 0, 0),
            ("0.0", 0, 0),
            ("3", 3, 0),
            ("0.50", 5, 1),
            ("1e-3", 1, 3),
            ("2.5e2", 250, 0),
            ("+0.1", 1, 1),
            ("1.000000000000000000000000", 1, 0),
        ] {
            assert_eq!(text.parse::<Decimal>(), Ok(Decimal::new(digits, scale)), "{text}");
        }
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in ["", "x", ".5", "1.", "1e", "nan", "inf", "1.2.3"] {
            assert!(matches!(text.parse::<Decimal>(), Err(ParseDecimalError::Syntax(_))), "{text}");
        }
        assert!(matches!("-1".parse::<Decimal>(), Err(ParseDecimalError::Negative(_))));
        for text in ["1234567890123456", "1e-16", "1e300"] {
            assert!(
                matches!(text.parse::<Decimal>(), Err(ParseDecimalError::TooPrecise(_))),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_decimal_survives_text_and_json(digits in 0..DIGITS_LIMIT, scale in 0u8..=15) {
            let decimal = Decimal::new(digits, scale);
            prop_assert_eq!(decimal.to_string().parse(), Ok(decimal));
            let json = serde_json::to_string(&decimal).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decimal>(&json).unwrap(), decimal);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Decimal>();
        }
    }
}

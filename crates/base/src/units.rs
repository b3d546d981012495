//! Counts that must not be confused: tokens and sequences.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of tokens.
///
/// Written in TOML as an integer (`4_000_000`) or as a string with a unit: decimal `K`, `M`, `B`
/// (or `G`), `T`, or binary `Ki`, `Mi`, `Gi`, `Ti` (`"0.4T"`, `"4Mi"`). Serialised as an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tokens(pub u64);

/// The position of a sequence in the stream of a run, counted from zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SequenceIndex(pub u64);

/// Why a text is not a token amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokensError {
    /// The text is no number followed by a known unit.
    #[error(
        "`{0}` is not a token amount; write for example 4_000_000, \"4M\", \"4Mi\" or \"0.4T\""
    )]
    Syntax(String),
    /// The amount has a fraction of a token.
    #[error("`{0}` is not a whole number of tokens")]
    Fraction(String),
    /// The amount does not fit 63 bits.
    #[error("`{0}` is more tokens than can be counted")]
    TooLarge(String),
}

const UNITS: [(&str, u128); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("K", 1_000),
    ("M", 1_000_000),
    ("B", 1_000_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl FromStr for Tokens {
    type Err = ParseTokensError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = match parse_amount(text, &UNITS) {
            Ok(tokens) => return Ok(Self(tokens)),
            Err(AmountFault::Syntax) => ParseTokensError::Syntax,
            Err(AmountFault::Fraction) => ParseTokensError::Fraction,
            Err(AmountFault::TooLarge) => ParseTokensError::TooLarge,
        };
        Err(error(text.to_owned()))
    }
}

/// What is wrong with the text of an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountFault {
    /// It is no number followed by a known unit.
    Syntax,
    /// The amount is not whole.
    Fraction,
    /// The amount does not fit 63 bits.
    TooLarge,
}

/// Reads a decimal number with an optional unit, as in `"0.4T"` or `"1_024 KiB"`, exactly.
///
/// `units` are suffixes and what they stand for; the first that fits is taken, so a unit comes
/// before those that it ends with.
///
/// # Errors
///
/// The text is no such number, or the amount is not a whole number of 63 bits.
pub fn parse_amount(text: &str, units: &[(&str, u128)]) -> Result<u64, AmountFault> {
    let trimmed = text.trim();
    let (number, unit) = units
        .iter()
        .find_map(|(suffix, unit)| Some((trimmed.strip_suffix(suffix)?, *unit)))
        .unwrap_or((trimmed, 1));
    let number: String = number.trim().chars().filter(|c| *c != '_').collect();
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return Err(AmountFault::Syntax);
    }
    // Exact decimal arithmetic: "0.4T" must be 400,000,000,000, whatever a float thinks of 0.4.
    let fraction = fraction.trim_end_matches('0');
    let scale = 10u128.checked_pow(fraction.len() as u32).ok_or(AmountFault::TooLarge)?;
    let scaled: u128 = format!("{whole}{fraction}").parse().map_err(|_| AmountFault::TooLarge)?;
    let total = scaled.checked_mul(unit).ok_or(AmountFault::TooLarge)?;
    if !total.is_multiple_of(scale) {
        return Err(AmountFault::Fraction);
    }
    match i64::try_from(total / scale) {
        Ok(amount) => Ok(amount.unsigned_abs()),
        Err(_) => Err(AmountFault::TooLarge),
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format_count(self.0))
    }
}

impl Add for Tokens {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Tokens {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokensVisitor;
        impl Visitor<'_> for TokensVisitor {
            type Value = Tokens;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token amount such as 4_000_000, \"4M\", \"4Mi\" or \"0.4T\"")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tokens, E> {
                Ok(Tokens(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tokens, E> {
                u64::try_from(value)
                    .map(Tokens)
                    .map_err(|_| E::custom("a token amount cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Tokens, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(TokensVisitor)
    }
}

/// Writes a count as a person would: `400B`, `4.19M`, `812`.
///
/// At most four significant digits, rounded; decimal units.
#[must_use]
pub fn format_count(count: u64) -> String {
    let (value, unit) = match count {
        0..1_000 => return count.to_string(),
        1_000..1_000_000 => (count as f64 / 1e3, "K"),
        1_000_000..1_000_000_000 => (count as f64 / 1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (count as f64 / 1e9, "B"),
        _ => (count as f64 / 1e12, "T"),
    };
    format!("{}{unit}", significant(value))
}

/// Writes a whole number with a comma between groups of three digits: `8,829,407,232`.
#[must_use]
pub fn format_grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a number of bytes with a binary unit: `12.5 GiB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return format!("{} {unit}", significant(value));
        }
        value /= 1024.0;
    }
    format!("{} PiB", significant(value))
}

fn significant(value: f64) -> String {
    let decimals = match value {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000")] {
            assert_eq!(format_grouped(number), text);
        }
        assert_eq!(format_grouped(8_829_407_232), "8,829,407,232");
    }

    #[test]
    fn units_are_exact() {
        for (text, expected) in [
            ("0", 0),
            ("4_000_000", 4_000_000),
            ("4M", 4_000_000),
            ("4Mi", 4 << 20),
            ("0.4T", 400_000_000_000),
            ("1.5 B", 1_500_000_000),
            ("0.5Ki", 512),
            ("2.50K", 2_500),
        ] {
            assert_eq!(text.parse::<Tokens>().unwrap(), Tokens(expected), "{text}");
        }
    }

    #[test]
    fn bad_amounts_are_refused() {
        for text in ["", "M", "-4M", "4 apples", "1e6", ".5M", "5.", "0x10", "1.2.3"] {
            assert!(matches!(text.parse::<Tokens>(), Err(ParseTokensError::Syntax(_))), "{text}");
        }
        assert!(matches!("0.0001K".parse::<Tokens>(), Err(ParseTokensError::Fraction(_))));
        assert!(matches!("99999999T".parse::<Tokens>(), Err(ParseTokensError::TooLarge(_))));
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(format_count(812), "812");
        assert_eq!(format_count(4_194_304), "4.19M");
        assert_eq!(format_count(400_000_000_000), "400B");
        assert_eq!(format_bytes(1 << 20), "1 MiB");
    }

    proptest! {
        #[test]
        fn integers_round_trip(count in 0..=i64::MAX as u64) {
            prop_assert_eq!(count.to_string().parse::<Tokens>().unwrap(), Tokens(count));
            let json = serde_json::to_string(&Tokens(count)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Tokens>(&json).unwrap(), Tokens(count));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Tokens>();
        }
    }
}

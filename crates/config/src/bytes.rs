//! Amounts of memory and disk.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use terrace_base::{AmountFault, format_bytes, parse_amount};

/// A number of bytes.
///
/// Written in TOML as an integer or as a string with a unit: `B`, decimal `KB`, `MB`, `GB`, `TB`,
/// or binary `KiB`, `MiB`, `GiB`, `TiB` (`"16GiB"`). Serialised as an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Why a text is not an amount of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBytesError {
    /// The text is no number followed by a known unit.
    #[error("`{0}` is not an amount of bytes; write for example \"16GiB\", \"500MB\" or 1048576")]
    Syntax(String),
    /// The amount has a fraction of a byte.
    #[error("`{0}` is not a whole number of bytes")]
    Fraction(String),
    /// The amount does not fit 63 bits.
    #[error("`{0}` is more bytes than can be counted")]
    TooLarge(String),
}

const UNITS: [(&str, u128); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = match parse_amount(text, &UNITS) {
            Ok(bytes) => return Ok(Self(bytes)),
            Err(AmountFault::Syntax) => ParseBytesError::Syntax,
            Err(AmountFault::Fraction) => ParseBytesError::Fraction,
            Err(AmountFault::TooLarge) => ParseBytesError::TooLarge,
        };
        Err(error(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format_bytes(self.0))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of bytes such as \"16GiB\" or 1048576")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Bytes, E> {
                u64::try_from(value)
                    .map(Bytes)
                    .map_err(|_| E::custom("an amount of bytes cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Bytes, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(BytesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_exact() {
        for (text, expected) in [
            ("0", 0),
            ("16GiB", 16 << 30),
            ("1.5 GiB", 3 << 29),
            ("500MB", 500_000_000),
            ("1_024B", 1024),
        ] {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(expected)), "{text}");
        }
    }

    #[test]
    fn bad_amounts_are_refused() {
        for text in ["", "GiB", "16 apples", "-1B"] {
            assert!(matches!(text.parse::<Bytes>(), Err(ParseBytesError::Syntax(_))), "{text}");
        }
        assert!(matches!("0.5B".parse::<Bytes>(), Err(ParseBytesError::Fraction(_))));
        assert!(matches!("99999999TiB".parse::<Bytes>(), Err(ParseBytesError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Bytes>();
        }
    }
}

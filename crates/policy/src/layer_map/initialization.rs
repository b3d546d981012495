//! What the copies of a deeper model begin with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the copies begin with.
///
/// Only the two projections of a layer that write to the residual stream (`o_proj`, `down_proj`) may
/// differ from the source's; everything else is copied.
///
/// # Source
///
/// `ZeroOut`: LLaMA Pro (arXiv 2401.02415). `Scale`: mergekit's `scale` filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Initialization {
    /// The source's weights.
    #[default]
    Copy,
    /// Nothing is written to the residual stream: the deeper model computes what the base does.
    ZeroOut,
    /// What is written to the residual stream is multiplied by this.
    Scale(f64),
}

/// A text that is no initialisation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found `{0}`, expected `copy`, `zero-out`, or `scale` with a finite factor, as in `scale 0.5`"
)]
pub struct ParseInitializationError(String);

impl FromStr for Initialization {
    type Err = ParseInitializationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match words[..] {
            ["copy"] => Some(Self::Copy),
            ["zero-out"] => Some(Self::ZeroOut),
            ["scale", factor] => {
                factor.parse().ok().filter(|f: &f64| f.is_finite()).map(Self::Scale)
            }
            _ => None,
        };
        parsed.ok_or_else(|| ParseInitializationError(text.to_owned()))
    }
}

impl fmt::Display for Initialization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("copy"),
            Self::ZeroOut => f.write_str("zero-out"),
            Self::Scale(factor) => write!(f, "scale {factor}"),
        }
    }
}

impl TryFrom<String> for Initialization {
    type Error = ParseInitializationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Initialization> for String {
    fn from(initialization: Initialization) -> Self {
        initialization.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_it_is_written() {
        for value in [Initialization::Copy, Initialization::ZeroOut, Initialization::Scale(0.25)] {
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        for text in ["", "zero", "scale", "scale x", "scale nan", "scale inf", "copy 1"] {
            assert!(text.parse::<Initialization>().is_err(), "{text}");
        }
    }
}

//! From words to values.

use std::str::FromStr;

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::json;
use terrace_base::Tokens;
use terrace_config::{DeviceChoice, MomentFormat, Precision, Recompute};

use super::Arguments;
use crate::context::write_json;
use crate::environment::Environment;
use crate::exit::ExitCode;

/// A value in place of a file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    /// The path of keys, such as `stages.0.budget_tokens`.
    pub(crate) path: String,
    /// The value, in TOML or as a bare string.
    pub(crate) value: String,
}

/// The shape of a micro-batch, written `4x256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchShape {
    /// Sequences in it.
    pub(crate) sequences: usize,
    /// Targets in one sequence.
    pub(crate) sequence_length: usize,
}

/// Reads the command line; help and mistakes are answered here.
///
/// # Errors
///
/// There is nothing to run; the exit code says whether that was asked for.
pub(crate) fn parse(environment: &Environment) -> Result<Arguments, ExitCode> {
    Arguments::try_parse_from(&environment.arguments).map_err(|error| {
        // Where the answer would go, nobody can be told that stderr or stdout is closed.
        let _ = error.print();
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return ExitCode::Done;
        }
        if environment.arguments.iter().any(|argument| argument == "--json") {
            let text = error.render().to_string();
            let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            write_json(&json!({"error": {
                "code": ExitCode::BadInput.number(),
                "kind": ExitCode::BadInput,
                "message": message,
                "file": null, "line": null, "column": null,
                "help": "see `terrace --help`",
            }}));
        }
        ExitCode::BadInput
    })
}

pub(super) fn parse_override(text: &str) -> Result<Override, String> {
    match text.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() => {
            Ok(Override { path: path.trim().to_owned(), value: value.trim().to_owned() })
        }
        _ => Err(format!("`{text}` is not PATH=VALUE, as in stages.0.budget_tokens=2M")),
    }
}

pub(super) fn parse_device(text: &str) -> Result<DeviceChoice, String> {
    text.parse()
}

pub(super) fn parse_precision(text: &str) -> Result<Precision, String> {
    let all = [Precision::F32, Precision::Bf16Mixed, Precision::Bf16];
    all.into_iter()
        .find(|precision| precision.name() == text)
        .ok_or_else(|| "expected f32, bf16-mixed or bf16".to_owned())
}

pub(super) fn parse_moments(text: &str) -> Result<MomentFormat, String> {
    let all = [MomentFormat::F32, MomentFormat::Bf16, MomentFormat::EightBit];
    all.into_iter()
        .find(|format| format.name() == text)
        .ok_or_else(|| "expected f32, bf16 or 8-bit".to_owned())
}

pub(super) fn parse_recompute(text: &str) -> Result<Recompute, String> {
    match text {
        "none" => Ok(Recompute::None),
        "all" => Ok(Recompute::All),
        "auto" => Ok(Recompute::Auto),
        _ => Err(format!("`{text}` is not one of none, all, auto")),
    }
}

/// A rate as people write it: `5200`, `812.5` or `250K`.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = match text.parse::<f64>() {
        Ok(rate) => rate,
        Err(_) => text.parse::<Tokens>().map_err(|error| error.to_string())?.0 as f64,
    };
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("a rate is above zero".to_owned()) }
}

/// The extents of a matrix, written `4096x11008`.
pub(super) fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let extent = |text: &str| text.parse().ok().filter(|extent: &usize| *extent > 0);
    text.split_once(['x', '×'])
        .and_then(|(inputs, outputs)| Some([extent(inputs)?, extent(outputs)?]))
        .ok_or_else(|| format!("`{text}` is not INxOUT, as in 4096x11008"))
}

impl FromStr for BatchShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = |text: &str| text.parse().ok().filter(|count| *count > 0);
        let shape = text.split_once(['x', '×']).and_then(|(sequences, length)| {
            Some(Self { sequences: count(sequences)?, sequence_length: count(length)? })
        });
        shape.ok_or_else(|| format!("`{text}` is not sequences x length, as in 4x256"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn overrides_are_cut_at_the_first_equals_sign() {
        let set = |path: &str, value: &str| Override { path: path.into(), value: value.into() };
        assert_eq!(parse_override("a.b=c=d"), Ok(set("a.b", "c=d")));
        assert_eq!(parse_override("a = \"x\""), Ok(set("a", "\"x\"")));
        assert!(parse_override("a").is_err());
        assert!(parse_override("=1").is_err());
    }

    #[test]
    fn rates_take_units() {
        assert_eq!(parse_rate("250K"), Ok(250_000.0));
        assert_eq!(parse_rate("812.5"), Ok(812.5));
        for text in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shapes_have_two_sides() {
        assert_eq!("4x256".parse(), Ok(BatchShape { sequences: 4, sequence_length: 256 }));
        for text in ["4", "4x", "x4", "0x4", "4x256x2"] {
            assert!(text.parse::<BatchShape>().is_err(), "{text}");
        }
    }
}

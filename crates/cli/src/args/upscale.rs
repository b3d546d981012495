//! The arguments of `terrace upscale`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use terrace_config::{Bytes, DeviceChoice};
use terrace_policy::layer_map::{Initialization, Selection};
use terrace_upscale::analysis::Criterion;

use super::parse::parse_device;

/// The arguments of `terrace upscale`.
#[derive(Args, Debug)]
#[command(after_help = "\
Layers are written `12..28` (half-open: repeat these once), `solar 8`, `stack 2`, `interleave 4`,
`0..24, 8..32` (slices, one after the other), or `auto`, which tries every range of --length layers
on --text and takes the best by --criterion.

Examples:
  terrace upscale --source Yi-6B --layers 12..28 --output Yi-9B-init
  terrace upscale --source data/base --analyze --length 4 --text data/prepared/code --picture layers
  terrace upscale --source data/base --layers auto --length 4 --text data/prepared/code --output deep")]
pub(crate) struct UpscaleArgs {
    /// The Hugging Face folder of the base
    #[arg(long, value_name = "DIR")]
    pub(crate) source: PathBuf,
    /// Which layers to repeat
    #[arg(long, value_name = "LAYERS", required_unless_present = "analyze")]
    pub(crate) layers: Option<Layers>,
    /// The folder of the deeper model
    #[arg(long, short, value_name = "DIR", required_unless_present = "analyze")]
    #[arg(requires = "layers")]
    pub(crate) output: Option<PathBuf>,
    /// What the copies begin with: copy, zero-out, or `scale 0.5`
    #[arg(long, value_name = "HOW", default_value = "copy")]
    pub(crate) initialization: Initialization,
    /// Replace the base of the rotary angles; this changes what the trained weights compute
    #[arg(long, value_name = "X")]
    pub(crate) rope_theta: Option<f64>,
    /// Replace what norms add to the mean square; this changes what the trained weights compute
    #[arg(long, value_name = "X")]
    pub(crate) rms_norm_eps: Option<f64>,
    /// Replace the longest sequence that the model is made for
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_position_embeddings: Option<u64>,
    /// The size above which a further file is begun
    #[arg(long, value_name = "BYTES", default_value = "5GB")]
    pub(crate) shard_size: Bytes,
    /// Show what repeating each range of --length layers does
    #[arg(long, requires = "length")]
    pub(crate) analyze: bool,
    /// How many layers to repeat, for `auto` and --analyze
    #[arg(long, value_name = "N")]
    pub(crate) length: Option<usize>,
    /// A prepared edition to measure on, as DIR or NAME=DIR; can be repeated
    #[arg(long, value_name = "EDITION")]
    pub(crate) text: Vec<NamedText>,
    /// Sequences of each edition for choosing, and as many others for reporting
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) sequences: u64,
    /// What decides between the ranges
    #[arg(long, value_enum, default_value_t = CriterionArg::Kl)]
    pub(crate) criterion: CriterionArg,
    /// Also draw it: STEM.svg and STEM.png
    #[arg(long, value_name = "STEM")]
    pub(crate) picture: Option<PathBuf>,
    /// The device that measures: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
}

/// Which layers to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layers {
    /// The best range of a length, measured.
    Auto,
    /// These.
    Given(Selection),
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Given).map_err(|error| format!("{error}, or `auto`")),
        }
    }
}

/// An edition and what it is called in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedText {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl FromStr for NamedText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((name, path)) = text.split_once('=') {
            return match (name, path) {
                ("", _) | (_, "") => Err(format!("`{text}` is not NAME=DIR")),
                (name, path) => Ok(Self { name: name.to_owned(), path: path.into() }),
            };
        }
        let path = Path::new(text);
        let name = path.file_name().ok_or_else(|| format!("`{text}` is not a folder's name"))?;
        Ok(Self { name: name.to_string_lossy().into_owned(), path: path.to_owned() })
    }
}

/// What a choice of layers is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CriterionArg {
    /// The least divergence from the base's predictions
    Kl,
    /// The least loss
    Loss,
    /// The greatest cosine of the new layers in place, as 01.AI argues
    Cosine,
}

impl From<CriterionArg> for Criterion {
    fn from(criterion: CriterionArg) -> Self {
        match criterion {
            CriterionArg::Kl => Self::Kl,
            CriterionArg::Loss => Self::Loss,
            CriterionArg::Cosine => Self::Cosine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_a_selection_or_auto() {
        assert_eq!("auto".parse(), Ok(Layers::Auto));
        assert_eq!("12..28".parse(), Ok(Layers::Given(Selection::Range(12..28))));
        assert!("automatic".parse::<Layers>().unwrap_err().contains("or `auto`"));
    }

    #[test]
    fn texts_have_a_name_or_take_their_folders() {
        let text = |name: &str, path: &str| NamedText { name: name.into(), path: path.into() };
        assert_eq!("data/prepared/code".parse(), Ok(text("code", "data/prepared/code")));
        assert_eq!("c=data/code".parse(), Ok(text("c", "data/code")));
        assert!("=x".parse::<NamedText>().is_err() && "..".parse::<NamedText>().is_err());
    }
}

//! The arguments of `terrace bench decode` and `terrace bench prefill`.

use clap::{Args, ValueEnum};
use terrace_config::DeviceChoice;

use super::parse::parse_device;

/// A format of weights that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WeightsChoice {
    /// Everything in f32
    F32,
    /// Everything in bf16
    Bf16,
    /// Integers in every linear product, the rest in the device's precision
    Int8,
}

/// What both measurements take.
#[derive(Args, Clone, Debug)]
pub(crate) struct InferenceArgs {
    /// The model's shape: small, yi-6b, yi-9b, or a folder with config.json; weights are random
    #[arg(long, value_name = "NAME|DIR", default_value = "small")]
    pub(crate) shape: String,
    /// The number of layers, in place of the shape's
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) layers: Option<u64>,
    /// The formats of the weights; several with commas
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',')]
    #[arg(default_value = "f32,bf16,int8")]
    pub(crate) weights: Vec<WeightsChoice>,
    /// The device: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
}

/// The arguments of `terrace bench decode`.
#[derive(Args, Debug)]
#[command(after_help = "\
The ceiling is what the card's memory could deliver if nothing but weights, keys and values were read.

Examples:
  terrace bench decode --json
  terrace bench decode --shape yi-9b --weights bf16,int8 --device cuda")]
pub(crate) struct BenchDecodeArgs {
    #[command(flatten)]
    pub(crate) common: InferenceArgs,
    /// The sequences that are generated at once; several with commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,8,32")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: Vec<u16>,
    /// The tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) prompt: u16,
    /// The measured steps, of each of which the median is given
    #[arg(long, value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) steps: u16,
    /// The steps before those, in which a device chooses its kernels
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) warm_up: u16,
}

/// The arguments of `terrace bench prefill`.
#[derive(Args, Debug)]
#[command(after_help = "\
The ceiling is what the card's arithmetic could deliver in bf16 if nothing but products were computed.

Examples:
  terrace bench prefill --prompt 512 --json
  terrace bench prefill --shape yi-9b --weights bf16,int8 --device cuda --prompt 2048 --chunk 2048")]
pub(crate) struct BenchPrefillArgs {
    #[command(flatten)]
    pub(crate) common: InferenceArgs,
    /// The tokens of the prompt; several with commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "512")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) prompt: Vec<u16>,
    /// The tokens that are computed at a time
    #[arg(long, value_name = "N", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) chunk: u16,
    /// The measured prompts, of which the median is given
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// The prompts before those, in which a device chooses its kernels
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) warm_up: u16,
}

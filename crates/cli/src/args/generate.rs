//! The arguments of `terrace generate`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use terrace_config::DeviceChoice;
use terrace_model::Precision;

use super::parse::parse_device;

/// The arguments of `terrace generate`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["prompt", "input"])))]
#[command(after_help = "\
A prompt's continuation is written to stdout as it comes. Each line of a file is an object with a
`prompt`; the answers have one line each, in the same order: `prompt`, `text`, `tokens`,
`finish_reason`. Prompts are taken as they are: nothing is put before them.

Examples:
  terrace generate data/base --prompt 'def fibonacci(n):' --max-new-tokens 64
  terrace generate runs/quickstart --prompt 'Once' --temperature 0.8 --top-p 0.95 --seed 1
  terrace generate model --input prompts.jsonl --output answers.jsonl --stop '\\n\\n'")]
pub(crate) struct GenerateArgs {
    /// A Hugging Face folder, a run (its newest valid checkpoint) or one of its checkpoints
    pub(crate) model: PathBuf,
    /// The text to continue
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file of prompts, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Where the answers to a file go; if not given, to stdout
    #[arg(long, short, value_name = "FILE", requires = "input")]
    pub(crate) output: Option<PathBuf>,
    /// The most tokens of a continuation; if not given, 128 or what the context has room for
    #[arg(long, value_name = "N")]
    pub(crate) max_new_tokens: Option<usize>,
    /// What the logits are divided by before a token is drawn; 0 takes the likeliest
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Draw from the smallest set of tokens that holds so much of the probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// What draws depend on, besides the place of the token
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// End before this text, with \n for a line's end and \\ for a backslash; can be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,
    /// Answers that do not depend on the batch to the last bit, on the processor; slower
    #[arg(long)]
    pub(crate) batch_invariant: bool,
    /// The prompts that are worked on at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
    /// The device: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
    /// The format of weights, activations and cache: f32 or bf16; if not given, bf16 on cuda, else f32
    #[arg(long, value_name = "FORMAT")]
    pub(crate) precision: Option<Precision>,
}

//! The arguments of `terrace eval`.

use std::path::PathBuf;

use clap::Args;
use terrace_config::DeviceChoice;
use terrace_model::Precision;

use super::Overrides;
use super::parse::parse_device;

/// The arguments of `terrace eval`.
#[derive(Args, Debug)]
#[command(after_help = "\
Tasks are files like those in configs/tasks; scripts/fetch_tasks.sh fetches the data of most of them.
With --log-items every scored item is a line of a file at once: an evaluation that was stopped goes on
where it was when it is asked for again, and `terrace compare` sets two such files side by side. --set goes for every task: fewshot.shots=0.

Examples:
  terrace eval data/base --tasks configs/tasks/arc-easy.toml --limit 200
  terrace eval runs/quickstart --tasks configs/tasks/piqa.toml --log-items after.jsonl
  terrace eval runs/quickstart --tasks configs/tasks/gsm8k.toml --contamination data/prepared/math
  terrace eval Yi-9B --tasks configs/tasks/humaneval.toml --device cuda --batch 32")]
pub(crate) struct EvalArgs {
    /// A Hugging Face folder, a run (its newest valid checkpoint) or one of its checkpoints
    pub(crate) model: PathBuf,
    /// The files of the tasks (TOML)
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) tasks: Vec<PathBuf>,
    /// Ask only the first N items of each task, or of each of its subsets
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Keep every scored item as a line of this file, and do not ask again what it holds
    #[arg(long, value_name = "FILE")]
    pub(crate) log_items: Option<PathBuf>,
    /// The editions that the model was trained on, or their contamination.jsonl: items that they have are
    /// scored apart from clean ones
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) contamination: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// The requests that are worked on at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
    /// The most tokens of a prompt and what follows; if not given, 4096 or what the model has
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// Scores that do not depend on the batch to the last bit, on the processor; slower
    #[arg(long)]
    pub(crate) batch_invariant: bool,
    /// The programs that are tried at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sandboxes: u16,
    /// The device: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
    /// The format of weights, activations and cache: f32 or bf16; if not given, bf16 on cuda, else f32
    #[arg(long, value_name = "FORMAT")]
    pub(crate) precision: Option<Precision>,
}

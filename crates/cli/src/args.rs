//! The grammar of the command line: what can be asked, not what is done about it.

mod eval;
mod feed;
mod generate;
mod inference;
mod kernels;
mod parse;
mod quantize;
mod replay;
mod serve;
mod simulate;
mod steer;
mod upscale;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use terrace_config::{Bytes, DeviceChoice, MomentFormat, Precision, Recompute};

pub(crate) use self::eval::EvalArgs;
pub(crate) use self::feed::{BenchLoaderArgs, BenchPrepareArgs};
pub(crate) use self::generate::GenerateArgs;
pub(crate) use self::inference::{BenchDecodeArgs, BenchPrefillArgs, InferenceArgs, WeightsChoice};
pub(crate) use self::kernels::BenchKernelsArgs;
pub(crate) use self::parse::{BatchShape, Override, parse};
use self::parse::{
    parse_device, parse_moments, parse_override, parse_precision, parse_rate, parse_recompute,
};
pub(crate) use self::quantize::{BenchInt8Args, QuantizeArgs};
pub(crate) use self::replay::ReplayArgs;
pub(crate) use self::serve::ServeArgs;
pub(crate) use self::simulate::{BenchPlateauArgs, SimulateArgs};
pub(crate) use self::steer::{
    BranchArgs, CompareArgs, Coupling, InitArgs, MixArgs, ProbeBatchArgs, ResumeArgs,
};
pub(crate) use self::upscale::{Layers, NamedText, UpscaleArgs};

/// Carries a pretrained language model further, in stages.
#[derive(Debug, Parser)]
#[command(name = "terrace", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  terrace doctor                                  what does this machine offer?
  terrace plan configs/yi-9b.toml                 every derived number, before a GPU is paid for
  terrace prepare english.toml --output data/english
  terrace upscale --source Yi-6B --layers 12..28 --output Yi-9B-init
  terrace train configs/quickstart.toml
  terrace resume runs/quickstart

Text for people goes to stderr, data (--json) to stdout.
Exit codes: 0 done, 1 gate failed, 2 bad input, 3 environment, 4 device.";

/// The flags of every verb.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GlobalArgs {
    /// Answer with one JSON object on stdout; errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more; twice says everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only the answer and what goes wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Colour the text
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Write where the time goes: a timeline in Chrome's trace format, for Perfetto or chrome://tracing
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
}

/// When text is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl GlobalArgs {
    /// How much is said: 0 is normal.
    pub(crate) fn verbosity(&self) -> i8 {
        if self.quiet { -1 } else { self.verbose.min(2).cast_signed() }
    }
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Turn documents into token shards that a run can read
    Prepare(PrepareArgs),
    /// Describe an edition, a model, a checkpoint or a run, and verify it
    Inspect(InspectArgs),
    /// Show every number that follows from a run file, without touching a device
    Plan(PlanArgs),
    /// Make a deeper model by repeating layers, and find out which
    Upscale(UpscaleArgs),
    /// Train the stages of a run file
    Train(TrainArgs),
    /// Continue a run from its newest valid checkpoint
    Resume(ResumeArgs),
    /// Show where another batch controller would have grown on a run's losses
    Replay(ReplayArgs),
    /// Hold batch schedules against each other on a model whose best one is known
    Simulate(SimulateArgs),
    /// Start a new run from a checkpoint's or a folder's weights, everything else fresh
    Init(InitArgs),
    /// Start a child from a run's checkpoint: weights, moments and cursors carried
    Branch(BranchArgs),
    /// Give a stopped run another mixture for what is still to come
    Mix(MixArgs),
    /// Put runs side by side at equal tokens
    Compare(CompareArgs),
    /// Find out how large a batch loses nothing, with branches at multiples of it
    ProbeBatch(ProbeBatchArgs),
    /// Write a run's checkpoint as a Hugging Face folder
    Export(ExportArgs),
    /// Ask a model tasks, and score its answers
    Eval(EvalArgs),
    /// Continue a prompt, or a file of prompts
    Generate(GenerateArgs),
    /// Answer OpenAI's protocol over HTTP
    Serve(ServeArgs),
    /// Round a model's weights to eight bits, and show what that costs
    Quantize(QuantizeArgs),
    /// Measure speed and memory
    Bench(BenchArgs),
    /// Say what this machine offers, and what is missing
    Doctor,
}

/// The arguments of `terrace prepare`.
#[derive(Args, Debug)]
#[command(after_help = "\
The output does not depend on the number of cores or on the order of the input. An edition that is
there already, made from the same input in the same way, is left as it is.

Example:
  terrace prepare configs/prepare/english.toml --output data/prepared/english")]
pub(crate) struct PrepareArgs {
    /// What to read, and how to filter, tokenise and pack it (TOML)
    pub(crate) file: PathBuf,
    /// The folder of the new edition
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Prepare again even if the edition is there
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// The arguments of `terrace inspect`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exits with 1 if something is damaged, and names the file.

Examples:
  terrace inspect data/prepared/english
  terrace inspect runs/quickstart --json")]
pub(crate) struct InspectArgs {
    /// The folder: an edition, a Hugging Face model, a checkpoint or a run
    pub(crate) path: PathBuf,
    /// Only describe; do not read everything to verify its hashes
    #[arg(long)]
    pub(crate) no_verify: bool,
}

/// The arguments of `terrace plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  terrace plan configs/yi-9b.toml --tokens-per-second 250K
  terrace plan configs/yi-9b.toml --set stages.0.budget_tokens=0.2T --explain
  terrace plan configs/yi-9b.toml --json | jq .memory")]
pub(crate) struct PlanArgs {
    /// The run file (TOML)
    pub(crate) file: PathBuf,
    /// Also show each value and where it came from
    #[arg(long)]
    pub(crate) explain: bool,
    /// The throughput to estimate the time with, such as 5200 or 250K
    #[arg(long, value_name = "X", value_parser = parse_rate)]
    pub(crate) tokens_per_second: Option<f64>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// The arguments of `terrace train`.
#[derive(Args, Debug)]
#[command(after_help = "\
Sources that are not prepared yet, and say how to, are prepared first. Ctrl-C finishes the step,
saves and exits with 0; a second Ctrl-C exits at once.

On the dashboard `q` `s` does what Ctrl-C does, and `q` `k` what a second one does. `Epochs` counts
the tokens of the run and `Items` the thousandths of the stage. What is logged meanwhile is written
when it closes.

Examples:
  terrace train configs/quickstart.toml
  terrace train configs/quickstart.toml --dashboard
  terrace train run.toml --device cuda --set optimizer.learning_rate=2e-5")]
pub(crate) struct TrainArgs {
    /// The run file (TOML)
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
}

/// The arguments of `terrace export`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  terrace export runs/quickstart --output model --dtype bf16")]
pub(crate) struct ExportArgs {
    /// A run, whose newest valid checkpoint is taken, or one of its checkpoints
    pub(crate) path: PathBuf,
    /// The folder of the model
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// The element type of the weights
    #[arg(long, value_enum, default_value_t = ExportDtype::F32)]
    pub(crate) dtype: ExportDtype,
    /// The size above which a further file is begun
    #[arg(long, value_name = "BYTES", default_value = "5GB")]
    pub(crate) shard_size: Bytes,
    /// Replace the folder if it is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// An element type to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportDtype {
    /// Exactly the master weights
    F32,
    /// Rounded to nearest, half the size
    Bf16,
}

/// The arguments of `terrace bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) what: BenchVerb,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchVerb {
    /// Training steps of a model: tokens/s, peak memory, model FLOP/s, the share of each operation
    Train(BenchTrainArgs),
    /// Each operation of a layer beside what the processor could deliver, and beside the composed form
    Kernels(BenchKernelsArgs),
    /// Batches from local shards for a model that does nothing, by number of sources
    Loader(BenchLoaderArgs),
    /// Each step from a line of text to a shard, on one core
    Prepare(BenchPrepareArgs),
    /// Plateau tests on simulated loss curves: false alarms, power, delay
    Plateau(BenchPlateauArgs),
    /// Products with eight-bit weights beside those with f32 weights
    Int8(BenchInt8Args),
    /// Tokens/s of sequences that get one token at a time, beside what the memory could deliver
    Decode(BenchDecodeArgs),
    /// Tokens/s of prompts, beside what the arithmetic could deliver
    Prefill(BenchPrefillArgs),
}

/// Something that is measured with and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    Off,
    On,
}

/// The arguments of `terrace bench train`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  terrace bench train --json
  terrace bench train --batch 4x256 --recompute all --layers 12
  terrace bench train --micro-batches 4 --noise-scale off,on --recompute none
  terrace bench train --device cuda --shape yi-6b --layers 8 --precision bf16 --moments 8-bit")]
pub(crate) struct BenchTrainArgs {
    /// Sequences times their length
    #[arg(long, value_name = "BxT", default_value = "1x1024")]
    pub(crate) batch: BatchShape,
    /// Which layers to recompute; several with commas
    #[arg(long, value_name = "CHOICE", value_delimiter = ',', value_parser = parse_recompute)]
    #[arg(default_value = "none,all")]
    pub(crate) recompute: Vec<Recompute>,
    /// The number of micro-batches in a step
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) micro_batches: u16,
    /// Whether the gradient noise scale is measured; both with a comma, needs --micro-batches 2
    #[arg(long, value_name = "off|on", value_delimiter = ',', default_value = "off")]
    pub(crate) noise_scale: Vec<Switch>,
    /// The number format of weights and products: f32, bf16-mixed, bf16
    #[arg(long, value_name = "FORMAT", value_parser = parse_precision, default_value = "f32")]
    pub(crate) precision: Precision,
    /// The number format of the optimizer's moments: f32, bf16, 8-bit
    #[arg(long, value_name = "FORMAT", value_parser = parse_moments, default_value = "f32")]
    pub(crate) moments: MomentFormat,
    /// Update each layer as soon as its gradient is there, clipped for itself
    #[arg(long)]
    pub(crate) gradient_release: bool,
    /// The model's shape: small (15.7M parameters), yi-6b, yi-9b, or a folder with config.json; weights
    /// are random
    #[arg(long, value_name = "NAME|DIR", default_value = "small")]
    pub(crate) shape: String,
    /// The number of layers, in place of the shape's
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) layers: Option<u64>,
    /// The number of measured steps, after one that is not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub(crate) steps: usize,
    /// The device: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
    /// Measure in this process: what the processes that are measured are started with
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a number of at least 1".to_owned()),
    }
}

/// What every verb takes that trains a run.
#[derive(Args, Clone, Debug)]
pub(crate) struct TrainingArgs {
    /// Show the run on burn-train's dashboard, if there is a terminal and no --json
    #[arg(long)]
    pub(crate) dashboard: bool,
    /// The device, in place of the run file's: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device)]
    device: Option<DeviceChoice>,
    #[command(flatten)]
    overrides: Overrides,
}

impl TrainingArgs {
    /// What stands in place of the run file's values, the device among them.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let device = self.device.map(|device| ("device".to_owned(), format!("\"{device}\"")));
        self.overrides.pairs().into_iter().chain(device).collect()
    }
}

/// Values in place of a file's.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// Replace a value of the file, such as stages.0.budget_tokens=2M; can be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = parse_override)]
    pub(crate) set: Vec<Override>,
}

impl Overrides {
    /// The overrides as `config` takes them.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        self.set.iter().map(|Override { path, value }| (path.clone(), value.clone())).collect()
    }
}

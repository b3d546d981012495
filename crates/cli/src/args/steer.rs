//! The arguments of the verbs that steer a run: resume, init, branch, mix, compare, probe-batch.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;
use terrace_base::Tokens;
use terrace_config::DeviceChoice;

use super::TrainingArgs;
use super::parse::parse_device;

/// The arguments of `terrace resume`.
#[derive(Args, Debug)]
#[command(after_help = "\
A run goes on as it was begun. If its config.toml was edited, or --config names a run file that says
something else, what differs is shown and --accept-changes has it followed from here on; what would
change the past is refused. For this time only, and without that flag, --set takes what changes no
number: checkpoint.*, validation.every_tokens, training.memory_budget, training.recompute.

Examples:
  terrace resume runs/quickstart
  terrace resume runs/quickstart --config configs/quickstart.toml --accept-changes")]
pub(crate) struct ResumeArgs {
    /// The folder of the run
    pub(crate) run: PathBuf,
    /// A run file to go on with, in place of the run's own config.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Follow what differs from the run so far
    #[arg(long)]
    pub(crate) accept_changes: bool,
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
}

/// The arguments of `terrace init`.
#[derive(Args, Debug)]
#[command(after_help = "\
Only the weights are taken; moments, cursors, controller, warm-up and step clock begin anew. Those of
a run are written into the new run's folder, so that it does not depend on the other.

Examples:
  terrace init runs/quickstart --config second.toml
  terrace init SmolLM2-135M --config second.toml")]
pub(crate) struct InitArgs {
    /// Whose weights: a run, one of its checkpoints, or a Hugging Face folder; by default the
    /// file's model.path
    pub(crate) weights: Option<PathBuf>,
    /// The run file of the new run
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
}

/// The arguments of `terrace branch`.
#[derive(Args, Debug)]
#[command(after_help = "\
The child has the parent's weights, moments, cursors and controller as they were; the checkpoint's
files are shared, not copied. Its run file may say anything else about what is still to come, and
names a run_directory of its own; `extends = \"PARENT/config.toml\"` takes over the rest.

Examples:
  terrace branch runs/base --at 400M --config anneal.toml
  terrace branch runs/base --config more-code.toml --no-train")]
pub(crate) struct BranchArgs {
    /// The folder of the parent
    pub(crate) run: PathBuf,
    /// The tokens seen of the checkpoint, by default the newest
    #[arg(long, value_name = "TOKENS")]
    pub(crate) at: Option<Tokens>,
    /// The run file of the child
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Only make the child; `terrace resume` trains it
    #[arg(long)]
    pub(crate) no_train: bool,
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
}

/// The arguments of `terrace mix`.
#[derive(Args, Debug)]
#[command(after_help = "\
The file says `mixture = { ... }`, over the run's sources, and if the weights are to change on to the
end of the stage, `mixture_end = { ... }`. What was drawn stays: every source goes on at its own next
window. Caps are checked again, and decisions.jsonl has a line of it. Other stages keep their own
mixtures.

Examples:
  terrace mix runs/quickstart --mixture more-code.toml
  terrace mix runs/quickstart --from-stage 1 --mixture more-code.toml")]
pub(crate) struct MixArgs {
    /// The folder of the run, which must not be training
    pub(crate) run: PathBuf,
    /// The mixture (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) mixture: PathBuf,
    /// A stage that has not begun, by its number, counted from 0, or its name
    #[arg(long, value_name = "STAGE", conflicts_with = "from_next_step")]
    pub(crate) from_stage: Option<String>,
    /// From the next step on, to the end of the stage that the run is in; the default
    #[arg(long)]
    pub(crate) from_next_step: bool,
}

/// The arguments of `terrace compare`.
#[derive(Args, Debug)]
#[command(after_help = "\
Training losses are means over equal stretches of the tokens that all runs have on record; held-out
losses stand where all runs have measured them.
Of logs that `terrace eval --log-items` wrote, each later one is set against the first, item by item:
gains and losses with McNemar's test, the difference with its interval by a paired bootstrap, and the
difference that so many items would show in four of five cases.

Examples:
  terrace compare runs/child-a runs/child-b
  terrace compare before.jsonl after.jsonl")]
pub(crate) struct CompareArgs {
    /// The folders of two or more runs, or two or more logs of scored items
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// Into how many stretches the tokens are divided
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) points: u64,
    /// Also draw the training losses: STEM.svg and STEM.png
    #[arg(long, value_name = "STEM")]
    pub(crate) picture: Option<PathBuf>,
}

/// The arguments of `terrace probe-batch`.
#[derive(Args, Debug)]
#[command(after_help = "\
From the newest checkpoint, branches train on the same tokens in the same order at multiples of the
batch. A multiple loses nothing if its smoothed loss is at most that of every smaller one plus the
tolerance. A probe that was stopped or killed goes on when it is asked for again; the run itself is
only read.

Example:
  terrace probe-batch runs/quickstart --multiples 1,2,4 --tokens 400K")]
pub(crate) struct ProbeBatchArgs {
    /// The folder of the run
    pub(crate) run: PathBuf,
    /// Multiples of the run's batch, with commas
    #[arg(long, value_name = "K,K", default_value = "1,2,4")]
    pub(crate) multiples: Multiples,
    /// What each branch trains on; rounded down to whole steps of all of them
    #[arg(long, value_name = "TOKENS")]
    pub(crate) tokens: Tokens,
    /// How much more a loss may be and still count as nothing lost, in nats per token
    #[arg(long, value_name = "NATS", default_value_t = 0.01, value_parser = parse_tolerance)]
    pub(crate) tolerance: f64,
    /// What the learning rate is multiplied by
    #[arg(long, value_enum, default_value_t)]
    pub(crate) coupling: Coupling,
    /// The tokens seen of the checkpoint, by default the newest
    #[arg(long, value_name = "TOKENS")]
    pub(crate) at: Option<Tokens>,
    /// Where the branches go; by default beside the run
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// The device, in place of the run's: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device)]
    pub(crate) device: Option<DeviceChoice>,
}

/// How a branch's learning rate follows its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Coupling {
    /// Not at all
    #[default]
    None,
    /// The root of the multiple
    Sqrt,
    /// The multiple
    Linear,
}

impl Coupling {
    /// The factor of the learning rate at a multiple of the batch.
    pub(crate) fn factor(self, multiple: u64) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Sqrt => (multiple as f64).sqrt(),
            Self::Linear => multiple as f64,
        }
    }
}

/// Multiples of a batch, ascending, at least two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Multiples(pub(crate) Vec<u64>);

impl FromStr for Multiples {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| match part.trim().parse::<u64>() {
            Ok(number) if (1..=1024).contains(&number) => Ok(number),
            _ => Err(format!("`{part}` is not a multiple from 1 to 1024")),
        };
        let mut multiples = text.split(',').map(number).collect::<Result<Vec<u64>, String>>()?;
        multiples.sort_unstable();
        multiples.dedup();
        if multiples.len() < 2 {
            return Err("a probe compares at least two multiples, as in 1,2,4".to_owned());
        }
        Ok(Self(multiples))
    }
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(nats) if nats.is_finite() && nats >= 0.0 => Ok(nats),
        _ => Err(format!("`{text}` is not a number of nats that is zero or more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_are_sorted_and_at_least_two() {
        assert_eq!("4, 1,2,2".parse(), Ok(Multiples(vec![1, 2, 4])));
        for text in ["", "1", "2,2", "0,1", "1,x", "1,2048", "-1,2"] {
            assert!(text.parse::<Multiples>().is_err(), "{text}");
        }
        assert_eq!(Coupling::Sqrt.factor(4), 2.0);
        assert_eq!((Coupling::None.factor(4), Coupling::Linear.factor(4)), (1.0, 4.0));
        assert!(parse_tolerance("-1").is_err() && parse_tolerance("NaN").is_err());
    }
}

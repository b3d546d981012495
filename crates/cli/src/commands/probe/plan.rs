//! What a probe is to do, and whether what lies in its folder belongs to it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, fs};
use terrace_config::Standing;
use terrace_train::StoppedRun;

use crate::args::{Coupling, ProbeBatchArgs};
use crate::error::CliError;

const IDENTITY: &str = "probe.json";

/// The numbers of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProbePlan {
    pub(super) output: PathBuf,
    pub(super) multiples: Vec<u64>,
    pub(super) from_tokens: u64,
    pub(super) tokens: u64,
    pub(super) batch_tokens: u64,
    pub(super) block_tokens: u64,
    pub(super) coupling: Coupling,
}

/// What two invocations must have in common to be one probe.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    state_digest: Fingerprint,
    from_tokens: u64,
    tokens: u64,
    batch_tokens: u64,
    block_tokens: u64,
    coupling: String,
}

impl ProbePlan {
    /// Plans a probe of a run at its checkpoint, and takes up its folder.
    pub(super) fn new(args: &ProbeBatchArgs, run: &StoppedRun) -> Result<Self, CliError> {
        let (Some(checkpoint), Some(state)) = (&run.checkpoint, &run.state) else {
            let message = format!("{} has no checkpoint yet", args.run.display());
            return Err(CliError::input(message));
        };
        let length = run.in_force.config.training.sequence_length as u64;
        let batch_tokens = state.controller.batch_sequences() * length;
        let multiples = args.multiples.0.clone();
        let unit = whole_steps(&multiples).saturating_mul(batch_tokens);
        let from_tokens = checkpoint.tokens_seen().0;
        let tokens = args.tokens.0 / unit * unit;
        if tokens == 0 {
            let message = format!(
                "{} tokens are not one step of every multiple of the batch of {batch_tokens}",
                args.tokens.0
            );
            return Err(CliError::input(message).with_help(format!("--tokens {unit} is the least")));
        }
        let left = left_in_stage(run)?;
        if tokens > left {
            let message = format!(
                "the stage has {left} tokens left at {from_tokens}, and the probe takes {tokens}"
            );
            let help = match left / unit * unit {
                0 => "--at names an earlier checkpoint, smaller --multiples take fewer".to_owned(),
                most => format!("--tokens {most} is the most from here"),
            };
            return Err(CliError::input(message).with_help(help));
        }
        let largest = multiples.last().expect("there are at least two");
        let plan = Self {
            output: args.output.clone().unwrap_or_else(|| beside(&args.run, from_tokens)),
            block_tokens: largest * batch_tokens,
            multiples,
            from_tokens,
            tokens,
            batch_tokens,
            coupling: args.coupling,
        };
        plan.take_up(checkpoint.state_digest())?;
        Ok(plan)
    }

    /// The folder of a branch.
    pub(super) fn branch(&self, multiple: u64) -> PathBuf {
        self.output.join(format!("{multiple}x"))
    }

    /// The tokens seen where a branch is done.
    pub(super) fn until(&self) -> u64 {
        self.from_tokens + self.tokens
    }

    fn take_up(&self, state_digest: Fingerprint) -> Result<(), CliError> {
        let identity = Identity {
            state_digest,
            from_tokens: self.from_tokens,
            tokens: self.tokens,
            batch_tokens: self.batch_tokens,
            block_tokens: self.block_tokens,
            coupling: format!("{:?}", self.coupling).to_lowercase(),
        };
        let path = self.output.join(IDENTITY);
        match std::fs::read_to_string(&path) {
            Ok(text) => match serde_json::from_str::<Identity>(&text) {
                Ok(found) if found == identity => Ok(()),
                _ => {
                    let message = format!("{} holds another probe", self.output.display());
                    Err(CliError::input(message).with_help("--output names another folder"))
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = serde_json::to_string_pretty(&identity).expect("it is plain data");
                fs::write_atomic(&path, text.as_bytes())
                    .map_err(|error| CliError::unwritable(&path, error))
            }
            Err(error) => Err(CliError::read(&path, error)),
        }
    }
}

/// The least number of batches that is a whole number of steps at every multiple.
fn whole_steps(multiples: &[u64]) -> u64 {
    multiples.iter().fold(1, |least, multiple| least / gcd(least, *multiple) * multiple)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The tokens of the stage that the probe falls into that are not drawn yet.
fn left_in_stage(run: &StoppedRun) -> Result<u64, CliError> {
    let Standing { stage, stage_tokens, .. } = run.standing;
    let config = &run.in_force.config;
    let length = config.training.sequence_length as u64;
    match config.stages.get(stage) {
        Some(stage) => Ok((stage.sequences(length) * length).saturating_sub(stage_tokens.0)),
        None => {
            let message = "the run is complete: behind its last checkpoint there is no data to \
                           probe with";
            Err(CliError::input(message).with_help("--at names an earlier checkpoint"))
        }
    }
}

fn beside(run: &Path, from_tokens: u64) -> PathBuf {
    let absolute = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
    let mut name = absolute.file_name().unwrap_or_default().to_owned();
    name.push(format!("-probe-{from_tokens}"));
    absolute.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_steps_are_the_least_common_multiple() {
        assert_eq!(whole_steps(&[1, 2, 4]), 4);
        assert_eq!(whole_steps(&[2, 3]), 6);
        assert_eq!(whole_steps(&[1, 1024, 1000]), 128_000);
    }

    #[test]
    fn branches_lie_beside_the_run() {
        assert_eq!(beside(Path::new("/runs/a"), 96), Path::new("/runs/a-probe-96"));
    }
}

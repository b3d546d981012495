//! Where things are in a run directory and in a checkpoint.

use std::path::{Path, PathBuf};

use terrace_base::{Tokens, fs};

use crate::Error;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const STATE: &str = "state.json";
pub(crate) const LOGS: &str = "logs.json";

const NAME_DIGITS: usize = 16;

/// Where a run keeps its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLayout {
    /// The run directory.
    pub root: PathBuf,
}

impl RunLayout {
    /// The layout of the run directory `root`, which need not be there yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the folders of the run.
    ///
    /// # Errors
    ///
    /// A folder cannot be made.
    pub fn create(&self) -> Result<(), Error> {
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(Error::write(&checkpoints))
    }

    /// Whether a run has been started here.
    #[must_use]
    pub fn is_run(&self) -> bool {
        self.config().is_file() && self.checkpoints().is_dir()
    }

    /// The configuration as resolved.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The plan that the run follows.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// One line per step.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// One line per decision of the controller.
    #[must_use]
    pub fn decisions(&self) -> PathBuf {
        self.root.join("decisions.jsonl")
    }

    /// One line per event that is neither: starts, resumes, skips, saves.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.jsonl")
    }

    /// One line per evaluation of the model.
    #[must_use]
    pub fn evaluations(&self) -> PathBuf {
        self.root.join("evaluations.jsonl")
    }

    /// The scored items of an evaluation at `tokens_seen`; without, of one of the model that the run's
    /// was made from.
    #[must_use]
    pub fn evaluation_items(&self, tokens_seen: Option<Tokens>) -> PathBuf {
        let name = tokens_seen.map_or_else(|| "base".to_owned(), checkpoint_name);
        self.root.join("evaluation").join(format!("{name}.jsonl"))
    }

    /// The configurations that the run has followed, one after the other.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The weights that the run began with, if they are those of another run.
    #[must_use]
    pub fn initial(&self) -> PathBuf {
        self.root.join("initial")
    }

    /// What came out of the run.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }

    /// The model that the run began with, if it was made deeper first.
    #[must_use]
    pub fn upscaled(&self) -> PathBuf {
        self.root.join("upscaled")
    }

    /// The folder of checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The checkpoint saved at `tokens_seen`.
    #[must_use]
    pub fn checkpoint(&self, tokens_seen: Tokens) -> PathBuf {
        self.checkpoints().join(checkpoint_name(tokens_seen))
    }

    /// The file that the training process locks.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}

/// The key of a parameter's first moment.
#[must_use]
pub fn exp_avg_name(parameter: &str) -> String {
    format!("exp_avg.{parameter}")
}

/// The key of a parameter's second moment.
#[must_use]
pub fn exp_avg_sq_name(parameter: &str) -> String {
    format!("exp_avg_sq.{parameter}")
}

/// The key of the scales of a moment that is kept in codes.
#[must_use]
pub fn scales_name(moment: &str) -> String {
    format!("{moment}.scales")
}

pub(crate) fn segment_name(index: usize) -> String {
    format!("segment-{index:04}.safetensors")
}

pub(crate) fn is_segment_name(file: &str) -> bool {
    file.starts_with("segment-")
}

/// Padded, so that listing a run by name lists it by age.
pub(crate) fn checkpoint_name(tokens_seen: Tokens) -> String {
    format!("{:0NAME_DIGITS$}", tokens_seen.0)
}

/// What a folder's name says, or nothing if it is not the name of a checkpoint.
pub(crate) fn tokens_in_name(path: &Path) -> Option<Tokens> {
    let name = path.file_name()?.to_str()?;
    let tokens_seen = Tokens(name.parse().ok()?);
    (checkpoint_name(tokens_seen) == name).then_some(tokens_seen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_names_as_written_are_checkpoints() {
        for name in ["4096", "0000000000004096-copy", ".tmp-1-0000000000004096", "+000000000004096"]
        {
            assert_eq!(tokens_in_name(Path::new(name)), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip_and_sort_by_age(one: u64, other: u64) {
            let path = RunLayout::new("run").checkpoint(Tokens(one));
            prop_assert_eq!(tokens_in_name(&path), Some(Tokens(one)));
            let (one, other) = (one % 10u64.pow(16), other % 10u64.pow(16));
            let names = (checkpoint_name(Tokens(one)), checkpoint_name(Tokens(other)));
            prop_assert_eq!(names.0.cmp(&names.1), one.cmp(&other));
        }
    }
}

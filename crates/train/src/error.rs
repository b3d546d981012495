//! Why a run could not start or go on.

use std::path::PathBuf;

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration does not resolve to a plan.
    #[error(transparent)]
    Config(#[from] terrace_config::Error),
    /// The model folder cannot be used.
    #[error(transparent)]
    Model(#[from] terrace_model::Error),
    /// An edition cannot be used.
    #[error(transparent)]
    Data(#[from] terrace_data::Error),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] terrace_checkpoint::Error),
    /// The mixture cannot be drawn as planned.
    #[error(transparent)]
    Mixture(#[from] terrace_policy::mixture::MixtureError),
    /// The batch policy makes no sense.
    #[error(transparent)]
    Batch(#[from] terrace_policy::batch::BatchError),
    /// A learning rate makes no sense.
    #[error(transparent)]
    LearningRate(#[from] terrace_policy::learning_rate::LearningRateError),
    /// A log of the run directory cannot be written.
    #[error("{path}: {source}")]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that the plan needs is not there.
    #[error("{what} is missing: {path}; {remedy}")]
    Missing {
        /// What it is.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// The run directory already holds a run.
    #[error(
        "{path} already holds a run: continue it with `terrace resume {path}`, or choose another \
         run_directory"
    )]
    RunExists {
        /// The run directory.
        path: PathBuf,
    },
    /// A directory holds no run.
    #[error("{path} is not a run directory: it has no config.toml and checkpoints folder")]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// A checkpoint belongs to another model or another code version.
    #[error("{path}: {reason}")]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Too many steps in a row gave a loss or a gradient that is not finite or spiked.
    #[error(
        "{count} steps in a row were not applied, the last at {tokens_seen} tokens because \
         {reason}; the checkpoint at {checkpoint} is intact. The windows are named in journal.jsonl: look at that data; `terrace resume` goes on \
         behind it, and takes a lower learning rate with --accept-changes"
    )]
    BadSteps {
        /// Bad steps in a row.
        count: u32,
        /// Where the run stopped.
        tokens_seen: u64,
        /// What was the matter with the last.
        reason: String,
        /// The checkpoint that was saved.
        checkpoint: PathBuf,
    },
    /// A loss spike lasts, and the run cannot or may not go back once more.
    #[error(
        "the loss spikes at {tokens_seen} tokens, and {reason}; no update of a spiking step was \
         applied, and the state is saved at {checkpoint}. The windows are named in journal.jsonl: \
         look at that data; `terrace resume` goes on behind it, and takes a lower \
         learning rate with --accept-changes"
    )]
    Spikes {
        /// Where the run stopped.
        tokens_seen: u64,
        /// Why it does not go back.
        reason: String,
        /// The checkpoint that was saved.
        checkpoint: PathBuf,
    },
    /// The state became worthless, and there is none to go back to, or it may not be gone back to.
    #[error(
        "at {tokens_seen} tokens a loss or gradient was not finite or spiked, after layers had been updated \
         with it (training.gradient_release), and {reason}. The windows are named in journal.jsonl: look at that \
         data; `terrace resume` goes on from the newest checkpoint, and takes a lower learning rate with \
         --accept-changes"
    )]
    Lost {
        /// Where the run stopped.
        tokens_seen: u64,
        /// Why it does not go back.
        reason: String,
    },
    /// The model could not be evaluated.
    #[error(
        "the evaluation at {tokens_seen} tokens failed; the state and what was scored are saved, and \
         `terrace resume` goes on with it once the cause is mended; with --set 'evaluation.tasks=[]' it \
         goes on without the tasks"
    )]
    Evaluation {
        /// Where the run stopped.
        tokens_seen: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system gives no thread to write a checkpoint with.
    #[error(
        "no thread can be begun to write a checkpoint with; allow the process more of them, or set \
         `checkpoint.asynchronous = false`; checkpoints saved earlier are as they were"
    )]
    Thread {
        /// Why.
        source: std::io::Error,
    },
    /// A file of the run's history was changed or cannot be read.
    #[error("{}: {reason}; only Terrace writes these files, restore it", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for would change what has happened.
    #[error("{reason}")]
    Past {
        /// What stands in the way.
        reason: String,
    },
    /// A run has no checkpoint where one was asked for.
    #[error(
        "{} has no checkpoint at {at} tokens; {}",
        path.display(), at_tokens(there)
    )]
    NoSuchCheckpoint {
        /// The run.
        path: PathBuf,
        /// The tokens asked for.
        at: u64,
        /// The tokens of those that it has.
        there: Vec<u64>,
    },
}

fn at_tokens(there: &[u64]) -> String {
    if there.is_empty() {
        return "it has none yet".to_owned();
    }
    let list: Vec<String> = there.iter().map(u64::to_string).collect();
    format!("there are some at {}", list.join(", "))
}

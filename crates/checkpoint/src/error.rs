//! What can be wrong with a checkpoint, and with saving one.

use std::io;
use std::path::{Path, PathBuf};

use terrace_base::{Fingerprint, Tokens, format_bytes};

/// Why a state could not be saved or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}; checkpoints saved earlier are as they were", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The disk has no room for the checkpoint.
    #[error(
        "no room to save {}: it takes at least {}, and {} are free; free some or lower \
         `checkpoint.keep_last`; checkpoints saved earlier are as they were",
        path.display(), format_bytes(*needed), format_bytes(*available)
    )]
    NoSpace {
        /// The checkpoint or the file of it that did not fit.
        path: PathBuf,
        /// The size of the whole checkpoint in bytes.
        needed: u64,
        /// The bytes that are free when nothing of this checkpoint is on disk.
        available: u64,
    },
    /// The state that was to be saved does not survive being written and read.
    #[error("the state for {} cannot be saved exactly: {reason}", path.display())]
    StateNotExact {
        /// The file that was to hold it.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The saved state is intact, but not what this version of Terrace expects.
    #[error(
        "{} does not hold the state that this version of Terrace saves; \
         resume with the version that wrote it",
        path.display()
    )]
    StateMismatch {
        /// The file.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// The checkpoint holds fewer segments than asked for.
    #[error("{} holds {segments} segments, expected one numbered {index}", path.display())]
    NoSegment {
        /// The checkpoint.
        path: PathBuf,
        /// What was asked for, counted from zero.
        index: usize,
        /// How many there are.
        segments: usize,
    },
    /// A segment does not hold a tensor, or holds it in another type than f32.
    #[error("{}: tensor `{name}` {reason}; is this the checkpoint of another model?", path.display())]
    Tensor {
        /// The segment's file.
        path: PathBuf,
        /// The tensor's key.
        name: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// A checkpoint is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// There is no checkpoint to resume from.
    #[error(
        "{} holds no checkpoint; a run saves its first one at its first `checkpoint.every_tokens` \
         or when it is stopped",
        directory.display()
    )]
    NoCheckpoint {
        /// The folder of checkpoints.
        directory: PathBuf,
    },
    /// All checkpoints are damaged.
    #[error("{} holds no valid checkpoint:{}", directory.display(), lines(skipped))]
    NoneValid {
        /// The folder of checkpoints.
        directory: PathBuf,
        /// What is wrong with each, newest first.
        skipped: Vec<Corruption>,
    },
    /// Another process trains into the run directory.
    #[error(
        "{} is in use by {}; stop it first, or choose another `run_directory`",
        root.display(), holder_text(*holder)
    )]
    Locked {
        /// The run directory.
        root: PathBuf,
        /// The process that holds the lock, if it says so.
        holder: Option<u32>,
    },
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write { path: path.to_owned(), source }
    }
}

/// Why a checkpoint is not to be trusted.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {}: {file} {damage}", checkpoint.display())]
pub struct Corruption {
    /// The checkpoint's folder.
    pub checkpoint: PathBuf,
    /// The name of the damaged file in it.
    pub file: String,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What is wrong with one file of a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// The operating system cannot read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It was cut or grew.
    #[error("has {found} bytes, expected {expected}")]
    Size {
        /// The bytes on disk.
        found: u64,
        /// The bytes that were written.
        expected: u64,
    },
    /// Its content changed.
    #[error("has hash {}…, expected {}…", found.short(), expected.short())]
    Hash {
        /// The hash of what is on disk.
        found: Fingerprint,
        /// The hash of what was written.
        expected: Fingerprint,
    },
    /// It is not the kind of file that it should be.
    #[error("is malformed: {0}")]
    Malformed(String),
    /// It was written by another version of Terrace.
    #[error("has format `{found}`, expected `{expected}`; the version that wrote it can read it")]
    Format {
        /// The format it names.
        found: String,
        /// The format that this version reads.
        expected: &'static str,
    },
    /// The folder was renamed or its files come from another checkpoint.
    #[error("is of {found} tokens seen, expected the {expected} of the folder's name")]
    Tokens {
        /// What the file says.
        found: Tokens,
        /// What the folder's name says.
        expected: Tokens,
    },
}

impl Damage {
    /// What an error from opening or reading a file means.
    pub(crate) fn from_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }

    pub(crate) fn of(self, checkpoint: &Path, file: &str) -> Corruption {
        Corruption { checkpoint: checkpoint.to_owned(), file: file.to_owned(), damage: self }
    }
}

fn lines(skipped: &[Corruption]) -> String {
    skipped.iter().map(|one| format!("\n  {one}")).collect()
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

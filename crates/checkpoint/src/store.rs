//! The checkpoints of a run.

use std::path::{Path, PathBuf};

use terrace_base::{Tokens, fs};

use crate::layout::{checkpoint_name, tokens_in_name};
use crate::{Checkpoint, CheckpointWriter, Corruption, Error, Facts, LogPositions, Saved};

/// A folder of checkpoints.
///
/// Anyone may read it at any time; only the holder of the run's [`RunLock`](crate::RunLock), which
/// hands out a store of its own, may save and remove.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// All checkpoints of a run, by a look at their manifests and sizes.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that look whole, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// Those that do not, oldest first.
    pub damaged: Vec<Corruption>,
}

/// The checkpoint to resume from.
#[derive(Debug)]
pub struct Newest {
    /// The newest of which every byte is as it was written.
    pub checkpoint: Checkpoint,
    /// What is wrong with those that are newer, newest first.
    pub skipped: Vec<Corruption>,
}

impl Store {
    /// The checkpoints in `directory`, which need not be there yet. Touches nothing.
    #[must_use]
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Begins to save a checkpoint.
    ///
    /// # Units
    ///
    /// `needed` is an estimate of the checkpoint's size in bytes; 0 if there is none.
    ///
    /// # Errors
    ///
    /// Fewer than `needed` bytes are free, or the folder cannot be written.
    pub fn begin(&self, facts: Facts, needed: u64) -> Result<CheckpointWriter, Error> {
        CheckpointWriter::begin(&self.directory, facts, needed)
    }

    /// Makes a checkpoint of another run one of this: the same weights, moments and state, with
    /// logs of its own, which begin where it is. Its files get a second name; only where the file
    /// system cannot do that are they copied.
    ///
    /// # Errors
    ///
    /// The other checkpoint is damaged or gone, or the folder cannot be written.
    pub fn adopt(&self, other: &Checkpoint) -> Result<Saved, Error> {
        other.verify()?;
        let mut writer = self.begin(other.facts().clone(), 0)?;
        writer.adopt(other)?;
        writer.logs(&LogPositions::new())?;
        writer.finish()
    }

    /// All checkpoints, by a look at their manifests and sizes only.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for path in self.paths()? {
            match Checkpoint::open(&path) {
                Ok(checkpoint) => listing.checkpoints.push(checkpoint),
                Err(corruption) => listing.damaged.push(corruption),
            }
        }
        Ok(listing)
    }

    /// The newest checkpoint of which every byte is as it was written, and why newer ones are not
    /// it.
    ///
    /// # Errors
    ///
    /// There is no checkpoint, or none is valid: the error says what is wrong with each.
    pub fn newest_valid(&self) -> Result<Newest, Error> {
        let mut skipped = Vec::new();
        for path in self.paths()?.iter().rev() {
            match verified(path) {
                Ok(checkpoint) => {
                    return Ok(Newest { checkpoint, skipped });
                }
                Err(corruption) => skipped.push(corruption),
            }
        }
        let directory = self.directory.clone();
        Err(if skipped.is_empty() {
            Error::NoCheckpoint { directory }
        } else {
            Error::NoneValid { directory, skipped }
        })
    }

    /// Removes the checkpoint saved at `tokens_seen`; a crash meanwhile leaves it whole or gone.
    ///
    /// # Errors
    ///
    /// It is not there or cannot be removed.
    pub fn remove(&self, tokens_seen: Tokens) -> Result<(), Error> {
        let path = self.directory.join(checkpoint_name(tokens_seen));
        fs::discard_dir(&path).map_err(Error::write(&path))
    }

    /// Removes what killed writers left. Not for readers: it would remove what is being written.
    pub(crate) fn remove_leftovers(&self) -> Result<(), Error> {
        let removed = fs::remove_temporaries(&self.directory);
        removed.map(|_| ()).map_err(Error::write(&self.directory))
    }

    /// The folders that are named like checkpoints, oldest first.
    fn paths(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::read(&self.directory))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(Error::read(&self.directory))?.path();
            if let Some(tokens_seen) = tokens_in_name(&path) {
                paths.push((tokens_seen, path));
            }
        }
        paths.sort();
        Ok(paths.into_iter().map(|(_, path)| path).collect())
    }
}

fn verified(path: &Path) -> Result<Checkpoint, Corruption> {
    let checkpoint = Checkpoint::open(path)?;
    checkpoint.verify()?;
    Ok(checkpoint)
}

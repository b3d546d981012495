//! Saving a checkpoint.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use terrace_base::fs::{self, AtomicDirectory};
use terrace_base::{Fingerprint, TensorEntry, TensorFileWriter};

use crate::layout::{LOGS, MANIFEST, STATE, checkpoint_name, segment_name};
use crate::manifest::Manifest;
use crate::{Checkpoint, Error, Facts, FileRecord, LogPositions};

/// A checkpoint being written under a temporary name.
///
/// Dropped without [`finish`](Self::finish), it leaves nothing behind.
pub struct CheckpointWriter {
    folder: AtomicDirectory,
    target: PathBuf,
    facts: Facts,
    files: Vec<FileRecord>,
    needed: u64,
}

/// A checkpoint that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its folder.
    pub path: PathBuf,
    /// The hash of all that decides how the run goes on.
    pub state_digest: Fingerprint,
    /// The size of its files but the manifest.
    pub bytes: u64,
}

impl CheckpointWriter {
    /// Begins a checkpoint in the folder of checkpoints, if `needed` bytes are free.
    pub(crate) fn begin(directory: &Path, facts: Facts, needed: u64) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::write(directory))?;
        let target = directory.join(checkpoint_name(facts.tokens_seen));
        let available = fs::available_bytes(directory).map_err(Error::read(directory))?;
        if available < needed {
            return Err(Error::NoSpace { path: target, needed, available });
        }
        let folder = AtomicDirectory::create(&target).map_err(Error::write(&target))?;
        Ok(Self { folder, target, facts, files: Vec::new(), needed })
    }

    /// Writes one model segment: `fill` gives each tensor's little-endian bytes in the order of
    /// `entries`.
    ///
    /// # Errors
    ///
    /// What `fill` reports, or the disk; the checkpoint is then to be dropped.
    ///
    /// # Panics
    ///
    /// `fill` gives more or fewer bytes than announced: a bug of the caller.
    pub fn segment(
        &mut self,
        index: usize,
        entries: &[TensorEntry],
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        let name = segment_name(index);
        let path = self.folder.path().join(&name);
        let written = TensorFileWriter::create(&path, entries, &[]).and_then(|mut file| {
            fill(&mut file)?;
            file.commit()
        });
        let (bytes, blake3) = written.map_err(|error| {
            let data: usize = entries.iter().map(TensorEntry::bytes).sum();
            self.failed(&name, data as u64, error)
        })?;
        self.files.push(FileRecord { name, bytes, blake3 });
        Ok(())
    }

    /// Writes everything else that decides how the run goes on.
    ///
    /// # Errors
    ///
    /// The state does not survive being written as JSON (a float that is not finite, a map with
    /// random order), or the disk refuses.
    ///
    /// # Determinism
    ///
    /// The same state gives the same bytes: that it does is checked here, by reading it back.
    pub fn state<T: Serialize + DeserializeOwned>(&mut self, state: &T) -> Result<(), Error> {
        let exact = exact_json(state)
            .map_err(|reason| Error::StateNotExact { path: self.target.join(STATE), reason })?;
        self.file(STATE, &exact)
    }

    /// Writes how long each log is.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn logs(&mut self, positions: &LogPositions) -> Result<(), Error> {
        self.file(LOGS, &json(positions).expect("a map of integers always serialises"))
    }

    /// Takes over segments and state of another checkpoint, whose files have been verified: by a
    /// second name for each where the file system can, so that nothing is on disk twice.
    ///
    /// # Errors
    ///
    /// A file is gone, or the disk refuses.
    pub(crate) fn adopt(&mut self, other: &Checkpoint) -> Result<(), Error> {
        for file in other.files().iter().filter(|file| file.name != LOGS) {
            let from = other.path().join(&file.name);
            fs::link_or_copy(&from, &self.folder.path().join(&file.name))
                .map_err(|error| self.failed(&file.name, file.bytes, error))?;
            self.files.push(file.clone());
        }
        Ok(())
    }

    /// Brings everything to disk, writes the manifest last, and gives the checkpoint its name.
    ///
    /// A checkpoint that already has the name is replaced.
    ///
    /// # Errors
    ///
    /// The disk refuses; nothing that a resume would trust is left.
    ///
    /// # Panics
    ///
    /// State, logs or a segment was not written, or one was written twice: a bug of the caller.
    pub fn finish(mut self) -> Result<Saved, Error> {
        let manifest = Manifest::new(self.facts.clone(), std::mem::take(&mut self.files));
        if let Err(reason) = manifest.check_files() {
            panic!("the manifest of {} is incomplete: {reason}", self.target.display());
        }
        self.file(MANIFEST, &manifest.to_bytes())?;
        let (target, needed) = (self.target, self.needed.max(manifest.bytes()));
        if let Err(error) = self.folder.commit() {
            return Err(refused(&target, needed, 0, error));
        }
        Ok(Saved { path: target, state_digest: manifest.state_digest, bytes: manifest.bytes() })
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let size = bytes.len() as u64;
        fs::write_atomic(&self.folder.path().join(name), bytes)
            .map_err(|error| self.failed(name, size, error))?;
        self.files.push(FileRecord {
            name: name.to_owned(),
            bytes: size,
            blake3: Fingerprint::of_bytes(bytes),
        });
        Ok(())
    }

    /// Says what a failed write of `size` bytes to the file `name` means.
    fn failed(&self, name: &str, size: u64, error: io::Error) -> Error {
        let written: u64 = self.files.iter().map(|file| file.bytes).sum();
        let needed = self.needed.max(written + size);
        refused(&self.target.join(name), needed, written, error)
    }
}

/// Tells a full disk from other failures; `written` bytes become free when the writer is dropped.
///
/// A disk that has the room but no inodes, or none for this user, is not helped by freeing bytes:
/// then the operating system's own words are told.
fn refused(path: &Path, needed: u64, written: u64, source: io::Error) -> Error {
    let directory = path.ancestors().skip(1).find(|parent| parent.is_dir());
    let available = directory.and_then(|parent| fs::available_bytes(parent).ok());
    let path = path.to_owned();
    match (source.kind(), available) {
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, Some(available))
            if available + written < needed =>
        {
            Error::NoSpace { path, needed, available: available + written }
        }
        _ => Error::Write { path, source },
    }
}

/// The state as JSON, or why JSON cannot hold it.
fn exact_json<T: Serialize + DeserializeOwned>(state: &T) -> Result<Vec<u8>, String> {
    let bytes = json(state).map_err(|error| error.to_string())?;
    let read: T = serde_json::from_slice(&bytes)
        .map_err(|error| format!("what is written cannot be read back: {error}"))?;
    match json(&read) {
        Ok(again) if again == bytes => Ok(bytes),
        _ => Err("what is read back is written differently".to_owned()),
    }
}

fn json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_what_is_free() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("0000000000001024/segment-0000.safetensors");
        let full = || io::ErrorKind::StorageFull.into();
        let error = refused(&path, u64::MAX, 7, full());
        assert!(
            matches!(error, Error::NoSpace { needed: u64::MAX, available, .. } if available > 7),
            "{error}"
        );
        let error = refused(&path, 1, 0, full());
        assert!(matches!(error, Error::Write { .. }), "{error}");
    }
}

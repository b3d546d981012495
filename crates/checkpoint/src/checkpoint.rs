//! Reading a checkpoint back.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use terrace_base::{Fingerprint, Tokens};

use crate::layout::{LOGS, MANIFEST, STATE, segment_name, tokens_in_name};
use crate::manifest::{FORMAT, Manifest};
use crate::{Corruption, Damage, Error, Facts, FileRecord, LogPositions, Segment};

/// A checkpoint whose manifest is sound and whose files have the sizes it says.
///
/// The content of the segments is trusted only after [`verify`](Self::verify).
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Reads the manifest and compares the sizes of all files with it, which is cheap.
    ///
    /// # Errors
    ///
    /// The manifest or a file is missing, cut or of another version, and which one.
    pub fn open(path: &Path) -> Result<Self, Corruption> {
        let manifest = std::fs::read(path.join(MANIFEST))
            .map_err(Damage::from_io)
            .and_then(|bytes| Manifest::from_bytes(&bytes))
            .and_then(|manifest| check_name(path, manifest))
            .map_err(|damage| damage.of(path, MANIFEST))?;
        for file in &manifest.files {
            check_size(path, file).map_err(|damage| damage.of(path, &file.name))?;
        }
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// Whether the folder is a checkpoint, sound or damaged, rather than something else.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        let name = FORMAT.split('/').next().expect("a split has a first part");
        let says_so = std::fs::read_to_string(path.join(MANIFEST))
            .is_ok_and(|manifest| manifest.contains(name));
        says_so || path.join(STATE).is_file()
    }

    /// Hashes all files, on all cores, and compares them with the manifest.
    ///
    /// # Errors
    ///
    /// The first file, by name, that is not what was written.
    pub fn verify(&self) -> Result<(), Corruption> {
        let damaged = self.manifest.files.par_iter().find_map_first(|file| {
            let found = Fingerprint::of_file(&self.path.join(&file.name)).map_err(Damage::from_io);
            let checked = found.and_then(|found| check_hash(file, found));
            checked.err().map(|damage| damage.of(&self.path, &file.name))
        });
        damaged.map_or(Ok(()), Err)
    }

    /// The saved state, its hash checked.
    ///
    /// # Errors
    ///
    /// The file is damaged, or holds another state than `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.read_json(STATE)
    }

    /// The lengths of the logs, their hash checked.
    ///
    /// # Errors
    ///
    /// The file is damaged.
    pub fn logs(&self) -> Result<LogPositions, Error> {
        self.read_json(LOGS)
    }

    /// The number of segments.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.manifest.segments()
    }

    /// The tensors of segment `index`, mapped; their hash is checked by [`verify`](Self::verify).
    ///
    /// # Errors
    ///
    /// There is no such segment, or its file is damaged.
    pub fn segment(&self, index: usize) -> Result<Segment, Error> {
        let segments = self.segments();
        if index >= segments {
            return Err(Error::NoSegment { path: self.path.clone(), index, segments });
        }
        let name = segment_name(index);
        let segment = Segment::open(&self.path.join(&name));
        Ok(segment.map_err(|damage| damage.of(&self.path, &name))?)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The facts it was saved with.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.manifest.facts
    }

    /// The tokens that the run had seen.
    #[must_use]
    pub fn tokens_seen(&self) -> Tokens {
        self.manifest.facts.tokens_seen
    }

    /// The hash of all that decides how the run goes on; logs and times are not in it.
    #[must_use]
    pub fn state_digest(&self) -> Fingerprint {
        self.manifest.state_digest
    }

    /// Its files but the manifest, by name.
    #[must_use]
    pub fn files(&self) -> &[FileRecord] {
        &self.manifest.files
    }

    /// The size of its files but the manifest.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.manifest.bytes()
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let path = self.path.join(name);
        let file = self.manifest.file(name).expect("a sound manifest names it");
        let bytes = std::fs::read(&path)
            .map_err(Damage::from_io)
            .and_then(|bytes| check_hash(file, Fingerprint::of_bytes(&bytes)).map(|()| bytes))
            .map_err(|damage| damage.of(&self.path, name))?;
        serde_json::from_slice(&bytes).map_err(|source| Error::StateMismatch { path, source })
    }
}

/// A copy under any other name is fine; under the name of another checkpoint it is not.
fn check_name(path: &Path, manifest: Manifest) -> Result<Manifest, Damage> {
    let found = manifest.facts.tokens_seen;
    match tokens_in_name(path) {
        Some(expected) if expected != found => Err(Damage::Tokens { found, expected }),
        _ => Ok(manifest),
    }
}

fn check_size(checkpoint: &Path, file: &FileRecord) -> Result<(), Damage> {
    let metadata = std::fs::metadata(checkpoint.join(&file.name)).map_err(Damage::from_io)?;
    let (found, expected) = (metadata.len(), file.bytes);
    match () {
        () if !metadata.is_file() => Err(Damage::Malformed("it is not a file".to_owned())),
        () if found != expected => Err(Damage::Size { found, expected }),
        () => Ok(()),
    }
}

fn check_hash(file: &FileRecord, found: Fingerprint) -> Result<(), Damage> {
    let expected = file.blake3;
    if found == expected { Ok(()) } else { Err(Damage::Hash { found, expected }) }
}

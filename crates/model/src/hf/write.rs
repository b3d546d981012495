//! Writing the weights of a folder as a stream, in one file or in shards with an index.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use terrace_base::{Fingerprint, TensorEntry, TensorFileWriter, fs};

use super::{CONFIG, INDEX, WEIGHTS};
use crate::Error;

/// Writes tensors one after the other into the files of a folder that exists.
///
/// The caller wraps it in [`fs::AtomicDirectory`] where the folder must appear whole.
pub struct FolderWriter {
    folder: PathBuf,
    entries: Vec<TensorEntry>,
    shards: Vec<Range<usize>>,
    /// The tensor that is written next.
    next: usize,
    open: Option<TensorFileWriter>,
    files: Vec<WrittenFile>,
}

/// A weight file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The blake3 hash of its bytes.
    pub hash: Fingerprint,
}

impl FolderWriter {
    /// Lays `entries` out over files of at most `maximum_shard_bytes`, or one tensor.
    #[must_use]
    pub fn new(folder: &Path, entries: Vec<TensorEntry>, maximum_shard_bytes: u64) -> Self {
        let shards = split(&entries, maximum_shard_bytes);
        let folder = folder.to_owned();
        Self { folder, entries, shards, next: 0, open: None, files: Vec::new() }
    }

    /// Writes the next tensor: `write` is given where its bytes go, and gives all of them.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or `write` fails.
    pub fn tensor<E: From<Error>>(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let shard = self.shard_of(self.next);
        let path = self.path(shard);
        let mut file = match self.open.take() {
            Some(file) => file,
            None => {
                let entries = &self.entries[self.shards[shard].clone()];
                TensorFileWriter::create(&path, entries, &[("format", "pt")])
                    .map_err(Error::io(&path))?
            }
        };
        write(&mut file)?;
        self.next += 1;
        if self.next == self.shards[shard].end {
            let (bytes, hash) = file.commit().map_err(Error::io(&path))?;
            self.files.push(WrittenFile { name: self.name(shard), bytes, hash });
        } else {
            self.open = Some(file);
        }
        Ok(())
    }

    /// The file that the next tensor goes to, for messages.
    #[must_use]
    pub fn next_path(&self) -> PathBuf {
        self.path(self.shard_of(self.next))
    }

    /// Writes the index, if there is more than one file, and `config.json`.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    ///
    /// # Panics
    ///
    /// A tensor has not been written: a bug of the caller.
    pub fn finish(self, config: &Value) -> Result<Vec<WrittenFile>, Error> {
        assert_eq!(self.next, self.entries.len(), "every tensor is written");
        if self.shards.len() > 1 {
            let total: usize = self.entries.iter().map(TensorEntry::bytes).sum();
            let place = |(index, entry): (usize, &TensorEntry)| {
                (entry.name.clone(), Value::String(self.name(self.shard_of(index))))
            };
            let weight_map: Map<String, Value> =
                self.entries.iter().enumerate().map(place).collect();
            let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
            write_json(&self.folder.join(INDEX), &index)?;
        }
        write_json(&self.folder.join(CONFIG), config)?;
        Ok(self.files)
    }

    fn shard_of(&self, tensor: usize) -> usize {
        self.shards.partition_point(|shard| shard.end <= tensor).min(self.shards.len() - 1)
    }

    fn name(&self, shard: usize) -> String {
        match self.shards.len() {
            1 => WEIGHTS.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", shard + 1),
        }
    }

    fn path(&self, shard: usize) -> PathBuf {
        self.folder.join(self.name(shard))
    }
}

fn split(entries: &[TensorEntry], maximum_shard_bytes: u64) -> Vec<Range<usize>> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, entry) in entries.iter().enumerate() {
        let size = entry.bytes() as u64;
        if index > start && bytes + size > maximum_shard_bytes {
            shards.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    shards.push(start..entries.len());
    shards
}

fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).expect("JSON values always serialise");
    text.push('\n');
    fs::write_atomic(path, text.as_bytes()).map_err(Error::io(path))
}

/// Copies what belongs to a model but is not its weights into a folder.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn copy_companions(paths: &[PathBuf], folder: &Path) -> Result<(), Error> {
    for path in paths {
        let Some(name) = path.file_name() else { continue };
        let target = folder.join(name);
        let copy = || -> io::Result<()> { fs::write_atomic(&target, &std::fs::read(path)?) };
        copy().map_err(Error::io(path))?;
    }
    Ok(())
}

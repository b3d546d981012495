use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, ListArray, RecordBatch, UInt16Array, UInt32Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use terrace_base::Fingerprint;
use terrace_base::fs::AtomicFile;

use crate::pack::PackedWindow;
use crate::schema::{batch_windows, start_item, token_item, window_schema};
use crate::{EditionHeader, Error, Result, ShardEntry, TargetCounts, TokenType, count_targets};

/// A shard that is written.
#[derive(Clone, Debug)]
pub struct FinishedShard {
    pub(crate) entry: ShardEntry,
    pub(crate) target_tokens: u64,
    pub(crate) target_bytes: u64,
}

/// Writes the windows of one shard.
///
/// # Determinism
///
/// The file's bytes are a function of the windows and of the edition's header.
pub struct ShardWriter {
    name: String,
    path: PathBuf,
    schema: SchemaRef,
    token_type: TokenType,
    byte_lengths: Arc<[u32]>,
    file: FileWriter<Hashing<AtomicFile>>,
    batch: Columns,
    batch_windows: usize,
    windows: u64,
    target_tokens: u64,
    target_bytes: u64,
}

/// The record batch being filled.
#[derive(Default)]
struct Columns {
    tokens: Vec<u32>,
    start_offsets: Vec<i32>,
    starts: Vec<u32>,
    lengths: Vec<u32>,
    target_tokens: Vec<u32>,
    target_bytes: Vec<u32>,
}

impl ShardWriter {
    pub(crate) fn create(
        directory: &Path,
        name: String,
        header: &EditionHeader,
        token_type: TokenType,
    ) -> Result<Self> {
        let path = directory.join(&name);
        let schema = window_schema(token_type, header.sequence_length);
        let open = || {
            // 64 bytes is what a cache line and the widest vector want.
            let options = IpcWriteOptions::try_new(64, false, MetadataVersion::V5)?;
            let file = Hashing::new(AtomicFile::create(&path)?);
            FileWriter::try_new_with_options(file, &schema, options)
        };
        let file = open().map_err(|error| write_error(&path, error))?;
        Ok(Self {
            name,
            file,
            token_type,
            byte_lengths: Arc::clone(&header.byte_lengths),
            batch: Columns::default(),
            batch_windows: batch_windows(header.sequence_length),
            windows: 0,
            target_tokens: 0,
            target_bytes: 0,
            path,
            schema,
        })
    }

    /// Adds a window.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn push(&mut self, window: &PackedWindow) -> Result<()> {
        let targets = count_targets(
            &window.tokens,
            window.length,
            &window.document_starts,
            &self.byte_lengths,
        );
        self.windows += 1;
        self.target_tokens += u64::from(targets.tokens);
        self.target_bytes += u64::from(targets.bytes);
        self.batch.push(window, targets);
        if self.batch.lengths.len() == self.batch_windows { self.flush() } else { Ok(()) }
    }

    /// Brings the shard to disk under its name.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<FinishedShard> {
        if !self.batch.lengths.is_empty() {
            self.flush()?;
        }
        let path = self.path;
        let hashing = self.file.into_inner().map_err(|error| write_error(&path, error))?;
        let (bytes, blake3) = (hashing.bytes, hashing.fingerprint());
        let file = hashing.inner;
        file.commit().map_err(|source| Error::Write { path, source })?;
        Ok(FinishedShard {
            entry: ShardEntry { file: self.name, windows: self.windows, bytes, blake3 },
            target_tokens: self.target_tokens,
            target_bytes: self.target_bytes,
        })
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch).into_batch(&self.schema, self.token_type);
        self.file.write(&batch).map_err(|error| write_error(&self.path, error))
    }
}

impl Columns {
    fn push(&mut self, window: &PackedWindow, targets: TargetCounts) {
        self.tokens.extend_from_slice(&window.tokens);
        self.starts.extend_from_slice(&window.document_starts);
        self.start_offsets.push(i32::try_from(self.starts.len()).expect("fewer than tokens"));
        self.lengths.push(window.length);
        self.target_tokens.push(targets.tokens);
        self.target_bytes.push(targets.bytes);
    }

    fn into_batch(mut self, schema: &SchemaRef, token_type: TokenType) -> RecordBatch {
        self.start_offsets.insert(0, 0);
        let size =
            i32::try_from(self.tokens.len() / self.lengths.len()).expect("a window is short");
        let tokens: ArrayRef = match token_type {
            TokenType::U16 => Arc::new(UInt16Array::from_iter_values(
                self.tokens.iter().map(|&id| u16::try_from(id).expect("within the vocabulary")),
            )),
            TokenType::U32 => Arc::new(UInt32Array::from(self.tokens)),
        };
        let starts = Arc::new(UInt32Array::from(self.starts));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.start_offsets));
        let scalar = |column: Vec<u32>| Arc::new(UInt32Array::from(column)) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeListArray::new(token_item(token_type), size, tokens, None)),
            Arc::new(ListArray::new(start_item(), offsets, starts, None)),
            scalar(self.lengths),
            scalar(self.target_tokens),
            scalar(self.target_bytes),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns).expect("the columns are the schema's")
    }
}

/// Hashes what goes through it.
struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(*self.hasher.finalize().as_bytes())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn write_error(path: &Path, error: ArrowError) -> Error {
    let source = match error {
        ArrowError::IoError(_, source) => source,
        other => io::Error::other(other),
    };
    Error::Write { path: path.to_owned(), source }
}

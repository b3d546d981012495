//! Setting tokenised documents aside on disk, bucket by bucket.
//!
//! All buckets of a spill share one file, which has no name: it takes one file descriptor however
//! many buckets there are, and vanishes with the process, however that ends. A bucket is a chain of
//! blocks, each of which begins with the place of the one before it, so that what is remembered of
//! a bucket in memory does not grow with it.

use std::fs::File;
use std::io::{self, Cursor};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::chain::ContentHash;
use crate::chain::columns::hashes;
use crate::{Error, Result};

/// Blocks are at least this large, so that their headers do not count.
const MINIMUM_BLOCK: u64 = 4 << 10;
/// Larger blocks are not read or written any faster.
const MAXIMUM_BLOCK: u64 = 1 << 20;
/// Offset and length of the block before, at the head of each block.
const LINK_BYTES: usize = 16;
/// What a block takes beside its columns, more or less: the schema and the message's frame.
const ENVELOPE_BYTES: usize = 2 << 10;

/// Documents being sorted into buckets.
pub(super) struct Spill {
    file: Arc<SpillFile>,
    buckets: Vec<Mutex<Filling>>,
    block_bytes: u64,
}

/// The documents of one bucket, on disk.
pub(super) struct Bucket {
    file: Arc<SpillFile>,
    last: Block,
    bytes: u64,
}

struct SpillFile {
    file: File,
    end: AtomicU64,
    directory: PathBuf,
}

#[derive(Default)]
struct Filling {
    pending: Vec<RecordBatch>,
    pending_bytes: u64,
    /// The block that was written last.
    last: Block,
    bytes: u64,
}

/// A place in the file; without length, none: it ends a chain.
#[derive(Clone, Copy, Default)]
struct Block {
    offset: u64,
    length: u64,
}

impl Block {
    fn link(self) -> [u8; LINK_BYTES] {
        let mut link = [0; LINK_BYTES];
        link[..8].copy_from_slice(&self.offset.to_le_bytes());
        link[8..].copy_from_slice(&self.length.to_le_bytes());
        link
    }

    fn of_link(link: &[u8]) -> Self {
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        Self { offset: number(&link[..8]), length: number(&link[8..LINK_BYTES]) }
    }
}

impl Spill {
    /// Opens a file in `directory` for this many buckets, which hold about `buffer_bytes` in memory
    /// altogether.
    pub(super) fn create(directory: &Path, buckets: usize, buffer_bytes: u64) -> Result<Self> {
        let failed = |source| Error::Spill { directory: directory.to_owned(), source };
        terrace_base::fs::create_dir_all(directory).map_err(failed)?;
        let file = tempfile::tempfile_in(directory).map_err(failed)?;
        let file = SpillFile { file, end: AtomicU64::new(0), directory: directory.to_owned() };
        Ok(Self {
            file: Arc::new(file),
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
            block_bytes: (buffer_bytes / buckets as u64).clamp(MINIMUM_BLOCK, MAXIMUM_BLOCK),
        })
    }

    /// Sorts documents into buckets by their hash; `None` drops one.
    pub(super) fn add(
        &self,
        documents: &RecordBatch,
        mut bucket_of: impl FnMut(&ContentHash) -> Option<usize>,
    ) -> Result<()> {
        let mut rows: Vec<(usize, u32)> = (0u32..)
            .zip(hashes(documents))
            .filter_map(|(row, hash)| Some((bucket_of(&hash)?, row)))
            .collect();
        rows.sort_unstable();
        for group in rows.chunk_by(|a, b| a.0 == b.0) {
            let indices = UInt32Array::from_iter_values(group.iter().map(|&(_, row)| row));
            let taken = take_record_batch(documents, &indices).expect("the rows exist");
            self.add_to(group[0].0, taken)?;
        }
        Ok(())
    }

    fn add_to(&self, bucket: usize, documents: RecordBatch) -> Result<()> {
        let mut filling = self.buckets[bucket].lock().unwrap_or_else(PoisonError::into_inner);
        filling.pending_bytes += documents.get_array_memory_size() as u64;
        filling.pending.push(documents);
        if filling.pending_bytes < self.block_bytes {
            return Ok(());
        }
        self.file.flush(&mut filling)
    }

    /// Writes what is still in memory and gives the buckets.
    pub(super) fn finish(self) -> Result<Vec<Bucket>> {
        let finished = self.buckets.into_iter().map(|bucket| {
            let mut filling = bucket.into_inner().unwrap_or_else(PoisonError::into_inner);
            self.file.flush(&mut filling)?;
            let Filling { last, bytes, .. } = filling;
            Ok(Bucket { file: Arc::clone(&self.file), last, bytes })
        });
        finished.collect()
    }
}

impl Bucket {
    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The documents, block by block, those that were written last first.
    pub(super) fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        let mut next = self.last;
        std::iter::from_fn(move || {
            (next.length > 0).then(|| {
                let (batch, before) = self.file.read(next)?;
                next = before;
                Ok(batch)
            })
        })
    }
}

impl SpillFile {
    fn flush(&self, filling: &mut Filling) -> Result<()> {
        let Some(first) = filling.pending.first() else { return Ok(()) };
        let joined =
            concat_batches(&first.schema(), &filling.pending).map_err(|e| self.failed(e))?;
        filling.pending.clear();
        filling.pending_bytes = 0;
        let bytes = encode(filling.last, &joined).map_err(|error| self.failed(error))?;
        let length = bytes.len() as u64;
        let offset = self.end.fetch_add(length, Ordering::Relaxed);
        self.file.write_all_at(&bytes, offset).map_err(|error| self.failed(error.into()))?;
        filling.last = Block { offset, length };
        filling.bytes += length;
        Ok(())
    }

    /// The documents of a block, and the block before it.
    fn read(&self, block: Block) -> Result<(RecordBatch, Block)> {
        let mut bytes = vec![0; usize::try_from(block.length).expect("it was in memory before")];
        self.file
            .read_exact_at(&mut bytes, block.offset)
            .map_err(|error| self.failed(error.into()))?;
        decode(bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ArrowError) -> Error {
        let source = match error {
            ArrowError::IoError(_, source) => source,
            other => io::Error::other(other),
        };
        Error::Spill { directory: self.directory.clone(), source }
    }
}

fn encode(before: Block, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::with_capacity(batch.get_array_memory_size() + ENVELOPE_BYTES);
    bytes.extend_from_slice(&before.link());
    let mut writer = StreamWriter::try_new(bytes, &batch.schema())?;
    writer.write(batch)?;
    writer.into_inner()
}

fn decode(bytes: Vec<u8>) -> Result<(RecordBatch, Block), ArrowError> {
    let before = Block::of_link(&bytes);
    let mut reader = Cursor::new(bytes);
    reader.set_position(LINK_BYTES as u64);
    let mut reader = StreamReader::try_new(reader, None)?;
    let batch =
        reader.next().unwrap_or_else(|| Err(ArrowError::IpcError("a block is empty".to_owned())));
    Ok((batch?, before))
}

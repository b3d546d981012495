//! Reading one shard: a mapped Arrow IPC file whose columns are used where they lie.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Schema, UInt16Type, UInt32Type};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer};

use crate::schema::window_schema;
use crate::{Error, Result, ShardEntry, TokenSlice, TokenType, Window};

/// The columns of one record batch, borrowed from the mapping.
struct Batch {
    tokens: TokenBuffer,
    start_offsets: OffsetBuffer<i32>,
    starts: ScalarBuffer<u32>,
    lengths: ScalarBuffer<u32>,
    target_tokens: ScalarBuffer<u32>,
    target_bytes: ScalarBuffer<u32>,
}

enum TokenBuffer {
    U16(ScalarBuffer<u16>),
    U32(ScalarBuffer<u32>),
}

/// An open shard.
pub(crate) struct Shard {
    batches: Vec<Batch>,
    batch_windows: usize,
    row: usize,
}

impl Shard {
    /// Maps a shard and finds its columns; reads little more than the footer.
    pub(crate) fn open(
        directory: &Path,
        entry: &ShardEntry,
        token_type: TokenType,
        sequence_length: usize,
    ) -> Result<Self> {
        let path = directory.join(&entry.file);
        let buffer = map(&path, entry.bytes)?;
        let schema = window_schema(token_type, sequence_length);
        // The decoder asserts on offsets that a damaged footer can hold; such a file is bad
        // input, and says so like any other.
        let decoded = std::panic::catch_unwind(|| decode(&buffer, &schema))
            .unwrap_or_else(|_| Err("its metadata cannot be decoded".to_owned()));
        let damaged = |reason| Error::Shard { path: path.clone(), reason };
        let batches = decoded.map_err(damaged)?;
        let counts: Vec<usize> = batches.iter().map(|batch| batch.lengths.len()).collect();
        let windows: usize = counts.iter().sum();
        if windows as u64 != entry.windows {
            let expected = entry.windows;
            return Err(damaged(format!("it holds {windows} windows, expected {expected}")));
        }
        // Random access divides by the batch size.
        let batch_windows = counts.first().copied().unwrap_or(0);
        let even = counts.iter().rev().skip(1).all(|&count| count == batch_windows);
        if !even || counts.last().is_some_and(|&last| last > batch_windows) {
            return Err(damaged("its record batches are not equally large".to_owned()));
        }
        Ok(Self { batches, batch_windows, row: sequence_length + 1 })
    }

    pub(crate) fn window(&self, index: usize) -> Window<'_> {
        let batch = &self.batches[index / self.batch_windows];
        let i = index % self.batch_windows;
        let tokens = i * self.row..(i + 1) * self.row;
        let starts = batch.start_offsets[i] as usize..batch.start_offsets[i + 1] as usize;
        Window {
            tokens: match &batch.tokens {
                TokenBuffer::U16(all) => TokenSlice::U16(&all[tokens]),
                TokenBuffer::U32(all) => TokenSlice::U32(&all[tokens]),
            },
            document_starts: &batch.starts[starts],
            length: batch.lengths[i],
            target_tokens: batch.target_tokens[i],
            target_bytes: batch.target_bytes[i],
        }
    }
}

#[expect(unsafe_code, reason = "a memory map is the zero-copy way to random windows")]
fn map(path: &Path, expected: u64) -> Result<Buffer> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::MissingShard { path: path.to_owned() });
        }
        result => result.map_err(read)?,
    };
    let found = file.metadata().map_err(read)?.len();
    if found != expected {
        return Err(Error::ShardSize { path: path.to_owned(), found, expected });
    }
    // SAFETY: the shards of an edition are never written again once its manifest exists, so the
    // bytes do not change while they are borrowed. Truncating a shard under a running process
    // breaks that contract and ends the process with SIGBUS.
    let mapping = unsafe { memmap2::Mmap::map(&file) }.map_err(read)?;
    Ok(Buffer::from(bytes::Bytes::from_owner(mapping)))
}

fn decode(buffer: &Buffer, schema: &Arc<Schema>) -> Result<Vec<Batch>, String> {
    let message = |error: &dyn std::fmt::Display| error.to_string();
    let tail = buffer.len().checked_sub(10).ok_or("it is too short for an Arrow file")?;
    let trailer: [u8; 10] = buffer[tail..].try_into().expect("ten bytes");
    let length = read_footer_length(trailer).map_err(|e| message(&e))?;
    let begin = tail.checked_sub(length).ok_or("its footer is longer than the file")?;
    let footer = root_as_footer(&buffer[begin..tail]).map_err(|e| message(&e))?;
    let stored = fb_to_schema(footer.schema().ok_or("its footer has no schema")?);
    if stored.fields() != schema.fields() {
        return Err(format!(
            "its columns are {:?}, expected {:?}",
            stored.fields(),
            schema.fields()
        ));
    }
    let decoder =
        FileDecoder::new(Arc::clone(schema), footer.version()).with_require_alignment(true);
    let blocks = footer.recordBatches().ok_or("its footer lists no record batches")?;
    blocks
        .iter()
        .map(|block| {
            let body = slice(buffer, block).ok_or("a record batch lies outside the file")?;
            let batch = decoder
                .read_record_batch(block, &body)
                .map_err(|e| message(&e))?
                .ok_or("a record batch is empty")?;
            Batch::of(&batch)
        })
        .collect()
}

fn slice(buffer: &Buffer, block: &Block) -> Option<Buffer> {
    let offset = usize::try_from(block.offset()).ok()?;
    let length = usize::try_from(block.bodyLength())
        .ok()?
        .checked_add(usize::try_from(block.metaDataLength()).ok()?)?;
    (offset.checked_add(length)? <= buffer.len()).then(|| buffer.slice_with_length(offset, length))
}

impl Batch {
    fn of(batch: &RecordBatch) -> Result<Self, String> {
        if batch.columns().iter().any(|column| column.null_count() > 0) {
            return Err("a column has nulls".to_owned());
        }
        let scalar = |index: usize| values(batch.column(index));
        let tokens = batch.column(0).as_fixed_size_list().values();
        let starts = batch.column(1).as_list::<i32>();
        Ok(Self {
            tokens: match tokens.as_primitive_opt::<UInt16Type>() {
                Some(narrow) => TokenBuffer::U16(narrow.values().clone()),
                None => TokenBuffer::U32(values(tokens)),
            },
            start_offsets: starts.offsets().clone(),
            starts: values(starts.values()),
            lengths: scalar(2),
            target_tokens: scalar(3),
            target_bytes: scalar(4),
        })
    }
}

/// The schema has been checked, so the column has this type.
fn values(column: &ArrayRef) -> ScalarBuffer<u32> {
    column.as_primitive::<UInt32Type>().values().clone()
}

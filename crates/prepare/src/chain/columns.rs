//! The columns that record batches have on their way through the chain.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use terrace_data::TokenType;

/// Number of the input file in the list of inputs, `UInt32`.
pub const FILE: &str = "file";
/// Row in the file, from 0, `UInt64`.
pub const ROW: &str = "row";
/// A line of a JSON-lines file, nullable `LargeBinary`; null stands for a line that is too long.
pub const LINE: &str = "line";
/// The text: nullable `LargeBinary` as it was read, `LargeUtf8` once it is known to be text.
pub const TEXT: &str = "text";
/// What the identifier column says, nullable `Utf8`.
pub const ID: &str = "id";
/// BLAKE3 of the normalised text, `FixedSizeBinary(32)`.
pub const CONTENT_HASH: &str = "content_hash";
/// Length of the normalised text in bytes, `UInt32`.
pub const TEXT_BYTES: &str = "text_bytes";
/// Token ids, `List<UInt16>` or `List<UInt32>`.
pub const TOKENS: &str = "tokens";

/// The length of a content hash.
pub const HASH_BYTES: usize = 32;

/// Rows of a JSON-lines file before they are parsed.
#[must_use]
pub fn lines_schema() -> SchemaRef {
    schema([Field::new(LINE, DataType::LargeBinary, true)])
}

/// Rows as they come out of a file.
#[must_use]
pub fn raw_schema() -> SchemaRef {
    schema([Field::new(TEXT, DataType::LargeBinary, true), Field::new(ID, DataType::Utf8, true)])
}

/// Documents with text that can be relied on.
#[must_use]
pub fn documents_schema() -> SchemaRef {
    schema([Field::new(TEXT, DataType::LargeUtf8, false)])
}

/// Documents with text and its hash.
#[must_use]
pub fn hashed_schema() -> SchemaRef {
    schema([Field::new(TEXT, DataType::LargeUtf8, false), hash_field()])
}

/// Documents with tokens in place of text.
#[must_use]
pub fn tokenized_schema(token_type: TokenType) -> SchemaRef {
    schema([
        hash_field(),
        Field::new(TEXT_BYTES, DataType::UInt32, false),
        Field::new(TOKENS, DataType::List(token_item(token_type)), false),
    ])
}

pub(crate) fn token_item(token_type: TokenType) -> Arc<Field> {
    let data_type = match token_type {
        TokenType::U16 => DataType::UInt16,
        TokenType::U32 => DataType::UInt32,
    };
    Arc::new(Field::new("item", data_type, false))
}

fn hash_field() -> Field {
    Field::new(CONTENT_HASH, DataType::FixedSizeBinary(HASH_BYTES as i32), false)
}

fn schema<const N: usize>(fields: [Field; N]) -> SchemaRef {
    let origin =
        [Field::new(FILE, DataType::UInt32, false), Field::new(ROW, DataType::UInt64, false)];
    Arc::new(Schema::new(origin.into_iter().chain(fields).collect::<Vec<_>>()))
}

/// A column by its name; panics when the batch is at another place of the chain.
pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("the batch has no column {name}"))
}

/// Where the rows of a batch are from.
pub(crate) fn origins(batch: &RecordBatch) -> (&UInt32Array, &UInt64Array) {
    (
        column(batch, FILE).as_primitive::<UInt32Type>(),
        column(batch, ROW).as_primitive::<UInt64Type>(),
    )
}

/// A batch with the origin columns of `batch` and other columns after them.
pub(crate) fn with_origin(
    batch: &RecordBatch,
    schema: SchemaRef,
    columns: impl IntoIterator<Item = ArrayRef>,
) -> RecordBatch {
    let origin = [FILE, ROW].map(|name| Arc::clone(column(batch, name)));
    let columns: Vec<ArrayRef> = origin.into_iter().chain(columns).collect();
    RecordBatch::try_new(schema, columns).expect("the columns are the schema's")
}

/// The rows of a batch that `keep` says yes to.
pub(crate) fn filter(batch: RecordBatch, keep: &[bool]) -> RecordBatch {
    debug_assert_eq!(batch.num_rows(), keep.len());
    if keep.iter().all(|&keep| keep) {
        return batch;
    }
    let mask = arrow::array::BooleanArray::from(keep.to_vec());
    arrow::compute::filter_record_batch(&batch, &mask).expect("one answer per row")
}

/// The hash in each row.
pub(crate) fn hashes(batch: &RecordBatch) -> impl ExactSizeIterator<Item = [u8; HASH_BYTES]> + '_ {
    let hashes = column(batch, CONTENT_HASH).as_fixed_size_binary();
    (0..hashes.len()).map(|row| hashes.value(row).try_into().expect("a hash has 32 bytes"))
}

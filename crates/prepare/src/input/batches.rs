//! Cutting what a file yields into batches of a few megabytes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, LargeBinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
    new_null_array,
};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::DataType;

use super::InputFile;
use crate::chain::columns::raw_schema;
use crate::{Error, Result};

/// Text in one batch, unless a single document is larger.
pub(super) const BATCH_BYTES: usize = 2 << 20;
/// Rows in one batch.
pub(super) const BATCH_ROWS: usize = 4096;

/// A raw batch from the text and identifier columns of a file, rows counted from `first_row`.
pub(super) fn raw_batch(
    file: &InputFile,
    number: u32,
    first_row: u64,
    text: (&str, &ArrayRef),
    id: Option<&ArrayRef>,
) -> Result<RecordBatch> {
    let rows = text.1.len();
    let (column, found) = (text.0, text.1.data_type());
    let text = as_binary(text.1).ok_or_else(|| Error::ColumnType {
        file: file.place.clone(),
        column: column.to_owned(),
        found: found.to_string(),
    })?;
    let id = id.and_then(as_text).unwrap_or_else(|| new_null_array(&DataType::Utf8, rows));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_value(number, rows)),
        Arc::new(UInt64Array::from_iter_values(first_row..first_row + rows as u64)),
        text,
        id,
    ];
    Ok(RecordBatch::try_new(raw_schema(), columns).expect("the columns are the schema's"))
}

/// Strings and binary of any kind as large binary; nothing else is text.
fn as_binary(column: &ArrayRef) -> Option<ArrayRef> {
    let values = match column.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let unpacked = cast(column, values).ok()?;
    match values {
        DataType::LargeBinary => Some(unpacked),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary => {
            cast(&unpacked, &DataType::LargeBinary).ok()
        }
        DataType::Utf8View => Some(Arc::new(LargeBinaryArray::from_iter(
            unpacked.as_string_view().iter().map(|text| text.map(str::as_bytes)),
        ))),
        DataType::BinaryView => {
            Some(Arc::new(LargeBinaryArray::from_iter(unpacked.as_binary_view().iter())))
        }
        _ => None,
    }
}

/// An identifier of any kind as text; bytes that are not text are replaced.
fn as_text(column: &ArrayRef) -> Option<ArrayRef> {
    if let Some(bytes) = as_binary(column) {
        let text = bytes.as_binary::<i64>().iter().map(|id| id.map(String::from_utf8_lossy));
        return Some(Arc::new(text.collect::<StringArray>()));
    }
    can_cast_types(column.data_type(), &DataType::Utf8)
        .then(|| cast(column, &DataType::Utf8).ok())
        .flatten()
}

/// Cuts a batch into pieces of at most [`BATCH_BYTES`] of text, or of one row.
pub(super) fn split(batch: &RecordBatch) -> Vec<RecordBatch> {
    let offsets = batch.column(2).as_binary::<i64>().value_offsets();
    let bytes = |from: usize, to: usize| (offsets[to] - offsets[from]) as usize;
    let mut pieces = Vec::new();
    let mut begin = 0;
    while begin < batch.num_rows() {
        let mut end = begin + 1;
        while end < batch.num_rows()
            && end - begin < BATCH_ROWS
            && bytes(begin, end + 1) <= BATCH_BYTES
        {
            end += 1;
        }
        pieces.push(batch.slice(begin, end - begin));
        begin = end;
    }
    pieces
}

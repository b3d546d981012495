//! Content hashes, and documents that are known by them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::buffer::Buffer;

use super::columns::{self, HASH_BYTES, TEXT, column, hashed_schema, hashes, with_origin};

/// The hash of a document's normalised text.
pub type ContentHash = [u8; HASH_BYTES];

/// Adds the hash of each document's text.
#[must_use]
pub fn hash(documents: RecordBatch) -> RecordBatch {
    let texts = column(&documents, TEXT);
    let mut bytes = Vec::with_capacity(documents.num_rows() * HASH_BYTES);
    for text in texts.as_string::<i64>().iter().flatten() {
        bytes.extend_from_slice(blake3::hash(text.as_bytes()).as_bytes());
    }
    let size = i32::try_from(HASH_BYTES).expect("a small constant");
    let hashes: ArrayRef = Arc::new(FixedSizeBinaryArray::new(size, Buffer::from(bytes), None));
    with_origin(&documents, hashed_schema(), [Arc::clone(texts), hashes])
}

/// Drops documents whose hash is in `known`; says how many.
#[must_use]
pub fn remove_known(hashed: RecordBatch, known: &HashSet<ContentHash>) -> (RecordBatch, u64) {
    if known.is_empty() {
        return (hashed, 0);
    }
    let keep: Vec<bool> = hashes(&hashed).map(|hash| !known.contains(&hash)).collect();
    let removed = keep.iter().filter(|&&keep| !keep).count() as u64;
    (columns::filter(hashed, &keep), removed)
}

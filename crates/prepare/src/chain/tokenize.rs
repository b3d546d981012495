//! Text to token ids.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListArray, RecordBatch, UInt16Array, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use terrace_data::TokenType;
use terrace_tokenizer::Tokenizer;

use super::columns::{
    CONTENT_HASH, TEXT, column, filter, origins, token_item, tokenized_schema, with_origin,
};

/// A document that the tokenizer refuses.
#[derive(Debug)]
pub struct Refused {
    /// Number of the file in the list of inputs.
    pub file: u32,
    /// Row in the file, from 0.
    pub row: u64,
    /// Why.
    pub source: terrace_tokenizer::Error,
}

/// Replaces the text of each document by its tokens, ended by `eos` if there is one; a document
/// without any token is left out, and counted.
///
/// # Errors
///
/// The tokenizer refuses a document.
pub fn tokenize(
    hashed: RecordBatch,
    tokenizer: &Tokenizer,
    eos: Option<u32>,
) -> Result<(RecordBatch, u64), Refused> {
    let token_type = TokenType::for_vocabulary(tokenizer.vocab_size() as u64);
    let texts = column(&hashed, TEXT).as_string::<i64>();
    let (files, rows) = origins(&hashed);
    let mut tokens: Vec<u32> = Vec::with_capacity(texts.values().len() / 3);
    let mut offsets = vec![0];
    let mut text_bytes = Vec::with_capacity(hashed.num_rows());
    let mut keep = Vec::with_capacity(hashed.num_rows());
    for (index, text) in texts.iter().flatten().enumerate() {
        let ids = tokenizer.encode(text).map_err(|source| Refused {
            file: files.value(index),
            row: rows.value(index),
            source,
        })?;
        keep.push(!ids.is_empty());
        if !ids.is_empty() {
            tokens.extend(ids.into_iter().chain(eos));
            offsets.push(i32::try_from(tokens.len()).expect("a batch is a few megabytes"));
            text_bytes.push(u32::try_from(text.len()).expect("a document is smaller than 4 GiB"));
        }
    }
    let empty = keep.iter().filter(|&&keep| !keep).count() as u64;
    let kept = filter(hashed, &keep);
    let columns = [
        Arc::clone(column(&kept, CONTENT_HASH)),
        Arc::new(UInt32Array::from(text_bytes)),
        token_lists(tokens, offsets, token_type),
    ];
    Ok((with_origin(&kept, tokenized_schema(token_type), columns), empty))
}

pub(crate) fn token_lists(tokens: Vec<u32>, offsets: Vec<i32>, token_type: TokenType) -> ArrayRef {
    let values: ArrayRef = match token_type {
        TokenType::U16 => Arc::new(UInt16Array::from_iter_values(
            tokens.into_iter().map(|id| u16::try_from(id).expect("within the vocabulary")),
        )),
        TokenType::U32 => Arc::new(UInt32Array::from(tokens)),
    };
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Arc::new(ListArray::new(token_item(token_type), offsets, values, None))
}

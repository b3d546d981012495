//! The columns of a shard.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::TokenType;

/// Tokens that one record batch of a shard holds at most, so that a writer's memory does not
/// depend on the sequence length.
const BATCH_TOKENS: usize = 1 << 20;

/// Windows in every record batch of a shard but the last.
pub(crate) fn batch_windows(sequence_length: usize) -> usize {
    (BATCH_TOKENS / (sequence_length + 1)).clamp(1, 1024)
}

/// The columns of a shard.
///
/// # Shapes
///
/// `tokens[sequence_length + 1]`, `document_starts[documents]`, and the scalars `length`,
/// `target_tokens`, `target_bytes` per window; nothing is nullable.
#[must_use]
pub fn window_schema(token_type: TokenType, sequence_length: usize) -> SchemaRef {
    let size = i32::try_from(sequence_length + 1).expect("a sequence is short");
    let scalar = |name: &str| Field::new(name, DataType::UInt32, false);
    Arc::new(Schema::new(vec![
        Field::new("tokens", DataType::FixedSizeList(token_item(token_type), size), false),
        Field::new("document_starts", DataType::List(start_item()), false),
        scalar("length"),
        scalar("target_tokens"),
        scalar("target_bytes"),
    ]))
}

pub(crate) fn token_item(token_type: TokenType) -> Arc<Field> {
    let data_type = match token_type {
        TokenType::U16 => DataType::UInt16,
        TokenType::U32 => DataType::UInt32,
    };
    Arc::new(Field::new("item", data_type, false))
}

pub(crate) fn start_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::UInt32, false))
}

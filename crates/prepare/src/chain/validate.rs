//! Raw rows to documents whose text can be relied on.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringBuilder, RecordBatch};
use terrace_data::BadRowKind;

use super::Rejected;
use super::columns::{ID, TEXT, column, documents_schema, filter, origins, with_origin};

/// Checks each row's text: it is there, has at most `maximum_bytes` and is UTF-8; other rows are
/// given back as bad.
#[must_use]
pub fn validate(raw: RecordBatch, maximum_bytes: u64) -> (RecordBatch, Vec<Rejected>) {
    let texts = column(&raw, TEXT).as_binary::<i64>();
    let ids = column(&raw, ID).as_string::<i32>();
    let (files, rows) = origins(&raw);
    let mut valid = LargeStringBuilder::with_capacity(texts.len(), texts.values().len());
    let mut rejected = Vec::new();
    let mut keep = Vec::with_capacity(texts.len());
    for index in 0..texts.len() {
        let text = texts.is_valid(index).then(|| texts.value(index));
        match check(text, maximum_bytes) {
            Ok(text) => {
                valid.append_value(text);
                keep.push(true);
            }
            Err(kind) => {
                let id = ids.is_valid(index).then(|| ids.value(index).to_owned());
                let (file, row) = (files.value(index), rows.value(index));
                rejected.push(Rejected { file, row, id, kind });
                keep.push(false);
            }
        }
    }
    let texts: ArrayRef = Arc::new(valid.finish());
    (with_origin(&filter(raw, &keep), documents_schema(), [texts]), rejected)
}

fn check(text: Option<&[u8]>, maximum_bytes: u64) -> Result<&str, BadRowKind> {
    let text = text.ok_or(BadRowKind::Null)?;
    if text.len() as u64 > maximum_bytes {
        return Err(BadRowKind::Oversized);
    }
    std::str::from_utf8(text).map_err(|_| BadRowKind::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_kind() {
        assert_eq!(check(Some("né".as_bytes()), 3), Ok("né"));
        assert_eq!(check(Some("né".as_bytes()), 2), Err(BadRowKind::Oversized));
        assert_eq!(check(Some(b"n\xff"), 3), Err(BadRowKind::InvalidUtf8));
        assert_eq!(check(None, 3), Err(BadRowKind::Null));
    }
}

//! Unicode normalisation.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, LargeStringBuilder, RecordBatch};
use terrace_config::Normalization;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::columns::{TEXT, column, documents_schema, with_origin};

/// Normalises the text of every document.
#[must_use]
pub fn normalize(documents: RecordBatch, normalization: Normalization) -> RecordBatch {
    match normalization {
        Normalization::None => documents,
        Normalization::Nfc => compose(documents),
    }
}

fn compose(documents: RecordBatch) -> RecordBatch {
    let texts = column(&documents, TEXT).as_string::<i64>();
    // Nearly all text is composed already, and then the column stays as it is.
    if texts.iter().flatten().all(is_composed) {
        return documents;
    }
    let mut composed =
        LargeStringBuilder::with_capacity(documents.num_rows(), texts.values().len());
    for text in texts.iter().flatten() {
        composed.append_value(nfc(text));
    }
    let composed: ArrayRef = Arc::new(composed.finish());
    with_origin(&documents, documents_schema(), [composed])
}

pub(super) fn nfc(text: &str) -> Cow<'_, str> {
    if is_composed(text) { text.into() } else { text.nfc().collect::<String>().into() }
}

fn is_composed(text: &str) -> bool {
    text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_composed() {
        assert_eq!(nfc("cafe\u{301}"), "café");
        assert_eq!(nfc("\u{1100}\u{1161}"), "가");
        assert!(matches!(nfc("café 你好"), Cow::Borrowed(_)));
    }
}

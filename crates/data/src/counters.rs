//! Which positions of a window are targets, and how much text they stand for.

/// How much a window teaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCounts {
    /// Positions whose next token is real and of the same document.
    pub tokens: u32,
    /// Bytes of text of those next tokens.
    pub bytes: u32,
}

/// Counts the targets of the window `tokens[..length]` with documents at `document_starts`.
///
/// A token is a target unless a document begins at it: the first token of a document is predicted
/// by nothing. `byte_lengths` is the tokenizer's, indexed by id.
///
/// # Units
///
/// Tokens, and bytes of UTF-8.
#[must_use]
pub fn count_targets(
    tokens: &[u32],
    length: u32,
    document_starts: &[u32],
    byte_lengths: &[u32],
) -> TargetCounts {
    debug_assert_eq!(document_starts.first(), Some(&0));
    let real = &tokens[..length as usize];
    let bytes_at = |offset: usize| byte_lengths[real[offset] as usize];
    let all: u32 = (0..real.len()).map(bytes_at).sum();
    let begun: u32 = document_starts.iter().map(|&start| bytes_at(start as usize)).sum();
    TargetCounts {
        tokens: length - u32::try_from(document_starts.len()).expect("fewer than tokens"),
        bytes: all - begun,
    }
}

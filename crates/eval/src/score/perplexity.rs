//! How well texts are predicted.

use std::collections::BTreeMap;

/// A text's cost, and its sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    pub(crate) nats: f64,
    pub(crate) bytes: usize,
    pub(crate) words: usize,
}

impl Cost {
    pub(crate) fn of(nats: f64, text: &str) -> Self {
        Self { nats, bytes: text.len(), words: words(text) }
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            bytes: self.bytes + other.bytes,
            words: self.words + other.words,
        }
    }

    /// Bits per byte, and the perplexities of a byte and of a word.
    pub(crate) fn metrics(self) -> BTreeMap<String, f64> {
        let per_byte = self.nats / self.bytes.max(1) as f64;
        BTreeMap::from([
            ("bits_per_byte".to_owned(), per_byte / std::f64::consts::LN_2),
            ("byte_perplexity".to_owned(), per_byte.exp()),
            ("word_perplexity".to_owned(), (self.nats / self.words.max(1) as f64).exp()),
        ])
    }
}

/// The pieces between runs of white space, empty ones at the ends included.
///
/// # Source
///
/// `len(re.split(r"\s+", text))` of lm-evaluation-harness.
pub(crate) fn words(text: &str) -> usize {
    let inner = text.split_whitespace().count();
    let edges = [text.starts_with(char::is_whitespace), text.ends_with(char::is_whitespace)];
    match inner {
        // White space alone splits into two empty pieces, nothing at all into one.
        0 => 1 + usize::from(!text.is_empty()),
        _ => inner + edges.iter().filter(|edge| **edge).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_pythons_split_does() {
        for (text, count) in [("", 1), (" ", 2), ("a", 1), ("a  b\nc", 3), (" a ", 3), ("a\n", 2)] {
            assert_eq!(words(text), count, "{text:?}");
        }
    }

    #[test]
    fn two_bits_of_a_byte_are_two_bits_of_a_byte() {
        let cost = Cost::of(8.0 * std::f64::consts::LN_2, "a bc");
        let metrics = cost.add(Cost::default()).metrics();
        assert!((metrics["bits_per_byte"] - 2.0).abs() < 1e-12);
        assert!((metrics["byte_perplexity"] - 4.0).abs() < 1e-12);
        assert!((metrics["word_perplexity"] - 16.0).abs() < 1e-12);
    }
}

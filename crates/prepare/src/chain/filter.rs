//! Length filters.

use arrow::array::{AsArray, RecordBatch};
use terrace_data::Dropped;

use super::columns::{self, TEXT, column};

/// Which documents are worth keeping, by their length in characters.
#[derive(Clone, Copy, Debug)]
pub struct LengthFilter {
    /// Fewer are too few.
    pub minimum_characters: u64,
    /// More are too many; 0 for no limit.
    pub maximum_characters: u64,
}

impl LengthFilter {
    /// Drops documents that are empty, too short or too long, and counts them.
    #[must_use]
    pub fn apply(&self, documents: RecordBatch) -> (RecordBatch, Dropped) {
        let mut dropped = Dropped::default();
        let texts = column(&documents, TEXT).as_string::<i64>();
        let keep: Vec<bool> =
            texts.iter().flatten().map(|text| self.keeps(text, &mut dropped)).collect();
        (columns::filter(documents, &keep), dropped)
    }

    fn keeps(&self, text: &str, dropped: &mut Dropped) -> bool {
        let maximum = if self.maximum_characters == 0 { u64::MAX } else { self.maximum_characters };
        let characters = text.chars().count() as u64;
        let reason = if text.trim().is_empty() {
            &mut dropped.empty
        } else if characters < self.minimum_characters {
            &mut dropped.too_short
        } else if characters > maximum {
            &mut dropped.too_long
        } else {
            return true;
        };
        *reason += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_characters() {
        let filter = LengthFilter { minimum_characters: 2, maximum_characters: 3 };
        let mut dropped = Dropped::default();
        let kept: Vec<&str> = ["", " \n\t", "一", "一二", "一二三", "一二三四"]
            .into_iter()
            .filter(|text| filter.keeps(text, &mut dropped))
            .collect();
        assert_eq!(kept, ["一二", "一二三"]);
        assert_eq!(dropped, Dropped { empty: 2, too_short: 1, too_long: 1, ..Dropped::default() });
        let unlimited = LengthFilter { minimum_characters: 0, maximum_characters: 0 };
        assert!(unlimited.keeps(&"x".repeat(1000), &mut dropped));
    }
}

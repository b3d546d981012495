//! Where a run stands in its mixture: all that a checkpoint has to keep.

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, SequenceIndex};

/// The place of a run in its stream of sequences.
///
/// About `40·n + (40 + 8·n)·segments` bytes for `n` sources. It says by itself which editions its
/// counts belong to, and what the segments were that it went through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixtureCursor {
    /// The version of the rule that drew so far.
    pub(super) algorithm: u16,
    /// Sequences drawn so far, which is the index of the next.
    pub(super) index: u64,
    /// The editions, in canonical order.
    pub(super) editions: Vec<Fingerprint>,
    /// Windows drawn from each edition over the whole run.
    pub(super) counts: Vec<u64>,
    /// The segments entered so far; the last is the current one.
    pub(super) entered: Vec<EnteredSegment>,
}

/// A segment as it was when the first sequence was drawn from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EnteredSegment {
    /// Everything that the order of this segment and all before it depends on.
    pub(super) hash: Fingerprint,
    /// The index of its first sequence.
    pub(super) first_index: u64,
    /// Windows drawn from each edition before it.
    pub(super) base_counts: Vec<u64>,
}

impl MixtureCursor {
    /// The index of the next sequence, which is the number drawn so far.
    #[must_use]
    pub fn index(&self) -> SequenceIndex {
        SequenceIndex(self.index)
    }

    /// The segment that the last sequence came from, counted from zero.
    #[must_use]
    pub fn segment(&self) -> usize {
        self.entered.len() - 1
    }

    /// Sequences drawn from the current segment.
    #[must_use]
    pub fn drawn_in_segment(&self) -> u64 {
        self.index - self.current().first_index
    }

    /// Windows drawn from an edition over the whole run.
    #[must_use]
    pub fn count(&self, edition: Fingerprint) -> u64 {
        let place = self.editions.iter().position(|known| *known == edition);
        place.map_or(0, |source| self.counts[source])
    }

    pub(super) fn current(&self) -> &EnteredSegment {
        self.entered.last().expect("a cursor has entered its first segment")
    }

    /// Draws from each edition within segment `segment`, and how many in all.
    pub(super) fn drawn_within(&self, segment: usize) -> (Vec<u64>, u64) {
        let base = &self.entered[segment];
        let (end_counts, end_index) = match self.entered.get(segment + 1) {
            Some(next) => (&next.base_counts, next.first_index),
            None => (&self.counts, self.index),
        };
        let drawn = end_counts.iter().zip(&base.base_counts).map(|(end, base)| end - base);
        (drawn.collect(), end_index - base.first_index)
    }

    /// What does not add up, if anything.
    pub(super) fn damage(&self) -> Option<String> {
        let sources = self.editions.len();
        if self.entered.is_empty() {
            return Some("it has entered no segment".to_owned());
        }
        let rows = self.entered.iter().map(|e| (&e.base_counts, e.first_index));
        let rows: Vec<_> = rows.chain([(&self.counts, self.index)]).collect();
        for (counts, index) in &rows {
            if counts.len() != sources {
                return Some(format!("{} counts for {sources} editions", counts.len()));
            }
            let sum = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
            if sum != Some(*index) {
                return Some(format!("its counts do not sum to its index {index}"));
            }
        }
        let falls = |pair: &[(&Vec<u64>, u64)]| pair[0].0.iter().zip(pair[1].0).any(|(a, b)| a > b);
        rows.windows(2).any(falls).then(|| "a count falls".to_owned())
    }
}

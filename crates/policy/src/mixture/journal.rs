//! Which drawn sequences were not trained on.

use serde::{Deserialize, Serialize};
use terrace_base::Fingerprint;

use super::cursor::MixtureCursor;

/// The ranges of sequences that were drawn but not trained on: bad steps and rewound ranges.
///
/// Saved with the cursor. A run that goes back to an older checkpoint with a newer journal passes
/// over the same ranges and so takes the same steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Journal {
    skips: Vec<Skip>,
}

/// A range `start..end` of sequences of one segment that were not trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The first sequence.
    pub start: u64,
    /// The sequence after the last.
    pub end: u64,
    /// The segment they belong to, counted from zero.
    pub segment: usize,
    /// Windows per edition, those with none left out.
    pub windows: Vec<(Fingerprint, u64)>,
}

impl Journal {
    /// Enters what was drawn between two cursors, which must be in one segment.
    ///
    /// A range that is already entered is not entered again.
    pub fn record(&mut self, before: &MixtureCursor, after: &MixtureCursor) {
        let (start, end) = (before.index, after.index);
        if start == end || self.covering(start).is_some_and(|skip| skip.end >= end) {
            return;
        }
        assert!(start < end, "a skip from {start} back to {end}");
        let segment = after.segment();
        assert!(start >= after.current().first_index, "a skip across the edge of a segment");
        let place = self.skips.partition_point(|skip| skip.end <= start);
        let overlaps = self.skips.get(place).is_some_and(|next| next.start < end);
        assert!(!overlaps, "skip {start}..{end} overlaps an earlier one");
        let drawn = after.counts.iter().zip(&before.counts).map(|(after, before)| after - before);
        let windows = after.editions.iter().copied().zip(drawn).filter(|(_, n)| *n > 0).collect();
        self.skips.insert(place, Skip { start, end, segment, windows });
    }

    /// All ranges, in order.
    #[must_use]
    pub fn skips(&self) -> &[Skip] {
        &self.skips
    }

    /// The range that holds `index`.
    #[must_use]
    pub fn covering(&self, index: u64) -> Option<&Skip> {
        let place = self.skips.partition_point(|skip| skip.end <= index);
        self.skips.get(place).filter(|skip| skip.start <= index)
    }

    /// The first sequence from `index` on that a range begins with.
    #[must_use]
    pub fn next_start(&self, index: u64) -> Option<u64> {
        let place = self.skips.partition_point(|skip| skip.start < index);
        self.skips.get(place).map(|skip| skip.start)
    }

    /// Sequences of `start..end` that were not trained on.
    #[must_use]
    pub fn skipped_between(&self, start: u64, end: u64) -> u64 {
        let within = |skip: &Skip| skip.end.min(end).saturating_sub(skip.start.max(start));
        self.skips.iter().map(within).sum()
    }

    /// Windows of an edition that were passed over in a segment, up to sequence `end`.
    #[must_use]
    pub fn skipped(&self, edition: Fingerprint, segment: usize, end: u64) -> u64 {
        let skips = self.skips.iter().filter(|skip| skip.segment == segment && skip.end <= end);
        let windows = skips.flat_map(|skip| &skip.windows);
        windows.filter(|(known, _)| *known == edition).map(|(_, n)| n).sum()
    }
}

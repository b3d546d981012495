//! What was drawn against what was promised.

use serde::{Deserialize, Serialize};

use super::cursor::MixtureCursor;
use super::journal::Journal;
use super::schedule::MixtureSchedule;

/// The draws of one segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentReport {
    /// The segment, counted from zero.
    pub segment: usize,
    /// Sequences drawn from it.
    pub sequences: u64,
    /// Its sources in the order given; those without a weight in it are left out.
    pub sources: Vec<SourceReport>,
}

/// The draws from one source within one segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// The source's name.
    pub source: String,
    /// Sequences drawn.
    pub sequences: u64,
    /// Sequences drawn and trained on.
    pub trained_sequences: u64,
    /// Its share of the sequences drawn.
    pub share: f64,
    /// Its share of the sequences trained on.
    pub trained_share: f64,
    /// The share that its weights ask for, up to here.
    pub target_share: f64,
    /// Sequences drawn minus sequences owed; below one in size, computed from integers.
    pub deviation_sequences: f64,
}

/// How far a source has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// The source's name.
    pub source: String,
    /// Windows drawn over the whole run, repeats counted.
    pub drawn: u64,
    /// The epoch that the next window belongs to, counted from zero.
    pub epoch: u64,
    /// Windows of that epoch drawn so far.
    pub drawn_in_epoch: u64,
}

impl MixtureSchedule {
    /// Draws against quotas, for every segment entered so far.
    #[must_use]
    pub fn report(&self, cursor: &MixtureCursor, journal: &Journal) -> Vec<SegmentReport> {
        (0..=cursor.segment())
            .map(|segment| self.report_segment(segment, cursor, journal))
            .collect()
    }

    /// How far each source has been read, in the order given.
    #[must_use]
    pub fn progress(&self, cursor: &MixtureCursor) -> Vec<SourceProgress> {
        let one = |source: usize| {
            let edition = &self.sources[source];
            let drawn = cursor.counts[source];
            let windows = edition.windows.max(1);
            SourceProgress {
                source: edition.name.clone(),
                drawn,
                epoch: drawn / windows,
                drawn_in_epoch: drawn % windows,
            }
        };
        self.given_order().into_iter().map(one).collect()
    }

    fn report_segment(
        &self,
        segment: usize,
        cursor: &MixtureCursor,
        journal: &Journal,
    ) -> SegmentReport {
        let (drawn, sequences) = cursor.drawn_within(segment);
        let skipped = |source: usize| {
            journal.skipped(self.sources[source].fingerprint, segment, cursor.index)
        };
        let trained = sequences - (0..self.sources.len()).map(skipped).sum::<u64>();
        let one = |source: usize| {
            let quota = self.rules[segment].quota(source)?;
            let [owed, parts] = [quota.numerator(sequences), quota.denominator()];
            let excess = (u128::from(drawn[source]) * parts) as i128 - owed as i128;
            let own_trained = drawn[source] - skipped(source);
            Some(SourceReport {
                source: self.sources[source].name.clone(),
                sequences: drawn[source],
                trained_sequences: own_trained,
                share: ratio(drawn[source], sequences),
                trained_share: ratio(own_trained, trained),
                target_share: owed as f64 / parts as f64 / sequences.max(1) as f64,
                deviation_sequences: excess as f64 / parts as f64,
            })
        };
        let sources = self.given_order().into_iter().filter_map(one).collect();
        SegmentReport { segment, sequences, sources }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

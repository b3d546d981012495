//! What can be wrong with a mixture or with a cursor into one.

use std::fmt;

use terrace_base::Fingerprint;

/// Why a mixture cannot be scheduled, or a saved cursor not be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixtureError {
    /// There is nothing to draw from.
    #[error("the mixture has no sources; name at least one edition")]
    NoSources,
    /// There is no stage.
    #[error("the mixture has no segments; give at least one stage with a budget")]
    NoSegments,
    /// Two sources are the same edition, so their windows would be drawn twice per epoch.
    #[error(
        "sources `{first}` and `{second}` are the same edition {}; list it once, with the sum of \
         their weights", edition.short()
    )]
    DuplicateEdition {
        /// The source listed first.
        first: String,
        /// The source listed second.
        second: String,
        /// The edition of both.
        edition: Fingerprint,
    },
    /// A source that is to be drawn holds nothing.
    #[error("source `{source_name}` holds no windows; give it weight 0 or prepare it again")]
    EmptySource {
        /// The empty source.
        source_name: String,
    },
    /// A segment has no budget.
    #[error("segment {segment} has no sequences; its budget must be at least one sequence")]
    EmptySegment {
        /// The segment, counted from zero.
        segment: usize,
    },
    /// A segment has a weight too many or too few.
    #[error("segment {segment} has {found} weights, expected one for each of {expected} sources")]
    WeightCount {
        /// The segment, counted from zero.
        segment: usize,
        /// Weights found.
        found: usize,
        /// Number of sources.
        expected: usize,
    },
    /// All weights at one end of a segment are zero.
    #[error("segment {segment} has only weights of zero; one source needs a positive weight")]
    NoWeight {
        /// The segment, counted from zero.
        segment: usize,
    },
    /// A segment goes on after its ramp has ended.
    #[error(
        "segment {segment} has {sequences} sequences but its weights change over {ramp} only; \
         let another segment with constant weights follow the ramp"
    )]
    RampTooShort {
        /// The segment, counted from zero.
        segment: usize,
        /// The segment's sequences.
        sequences: u64,
        /// The ramp's sequences.
        ramp: u64,
    },
    /// Exact arithmetic would need more than 127 bits.
    #[error(
        "segment {segment} is too large for exact quotas: {sequences} sequences, weights summing \
         to {total}; write weights with smaller sums, equal at the start and the end of a ramp"
    )]
    TooLarge {
        /// The segment, counted from zero.
        segment: usize,
        /// The segment's sequences.
        sequences: u64,
        /// The common total of its weights.
        total: u128,
    },
    /// The run would draw more from some sources than their caps allow.
    #[error(
        "the run of {planned_sequences} sequences exceeds the caps of {}; the largest feasible \
         budget is {largest_feasible_sequences} sequences",
        Excesses(excesses)
    )]
    CapExceeded {
        /// Every source that is over its cap.
        excesses: Vec<CapExcess>,
        /// Sequences that the run is to draw.
        planned_sequences: u64,
        /// The longest beginning of the run that keeps all caps.
        largest_feasible_sequences: u64,
    },
    /// The cursor was written by another version of the rule.
    #[error(
        "the cursor was written by mixture algorithm {found}, this program knows {expected}; \
         continue the run with the program that began it"
    )]
    Algorithm {
        /// The cursor's algorithm.
        found: u16,
        /// The algorithm of this program.
        expected: u16,
    },
    /// A segment that was already drawn from is not what it was.
    #[error(
        "segment {segment} differs from the one that was drawn from (now {}, then {}); restore its \
         seed, weights and editions, and put the change into a later segment",
        expected.short(), found.short()
    )]
    SegmentChanged {
        /// The first segment that differs, counted from zero.
        segment: usize,
        /// What the cursor recorded.
        found: Fingerprint,
        /// What the schedule has now.
        expected: Fingerprint,
    },
    /// A segment now ends before what was drawn from it.
    #[error(
        "segment {segment} now has {sequences} sequences, but {drawn} were drawn from it; give it \
         at least as many"
    )]
    SegmentTooShort {
        /// The segment, counted from zero.
        segment: usize,
        /// Sequences it has now.
        sequences: u64,
        /// Sequences drawn from it.
        drawn: u64,
    },
    /// The cursor has entered more segments than there are.
    #[error(
        "the cursor is in segment {segment}, but the schedule has {segments}; restore the rest"
    )]
    SegmentMissing {
        /// The cursor's segment, counted from zero.
        segment: usize,
        /// Number of segments.
        segments: usize,
    },
    /// An edition that was drawn from is no longer listed.
    #[error(
        "edition {} was drawn from {drawn} times and is not among the sources; list it again, with \
         weight 0 in the segments to come if it is to rest", edition.short()
    )]
    SourceMissing {
        /// The missing edition.
        edition: Fingerprint,
        /// Windows drawn from it.
        drawn: u64,
    },
    /// The cursor contradicts itself.
    #[error("the cursor is damaged: {what}; load an older checkpoint")]
    Damaged {
        /// What does not add up.
        what: String,
    },
}

/// By how much a run would exceed the cap of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapExcess {
    /// The source's name.
    pub source: String,
    /// Windows that the run would draw from it.
    pub needed_windows: u64,
    /// Windows that its cap allows.
    pub max_windows: u64,
}

struct Excesses<'a>(&'a [CapExcess]);

impl fmt::Display for Excesses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, excess) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let CapExcess { source, needed_windows, max_windows } = excess;
            write!(f, "{separator}`{source}` (needs {needed_windows} windows, may {max_windows})")?;
        }
        Ok(())
    }
}

//! The stretches of a stage: what it begins with, and what its mixture changes to on the way.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use crate::mixture::{Mixture, MixtureWeights, WeightsError};
use crate::run::Stage;

/// Other weights from some token of a stage on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureChange {
    /// The tokens of the stage that come before it, rounded down to whole sequences.
    pub after_tokens: Tokens,
    /// The weight of each source from there on.
    pub mixture: Mixture,
    /// The weights at the end of the stage, reached linearly; by default those of `mixture`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture_end: Option<Mixture>,
}

/// A stretch of a stage with one rule for its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSegment {
    /// The sequences of the stage that come before it.
    pub begins_at: u64,
    /// The sequences that are drawn from it.
    pub sequences: u64,
    /// The sequences over which its weights change: those to the end of the stage, also where
    /// another segment follows before that.
    pub ramp_sequences: u64,
    /// Its weights.
    pub weights: MixtureWeights,
}

impl Stage {
    /// The sequences of the stage.
    #[must_use]
    pub fn sequences(&self, sequence_length: u64) -> u64 {
        self.budget_tokens.0 / sequence_length
    }

    /// The stretches of the stage, in order; a stage without changes is one.
    ///
    /// # Errors
    ///
    /// The weights of one of them are all zero or too precise; a checked configuration has none
    /// such.
    pub fn segments(&self, sequence_length: u64) -> Result<Vec<StageSegment>, WeightsError> {
        let total = self.sequences(sequence_length);
        let begins: Vec<u64> = std::iter::once(0)
            .chain(self.mixture_changes.iter().map(|c| c.after_tokens.0 / sequence_length))
            .collect();
        self.mixes()
            .zip(&begins)
            .enumerate()
            .map(|(index, ((mixture, end), begin))| {
                let next = begins.get(index + 1).copied().unwrap_or(total).min(total);
                Ok(StageSegment {
                    begins_at: *begin,
                    sequences: next.saturating_sub(*begin),
                    ramp_sequences: total.saturating_sub(*begin),
                    weights: MixtureWeights::between(mixture, end)?,
                })
            })
            .collect()
    }

    /// The weights that the stage begins with, then those of each change; each with those at the
    /// stage's end.
    pub(crate) fn mixes(&self) -> impl Iterator<Item = (&Mixture, Option<&Mixture>)> {
        let changes = self.mixture_changes.iter();
        std::iter::once((&self.mixture, self.mixture_end.as_ref()))
            .chain(changes.map(|change| (&change.mixture, change.mixture_end.as_ref())))
    }

    /// Whether a source has a weight above zero anywhere in the stage.
    pub(crate) fn draws_from(&self, source: &str) -> bool {
        let is_drawn =
            |mixture: &Mixture| mixture.get(source).is_some_and(|weight| !weight.is_zero());
        self.mixes().any(|(start, end)| is_drawn(start) || end.is_some_and(is_drawn))
    }
}

impl StageSegment {
    /// The share of a source in the mixture-adjusted loss: the mean over the segment.
    #[must_use]
    pub fn mean_share(&self, source: &str) -> f64 {
        let Some(index) = self.weights.sources.iter().position(|name| name == source) else {
            return 0.0;
        };
        let (start, end) = (self.weights.start_share(index), self.weights.end_share(index));
        if self.sequences == self.ramp_sequences {
            return f64::midpoint(start, end);
        }
        let reached = self.sequences as f64 / self.ramp_sequences as f64;
        f64::midpoint(start, start + (end - start) * reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::tests::stage;

    fn change(after: u64, source: &str, end: Option<&str>) -> MixtureChange {
        let only = |name: &str| Mixture::from([(name.to_owned(), "1".parse().unwrap())]);
        let (mixture, mixture_end) = (only(source), end.map(only));
        MixtureChange { after_tokens: Tokens(after), mixture, mixture_end }
    }

    #[test]
    fn changes_cut_a_stage_into_segments() {
        let mut stage = stage(&[("a", "1")], Some(&[("b", "1")]));
        stage.mixture_changes = vec![change(305, "b", None), change(600, "a", Some("b"))];
        let segments = stage.segments(10).unwrap();
        let extents: Vec<_> =
            segments.iter().map(|s| (s.begins_at, s.sequences, s.ramp_sequences)).collect();
        assert_eq!(extents, [(0, 30, 100), (30, 30, 70), (60, 40, 40)]);
        // The first was cut at 30% of its ramp.
        assert!((segments[0].mean_share("a") - 0.85).abs() < 1e-12);
        assert_eq!(segments[1].mean_share("a"), 0.0);
        assert_eq!(segments[2].mean_share("b"), 0.5);
        assert_eq!(segments.iter().map(|s| s.sequences).sum::<u64>(), 100);
    }

    #[test]
    fn a_stage_without_changes_is_one_segment() {
        let segments = stage(&[("a", "3"), ("b", "1")], None).segments(10).unwrap();
        assert_eq!(segments.len(), 1);
        assert_eq!(segments[0].mean_share("a"), 0.75);
        assert_eq!(segments[0].mean_share("nowhere"), 0.0);
    }
}

//! A running mean of the mixture-adjusted loss, for laws that give the batch for a loss.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use super::block::SourceLoss;

/// Decayed sums of nats and targets for each source; part of the checkpoint.
///
/// The memory is counted in tokens. A source that a step lacks keeps its mean, so that the order in
/// which sources are drawn does not show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LossAverage {
    /// Nats and targets.
    sums: Vec<[f64; 2]>,
    tokens_seen: u64,
    fresh_targets: u64,
}

impl LossAverage {
    /// Takes in a step.
    pub(super) fn observe(
        &mut self,
        sources: &[SourceLoss],
        tokens_seen: Tokens,
        half_life: Tokens,
    ) {
        self.sums.resize(sources.len(), [0.0; 2]);
        let elapsed = tokens_seen.0.saturating_sub(self.tokens_seen) as f64;
        let kept = (-elapsed / half_life.0.max(1) as f64).exp2();
        for (sums, own) in self.sums.iter_mut().zip(sources) {
            sums[0] = kept * sums[0] + own.nats;
            sums[1] = kept * sums[1] + own.targets as f64;
            self.fresh_targets += own.targets;
        }
        self.tokens_seen = tokens_seen.0;
    }

    /// The mean in nats; none before a half-life has been seen of the same data, or while a source
    /// with a weight has not been seen.
    pub(super) fn mean(&self, weights: &[f64], half_life: Tokens) -> Option<f64> {
        if self.fresh_targets < half_life.0 || self.sums.len() != weights.len() {
            return None;
        }
        let mut sum = 0.0;
        for (sums, weight) in self.sums.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
            sum += weight * (sums[1] > 0.0).then(|| sums[0] / sums[1])?;
        }
        Some(sum / weights.iter().sum::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(means: [f64; 2], targets: [u64; 2]) -> [SourceLoss; 2] {
        let source =
            |i: usize| SourceLoss { nats: means[i] * targets[i] as f64, targets: targets[i] };
        [source(0), source(1)]
    }

    #[test]
    fn the_order_of_the_sources_does_not_show() {
        let mut average = LossAverage::default();
        let (weights, half_life) = ([0.75, 0.25], Tokens(40));
        for step in 1..=20 {
            let targets = if step % 2 == 0 { [10, 0] } else { [2, 8] };
            average.observe(&losses([1.0, 3.0], targets), Tokens(10 * step), half_life);
            let mean = average.mean(&weights, half_life);
            if step >= 4 {
                assert!((mean.unwrap() - 1.5).abs() < 1e-12);
            } else {
                assert_eq!(mean, None);
            }
        }
    }

    #[test]
    fn half_of_it_is_forgotten_in_a_half_life() {
        let mut average = LossAverage::default();
        let half_life = Tokens(100);
        for step in 1..=300 {
            let level = if step <= 290 { 2.0 } else { 4.0 };
            average.observe(&losses([level, 0.0], [10, 0]), Tokens(10 * step), half_life);
        }
        assert!((average.mean(&[1.0, 0.0], half_life).unwrap() - 3.0).abs() < 1e-6);
    }
}

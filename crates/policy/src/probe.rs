//! The critical-batch probe: which multiple of the batch loses nothing.
//!
//! From one checkpoint, branches train on the same tokens in the same order at one, two, four times
//! the batch. Their losses are compared block by block of tokens, so that a branch of few large
//! steps and one of many small ones are measured on the same text.

use serde::{Deserialize, Serialize};

/// The weight of the newest block in a smoothed loss.
///
/// # Source
///
/// Merrill et al. 2025, arXiv 2505.23971: branches are compared by a moving average of 0.5.
const SMOOTHING: f64 = 0.5;

/// The loss of one step of a branch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLoss {
    /// Its tokens.
    pub tokens: u64,
    /// The targets that its loss is the mean of.
    pub targets: u64,
    /// Nats per target.
    pub nats: f64,
}

/// What came of one multiple of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Multiple {
    /// How many times the batch.
    pub multiple: u64,
    /// The smoothed loss at the end, in nats per target.
    pub nats: f64,
    /// How much more that is than the best of the smaller multiples; zero for the smallest.
    pub excess_nats: f64,
    /// Whether that is within the tolerance.
    pub loses_nothing: bool,
}

/// The mean loss of each whole block of `block_tokens`, weighted by targets.
///
/// Steps that cross the edge of a block belong to the one that they end in.
#[must_use]
pub fn block_means(steps: &[StepLoss], block_tokens: u64) -> Vec<f64> {
    let mut means = Vec::new();
    let (mut tokens, mut targets, mut nats) = (0, 0, 0.0);
    for step in steps {
        tokens += step.tokens;
        targets += step.targets;
        nats += step.nats * step.targets as f64;
        if tokens >= block_tokens {
            means.push(nats / targets.max(1) as f64);
            (tokens, targets, nats) = (tokens - block_tokens, 0, 0.0);
        }
    }
    means
}

/// The moving average of the block means at the last of them; none if there are none.
#[must_use]
pub fn smoothed(means: &[f64]) -> Option<f64> {
    let (first, rest) = means.split_first()?;
    Some(rest.iter().fold(*first, |average, nats| average + SMOOTHING * (nats - average)))
}

/// Judges multiples of the batch by their smoothed losses, given as pairs in ascending order.
///
/// # Source
///
/// Merrill et al. 2025, arXiv 2505.23971: a multiple loses nothing if its loss is at most the loss
/// of every smaller one plus the tolerance (0.01 nats there).
#[must_use]
pub fn judge(losses: &[(u64, f64)], tolerance: f64) -> Vec<Multiple> {
    let mut best = f64::INFINITY;
    let judged = losses.iter().map(|(multiple, nats)| {
        let excess_nats = if best.is_finite() { nats - best } else { 0.0 };
        best = best.min(*nats);
        Multiple {
            multiple: *multiple,
            nats: *nats,
            excess_nats,
            loses_nothing: excess_nats <= tolerance,
        }
    });
    judged.collect()
}

/// The largest multiple that loses nothing; none if nothing was judged.
#[must_use]
pub fn critical(judged: &[Multiple]) -> Option<u64> {
    judged.iter().rev().find(|multiple| multiple.loses_nothing).map(|multiple| multiple.multiple)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(tokens: u64, nats: &[f64]) -> Vec<StepLoss> {
        nats.iter().map(|nats| StepLoss { tokens, targets: tokens, nats: *nats }).collect()
    }

    #[test]
    fn blocks_hold_the_same_tokens_whatever_the_steps() {
        let small = steps(8, &[4.0, 2.0, 2.0, 1.0]);
        assert_eq!(block_means(&small, 16), [3.0, 1.5]);
        assert_eq!(block_means(&steps(16, &[3.0, 1.5]), 16), [3.0, 1.5]);
        // What does not fill a block is left out.
        assert_eq!(block_means(&small[..3], 16), [3.0]);
    }

    #[test]
    fn targets_weigh() {
        let mut steps = steps(8, &[4.0, 1.0]);
        steps[0].targets = 1;
        steps[1].targets = 3;
        assert_eq!(block_means(&steps, 16), [1.75]);
    }

    #[test]
    fn the_average_forgets_by_halves() {
        assert_eq!(smoothed(&[4.0, 2.0, 1.0]), Some(2.0));
        assert_eq!(smoothed(&[]), None);
    }

    #[test]
    fn the_largest_within_the_tolerance_is_critical() {
        let judged = judge(&[(1, 2.0), (2, 1.98), (4, 1.989), (8, 2.05)], 0.01);
        let verdicts: Vec<bool> = judged.iter().map(|multiple| multiple.loses_nothing).collect();
        assert_eq!(verdicts, [true, true, true, false]);
        assert_eq!(critical(&judged), Some(4));
        // Measured against the best of the smaller ones, not against the next.
        assert!((judged[2].excess_nats - 0.009).abs() < 1e-12);
        assert!((judged[3].excess_nats - 0.07).abs() < 1e-12);
        assert_eq!(critical(&judge(&[(1, 2.0), (2, 2.02)], 0.01)), Some(1));
        assert_eq!(critical(&[]), None);
    }
}

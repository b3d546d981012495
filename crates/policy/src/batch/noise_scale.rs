//! The gradient noise scale: at which batch the noise of the gradient is as large as the gradient.
//!
//! A micro-batch with `n` targets has the summed gradient `s`, with `E|s|² = n²·|G|² + n·tr Σ`: `G`
//! is the true mean gradient of a target and `Σ` its covariance from target to target. Two sizes
//! of batch, the parts and the whole, tell the two unknowns apart; their ratio `tr Σ / |G|²` is the
//! noise scale, in targets.
//!
//! # Source
//!
//! McCandlish et al. 2018 (arXiv 1812.06162), section 2 and appendix A.1; that numerator and
//! denominator are averaged apart, because the ratio of single estimates is biased and may be
//! negative, is theirs too.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

/// The gradient of one micro-batch, reduced to its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MicroBatchGradient {
    /// The squared norm of the gradient of the *summed* nats, before clipping.
    pub square: f64,
    /// The targets that were summed over.
    pub targets: u64,
}

/// What one step says about the gradient and its noise, without bias.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseSample {
    /// The estimate of `|G|²`, the square of the true mean gradient; may be negative.
    pub gradient_square: f64,
    /// The estimate of `tr Σ`, the variance of the gradient of one target; may be negative.
    pub noise_trace: f64,
    /// The targets of the step.
    pub targets: u64,
}

impl NoiseSample {
    /// Estimates both from the micro-batches of a step and the squared norm of their sum.
    ///
    /// None with fewer than two micro-batches that have targets, or where a number is not finite.
    ///
    /// # Source
    ///
    /// With `N = Σ n_j`, `Q = Σ n_j²` and `A = Σ |s_j|²`, expectations are `E A = Q·|G|² + N·tr Σ`
    /// and `E|S|² = N²·|G|² + N·tr Σ` for the sum `S` of all. Solved for the unknowns:
    ///
    /// ```text
    /// |G|² ≈ (|S|² − A) / (N² − Q)            tr Σ ≈ (A − Q·|G|²) / N
    /// ```
    ///
    /// Both are linear in what is measured and so unbiased, for any numbers of targets; the first is
    /// the mean of `s_j·s_k / (n_j n_k)` over pairs of different micro-batches, weighted by `n_j n_k`.
    /// With equal numbers these are the estimators of McCandlish et al. (A.2).
    #[must_use]
    pub fn estimate(micro_batches: &[MicroBatchGradient], sum_square: f64) -> Option<Self> {
        let filled = micro_batches.iter().filter(|part| part.targets > 0);
        let (mut count, mut targets, mut square, mut parts) = (0, 0, 0.0, 0.0);
        for part in filled {
            count += 1;
            targets += part.targets;
            square += (part.targets as f64).powi(2);
            parts += part.square;
        }
        if count < 2 {
            return None;
        }
        let total = targets as f64;
        let gradient_square = (sum_square - parts) / (total * total - square);
        let noise_trace = (parts - square * gradient_square) / total;
        let finite = gradient_square.is_finite() && noise_trace.is_finite();
        finite.then_some(Self { gradient_square, noise_trace, targets })
    }
}

/// Running means of numerator and denominator; part of the checkpoint.
///
/// Each mean is an exponential one whose memory is counted in tokens, so that a larger batch
/// neither lengthens nor shortens it, and is divided by the weight that it has gathered, so that it
/// has no bias towards its beginning at zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseScale {
    gradient_square: f64,
    noise_trace: f64,
    weight: f64,
    /// Tokens seen at the last sample.
    tokens_seen: u64,
    /// Targets of the samples since the data last changed.
    fresh_targets: u64,
}

/// The noise scale as it is known at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseReading {
    /// The mean of `|G|²`.
    pub gradient_square: f64,
    /// The mean of `tr Σ`.
    pub noise_trace: f64,
    /// `tr Σ / |G|²`, in targets: the batch at which noise and gradient are as large. None where the
    /// mean of `|G|²` is not above zero: the noise hides the gradient, and the noise scale is larger
    /// than can be measured.
    pub targets: Option<f64>,
    /// Less than one half-life has passed since the data changed: most of it is the past's.
    pub is_stale: bool,
}

impl NoiseScale {
    /// Takes in what a step says.
    pub fn observe(&mut self, sample: NoiseSample, tokens_seen: Tokens, half_life: Tokens) {
        let half_life = half_life.0.max(1) as f64;
        let elapsed = tokens_seen.0.saturating_sub(self.tokens_seen) as f64;
        let kept = (-elapsed / half_life).exp2();
        let added = 1.0 - (-(sample.targets as f64) / half_life).exp2();
        self.gradient_square = kept * self.gradient_square + added * sample.gradient_square;
        self.noise_trace = kept * self.noise_trace + added * sample.noise_trace;
        self.weight = kept * self.weight + added;
        self.tokens_seen = tokens_seen.0;
        self.fresh_targets += sample.targets;
    }

    /// The data changed: the means are kept, and are stale until a half-life has passed.
    pub fn mark_stale(&mut self) {
        self.fresh_targets = 0;
    }

    /// What is known; none before the first sample.
    #[must_use]
    pub fn reading(&self, half_life: Tokens) -> Option<NoiseReading> {
        if self.weight <= 0.0 {
            return None;
        }
        let gradient_square = self.gradient_square / self.weight;
        let noise_trace = self.noise_trace / self.weight;
        Some(NoiseReading {
            gradient_square,
            noise_trace,
            targets: (gradient_square > 0.0).then(|| noise_trace.max(0.0) / gradient_square),
            is_stale: self.fresh_targets < half_life.0,
        })
    }
}

#[cfg(test)]
mod tests;

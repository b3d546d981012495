//! What a growth should do to the loss, written down before it is seen.

use serde::{Deserialize, Serialize};

use super::coupling::LearningRateCoupling;

/// The loss after a growth, as it is expected before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// By how much the loss should come to lie lower, in nats; none where neither an earlier answer
    /// nor the noise of the gradient is known.
    pub drop: Option<f64>,
    /// What that is derived from.
    pub basis: Option<PredictionBasis>,
    /// Where the line before the growth leads, in nats, at the time of the judgement: the loss if
    /// the growth does nothing. None where no line was fitted.
    pub unchanged_nats: Option<f64>,
    /// The least drop that will be told from noise.
    pub detectable_drop: Option<f64>,
}

/// What a predicted drop is derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionBasis {
    /// The answer to an earlier growth of the stage, carried on by the law of the noise floor.
    EarlierAnswer,
    /// The measured noise of the gradient. It takes all weights for equally noisy, which bounds
    /// the drop from above.
    NoiseFloor,
}

/// From one batch to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Growth {
    pub(super) from_tokens: u64,
    pub(super) to_tokens: u64,
    /// The run's first batch.
    pub(super) first_tokens: u64,
    /// Before it follows the batch.
    pub(super) learning_rate: f64,
    pub(super) rate: LearningRateCoupling,
}

impl Growth {
    /// The drop of the noise floor for a floor of `strength · rate / √batch`.
    ///
    /// # Source
    ///
    /// For a step `a_i = η / √v_i` in each direction of a quadratic loss, with second moments that
    /// are mostly noise, `v_i = c_i / B`, the loss settles `¼ Σ a_i c_i / B = ¼ η Σ √(c_i / B)` above
    /// its floor (small `a_i h_i`): in proportion to `η / √B`. A rate that follows the root of the
    /// batch cancels the drop, and one in proportion to the batch reverses it.
    pub(super) fn drop_for(&self, strength: f64) -> f64 {
        strength * self.lever()
    }

    /// The strength that an observed drop shows; none where a growth cannot move the floor.
    pub(super) fn strength_of(&self, drop: f64) -> Option<f64> {
        let lever = self.lever();
        (lever > 1e-12 * self.learning_rate).then(|| drop.max(0.0) / lever)
    }

    fn lever(&self) -> f64 {
        let level = |tokens: u64| {
            let factor = self.rate.factor(tokens as f64 / self.first_tokens as f64);
            self.learning_rate * factor / (tokens as f64).sqrt()
        };
        level(self.from_tokens) - level(self.to_tokens)
    }
}

/// The strength of the noise floor for gradients whose noise is `tr Σ` over `parameters` weights.
///
/// # Source
///
/// `Σ √c_i ≤ √(d · Σ c_i)` by Cauchy and Schwarz, with equality where all are equal: an upper bound,
/// `¼ √(d · tr Σ)`.
pub(super) fn strength_of_noise(noise_trace: f64, parameters: u64) -> f64 {
    0.25 * (parameters as f64 * noise_trace.max(0.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(from_tokens: u64, to_tokens: u64, rate: LearningRateCoupling) -> Growth {
        Growth { from_tokens, to_tokens, first_tokens: 100, learning_rate: 1e-3, rate }
    }

    /// The loss above its minimum at which the quadratic `½ Σ h x²` settles under
    /// `x ← x − η / √(h² e + c/B) · g`, by running the recursion of the second moments `e`.
    fn floor(curvatures: &[f64], noise: f64, rate: f64, batch: f64) -> f64 {
        let settle = |h: f64| {
            let mut e = 0.0;
            for _ in 0..2_000_000 {
                let a = rate / (h * h * e + noise / batch).sqrt();
                let next = (1.0 - a * h).powi(2) * e + a * a * noise / batch;
                if (next - e).abs() < 1e-13 * next {
                    break;
                }
                e = next;
            }
            0.5 * h * e
        };
        curvatures.iter().copied().map(settle).sum()
    }

    #[test]
    fn the_drop_is_that_of_the_quadratic_model() {
        let curvatures: Vec<f64> = (1..=5).map(|i| 1.0 / f64::from(i)).collect();
        let (noise, rate) = (4.0, 1e-3);
        let settled =
            floor(&curvatures, noise, rate, 100.0) - floor(&curvatures, noise, rate, 200.0);
        let strength = strength_of_noise(5.0 * noise, 5);
        let predicted = growth(100, 200, LearningRateCoupling::None).drop_for(strength);
        assert!((predicted / settled - 1.0).abs() < 0.03, "{predicted} {settled}");
    }

    #[test]
    fn an_answer_is_carried_on_by_the_root_of_the_batch() {
        let first = growth(100, 200, LearningRateCoupling::None);
        let strength = first.strength_of(0.02).unwrap();
        assert!((first.drop_for(strength) - 0.02).abs() < 1e-15);
        let second = growth(200, 400, LearningRateCoupling::None).drop_for(strength);
        assert!((second - 0.02 / 2f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_coupled_rate_cancels_the_drop_or_reverses_it() {
        let sqrt = growth(100, 400, LearningRateCoupling::Sqrt);
        assert!(sqrt.drop_for(1.0).abs() < 1e-18);
        assert_eq!(sqrt.strength_of(0.1), None);
        assert!(growth(100, 400, LearningRateCoupling::Linear).drop_for(1.0) < 0.0);
    }
}

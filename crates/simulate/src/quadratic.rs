//! The noisy quadratic model, in expectation.

use serde::{Deserialize, Serialize};

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepRule {
    /// The learning rate times the gradient.
    #[default]
    Sgd,
    /// The same over the root mean square norm of the gradient, noise included: what Adam does to a
    /// whole tensor.
    NormalizedSgd,
}

/// A quadratic bowl whose gradients are noisy: `L(x) = ½ Σ h_i (x_i - x*_i)²`, and a gradient of a
/// batch of `B` examples is `h_i (x_i - x*_i) + sqrt(c_i / B) ξ`.
///
/// # Source
///
/// Zhang et al. 2019 (arXiv 1907.04164) for the model; the floor, `B_simple` and the weights of the
/// oracle are derived from the recursion of [`Quadratic::step`].
#[derive(Clone, Debug, PartialEq)]
pub struct Quadratic {
    /// `h_i`, the curvature of each direction.
    pub curvature: Vec<f64>,
    /// `c_i`, the variance of one example's gradient in each direction.
    pub noise: Vec<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// How a gradient becomes a step.
    pub rule: StepRule,
}

/// Where training is, in expectation over the gradients' noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// `E(x_i - x*_i)`.
    pub mean: Vec<f64>,
    /// `E(x_i - x*_i)²`.
    pub square: Vec<f64>,
}

impl Position {
    /// A start at distance `sqrt(initial_square)` from the optimum in every direction.
    #[must_use]
    pub fn start(dimension: usize, initial_square: f64) -> Self {
        Self {
            mean: vec![initial_square.sqrt(); dimension],
            square: vec![initial_square; dimension],
        }
    }

    /// The same point, seen from an optimum that has moved by `shift`.
    #[must_use]
    pub fn seen_from(&self, shift: &[f64]) -> Self {
        let mean = self.mean.iter().zip(shift).map(|(m, d)| m - d).collect();
        let parts = self.square.iter().zip(&self.mean).zip(shift);
        let square = parts.map(|((e, m), d)| e - 2.0 * d * m + d * d).collect();
        Self { mean, square }
    }
}

impl Quadratic {
    /// A model whose curvature and noise fall as powers of the direction's number:
    /// `h_i = i^-curvature_power`, `c_i = i^-noise_power`.
    #[must_use]
    pub fn power_law(
        dimension: usize,
        curvature_power: f64,
        noise_power: f64,
        learning_rate: f64,
    ) -> Self {
        let powers = |power: f64| (1..=dimension).map(|i| (i as f64).powf(-power)).collect();
        Self {
            curvature: powers(curvature_power),
            noise: powers(noise_power),
            learning_rate,
            rule: StepRule::Sgd,
        }
    }

    /// The expected loss above the optimum's.
    #[must_use]
    pub fn loss(&self, at: &Position) -> f64 {
        0.5 * dot(&self.curvature, &at.square)
    }

    /// One step with a batch of `batch` examples, which need not be whole.
    pub fn step(&self, at: &mut Position, batch: f64) {
        let rate = match self.rule {
            StepRule::Sgd => self.learning_rate,
            StepRule::NormalizedSgd => {
                let mean_square = self.gradient_square(at) + self.noise.iter().sum::<f64>() / batch;
                self.learning_rate / mean_square.sqrt()
            }
        };
        let directions = at.mean.iter_mut().zip(&mut at.square);
        for ((mean, square), (h, c)) in directions.zip(self.curvature.iter().zip(&self.noise)) {
            let kept = 1.0 - rate * h;
            *mean *= kept;
            *square = kept * kept * *square + rate * rate * c / batch;
        }
    }

    /// The gradient noise scale `tr Σ / |G|²`, in examples.
    ///
    /// # Source
    ///
    /// McCandlish et al. 2018 (arXiv 1812.06162), `B_simple`.
    #[must_use]
    pub fn noise_scale(&self, at: &Position) -> f64 {
        self.noise.iter().sum::<f64>() / self.gradient_square(at)
    }

    /// The expected loss at rest with a batch of one, for plain SGD; a batch of `B` rests at this
    /// over `B`.
    #[must_use]
    pub fn floor(&self) -> f64 {
        let eta = self.learning_rate;
        let parts = self.curvature.iter().zip(&self.noise).map(|(h, c)| c / (2.0 - eta * h));
        0.5 * eta * parts.sum::<f64>()
    }

    /// The noise scale over the batch at rest, for plain SGD: it does not depend on the batch, which
    /// is why `B = κ · B_simple` either never acts or never stops.
    #[must_use]
    pub fn resting_ratio(&self) -> f64 {
        let eta = self.learning_rate;
        let parts = self.curvature.iter().zip(&self.noise);
        let gradient = eta * parts.map(|(h, c)| h * c / (2.0 - eta * h)).sum::<f64>();
        self.noise.iter().sum::<f64>() / gradient
    }

    fn gradient_square(&self, at: &Position) -> f64 {
        self.curvature.iter().zip(&at.square).map(|(h, e)| h * h * e).sum()
    }
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use terrace_base::Seed;

    use super::*;

    #[test]
    fn the_worked_example_has_the_known_constants() {
        let model = Quadratic::power_law(50, 1.0, 1.0, 0.5);
        assert!((model.loss(&Position::start(50, 1.0)) - 2.249_603).abs() < 1e-6);
        assert!((model.floor() - 0.625_361).abs() < 1e-6);
        assert!((model.resting_ratio() - 8.9326).abs() < 1e-4);
    }

    /// The recursion is that of averages over many noisy walks.
    #[test]
    fn expectations_are_those_of_walks() {
        for rule in [StepRule::Sgd, StepRule::NormalizedSgd] {
            let model = Quadratic { rule, ..Quadratic::power_law(2, 1.0, 1.0, 0.1) };
            let mut expected = Position::start(2, 1.0);
            let rates: Vec<f64> = (0..20)
                .map(|_| {
                    let norm = model.gradient_square(&expected) + 1.5 / 4.0;
                    model.step(&mut expected, 4.0);
                    if rule == StepRule::Sgd { 0.1 } else { 0.1 / norm.sqrt() }
                })
                .collect();
            let walks = 20_000_u64;
            let noise = Seed(1).stream("walks");
            let (mut mean, mut square) = ([0.0; 2], [0.0; 2]);
            for walk in 0..walks {
                for i in 0..2 {
                    let mut x = 1.0;
                    for (t, rate) in (0..).zip(&rates) {
                        let xi = noise.normal((walk * 20 + t) * 2 + i as u64);
                        x -= rate * (model.curvature[i] * x + (model.noise[i] / 4.0).sqrt() * xi);
                    }
                    mean[i] += x / walks as f64;
                    square[i] += x * x / walks as f64;
                }
            }
            for i in 0..2 {
                assert!((mean[i] - expected.mean[i]).abs() < 0.01, "{rule:?} {i}");
                assert!((square[i] - expected.square[i]).abs() < 0.01, "{rule:?} {i}");
            }
        }
    }

    #[test]
    fn normalized_steps_rest_at_the_root_of_the_batch() {
        let model =
            Quadratic { rule: StepRule::NormalizedSgd, ..Quadratic::power_law(50, 1.0, 1.0, 0.02) };
        let rest = |batch: f64| {
            let mut at = Position::start(50, 1.0);
            (0..40_000).for_each(|_| model.step(&mut at, batch));
            model.loss(&at)
        };
        for batch in [1.0, 4.0, 16.0] {
            let ratio = rest(batch) / rest(2.0 * batch);
            assert!((ratio - 2.0_f64.sqrt()).abs() < 0.01, "{batch}: {ratio}");
        }
    }

    proptest! {
        /// A batch at rest stays at rest, and the floor is one over the batch.
        #[test]
        fn the_floor_is_a_fixed_point(batch in 1.0f64..100.0, eta in 0.05f64..1.0, p in 0.0f64..2.0, q in 0.0f64..2.0) {
            let model = Quadratic::power_law(10, p, q, eta);
            let parts = model.curvature.iter().zip(&model.noise);
            let square: Vec<f64> =
                parts.map(|(h, c)| eta * c / (batch * h * (2.0 - eta * h))).collect();
            let mut at = Position { mean: vec![0.0; 10], square };
            let before = model.loss(&at);
            model.step(&mut at, batch);
            prop_assert!((model.loss(&at) / before - 1.0).abs() < 1e-9);
            prop_assert!((before * batch / model.floor() - 1.0).abs() < 1e-9);
            prop_assert!((model.noise_scale(&at) / batch / model.resting_ratio() - 1.0).abs() < 1e-9);
        }

        /// Moving the optimum there and back changes nothing.
        #[test]
        fn shifts_undo_each_other(shift in prop::collection::vec(-2.0f64..2.0, 4)) {
            let at = Position { mean: vec![0.5; 4], square: vec![1.25; 4] };
            let back: Vec<f64> = shift.iter().map(|d| -d).collect();
            let again = at.seen_from(&shift).seen_from(&back);
            for (a, b) in again.square.iter().zip(&at.square) {
                prop_assert!((a - b).abs() < 1e-12);
            }
        }
    }
}

//! The few pieces of statistics that the controller stands on.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Below this the variance of a loss is rounding, not noise: an `f32` near 2 is spaced by 2·10⁻⁷.
pub(super) const LEAST_VARIANCE: f64 = 1e-16;

/// The `t` that a Student variate with `freedom` degrees exceeds with probability `tail`.
pub(super) fn student_quantile(tail: f64, freedom: f64) -> f64 {
    // The lower tail has the digits that `1 − tail` would lose.
    -StudentsT::new(0.0, 1.0, freedom).expect("degrees of freedom are positive").inverse_cdf(tail)
}

fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability)
}

/// The window, in steps, in which a change of slope by `delta` is told from noise.
///
/// # Units
///
/// `delta` in nats per step, `noise_sd` the standard deviation of the loss of one step in nats (its
/// long-run value where losses are correlated), `power` and `alpha` as probabilities.
///
/// # Source
///
/// The variance of a least-squares slope over `n` equal steps is `12 s² / n³`, hence
/// `n = (12 (z_alpha + z_power)² s² / δ²)^(1/3)`. `alpha` is the level of one look; a stage spends
/// its own over several, so that the windows that are used are longer than this.
#[must_use]
pub fn window_steps_needed(delta: f64, noise_sd: f64, power: f64, alpha: f64) -> u64 {
    let z = normal_quantile(1.0 - alpha) + normal_quantile(power);
    (12.0 * (z * noise_sd / delta).powi(2)).cbrt().ceil() as u64
}

/// Counts, means and centred sums of products of pairs `(t, y)`.
///
/// # Source
///
/// Chan, Golub and LeVeque (1983): updated and merged without the cancellation that sums of raw
/// squares suffer from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Moments {
    pub(super) weight: f64,
    pub(super) mean_t: f64,
    pub(super) mean_y: f64,
    stt: f64,
    sty: f64,
    syy: f64,
}

impl Moments {
    /// One pair that stands for `weight` of them.
    pub(super) fn of(t: f64, y: f64, weight: f64) -> Self {
        Self { weight, mean_t: t, mean_y: y, ..Self::default() }
    }

    /// Both collections taken together.
    pub(super) fn merged(self, other: Self) -> Self {
        let weight = self.weight + other.weight;
        if weight == 0.0 {
            return self;
        }
        let (dt, dy) = (other.mean_t - self.mean_t, other.mean_y - self.mean_y);
        let share = other.weight / weight;
        let cross = self.weight * share;
        Self {
            weight,
            mean_t: self.mean_t + dt * share,
            mean_y: self.mean_y + dy * share,
            stt: self.stt + other.stt + dt * dt * cross,
            sty: self.sty + other.sty + dt * dy * cross,
            syy: self.syy + other.syy + dy * dy * cross,
        }
    }

    fn slope(&self) -> f64 {
        if self.stt > 0.0 { self.sty / self.stt } else { 0.0 }
    }

    /// The sum of squares that a straight line leaves.
    pub(super) fn residual(&self) -> f64 {
        (self.syy - self.slope() * self.sty).max(0.0)
    }
}

/// A least-squares line through block means, each weighted by its steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    moments: Moments,
    /// Degrees of freedom of the variance.
    pub(super) freedom: f64,
    /// Lag-1 autocorrelation of the residuals, corrected for its bias, at least zero.
    pub(super) autocorrelation: f64,
    /// What one step contributes to the variance of a mean over many.
    variance: f64,
}

impl Line {
    /// Fits `(t, y, steps)`.
    ///
    /// # Source
    ///
    /// The standard error is widened by `(1 + r) / (1 − r)` for a lag-1 autocorrelation `r` of the
    /// residuals. Fitting a line to `n` independent points biases `r` by about `−2/n`, which is
    /// added back; negative values are taken as zero, so that the adjustment never narrows.
    pub(super) fn fit(blocks: &[(f64, f64, f64)]) -> Self {
        let points = blocks.len() as f64;
        let moments = blocks
            .iter()
            .fold(Moments::default(), |sum, (t, y, steps)| sum.merged(Moments::of(*t, *y, *steps)));
        let slope = moments.slope();
        let residual = |(t, y, steps): &(f64, f64, f64)| {
            (y - moments.mean_y - slope * (t - moments.mean_t)) * steps.sqrt()
        };
        let residuals: Vec<f64> = blocks.iter().map(residual).collect();
        let squares: f64 = residuals.iter().map(|r| r * r).sum();
        let products: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let raw = if squares > 0.0 { products / squares } else { 0.0 };
        let autocorrelation = (raw + 2.0 / points).clamp(0.0, 0.8);
        let inflation = (1.0 + autocorrelation) / (1.0 - autocorrelation);
        let freedom = points - 2.0;
        let variance = (moments.residual() / freedom).max(LEAST_VARIANCE) * inflation;
        Self { moments, freedom, autocorrelation, variance }
    }

    /// Nats per step.
    pub(super) fn slope(&self) -> f64 {
        self.moments.slope()
    }

    /// The standard error of the slope.
    pub(super) fn slope_error(&self) -> f64 {
        (self.variance / self.moments.stt).sqrt()
    }

    /// What the mean of `steps` steps around `t` is expected to be, and the error of that.
    ///
    /// A noise-free loss at a constant learning rate does not rise, so a positive slope is taken
    /// for zero: extrapolated, it would make any later loss look like an improvement.
    pub(super) fn predicted(&self, t: f64, steps: f64) -> (f64, f64) {
        let distance = t - self.moments.mean_t;
        let mean = self.moments.mean_y + self.slope().min(0.0) * distance;
        let relative =
            1.0 / steps + 1.0 / self.moments.weight + distance.powi(2) / self.moments.stt;
        (mean, (self.variance * relative).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let tables = [
            (0.05, 10.0, 1.812461),
            (0.01, 6.0, 3.142668),
            (0.005, 20.0, 2.845340),
            (0.0005, 10.0, 4.586894),
            (0.00005, 18.0, 4.966),
            (1e-9, 10.0, 20.144698),
        ];
        for (tail, freedom, expected) in tables {
            let found = student_quantile(tail, freedom);
            assert!((found / expected - 1.0).abs() < 2e-4, "{tail} {freedom}: {found}");
        }
        assert!((normal_quantile(0.975) - 1.959964).abs() < 1e-6);
    }

    #[test]
    fn the_window_is_that_of_the_formula() {
        // (12 · (1.6449 + 0.8416)² · 0.015² / 10⁻¹²)^(1/3)
        assert_eq!(window_steps_needed(1e-6, 0.015, 0.8, 0.05), 2556);
        assert!(window_steps_needed(1e-6, 0.03, 0.8, 0.05) > 2556);
    }

    #[test]
    fn a_line_is_found_with_its_error() {
        let blocks = [(1.0, 3.0, 4.0), (3.0, 2.0, 4.0), (5.0, 1.5, 4.0), (7.0, 0.5, 4.0)];
        let line = Line::fit(&blocks);
        assert!((line.slope() + 0.4).abs() < 1e-12);
        // By hand: residuals ±0.05, ∓0.15 and so on; their squares sum to 0.05.
        let residual = 4.0 * 0.05;
        let inflation = (1.0 + line.autocorrelation) / (1.0 - line.autocorrelation);
        let expected = (residual / 2.0 * inflation / (4.0 * 20.0)).sqrt();
        assert!((line.slope_error() - expected).abs() < 1e-12, "{}", line.slope_error());
        let (mean, _) = line.predicted(9.0, 4.0);
        assert!((mean - (1.75 - 0.4 * 5.0)).abs() < 1e-12);
    }

    #[test]
    fn a_rising_line_is_extrapolated_flat() {
        let line = Line::fit(&[(0.0, 1.0, 1.0), (1.0, 2.0, 1.0), (2.0, 3.1, 1.0)]);
        assert!(line.slope() > 1.0);
        assert!((line.predicted(50.0, 1.0).0 - 6.1 / 3.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn merging_equals_adding_one_by_one(
            pairs in prop::collection::vec((-5.0f64..5.0, -5.0f64..5.0), 3..40),
            cut in 0usize..40,
        ) {
            let of = |pairs: &[(f64, f64)]| {
                pairs.iter().fold(Moments::default(), |sum, (t, y)| sum.merged(Moments::of(*t, *y, 1.0)))
            };
            let cut = cut.min(pairs.len());
            let [whole, parts] = [of(&pairs), of(&pairs[..cut]).merged(of(&pairs[cut..]))];
            let mean = pairs.iter().map(|p| p.1).sum::<f64>() / pairs.len() as f64;
            prop_assert!((whole.mean_y - mean).abs() < 1e-9);
            for (one, other) in [
                (whole.mean_t, parts.mean_t), (whole.mean_y, parts.mean_y),
                (whole.stt, parts.stt), (whole.sty, parts.sty), (whole.syy, parts.syy),
            ] {
                prop_assert!((one - other).abs() < 1e-9, "{one} {other}");
            }
        }
    }
}

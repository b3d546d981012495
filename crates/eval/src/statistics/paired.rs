//! Two models on the same items.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF, Normal};
use terrace_base::Seed;

use super::estimate::{mean, variance};

/// Items that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flips {
    /// Wrong before, right now.
    pub gained: u64,
    /// Right before, wrong now.
    pub lost: u64,
}

/// Which items changed between `before` and `after`; none if a score is neither 0 nor 1.
///
/// # Panics
///
/// The two are of different lengths.
#[must_use]
pub fn flips(before: &[f64], after: &[f64]) -> Option<Flips> {
    assert_eq!(before.len(), after.len(), "the scores are of the same items");
    let mut flips = Flips::default();
    for (before, after) in before.iter().zip(after) {
        match (is_right(*before)?, is_right(*after)?) {
            (false, true) => flips.gained += 1,
            (true, false) => flips.lost += 1,
            _ => {}
        }
    }
    Some(flips)
}

fn is_right(score: f64) -> Option<bool> {
    (score == 0.0 || score == 1.0).then_some(score == 1.0)
}

/// How a p-value was worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum McNemarTest {
    /// From the binomial distribution, where fewer than 25 items changed.
    ExactBinomial,
    /// From χ² with one degree of freedom and a correction for continuity.
    ChiSquared,
}

/// Whether gains and losses could be a fair coin's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// The chance of a difference at least as large, either way, if neither model were better.
    pub p_value: f64,
    /// How it was worked out.
    pub test: McNemarTest,
}

/// McNemar's test, two-sided.
///
/// # Source
///
/// McNemar (1947); the correction is Edwards's (1948). Below 25 changes the χ² is a poor approximation.
#[must_use]
pub fn mcnemar(flips: Flips) -> McNemar {
    let changed = flips.gained + flips.lost;
    if changed < 25 {
        let fewer = flips.gained.min(flips.lost);
        let p_value =
            Binomial::new(0.5, changed).map_or(1.0, |coin| (2.0 * coin.cdf(fewer)).min(1.0));
        return McNemar { p_value, test: McNemarTest::ExactBinomial };
    }
    let apart = (flips.gained.abs_diff(flips.lost) as f64 - 1.0).max(0.0);
    let statistic = apart.powi(2) / changed as f64;
    let p_value = ChiSquared::new(1.0).map_or(1.0, |chi| chi.sf(statistic));
    McNemar { p_value, test: McNemarTest::ChiSquared }
}

/// What differences drawn again and again say of their mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Below this are 2.5% of the means that were drawn.
    pub low: f64,
    /// Above this are 2.5% of them.
    pub high: f64,
    /// The share of them above zero, those at zero counted half.
    pub share_above_zero: f64,
    /// How many were drawn.
    pub resamples: usize,
}

/// The paired bootstrap of a difference: items are drawn with repetition within each task, and what is
/// averaged over tasks is each one's mean difference. None if a task, or all of them, has no item.
///
/// # Determinism
///
/// A function of the differences, their order, the number of resamples and the seed.
///
/// # Source
///
/// Efron and Tibshirani (1993), percentile intervals.
#[must_use]
pub fn bootstrap(tasks: &[Vec<f64>], resamples: usize, seed: Seed) -> Option<Bootstrap> {
    if tasks.is_empty() || tasks.iter().any(Vec::is_empty) || resamples == 0 {
        return None;
    }
    let stream = seed.stream("bootstrap");
    let drawn = |resample: usize| {
        let means = tasks.iter().enumerate().map(|(task, differences)| {
            let stream = stream.substream(resample as u64).substream(task as u64);
            let n = differences.len();
            let one = |i| differences[((stream.unit(i) * n as f64) as usize).min(n - 1)];
            (0..n as u64).map(one).sum::<f64>() / n as f64
        });
        means.sum::<f64>() / tasks.len() as f64
    };
    let mut means: Vec<f64> = (0..resamples).map(drawn).collect();
    means.sort_by(f64::total_cmp);
    let above: f64 = means
        .iter()
        .map(|mean| {
            if *mean > 0.0 {
                1.0
            } else if *mean == 0.0 {
                0.5
            } else {
                0.0
            }
        })
        .sum();
    Some(Bootstrap {
        low: quantile(&means, 0.025),
        high: quantile(&means, 0.975),
        share_above_zero: above / resamples as f64,
        resamples,
    })
}

/// Between two values linearly, of values in rising order.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + rest * (sorted[above] - sorted[below])
}

/// The true difference that a two-sided test at 5% on as many items would find in four of five cases;
/// none below two items.
///
/// # Units
///
/// Those of the differences.
///
/// # Source
///
/// `(z_0.975 + z_0.8) · s / √n`, with the standard deviation `s` of the paired differences.
#[must_use]
pub fn minimum_detectable_effect(differences: &[f64]) -> Option<f64> {
    if differences.len() < 2 {
        return None;
    }
    let normal = Normal::standard();
    let z = normal.inverse_cdf(0.975) + normal.inverse_cdf(0.8);
    Some(z * (variance(differences) / differences.len() as f64).sqrt())
}

/// The mean difference, after less before.
pub(crate) fn differences(before: &[f64], after: &[f64]) -> (Vec<f64>, f64) {
    let differences: Vec<f64> =
        before.iter().zip(after).map(|(before, after)| after - before).collect();
    let mean = mean(&differences);
    (differences, mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_counted_and_only_of_right_and_wrong() {
        let counted = flips(&[0.0, 1.0, 1.0, 0.0], &[1.0, 0.0, 1.0, 1.0]).unwrap();
        assert_eq!(counted, Flips { gained: 2, lost: 1 });
        assert_eq!(flips(&[0.5], &[1.0]), None);
    }

    #[test]
    fn mcnemar_is_as_in_the_tables() {
        let p = |gained, lost| mcnemar(Flips { gained, lost });
        // 2 · P(X <= 1) of 10 throws = 2 · 11 / 1024.
        assert!((p(9, 1).p_value - 22.0 / 1024.0).abs() < 1e-12);
        assert_eq!(p(9, 1).test, McNemarTest::ExactBinomial);
        assert_eq!(p(0, 0).p_value, 1.0);
        assert_eq!(p(5, 5).p_value, 1.0);
        // Agresti's approval ratings: 150 and 86 changed; (64 - 1)² / 236 = 16.818, p = 4.115e-5.
        let approval = p(86, 150);
        assert_eq!(approval.test, McNemarTest::ChiSquared);
        assert!((approval.p_value - 4.115e-5).abs() < 1e-8, "{}", approval.p_value);
        assert_eq!(p(86, 150), p(150, 86));
        assert_eq!(p(13, 13).p_value, 1.0);
    }

    #[test]
    fn the_bootstrap_agrees_with_the_normal_theory() {
        // Half of 400 differences are 1, half 0: mean 0.5, standard error 0.025.
        let differences: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let drawn = bootstrap(&[differences], 2000, Seed(3)).unwrap();
        assert!((drawn.low - (0.5 - 1.96 * 0.025)).abs() < 0.005, "{drawn:?}");
        assert!((drawn.high - (0.5 + 1.96 * 0.025)).abs() < 0.005, "{drawn:?}");
        assert_eq!(drawn.share_above_zero, 1.0);
        let same = bootstrap(&[vec![0.0; 5], vec![0.0; 2]], 100, Seed(3)).unwrap();
        assert_eq!((same.low, same.high, same.share_above_zero), (0.0, 0.0, 0.5));
        assert_eq!(bootstrap(&[vec![]], 10, Seed(3)), None);
    }

    #[test]
    fn the_bootstrap_depends_on_its_seed_and_nothing_else() {
        let differences = [vec![1.0, -1.0, 0.0, 1.0], vec![0.5, -0.25]];
        let drawn = |seed| bootstrap(&differences, 200, Seed(seed)).unwrap();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn the_detectable_effect_follows_the_formula() {
        let differences: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let expected = (1.959_964 + 0.841_621) * (25.0 / 99.0_f64).sqrt() / 10.0;
        let found = minimum_detectable_effect(&differences).unwrap();
        assert!((found - expected).abs() < 1e-6);
        assert_eq!(minimum_detectable_effect(&[1.0]), None);
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!(quantile(&[0.0, 1.0, 2.0], 0.5), 1.0);
        assert_eq!(quantile(&[0.0, 1.0], 0.25), 0.25);
        assert_eq!(quantile(&[4.0], 0.9), 4.0);
    }
}

//! Means, quantiles and ranks.

use serde::{Deserialize, Serialize};

/// How values spread: their mean, fifth percentile and median.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The value below which a twentieth lies.
    pub p5: f64,
    /// The median.
    pub p50: f64,
}

impl Spread {
    /// Of some values; NaN throughout where there are none.
    #[must_use]
    pub fn of(values: &[f32]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let quantile = |share: f64| match sorted.len() {
            0 => f64::NAN,
            n => f64::from(sorted[((n - 1) as f64 * share).round() as usize]),
        };
        Self { mean: mean(values), p5: quantile(0.05), p50: quantile(0.5) }
    }
}

/// The mean in double precision; NaN of nothing.
pub(super) fn mean(values: &[f32]) -> f64 {
    values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64
}

/// Spearman's rank correlation: Pearson's on ranks, equal values sharing their mean rank.
///
/// None with fewer than three pairs or where one side does not vary.
#[must_use]
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "pairs");
    if a.len() < 3 {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - middle) * (y - middle)).sum()
    };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    let mut ranks = vec![0.0; values.len()];
    for tied in order.chunk_by(|i, j| values[*i] == values[*j]) {
        let first = order.iter().position(|i| *i == tied[0]).expect("it is in the order");
        let rank = first as f64 + (tied.len() as f64 - 1.0) / 2.0;
        tied.iter().for_each(|i| ranks[*i] = rank);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranks_are_compared_not_values() {
        let correlation = |a: &[f64], b: &[f64]| rank_correlation(a, b).unwrap();
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[10.0, 20.0, 1e9]), 1.0);
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, -5.0]), -1.0);
        // 1 - 6 * 2 / (5 * 24)
        let found = correlation(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 3.0, 4.0, 5.0]);
        assert!((found - 0.9).abs() < 1e-12);
        assert_eq!(ranks(&[2.0, 1.0, 2.0]), [1.5, 0.0, 1.5]);
        assert_eq!(rank_correlation(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(rank_correlation(&[1.0, 2.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn a_spread_is_read_off_the_order() {
        let values: Vec<f32> = (0..=100).rev().map(|i| i as f32).collect();
        assert_eq!(Spread::of(&values), Spread { mean: 50.0, p5: 5.0, p50: 50.0 });
    }

    proptest! {
        #[test]
        fn a_monotone_map_changes_no_rank(values in prop::collection::vec(-1e3f64..1e3, 3..20)) {
            let mapped: Vec<f64> = values.iter().map(|x| x.powi(3)).collect();
            if let Some(found) = rank_correlation(&values, &mapped) {
                prop_assert!((found - 1.0).abs() < 1e-9);
            }
        }
    }
}

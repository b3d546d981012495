//! Means and their standard errors, as lm-evaluation-harness computes them.

/// The mean; zero of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard error of the mean: the sample's standard deviation (of `n - 1`) over `√n`; none below
/// two values.
///
/// # Source
///
/// `mean_stderr` of lm-evaluation-harness.
#[must_use]
pub fn standard_error(values: &[f64]) -> Option<f64> {
    let n = values.len();
    (n > 1).then(|| (variance(values) / n as f64).sqrt())
}

/// The variance of a sample of at least two.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    squares / (values.len() - 1) as f64
}

/// The standard error of the mean over all items of several subsets, from each subset's own standard
/// error and size; none if no degree of freedom is left.
///
/// # Source
///
/// `pooled_sample_stderr` of lm-evaluation-harness.
#[must_use]
pub fn pooled_standard_error(parts: &[(f64, usize)]) -> Option<f64> {
    let total: usize = parts.iter().map(|(_, size)| size).sum();
    let freedom = total.checked_sub(parts.len()).filter(|freedom| *freedom > 0)?;
    let squares: f64 = parts
        .iter()
        .map(|(error, size)| size.saturating_sub(1) as f64 * error.powi(2) * *size as f64)
        .sum();
    Some((squares / freedom as f64 / total as f64).sqrt())
}

/// The sum of some values over the sum of their sizes, and its standard error; that is none below two
/// values. None where the sizes add up to nothing.
///
/// # Source
///
/// The error is that of a ratio of means, to first order (Cochran 1977, equation 6.13, from a large
/// population).
#[must_use]
pub fn ratio(values: &[f64], sizes: &[f64]) -> Option<(f64, Option<f64>)> {
    let (n, total) = (values.len(), sizes.iter().sum::<f64>());
    if total == 0.0 {
        return None;
    }
    let ratio = values.iter().sum::<f64>() / total;
    let squares: f64 =
        values.iter().zip(sizes).map(|(value, size)| (value - ratio * size).powi(2)).sum();
    let error = (n > 1).then(|| (n as f64 / (n - 1) as f64 * squares).sqrt() / total);
    Some((ratio, error))
}

/// The chance that of `k` tries at least one passes, estimated without bias from `n` tries of which
/// `c` passed; `k` is at most `n`.
///
/// # Source
///
/// Chen et al. (2021), equation 1: `1 - C(n-c, k) / C(n, k)`.
#[must_use]
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    if n < c + k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_error_of_shares_is_that_of_the_harness() {
        let values = [1.0, 0.0, 0.0, 1.0, 1.0];
        // sqrt(p (1 - p) / (n - 1)) with p = 0.6 and n = 5.
        let expected = (0.6_f64 * 0.4 / 4.0).sqrt();
        assert!((standard_error(&values).unwrap() - expected).abs() < 1e-15);
        assert_eq!(standard_error(&values[..1]), None);
        assert_eq!(mean(&[]), 0.0);
    }

    #[test]
    fn the_error_of_a_ratio_is_that_of_the_mean_where_all_sizes_are_equal() {
        let (value, error) = ratio(&[10.0, 20.0, 30.0], &[10.0; 3]).unwrap();
        assert!((value - 2.0).abs() < 1e-15);
        assert!((error.unwrap() - standard_error(&[1.0, 2.0, 3.0]).unwrap()).abs() < 1e-15);
        // Where the value goes with the size nothing varies.
        assert_eq!(ratio(&[1.0, 3.0], &[1.0, 3.0]), Some((1.0, Some(0.0))));
        assert_eq!(ratio(&[1.0], &[2.0]), Some((0.5, None)));
        assert_eq!(ratio(&[], &[]), None);
    }

    #[test]
    fn pooled_errors_weigh_by_size() {
        // ((10-1)·0.1²·10 + (20-1)·0.05²·20) / (30-2) / 30, under a root.
        let expected = ((0.9 + 0.95) / 28.0_f64 / 30.0).sqrt();
        let pooled = pooled_standard_error(&[(0.1, 10), (0.05, 20)]).unwrap();
        assert!((pooled - expected).abs() < 1e-15);
        assert_eq!(pooled_standard_error(&[(0.0, 1), (0.0, 1)]), None);
    }

    #[test]
    fn pass_at_k_is_one_less_the_chance_of_drawing_failures_only() {
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
        for (n, c, k) in [(10, 3, 1), (10, 3, 5), (200, 17, 100), (5, 0, 2)] {
            let expected = 1.0 - choose((n - c) as u64, k as u64) / choose(n as u64, k as u64);
            assert!((pass_at_k(n, c, k) - expected).abs() < 1e-12, "{n} {c} {k}");
        }
        assert_eq!(pass_at_k(10, 6, 5), 1.0);
        assert_eq!(pass_at_k(1, 1, 1), 1.0);
    }
}

//! How long it takes to see that a loss has stopped falling.

use terrace_policy::batch::PlateauSettings;

/// The number of steps after which a slope of `nats_per_step` can be told from zero under white
/// noise: `(12 (z_alpha + z_beta)^2 sd^2 / slope^2)^(1/3)`, with a power of 0.8.
///
/// It is the shortest window: autocorrelated noise, repeated looks and confirmation lengthen it.
///
/// # Units
///
/// `nats_per_step` and `noise_sd` in nats, the latter for the loss of one step.
///
/// # Source
///
/// The variance of a least-squares slope over n steps is `12 sd^2 / n^3` for large n.
#[must_use]
pub fn window_steps(nats_per_step: f64, noise_sd: f64, alpha: f64) -> u64 {
    let z = normal_quantile(1.0 - alpha) + normal_quantile(POWER);
    let steps = (12.0 * (z * noise_sd / nats_per_step).powi(2)).cbrt().ceil();
    // A float cast saturates: an endless window becomes the largest count.
    steps as u64
}

/// The number of steps after a growth in which none is considered, where the run file does not set
/// it: a quarter of the window, and at least three time constants of the second moments.
#[must_use]
pub fn cooldown_steps(window_steps: u64, beta2: f64) -> u64 {
    PlateauSettings { beta2, ..PlateauSettings::default() }.derived_cooldown(window_steps as f64)
}

const POWER: f64 = 0.8;

/// The value that a standard normal variate stays below with this probability.
///
/// # Source
///
/// Acklam's rational approximation, relative error below 1.2e-9; only the parts for
/// probabilities from one half up are needed.
fn normal_quantile(probability: f64) -> f64 {
    const TAIL: f64 = 1.0 - 0.02425;
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |y, c| y * x + c);
    if probability <= TAIL {
        let q = probability - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / polynomial(&B, r)
    } else {
        let q = (-2.0 * (1.0 - probability).ln()).sqrt();
        -polynomial(&C, q) / polynomial(&D, q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Tables of the normal distribution.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (probability, quantile) in [
            (0.5, 0.0),
            (0.8, 0.841_621_233_6),
            (0.95, 1.644_853_627_0),
            (0.975, 1.959_963_984_5),
            (0.999, 3.090_232_306_2),
        ] {
            assert!((normal_quantile(probability) - quantile).abs() < 1e-8, "{probability}");
        }
    }

    #[test]
    fn the_window_is_that_of_the_method_notes() {
        assert_eq!(window_steps(1e-6, 0.015, 0.05), 2556);
    }

    #[test]
    fn four_times_the_batch_needs_fewer_steps() {
        let (small, large) = (window_steps(1e-6, 0.02, 0.05), window_steps(1e-6, 0.01, 0.05));
        assert!(large < small && small < 2 * large);
    }
}

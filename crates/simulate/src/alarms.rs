//! False alarms and delay: thousands of simulated loss curves, and rules that say when one is flat.

mod curves;
mod detectors;

use rayon::prelude::*;
use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};
use terrace_base::Seed;

use self::curves::{Curve, DELTA, STAGE_STEPS};
pub use self::curves::{NOISE_SD, NoiseClass};
use self::detectors::{Detector, Firing, PlainSlope, ReduceOnPlateau, Shipped, planned_window};
use crate::seeds::quantile;

/// What a rule did on the curves of one class of noise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlarmRow {
    /// The class of the noise.
    pub noise: NoiseClass,
    /// The rule.
    pub detector: String,
    /// Standard deviation of one step's loss in nats; none for all together.
    pub noise_sd: Option<f64>,
    /// Curves.
    pub curves: u64,
    /// Curves on which it fired while the noise-free loss still fell faster than delta.
    pub false_growths: u64,
    /// Their share.
    pub false_rate: f64,
    /// The upper 95 % bound of that share.
    pub false_rate_upper: f64,
    /// Curves that become flat and on which it had not fired before.
    pub flat: u64,
    /// The share of those on which it fired before the stage ended.
    pub power: f64,
    /// Steps from where the loss became flat to where it fired: the fifth percentile, the median, and
    /// the ninety-fifth.
    pub delay_steps: Option<[f64; 3]>,
    /// The median of the delay in windows as a plan shows them: the shortest that one look needs.
    pub delay_planned_windows: Option<f64>,
    /// The median of the delay in windows that the rule looked back over when it fired.
    pub delay_windows: Option<f64>,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlarmStudy {
    /// The level that the controller was told.
    pub alpha: f64,
    /// The descent that counts as a plateau, in nats per step.
    pub delta_nats_per_step: f64,
    /// Steps of a stage.
    pub stage_steps: u64,
    /// Curves of each class of noise.
    pub curves: u64,
    /// One row for each class, rule and standard deviation.
    pub rows: Vec<AlarmRow>,
}

/// When each rule fired on one curve.
struct Outcome {
    sd: f64,
    window: u64,
    flat_from: Option<u64>,
    fired: Vec<Option<Firing>>,
}

const DETECTORS: [&str; 4] = [
    "terrace",
    "ReduceLROnPlateau(patience=10)",
    "ReduceLROnPlateau(patience=500)",
    "slope t-test",
];

/// Runs every rule on `curves` curves of each class of noise; `progress` is told how many are done.
///
/// A quarter of the curves falls for ever, 5 % faster than delta; the others are power laws and
/// exponentials that become flat. A quarter has spikes, and a quarter is a second stage behind a jump.
///
/// # Determinism
///
/// A function of the arguments: every curve has a stream of its own.
pub fn study(seed: Seed, curves: u64, alpha: f64, progress: impl Fn(u64) + Sync) -> AlarmStudy {
    let mut rows = Vec::new();
    for class in [NoiseClass::White, NoiseClass::Autoregressive] {
        let outcomes: Vec<Outcome> = (0..curves)
            .into_par_iter()
            .map(|index| {
                let found = outcome(&Curve::new(seed, class, index), alpha);
                progress(1);
                found
            })
            .collect();
        for (place, name) in DETECTORS.iter().enumerate() {
            rows.push(row(class, name, place, None, &outcomes));
            let each = NOISE_SD.iter();
            rows.extend(each.map(|sd| row(class, name, place, Some(*sd), &outcomes)));
        }
    }
    let (delta_nats_per_step, stage_steps) = (DELTA, STAGE_STEPS);
    AlarmStudy { alpha, delta_nats_per_step, stage_steps, curves, rows }
}

fn outcome(curve: &Curve, alpha: f64) -> Outcome {
    let losses = curve.losses();
    let window = planned_window(curve.long_run_sd(), alpha);
    let mut detectors: [Box<dyn Detector>; 4] = [
        Box::new(Shipped { alpha }),
        Box::new(ReduceOnPlateau { patience: 10, threshold: 1e-4 }),
        Box::new(ReduceOnPlateau { patience: 500, threshold: 1e-4 }),
        Box::new(PlainSlope { window: window as usize }),
    ];
    let fired = detectors.iter_mut().map(|detector| detector.fires(&losses)).collect();
    Outcome { sd: curve.sd, window, flat_from: curve.flat_from(), fired }
}

fn row(
    noise: NoiseClass,
    detector: &str,
    place: usize,
    noise_sd: Option<f64>,
    outcomes: &[Outcome],
) -> AlarmRow {
    let chosen = outcomes.iter().filter(|o| noise_sd.is_none_or(|sd| o.sd == sd));
    let (mut curves, mut false_growths, mut flat) = (0_u64, 0_u64, 0_u64);
    let mut delays: Vec<[f64; 3]> = Vec::new();
    for outcome in chosen {
        curves += 1;
        match (outcome.flat_from, outcome.fired[place]) {
            (None, Some(_)) => false_growths += 1,
            (Some(from), Some(firing)) if firing.step < from => false_growths += 1,
            (Some(from), fired) => {
                flat += 1;
                delays.extend(fired.map(|firing| {
                    let steps = (firing.step - from) as f64;
                    [steps, steps / outcome.window as f64, steps / firing.window as f64]
                }));
            }
            (None, None) => {}
        }
    }
    let sorted = |column: usize| {
        let mut values: Vec<f64> = delays.iter().map(|delay| delay[column]).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let [steps, planned, windows] = [0, 1, 2].map(sorted);
    let fired = !steps.is_empty();
    AlarmRow {
        noise,
        detector: detector.to_owned(),
        noise_sd,
        curves,
        false_growths,
        false_rate: false_growths as f64 / curves.max(1) as f64,
        false_rate_upper: clopper_pearson_upper(false_growths, curves),
        flat,
        power: steps.len() as f64 / flat.max(1) as f64,
        delay_steps: fired.then(|| [0.05, 0.5, 0.95].map(|share| quantile(&steps, share))),
        delay_planned_windows: fired.then(|| quantile(&planned, 0.5)),
        delay_windows: fired.then(|| quantile(&windows, 0.5)),
    }
}

/// The share that `found` of `trials` is below with 95 % confidence.
///
/// # Source
///
/// Clopper and Pearson 1934, the upper end of the two-sided interval.
fn clopper_pearson_upper(found: u64, trials: u64) -> f64 {
    if found >= trials {
        return 1.0;
    }
    let shape = (found as f64 + 1.0, (trials - found) as f64);
    Beta::new(shape.0, shape.1).expect("both are positive").inverse_cdf(0.975)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_that_of_the_tables() {
        assert!((clopper_pearson_upper(0, 10) - 0.308_497).abs() < 1e-5);
        assert!((clopper_pearson_upper(5, 100) - 0.112_835).abs() < 1e-5);
        assert_eq!(clopper_pearson_upper(4, 4), 1.0);
    }

    /// A small version of the study; the full one is in the crate's README.
    #[test]
    fn the_shipped_test_is_quiet_while_the_loss_falls_and_speaks_when_it_rests() {
        let found = study(Seed(17), 192, 0.05, |_| ());
        let row = |noise, detector: &str, sd| {
            let mut rows = found.rows.iter();
            rows.find(|r| r.noise == noise && r.detector == detector && r.noise_sd == sd).unwrap()
        };
        for noise in [NoiseClass::White, NoiseClass::Autoregressive] {
            let ours = row(noise, "terrace", None);
            assert_eq!(ours.curves, 192);
            assert!(ours.false_rate <= 0.05, "{ours:?}");
            let rival = row(noise, "ReduceLROnPlateau(patience=10)", None);
            assert!(rival.false_rate > 0.9, "it fires on noise: {rival:?}");
        }
        let sharp = row(NoiseClass::White, "terrace", Some(0.01));
        assert!(sharp.power > 0.8 && sharp.delay_windows.unwrap() < 3.0, "{sharp:?}");
    }
}

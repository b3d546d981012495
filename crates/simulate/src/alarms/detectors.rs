//! What is held against each other: rules that say when a loss has stopped falling.

use terrace_base::Tokens;
use terrace_policy::batch::{
    BatchController, BatchPolicy, DecisionKind, Observation, PlateauSettings, SourceLoss,
    StageBatch, StageInfo, window_steps_needed,
};

use super::curves::{DELTA, STAGE_STEPS};

/// When a rule said that the loss is flat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Firing {
    /// The step, counted from one.
    pub(super) step: u64,
    /// The steps that it looked back over.
    pub(super) window: u64,
}

/// A rule that says when the loss is flat.
pub(super) trait Detector {
    /// The first time that it does.
    fn fires(&mut self, losses: &[f64]) -> Option<Firing>;
}

/// The controller that trains, told the level of the stage.
pub(super) struct Shipped {
    pub(super) alpha: f64,
}

impl Detector for Shipped {
    fn fires(&mut self, losses: &[f64]) -> Option<Firing> {
        let settings = PlateauSettings {
            minimum_steps_left: Some(1),
            ..PlateauSettings::new(DELTA * STAGE_STEPS as f64 / 100.0, self.alpha)
        };
        let policy = BatchPolicy::Plateau(settings);
        let mut controller = BatchController::new(policy, 1, 1).expect("the settings are sound");
        for (step, loss) in (0..).zip(losses) {
            if step % STAGE_STEPS == 0 {
                let _begun = controller.on_stage_start(StageInfo {
                    index: (step / STAGE_STEPS) as usize,
                    start_tokens: Tokens(step),
                    budget_tokens: Tokens(STAGE_STEPS),
                    batch: StageBatch::Carry,
                    settle_tokens: Tokens(STAGE_STEPS / 100),
                    reference_weights: vec![1.0],

                    trained_parameters: None,
                });
            }
            let decision = controller.observe(Observation {
                step: step + 1,
                tokens_seen: Tokens(step + 1),
                sources: &[SourceLoss { nats: *loss, targets: 1 }],
                learning_rate: 3e-5,
                noise: None,
                is_bad: false,
                is_spike: false,
            });
            let grown = decision.filter(|decision| decision.kind == DecisionKind::Grow);
            if let Some(evidence) = grown.and_then(|decision| decision.evidence) {
                return Some(Firing { step: step + 1, window: evidence.window_steps });
            }
        }
        None
    }
}

/// PyTorch's `ReduceLROnPlateau` with `mode="min"`, `threshold_mode="rel"`, stepped on every loss.
///
/// # Source
///
/// `torch/optim/lr_scheduler.py`: better is below `best * (1 - threshold)`, and it acts once more than
/// `patience` losses in a row were not better.
pub(super) struct ReduceOnPlateau {
    pub(super) patience: u64,
    pub(super) threshold: f64,
}

impl Detector for ReduceOnPlateau {
    fn fires(&mut self, losses: &[f64]) -> Option<Firing> {
        let (mut best, mut bad) = (f64::INFINITY, 0);
        for (step, loss) in (1..).zip(losses) {
            if *loss < best * (1.0 - self.threshold) {
                (best, bad) = (*loss, 0);
            } else {
                bad += 1;
            }
            if bad > self.patience {
                return Some(Firing { step, window: self.patience });
            }
        }
        None
    }
}

/// Fires where the slope of the last window is not significantly below zero: a plain t-test, looked at
/// after every quarter of a window.
pub(super) struct PlainSlope {
    pub(super) window: usize,
}

/// The one-sided normal quantile of five per cent: windows are long.
const QUANTILE: f64 = 1.644_853_6;

impl Detector for PlainSlope {
    fn fires(&mut self, losses: &[f64]) -> Option<Firing> {
        let ends = (self.window..=losses.len()).step_by((self.window / 4).max(1));
        let mut looks = ends.map(|end| (end, slope_statistic(&losses[end - self.window..end])));
        let window = self.window as u64;
        looks.find(|(_, t)| *t > -QUANTILE).map(|(end, _)| Firing { step: end as u64, window })
    }
}

/// The least-squares slope over its standard error.
fn slope_statistic(losses: &[f64]) -> f64 {
    let n = losses.len() as f64;
    let (mean_t, mean_y) = ((n - 1.0) / 2.0, losses.iter().sum::<f64>() / n);
    let (mut stt, mut sty, mut syy) = (0.0, 0.0, 0.0);
    for (t, y) in losses.iter().enumerate() {
        let (t, y) = (t as f64 - mean_t, y - mean_y);
        stt += t * t;
        sty += t * y;
        syy += y * y;
    }
    let slope = sty / stt;
    let residual = (syy - slope * sty) / (n - 2.0);
    slope / (residual / stt).sqrt()
}

/// The window, in steps, that a plan shows for noise of this long-run deviation: what a delay is
/// measured in.
pub(super) fn planned_window(long_run_sd: f64, alpha: f64) -> u64 {
    window_steps_needed(DELTA, long_run_sd, 0.8, alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_exceeded_strictly() {
        let mut rule = ReduceOnPlateau { patience: 2, threshold: 1e-4 };
        let fifth = Some(Firing { step: 5, window: 2 });
        assert_eq!(rule.fires(&[3.0, 2.0, 2.0, 2.0]), None);
        assert_eq!(rule.fires(&[3.0, 2.0, 2.0, 2.0, 2.0]), fifth);
        assert_eq!(
            rule.fires(&[3.0, 2.0, 1.9999, 2.0, 2.0]),
            fifth,
            "a fall below the threshold is none"
        );
        assert_eq!(rule.fires(&[3.0, 2.0, 2.0, 1.0, 2.0]), None);
    }

    #[test]
    fn the_slope_statistic_is_that_of_a_textbook() {
        // Losses 1, 2, 2, 4: slope 0.9, residual variance 0.35, standard error 0.26458.
        assert!((slope_statistic(&[1.0, 2.0, 2.0, 4.0]) - 3.4017).abs() < 1e-3);
    }
}

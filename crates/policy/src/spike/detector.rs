//! How far out a step is against the steps before it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::settings::SpikeSettings;
use super::watch::StepLoss;

/// The standard deviation of a normal variate over its median absolute deviation.
const DEVIATIONS_PER_MAD: f64 = 1.482_602_218_505_602;
/// A gradient norm must also be so many times the median: clipping deals with less.
const LEAST_GRADIENT_FACTOR: f64 = 2.0;
/// The share of the window that has to be there before anything is called a spike.
const LEAST_SHARE: usize = 4;

/// What stood out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The loss of the step, in nats per target.
    Loss,
    /// The natural logarithm of the gradient norm before clipping.
    LogGradientNorm,
}

/// The numbers that made a step a spike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpikeEvidence {
    /// What stood out; the loss if both did.
    pub signal: Signal,
    /// Its value.
    pub value: f64,
    /// The median of the steps before.
    pub median: f64,
    /// Their robust standard deviation: 1.4826 median absolute deviations.
    pub deviation: f64,
    /// `(value - median) / deviation`; absent where the steps before were all alike.
    pub score: Option<f64>,
    /// What the value had to exceed.
    pub limit: f64,
    /// The number of steps before.
    pub window_steps: usize,
}

/// The losses and gradient norms of the last steps at one batch size and mixture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    losses: VecDeque<f64>,
    log_norms: VecDeque<f64>,
}

impl Detector {
    /// What makes `step` a spike, if anything does.
    #[must_use]
    pub fn look(&self, settings: &SpikeSettings, step: &StepLoss) -> Option<SpikeEvidence> {
        let loss =
            exceeds(settings, step, Signal::Loss, &self.losses, step.nats, settings.minimum_nats);
        let rise = LEAST_GRADIENT_FACTOR.ln();
        let (norm, norms) = (step.gradient_norm.ln(), &self.log_norms);
        loss.or_else(|| exceeds(settings, step, Signal::LogGradientNorm, norms, norm, rise))
    }

    /// Takes in a step; one of fewer sequences than the batch is noisier, and is left out.
    pub fn learn(&mut self, settings: &SpikeSettings, step: &StepLoss) {
        if step.sequences() < step.batch_sequences {
            return;
        }
        let norm = step.gradient_norm.ln();
        for (memory, value) in [(&mut self.losses, step.nats), (&mut self.log_norms, norm)] {
            // A gradient of exactly zero has no logarithm.
            if value.is_finite() {
                memory.push_back(value);
            }
            while memory.len() > settings.window_steps {
                memory.pop_front();
            }
        }
    }
}

fn exceeds(
    settings: &SpikeSettings,
    step: &StepLoss,
    signal: Signal,
    memory: &VecDeque<f64>,
    value: f64,
    least_rise: f64,
) -> Option<SpikeEvidence> {
    if memory.is_empty() || memory.len() < settings.window_steps.div_ceil(LEAST_SHARE) {
        return None;
    }
    let mut values: Vec<f64> = memory.iter().copied().collect();
    let median = median(&mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    let deviation = DEVIATIONS_PER_MAD * self::median(&mut values);
    // Noise shrinks with the root of the batch: the last step of a stage may be a short one.
    let noisier = (step.batch_sequences as f64 / step.sequences().max(1) as f64).sqrt();
    let reach = settings.threshold * deviation * noisier.max(1.0);
    let limit = median + reach.max(least_rise);
    let score = (deviation > 0.0).then(|| (value - median) / deviation);
    let window_steps = memory.len();
    (value > limit).then_some(SpikeEvidence {
        signal,
        value,
        median,
        deviation,
        score,
        limit,
        window_steps,
    })
}

fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

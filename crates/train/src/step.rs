//! One optimizer update from the micro-batches of a step.

mod updates;

use burn::tensor::Tensor;
use terrace_data::MicroBatch;
use terrace_model::CausalLm;
use terrace_policy::batch::{Factors, MicroBatchGradient, NoiseSample};
use tracing::trace_span;

use self::updates::{Releasing, Updates};
use crate::engine::Square;
use crate::{Engine, GradientAccumulator, Optimizer, Trained};

/// What became of a step.
#[derive(Debug)]
pub enum StepOutcome {
    /// The update was applied.
    Applied(Applied),
    /// Loss or gradient was not finite or was judged to be a spike, and nothing was changed.
    Refused {
        /// What was the matter.
        reason: String,
        /// The rows whose loss was not finite, counted over the step; empty if all losses were.
        rows: Vec<usize>,
    },
    /// Loss or gradient was not finite, and some layers were updated before that was known: the state is
    /// worth nothing, and the run has to go back to a saved one.
    Lost {
        /// What was the matter.
        reason: String,
        /// The rows whose loss was not finite, counted over the step; empty if all losses were.
        rows: Vec<usize>,
    },
}

/// The numbers of an applied step, known before it is applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The summed nats of each row, in order.
    pub nats_per_row: Vec<f32>,
    /// The targets that the loss is the mean of.
    pub target_tokens: u64,
    /// The global norm of the mean gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate that the update used.
    pub learning_rate: f64,
    /// What the micro-batches say about the noise of the gradient, where that was asked for and there
    /// are two of them.
    pub noise: Option<NoiseSample>,
}

/// Whose norm the gradient is scaled down by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clipping {
    /// That of the whole gradient.
    Global,
    /// That of each segment for itself.
    PerLayer,
    /// That of the whole gradient of the step before; at the first step each segment's own.
    Previous(Option<f64>),
}

/// How a step is to be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSettings {
    /// The learning rate, before it follows the batch.
    pub learning_rate: f64,
    /// By what the optimizer's constants change with the batch.
    pub factors: Factors,
    /// The norm above which the gradient is scaled down.
    pub gradient_norm_max: f64,
    /// Whose norm that is.
    pub clipping: Clipping,
    /// Whether a segment is updated as soon as its gradient is there, which needs another clipping than
    /// [`Clipping::Global`]. It changes no number of a step that is applied.
    pub release: bool,
    /// Whether the norms of the micro-batches' gradients are taken.
    pub measure_noise: bool,
}

impl StepSettings {
    /// A step at a learning rate, clipped by the global norm, with no constant changed and nothing
    /// measured.
    #[must_use]
    pub const fn new(learning_rate: f64, gradient_norm_max: f64) -> Self {
        Self {
            learning_rate,
            factors: Factors::ONE,
            gradient_norm_max,
            clipping: Clipping::Global,
            release: false,
            measure_noise: false,
        }
    }
}

/// Accumulates the micro-steps, clips by the global norm, and updates the model.
///
/// The loss is the summed nats over the step's target tokens, divided once: how the step is cut
/// into micro-batches makes no difference but rounding. What is not `trained` is neither changed nor
/// counted in the norm.
///
/// # Source
///
/// The clipping factor `min(1, max / (norm + 1e-6))` is that of `torch.nn.utils.clip_grad_norm_`.
#[must_use]
pub fn train_step(
    engine: &Engine,
    model: &mut CausalLm,
    optimizer: &mut Optimizer,
    micro_batches: &[MicroBatch],
    settings: StepSettings,
    trained: &Trained,
) -> StepOutcome {
    judged_step(engine, model, optimizer, micro_batches, settings, trained, |_| None)
}

/// As [`train_step`], but `judge` sees the numbers first, and no update is applied for which it has
/// a reason, unless gradients are released: then it comes too late, and only sees.
///
/// # Panics
///
/// Gradients are released and clipped by a norm that is not known before all of them are there.
#[must_use]
pub fn judged_step(
    engine: &Engine,
    model: &mut CausalLm,
    optimizer: &mut Optimizer,
    micro_batches: &[MicroBatch],
    settings: StepSettings,
    trained: &Trained,
    judge: impl FnOnce(&Applied) -> Option<String>,
) -> StepOutcome {
    let is_global = settings.clipping == Clipping::Global;
    assert!(!(settings.release && is_global), "a configuration is checked for this");
    let target_tokens: u64 = micro_batches.iter().map(MicroBatch::total_target_tokens).sum();
    if target_tokens == 0 {
        let reason = "the step has no target token".to_owned();
        return StepOutcome::Refused { reason, rows: Vec::new() };
    }
    let measured = settings.measure_noise && micro_batches.len() > 1;
    let mut gradients =
        GradientAccumulator::new(model.layers.len()).of(trained).with_squares(measured);
    let learning_rate = settings.learning_rate * settings.factors.learning_rate;
    let mut updates = Updates { optimizer, settings, learning_rate, target_tokens };
    let (nats, released) = passes(engine, model, micro_batches, &mut gradients, &mut updates);
    // SYNC: once per step, after all micro-steps were queued.
    let nats: Vec<f32> = trace_span!("wait")
        .in_scope(|| Tensor::cat(nats, 0).into_data().try_to_vec().expect("losses are f32"));

    let bad = |(row, nats): (usize, &f32)| (!nats.is_finite()).then_some(row);
    let rows: Vec<usize> = nats.iter().enumerate().filter_map(bad).collect();
    let withheld = |reason: &str, rows| match settings.release {
        false => StepOutcome::Refused { reason: reason.to_owned(), rows },
        true => StepOutcome::Lost { reason: reason.to_owned(), rows },
    };
    if !rows.is_empty() {
        return withheld("the loss is not finite", rows);
    }
    let squares = released.unwrap_or_else(|| updates.squares(model, &gradients));
    let sum_square = trace_span!("gradient_norm").in_scope(|| match settings.clipping {
        Clipping::Global => gradients.square_sum(),
        Clipping::PerLayer | Clipping::Previous(_) => Square::values(&squares).into_iter().sum(),
    });
    let gradient_norm = sum_square.sqrt() / target_tokens as f64;
    if !gradient_norm.is_finite() {
        return withheld("the gradient is not finite", rows);
    }
    let applied = Applied {
        nats_per_row: nats,
        target_tokens,
        gradient_norm,
        learning_rate,
        noise: noise_sample(micro_batches, &gradients.micro_step_squares(), sum_square),
    };
    match judge(&applied) {
        Some(reason) if !settings.release => return StepOutcome::Refused { reason, rows },
        _ => {}
    }
    trace_span!("update").in_scope(|| updates.all(model, gradients, gradient_norm, squares));
    StepOutcome::Applied(applied)
}

/// Runs the micro-batches; where gradients are released the last one updates the model on its way, and
/// the squares of what it applied are given.
fn passes(
    engine: &Engine,
    model: &mut CausalLm,
    micro_batches: &[MicroBatch],
    gradients: &mut GradientAccumulator,
    updates: &mut Updates<'_>,
) -> (Vec<Tensor<1>>, Option<Vec<Square>>) {
    let (last, before) = micro_batches.split_last().expect("a step with targets has micro-batches");
    let mut nats: Vec<Tensor<1>> =
        before.iter().map(|batch| engine.micro_step(model, batch, gradients)).collect();
    if !updates.settings.release {
        nats.push(engine.micro_step(model, last, gradients));
        return (nats, None);
    }
    let mut releasing = Releasing::new(gradients, updates);
    nats.push(engine.micro_step(model, last, &mut releasing));
    (nats, Some(releasing.into_squares()))
}

fn noise_sample(
    micro_batches: &[MicroBatch],
    squares: &[f64],
    sum_square: f64,
) -> Option<NoiseSample> {
    let part = |(batch, square): (&MicroBatch, &f64)| MicroBatchGradient {
        square: *square,
        targets: batch.total_target_tokens(),
    };
    let parts: Vec<_> = micro_batches.iter().zip(squares).map(part).collect();
    NoiseSample::estimate(&parts, sum_square)
}

#[cfg(test)]
mod tests;

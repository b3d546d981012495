//! AdamW over a model, segment by segment.

use burn::tensor::Tensor;
use terrace_kernels::{AdamW, Moments, adamw_step};
use terrace_model::{CausalLm, ParameterSpec, Segment, segment_specs};
use terrace_policy::batch::Factors;

use crate::GradientAccumulator;

/// AdamW's constants for a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// The decay of the first moment per step.
    pub beta1: f64,
    /// The decay of the second moment per step.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of the matrices; norms and the embedding do not decay.
    pub weight_decay: f64,
}

/// The moments of every parameter, and the number of updates each segment has seen.
pub struct Optimizer {
    settings: OptimizerSettings,
    specs: Vec<Vec<ParameterSpec>>,
    moments: Vec<Vec<Moments>>,
    /// By segment: a part that begins to be trained later has fresh moments.
    updates: Vec<u64>,
    /// By segment: the powers of the second moment's decay so far, summed; the updates where the
    /// decay never changes.
    ages: Vec<f64>,
}

/// How one update is to be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The learning rate.
    pub learning_rate: f64,
    /// By what the other constants change with the batch.
    pub factors: Factors,
    /// What the summed gradients are multiplied by: one over the target tokens, times the clipping.
    pub gradient_scale: f64,
}

impl Optimizer {
    /// Starts with moments of zero.
    #[must_use]
    pub fn new(model: &CausalLm, settings: OptimizerSettings) -> Self {
        let specs: Vec<Vec<ParameterSpec>> =
            model.segments().map(|s| segment_specs(&model.architecture, s)).collect();
        let zero = |tensor: &Tensor<2>| Moments {
            first: tensor.zeros_like(),
            second: tensor.zeros_like(),
        };
        let moments = model
            .segments()
            .map(|segment| model.segment_parameters(segment).iter().map(zero).collect())
            .collect();
        let (updates, ages) = (vec![0; specs.len()], vec![0.0; specs.len()]);
        Self { settings, specs, moments, updates, ages }
    }

    /// The updates of each segment; a step that was not applied is none.
    #[must_use]
    pub fn updates(&self) -> &[u64] {
        &self.updates
    }

    /// The powers of the second moment's decay that each segment has seen, summed.
    #[must_use]
    pub fn ages(&self) -> &[f64] {
        &self.ages
    }

    /// The moments of a segment, in the order of its parameters.
    #[must_use]
    pub fn segment_moments(&self, position: usize) -> &[Moments] {
        &self.moments[position]
    }

    /// Puts back what a checkpoint holds.
    ///
    /// # Panics
    ///
    /// The moments are not those of the same model.
    pub fn restore(&mut self, moments: Vec<Vec<Moments>>, updates: Vec<u64>, ages: Vec<f64>) {
        let counts = |all: &[Vec<Moments>]| all.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(counts(&moments), counts(&self.moments), "moments of another model");
        assert_eq!(updates.len(), self.updates.len(), "updates of another model");
        assert_eq!(ages.len(), self.ages.len(), "updates of another model");
        self.moments = moments;
        self.updates = updates;
        self.ages = ages;
    }

    /// Applies the gradients of a whole step, and frees each segment's as it is used.
    pub fn step(
        &mut self,
        model: &mut CausalLm,
        gradients: &mut GradientAccumulator,
        update: Update,
    ) {
        for (position, segment) in model.segments().enumerate() {
            let gradients = gradients.take(segment);
            // What is not trained has none.
            if gradients.is_empty() {
                continue;
            }
            self.updates[position] += 1;
            self.ages[position] += update.factors.beta2_exponent;
            self.step_segment(model, position, segment, gradients, update);
        }
    }

    fn step_segment(
        &mut self,
        model: &mut CausalLm,
        position: usize,
        segment: Segment,
        gradients: Vec<Tensor<2>>,
        update: Update,
    ) {
        let OptimizerSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let Factors { beta2_exponent, weight_decay: decay_factor, .. } = update.factors;
        let beta2_product = beta2.powf(self.ages[position]);
        let moments = std::mem::take(&mut self.moments[position]);
        let parameters = model.take_segment_parameters(segment);
        let updated = self.specs[position].iter().zip(parameters).zip(gradients).zip(moments).map(
            |(((spec, parameter), gradient), moments)| {
                let constants = AdamW {
                    learning_rate: update.learning_rate,
                    beta1,
                    beta2: beta2.powf(beta2_exponent),
                    epsilon,
                    weight_decay: if spec.decayed { weight_decay * decay_factor } else { 0.0 },
                    step: self.updates[position],
                    beta2_product,
                };
                adamw_step(parameter, gradient, update.gradient_scale, moments, constants)
            },
        );
        let (parameters, moments) = updated.unzip();
        model.set_segment_parameters(segment, parameters);
        self.moments[position] = moments;
    }
}

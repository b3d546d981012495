//! AdamW over a model, segment by segment.

use burn::tensor::Tensor;
use terrace_base::Seed;
use terrace_kernels::host::RoundingKey;
use terrace_kernels::{AdamW, MomentFormat, Moments, adamw_step};
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
    /// The number format of the moments of matrices.
    pub moments: MomentFormat,
    /// Where the random bits of what is rounded come from: of an element they depend on this, the
    /// parameter's name, the number of its update, and its place.
    pub seed: Seed,
}

impl Default for OptimizerSettings {
    /// The constants that language models are trained with, in f32.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            moments: MomentFormat::F32,
            seed: Seed(0),
        }
    }
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
        let device = model.device();
        let zero = |tensor: &Tensor<2>| Moments::zeros(tensor.dims(), settings.moments, &device);
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

    /// Puts back what a checkpoint holds of one segment.
    ///
    /// # Panics
    ///
    /// The moments are not those of the same model.
    pub fn set_segment_moments(&mut self, position: usize, moments: Vec<Moments>) {
        assert_eq!(moments.len(), self.moments[position].len(), "moments of another model");
        self.moments[position] = moments;
    }

    /// Puts back what a checkpoint knows of the updates of each segment.
    ///
    /// # Panics
    ///
    /// They are not those of the same model.
    pub fn set_counts(&mut self, updates: Vec<u64>, ages: Vec<f64>) {
        assert_eq!(updates.len(), self.updates.len(), "updates of another model");
        assert_eq!(ages.len(), self.ages.len(), "updates of another model");
        self.updates = updates;
        self.ages = ages;
    }

    /// The number format of the moments of matrices.
    #[must_use]
    pub fn moment_format(&self) -> MomentFormat {
        self.settings.moments
    }

    /// Applies the gradients of a whole step, and frees each segment's as it is used.
    pub fn step(
        &mut self,
        model: &mut CausalLm,
        gradients: &mut GradientAccumulator,
        update: Update,
    ) {
        for segment in model.segments() {
            self.step_segment(model, segment, gradients.take(segment), update);
        }
    }

    /// Applies the gradients of one segment; none where it is not trained.
    pub fn step_segment(
        &mut self,
        model: &mut CausalLm,
        segment: Segment,
        gradients: Vec<Tensor<2>>,
        update: Update,
    ) {
        if gradients.is_empty() {
            return;
        }
        let position = segment.position(model.layers.len());
        self.updates[position] += 1;
        self.ages[position] += update.factors.beta2_exponent;
        let OptimizerSettings { beta1, beta2, epsilon, weight_decay, seed, .. } = self.settings;
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
                    rounding: rounding_key(seed, spec, self.updates[position]),
                };
                adamw_step(parameter, gradient, update.gradient_scale, moments, constants)
            },
        );
        let (parameters, moments) = updated.unzip();
        model.set_segment_parameters(segment, parameters);
        self.moments[position] = moments;
    }
}

/// The random bits of one update of one parameter: a counter's, so that a run that is resumed rounds as
/// it would have.
fn rounding_key(seed: Seed, spec: &ParameterSpec, update: u64) -> RoundingKey {
    RoundingKey(seed.stream(&format!("stochastic rounding {}", spec.name)).at(update))
}

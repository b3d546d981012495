//! The update of one segment after another, clipped.

use burn::tensor::Tensor;
use terrace_model::{CausalLm, Segment};

use super::{Clipping, StepSettings};
use crate::engine::Square;
use crate::{GradientAccumulator, GradientSink, Optimizer, Update};

/// What turns summed gradients into updates.
pub(super) struct Updates<'a> {
    pub(super) optimizer: &'a mut Optimizer,
    pub(super) settings: StepSettings,
    pub(super) learning_rate: f64,
    pub(super) target_tokens: u64,
}

impl Updates<'_> {
    /// The squares of the segments that have gradients, from the bottom up; none where they are not
    /// clipped by.
    pub(super) fn squares(&self, model: &CausalLm, gradients: &GradientAccumulator) -> Vec<Square> {
        if self.settings.clipping == Clipping::Global {
            return Vec::new();
        }
        let all = model.segments().map(|segment| gradients.segment(segment));
        all.filter(|gradients| !gradients.is_empty()).map(Square::of).collect()
    }

    /// Updates the model with all that is left of the gradients, whose norm is `gradient_norm` and whose
    /// squares by segment are `squares`.
    pub(super) fn all(
        &mut self,
        model: &mut CausalLm,
        mut gradients: GradientAccumulator,
        gradient_norm: f64,
        squares: Vec<Square>,
    ) {
        if self.settings.clipping == Clipping::Global {
            let update = self.update(self.scale(gradient_norm));
            return self.optimizer.step(model, &mut gradients, update);
        }
        let mut squares = squares.into_iter();
        for segment in model.segments() {
            let gradients = gradients.take(segment);
            // What is not trained, or has been applied, has none.
            if !gradients.is_empty() {
                let square = squares.next().expect("each segment with gradients has its square");
                self.one(model, segment, gradients, &square);
            }
        }
    }

    /// Updates one segment, clipped by its own norm or by the one of the step before.
    fn one(
        &mut self,
        model: &mut CausalLm,
        segment: Segment,
        gradients: Vec<Tensor<2>>,
        square: &Square,
    ) {
        let (gradients, scale) = match (self.settings.clipping, square) {
            (Clipping::Previous(Some(norm)), _) => (gradients, self.scale(norm)),
            (_, Square::Known(square)) => {
                (gradients, self.scale(square.sqrt() / self.target_tokens as f64))
            }
            (_, Square::Queued(square)) => (self.scaled_on_device(gradients, square), 1.0),
        };
        let update = self.update(scale);
        self.optimizer.step_segment(model, segment, gradients, update);
    }

    /// What summed gradients are multiplied by, where the norm of their mean is this.
    fn scale(&self, norm: f64) -> f64 {
        // PARITY: torch adds 1e-6 to the norm.
        let clipping = (self.settings.gradient_norm_max / (norm + 1e-6)).min(1.0);
        clipping / self.target_tokens as f64
    }

    /// The same where the norm is the device's: nothing waits for it.
    fn scaled_on_device(&self, gradients: Vec<Tensor<2>>, square: &Tensor<1>) -> Vec<Tensor<2>> {
        let norm = square.clone().sqrt() / self.target_tokens as f64;
        let clipping = ((norm + 1e-6).recip() * self.settings.gradient_norm_max).clamp_max(1.0);
        let scale = (clipping / self.target_tokens as f64).reshape([1, 1]);
        gradients.into_iter().map(|gradient| gradient * scale.clone()).collect()
    }

    fn update(&self, gradient_scale: f64) -> Update {
        let factors = self.settings.factors;
        Update { learning_rate: self.learning_rate, factors, gradient_scale }
    }
}

/// Applies the gradients of the last micro-step as they come, each with what the others have left, and
/// gives them up.
pub(super) struct Releasing<'a, 'b> {
    sums: &'a mut GradientAccumulator,
    updates: &'a mut Updates<'b>,
    /// By the place of the segment.
    squares: Vec<(usize, Square)>,
}

impl<'a, 'b> Releasing<'a, 'b> {
    pub(super) fn new(sums: &'a mut GradientAccumulator, updates: &'a mut Updates<'b>) -> Self {
        Self { sums, updates, squares: Vec::new() }
    }

    /// The squares of what was applied, from the bottom up.
    pub(super) fn into_squares(mut self) -> Vec<Square> {
        self.squares.sort_by_key(|(position, _)| *position);
        self.squares.into_iter().map(|(_, square)| square).collect()
    }
}

impl GradientSink for Releasing<'_, '_> {
    fn accept(&mut self, model: &mut CausalLm, segment: Segment, gradients: Vec<Tensor<2>>) {
        self.sums.add(segment, gradients);
        let gradients = self.sums.take(segment);
        if gradients.is_empty() {
            return;
        }
        let square = Square::of(&gradients);
        self.updates.one(model, segment, gradients, &square);
        self.squares.push((segment.position(model.layers.len()), square));
    }
}

//! Where gradients go the moment they exist.

mod squares;

use burn::tensor::Tensor;
use terrace_kernels::{accumulate, square_sums};
use terrace_model::{CausalLm, Segment};

pub(crate) use squares::Square;
use squares::Squares;

/// Takes the gradients of a micro-step, segment by segment.
///
/// Each segment is handed over exactly once per micro-step, from the head down to the embedding,
/// so that a sink may reduce, store or apply a segment and free it before the next one exists.
pub trait GradientSink {
    /// Takes the gradients of one segment's parameters, in the order of the parameters.
    ///
    /// What is done to the segment's own parameters in `model` is seen by later micro-steps only.
    fn accept(&mut self, model: &mut CausalLm, segment: Segment, gradients: Vec<Tensor<2>>);
}

/// Sums gradients over the micro-steps of a step, in f32.
#[derive(Debug)]
pub struct GradientAccumulator {
    layers: usize,
    segments: Vec<Vec<Tensor<2>>>,
    trained: Trained,
    squares: Option<Squares>,
}

/// Which segments are trained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trained {
    /// All of them.
    #[default]
    Whole,
    /// These layers, and neither embedding nor head.
    Layers(Vec<usize>),
}

impl Trained {
    /// Whether a segment is.
    #[must_use]
    pub fn contains(&self, segment: Segment) -> bool {
        match (self, segment) {
            (Self::Whole, _) => true,
            (Self::Layers(layers), Segment::Layer(index)) => layers.contains(&index),
            (Self::Layers(_), _) => false,
        }
    }
}

impl GradientAccumulator {
    /// Starts a sum for a model of `layers` layers.
    #[must_use]
    pub fn new(layers: usize) -> Self {
        let segments = vec![Vec::new(); layers + 2];
        Self { layers, segments, trained: Trained::Whole, squares: None }
    }

    /// The same, for a model of which only a part is trained: other gradients are dropped.
    #[must_use]
    pub fn of(self, trained: &Trained) -> Self {
        Self { trained: trained.clone(), ..self }
    }

    /// The same, taking the squared norm of each micro-step's gradient on its way to the sum.
    #[must_use]
    pub fn with_squares(self, measured: bool) -> Self {
        Self { squares: measured.then(Squares::default), ..self }
    }

    /// The squared norm of each micro-step's gradient, in order; empty if they were not taken.
    #[must_use]
    pub fn micro_step_squares(&self) -> Vec<f64> {
        self.squares.as_ref().map(Squares::values).unwrap_or_default()
    }

    /// The summed gradients of a segment; empty before its first micro-step.
    #[must_use]
    pub fn segment(&self, segment: Segment) -> &[Tensor<2>] {
        &self.segments[segment.position(self.layers)]
    }

    /// Gives the summed gradients of a segment away.
    #[must_use]
    pub fn take(&mut self, segment: Segment) -> Vec<Tensor<2>> {
        std::mem::take(&mut self.segments[segment.position(self.layers)])
    }

    /// The sum of the squares of all gradients, taken over all tensors at once.
    ///
    // NUMERICS: each tensor's sum is taken in f32, the sum over tensors in f64.
    #[must_use]
    pub fn square_sum(&self) -> f64 {
        // SYNC: the decision whether the step is applied, and how far it is clipped, is the host's.
        square_sums(self.segments.iter().flatten().cloned().collect()).into_iter().sum()
    }
}

impl GradientSink for GradientAccumulator {
    fn accept(&mut self, _: &mut CausalLm, segment: Segment, gradients: Vec<Tensor<2>>) {
        self.add(segment, gradients);
    }
}

impl GradientAccumulator {
    /// Adds the gradients of one segment.
    pub fn add(&mut self, segment: Segment, gradients: Vec<Tensor<2>>) {
        let trained = self.trained.contains(segment);
        if let Some(squares) = &mut self.squares {
            squares.accept(if trained { &gradients } else { &[] }, segment == Segment::Embedding);
        }
        if !trained {
            return;
        }
        let sum = &mut self.segments[segment.position(self.layers)];
        if sum.is_empty() {
            *sum = gradients;
        } else {
            assert_eq!(sum.len(), gradients.len(), "{segment:?} has a fixed number of parameters");
            let pairs = std::mem::take(sum).into_iter().zip(gradients);
            *sum = pairs.map(|(sum, gradient)| accumulate(sum, gradient)).collect();
        }
    }
}

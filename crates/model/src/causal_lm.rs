//! The whole model: embedding, layers, head.

use burn::tensor::{Device, FloatDType, Int, Tensor};
use terrace_config::Architecture;
use terrace_kernels::{linear, rms_norm};

use crate::{Layer, ParameterSpec, SequenceContext, segment_specs};

/// A part of the model whose graph, gradients and optimizer state live and die together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// The token embedding.
    Embedding,
    /// The decoder layer of this index.
    Layer(usize),
    /// The final norm and, where it is not tied, the output projection.
    Head,
}

impl Segment {
    /// All segments of a model of `layers` layers, from the bottom up.
    pub fn all(layers: usize) -> impl DoubleEndedIterator<Item = Self> {
        std::iter::once(Self::Embedding)
            .chain((0..layers).map(Self::Layer))
            .chain(std::iter::once(Self::Head))
    }

    /// The place among [`all`](Self::all) segments.
    #[must_use]
    pub fn position(self, layers: usize) -> usize {
        match self {
            Self::Embedding => 0,
            Self::Layer(index) => index + 1,
            Self::Head => layers + 1,
        }
    }
}

/// A causal language model of the Llama architecture.
#[derive(Clone, Debug)]
pub struct CausalLm {
    /// The shape of the model.
    pub architecture: Architecture,
    /// `[v, d]`.
    pub embed_tokens: Tensor<2>,
    /// From the bottom up.
    pub layers: Vec<Layer>,
    /// The final norm, `[1, d]`.
    pub norm: Tensor<2>,
    /// `[v, d]`; absent where it is tied to the embedding.
    pub lm_head: Option<Tensor<2>>,
}

impl CausalLm {
    /// The device that holds the weights.
    #[must_use]
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }

    /// The projection to the vocabulary, `[v, d]`.
    #[must_use]
    pub fn output_projection(&self) -> Tensor<2> {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens).clone()
    }

    /// The weights of a segment, in the order of [`segment_specs`](crate::segment_specs).
    #[must_use]
    pub fn segment_parameters(&self, segment: Segment) -> Vec<Tensor<2>> {
        match segment {
            Segment::Embedding => vec![self.embed_tokens.clone()],
            Segment::Layer(index) => self.layers[index].parameters(),
            Segment::Head => {
                std::iter::once(&self.norm).chain(&self.lm_head).map(Tensor::clone).collect()
            }
        }
    }

    /// Takes the weights of a segment out, so that nobody shares them; empty ones stay behind until
    /// [`set_segment_parameters`](Self::set_segment_parameters).
    #[must_use]
    pub fn take_segment_parameters(&mut self, segment: Segment) -> Vec<Tensor<2>> {
        let parameters = self.segment_parameters(segment);
        let empty = Tensor::empty([1, 1], &self.device());
        self.set_segment_parameters(segment, vec![empty; parameters.len()]);
        parameters
    }

    /// Replaces the weights of a segment.
    ///
    /// # Panics
    ///
    /// The number of tensors is not that of the segment.
    pub fn set_segment_parameters(&mut self, segment: Segment, parameters: Vec<Tensor<2>>) {
        let count = parameters.len();
        let mut parameters = parameters.into_iter();
        let mut next = || parameters.next().expect("one tensor for each parameter");
        match segment {
            Segment::Embedding => self.embed_tokens = next(),
            Segment::Layer(index) => {
                self.layers[index] = Layer::from_parameters(parameters.collect());
                return;
            }
            Segment::Head => {
                self.norm = next();
                if self.lm_head.is_some() {
                    self.lm_head = Some(next());
                }
            }
        }
        let used = if matches!(segment, Segment::Head) && self.lm_head.is_some() { 2 } else { 1 };
        assert_eq!(count, used, "{segment:?} has {used} parameters");
    }

    /// All segments, from the bottom up.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Segment> + use<> {
        Segment::all(self.layers.len())
    }

    /// Looks up the embeddings of tokens.
    ///
    /// # Shapes
    ///
    /// `tokens` `[b·t]`; gives `[b·t, d]`, f32 whatever the table is.
    #[must_use]
    pub fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        self.embed_tokens.clone().select(0, tokens).cast(FloatDType::F32)
    }

    /// Brings the matrices to a number format, a segment at a time; norms stay as they are.
    pub fn cast_matrices(&mut self, dtype: FloatDType) {
        for segment in self.segments() {
            let specs = segment_specs(&self.architecture, segment);
            let parameters = self.take_segment_parameters(segment);
            let cast = |(spec, tensor): (&ParameterSpec, Tensor<2>)| match spec.is_matrix() {
                true => tensor.cast(dtype),
                false => tensor,
            };
            let parameters = specs.iter().zip(parameters).map(cast).collect();
            self.set_segment_parameters(segment, parameters);
        }
    }

    /// The final hidden states, normed: what the output projection is applied to.
    ///
    /// # Shapes
    ///
    /// `tokens` `[b·t]`; gives `[b·t, d]`. Runs without autodiff, layer by layer.
    #[must_use]
    pub fn hidden_states(&self, tokens: Tensor<1, Int>, context: &SequenceContext) -> Tensor<2> {
        let mut x = self.embed(tokens);
        for layer in &self.layers {
            x = layer.forward(&self.architecture, x, context);
        }
        rms_norm(x, self.norm.clone(), self.architecture.rms_norm_eps)
    }

    /// The logits of every position, whole: for tests and short prompts.
    ///
    /// # Shapes
    ///
    /// `tokens` `[b·t]`; gives `[b·t, v]`.
    #[must_use]
    pub fn logits(&self, tokens: Tensor<1, Int>, context: &SequenceContext) -> Tensor<2> {
        let projection = self.output_projection().cast(FloatDType::F32);
        linear(self.hidden_states(tokens, context), projection)
    }
}

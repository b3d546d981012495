//! What a step holds in memory, from the shapes alone.

use crate::model::Architecture;
use crate::run::Training;

const F32: u128 = 4;

/// The memory of the segmented engine: which tensors live at its worst moments.
///
/// # Units
///
/// Bytes, all tensors in f32. Allocator overhead, the batch itself and the program are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryModel {
    architecture: Architecture,
    sequence_length: u128,
    tokens: u128,
    chunk_tokens: u128,
}

/// The tensors that one layer's backward pass needs, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerGraph {
    /// What the forward pass keeps.
    pub kept: Vec<Term>,
    /// What the backward pass holds besides, at the worst moment.
    pub working: Vec<Term>,
}

/// One kind of tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is.
    pub name: &'static str,
    /// How many numbers it has.
    pub elements: u128,
}

impl MemoryModel {
    /// Describes micro-batches of `training` through a model of this shape.
    #[must_use]
    pub fn new(architecture: &Architecture, training: &Training) -> Self {
        let sequence_length = training.sequence_length as u128;
        let tokens = sequence_length * training.micro_batch_sequences as u128;
        Self {
            architecture: architecture.clone(),
            sequence_length,
            tokens,
            chunk_tokens: tokens.min(training.cross_entropy_chunk_tokens as u128),
        }
    }

    /// The master weights.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        self.parameters(1)
    }

    /// The accumulated gradients.
    #[must_use]
    pub fn gradients_bytes(&self) -> u64 {
        self.parameters(1)
    }

    /// Both of Adam's moments.
    #[must_use]
    pub fn moments_bytes(&self) -> u64 {
        self.parameters(2)
    }

    /// The weights and moments of a saved state.
    #[must_use]
    pub fn checkpoint_bytes(&self) -> u64 {
        self.parameters(3)
    }

    /// The gradient of the largest segment (a layer, or the output head) on its way to the sum.
    #[must_use]
    pub fn gradient_in_flight_bytes(&self) -> u64 {
        let architecture = &self.architecture;
        let largest = architecture.layer_parameters().max(architecture.embedding_parameters());
        bytes(u128::from(largest))
    }

    /// What one chunk of the cross entropy holds: logits, log-probabilities, their gradient, and a
    /// temporary, each `[chunk, v]`.
    #[must_use]
    pub fn logits_chunk_bytes(&self) -> u64 {
        bytes(self.logits_chunk())
    }

    /// The tensors of one layer, of the composed operations on Burn's autodiff.
    ///
    /// # Shapes
    ///
    /// Sums of `[b·t, d]` residuals, `[b·t, n·h]` queries, `[b·t, k·h]` keys and values,
    /// `[b·t, f]` MLP values and `[b, n, t, t]` scores. An operation keeps its inputs only where
    /// its derivative needs them: a product both, a rotation neither, an exponential its output.
    #[must_use]
    pub fn layer_graph(&self) -> LayerGraph {
        let a = &self.architecture;
        let residual = self.tokens * u128::from(a.hidden_size);
        let query = self.tokens * u128::from(a.num_attention_heads * a.head_dim);
        let key_value = self.tokens * u128::from(a.num_key_value_heads * a.head_dim);
        let mlp = self.tokens * u128::from(a.intermediate_size);
        let scores = self.tokens * self.sequence_length * u128::from(a.num_attention_heads);
        let term = |name, elements| Term { name, elements };
        let attention_working =
            vec![term("gradients of probabilities, quotients and scores", 3 * scores)];
        let mlp_working = vec![
            term("gradients of product, gate, its sigmoid and up", 4 * mlp),
            term("gradients of the residual", 2 * residual),
        ];
        LayerGraph {
            kept: vec![
                term("input", residual),
                term("attention norm: normalised, scaled", 2 * residual),
                term("rotated queries", query),
                term("rotated keys, values", 2 * key_value),
                term("exponentials of the scores", scores),
                term("probabilities", scores),
                term("attention output", query),
                term("residual after attention", residual),
                term("MLP norm: normalised, scaled", 2 * residual),
                term("gate, its sigmoid, their product", 3 * mlp),
                term("up", mlp),
                term("input of the down projection", mlp),
                term("output", residual),
            ],
            working: std::cmp::max_by_key(attention_working, mlp_working, |terms| sum(terms)),
        }
    }

    /// The activations at the worst moment when the topmost `kept_layers` layers keep their graph
    /// and the others keep their input only.
    #[must_use]
    pub fn activations_bytes(&self, kept_layers: u64) -> u64 {
        bytes(self.activations(kept_layers))
    }

    /// Everything at the worst moment: weights, moments, gradients and activations.
    #[must_use]
    pub fn peak_bytes(&self, kept_layers: u64) -> u64 {
        self.state_bytes().saturating_add(self.activations_bytes(kept_layers))
    }

    /// How many layers can keep their graph within `budget` bytes; 0 where even recomputing every
    /// layer does not fit.
    #[must_use]
    pub fn kept_layers(&self, budget: u64) -> u64 {
        let fits = |kept: &u64| self.peak_bytes(*kept) <= budget;
        (0..=self.architecture.num_hidden_layers).rev().find(fits).unwrap_or(0)
    }

    fn state_bytes(&self) -> u64 {
        self.weights_bytes()
            .saturating_add(self.gradients_bytes())
            .saturating_add(self.moments_bytes())
            .saturating_add(self.gradient_in_flight_bytes())
    }

    fn activations(&self, kept_layers: u64) -> u128 {
        let layers = u128::from(self.architecture.num_hidden_layers);
        let kept = u128::from(kept_layers).min(layers);
        let recomputed = layers - kept;
        let residual = self.tokens * u128::from(self.architecture.hidden_size);
        let graph = self.layer_graph();
        let (layer, working) = (sum(&graph.kept), sum(&graph.working));
        let held = recomputed * residual + kept * layer;

        // The head holds its input, the normalised and the scaled, and the gradient of the last.
        let at_head = held + 4 * residual + self.logits_chunk();
        let at_top_layer = if kept > 0 { held + working + residual } else { 0 };
        let at_recomputed_layer =
            if recomputed > 0 { recomputed * residual + layer + working + residual } else { 0 };
        at_head.max(at_top_layer).max(at_recomputed_layer)
    }

    fn logits_chunk(&self) -> u128 {
        4 * self.chunk_tokens * u128::from(self.architecture.vocab_size)
    }

    fn parameters(&self, copies: u128) -> u64 {
        bytes(copies * u128::from(self.architecture.parameter_count()))
    }
}

fn sum(terms: &[Term]) -> u128 {
    terms.iter().map(|term| term.elements).sum()
}

fn bytes(elements: u128) -> u64 {
    u64::try_from(elements * F32).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::yi;
    use crate::run::{Precision, Recompute};

    fn training(micro_batch_sequences: usize) -> Training {
        Training {
            sequence_length: 4096,
            micro_batch_sequences,
            recompute: Recompute::Auto,
            memory_budget: None,
            cross_entropy_chunk_tokens: 1024,
            gradient_norm_max: 1.0,
            max_consecutive_bad_steps: 5,
            precision: Precision::F32,
        }
    }

    #[test]
    fn the_state_takes_sixteen_bytes_a_parameter() {
        let memory = MemoryModel::new(&yi(48), &training(1));
        let state = memory.weights_bytes() + memory.gradients_bytes() + memory.moments_bytes();
        assert_eq!(state, 16 * 8_829_407_232);
        assert_eq!(memory.checkpoint_bytes(), 12 * 8_829_407_232);
    }

    #[test]
    fn a_small_layer_adds_up_by_hand() {
        let architecture = Architecture {
            hidden_size: 4,
            intermediate_size: 6,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 2,
            ..yi(3)
        };
        let training = Training { sequence_length: 3, ..training(2) };
        let graph = MemoryModel::new(&architecture, &training).layer_graph();
        // Six tokens: 7 residuals of 4, 2 of 4 for q and its output, 2 of 2 for k and v, 5 of 6.
        assert_eq!(sum(&graph.kept), 6 * (7 * 4 + 2 * 4 + 2 * 2 + 5 * 6) + 2 * (2 * 2 * 3 * 3));
    }

    #[test]
    fn recomputing_takes_less_and_auto_lies_between() {
        let memory = MemoryModel::new(&yi(48), &training(1));
        let (all, none) = (memory.peak_bytes(0), memory.peak_bytes(48));
        assert!(memory.activations_bytes(0) * 4 < memory.activations_bytes(48));
        assert_eq!(memory.kept_layers(none), 48);
        // The top layer's graph is built last and used first: keeping it costs nothing.
        assert_eq!(memory.kept_layers(all), 1);
        assert_eq!(memory.kept_layers(0), 0);
        let kept = memory.kept_layers(u64::midpoint(all, none));
        assert!(0 < kept && kept < 48);
        assert!(memory.peak_bytes(kept) <= u64::midpoint(all, none));
        assert!(memory.peak_bytes(kept + 1) > u64::midpoint(all, none));
    }

    #[test]
    fn a_chunk_is_never_larger_than_the_batch() {
        let small = Training { sequence_length: 8, ..training(1) };
        let memory = MemoryModel::new(&yi(1), &small);
        assert_eq!(memory.logits_chunk_bytes(), 4 * 4 * 8 * 64000);
    }
}

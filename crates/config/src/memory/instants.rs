//! The moments of a micro-step at which the most may be held.

use super::{F32, LayerForm, MemoryModel};
use crate::run::Precision;

/// What is there at one moment besides the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant {
    pub(super) activations: u128,
    pub(super) gradients: u128,
}

impl Instant {
    pub(super) fn bytes(self) -> u128 {
        self.activations + self.gradients
    }
}

impl MemoryModel {
    /// Where the topmost `kept_layers` layers keep what their backward pass needs.
    pub(super) fn instants(&self, kept_layers: u64) -> Vec<Instant> {
        let layers = u128::from(self.architecture.num_hidden_layers);
        let kept = u128::from(kept_layers).min(layers);
        let (graph, residual) = (self.layer_graph(), F32 * self.extents.residual);
        let run_again = graph.run_again(self.form, self.extents.tokens);
        // Of the layers that are run again one is there at a time, in the place of one that was kept.
        let held = if kept == 0 { run_again } else { kept * graph.kept() };
        let working = graph.working(self.form) + self.weight_copies();
        // The head's input, the normalised, and the gradients of both.
        let head = 4 * residual + self.logits_chunk();
        let inputs = layers * residual;
        if self.form == LayerForm::Fused {
            // The store keeps the buffers of a layer and of its backward pass from one step to the
            // next. Two of the head's four residuals are of those.
            let activations = inputs + held + working + head.saturating_sub(2 * residual);
            return vec![Instant { activations, gradients: self.gradients_in_store() }];
        }
        let lowest = if kept == layers { graph.kept() } else { run_again };
        let [table, layer] = self.segments();
        vec![
            Instant {
                activations: inputs + kept * graph.kept() + head + self.table_copies(),
                gradients: self.gradients_after(table, table),
            },
            Instant {
                activations: inputs + held + working,
                gradients: self.gradients_after(table + layer, layer),
            },
            Instant {
                activations: residual + lowest + working,
                gradients: self.gradients_after(table + layers * layer, layer),
            },
            Instant {
                activations: 2 * residual,
                gradients: self.gradients_after(2 * table + layers * layer, table),
            },
        ]
    }

    /// The gradients that are held when those of `done` bytes of parameters have been made, of which the
    /// last has `newest` bytes.
    fn gradients_after(&self, done: u128, newest: u128) -> u128 {
        match (self.state.accumulates, self.state.gradient_release) {
            (true, _) => self.gradients() + newest,
            (false, true) => newest,
            // Without sums of several micro-steps a gradient is where it stays from the first.
            (false, false) => done.min(self.gradients()),
        }
    }

    /// The same on the host, where the store keeps what was given up: a layer's, and a table's, into
    /// which the embedding's gradient is copied.
    fn gradients_in_store(&self) -> u128 {
        let [table, layer] = self.segments();
        match (self.state.accumulates, self.state.gradient_release) {
            (true, false) => self.gradients() + table.max(layer),
            (true, true) => self.gradients() + table + layer,
            (false, true) => 2 * table + layer,
            (false, false) => self.gradients() + table,
        }
    }

    /// The gradients of the embedding or the output head, and of a layer.
    fn segments(&self) -> [u128; 2] {
        let a = &self.architecture;
        [a.embedding_parameters(), a.layer_parameters()].map(|count| F32 * u128::from(count))
    }

    /// What the head's products hold of its projection besides: in bf16 with kernels of ours a copy of
    /// the weights, and the gradient before it is f32.
    fn table_copies(&self) -> u128 {
        let table = u128::from(self.architecture.embedding_parameters());
        match (self.form, self.state.precision) {
            (LayerForm::Kernels, Precision::Bf16) => 2 * table,
            (LayerForm::Kernels, Precision::Bf16Mixed) => 4 * table,
            (LayerForm::Composed, precision) => table * converted(precision),
            _ => 0,
        }
    }

    /// Of a layer's largest matrix what its products hold besides.
    fn weight_copies(&self) -> u128 {
        let a = &self.architecture;
        let largest = u128::from(a.hidden_size)
            * u128::from(a.intermediate_size.max(a.num_attention_heads * a.head_dim));
        // A gradient of bf16 before it is f32.
        let slope = if self.product_bytes() == F32 { 0 } else { self.product_bytes() * largest };
        let copy = largest * converted(self.state.precision);
        match self.form {
            LayerForm::Fused => 0,
            LayerForm::Kernels => slope + copy,
            // The processor's product in bf16 is one in f32 of both factors' copies.
            LayerForm::Composed => slope + copy + F32 * largest,
        }
    }

    /// The logits of a chunk and what is made of them.
    pub(super) fn logits_chunk(&self) -> u128 {
        let logits = self.chunk_tokens * u128::from(self.architecture.vocab_size);
        match self.form {
            LayerForm::Fused => F32 * logits,
            LayerForm::Kernels => self.product_bytes() * logits,
            LayerForm::Composed => {
                // Single precision for the softmax; then both factors of the gradient's product, and it.
                let table = u128::from(self.architecture.embedding_parameters());
                (14 * logits).max(6 * logits + 8 * table)
            }
        }
    }

    /// The size of a number in a product.
    pub(super) fn product_bytes(&self) -> u128 {
        match self.state.precision {
            Precision::F32 => F32,
            Precision::Bf16Mixed | Precision::Bf16 => 2,
        }
    }
}

/// The bytes of each weight's copy in the format of products.
fn converted(precision: Precision) -> u128 {
    match precision {
        Precision::F32 | Precision::Bf16 => 0,
        Precision::Bf16Mixed => 2,
    }
}

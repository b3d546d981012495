//! What a step holds in memory, from the shapes alone.

mod layer;

pub use self::layer::{LayerForm, LayerGraph, MLP_TILE_ROWS, Term};
use crate::device::DeviceChoice;
use crate::model::Architecture;
use crate::run::{CheckpointConfig, Training};

const F32: u128 = 4;

/// The memory of the segmented engine: which tensors live at its worst moments.
///
/// # Units
///
/// Bytes, all tensors in f32. Allocator overhead, the batch itself and the program are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryModel {
    architecture: Architecture,
    form: LayerForm,
    extents: Extents,
    chunk_tokens: u128,
    /// Whether a state may be held back while a checkpoint of it is written.
    holds_snapshot: bool,
}

/// What decides how large the tensors of a micro-step are, besides the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MicroStepShape {
    /// The number of targets in one sequence.
    pub sequence_length: usize,
    /// The number of sequences in one forward-backward pass.
    pub micro_batch_sequences: usize,
    /// The number of tokens whose logits exist at one time.
    pub cross_entropy_chunk_tokens: usize,
}

/// How many numbers the tensors of a micro-batch have, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extents {
    /// `[b·t]`
    tokens: u128,
    /// `[b·t, d]`
    residual: u128,
    /// `[b·t, n·h]`
    query: u128,
    /// `[b·t, k·h]`
    key_value: u128,
    /// `[b·t, f]`
    mlp: u128,
    /// `[b, n, t, t]`
    scores: u128,
    /// `[b·t, n]`
    heads: u128,
}

impl From<&Training> for MicroStepShape {
    fn from(training: &Training) -> Self {
        Self {
            sequence_length: training.sequence_length,
            micro_batch_sequences: training.micro_batch_sequences,
            cross_entropy_chunk_tokens: training.cross_entropy_chunk_tokens,
        }
    }
}

impl Extents {
    fn new(a: &Architecture, shape: MicroStepShape) -> Self {
        let sequence_length = shape.sequence_length as u128;
        let tokens = sequence_length * shape.micro_batch_sequences as u128;
        let heads = tokens * u128::from(a.num_attention_heads);
        Self {
            tokens,
            residual: tokens * u128::from(a.hidden_size),
            query: heads * u128::from(a.head_dim),
            key_value: tokens * u128::from(a.num_key_value_heads * a.head_dim),
            mlp: tokens * u128::from(a.intermediate_size),
            scores: heads * sequence_length,
            heads,
        }
    }
}

impl MemoryModel {
    /// Describes micro-batches of this shape through a model on a device.
    #[must_use]
    pub fn new(
        architecture: &Architecture,
        shape: impl Into<MicroStepShape>,
        device: DeviceChoice,
    ) -> Self {
        let shape = shape.into();
        let extents = Extents::new(architecture, shape);
        Self {
            architecture: architecture.clone(),
            form: match device {
                DeviceChoice::Cpu => LayerForm::Fused,
                DeviceChoice::Cuda(_) | DeviceChoice::Wgpu(_) => LayerForm::Composed,
            },
            chunk_tokens: extents.tokens.min(shape.cross_entropy_chunk_tokens as u128),
            extents,
            holds_snapshot: false,
        }
    }

    /// The same where checkpoints are written while training goes on.
    #[must_use]
    pub fn with_checkpoints(self, checkpoint: &CheckpointConfig) -> Self {
        let has_cadence = checkpoint.every_tokens.is_some() || checkpoint.every_steps.is_some();
        Self { holds_snapshot: checkpoint.asynchronous && has_cadence, ..self }
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

    /// What the host's memory holds besides until a checkpoint is on disk, at worst: the weights and
    /// moments that were saved, while those of the next step are made beside them.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        if self.holds_snapshot { self.checkpoint_bytes() } else { 0 }
    }

    /// The gradient of the largest segment (a layer, or the output head) on its way to the sum.
    ///
    /// The update takes as much: a segment's new weights are made beside the old ones.
    #[must_use]
    pub fn gradient_in_flight_bytes(&self) -> u64 {
        bytes(self.largest_segment())
    }

    /// What one chunk of the cross entropy holds, `[chunk, v]` each: on the host the logits, changed
    /// in place; elsewhere logits, log-probabilities, their gradient, and a temporary.
    #[must_use]
    pub fn logits_chunk_bytes(&self) -> u64 {
        bytes(self.logits_chunk())
    }

    /// The tensors of one layer.
    #[must_use]
    pub fn layer_graph(&self) -> LayerGraph {
        LayerGraph::new(self.form, &self.extents)
    }

    /// The activations at the worst moment when the topmost `kept_layers` layers keep what their
    /// backward pass needs and the others keep their input only.
    #[must_use]
    pub fn activations_bytes(&self, kept_layers: u64) -> u64 {
        bytes(self.activations(kept_layers))
    }

    /// Everything at the worst moment: weights, moments, gradients, and either activations with a
    /// gradient in flight or what the update holds; on the host also a state that is being saved.
    #[must_use]
    pub fn peak_bytes(&self, kept_layers: u64) -> u64 {
        let pass = self.activations(kept_layers) + self.largest_segment();
        let parameters = u128::from(self.architecture.parameter_count());
        // A device's own memory holds nothing of what is being written.
        let snapshot = match self.form {
            LayerForm::Fused if self.holds_snapshot => 3 * parameters,
            LayerForm::Fused | LayerForm::Composed => 0,
        };
        bytes(4 * parameters + snapshot + pass.max(self.update()))
    }

    /// How many layers can keep their activations within `budget` bytes; 0 where even recomputing
    /// every layer does not fit.
    #[must_use]
    pub fn kept_layers(&self, budget: u64) -> u64 {
        let fits = |kept: &u64| self.peak_bytes(*kept) <= budget;
        (0..=self.architecture.num_hidden_layers).rev().find(fits).unwrap_or(0)
    }

    fn activations(&self, kept_layers: u64) -> u128 {
        let layers = u128::from(self.architecture.num_hidden_layers);
        let kept = u128::from(kept_layers).min(layers);
        let (graph, residual) = (self.layer_graph(), self.extents.residual);
        let working = graph.working(self.form);
        // Of the layers that are run again one is there at a time, in the place of one that was kept.
        let layers_held = match kept {
            0 => graph.run_again(self.form, self.extents.tokens),
            kept => kept * graph.kept(),
        };
        // The head's input, the normalised, and the gradients of both.
        let head = 4 * residual + self.logits_chunk();
        let inputs = layers * residual;
        match self.form {
            // The store keeps the buffers of a layer and of its backward pass from one step to the
            // next. Two of the head's four residuals are of those.
            LayerForm::Fused => inputs + layers_held + working + head.saturating_sub(2 * residual),
            LayerForm::Composed => {
                let at_head = inputs + kept * graph.kept() + head;
                let at_top_layer = inputs + layers_held + working;
                at_head.max(at_top_layer)
            }
        }
    }

    fn logits_chunk(&self) -> u128 {
        let copies = match self.form {
            LayerForm::Fused => 1,
            LayerForm::Composed => 4,
        };
        copies * self.chunk_tokens * u128::from(self.architecture.vocab_size)
    }

    /// What the optimizer holds besides the state: on the host the weights that a segment had;
    /// elsewhere four temporaries of a parameter, and the activations are gone.
    fn update(&self) -> u128 {
        match self.form {
            LayerForm::Fused => self.largest_segment(),
            LayerForm::Composed => 4 * u128::from(self.architecture.embedding_parameters()),
        }
    }

    fn largest_segment(&self) -> u128 {
        let architecture = &self.architecture;
        u128::from(architecture.layer_parameters().max(architecture.embedding_parameters()))
    }

    fn parameters(&self, copies: u128) -> u64 {
        bytes(copies * u128::from(self.architecture.parameter_count()))
    }
}

fn bytes(elements: u128) -> u64 {
    u64::try_from(elements * F32).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::yi;

    const DEVICES: [DeviceChoice; 2] = [DeviceChoice::Cpu, DeviceChoice::Cuda(0)];

    fn shape(micro_batch_sequences: usize, sequence_length: usize) -> MicroStepShape {
        MicroStepShape { sequence_length, micro_batch_sequences, cross_entropy_chunk_tokens: 1024 }
    }

    fn yi_on(device: DeviceChoice) -> MemoryModel {
        MemoryModel::new(&yi(48), shape(1, 4096), device)
    }

    #[test]
    fn the_state_takes_sixteen_bytes_a_parameter() {
        for memory in DEVICES.map(yi_on) {
            let state = memory.weights_bytes() + memory.gradients_bytes() + memory.moments_bytes();
            assert_eq!(state, 16 * 8_829_407_232);
            assert_eq!(memory.checkpoint_bytes(), 12 * 8_829_407_232);
        }
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
        let [fused, composed] = DEVICES.map(|device| {
            MemoryModel::new(&architecture, shape(2, 3), device).layer_graph().kept()
        });
        // Six tokens: 3 residuals of 4, 2 of 4 for q and its output, 2 of 2 for k and v, 3 of 6, and
        // per token two scales and two log-sums.
        assert_eq!(fused, 6 * (3 * 4 + 2 * 4 + 2 * 2 + 3 * 6 + 4));
        // 5 residuals of 4, as much of q, k and v, 5 of 6, and three of the scores.
        assert_eq!(composed, 6 * (5 * 4 + 2 * 4 + 2 * 2 + 5 * 6) + 3 * (2 * 2 * 3 * 3));
    }

    #[test]
    fn recomputing_takes_less_and_auto_lies_between() {
        for memory in DEVICES.map(yi_on) {
            let (all, none) = (memory.peak_bytes(0), memory.peak_bytes(48));
            assert!(memory.activations_bytes(0) * 4 < memory.activations_bytes(48));
            assert_eq!(memory.kept_layers(none), 48);
            // The first layer to be kept may be free: one layer's tensors are held in any case.
            let free = memory.kept_layers(all);
            assert!(free <= 1 && memory.peak_bytes(free) == all);
            assert!(memory.peak_bytes(free + 1) > all);
            assert_eq!(memory.kept_layers(0), 0);
            let kept = memory.kept_layers(u64::midpoint(all, none));
            assert!(0 < kept && kept < 48);
            assert!(memory.peak_bytes(kept) <= u64::midpoint(all, none));
            assert!(memory.peak_bytes(kept + 1) > u64::midpoint(all, none));
        }
    }

    #[test]
    fn a_chunk_is_never_larger_than_the_batch() {
        let memory = MemoryModel::new(&yi(1), shape(1, 8), DeviceChoice::Cpu);
        assert_eq!(memory.logits_chunk_bytes(), 4 * 8 * 64000);
    }
}

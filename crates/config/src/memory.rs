//! What a step holds in memory, from the shapes alone.

mod alternatives;
mod instants;
mod layer;
mod state;

use self::instants::Instant;
pub use self::layer::{LayerForm, LayerGraph, MLP_TILE_ROWS, Term};
pub use self::state::StateFormat;
use crate::device::DeviceChoice;
use crate::model::Architecture;
use crate::plan::StagePlan;
use crate::run::{CheckpointConfig, Precision, RunConfig, Training};

const F32: u128 = 4;

/// The memory of the segmented engine: which tensors live at its worst moments.
///
/// # Units
///
/// Bytes. Allocator overhead, the batch itself and the program are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryModel {
    architecture: Architecture,
    form: LayerForm,
    extents: Extents,
    sequence_length: usize,
    chunk_tokens: u128,
    state: StateFormat,
    is_host: bool,
    has_bf16: bool,
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
    /// Describes micro-batches of this shape through a model on a device, in f32.
    #[must_use]
    pub fn new(
        architecture: &Architecture,
        shape: impl Into<MicroStepShape>,
        device: DeviceChoice,
    ) -> Self {
        let shape = shape.into();
        let extents = Extents::new(architecture, shape);
        let is_host = device == DeviceChoice::Cpu;
        let model = Self {
            architecture: architecture.clone(),
            form: LayerForm::Fused,
            chunk_tokens: extents.tokens.min(shape.cross_entropy_chunk_tokens as u128),
            extents,
            sequence_length: shape.sequence_length,
            state: StateFormat::default(),
            is_host,
            has_bf16: device.has_bf16(),
            holds_snapshot: false,
        };
        model.with_state(StateFormat { accumulates: true, ..StateFormat::default() })
    }

    /// Describes a run of a model in these stages.
    #[must_use]
    pub fn of_run(architecture: &Architecture, config: &RunConfig, stages: &[StagePlan]) -> Self {
        Self::new(architecture, &config.training, config.device)
            .with_checkpoints(&config.checkpoint)
            .with_state(StateFormat::of(config, stages))
    }

    /// The same where checkpoints are written while training goes on.
    #[must_use]
    pub fn with_checkpoints(self, checkpoint: &CheckpointConfig) -> Self {
        let has_cadence = checkpoint.every_tokens.is_some() || checkpoint.every_steps.is_some();
        Self { holds_snapshot: checkpoint.asynchronous && has_cadence, ..self }
    }

    /// The same for a state in these formats.
    #[must_use]
    pub fn with_state(self, state: StateFormat) -> Self {
        let form = match (self.is_host, state.precision) {
            (true, Precision::F32) => LayerForm::Fused,
            // The processor has bf16 to be compared with, not to be fast.
            (true, _) => LayerForm::Composed,
            (false, _) => LayerForm::Kernels,
        };
        Self { state, form, ..self }
    }

    /// The weights as they are trained.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        narrow(self.state.weights(&self.architecture))
    }

    /// The accumulated gradients, f32; none where each is given up once its layer is updated.
    #[must_use]
    pub fn gradients_bytes(&self) -> u64 {
        narrow(self.gradients())
    }

    /// Both of Adam's moments.
    #[must_use]
    pub fn moments_bytes(&self) -> u64 {
        narrow(self.state.moments(&self.architecture))
    }

    /// The weights and moments of a saved state.
    #[must_use]
    pub fn checkpoint_bytes(&self) -> u64 {
        self.weights_bytes().saturating_add(self.moments_bytes())
    }

    /// What the host's memory holds besides until a checkpoint is on disk, at worst: the weights and
    /// moments that were saved, while those of the next step are made beside them.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        if self.holds_snapshot { self.checkpoint_bytes() } else { 0 }
    }

    /// The gradient of the largest segment (a layer, or the output head) on its way to the sum.
    #[must_use]
    pub fn gradient_in_flight_bytes(&self) -> u64 {
        narrow(self.in_flight())
    }

    /// What one chunk of the cross entropy holds, `[chunk, v]` each: with kernels of ours and on the
    /// host the logits, changed in place; elsewhere logits, log-probabilities, their gradient, and
    /// temporaries.
    #[must_use]
    pub fn logits_chunk_bytes(&self) -> u64 {
        narrow(self.logits_chunk())
    }

    /// The tensors of one layer.
    #[must_use]
    pub fn layer_graph(&self) -> LayerGraph {
        LayerGraph::new(self.form, &self.extents, self.product_bytes())
    }

    /// The activations at the worst moment when the topmost `kept_layers` layers keep what their
    /// backward pass needs and the others keep their input only.
    #[must_use]
    pub fn activations_bytes(&self, kept_layers: u64) -> u64 {
        let instants = self.instants(kept_layers).into_iter();
        narrow(instants.map(|i| i.activations).max().expect("a pass has its instants"))
    }

    /// Everything at the worst moment: weights, moments, gradients, and either activations with a
    /// gradient in flight or what the update holds; on the host also a state that is being saved.
    #[must_use]
    pub fn peak_bytes(&self, kept_layers: u64) -> u64 {
        let state = self.state.weights(&self.architecture) + self.state.moments(&self.architecture);
        // A device's own memory holds nothing of what is being written.
        let copies = if self.is_host && self.holds_snapshot { 2 } else { 1 };
        let instants = self.instants(kept_layers).into_iter().map(Instant::bytes);
        let pass = instants.max().expect("a pass has its instants");
        narrow(copies * state + pass.max(self.gradients() + self.update()))
    }

    /// How many layers can keep their activations within `budget` bytes; 0 where even recomputing
    /// every layer does not fit.
    #[must_use]
    pub fn kept_layers(&self, budget: u64) -> u64 {
        let fits = |kept: &u64| self.peak_bytes(*kept) <= budget;
        (0..=self.architecture.num_hidden_layers).rev().find(fits).unwrap_or(0)
    }

    /// What the optimizer holds besides the state: on the host the weights that a segment had.
    fn update(&self) -> u128 {
        if self.is_host { self.in_flight() } else { 0 }
    }

    /// The gradient of the largest segment.
    fn in_flight(&self) -> u128 {
        let a = &self.architecture;
        F32 * u128::from(a.layer_parameters().max(a.embedding_parameters()))
    }

    fn gradients(&self) -> u128 {
        let StateFormat { gradient_release, accumulates, .. } = self.state;
        if gradient_release && !accumulates {
            return 0;
        }
        F32 * u128::from(self.architecture.parameter_count())
    }
}

fn narrow(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
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
        let [fused, kernels] = DEVICES.map(|device| {
            MemoryModel::new(&architecture, shape(2, 3), device).layer_graph().kept()
        });
        // Six tokens: 3 residuals of 4, 2 of 4 for q and its output, 2 of 2 for k and v, 3 of 6, and
        // per token two scales and two log-sums.
        assert_eq!(fused, 4 * 6 * (3 * 4 + 2 * 4 + 2 * 2 + 3 * 6 + 4));
        // One residual, as much of q, k and v, 2 of 6, and as many scales.
        assert_eq!(kernels, 4 * 6 * (4 + 2 * 4 + 2 * 2 + 2 * 6 + 4));
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

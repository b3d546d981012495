//! What a training state takes, in the formats that it is kept in.

use crate::model::Architecture;
use crate::plan::StagePlan;
use crate::run::{MomentFormat, Precision, RunConfig};

/// The elements that share a scale where moments have eight bits.
const BLOCK: u128 = 256;

/// Below this many elements a tensor's moments stay in f32.
const SMALLEST: u128 = 4096;

/// The number formats of a training state, and how long gradients live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFormat {
    /// Of weights and products.
    pub precision: Precision,
    /// Of the moments of matrices.
    pub moments: MomentFormat,
    /// Whether a layer is updated as soon as its gradient is there.
    pub gradient_release: bool,
    /// Whether a step has more than one micro-step.
    pub accumulates: bool,
}

impl StateFormat {
    /// That of a run; the batch of its largest step decides whether it accumulates.
    #[must_use]
    pub fn of(config: &RunConfig, stages: &[StagePlan]) -> Self {
        let rungs = stages.iter().flat_map(|stage| &stage.rungs);
        Self {
            precision: config.training.precision,
            moments: config.optimizer.moments,
            gradient_release: config.training.gradient_release,
            accumulates: rungs
                .max_by_key(|rung| rung.accumulation_steps)
                .is_some_and(|rung| rung.accumulation_steps > 1),
        }
    }

    /// The weights, in bytes: norms are f32 in every format.
    pub(super) fn weights(self, architecture: &Architecture) -> u128 {
        let matrix = match self.precision {
            Precision::F32 | Precision::Bf16Mixed => 4,
            Precision::Bf16 => 2,
        };
        let bytes = |elements, is_matrix| if is_matrix { matrix * elements } else { 4 * elements };
        sum(architecture, bytes)
    }

    /// Both moments, in bytes.
    pub(super) fn moments(self, architecture: &Architecture) -> u128 {
        let bytes = |elements: u128, is_matrix| match self.moments {
            MomentFormat::Bf16 if is_matrix && elements >= SMALLEST => 4 * elements,
            MomentFormat::EightBit if is_matrix && elements >= SMALLEST => {
                2 * (BLOCK + 4) * elements.div_ceil(BLOCK)
            }
            _ => 8 * elements,
        };
        sum(architecture, bytes)
    }
}

/// Adds up what the tensors of a model take, each given by its elements and whether it is a matrix.
fn sum(a: &Architecture, bytes: impl Fn(u128, bool) -> u128) -> u128 {
    let [d, f, v] = [a.hidden_size, a.intermediate_size, a.vocab_size].map(u128::from);
    let queries = u128::from(a.num_attention_heads * a.head_dim);
    let keys = u128::from(a.num_key_value_heads * a.head_dim);
    let norm = bytes(d, false);
    let layer = 2 * bytes(queries * d, true)
        + 2 * bytes(keys * d, true)
        + 3 * bytes(f * d, true)
        + 2 * norm;
    let tables = if a.tie_word_embeddings { 1 } else { 2 };
    u128::from(a.num_hidden_layers) * layer + tables * bytes(v * d, true) + norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::yi;

    #[test]
    fn a_state_of_yi_adds_up() {
        let architecture = yi(48);
        let parameters = 8_829_407_232u128;
        let norms = 97 * 4096;
        let state =
            |precision, moments| StateFormat { precision, moments, ..StateFormat::default() };
        let exact = state(Precision::Bf16Mixed, MomentFormat::F32);
        assert_eq!(exact.weights(&architecture), 4 * parameters);
        assert_eq!(exact.moments(&architecture), 8 * parameters);
        let lean = state(Precision::Bf16, MomentFormat::EightBit);
        assert_eq!(lean.weights(&architecture), 2 * parameters + 2 * norms);
        let matrices = parameters - norms;
        assert_eq!(lean.moments(&architecture), 2 * matrices * 260 / 256 + 8 * norms);
        let half = state(Precision::Bf16, MomentFormat::Bf16);
        assert_eq!(half.moments(&architecture), 4 * matrices + 8 * norms);
    }
}

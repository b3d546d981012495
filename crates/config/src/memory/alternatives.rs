//! What a run would take with its state in other formats.

use super::{MemoryModel, StateFormat};
use crate::plan::StateAlternative;
use crate::run::{MomentFormat, Precision};

/// The formats worth comparing, from the most exact on: precision, moments, and whether gradients are
/// released.
const FORMATS: [(Precision, MomentFormat, bool); 6] = [
    (Precision::F32, MomentFormat::F32, false),
    (Precision::Bf16Mixed, MomentFormat::F32, false),
    (Precision::Bf16Mixed, MomentFormat::EightBit, true),
    (Precision::Bf16, MomentFormat::Bf16, false),
    (Precision::Bf16, MomentFormat::EightBit, false),
    (Precision::Bf16, MomentFormat::EightBit, true),
];

impl MemoryModel {
    /// The run with its state in each of some formats, with every layer recomputed; none on the
    /// processor, which has bf16 to be compared with only.
    #[must_use]
    pub fn alternatives(&self) -> Vec<StateAlternative> {
        if self.is_host {
            return Vec::new();
        }
        let alternative = |(precision, moments, gradient_release)| {
            let state = StateFormat { precision, moments, gradient_release, ..self.state };
            let model = self.clone().with_state(state);
            StateAlternative {
                precision: precision.name().to_owned(),
                moments: moments.name().to_owned(),
                gradient_release,
                state_bytes: model.checkpoint_bytes(),
                gradients_bytes: model.gradients_bytes(),
                peak_bytes: model.peak_bytes(0),
                update_bytes: model.update_traffic_bytes(),
            }
        };
        FORMATS.into_iter().map(alternative).collect()
    }

    /// What one update reads and writes: weights and moments both, gradients once for their norm and
    /// once for the update.
    #[must_use]
    pub fn update_traffic_bytes(&self) -> u64 {
        let gradients = 4 * u128::from(self.architecture.parameter_count());
        let state = self.state.weights(&self.architecture) + self.state.moments(&self.architecture);
        super::narrow(2 * state + 2 * gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::memory::MicroStepShape;
    use crate::model::tests::yi;

    #[test]
    fn only_the_leanest_states_of_yi_fit_an_80_gb_card() {
        let shape = MicroStepShape {
            sequence_length: 4096,
            micro_batch_sequences: 1,
            cross_entropy_chunk_tokens: 1024,
        };
        let memory = MemoryModel::new(&yi(48), shape, DeviceChoice::Cuda(0));
        // What such a card reports, less what its driver takes.
        let card = 84_000_000_000;
        let fits = |accumulates: bool| -> Vec<bool> {
            let state = StateFormat { accumulates, ..StateFormat::default() };
            let run = memory.clone().with_state(state);
            run.alternatives().iter().map(|state| state.peak_bytes <= card).collect()
        };
        assert_eq!(fits(true), [false, false, false, false, true, true]);
        assert_eq!(fits(false), [false, false, true, false, true, true]);
    }
}

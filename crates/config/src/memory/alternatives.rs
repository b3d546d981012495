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

/// What cards there are: GB as their makers count, and GiB that a program can have of them.
const CARDS: [(u64, u64); 7] =
    [(16, 15), (24, 23), (32, 31), (48, 44), (80, 78), (141, 139), (180, 176)];

/// The smallest card that has room for so many bytes.
fn card_for(bytes: u64) -> Option<u64> {
    let (name, _) = CARDS.into_iter().find(|(_, room)| bytes <= room << 30)?;
    Some(name)
}

impl MemoryModel {
    /// The run with its state in each of some formats, with every layer recomputed; none on the
    /// processor, which has bf16 to be compared with only, and on devices without bf16.
    #[must_use]
    pub fn alternatives(&self) -> Vec<StateAlternative> {
        if self.is_host || !self.has_bf16 {
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
                card_gigabytes: card_for(model.peak_bytes(0)),
                update_bytes: model.update_traffic_bytes(),
            }
        };
        FORMATS.into_iter().map(alternative).collect()
    }

    /// The operations of a token that recomputing every layer adds.
    #[must_use]
    pub fn recomputed_flops_per_token(&self) -> u64 {
        self.architecture.recomputed_flops_per_token(self.sequence_length)
    }

    /// What one update reads and writes: weights and moments both, gradients once for their norm and
    /// once for the update. Released ones are scaled between, by a norm that only the device knows.
    #[must_use]
    pub fn update_traffic_bytes(&self) -> u64 {
        let gradients = 4 * u128::from(self.architecture.parameter_count());
        let state = self.state.weights(&self.architecture) + self.state.moments(&self.architecture);
        let passes = if self.state.gradient_release { 4 } else { 2 };
        super::narrow(2 * state + passes * gradients)
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
        let cards = |accumulates: bool| -> Vec<Option<u64>> {
            let state = StateFormat { accumulates, ..StateFormat::default() };
            let run = memory.clone().with_state(state);
            run.alternatives().iter().map(|state| state.card_gigabytes).collect()
        };
        let large = Some(141);
        let wgpu = MemoryModel::new(&yi(48), shape, DeviceChoice::Wgpu(0));
        assert!(wgpu.alternatives().is_empty(), "it has no bf16");
        assert_eq!(cards(true), [large, large, large, large, Some(80), Some(80)]);
        assert_eq!(cards(false), [large, large, Some(80), large, Some(80), Some(48)]);
    }

    #[test]
    fn a_card_has_less_room_than_its_name_says() {
        assert_eq!(card_for(0), Some(16));
        assert_eq!([card_for(78 << 30), card_for((78 << 30) + 1)], [Some(80), Some(141)]);
        assert_eq!(card_for(1 << 40), None);
    }
}

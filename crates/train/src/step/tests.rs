use burn::tensor::Device;
use terrace_base::Seed;
use terrace_config::Architecture;
use terrace_model::initialize;

use super::*;
use crate::{EngineSettings, OptimizerSettings};

const LENGTH: usize = 8;
const CONSTANTS: OptimizerSettings =
    OptimizerSettings { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 };

fn architecture() -> Architecture {
    Architecture {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        vocab_size: 32,
        max_position_embeddings: LENGTH as u64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: false,
        initializer_range: 0.02,
    }
}

/// Rows of one document; the row numbered `i` has `LENGTH - i % 3` targets.
fn micro_batch(first: usize, rows: usize) -> MicroBatch {
    let stream = Seed(4).stream("rows");
    let mut batch = MicroBatch { rows, sequence_length: LENGTH, ..MicroBatch::default() };
    for row in first..first + rows {
        let id = |t: usize| (stream.at((row * (LENGTH + 1) + t) as u64) % 32) as i32;
        let targets = LENGTH - row % 3;
        batch.tokens.extend((0..LENGTH).map(id));
        batch.targets.extend((0..LENGTH).map(|t| if t < targets { id(t + 1) } else { -1 }));
        batch.positions.extend(0..LENGTH as i32);
        batch.segments.extend(std::iter::repeat_n(0, LENGTH));
        batch.sources.push(0);
        batch.target_tokens.push(targets as u32);
        batch.target_bytes.push(targets as u32);
    }
    batch
}

struct Run {
    engine: Engine,
    model: CausalLm,
    optimizer: Optimizer,
}

impl Run {
    fn new(constants: OptimizerSettings) -> Self {
        let (architecture, device) = (architecture(), Device::flex());
        let settings = EngineSettings {
            sequence_length: LENGTH,
            kept_layers: 2,
            cross_entropy_chunk_tokens: 16,
        };
        let model = initialize(&architecture, Seed(2), &device);
        let optimizer = Optimizer::new(&model, constants);
        Self { engine: Engine::new(&architecture, &device, settings), model, optimizer }
    }

    fn step(&mut self, batches: &[MicroBatch], settings: StepSettings) -> Applied {
        let Self { engine, model, optimizer } = self;
        match train_step(engine, model, optimizer, batches, settings, &Trained::Whole) {
            StepOutcome::Applied(applied) => applied,
            StepOutcome::Refused { reason, .. } => panic!("{reason}"),
        }
    }

    fn weights(&self) -> Vec<f32> {
        let tensors = self.model.segments().flat_map(|s| self.model.segment_parameters(s));
        let values = |tensor: Tensor<2>| -> Vec<f32> { tensor.into_data().try_to_vec().unwrap() };
        tensors.flat_map(values).collect()
    }

    fn square(&self, batches: &[MicroBatch]) -> f64 {
        let mut gradients = GradientAccumulator::new(2);
        for batch in batches {
            let _ = self.engine.micro_step(&self.model, batch, &mut gradients);
        }
        gradients.square_sum()
    }
}

const QUIET: StepSettings = StepSettings {
    learning_rate: 1e-2,
    factors: Factors::ONE,
    gradient_norm_max: 1.0,
    measure_noise: false,
};
const MEASURED: StepSettings = StepSettings { measure_noise: true, ..QUIET };

#[test]
fn noise_is_measured_from_micro_batches_of_uneven_size_before_clipping() {
    let batches = [micro_batch(0, 2), micro_batch(2, 2), micro_batch(4, 1)];
    let mut run = Run::new(CONSTANTS);
    let parts: Vec<MicroBatchGradient> = batches
        .iter()
        .map(|batch| MicroBatchGradient {
            square: run.square(std::slice::from_ref(batch)),
            targets: batch.total_target_tokens(),
        })
        .collect();
    let expected = NoiseSample::estimate(&parts, run.square(&batches)).unwrap();
    let clipped = StepSettings { gradient_norm_max: 1e-3, ..MEASURED };
    let found = run.step(&batches, clipped).noise.unwrap();
    assert_eq!(found.targets, expected.targets);
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
    assert!(close(found.gradient_square, expected.gradient_square), "{found:?} {expected:?}");
    assert!(close(found.noise_trace, expected.noise_trace), "{found:?} {expected:?}");
}

#[test]
fn to_measure_changes_no_bit_of_the_step() {
    let batches = [micro_batch(0, 2), micro_batch(2, 1)];
    let [mut one, mut other] = [Run::new(CONSTANTS), Run::new(CONSTANTS)];
    for _ in 0..3 {
        let (quiet, measured) = (one.step(&batches, QUIET), other.step(&batches, MEASURED));
        assert!(quiet.noise.is_none() && measured.noise.is_some());
        assert_eq!(quiet.gradient_norm.to_bits(), measured.gradient_norm.to_bits());
    }
    assert!(one.weights() == other.weights());
    // One micro-batch says nothing.
    assert_eq!(other.step(&batches[..1], MEASURED).noise, None);
}

#[test]
fn factors_are_other_constants() {
    let factors = Factors { learning_rate: 2.0, beta2_exponent: 3.0, weight_decay: 4.0 };
    let coupled = StepSettings { factors, ..QUIET };
    let constants = OptimizerSettings { beta2: 0.95f64.powi(3), weight_decay: 0.4, ..CONSTANTS };
    let written = StepSettings { learning_rate: 2e-2, ..QUIET };
    let batches = [micro_batch(0, 2)];
    let [mut one, mut other, mut plain] = [CONSTANTS, constants, CONSTANTS].map(Run::new);
    for _ in 0..4 {
        let applied = one.step(&batches, coupled);
        assert_eq!(applied.learning_rate, 2e-2);
        other.step(&batches, written);
        plain.step(&batches, QUIET);
    }
    let (one, other, plain) = (one.weights(), other.weights(), plain.weights());
    let largest =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest(&one, &other) < 1e-6, "{}", largest(&one, &other));
    assert!(largest(&one, &plain) > 1e-3);
}

// The bias of the second moment is corrected by what is left of its beginning, whatever decays
// there were: a constant gradient has a second moment of its own square at every step.
#[test]
fn the_correction_follows_a_decay_that_changes() {
    use terrace_kernels::{AdamW, Moments, adamw_step};

    let device = Device::flex();
    let gradient = Tensor::<2>::full([1, 4], 0.5, &device);
    let mut moments = Moments { first: gradient.zeros_like(), second: gradient.zeros_like() };
    let (mut parameter, mut age) = (gradient.zeros_like(), 0.0);
    for (step, exponent) in (1..=6).zip([1.0, 1.0, 2.0, 4.0, 4.0, 1.0]) {
        age += exponent;
        let constants = AdamW {
            learning_rate: 0.1,
            beta1: 0.0,
            beta2: 0.95f64.powf(exponent),
            epsilon: 0.0,
            weight_decay: 0.0,
            step,
            beta2_product: 0.95f64.powf(age),
        };
        (parameter, moments) = adamw_step(parameter, gradient.clone(), 1.0, moments, constants);
        let found: Vec<f32> = parameter.clone().into_data().try_to_vec().unwrap();
        // Every step is one learning rate long.
        assert!(found.iter().all(|p| (p + 0.1 * step as f32).abs() < 1e-5), "{step}: {found:?}");
    }
}

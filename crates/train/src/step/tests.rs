use burn::tensor::Device;
use terrace_base::Seed;
use terrace_config::{Architecture, Precision};
use terrace_model::initialize;

use super::*;
use crate::{EngineSettings, OptimizerSettings};

const LENGTH: usize = 8;

fn constants() -> OptimizerSettings {
    OptimizerSettings::default()
}

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
            precision: Precision::F32,
        };
        let model = initialize(&architecture, Seed(2), &device);
        let optimizer = Optimizer::new(&model, constants);
        Self { engine: Engine::new(&architecture, &device, settings), model, optimizer }
    }

    fn step(&mut self, batches: &[MicroBatch], settings: StepSettings) -> Applied {
        let Self { engine, model, optimizer } = self;
        match train_step(engine, model, optimizer, batches, settings, &Trained::Whole) {
            StepOutcome::Applied(applied) => applied,
            StepOutcome::Refused { reason, .. } | StepOutcome::Lost { reason, .. } => {
                panic!("{reason}")
            }
        }
    }

    fn weights(&self) -> Vec<f32> {
        let tensors = self.model.segments().flat_map(|s| self.model.segment_parameters(s));
        let values = |tensor: Tensor<2>| -> Vec<f32> { tensor.into_data().try_to_vec().unwrap() };
        tensors.flat_map(values).collect()
    }

    fn square(&mut self, batches: &[MicroBatch]) -> f64 {
        let mut gradients = GradientAccumulator::new(2);
        for batch in batches {
            let _ = self.engine.micro_step(&mut self.model, batch, &mut gradients);
        }
        gradients.square_sum()
    }
}

const QUIET: StepSettings = StepSettings::new(1e-2, 1.0);
const MEASURED: StepSettings = StepSettings { measure_noise: true, ..QUIET };

#[test]
fn noise_is_measured_from_micro_batches_of_uneven_size_before_clipping() {
    let batches = [micro_batch(0, 2), micro_batch(2, 2), micro_batch(4, 1)];
    let mut run = Run::new(constants());
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
    let [mut one, mut other] = [Run::new(constants()), Run::new(constants())];
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
    let written_out =
        OptimizerSettings { beta2: 0.95f64.powi(3), weight_decay: 0.4, ..constants() };
    let written = StepSettings { learning_rate: 2e-2, ..QUIET };
    let batches = [micro_batch(0, 2)];
    let [mut one, mut other, mut plain] = [constants(), written_out, constants()].map(Run::new);
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
    use terrace_kernels::host::RoundingKey;
    use terrace_kernels::{AdamW, MomentFormat, Moments, adamw_step};

    let device = Device::flex();
    let gradient = Tensor::<2>::full([1, 4], 0.5, &device);
    let mut moments = Moments::zeros([1, 4], MomentFormat::F32, &device);
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
            rounding: RoundingKey(0),
        };
        (parameter, moments) = adamw_step(parameter, gradient.clone(), 1.0, moments, constants);
        let found: Vec<f32> = parameter.clone().into_data().try_to_vec().unwrap();
        // Every step is one learning rate long.
        assert!(found.iter().all(|p| (p + 0.1 * step as f32).abs() < 1e-5), "{step}: {found:?}");
    }
}

/// All clipped by what is known of the gradient before it is whole.
fn clipped(clipping: Clipping, release: bool) -> StepSettings {
    StepSettings { gradient_norm_max: 1e-2, clipping, release, ..MEASURED }
}

#[test]
fn giving_gradients_up_changes_no_bit_of_the_step() {
    let batches = [micro_batch(0, 2), micro_batch(2, 1)];
    for clipping in [Clipping::PerLayer, Clipping::Previous(None), Clipping::Previous(Some(0.3))] {
        for count in [1, 2] {
            let [mut kept, mut released] = [Run::new(constants()), Run::new(constants())];
            for _ in 0..3 {
                let one = kept.step(&batches[..count], clipped(clipping, false));
                let other = released.step(&batches[..count], clipped(clipping, true));
                assert_eq!(one.gradient_norm.to_bits(), other.gradient_norm.to_bits());
                assert_eq!(one.noise, other.noise);
                assert_eq!(one.nats_per_row, other.nats_per_row);
            }
            assert!(kept.weights() == released.weights(), "{clipping:?}, {count} micro-batches");
        }
    }
}

#[test]
fn a_layer_is_clipped_for_itself() {
    // Adam hardly sees a factor that is always the same, but for its epsilon: with a large one the
    // update is in proportion to the gradient.
    let constants = OptimizerSettings { epsilon: 1e6, weight_decay: 0.0, ..constants() };
    let settings = |clipping| StepSettings { learning_rate: 1e6, ..clipped(clipping, false) };
    let lengths = |clipping| {
        let mut run = Run::new(constants);
        let before = run.model.clone();
        let applied = run.step(&[micro_batch(0, 2)], settings(clipping));
        let length = |segment| {
            let pairs = run.model.segment_parameters(segment).into_iter();
            let pairs = pairs.zip(before.segment_parameters(segment));
            let squares = pairs.map(|(a, b)| (a - b).square().sum().into_scalar::<f32>());
            f64::from(squares.sum::<f32>()).sqrt()
        };
        (run.model.segments().map(length).collect::<Vec<f64>>(), applied.gradient_norm)
    };
    let (own, norm) = lengths(Clipping::PerLayer);
    let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 2e-3;
    // Each has a norm above the limit, and ends at it.
    assert!(own.iter().all(|length| close(*length, 1e-2)), "{own:?}");
    let whole = |lengths: &[f64]| lengths.iter().map(|l| l * l).sum::<f64>().sqrt();
    let (global, _) = lengths(Clipping::Global);
    assert!(close(whole(&global), 1e-2), "{global:?}");
    let (previous, _) = lengths(Clipping::Previous(Some(2.0 * norm)));
    assert!(close(whole(&previous), 5e-3), "{previous:?}");
    assert_eq!(lengths(Clipping::Previous(None)).0, own);
}

#[test]
fn what_is_found_out_too_late_is_told() {
    let batches = [micro_batch(0, 2)];
    for release in [false, true] {
        let mut run = Run::new(constants());
        let embedding = run.model.embed_tokens.clone();
        run.model.embed_tokens = embedding.clone() / embedding.zeros_like();
        let Run { engine, model, optimizer } = &mut run;
        let settings = clipped(Clipping::PerLayer, release);
        match train_step(engine, model, optimizer, &batches, settings, &Trained::Whole) {
            StepOutcome::Refused { rows, .. } if !release => assert_eq!(rows, [0, 1]),
            StepOutcome::Lost { rows, .. } if release => assert_eq!(rows, [0, 1]),
            other => panic!("{other:?}"),
        }
    }
}

/// The gradients of a micro-batch, as one list.
fn gradients(precision: Precision, kept_layers: usize) -> (Vec<f32>, Vec<f32>) {
    let mut run = Run::new(constants());
    if precision == Precision::Bf16 {
        run.model.cast_matrices(burn::tensor::FloatDType::BF16);
    }
    let settings = EngineSettings {
        sequence_length: LENGTH,
        kept_layers,
        cross_entropy_chunk_tokens: 5,
        precision,
    };
    let engine = Engine::new(&architecture(), &Device::flex(), settings);
    let mut sum = GradientAccumulator::new(2);
    let nats = engine.micro_step(&mut run.model, &micro_batch(0, 3), &mut sum);
    let values = |tensor: &Tensor<2>| -> Vec<f32> {
        assert_eq!(tensor.dtype(), burn::tensor::DType::F32, "gradients are f32");
        tensor.clone().into_data().try_to_vec().unwrap()
    };
    let all = run.model.segments().flat_map(|s| sum.segment(s).iter().flat_map(values)).collect();
    (nats.into_data().try_to_vec().unwrap(), all)
}

#[test]
fn gradients_of_half_precision_are_those_of_single_but_for_rounding() {
    let (nats, exact) = gradients(Precision::F32, 2);
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    for precision in [Precision::Bf16Mixed, Precision::Bf16] {
        let (found_nats, found) = gradients(precision, 2);
        for (a, b) in found_nats.iter().zip(&nats) {
            assert!((a / b - 1.0).abs() < 2e-3, "{precision:?}: {a} {b}");
        }
        let cosine = dot(&found, &exact) / (dot(&found, &found) * dot(&exact, &exact)).sqrt();
        assert!(cosine > 0.9995, "{precision:?}: {cosine}");
        assert!(found != exact, "{precision:?}");
        assert!(gradients(precision, 0) == gradients(precision, 2), "recomputing changes no bit");
    }
}

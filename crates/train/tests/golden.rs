//! The engine against `transformers` and `torch`: losses, gradients, three AdamW steps.

use burn::tensor::{Device, Tensor, TensorData};
use terrace_config::Precision;
use terrace_data::MicroBatch;
use terrace_kernels::host::RoundingKey;
use terrace_kernels::{AdamW, MomentFormat, Moments, adamw_step};
use terrace_model::{CausalLm, Segment, hf, segment_specs};
use terrace_testkit::{Golden, Tolerance};
use terrace_train::{
    Applied, Engine, EngineSettings, GradientAccumulator, Optimizer, OptimizerSettings,
    StepOutcome, StepSettings, Trained, train_step,
};

/// A micro-batch of rows with documents of the given lengths; a last length may be padding.
fn batch(tokens: &[i32], t: usize, documents: &[usize], length: usize) -> MicroBatch {
    let rows = tokens.len() / t;
    let mut batch = MicroBatch { rows, sequence_length: t, ..MicroBatch::default() };
    for row in tokens.chunks(t) {
        batch.tokens.extend(row);
        let mut start = 0;
        let mut count = 0;
        for (segment, document) in documents.iter().enumerate() {
            for i in 0..*document {
                let last = i + 1 == *document || start + i + 1 >= length;
                batch.targets.push(if last { -1 } else { row[start + i + 1] });
                count += u32::from(!last);
                batch.positions.push(i as i32);
                batch.segments.push(segment as i32);
            }
            start += document;
        }
        batch.sources.push(0);
        batch.target_tokens.push(count);
        batch.target_bytes.push(count);
    }
    batch
}

fn load(golden: &Golden) -> CausalLm {
    hf::load(&golden.model(), &Device::flex()).unwrap()
}

fn engine(model: &CausalLm, t: usize, kept_layers: usize, chunk: usize) -> Engine {
    engine_in(Precision::F32, model, t, kept_layers, chunk)
}

fn engine_in(
    precision: Precision,
    model: &CausalLm,
    t: usize,
    kept_layers: usize,
    chunk: usize,
) -> Engine {
    let settings = EngineSettings {
        sequence_length: t,
        kept_layers,
        cross_entropy_chunk_tokens: chunk,
        precision,
    };
    Engine::new(&model.architecture, &Device::flex(), settings)
}

fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data().try_to_vec().unwrap()
}

fn all_gradients(model: &CausalLm, gradients: &GradientAccumulator) -> Vec<(String, Vec<f32>)> {
    model
        .segments()
        .flat_map(|segment| {
            let specs = segment_specs(&model.architecture, segment);
            let values = gradients.segment(segment).iter().map(host);
            specs.into_iter().map(|spec| spec.name).zip(values).collect::<Vec<_>>()
        })
        .collect()
}

fn check_gradients(case: &str, documents: &[usize], length: usize) {
    let golden = Golden::open(case);
    let mut model = load(&golden);
    let batch = batch(&golden.integers("input_ids"), 24, documents, length);
    assert_eq!(batch.total_target_tokens() as f32, golden_targets(&golden));
    for (kept_layers, chunk) in [(99, 1000), (0, 7), (1, 24)] {
        let mut gradients = GradientAccumulator::new(model.layers.len());
        let nats =
            engine(&model, 24, kept_layers, chunk).micro_step(&mut model, &batch, &mut gradients);
        let total: f32 = host(&nats).iter().sum();
        let tolerance = Tolerance { absolute: 0.0, relative: 5e-6 };
        golden.assert_close("loss_sum_nats", &[total], tolerance);
        let found = all_gradients(&model, &gradients);
        assert_eq!(
            found.len(),
            golden.names("grad.").count(),
            "{case}: every gradient is compared"
        );
        for (name, values) in found {
            golden.assert_close_to_maximum(&format!("grad.{name}"), &values, 5e-5);
        }
    }
}

fn golden_targets(golden: &Golden) -> f32 {
    golden.integers("target_tokens")[0] as f32
}

#[test]
fn gradients_agree_with_f64() {
    for case in ["gqa-untied", "tied", "head-dim"] {
        check_gradients(case, &[24], 24);
    }
}

#[test]
fn gradients_of_packed_documents_are_those_of_documents_alone() {
    check_gradients("packed", &[7, 1, 12, 4], 20);
}

/// What becomes of each gradient by rounding the factors of products is noise: how much of it there is
/// can be compared, not what it is.
#[test]
fn mixed_precision_is_as_near_to_f64_as_torch_autocast() {
    let golden = Golden::open("autocast");
    let mut model = load(&golden);
    let batch = batch(&golden.integers("input_ids"), 24, &[24], 24);
    let mut gradients = GradientAccumulator::new(model.layers.len());
    let engine = engine_in(Precision::Bf16Mixed, &model, 24, 99, 16);
    let nats: f32 = host(&engine.micro_step(&mut model, &batch, &mut gradients)).iter().sum();
    let [exact, autocast] =
        ["loss_sum_nats", "loss_sum_nats_autocast"].map(|name| golden.scalar(name));
    assert!((nats - exact).abs() <= 2.0 * (autocast - exact).abs(), "{nats}, {autocast}, {exact}");

    let distance = |a: &[f32], b: &[f32]| -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let [mut ours, mut theirs] = [0.0; 2];
    for (name, found) in all_gradients(&model, &gradients) {
        let exact = golden.floats(&format!("grad.{name}"));
        let [own, other] =
            [&found, golden.floats(&format!("autocast.{name}"))].map(|g| distance(g, exact));
        assert!(own.sqrt() <= 1.5 * other.sqrt(), "{name}: {own}, under autocast {other}");
        ours += own;
        theirs += other;
    }
    let ratio = (ours / theirs).sqrt();
    // Products in f32 would be nearer by a thousand.
    assert!((0.5..=1.1).contains(&ratio), "{ratio}");
}

#[test]
fn recomputing_changes_no_bit() {
    let golden = Golden::open("gqa-untied");
    let model = load(&golden);
    let batch = batch(&golden.integers("input_ids"), 24, &[24], 24);
    let run = |kept_layers| {
        let mut gradients = GradientAccumulator::new(model.layers.len());
        let mut model = model.clone();
        let engine = engine(&model, 24, kept_layers, 16);
        let nats = engine.micro_step(&mut model, &batch, &mut gradients);
        (host(&nats), all_gradients(&model, &gradients))
    };
    assert!(run(0) == run(3), "recomputing all layers gives other numbers than keeping all");
    assert!(run(1) == run(3), "recomputing some layers gives other numbers than keeping all");
}

#[test]
fn the_cut_into_micro_batches_does_not_matter() {
    let golden = Golden::open("adamw");
    let mut model = load(&golden);
    let tokens: Vec<i32> = (1..=3)
        .flat_map(|step| golden.integers(&format!("input_ids_step{step}")))
        .chain(golden.integers("input_ids_step1").into_iter().rev())
        .collect();
    assert_eq!(tokens.len(), 8 * 24);
    // Rows with different numbers of targets: a mean of means would show.
    let documents: [&[usize]; 4] = [&[24], &[23, 1], &[5, 9, 10], &[12, 12]];
    let row = |i: usize| batch(&tokens[i * 24..(i + 1) * 24], 24, documents[i % 4], 24 - i);
    let join = |rows: std::ops::Range<usize>| {
        let mut whole = MicroBatch { sequence_length: 24, ..MicroBatch::default() };
        for part in rows.map(row) {
            whole.rows += 1;
            whole.tokens.extend(part.tokens);
            whole.targets.extend(part.targets);
            whole.positions.extend(part.positions);
            whole.segments.extend(part.segments);
            whole.sources.extend(part.sources);
            whole.target_tokens.extend(part.target_tokens);
            whole.target_bytes.extend(part.target_bytes);
        }
        whole
    };
    let mut gradients = |size: usize| {
        let mut sum = GradientAccumulator::new(model.layers.len());
        let engine = engine(&model, 24, 99, 24);
        for start in (0..8).step_by(size) {
            let _ = engine.micro_step(&mut model, &join(start..start + size), &mut sum);
        }
        all_gradients(&model, &sum)
    };
    let reference = gradients(8);
    for size in [1, 2, 4] {
        for ((name, found), (_, expected)) in gradients(size).iter().zip(&reference) {
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() <= 1e-6 * largest.max(1.0), "{name}: {f} {e} of {largest}");
            }
        }
    }
}

#[test]
fn three_clipped_adamw_steps_agree_with_torch() {
    let golden = Golden::open("adamw");
    let mut model = load(&golden);
    let engine = engine(&model, 24, 99, 24);
    let mut optimizer = Optimizer::new(&model, OptimizerSettings::default());
    for step in 1..=3 {
        let rows = batch(&golden.integers(&format!("input_ids_step{step}")), 24, &[24], 24);
        let outcome = train_step(
            &engine,
            &mut model,
            &mut optimizer,
            &[rows],
            StepSettings::new(3e-4, 1.0),
            &Trained::Whole,
        );
        let StepOutcome::Applied(Applied { nats_per_row, target_tokens, gradient_norm, .. }) =
            outcome
        else {
            panic!("a finite step is applied")
        };
        let loss = nats_per_row.iter().sum::<f32>() / target_tokens as f32;
        let tolerance = |relative| Tolerance { absolute: 0.0, relative };
        golden.assert_close(&format!("loss_step{step}"), &[loss], tolerance(5e-6));
        let norm = [gradient_norm as f32];
        golden.assert_close(&format!("grad_norm_step{step}"), &norm, tolerance(2e-5));
        if step != 2 {
            check_parameters(&golden, &model, step);
        }
    }
    for (position, segment) in model.segments().enumerate() {
        let specs = segment_specs(&model.architecture, segment);
        for (spec, moments) in specs.iter().zip(optimizer.segment_moments(position)) {
            let [first, second] = moments.to_f32(spec.matrix_shape()).each_ref().map(host);
            golden.assert_close_to_maximum(&format!("exp_avg.{}", spec.name), &first, 5e-5);
            golden.assert_close_to_maximum(&format!("exp_avg_sq.{}", spec.name), &second, 1e-4);
        }
    }
}

fn check_parameters(golden: &Golden, model: &CausalLm, step: usize) {
    for segment in model.segments() {
        let specs = segment_specs(&model.architecture, segment);
        for (spec, tensor) in specs.iter().zip(model.segment_parameters(segment)) {
            let tolerance = Tolerance { absolute: 3e-6, relative: 0.0 };
            golden.assert_close(&format!("step{step}.{}", spec.name), &host(&tensor), tolerance);
        }
    }
}

#[test]
fn tiny_gradients_meet_the_right_epsilon() {
    let golden = Golden::open("adamw");
    let device = Device::flex();
    let row = |name: &str| -> Tensor<2> {
        Tensor::from_data(TensorData::new(golden.floats(name).to_vec(), [1, 4]), &device)
    };
    let (mut parameter, gradient) = (row("tiny_param"), row("tiny_grads"));
    let mut moments = Moments::zeros([1, 4], MomentFormat::F32, &device);
    for step in 1..=3 {
        let constants = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step,
            beta2_product: 0.95f64.powf(step as f64),
            rounding: RoundingKey(0),
        };
        (parameter, moments) = adamw_step(parameter, gradient.clone(), 1.0, moments, constants);
        let tolerance = Tolerance { absolute: 5e-7, relative: 1e-6 };
        golden.assert_close(&format!("tiny_after_step{step}"), &host(&parameter), tolerance);
    }
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    let golden = Golden::open("gqa-untied");
    let mut model = load(&golden);
    let good = batch(&golden.integers("input_ids"), 24, &[24], 24);
    let engine = engine(&model, 24, 99, 24);
    let mut optimizer = Optimizer::new(&model, OptimizerSettings::default());
    // The second row alone uses token 95, whose embedding is broken.
    let mut rows = good.clone();
    rows.tokens.iter_mut().for_each(|token| *token %= 95);
    rows.tokens[30] = 95;
    let mut values = host(&model.embed_tokens);
    let width = values.len() / 96;
    values[95 * width] = f32::NAN;
    model.embed_tokens = Tensor::from_data(TensorData::new(values, [96, width]), &Device::flex());
    let before: Vec<Vec<f32>> =
        model.segment_parameters(Segment::Layer(0)).iter().map(host).collect();
    let outcome = train_step(
        &engine,
        &mut model,
        &mut optimizer,
        &[rows],
        StepSettings::new(3e-4, 1.0),
        &Trained::Whole,
    );
    let StepOutcome::Refused { rows, .. } = outcome else { panic!("NaN must be refused") };
    assert_eq!(rows, [1]);
    assert!(optimizer.updates().iter().all(|count| *count == 0));
    let after: Vec<Vec<f32>> =
        model.segment_parameters(Segment::Layer(0)).iter().map(host).collect();
    assert_eq!(before, after);
}

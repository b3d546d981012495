//! Training steps of a model of random weights, one process for each choice of recompute.
//!
//! A process of its own, because the peak of a process never falls again.

mod operations;

use std::process::Command;
use std::time::Instant;

use burn::tensor::FloatDType;
use serde::{Deserialize, Serialize};
use terrace_base::{Seed, format_bytes};
use terrace_config::{
    Architecture, MemoryModel, MicroStepShape, MomentFormat, Precision, Recompute, StateFormat,
};
use terrace_data::MicroBatch;
use terrace_kernels::host::is_host;
use terrace_model::{CausalLm, initialize};
use terrace_train::{
    Clipping, Engine, EngineSettings, Optimizer, OptimizerSettings, StepOutcome, StepSettings,
    Trained, train_step,
};

use self::operations::Operations;
use super::{median, resident_bytes, shape};
use crate::args::{BenchTrainArgs, Switch};
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

/// The most steps whose spans are summed.
const LISTENED_STEPS: usize = 3;

/// What one process measured.
#[derive(Debug, Serialize, Deserialize)]
struct Measurement {
    recompute: Recompute,
    precision: Precision,
    moments: MomentFormat,
    gradient_release: bool,
    /// Whether the norms of the micro-batches' gradients were taken.
    noise_scale: bool,
    device: String,
    /// The card's name; null for other devices.
    card: Option<String>,
    parameters: u64,
    layers: u64,
    batch_sequences: usize,
    sequence_length: usize,
    micro_batches: usize,
    steps: usize,
    /// The median of the steps.
    seconds_per_step: f64,
    tokens_per_second: f64,
    /// The largest resident set of the process; null where the system does not tell.
    peak_memory_bytes: Option<u64>,
    /// What the process held before there was a model: the program itself.
    baseline_memory_bytes: Option<u64>,
    /// What `terrace plan` would say for the peak, which leaves the program out.
    predicted_peak_memory_bytes: u64,
    /// Weights, gradients and moments.
    state_bytes: u64,
    /// The peak less the state: activations, working memory and the program itself.
    activation_peak_bytes: Option<u64>,
    model_flops_per_second: f64,
    /// Where the time goes; null on devices, which work while the program is elsewhere, and where
    /// products are the tensor library's.
    operations: Option<Operations>,
    /// Operations a second of dense bf16 products, by the maker's data sheet; null if not known.
    peak_flops_per_second: Option<f64>,
    /// The first over the second.
    mfu: Option<f64>,
}

#[derive(Serialize)]
struct Answer {
    results: Vec<Measurement>,
}

/// Measures each choice in turn.
pub(crate) fn run(args: &BenchTrainArgs, context: &Context) -> Result<ExitCode, CliError> {
    if args.alone {
        let measurement = measure(args, context)?;
        context.data(&measurement);
        return Ok(ExitCode::Done);
    }
    let needs_bf16 = args.precision != Precision::F32 || args.moments == MomentFormat::Bf16;
    if needs_bf16 && !args.device.has_bf16() {
        let message = format!("{} has no bf16", args.device);
        let help = "measure with --precision f32 and --moments f32 or 8-bit, or on cuda";
        return Err(CliError::input(message).with_help(help));
    }
    // A device that is not there is told here, once, and not by the first process that is measured.
    device::open(args.device, context)?;
    architecture(args)?;
    if args.noise_scale.contains(&Switch::On) && args.micro_batches < 2 {
        let message = "--noise-scale on needs at least two micro-batches in a step";
        return Err(CliError::input(message).with_help("add --micro-batches 2"));
    }
    let mut results = Vec::new();
    for recompute in &args.recompute {
        for noise_scale in &args.noise_scale {
            let (choice, switch) = (name(*recompute), switch_name(*noise_scale));
            context
                .note(&format!("recompute {choice}, noise scale {switch}: {} steps", args.steps));
            results.push(in_a_process(args, *recompute, *noise_scale)?);
        }
    }
    let answer = Answer { results };
    context.answer(&answer, || render(&answer.results));
    Ok(ExitCode::Done)
}

fn in_a_process(
    args: &BenchTrainArgs,
    recompute: Recompute,
    noise_scale: Switch,
) -> Result<Measurement, CliError> {
    let program = std::env::current_exe().map_err(CliError::environment)?;
    let batch = format!("{}x{}", args.batch.sequences, args.batch.sequence_length);
    let layers = args.layers.map(|layers| format!("--layers={layers}"));
    let steps = args.steps.to_string();
    let output = Command::new(program)
        .args(["bench", "train", "--alone", "--json", "--quiet", "--batch", &batch])
        .args(["--recompute", name(recompute), "--steps", &steps, "--shape", &args.shape])
        .args(layers)
        .args(["--noise-scale", switch_name(noise_scale)])
        .args(["--micro-batches", &args.micro_batches.to_string()])
        .args(["--device", &args.device.to_string()])
        .args(["--precision", args.precision.name(), "--moments", args.moments.name()])
        .args(args.gradient_release.then_some("--gradient-release"))
        .output()
        .map_err(CliError::environment)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let message = format!("the measuring process failed ({}): {said}", output.status);
        return Err(CliError::environment(message)
            .with_help("a smaller --batch or --recompute all needs less memory"));
    }
    serde_json::from_slice(&output.stdout).map_err(CliError::environment)
}

fn measure(args: &BenchTrainArgs, context: &Context) -> Result<Measurement, CliError> {
    let device = device::open(args.device, context)?;
    let architecture = architecture(args)?;
    let (b, t) = (args.batch.sequences, args.batch.sequence_length);
    let recompute = args.recompute[0];
    let layers = architecture.num_hidden_layers as usize;
    let kept_layers = match recompute {
        Recompute::None => layers,
        Recompute::All => 0,
        Recompute::Auto => layers.div_ceil(2),
    };
    let baseline_memory_bytes = resident_bytes("VmRSS:");
    let shape = MicroStepShape {
        sequence_length: t,
        micro_batch_sequences: b,
        cross_entropy_chunk_tokens: 256,
    };
    let state = StateFormat {
        precision: args.precision,
        moments: args.moments,
        gradient_release: args.gradient_release,
        accumulates: args.micro_batches > 1,
    };
    let memory = MemoryModel::new(&architecture, shape, args.device).with_state(state);
    let settings = EngineSettings {
        sequence_length: t,
        kept_layers,
        cross_entropy_chunk_tokens: shape.cross_entropy_chunk_tokens,
        precision: args.precision,
    };
    let engine = Engine::new(&architecture, &device, settings);
    let mut model = initialize(&architecture, Seed(1), &device);
    if args.precision == Precision::Bf16 {
        model.cast_matrices(FloatDType::BF16);
    }
    let moments = terrace_train::moment_format(args.moments);
    let constants = OptimizerSettings { moments, ..OptimizerSettings::default() };
    let mut optimizer = Optimizer::new(&model, constants);
    let micro_batches = usize::from(args.micro_batches);
    let batch = vec![micro_batch(b, t, architecture.vocab_size); micro_batches];
    let measure_noise = args.noise_scale[0] == Switch::On;
    let release = args.gradient_release;
    let clipping = if release { Clipping::PerLayer } else { Clipping::Global };
    let step_settings =
        StepSettings { measure_noise, clipping, release, ..StepSettings::new(1e-5, 1.0) };
    let mut seconds = Vec::new();
    for step in 0..=args.steps {
        let begin = Instant::now();
        take_step(&engine, &mut model, &mut optimizer, &batch, step_settings)?;
        // The first step pays for allocation and, on some devices, for choosing kernels.
        if step > 0 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let seconds_per_step = median(seconds);
    let tokens_per_second = (micro_batches * b * t) as f64 / seconds_per_step;
    let parameters = architecture.parameter_count();
    let state_bytes = memory.weights_bytes() + memory.gradients_bytes() + memory.moments_bytes();
    let peak_memory_bytes = resident_bytes("VmHWM:");
    let mut step = || take_step(&engine, &mut model, &mut optimizer, &batch, step_settings);
    let operations =
        match context.shares().filter(|_| is_host(&device) && args.precision == Precision::F32) {
            Some(shares) => {
                let steps = args.steps.clamp(1, LISTENED_STEPS);
                Some(Operations::measure(shares, steps, seconds_per_step, &mut step)?)
            }
            None => None,
        };
    let peak_flops_per_second = device::peak_flops(args.device, &context.environment);
    Ok(Measurement {
        recompute,
        precision: args.precision,
        moments: args.moments,
        gradient_release: args.gradient_release,
        noise_scale: measure_noise,
        device: args.device.to_string(),
        card: device::card(args.device, &context.environment),
        parameters,
        layers: architecture.num_hidden_layers,
        batch_sequences: b,
        sequence_length: t,
        micro_batches,
        steps: args.steps,
        seconds_per_step,
        tokens_per_second,
        peak_memory_bytes,
        baseline_memory_bytes,
        predicted_peak_memory_bytes: memory.peak_bytes(kept_layers as u64),
        state_bytes,
        activation_peak_bytes: peak_memory_bytes.map(|peak| peak.saturating_sub(state_bytes)),
        model_flops_per_second: architecture.flops_per_token(t) as f64 * tokens_per_second,
        operations,
        peak_flops_per_second,
        mfu: architecture.utilisation(t, tokens_per_second, peak_flops_per_second),
    })
}

fn take_step(
    engine: &Engine,
    model: &mut CausalLm,
    optimizer: &mut Optimizer,
    batch: &[MicroBatch],
    settings: StepSettings,
) -> Result<(), CliError> {
    match train_step(engine, model, optimizer, batch, settings, &Trained::Whole) {
        StepOutcome::Applied(_) => {
            engine.device().sync().map_err(|error| CliError::device(error.to_string()))
        }
        StepOutcome::Refused { reason, .. } | StepOutcome::Lost { reason, .. } => {
            Err(CliError::device(reason))
        }
    }
}

/// The shape that was asked for, with as many layers as asked.
fn architecture(args: &BenchTrainArgs) -> Result<Architecture, CliError> {
    let shape = shape::architecture(&args.shape)?;
    Ok(Architecture {
        num_hidden_layers: args.layers.unwrap_or(shape.num_hidden_layers),
        max_position_embeddings: args.batch.sequence_length as u64,
        ..shape
    })
}

/// Rows of one document each, with tokens drawn from a seed.
fn micro_batch(rows: usize, t: usize, vocab_size: u64) -> MicroBatch {
    let stream = Seed(1).stream("bench");
    let id = |i: usize| (stream.at(i as u64) % vocab_size) as i32;
    let mut batch = MicroBatch { rows, sequence_length: t, ..MicroBatch::default() };
    for row in 0..rows {
        let offset = row * (t + 1);
        batch.tokens.extend((0..t).map(|i| id(offset + i)));
        batch.targets.extend((0..t).map(|i| id(offset + i + 1)));
        batch.positions.extend(0..t as i32);
        batch.segments.extend(std::iter::repeat_n(0, t));
        batch.sources.push(0);
        batch.target_tokens.push(t as u32);
        batch.target_bytes.push(t as u32);
    }
    batch
}

/// `BxT`, and how often where it is not once.
fn batch_name(m: &Measurement) -> String {
    let shape = format!("{}x{}", m.batch_sequences, m.sequence_length);
    if m.micro_batches == 1 { shape } else { format!("{} of {shape}", m.micro_batches) }
}

fn name(recompute: Recompute) -> &'static str {
    match recompute {
        Recompute::None => "none",
        Recompute::All => "all",
        Recompute::Auto => "auto",
    }
}

fn switch_name(switch: Switch) -> &'static str {
    match switch {
        Switch::Off => "off",
        Switch::On => "on",
    }
}

fn render(results: &[Measurement]) -> String {
    let mut table = Table::new([
        "recompute",
        "noise",
        "batch",
        "tokens/s",
        "s/step",
        "peak",
        "predicted",
        "activations",
        "model GFLOP/s",
        "MFU",
    ]);
    let bytes = |b: Option<u64>| b.map_or_else(|| "-".to_owned(), format_bytes);
    for m in results {
        table.row([
            name(m.recompute).to_owned(),
            (if m.noise_scale { "on" } else { "off" }).to_owned(),
            batch_name(m),
            format!("{:.0}", m.tokens_per_second),
            format!("{:.3}", m.seconds_per_step),
            bytes(m.peak_memory_bytes),
            format_bytes(m.predicted_peak_memory_bytes),
            bytes(m.activation_peak_bytes),
            format!("{:.1}", m.model_flops_per_second / 1e9),
            m.mfu.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", 100.0 * share)),
        ]);
    }
    let model = results.first().map_or_else(String::new, |m| {
        let device = m.card.as_ref().unwrap_or(&m.device);
        let release = if m.gradient_release { ", gradients released" } else { "" };
        format!(
            "{} parameters, {} layers, on {device}; {}, moments {}{release}\n",
            grouped(m.parameters),
            m.layers,
            m.precision.name(),
            m.moments.name(),
        )
    });
    let shares = results.iter().filter_map(|m| {
        let heading = format!("\nrecompute {}, {}:\n", name(m.recompute), batch_name(m));
        m.operations.as_ref().map(|operations| heading + &operations.render())
    });
    format!("{model}{}{}", table.render(), shares.collect::<String>())
}

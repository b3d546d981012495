//! `terrace bench decode`: tokens a second when every sequence gets one at a time.

use std::time::Instant;

use serde::Serialize;
use terrace_infer::memory::cache_bytes;

use super::super::median;
use super::{Bench, Memory, Model, Subject, engine, name, prompt, share, step, submit};
use crate::args::{BenchDecodeArgs, WeightsChoice};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::Table;
use terrace_base::format_bytes;

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    subject: Subject<'a>,
    prompt_tokens: usize,
    steps: usize,
    results: Vec<Measurement>,
}

#[derive(Serialize)]
struct Measurement {
    weights: WeightsChoice,
    batch: usize,
    /// The median of the steps.
    seconds_per_step: f64,
    tokens_per_second: f64,
    /// What a step reads at least: the weights, and keys and values of all sequences.
    bytes_per_step: u64,
    bytes_per_second: f64,
    /// If the device's memory did nothing but deliver those; null where that is not known.
    tokens_per_second_ceiling: Option<f64>,
    memory: Memory,
}

/// Measures every format with every number of sequences.
pub(crate) fn run(args: &BenchDecodeArgs, context: &Context) -> Result<ExitCode, CliError> {
    let bench = Bench::new(&args.common, context)?;
    let length = usize::from(args.prompt) + usize::from(args.warm_up) + usize::from(args.steps) + 1;
    let most = args.batch.iter().max().copied().map_or(0, usize::from);
    let mut results = Vec::new();
    for weights in &args.common.weights {
        let model = bench.draw(*weights, most * length, [most, length], context)?;
        for batch in &args.batch {
            results.push(measure(&bench, &model, args, usize::from(*batch), length)?);
        }
    }
    let answer = Answer {
        subject: bench.subject(&args.common, context),
        prompt_tokens: args.prompt.into(),
        steps: args.steps.into(),
        results,
    };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn measure(
    bench: &Bench,
    model: &Model,
    args: &BenchDecodeArgs,
    batch: usize,
    length: usize,
) -> Result<Measurement, CliError> {
    let (warm_up, steps) = (usize::from(args.warm_up), usize::from(args.steps));
    let mut engine = engine(model, batch, length, 512);
    for key in 0..batch {
        let prompt = prompt(&bench.architecture, key as u64, args.prompt.into());
        submit(&mut engine, prompt, warm_up + steps + 1)?;
    }
    // Until every sequence has its first token, those that have it go on; all of that is warm-up too.
    let whole = |engine: &terrace_infer::Engine| {
        engine.counts().prefilled as usize >= batch * usize::from(args.prompt)
    };
    while !whole(&engine) {
        step(&mut engine)?;
    }
    for _ in 0..warm_up {
        step(&mut engine)?;
    }
    let mut seconds = Vec::new();
    for _ in 0..steps {
        let (before, begin) = (engine.counts().generated, Instant::now());
        step(&mut engine)?;
        // Sequences that began early may end early: a step counts only if it was of all of them.
        if engine.counts().generated - before == batch as u64 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    if seconds.is_empty() {
        let message = "no step was of all sequences: the first were done before the last began";
        return Err(CliError::input(message).with_help("more --steps, or shorter prompts"));
    }
    let seconds_per_step = median(seconds);
    let half_way = (usize::from(args.prompt) + warm_up + steps / 2) as u64;
    let keys = cache_bytes(&bench.architecture, model.precision.bytes(), batch as u64, half_way);
    let bytes_per_step = model.model.bytes_per_pass() + keys;
    let ceiling =
        bench.limits.map(|limits| batch as f64 * limits.bytes_per_second / bytes_per_step as f64);
    Ok(Measurement {
        weights: model.weights,
        batch,
        seconds_per_step,
        tokens_per_second: batch as f64 / seconds_per_step,
        bytes_per_step,
        bytes_per_second: bytes_per_step as f64 / seconds_per_step,
        tokens_per_second_ceiling: ceiling,
        memory: bench.memory(model, batch, length),
    })
}

fn text(answer: &Answer<'_>) -> String {
    let heading = [
        "weights",
        "batch",
        "tokens/s",
        "ms/step",
        "GB/s",
        "ceiling",
        "share",
        "weights take",
        "cache",
    ];
    let mut table = Table::new(heading);
    for result in &answer.results {
        let ceiling = result.tokens_per_second_ceiling;
        table.row([
            name(result.weights).to_owned(),
            result.batch.to_string(),
            format!("{:.1}", result.tokens_per_second),
            format!("{:.2}", 1e3 * result.seconds_per_step),
            format!("{:.1}", result.bytes_per_second / 1e9),
            ceiling.map_or_else(|| "-".to_owned(), |ceiling| format!("{ceiling:.0}")),
            share(result.tokens_per_second, ceiling),
            format_bytes(result.memory.weights_bytes),
            format_bytes(result.memory.cache_bytes),
        ]);
    }
    format!(
        "{}; prompts of {} tokens, {} steps\n{}",
        answer.subject,
        answer.prompt_tokens,
        answer.steps,
        table.render()
    )
}

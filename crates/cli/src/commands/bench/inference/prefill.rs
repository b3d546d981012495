//! `terrace bench prefill`: tokens a second of a prompt that is computed at once.

use std::time::Instant;

use serde::Serialize;

use super::super::median;
use super::{Bench, Memory, Model, Subject, engine, name, prompt, share, step, submit};
use crate::args::{BenchPrefillArgs, WeightsChoice};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::Table;
use terrace_base::format_bytes;

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    subject: Subject<'a>,
    chunk_tokens: usize,
    repeats: usize,
    results: Vec<Measurement>,
}

#[derive(Serialize)]
struct Measurement {
    weights: WeightsChoice,
    prompt_tokens: usize,
    /// The median of the prompts, with the first token that follows each.
    seconds: f64,
    tokens_per_second: f64,
    /// What the products of the prompt take: of its tokens with the layers' weights, and of queries with
    /// keys and of weights with values; of the output projection one row.
    flops: f64,
    flops_per_second: f64,
    /// If the device did nothing but products in bf16; null where that is not known, and for f32.
    tokens_per_second_ceiling: Option<f64>,
    memory: Memory,
}

/// Measures every format with every length.
pub(crate) fn run(args: &BenchPrefillArgs, context: &Context) -> Result<ExitCode, CliError> {
    let bench = Bench::new(&args.common, context)?;
    let most = args.prompt.iter().max().copied().map_or(0, usize::from);
    let mut results = Vec::new();
    for weights in &args.common.weights {
        let model = bench.draw(*weights, most + 1, [args.chunk.into(), most + 1], context)?;
        for prompt in &args.prompt {
            results.push(measure(&bench, &model, args, usize::from(*prompt))?);
        }
    }
    let answer = Answer {
        subject: bench.subject(&args.common, context),
        chunk_tokens: args.chunk.into(),
        repeats: args.repeats.into(),
        results,
    };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn measure(
    bench: &Bench,
    model: &Model,
    args: &BenchPrefillArgs,
    tokens: usize,
) -> Result<Measurement, CliError> {
    let mut engine = engine(model, 1, tokens + 1, args.chunk.into());
    let mut seconds = Vec::new();
    for repeat in 0..args.warm_up + args.repeats {
        let prompt = prompt(&bench.architecture, repeat.into(), tokens);
        let begin = Instant::now();
        submit(&mut engine, prompt, 1)?;
        while terrace_completion::LanguageModel::pending(&engine) > 0 {
            step(&mut engine)?;
        }
        if repeat >= args.warm_up {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let seconds = median(seconds);
    let flops = flops(bench, tokens as f64);
    let ceiling = bench.limits.filter(|_| model.weights != WeightsChoice::F32);
    Ok(Measurement {
        weights: model.weights,
        prompt_tokens: tokens,
        seconds,
        tokens_per_second: tokens as f64 / seconds,
        flops,
        flops_per_second: flops / seconds,
        tokens_per_second_ceiling: ceiling.map(|limits| tokens as f64 * limits.bf16_flops / flops),
        memory: bench.memory(model, 1, tokens + 1),
    })
}

/// Two operations for each weight and token, and for each pair of positions that attend.
fn flops(bench: &Bench, tokens: f64) -> f64 {
    let a = &bench.architecture;
    let heads = (a.num_attention_heads * a.head_dim) as f64;
    let kv_heads = (a.num_key_value_heads * a.head_dim) as f64;
    let (d, f) = (a.hidden_size as f64, a.intermediate_size as f64);
    let layer = d * (2.0 * heads + 2.0 * kv_heads) + 3.0 * d * f;
    let pairs = tokens * (tokens + 1.0) / 2.0;
    let layers = a.num_hidden_layers as f64;
    2.0 * layers * (layer * tokens + 2.0 * heads * pairs) + 2.0 * d * a.vocab_size as f64
}

fn text(answer: &Answer<'_>) -> String {
    let heading =
        ["weights", "tokens", "tokens/s", "ms", "TFLOP/s", "ceiling", "share", "weights take"];
    let mut table = Table::new(heading);
    for result in &answer.results {
        let ceiling = result.tokens_per_second_ceiling;
        table.row([
            name(result.weights).to_owned(),
            result.prompt_tokens.to_string(),
            format!("{:.1}", result.tokens_per_second),
            format!("{:.1}", 1e3 * result.seconds),
            format!("{:.3}", result.flops_per_second / 1e12),
            ceiling.map_or_else(|| "-".to_owned(), |ceiling| format!("{ceiling:.0}")),
            share(result.tokens_per_second, ceiling),
            format_bytes(result.memory.weights_bytes),
        ]);
    }
    format!(
        "{}; {} tokens at a time, {} prompts\n{}",
        answer.subject,
        answer.chunk_tokens,
        answer.repeats,
        table.render()
    )
}

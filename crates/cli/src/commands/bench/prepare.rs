//! `terrace bench prepare`: how fast text becomes an edition, step by step, on one core.

mod steps;
mod texts;

use std::time::Instant;

use serde::Serialize;
use terrace_prepare::chain::contamination::NgramIndex;
use terrace_tokenizer::Tokenizer;

use self::steps::{STEPS, Steps};
use super::{median, resident_bytes};
use crate::args::BenchPrepareArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

#[derive(Serialize)]
struct Answer {
    documents: usize,
    text_bytes: u64,
    tokens: u64,
    /// Items that documents were searched for; none means that they were not searched.
    items: u32,
    repeats: u16,
    /// Of all steps one after the other.
    seconds: f64,
    megabytes_per_second: f64,
    steps: Vec<Step>,
    /// The chain as prepare runs it, from lines to tokens; by threads, and by whether items are looked for.
    chain: Vec<ChainSpeed>,
    peak_memory_bytes: Option<u64>,
}

/// One step, on one thread.
#[derive(Serialize)]
struct Step {
    name: &'static str,
    /// The median.
    seconds: f64,
    /// Of the sum over the steps.
    share: f64,
    /// Of text.
    megabytes_per_second: f64,
}

#[derive(Serialize)]
struct ChainSpeed {
    threads: usize,
    searches: bool,
    /// The median.
    seconds: f64,
    megabytes_per_second_per_thread: f64,
}

/// Measures the steps, and the chain with and without a search for items.
pub(crate) fn run(args: &BenchPrepareArgs, context: &Context) -> Result<ExitCode, CliError> {
    let tokenizer = Tokenizer::load(&args.tokenizer)
        .map_err(|error| CliError::input(error).at(&args.tokenizer))?;
    let texts = texts::read(args)?;
    let text_bytes: u64 = texts.iter().map(|text| text.len() as u64).sum();
    let batches = texts::batches(&texts);
    let index = (args.items > 0).then(|| texts::index(&texts, args.items));
    let steps = Steps { batches: &batches, tokenizer: &tokenizer, index: index.as_ref() };
    context.note(&format!("{} documents, {} bytes", texts.len(), grouped(text_bytes)));

    let mut times = vec![Vec::new(); STEPS.len()];
    let mut tokens = 0;
    for repeat in 0..=args.repeats {
        let lap = steps.run_once()?;
        tokens = lap.tokens;
        // The first pays for memory and for the tokenizer's cache.
        if repeat > 0 {
            times.iter_mut().zip(lap.seconds).for_each(|(all, one)| all.push(one));
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let seconds: f64 = medians.iter().sum();
    let speed = |seconds: f64| text_bytes as f64 / 1e6 / seconds;
    let named = STEPS.iter().zip(medians).filter(|(_, seconds)| *seconds > 0.0);
    let answer = Answer {
        documents: texts.len(),
        text_bytes,
        tokens,
        items: args.items,
        repeats: args.repeats,
        seconds,
        megabytes_per_second: speed(seconds),
        steps: named
            .map(|(&name, own)| Step {
                name,
                seconds: own,
                share: own / seconds,
                megabytes_per_second: speed(own),
            })
            .collect(),
        chain: chains(args, &steps, text_bytes, context)?,
        peak_memory_bytes: resident_bytes("VmHWM:"),
    };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

/// The chain with and without a search in turn, so that both meet the same machine.
fn chains(
    args: &BenchPrepareArgs,
    steps: &Steps<'_>,
    text_bytes: u64,
    context: &Context,
) -> Result<Vec<ChainSpeed>, CliError> {
    let searches: Vec<Option<&NgramIndex>> =
        if steps.index.is_some() { vec![None, steps.index] } else { vec![None] };
    let mut counts = vec![1, rayon::current_num_threads()];
    counts.dedup();
    let mut speeds = Vec::new();
    for threads in counts {
        context.note(&format!("the chain, {threads} threads"));
        let mut times = vec![Vec::new(); searches.len()];
        for _ in 0..args.repeats {
            for (times, index) in times.iter_mut().zip(&searches) {
                let begin = Instant::now();
                steps.chain(*index, threads)?;
                times.push(begin.elapsed().as_secs_f64());
            }
        }
        speeds.extend(times.into_iter().zip(&searches).map(|(times, index)| {
            let seconds = median(times);
            ChainSpeed {
                threads,
                searches: index.is_some(),
                seconds,
                // Each thread takes a part of the text.
                megabytes_per_second_per_thread: text_bytes as f64 / 1e6 / seconds / threads as f64,
            }
        }));
    }
    Ok(speeds)
}

fn text(answer: &Answer) -> String {
    let mut steps = Table::new(["step", "ms", "share", "MB/s"]);
    for step in &answer.steps {
        steps.row([
            step.name.to_owned(),
            format!("{:.1}", step.seconds * 1e3),
            format!("{:.1}%", step.share * 100.0),
            format!("{:.1}", step.megabytes_per_second),
        ]);
    }
    let mut chain = Table::new(["chain", "threads", "ms", "MB/s per thread"]);
    for speed in &answer.chain {
        chain.row([
            (if speed.searches { "searches for items" } else { "does not search" }).to_owned(),
            speed.threads.to_string(),
            format!("{:.1}", speed.seconds * 1e3),
            format!("{:.1}", speed.megabytes_per_second_per_thread),
        ]);
    }
    format!(
        "{} documents, {} bytes, {} tokens; all steps on one core: {:.1} MB/s\n{}\n{}",
        grouped(answer.documents as u64),
        grouped(answer.text_bytes),
        grouped(answer.tokens),
        answer.megabytes_per_second,
        steps.render(),
        chain.render(),
    )
}

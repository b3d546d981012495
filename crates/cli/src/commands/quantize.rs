//! `terrace quantize`: a model of eight-bit weights, and what that costs.

mod certify;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use terrace_base::format_bytes;
use terrace_model::hf::Quantization;
use terrace_quantize::{Quantizing, Written};

use crate::args::QuantizeArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::{Progress, Unit};
use crate::table::grouped;

#[derive(Serialize)]
struct Answer {
    output: PathBuf,
    #[serde(flatten)]
    written: Written,
    lm_head: bool,
    seconds: f64,
}

/// Writes the rounded model, or compares it with the one that it was made from.
pub(crate) fn run(args: &QuantizeArgs, context: &Context) -> Result<ExitCode, CliError> {
    match (&args.output, &args.quantized) {
        (Some(output), _) => write(args, output, context),
        (None, Some(quantized)) => certify::run(args, quantized, context),
        (None, None) => Err(CliError::input("nothing to do").with_help("add --output DIR")),
    }
}

fn write(args: &QuantizeArgs, output: &Path, context: &Context) -> Result<ExitCode, CliError> {
    let started = Instant::now();
    let scheme = Quantization { lm_head: args.lm_head };
    let planned = Quantizing::plan(&args.model, output, scheme)?;
    let total = planned.sizes().bytes_before;
    let progress = Progress::start(context, "rounding", Unit::Bytes, Some(total));
    let written = planned.write(args.shard_size.0, |done| progress.update(done, String::new))?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    let answer = Answer { output: output.to_owned(), written, lm_head: args.lm_head, seconds };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn text(answer: &Answer) -> String {
    let Written { bytes_before, bytes_after, integers, kept } = answer.written;
    format!(
        "{}: {} became {} ({:.1}%) in {:.1} s\n{} weights are integers of eight bits, {} are as \
         they were",
        answer.output.display(),
        format_bytes(bytes_before),
        format_bytes(bytes_after),
        100.0 * bytes_after as f64 / bytes_before as f64,
        answer.seconds,
        grouped(integers),
        grouped(kept),
    )
}
